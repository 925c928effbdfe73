"""Packed files from outside: every verb takes one like the file that was packed, with the same bytes of logits on every
level, and undo gives that file back.

    test_pack.py CADRE
"""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

CADRE = ""
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
MODEL = os.path.join(ROOT, "models", "cadre-default.gguf")
# Rows of 256 and 512 numbers, which K-quants need; trained for one step.
WIDE = """[model]
name = wide
family = qwen2moe
layers = 2
width = 256
heads = 4
context = 64
experts = 6
experts_used = 2
expert_ff = 512
shared_ff = 256
shared_gated = true
qkv_bias = true
[tokenizer]
vocab = 384
pre = gpt-2
[data]
text = 1
[train]
tokens = 64
sequence = 32
batch_tokens = 64
micro_tokens = 64
lr = 1e-3
"""


def run(*args, fails=False, **more):
    p = subprocess.run([CADRE, *args], capture_output=True, text=True, errors="replace", **more)
    if (p.returncode != 0) != fails:
        raise AssertionError(f"{args}: {p.returncode}: {p.stderr}")
    return p.stderr if fails else p.stdout


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


class Pack(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def logits(self, model, *args):
        out = self.path("l.safetensors")
        run("run", model, "-p", "Once upon a time there", "-n", "2", "-q", "--logits", out, *args)
        return digest(out)

    def pack(self, model, name):
        out = self.path(name)
        run("pack", model, "-o", out, "-q")
        return out

    def wide(self):
        with open(self.path("wide.ini"), "w", encoding="utf-8") as f:
            f.write(WIDE)
        text = self.path("text.txt")
        shutil.copy(os.path.join(ROOT, "docs", "TOUR.md"), text)
        run("train", "--config", self.path("wide.ini"), "--data", text, "--out", self.path("wide.gguf"), "-q")
        return self.path("wide.gguf")

    def test_logits_are_the_same_bytes(self):
        wide = self.wide()
        for kind in ("f32", "bf16", "q8_0", "q4_0", "q4_k", "q6_k", "mxfp4"):
            plain = self.path(kind + ".gguf")
            run("quantize", wide, "--type", kind, "-o", plain, "-q")
            packed = self.pack(plain, kind + "-packed.gguf")
            for act in ("f32", "auto", "int8"):
                expected = self.logits(plain, "--act", act)
                self.assertEqual(self.logits(packed, "--act", act), expected, (kind, act))
                if kind in ("f32", "q8_0", "q4_k"):
                    for isa in ("generic", "avx2"):
                        self.assertEqual(self.logits(packed, "--act", act, "--isa", isa),
                                         self.logits(plain, "--act", act, "--isa", isa), (kind, act, isa))
            back = self.path("back.gguf")
            run("pack", "--undo", packed, "-o", back, "-q")
            self.assertEqual(digest(back), digest(plain), kind)
            for name in (plain, packed, back):
                os.unlink(name)

    def test_other_verbs_take_it(self):
        packed = self.pack(MODEL, "p.gguf")
        a, b = (json.loads(run("inspect", m, "--json", "--tensors")) for m in (MODEL, packed))
        self.assertEqual((a.pop("layout"), b.pop("layout")), ("rows", "packed"))
        self.assertEqual(a, b)
        self.assertIn("layout        packed", run("inspect", packed))
        for verb in (("quantize", "--type", "q4_0"), ("convert",)):
            for model, name in ((MODEL, "a.gguf"), (packed, "b.gguf")):
                run(verb[0], model, *verb[1:], "-o", self.path(name), "-q")
            self.assertEqual(digest(self.path("a.gguf")), digest(self.path("b.gguf")), verb)
        ids = [json.loads(run("tokenize", m, "-p", "Hello", "--json"))["ids"] for m in (MODEL, packed)]
        self.assertEqual(*ids)

    def test_memory_is_counted(self):
        packed = self.pack(MODEL, "p.gguf")
        self.assertIn("memory budget", run("run", packed, "-p", "a", "-n", "1", "--mem", "20M", fails=True))
        out = json.loads(run("run", packed, "-p", "a", "-n", "1", "--mem", "400M", "--json"))
        size = os.path.getsize(packed)
        self.assertLess(out["peak_rss_bytes"], size + (300 << 20))

    def test_report(self):
        out = json.loads(run("pack", MODEL, "-o", self.path("p.gguf"), "--json"))
        self.assertEqual((out["layout"], out["out"]), ("packed", self.path("p.gguf")))
        self.assertTrue(0 < out["packed"] < out["tensors"])
        out = json.loads(run("pack", "--undo", self.path("p.gguf"), "-o", self.path("u.gguf"), "--json"))
        self.assertEqual(out["layout"], "rows")

    def test_what_cannot_be_packed(self):
        packed = self.pack(MODEL, "p.gguf")
        self.assertIn("not packed yet", run("pack", packed, "-o", self.path("q.gguf"), fails=True))
        self.assertIn("expected a packed file", run("pack", "--undo", MODEL, "-o", self.path("q.gguf"), fails=True))
        run("convert", MODEL, "-o", self.path("hf"), "-q")
        self.assertIn("cadre convert", run("pack", self.path("hf"), "-o", self.path("q.gguf"), fails=True))
        self.assertFalse(os.path.exists(self.path("q.gguf")))

    def test_truncated(self):
        packed = self.pack(MODEL, "p.gguf")
        os.truncate(packed, os.path.getsize(packed) - 4096)
        self.assertIn("cut short", run("run", packed, "-p", "a", "-n", "1", fails=True))

    def test_full_disk_and_interrupt_leave_nothing(self):
        def small():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

        self.assertIn("p.gguf.tmp", run("pack", MODEL, "-o", self.path("p.gguf"), fails=True, preexec_fn=small))
        self.assertEqual(os.listdir(self.folder.name), [])


if __name__ == "__main__":
    CADRE = sys.argv.pop(1)
    unittest.main()
