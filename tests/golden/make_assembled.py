#!/usr/bin/python3
"""Writes assembled.safetensors: small matrices in the formats of safetensors checkpoints (FP8 with scales, GPTQ, AWQ,
gpt-oss's MXFP4) and the numbers they stand for, decoded here in float64 from the formats' published definitions and
rounded to float32 once. tests/tensor/test_assemble.c holds assemble.h to them.

Of case C: C.facts i32 (what the test passes on), C.<part> (the checkpoint's tensors), C.values f32 [n, k].

Usage: make_assembled.py [FOLDER]        (default: this file's folder)
"""
import json
import os
import struct
import sys

import numpy as np

rng = np.random.default_rng(7)
tensors = {}
NAMES = {"int32": "I32", "uint8": "U8", "float16": "F16", "float32": "F32"}


def put(case, **parts):
    for name, x in parts.items():
        tensors[f"{case}.{name}"] = np.ascontiguousarray(x)


def float8(code, exponent_bits, fraction_bits, infinities):
    """IEEE-like floats of one byte (OCP 8-bit Floating Point Specification 1.0, table 1)."""
    bias = 2 ** (exponent_bits - 1) - 1
    out = np.empty(code.shape)
    for i, c in np.ndenumerate(code):
        sign = -1.0 if c >> 7 else 1.0
        e = int(c) >> fraction_bits & (2 ** exponent_bits - 1)
        f = int(c) & (2 ** fraction_bits - 1)
        top = 2 ** exponent_bits - 1
        if infinities and e == top:
            v = np.inf if f == 0 else np.nan
        elif not infinities and e == top and f == 2 ** fraction_bits - 1:
            v = np.nan
        elif e == 0:
            v = f * 2.0 ** (1 - bias - fraction_bits)
        else:
            v = (1 + f / 2 ** fraction_bits) * 2.0 ** (e - bias)
        out[i] = sign * v
    return out


E4M3 = float8(np.arange(256, dtype=np.uint8), 4, 3, False)
E5M2 = float8(np.arange(256, dtype=np.uint8), 5, 2, True)


def fp8(case, n, k, table, scale_n, scale_k):
    code = rng.integers(0, 256, (n, k), dtype=np.uint8)
    code[np.isnan(table[code]) | np.isinf(table[code])] = 1
    values = table[code]
    put(case, facts=np.array([n, k, scale_n, scale_k, table is E5M2], np.int32), weight=code)
    if scale_n:
        scale = rng.normal(0, 1e-3, (-(-n // scale_n), -(-k // scale_k))).astype(np.float32)
        put(case, scale=scale)
        rows, cols = np.arange(n)[:, None] // scale_n, np.arange(k)[None] // scale_k
        values = values * scale.astype(np.float64)[rows, cols]
    put(case, values=values.astype(np.float32))


def pack(q, order):
    """Eight numbers of the last axis an int32, number order[i] in bits 4 i."""
    q = q.reshape(*q.shape[:-1], -1, 8).astype(np.uint32)
    word = np.zeros(q.shape[:-1], np.uint32)
    for i in range(8):
        word |= q[..., order[i]] << np.uint32(4 * i)
    return word.view(np.int32)


def int4(case, n, k, group, kind, g_idx=None):
    """kind 0 GPTQ (zeros stored one less, modulo 16), 1 GPTQ v2, 2 AWQ."""
    size = k if group == -1 else group
    groups = -(-k // size)
    q = rng.integers(0, 16, (k, n))
    zero = rng.integers(0, 16, (groups, n))
    scale = rng.normal(0, 1e-2, (groups, n)).astype(np.float16)
    of = np.arange(k) // size if g_idx is None else g_idx
    values = ((q - zero[of]) * scale.astype(np.float64)[of]).T
    straight, awq = range(8), (0, 2, 4, 6, 1, 3, 5, 7)
    if kind == 2:
        put(case, qweight=pack(q, awq), qzeros=pack(zero, awq))
    else:
        put(case, qweight=pack(q.T, straight).T, qzeros=pack((zero - 1) % 16 if kind == 0 else zero, straight))
    if g_idx is not None:
        put(case, g_idx=np.asarray(g_idx, np.int32))
    put(case, facts=np.array([n, k, group, kind], np.int32), scales=scale, values=values.astype(np.float32))


def mxfp4(case, n, k, rows, first, step):
    """Elements E2M1, scales E8M0 (OCP Microscaling Formats 1.0); zero has no sign, as other readers of GGUF have it."""
    table = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
    table = np.concatenate([table, 0 - table])
    code = rng.integers(0, 16, (rows, k // 32, 32))
    scale = rng.integers(100, 150, (rows, k // 32), dtype=np.uint8)
    values = (table[code] * 2.0 ** (scale.astype(np.float64) - 127)[..., None]).reshape(rows, k)
    blocks = (code[..., 0::2] | code[..., 1::2] << 4).astype(np.uint8)
    put(case, facts=np.array([n, k, rows, first, step], np.int32), blocks=blocks, scales=scale,
        values=values[first::step][:n].astype(np.float32))


def main(folder):
    fp8("fp8.grid", 130, 128, E4M3, 128, 128)
    fp8("fp8.small", 20, 64, E4M3, 128, 128)
    fp8("fp8.ragged", 20, 168, E4M3, 128, 128)
    fp8("fp8.rows", 5, 384, E4M3, 1, 128)
    fp8("fp8.one", 9, 96, E4M3, 9, 96)
    fp8("fp8.fine", 9, 64, E4M3, 1, 16)
    fp8("fp8.bare", 9, 37, E4M3, 0, 0)
    fp8("fp8.e5m2", 9, 64, E5M2, 9, 64)
    fp8("fp8.e5m2bare", 9, 37, E5M2, 0, 0)
    int4("int4.gptq", 24, 96, 32, 0)
    int4("int4.gptq128", 16, 256, 128, 0)
    int4("int4.whole", 16, 128, -1, 0)
    int4("int4.v2", 16, 64, 64, 1)
    int4("int4.ordered", 16, 96, 32, 0, np.arange(96) // 32)
    int4("int4.shuffled", 16, 96, 32, 0, rng.permutation(np.arange(96) // 32))
    int4("int4.group16", 16, 64, 16, 1)
    int4("int4.cut", 16, 96, 64, 1)
    int4("int4.awq", 24, 96, 32, 2)
    int4("int4.awq128", 16, 256, 128, 2)
    mxfp4("mxfp4.plain", 5, 96, 5, 0, 1)
    mxfp4("mxfp4.gate", 4, 64, 8, 0, 2)
    mxfp4("mxfp4.up", 4, 64, 8, 1, 2)

    header, data = {}, b""
    for name, x in tensors.items():
        header[name] = {"dtype": NAMES[x.dtype.name], "shape": list(x.shape),
                        "data_offsets": [len(data), len(data) + x.nbytes]}
        data += x.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "assembled.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
