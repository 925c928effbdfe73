#!/usr/bin/env python3
"""GGUF files in the shapes of published models, with random weights: what speed is measured on where no weights are.

    bench/shapes.py SHAPE [--type q4_0] [--layers N] [--vocab N] [--seed N] -o FILE
    bench/shapes.py --list

Every tensor has the sizes, and with --type q4_k, q6_k or mxfp4 the mix of number formats, of files of that model. Blocks
are random bits with a scale that keeps products the size of their input, so all values are finite, every decoder has its
full work, and the random gates spread the tokens over the experts. The file is written in one pass, a few MiB at a time.
--layers cuts the model to its first layers (a single one has experts), --vocab its vocabulary. Keys and tensors of each
architecture are those of tests/peer/peer_shapes.py, which are compared with another engine.
"""

import argparse
import functools
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "peer"))

from peer_shapes import ARCHITECTURES, DEFAULTS, LITE, Hyper  # noqa: E402
from tiny_gguf import KINDS, Model, Streamed, write_gguf  # noqa: E402

PIECE = 8 << 20  # bytes made at a time
CONTEXT = 40960

# Sizes as the models' configurations publish them; scaling of rope is left out, which costs no time.
OLMOE = {"d": 2048, "layers": 16, "heads": 16, "kv_heads": 16, "head": 128, "ff": 1024, "expert_ff": 1024, "experts": 64,
         "used": 8, "vocab": 50304}
SHAPES = {
    "olmoe": ("olmoe", OLMOE),
    "olmoe-as-qwen3moe": ("qwen3moe", OLMOE),  # the same work, but norms by head: for engines that do not know olmoe
    "deepseek-v2-lite": ("deepseek2", {**LITE, "d": 2048, "layers": 27, "heads": 16, "rank": 512, "nope": 128, "rope": 64,
                                       "v": 128, "ff": 10944, "experts": 64, "used": 6, "expert_ff": 1408, "vocab": 102400,
                                       "eps": 1e-6}),
    "mixtral-small": ("llama", {"d": 1024, "layers": 16, "heads": 16, "kv_heads": 4, "head": 64, "ff": 3584, "used": 2,
                                "vocab": 32000, "base": 1e6}),
    "qwen3-30b-a3b": ("qwen3moe", {"d": 2048, "layers": 48, "heads": 32, "kv_heads": 4, "head": 128, "ff": 6144,
                                   "experts": 128, "used": 8, "expert_ff": 768, "vocab": 151936, "eps": 1e-6, "base": 1e6}),
    "gpt-oss-20b": ("gpt-oss", {"d": 2880, "layers": 24, "heads": 64, "kv_heads": 8, "head": 64, "ff": 2880, "experts": 32,
                                "used": 4, "expert_ff": 2880, "window": 128, "vocab": 201088, "base": 150000.0}),
}


class Format(NamedTuple):
    """How random blocks of a format come to a wanted size."""

    block: int  # weights
    bytes: int
    rms: float  # of the weights when all bits are random and the scale is 1
    scale: int  # where its f16 is
    least: tuple = ()  # where the f16 of the minimum is, and what of the scale centres the weights


FORMATS = {
    "q4_0": Format(32, 18, 4.64, 0),
    "q4_1": Format(32, 20, 4.61, 0, (2, -7.5)),
    "q5_0": Format(32, 22, 9.25, 0),
    "q5_1": Format(32, 24, 9.23, 0, (2, -15.5)),
    "q8_0": Format(32, 34, 73.9, 0),
    "q2_k": Format(256, 84, 13.9, 80, (82, 1.5)),
    "q3_k": Format(256, 110, 43.3, 108),
    "q4_k": Format(256, 144, 258, 0, (2, 7.5)),
    "q5_k": Format(256, 176, 527, 0, (2, 15.5)),
    "q6_k": Format(256, 210, 1366, 208),
    "iq1_s": Format(256, 50, 7.2, 0),
    "iq2_xxs": Format(256, 66, 53.2, 0),
    "iq2_xs": Format(256, 74, 55.9, 0),
    "iq2_s": Format(256, 82, 56.5, 0),
    "iq3_xxs": Format(256, 98, 142.6, 0),
    "iq3_s": Format(256, 110, 140, 0),
    "iq4_nl": Format(32, 18, 67.4, 0),
    "iq4_xs": Format(256, 136, 1246, 0),
    "tq1_0": Format(256, 54, 0.817, 52),
    "tq2_0": Format(256, 66, 1.22, 64),
}
MXFP4_RMS = 2.93  # of e2m1; its scale is an exponent of 8 bits in front of 16 bytes
WHOLE_NUMBERS = ("f32", "f16", "bf16")
TYPES = [*FORMATS, "mxfp4", *WHOLE_NUMBERS]
# Where a row is not whole blocks of 256
SMALL_BLOCKS = {**{kind: "iq4_nl" for kind, form in FORMATS.items() if form.block == 256},
                "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0"}


def sizes(kind):
    """(weights, bytes) of a block"""
    if kind in WHOLE_NUMBERS:
        return 1, 4 if kind == "f32" else 2
    return (32, 17) if kind == "mxfp4" else FORMATS[kind][:2]


def numbers(rng, kind, n, size):
    values = rng.standard_normal(n, dtype=np.float32) * np.float32(size)
    if kind == "bf16":
        return (values.view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype("<f2" if kind == "f16" else "<f4").tobytes()


def blocks(rng, kind, n, size):
    """n blocks of weights whose root mean square is `size`"""
    if kind in WHOLE_NUMBERS:
        return numbers(rng, kind, n, size)
    length = n * sizes(kind)[1]
    raw = rng.integers(0, 1 << 64, (length + 7) // 8, dtype=np.uint64).view(np.uint8)[:length].reshape(n, -1)
    if kind == "mxfp4":
        raw[:, 0] = round(127 + math.log2(size / MXFP4_RMS))
        return raw.tobytes()
    form, scales = FORMATS[kind], rng.uniform(0.75, 1.25, n)
    if not form.least:  # integers of both signs reach one further below 0: outputs would share a sum, and gates choose alike
        scales *= rng.choice((-1, 1), n)
    scales = (size / form.rms * scales).astype("<f2")
    raw[:, form.scale:form.scale + 2] = scales.view(np.uint8).reshape(n, 2)
    if form.least:
        at, ratio = form.least
        raw[:, at:at + 2] = (scales * ratio).astype("<f2").view(np.uint8).reshape(n, 2)
    return raw.tobytes()


def stream(kind, shape, size, seed):
    per_block, length = sizes(kind)
    n, step = math.prod(shape) // per_block, max(1, PIECE // length)

    def pieces():
        rng = np.random.default_rng(seed)
        for at in range(0, n, step):
            yield blocks(rng, kind, min(step, n - at), size)

    return Streamed(KINDS[kind.upper()], shape, n * length, pieces)


def more_bits(layer, layers):
    """Layers that a Q4_K_M file keeps in q6_k: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def choose(asked, name, width, h):
    """The format of a matrix in a file whose type is `asked`, as that engine's own tool mixes them."""
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    kind = asked
    if "ffn_gate_inp" in name:
        return "f32"
    if asked == "mxfp4":
        kind = "mxfp4" if "_exps" in name else "q8_0"
    elif asked not in ("q8_0", *WHOLE_NUMBERS):
        if name == "output.weight":
            kind = "q6_k"
        elif h.experts == 8 and name.endswith((".attn_k.weight", ".attn_v.weight")):
            kind = "q8_0"
        elif asked == "q4_k" and h.experts == 8 and "attn_output" in name:
            kind = "q5_k"
        elif asked == "q4_k" and (".attn_v." in name or "ffn_down" in name) and more_bits(layer, h.layers):
            kind = "q6_k"
    if width % sizes(kind)[0]:
        kind = SMALL_BLOCKS.get(kind, "f16")
    return kind if width % sizes(kind)[0] == 0 else "f16"


class Shape(Model):
    """A model whose matrices are made when they are written."""

    def __init__(self, h, asked, architecture, seed):
        super().__init__(architecture, seed)
        self.h, self.asked, self.seed = h, asked, seed

    def matrix(self, name, *shape, gain=1.0):
        kind = choose(self.asked, name, shape[-1], self.h)
        self.tensors[name] = stream(kind, shape, gain / math.sqrt(shape[-1]), [self.seed, len(self.tensors)])


def make(shape, asked, layers=None, vocab=None, seed=1):
    """The model, not yet written"""
    architecture, own = SHAPES[shape]
    h = Hyper({**DEFAULTS, **own, "context": CONTEXT})
    if layers:
        h["layers"], h["dense"] = layers, min(h.dense, layers - 1)
    if vocab:
        h["vocab"] = vocab
    h["model"] = functools.partial(Shape, h, asked)
    return ARCHITECTURES[architecture][0](h, seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("shape", nargs="?", choices=SHAPES)
    parser.add_argument("--type", choices=TYPES, default="q4_0")
    parser.add_argument("--layers", type=int, help="cut to that many")
    parser.add_argument("--vocab", type=int, help="cut to that many, at least 272")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="shapes and their bytes in --type")
    parser.add_argument("-o", "--out", type=Path)
    options = parser.parse_args()
    if not options.list and not (options.shape and options.out):
        parser.error("SHAPE and -o FILE must be given, or --list")
    for shape in SHAPES if options.list else [options.shape]:
        for name, least in (("layers", 1), ("vocab", 272)):
            wanted, most = getattr(options, name), SHAPES[shape][1][name]
            if wanted is not None and not least <= wanted <= most:
                parser.error(f"--{name}: {shape} has {most}, which can be cut to {least} at least, found {wanted}")
        model = make(shape, options.type, options.layers, options.vocab, options.seed)
        total = sum(t.size if isinstance(t, Streamed) else 4 * t.size for t in model.tensors.values())
        print(f"{shape}: {options.type}, {model.h.layers} of {SHAPES[shape][1]['layers']} layers, {total / 1e9:.2f} GB",
              flush=True)
        if options.out and not options.list:
            write_gguf(options.out, model.keys, model.tensors)
    return 0


if __name__ == "__main__":
    sys.exit(main())
