#!/usr/bin/env python3
"""Does cadre compute what the classes of transformers with recurrent layers define?

    tests/peer/hf_hybrid.py CADRE [peer]

Writes tiny random Hugging Face directories (hf_hybrid_models.py) and compares logits in F32 with the float64 forward
pass beside them. Each converted to GGUF, and from there to a directory again, computes the same. With `peer`, llama.cpp
opens the GGUF files and computes the same, too. Exit status: 0, 1, or 77 (skipped) without NumPy or the peer.
"""

import json
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

try:
    import numpy as np
    from hf_hybrid_models import LINEAR, MODELS, forward, tensors
    from llama_peer import Peer, PeerMissing, load_library, read_safetensors
    from tiny_gguf import vocabulary
except ImportError as missing:
    print(f"skipped: {missing}")
    sys.exit(77)

CADRE, MAX_ABS, MIN_GAP = "", 2e-4, 2e-4
IDS = [int(x) for x in np.random.RandomState(7).randint(0, 256, 40)]
SEEDS = {"qwen3_next": 5, "qwen3_next-listed": 5, "qwen3_5_moe": 40, "qwen3_5_moe_text": 7}  # others have decisions that are too close
NOT_THE_PEERS = {"qwen3_next-listed", "qwen3_5_moe_text", "qwen3_5_text-fp8-cut"}  # v heads of another size than k heads


def save(folder, config, weights, bf16=False, fp8=None):
    header, data = {}, b""

    def add(name, kind, shape, raw):
        nonlocal data
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw

    for name, x in weights.items():
        if name in (fp8 or {}):
            codes, scale = fp8[name]
            add(name, "F8_E4M3", codes.shape, codes.tobytes())
            add(name + "_scale_inv", "F32", scale.shape, scale.tobytes())
        elif bf16:
            add(name, "BF16", x.shape, (x.view(np.uint32) >> 16).astype("<u2").tobytes())
        else:
            add(name, "F32", x.shape, x.tobytes())
    head = json.dumps(header).encode()
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    tokens = vocabulary(264)["tokenizer.ggml.tokens"]
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (folder / "tokenizer.json").write_text(json.dumps(
        {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": bytes_, "decoder": bytes_,
         "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(tokens)}, "merges": ["h e"]}}))


def run(*arguments):
    return subprocess.run([CADRE, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def cadre(*arguments):
    done = run(*arguments)
    if done.returncode:
        raise AssertionError(f"cadre {arguments[0]}: {done.stderr.strip()}")


def logits(model, out):
    cadre("run", model, "--ids", ",".join(map(str, IDS)), "-n", 1, "--temp", 0, "--ignore-eos", "--json", "--act", "f32",
          "--kv", "f32", "-q", "--logits", out)
    shape, values = read_safetensors(out)["logits"]
    return np.array(values, dtype=np.float32).reshape(shape)


class Directories(unittest.TestCase):
    def setUp(self):
        temp = tempfile.TemporaryDirectory()
        self.addCleanup(temp.cleanup)
        self.folder = Path(temp.name)

    def made(self):
        for name, (config, options) in MODELS.items():
            fp8 = {} if options.get("fp8") else None
            weights = tensors(config, SEEDS.get(name, 1), **{**options, "fp8": fp8})
            save(self.folder / name, config, weights, options.get("bf16"), fp8)
            yield name, config, weights, self.folder / name

    def test_definition(self):
        for name, config, weights, path in self.made():
            with self.subTest(name):
                want, gap = forward(config, weights, IDS)
                self.assertGreater(gap, MIN_GAP, "take another seed")
                worst = np.abs(logits(path, self.folder / "l") - want).max()
                print(f"{name}: largest difference {worst:.1e}")
                self.assertLess(worst, MAX_ABS)

    def test_conversion(self):
        for name, config, _, path in self.made():
            if config.get("quantization_config"):
                continue  # becomes bf16
            with self.subTest(name):
                file, back = self.folder / f"{name}.gguf", self.folder / f"{name}-back"
                cadre("convert", path, "-o", file, "-q")
                want = logits(path, self.folder / "l")
                self.assertTrue((logits(file, self.folder / "l") == want).all())
                cadre("convert", file, "-o", back, "-q")
                # log and exp of a decay, w - 1 + 1 of a norm round
                self.assertLess(np.abs(logits(back, self.folder / "l") - want).max(), MAX_ABS)

    def refused(self, name, change, text):
        config, options = MODELS[name]
        weights, config = tensors(config, 1, **options), dict(config)
        change(config, weights)
        path = self.folder / text.replace(" ", "-")
        save(path, config, weights, options.get("bf16"))
        done = run("inspect", path)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(text, done.stderr)

    def test_refusals(self):
        def config(**keys):
            return lambda c, _: c.update(keys)

        self.refused("qwen3_next", config(layer_types=[LINEAR] * 3), "array of 4 texts")
        self.refused("qwen3_next", config(layer_types=["mamba2"] * 4), "found 'mamba2'")
        self.refused("qwen3_next", config(mlp_only_layers=[1]), "mlp_only_layers")
        self.refused("qwen3_5_text", config(attn_output_gate=False), "attn_output_gate")
        self.refused("qwen3_5_text", config(linear_num_key_heads=3), "config's heads and sizes")
        self.refused("qwen3_5_text", config(rope_parameters=dict(mrope_section=[3, 1, 0])), "mrope_section")
        self.refused("qwen3_5_moe", config(text_config=7), "text_config")
        self.refused("lfm2_moe", config(routed_scaling_factor=2.5), "routed_scaling_factor")
        self.refused("lfm2", config(tie_embedding=False), "tie_embedding")
        self.refused("lfm2", lambda _, w: w.pop("model.layers.0.conv.conv.weight"), "model.layers.0.conv.conv.weight")


class WithPeer(Directories):
    def test_peer(self):
        for name, _, _, path in self.made():
            if name in NOT_THE_PEERS:
                continue
            with self.subTest(name):
                file = self.folder / f"{name}.gguf"
                cadre("convert", path, "-o", file, "-q", "--type", "f32")
                peer = Peer(file)
                try:
                    rows, _ = peer.run(IDS, 0)
                finally:
                    peer.close()
                self.assertLess(np.abs(logits(path, self.folder / "l") - np.array(rows)).max(), MAX_ABS)


if __name__ == "__main__":
    CADRE = sys.argv[1]
    case = WithPeer if sys.argv[2:] == ["peer"] else Directories
    try:
        if case is WithPeer:
            load_library()
    except PeerMissing as absent:
        print(f"skipped: {absent}")
        sys.exit(77)
    done = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
    sys.exit(not done.wasSuccessful())
