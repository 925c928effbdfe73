"""Tiny GGUF files with seeded random weights, for any architecture that peer_shapes.py describes.

The writer knows the container and nothing of models: keys with Python types (int: u32, float: f32, bool, str, lists of
them with i32 for u32) and tensors: F32, or bytes in a number format of GGUF.
"""

import struct
from typing import NamedTuple

import numpy as np

ALIGNMENT = 32
U32, I32, F32, BOOL, STRING, ARRAY = 4, 5, 6, 7, 8, 9


class Packed(NamedTuple):
    """A tensor in another format than F32: its number in GGUF, its sizes, rows last, its bytes."""

    kind: int
    shape: tuple
    raw: bytes


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


def write_gguf(path, keys, tensors):
    """keys: name -> value; tensors: name -> array or Packed, row-major (GGUF lists the sizes the other way round)"""
    out = [b"GGUF", struct.pack("<IQQ", 3, len(tensors), len(keys))]
    for name, value in keys.items():
        kind, raw = _value(value)
        out += [_string(name), struct.pack("<I", kind), raw]
    at, data = 0, []
    for name, array in tensors.items():
        if not isinstance(array, Packed):
            array = Packed(0, array.shape, np.ascontiguousarray(array, dtype="<f4").tobytes())
        kind, sizes, raw = array.kind, array.shape[::-1], array.raw
        out += [_string(name), struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, at)]
        raw += b"\0" * (-len(raw) % ALIGNMENT)
        data.append(raw)
        at += len(raw)
    head = b"".join(out)
    with open(path, "wb") as file:
        file.write(head + b"\0" * (-len(head) % ALIGNMENT) + b"".join(data))


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
