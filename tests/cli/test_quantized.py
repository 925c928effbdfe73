"""Quantized Hugging Face directories: each becomes, as f32, byte for byte the file that its weights give when they are
decoded here, in double precision, by the definitions of their formats.

    test_quantized.py CADRE
"""

import os
import random
import struct
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hf_dir

CADRE = ""


def f32(x):
    return struct.pack("<f", x)


def i32(words):
    return struct.pack(f"<{len(words)}I", *words)


def half(x):
    return struct.unpack("<e", struct.pack("<e", x))[0]


def e4m3(code):
    sign, exponent, mantissa = code >> 7, code >> 3 & 15, code & 7
    x = (8 + mantissa) / 8 * 2.0 ** (exponent - 7) if exponent else mantissa / 8 * 2.0**-6
    return -x if sign else x


def is_linear(name):
    return name.endswith("_proj.weight") or ".experts." in name


def fp8(shape, rng, grid):
    n, k = shape
    codes = [rng.choice([c for c in range(256) if c & 127 != 127]) for _ in range(n * k)]
    rows, cols = -(-n // grid[0]), -(-k // grid[1])
    scales = [struct.unpack("<f", f32(rng.uniform(0.5, 2) / 256))[0] for _ in range(rows * cols)]
    numbers = [e4m3(codes[i * k + j]) * scales[i // grid[0] * cols + j // grid[1]] for i in range(n) for j in range(k)]
    return numbers, {"weight": ("F8_E4M3", [n, k], bytes(codes)),
                     "weight_scale_inv": ("F32", [rows, cols], b"".join(map(f32, scales)))}


def int4(shape, rng, group, kind, act_order=False):
    """W [n, k] as the checkpoint means it: (q - zero) * scale, per column of the stored [k, n] and group of rows."""
    n, k = shape
    groups = -(-k // group)
    g_idx = [i // group for i in range(k)]
    if act_order:
        rng.shuffle(g_idx)
    q = [[rng.randrange(16) for _ in range(n)] for _ in range(k)]
    zero = [[rng.randrange(1, 16) for _ in range(n)] for _ in range(groups)]
    scale = [[half(rng.uniform(0.5, 2) / 16) for _ in range(n)] for _ in range(groups)]
    numbers = [(q[i][o] - zero[g_idx[i]][o]) * scale[g_idx[i]][o] for o in range(n) for i in range(k)]
    order = (0, 2, 4, 6, 1, 3, 5, 7) if kind == "awq" else range(8)

    def pack(eight):
        return sum(eight[place] << 4 * at for at, place in enumerate(order))

    def pack_columns(row):
        return [pack(row[c : c + 8]) for c in range(0, n, 8)]

    less = 1 if kind == "gptq" else 0  # the first version of GPTQ stores zero - 1
    zeros = i32([w for row in zero for w in pack_columns([z - less for z in row])])
    if kind == "awq":
        words, shape_q = [w for row in q for w in pack_columns(row)], [k, n // 8]
    else:
        words, shape_q = [pack([q[r + i][c] for i in range(8)]) for r in range(0, k, 8) for c in range(n)], [k // 8, n]
    parts = {"qweight": ("I32", shape_q, i32(words)), "qzeros": ("I32", [groups, n // 8], zeros),
             "scales": ("F16", [groups, n], b"".join(struct.pack("<e", s) for row in scale for s in row))}
    if kind != "awq":
        parts["g_idx"] = ("I32", [k], i32(g_idx))
    return numbers, parts


class Quantized(unittest.TestCase):
    def setUp(self):
        self.temp = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.temp.cleanup()

    def at(self, *parts):
        return os.path.join(self.temp.name, *parts)

    def convert(self, folder, out, kind="f32"):
        r = subprocess.run([CADRE, "convert", folder, "-o", out, "--type", kind], capture_output=True, timeout=60)
        self.assertEqual(r.returncode, 0, r.stderr)
        with open(out, "rb") as f:
            return f.read()

    def check(self, make, quantization, width, blocks=True):
        ff = width
        rng = random.Random(7)
        config, plain = hf_dir.mixtral(dtype="F32", layers=1, experts=2, width=width, ff=ff)
        stored = {}
        for name in list(plain):
            dtype, shape, _ = plain[name]
            if not is_linear(name):
                stored[name] = plain[name]
                continue
            numbers, parts = make(shape, rng)
            plain[name] = (dtype, shape, b"".join(map(f32, numbers)))
            stored.update({name[: -len("weight")] + end: part for end, part in parts.items()})
        hf_dir.save(self.at("a", "m"), config, plain)
        hf_dir.save(self.at("b", "m"), {**config, "quantization_config": quantization}, stored)
        want = self.convert(self.at("a", "m"), self.at("want.gguf"))
        self.assertEqual(self.convert(self.at("b", "m"), self.at("got.gguf")), want)

        def logits(model):
            r = subprocess.run([CADRE, "run", model, "--ids", "1,2,3,4,5", "-n", "1", "--json", "--act", "f32",
                                "--logits", self.at("l")], capture_output=True, timeout=60)
            self.assertEqual(r.returncode, 0, r.stderr)
            with open(self.at("l"), "rb") as f:
                raw = f.read()
            n = 5 * 48 * 4
            return struct.unpack(f"<{n // 4}f", raw[-n:])

        worst = max(abs(x - y) for x, y in zip(logits(self.at("b", "m")), logits(self.at("want.gguf"))))
        self.assertLess(worst, 1e-4)
        os.remove(self.at("got.gguf"))
        r = subprocess.run([CADRE, "convert", self.at("b", "m"), "-o", self.at("got.gguf")], capture_output=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        listed = subprocess.run([CADRE, "inspect", self.at("got.gguf"), "--tensors"], capture_output=True).stdout
        self.assertIn(b"bf16" if blocks else b"f32", listed)

    def test_fp8(self):
        for grid, width, blocks in (((16, 32), 64, True), ((128, 128), 128, True), ((5, 7), 32, False)):
            with self.subTest(grid=grid):
                self.setUp()
                self.check(lambda shape, rng, g=grid: fp8(shape, rng, g),
                           {"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": list(grid)}, width, blocks)

    def test_gptq(self):
        for group, width, act in ((32, 64, False), (128, 128, False), (32, 64, True), (16, 32, False)):
            blocks = group >= 32 and not act
            with self.subTest(group=group, act_order=act):
                self.setUp()
                self.check(lambda shape, rng, g=group, a=act: int4(shape, rng, g, "gptq", a),
                           {"quant_method": "gptq", "bits": 4, "group_size": group, "desc_act": act}, width, blocks)

    def test_gptq_v2(self):
        self.check(lambda shape, rng: int4(shape, rng, 32, "gptq_v2"),
                   {"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "gptq_v2"}, 64)

    def test_awq(self):
        self.check(lambda shape, rng: int4(shape, rng, 32, "awq"),
                   {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm", "zero_point": True}, 64)

    def test_what_is_refused(self):
        config, plain = hf_dir.mixtral(dtype="F32")
        for q, says in (({"quant_method": "gptq", "bits": 8}, "4 bits"), ({"quant_method": "exl2"}, "exl2"),
                        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "gemv"),
                        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "marlin"),
                        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, "weight_block_size"),
                        ({"quant_method": "gptq", "group_size": 0}, "group_size")):
            with self.subTest(q):
                self.setUp()
                hf_dir.save(self.at("m"), {**config, "quantization_config": q}, plain)
                r = subprocess.run([CADRE, "inspect", self.at("m")], capture_output=True)
                self.assertEqual(r.returncode, 1, r.stdout)
                self.assertIn(says.encode(), r.stderr)


if __name__ == "__main__":
    CADRE = os.path.abspath(sys.argv[1])
    unittest.main(argv=sys.argv[:1])
