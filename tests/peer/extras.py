#!/usr/bin/env python3
"""Do files keep the layers that predict further tokens when cadre writes them anew?

    tests/peer/extras.py CADRE [peer]

A tiny random model with such a layer, of several architectures, is quantized, split and joined: every tensor is there
again, the layer's matrices in the new format, keys still count it, the file opens, and in F32 nothing changes. With
`peer`, llama.cpp opens the file as well and computes the same. Exit status: 0, 1, or 77 (skipped) without NumPy or peer.
"""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
    import hybrid_models
    import peer_shapes
    from llama_peer import Peer, PeerMissing, read_safetensors
    from tiny_gguf import write_gguf
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

CADRE, IDS = "", [1, 50, 7, 200, 31, 9]


def cadre(*arguments):
    done = subprocess.run([CADRE, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise AssertionError(f"cadre {arguments[0]}: {done.stderr.strip()}")
    return done.stdout


def logits(model):
    """The bytes"""
    out = model.with_suffix(".logits")
    cadre("run", model, "--ids", ",".join(map(str, IDS)), "-n", 1, "--temp", 0, "--ignore-eos", "--json", "--act", "f32",
          "--kv", "f32", "-q", "--logits", out)
    return out.read_bytes()


def types(model):
    """tensor -> number format"""
    return {t["name"]: t["type"] for t in json.loads(cadre("inspect", model, "--tensors", "--json"))["tensors"]}


def glm4moe(path):
    peer_shapes.build("glm4moe", {"shared": 1, "dense": 1, "rot": 8, "normalize": False, "nextn": 1, "layers": 2, "head": 24,
                                  "d": 64, "vocab": 264}, 5)[0].write(path)


def qwen35moe(path):
    m = hybrid_models.MODELS["qwen35moe"]
    write_gguf(path, hybrid_models.keys(m), hybrid_models.tensors(m, m["seed"]))


class Extras(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def made(self):
        for make in (glm4moe, qwen35moe):
            path = self.folder / f"{make.__name__}.gguf"
            make(path)
            yield make.__name__, path, path.with_name("out.gguf")

    def test_quantize_f32(self):
        for name, path, out in self.made():
            with self.subTest(name):
                cadre("quantize", path, "--type", "f32", "-o", out)
                self.assertEqual(types(out), types(path))
                self.assertEqual(logits(out), logits(path))
                out.rename(again := out.with_name("again.gguf"))
                cadre("quantize", again, "--type", "f32", "-o", out)  # what was written can be written again
                self.assertEqual(out.read_bytes(), again.read_bytes())

    def test_formats(self):
        for name, path, out in self.made():
            with self.subTest(name):
                cadre("quantize", path, "--type", "q8_0", "--experts", "q4_0", "--tensor", "nextn.eh_proj=f16", "-o", out)
                found, last = types(out), max(int(n.split(".")[1]) for n in types(path) if n.startswith("blk."))
                extra = {n.split(".", 2)[2]: t for n, t in found.items() if n.startswith(f"blk.{last}.")}
                self.assertEqual(set(found), set(types(path)))
                self.assertEqual(extra["attn_k.weight"], "q8_0")
                self.assertEqual(extra["nextn.eh_proj.weight"], "f16")
                self.assertEqual(extra["ffn_up_exps.weight"], "q4_0")
                for kept in ("attn_norm.weight", "ffn_gate_inp.weight", "nextn.enorm.weight"):
                    self.assertEqual(extra[kept], "f32")
                logits(out)

    def test_split_and_join(self):
        for name, path, out in self.made():
            with self.subTest(name):
                cadre("convert", path, "-o", self.folder / "part.gguf", "--split", "100K")
                first = sorted(self.folder.glob("part-*.gguf"))[0]
                cadre("convert", first, "-o", out)
                self.assertEqual(types(out), types(path))
                self.assertEqual(logits(out), logits(path))
                for part in self.folder.glob("part-*.gguf"):
                    part.unlink()


    def test_directory(self):
        """A directory has no place for the layer; what remains computes the same."""
        for name, path, _ in self.made():
            with self.subTest(name):
                cadre("convert", path, "-o", folder := self.folder / name)
                config = json.loads((folder / "config.json").read_text())
                self.assertEqual(config["num_hidden_layers"], max(int(n.split(".")[1]) for n in types(path) if "blk." in n))
                both = []
                for model in (path, folder):
                    logits(model)
                    both.append(np.array(read_safetensors(model.with_suffix(".logits"))["logits"][1]))
                self.assertLess(np.abs(both[0] - both[1]).max(), 1e-5)  # decays and norms are rounded once more


class WithPeer(Extras):
    def test_peer(self):
        for name, path, out in self.made():
            with self.subTest(name):
                cadre("quantize", path, "--type", "f32", "-o", out)
                peer = Peer(out)
                try:
                    want = np.array(peer.run(IDS, 0)[0])
                finally:
                    peer.close()
                logits(out)
                shape, values = read_safetensors(out.with_suffix(".logits"))["logits"]
                self.assertLess(np.abs(np.array(values).reshape(shape) - want).max(), 2e-4)


if __name__ == "__main__":
    CADRE = sys.argv[1]
    case = WithPeer if sys.argv[2:] == ["peer"] else Extras
    if case is WithPeer:
        try:
            import llama_peer
            llama_peer.load_library()
        except PeerMissing as absent:
            print(f"skipped: {absent}")
            sys.exit(77)
    done = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    sys.exit(not done.wasSuccessful())
