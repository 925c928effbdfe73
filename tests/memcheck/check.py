#!/usr/bin/env python3
"""Every quick verb under valgrind's memcheck, on tiny models: no read of what was never written, none beyond what was
given out (arenas tell memcheck, base/arena.c), no leak.

usage: check.py CADRE MAKE_TINY
"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "cli"))
import hf_dir

SKIP, WRONG = 77, 99
TEXT = "The router sends each token to its experts, and the experts answer.\n"
TRAINING = """[model]
layers = 1
width = 32
heads = 2
context = 16
experts = 4
experts_used = 2
expert_ff = 16
[tokenizer]
vocab = 270
[train]
tokens = 64
sequence = 16
batch_tokens = 32
micro_tokens = 16
lr = 3e-3
file_type = f32
"""


class Memcheck(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="cadre-memcheck-")
        cls.tiny, cls.q8_0 = cls.path("tiny.gguf"), cls.path("q8_0.gguf")
        subprocess.run([MAKE_TINY, cls.tiny], check=True)
        subprocess.run([MAKE_TINY, cls.q8_0, "q8_0"], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.folder.name, name)

    def file(self, name, text):
        with open(self.path(name), "w") as f:
            f.write(text)
        return self.path(name)

    def clean(self, *args, status=0, stdin="", env=None):
        """Standard output of a command that ends as expected and of which memcheck says nothing."""
        p = subprocess.run(["valgrind", "--quiet", f"--error-exitcode={WRONG}", "--leak-check=full",
                            "--errors-for-leak-kinds=all", CADRE, *args], input=stdin, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True, errors="replace", timeout=120, env={**os.environ, **(env or {})})
        self.assertEqual((p.returncode, "==" in p.stderr), (status, False), (args, p.stderr))
        return p.stdout

    def test_the_level_below_avx512_is_chosen(self):
        """valgrind hides what it cannot run, and the processor is asked, not the build."""
        out = self.clean("doctor", "--json")
        self.assertNotIn("avx512", out)
        self.assertNotIn("amx", out)

    def test_run(self):
        self.clean("run", self.tiny, "-p", "The router", "-n", "8", "--temp", "1", "--top-p", "0.9", "-t", "2")
        self.clean("run", self.q8_0, "-p", "The router", "-n", "8", "--act", "auto", "--kv", "q8_0", "--json",
                   "--logits", self.path("logits"), "--routing", self.path("routing"))
        self.clean("run", self.tiny, "-p", "The", "-n", "8", env={"CADRE_ISA": "generic"})

    def test_chat(self):
        self.clean("chat", self.q8_0, "-n", "8", "--json", stdin="The router\nand again\n")

    def test_texts(self):
        self.clean("tokenize", self.tiny, "-p", "Wörter, слова, 言葉 \x01")
        self.clean("eval", self.tiny, "--text", self.file("text", 3 * TEXT), "--reference", self.q8_0)

    def test_files(self):
        q4_0, parts = self.path("q4_0.gguf"), self.path("parts")
        self.clean("inspect", self.tiny, "--tensors")
        self.clean("quantize", self.tiny, "--type", "q4_0", "-o", q4_0)
        self.clean("run", q4_0, "-p", "The", "-n", "8")
        folder, whole = self.path("hf"), self.path("hf.gguf")
        hf_dir.save(folder, *hf_dir.mixtral(), shards=2)
        self.clean("convert", folder, "-o", whole)
        self.clean("convert", whole, "-o", parts)
        self.clean("run", parts, "--ids", "1,2,3", "-n", "8")

    def test_train(self):
        config, data = self.file("train.ini", TRAINING), self.file("data", 40 * TEXT)
        self.clean("train", "--config", config, "--data", data, "--out", self.path("trained.gguf"), "--quiet")

    def test_failures(self):
        with open(self.tiny, "rb") as f:
            raw = f.read()
        for n in (100, len(raw) // 2):
            with open(self.path("cut.gguf"), "wb") as f:
                f.write(raw[:n])
            self.clean("run", self.path("cut.gguf"), "-p", "a", status=1)
        self.clean("run", self.tiny, "--walk", status=2)


if __name__ == "__main__":
    if not shutil.which("valgrind"):
        print("skipped: valgrind is not installed (tools/setup valgrind)")
        sys.exit(SKIP)
    CADRE, MAKE_TINY = (os.path.abspath(p) for p in sys.argv[1:3])
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
