#!/usr/bin/env python3
"""Does cadre compute what an independent engine computes, for weights in every number format?

    tests/peer/formats.py CADRE [--all] [--format NAME …] [--model NAME …] [--seed N]

Tiny random models whose rows hold whole blocks go through ggml's own quantizer into each format of GGUF, with the
formats that its rules mix in (embedding and output in Q6_K, rows that no block divides in Q8_0 or F16). Then
  - cadre with f32 activations against llama.cpp on the same weights, expanded to F32 by ggml: logits within 2e-4;
  - cadre with --act auto against llama.cpp on the file itself, which rounds activations too: KL to the expanded weights
    in the median at most twice the peer's, in the mean (where single tokens may go to other experts) at most 2e-2, and
    the likeliest token the same in 85 of 100 places;
  - cadre convert, to several files and from them to one: the same file as without that detour.
Every format is tried in one model, the models in turn; with --all in every model.
Exit status: 0 agreement, 1 disagreement, 77 (skipped) when the peer or NumPy is not there.
"""

import argparse
import ctypes as c
import subprocess
import sys
import tempfile
from pathlib import Path

try:
    import numpy as np
except ImportError:
    print("skipped: this Python has no NumPy")
    sys.exit(77)

from families import ask_peer, tensors
from llama_peer import LIBRARIES, PeerMissing, load_library
from peer_shapes import LITE, V3, build
from tiny_gguf import KINDS, Packed, write_gguf

MAX_ABS, KL_FACTOR, KL_FLOOR, MEAN_KL, TOP1 = 2e-4, 2.0, 1e-6, 2e-2, 0.85
WIDE = {"d": 256, "head": 64, "ff": 512, "expert_ff": 256, "layers": 2, "prompt": 48}
MODELS = {
    "mixtral": ("llama", WIDE),
    "dense": ("llama", {**WIDE, "experts": 0}),
    "qwen3moe": ("qwen3moe", {**WIDE, "used": 3}),
    "gpt-oss": ("gpt-oss", {**WIDE, "window": 8}),
    "qwen2moe": ("qwen2moe", {**WIDE, "shared": 256}),
    "deepseek2": ("deepseek2", {**V3, **WIDE, "q_rank": 96, "rank": 64, "nope": 64, "rope": 32, "v": 64, "head": 96}),
    "legacy": ("deepseek2", {**LITE, **WIDE, "legacy": True, "rank": 256, "nope": 64, "rope": 32, "v": 64, "head": 96}),
}
F32, F16, BF16, Q8_0, Q6_K = (KINDS[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q6_K"))
FORMATS = {name: kind for name, kind in KINDS.items() if kind != F32}


class Traits(c.Structure):
    """The head of ggml_type_traits, as far as it is read here."""

    _fields_ = [("name", c.c_char_p), ("block", c.c_int64), ("interleave", c.c_int64), ("bytes", c.c_size_t),
                ("quantized", c.c_bool), ("to_float", c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int64))]


class Ggml:
    """ggml's quantizer."""

    def __init__(self):
        self.lib = c.CDLL(str(LIBRARIES / "libggml-base.so"))
        self.lib.ggml_get_type_traits.restype = c.POINTER(Traits)
        self.lib.ggml_quantize_chunk.restype = c.c_size_t
        self.lib.ggml_quantize_chunk.argtypes = [c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64, c.c_int64,
                                                 c.c_void_p]

    def traits(self, name, kind):
        traits = self.lib.ggml_get_type_traits(kind).contents
        if (traits.name or b"").decode().lower() != name.lower():
            raise PeerMissing(f"this ggml calls format {kind} {traits.name}, not {name}")
        return traits

    def pack(self, kind, values):
        """(the tensor in that format, what it holds)"""
        values = np.ascontiguousarray(values, dtype=np.float32)
        traits, rows = self.lib.ggml_get_type_traits(kind).contents, values.reshape(-1, values.shape[-1])
        raw = np.zeros(values.size // traits.block * traits.bytes, dtype=np.uint8)
        importance = np.ones(rows.shape[1], dtype=np.float32)
        done = self.lib.ggml_quantize_chunk(kind, rows.ctypes.data, raw.ctypes.data, 0, *rows.shape,
                                            importance.ctypes.data)
        assert done == raw.size, (kind, done, raw.size)
        out = np.empty_like(values)
        traits.to_float(raw.ctypes.data, out.ctypes.data, values.size)
        return Packed(kind, values.shape, raw.tobytes()), out


def choose(name, shape, kind, block):
    """The format of one tensor when a model is asked for in `kind`."""
    if len(shape) < 2 or not name.endswith(".weight") or "ffn_gate_inp" in name:
        return F32
    if kind not in (F16, BF16) and (name in ("token_embd.weight", "output.weight") or "attn_v." in name):
        return Q6_K if shape[-1] % 256 == 0 else Q8_0
    if shape[-1] % block == 0:
        return kind
    return Q8_0 if shape[-1] % 32 == 0 else F16


def write_both(ggml, model, name, kind, path, twin):
    block, packed, plain = ggml.traits(name, kind).block, {}, {}
    for tensor, values in model.tensors.items():
        packed[tensor], plain[tensor] = values, values
        own = choose(tensor, values.shape, kind, block)
        if own != F32:
            packed[tensor], plain[tensor] = ggml.pack(own, values)
    write_gguf(path, model.keys, packed)
    write_gguf(twin, model.keys, plain)


def run(command):
    p = subprocess.run([str(x) for x in command], capture_output=True, text=True, timeout=120)
    if p.returncode:
        raise ValueError((p.stderr.strip() or f"ended with {p.returncode}").splitlines()[-1])


def rows_of(cadre, model, ids, act, folder):
    run([cadre, "run", model, "--ids", ",".join(map(str, ids)), "--n", 0, "--logits", folder / "out.st", "--act", act,
         "-t", 1])
    return tensors(folder / "out.st")["logits"]


def log_softmax(x):
    x = x.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


def kl(p, q):
    """Of the distributions of each token"""
    p, q = log_softmax(p), log_softmax(q)
    return (np.exp(p) * (p - q)).sum(axis=1)


def check_convert(cadre, model, folder):
    """Several files and back, or None."""
    run([cadre, "convert", model, "--split", "200K", "-o", folder / "parts.gguf"])
    first = sorted(folder.glob("parts*-00001-of-*.gguf"))
    run([cadre, "convert", first[0] if first else folder / "parts.gguf", "-o", folder / "whole.gguf"])
    run([cadre, "convert", model, "-o", folder / "again.gguf"])
    if (folder / "whole.gguf").read_bytes() != (folder / "again.gguf").read_bytes():
        return "split and joined, it is another file"
    return None


def compare(cadre, ggml, name, model_name, seed, folder):
    family, overrides = MODELS[model_name]
    model, h = build(family, overrides, seed)
    path, twin = folder / "model.gguf", folder / "twin.gguf"
    write_both(ggml, model, name, FORMATS[name], path, twin)
    ids = [int(i) for i in np.random.default_rng(seed + 1000).integers(0, h.vocab - 1, h.prompt)]
    exact, _ = ask_peer(twin, ids, folder, 0)
    native, _ = ask_peer(path, ids, folder, 0)
    ours, auto = (rows_of(cadre, path, ids, act, folder) for act in ("f32", "auto"))
    worst, ours_kl, their_kl = float(np.abs(exact - ours).max()), kl(exact, auto), kl(exact, native)
    top1 = float((auto.argmax(axis=1) == native.argmax(axis=1)).mean())
    figures = (f"f32 activations {worst:.1e}; auto: KL mean {ours_kl.mean():.1e} (the peer's {their_kl.mean():.1e}), median "
               f"{np.median(ours_kl):.1e} (the peer's {np.median(their_kl):.1e}), top-1 {top1:.2f}")
    if not worst <= MAX_ABS:
        return f"logits differ: {figures}", figures
    bound = max(KL_FACTOR * float(np.median(their_kl)), KL_FLOOR)
    if not np.median(ours_kl) <= bound or not ours_kl.mean() <= MEAN_KL or top1 < TOP1:
        return f"rounded activations go too far: {figures}", figures
    return check_convert(cadre, path, folder), figures


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("cadre", type=Path)
    parser.add_argument("--all", action="store_true", help="every format in every model")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failed = 0
    try:
        load_library()
        ggml = Ggml()
        for i, name in enumerate(options.format):
            for model in options.model if options.all else options.model[i % len(options.model):][:1]:
                with tempfile.TemporaryDirectory(prefix="cadre-peer-") as folder:
                    try:
                        wrong, figures = compare(options.cadre, ggml, name, model, options.seed, Path(folder))
                    except ValueError as error:
                        wrong, figures = str(error), ""
                failed += bool(wrong)
                print(f"FAIL {name} {model}: {wrong}" if wrong else f"{name} {model}: {figures}", flush=True)
    except PeerMissing as error:
        print(f"skipped: {error}")
        return 77
    print("agreement" if not failed else f"{failed} disagreements")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
