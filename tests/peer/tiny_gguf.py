"""GGUF files with seeded random weights, for any architecture that peer_shapes.py describes.

The writer knows the container and nothing of models: keys with Python types (int: u32, float: f32, bool, str, lists of
them with i32 for u32) and tensors: F32, or bytes in a number format of GGUF, at hand or made while they are written.
"""

import struct
from typing import Callable, NamedTuple

import numpy as np

ALIGNMENT = 32
KINDS = {"F32": 0, "F16": 1, "BF16": 30, "Q4_0": 2, "Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "Q8_0": 8, "Q2_K": 10, "Q3_K": 11,
         "Q4_K": 12, "Q5_K": 13, "Q6_K": 14, "IQ2_XXS": 16, "IQ2_XS": 17, "IQ3_XXS": 18, "IQ1_S": 19, "IQ4_NL": 20,
         "IQ3_S": 21, "IQ2_S": 22, "IQ4_XS": 23, "IQ1_M": 29, "TQ1_0": 34, "TQ2_0": 35, "MXFP4": 39, "NVFP4": 40,
         "Q1_0": 41, "Q2_0": 42}  # number formats of tensors, by their numbers in the file
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


class Packed(NamedTuple):
    """A tensor in another format than F32: its number in GGUF, its sizes, rows last, its bytes."""

    kind: int
    shape: tuple
    raw: bytes


class Streamed(NamedTuple):
    """The same, of `size` bytes that come in pieces when it is written: pieces() gives them in order."""

    kind: int
    shape: tuple
    size: int
    pieces: Callable


def _string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value):
    """(type, bytes) of a key's value"""
    if isinstance(value, bool):
        return BOOL, struct.pack("<?", value)
    if isinstance(value, int):
        return U32, struct.pack("<I", value)
    if isinstance(value, float):
        return F32, struct.pack("<f", value)
    if isinstance(value, str):
        return STRING, _string(value)
    inner = [_value(v) for v in value]
    kind = I32 if inner[0][0] == U32 else inner[0][0]  # readers want token types signed
    return ARRAY, struct.pack("<IQ", kind, len(inner)) + b"".join(raw for _, raw in inner)


def _stream(tensor):
    if isinstance(tensor, Streamed):
        return tensor
    if isinstance(tensor, Packed):
        return Streamed(tensor.kind, tensor.shape, len(tensor.raw), lambda: [tensor.raw])
    return Streamed(KINDS["F32"], tensor.shape, 4 * tensor.size,
                    lambda: [np.ascontiguousarray(tensor, dtype="<f4").tobytes()])


def write_gguf(path, keys, tensors):
    """keys: name -> value; tensors: name -> array, Packed or Streamed, row-major (GGUF lists the sizes the other way round)"""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys))]
    for name, value in keys.items():
        kind, raw = _value(value)
        out += [_string(name), struct.pack("<I", kind), raw]
    at, streams = 0, [_stream(tensor) for tensor in tensors.values()]
    for name, (kind, shape, size, _) in zip(tensors, streams):
        out += [_string(name), struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, at)]
        at += size + -size % ALIGNMENT
    head = b"".join(out)
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % ALIGNMENT))
        for name, (_, _, size, pieces) in zip(tensors, streams):
            written = sum(file.write(piece) for piece in pieces())
            assert written == size, (name, written, size)
            file.write(b"\0" * (-size % ALIGNMENT))


def byte_alphabet():
    """The 256 printable characters that byte-level BPE writes bytes with, in byte order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    spare = iter(range(256, 512))
    return [chr(b if b in plain else next(spare)) for b in range(256)]


def vocabulary(size):
    """Keys of a byte-level vocabulary of `size` tokens: the bytes, one merge, and fillers that no text gives."""
    tokens = byte_alphabet() + ["he"]
    tokens += [f"<filler_{i}>" for i in range(size - len(tokens))]
    return {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.token_type": [1] * 257 + [4] * (size - 257), "tokenizer.ggml.merges": ["h e"],
            "tokenizer.ggml.eos_token_id": size - 1, "tokenizer.ggml.add_bos_token": False}


class Model:
    """Keys and tensors of one architecture, as they are made up."""

    def __init__(self, architecture, seed):
        self.architecture, self.rng = architecture, np.random.default_rng(seed)
        self.keys, self.tensors = {"general.architecture": architecture}, {}

    def key(self, **values):
        """One key each under the architecture's prefix; __ stands for a dot, None for no key."""
        for name, value in values.items():
            if value is not None:
                self.keys[f"{self.architecture}.{name.replace('__', '.')}"] = value

    def matrix(self, name, *shape, gain=1.0):
        """Rows of unit expected length: products keep the size of their input."""
        self.tensors[name] = self.rng.standard_normal(shape) * (gain / np.sqrt(shape[-1]))

    def vector(self, name, *shape, around=0.0, spread=0.2):
        self.tensors[name] = around + spread * self.rng.standard_normal(shape)

    def write(self, path):
        write_gguf(path, self.keys, self.tensors)
