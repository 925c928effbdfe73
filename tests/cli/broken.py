"""A corpus of broken model files: GGUF, safetensors, shard indices, config.json, tokenizer.json.

    broken.py SEED N OUT

Every file is a small good one with one fault that the format forbids, so that a reader that takes it is wrong. The same
seed gives the same files. good(folder) writes the good ones.
"""

import json
import os
import random
import struct
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import hf_dir

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
INDEX, CONFIG, SINGLE, TOKENIZER = "model.safetensors.index.json", "config.json", "model.safetensors", "tokenizer.json"


def read(*path):
    with open(os.path.join(*path), "rb") as f:
        return f.read()


# ---- good ones


def byte_alphabet():
    """The characters that stand for bytes in byte-level tokenizers."""
    plain = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    rest = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(rest)) for b in range(256)]


def tokenizer():
    letters = byte_alphabet()
    merges = [["t", "h"], ["th", "e"], ["Ġ", "the"]]
    vocab = {c: i for i, c in enumerate(letters)}
    for a, b in merges:
        vocab[a + b] = len(vocab)
    pattern = ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+"
               "|\\s+(?!\\S)|\\s+")
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    end = {"id": len(vocab), "content": "<|endoftext|>", "single_word": False, "lstrip": False, "rstrip": False,
           "normalized": False, "special": True}
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [end], "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]}, "post_processor": None,
            "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
            "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                      "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "vocab": vocab,
                      "merges": merges}}


def gguf_string(s):
    return struct.pack("<Q", len(s)) + s.encode()


def gguf(config, tensors):
    """The model as a GGUF file, and where things are in it: {"kv": [(length, type)], "info": [{…}], "end": …}."""
    n, f = config, []
    for key, value in (("context_length", n["max_position_embeddings"]), ("embedding_length", n["hidden_size"]),
                       ("block_count", n["num_hidden_layers"]), ("feed_forward_length", n["intermediate_size"]),
                       ("attention.head_count", 4), ("attention.head_count_kv", 2),
                       ("expert_count", n["num_local_experts"]), ("expert_used_count", 2)):
        f.append(("llama." + key, 4, struct.pack("<I", value)))
    f.append(("llama.attention.layer_norm_rms_epsilon", 6, struct.pack("<f", 1e-5)))
    f.append(("general.architecture", 8, gguf_string("llama")))
    at, head = {"kv": [], "info": []}, b"GGUF" + struct.pack("<IQQ", 3, 0, len(f))
    for key, kind, value in f:
        at["kv"].append((len(head), len(head) + 8 + len(key)))
        head += gguf_string(key) + struct.pack("<I", kind) + value
    infos, data = gguf_tensors(config, tensors), b""
    head = head[:8] + struct.pack("<Q", len(infos)) + head[16:]
    for name, shape, raw in infos:
        info = {"name": len(head), "n": len(name), "dims": len(head) + 8 + len(name)}
        info["type"] = info["dims"] + 4 + 8 * len(shape)
        info["offset"] = info["type"] + 4
        at["info"].append(info)
        head += gguf_string(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
        head += struct.pack("<IQ", 0, len(data))
        data += raw + b"\0" * (-len(raw) % 32)
        at["end"] = len(data) - (-len(raw) % 32)
    head += b"\0" * (-len(head) % 32)
    at["end"] += len(head)
    return head + data, at


def gguf_tensors(config, t):
    """[(name, dims, bytes)]: experts stacked. (Rows of q and k as they are: only that it opens counts.)"""
    def one(name, there):
        return name, t[there][1][::-1], t[there][2]

    out = [one("token_embd.weight", "model.embed_tokens.weight"), one("output_norm.weight", "model.norm.weight"),
           one("output.weight", "lm_head.weight")]
    for i in range(config["num_hidden_layers"]):
        b, l = f"blk.{i}.", f"model.layers.{i}."
        out += [one(b + "attn_norm.weight", l + "input_layernorm.weight"),
                one(b + "ffn_norm.weight", l + "post_attention_layernorm.weight"),
                one(b + "ffn_gate_inp.weight", l + "block_sparse_moe.gate.weight")]
        out += [one(f"{b}attn_{x}.weight", f"{l}self_attn.{y}_proj.weight")
                for x, y in (("q", "q"), ("k", "k"), ("v", "v"), ("output", "o"))]
        for ours, theirs in (("gate", "w1"), ("up", "w3"), ("down", "w2")):
            names = [f"{l}block_sparse_moe.experts.{e}.{theirs}.weight" for e in range(config["num_local_experts"])]
            shape = t[names[0]][1][::-1] + [len(names)]
            out.append((f"{b}ffn_{ours}_exps.weight", shape, b"".join(t[n][2] for n in names)))
    return out


# ---- faults: each takes bytes (or a dict) and a random generator and gives the broken thing


def put(data, at, fmt, value):
    raw = struct.pack(fmt, value)
    return data[:at] + raw + data[at + len(raw) :]


def break_gguf(data, at, r):
    info, kv = r.choice(at["info"]), r.choice(at["kv"])
    other = r.choice([i for i in at["info"] if i is not info])
    faults = [
        lambda: data[: r.randrange(at["end"])],
        lambda: put(data, r.randrange(4), "<B", r.choice([0, 1, 255])),
        lambda: put(data, 4, "<I", r.choice([0, 1, 4, 2**31, 0x03000000])),
        lambda: put(data, 8, "<Q", r.randrange(2**24, 2**64)),
        lambda: put(data, 16, "<Q", r.randrange(2**24, 2**64)),
        lambda: put(data, kv[0], "<Q", r.choice([0, r.randrange(2**20, 2**64)])),
        lambda: put(data, kv[1], "<I", r.randrange(13, 2**32)),
        lambda: put(data, info["name"], "<Q", r.choice([0, r.randrange(2**20, 2**64)])),
        lambda: put(data, info["dims"], "<I", r.choice([0, r.randrange(5, 2**32)])),
        lambda: put(data, info["dims"] + 4, "<Q", r.choice([0, r.randrange(2**20, 2**64)])),
        lambda: put(data, info["type"], "<I", r.randrange(1000, 2**32)),
        lambda: put(data, info["offset"], "<Q", struct.unpack_from("<Q", data, info["offset"])[0] + r.randrange(1, 32)),
        lambda: put(data, info["offset"], "<Q", r.randrange(at["end"], 2**64) // 32 * 32),
        lambda: put(data, info["offset"], "<Q", struct.unpack_from("<Q", data, other["offset"])[0]),  # overlap
        lambda: put(data, info["name"] + 8 + r.randrange(info["n"]), "<B", 0),
        lambda: put(data, info["name"] + 8, "<B", ord("X")),  # a tensor too many, another missing
        lambda: put(data, kv[0] + 8 + r.randrange(4), "<B", 0),
    ]
    return r.choice(faults)()


def safetensors_parts(data):
    (n,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + n]), data[8 + n :]


def safetensors_join(header, body):
    text = json.dumps(header).encode() if isinstance(header, dict) else header
    return struct.pack("<Q", len(text)) + text + body


def break_safetensors(data, r):
    header, body = safetensors_parts(data)
    text = data[8 : len(data) - len(body)]
    name = r.choice(list(header))
    t = header[name]
    begin, end = t["data_offsets"]

    def change(**new):
        return safetensors_join({**header, name: {**t, **new}}, body)

    def without(key):
        return safetensors_join({**header, name: {k: v for k, v in t.items() if k != key}}, body)

    faults = [
        lambda: data[: r.randrange(len(data))],
        lambda: data + bytes(r.randrange(1, 100)),
        lambda: put(data, 0, "<Q", r.randrange(len(data), 2**64)),
        lambda: put(data, 0, "<Q", r.randrange(len(text) - 16)),
        lambda: safetensors_join(text[: r.randrange(1, len(text.rstrip()))], body),
        lambda: safetensors_join(b"[" * r.randrange(100, 100000), body),
        lambda: safetensors_join(b'{"x":' * r.randrange(100, 10000), body),
        lambda: safetensors_join(b"\0" + text[1:], body),
        lambda: change(dtype=r.choice(["F128", "", "f32", 5, None, [], "X" * 1000])),
        lambda: change(shape=r.choice([[2**62, 2**62], [-1], [1.5], "4", None, [1] * 100, [[1]], {}])),
        lambda: change(shape=[d + 1 for d in t["shape"]]),
        lambda: change(data_offsets=r.choice([[end, begin], [begin], [-1, end], [begin, 2**63], None, "ab", [0, 0, 0]])),
        lambda: change(data_offsets=[begin + 1, end + 1]),
        lambda: change(data_offsets=[0, end - begin] if begin else [4, end + 4]),
        lambda: without(r.choice(["dtype", "shape", "data_offsets"])),
        lambda: safetensors_join({k: v for k, v in header.items() if k != name}, body),
        lambda: safetensors_join({**header, "__metadata__": r.choice([5, {"a": 1}, [], "x"])}, body),
        lambda: safetensors_join({**header, name: r.choice([None, 5, [], "x"])}, body),
        lambda: safetensors_join(text.rstrip()[:-1] + b"," + json.dumps({name: t}).encode()[1:], body),  # twice
    ]
    return r.choice(faults)()


def cut_json(text, r):
    """Less than a whole object: never JSON."""
    return text[: r.randrange(len(text.rstrip()))]


def break_index(text, r):
    index = json.loads(text)
    names = index["weight_map"]
    name = r.choice(list(names))
    other = [f for f in set(names.values()) if f != names[name]][0]

    def change(value):
        return json.dumps({**index, "weight_map": {**names, name: value}}).encode()

    faults = [
        lambda: cut_json(text, r),
        lambda: change(r.choice(["../" + other, "/etc/passwd", "", ".", "..", "a/b", "a\0b", "x" * 300, "nothing.safetensors"])),
        lambda: change(r.choice([None, 5, 1.5, True, [], {}])),
        lambda: change(other),
        lambda: json.dumps({**index, "weight_map": {k: v for k, v in names.items() if k != name}}).encode(),
        lambda: json.dumps({**index, "weight_map": {**names, "more." + str(r.random()): other}}).encode(),
        lambda: json.dumps({**index, "weight_map": r.choice([None, 5, [], "x", {}])}).encode(),
        lambda: b"[" * r.randrange(100, 200000),
        lambda: b"\xff" + text[1:],
        lambda: text.rstrip()[:-1] + b',"weight_map":{}}',
    ]
    return r.choice(faults)()


def break_config(text, r):
    config = json.loads(text)
    needed = ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
              "max_position_embeddings", "model_type"]
    numbers = needed[:-1] + ["num_key_value_heads", "num_local_experts", "num_experts_per_tok"]

    def change(key, value):
        return json.dumps({**config, key: value}).encode()

    def without(key):
        return json.dumps({k: v for k, v in config.items() if k != key}).encode()

    faults = [
        lambda: cut_json(text, r),
        lambda: without(r.choice(needed)),
        lambda: change(r.choice(numbers), r.choice(["x", [], {}, True, 1.5, -1, 2**31, 10**18, 1e308])),
        lambda: change("rms_norm_eps", r.choice(["x", [], -1, 0, 1e308])),
        lambda: change("rope_theta", r.choice(["x", [], -1, 0, 1e308])),
        lambda: change("rope_scaling", r.choice([5, [], "x", {"type": "yarn"}, {"type": "linear", "factor": "x"},
                                                 {"rope_type": "nothing"}, {"type": 5}])),
        lambda: change("model_type", r.choice(["nothing", 5, [], "x" * 10000])),
        lambda: change("quantization_config", r.choice([5, "x", [], {}, {"quant_method": 5}, {"quant_method": "nothing"}])),
        lambda: change("hidden_act", r.choice(["gelu", 5, [], True])),
        lambda: change("tie_word_embeddings", r.choice(["x", 5, []])),
        lambda: change("num_hidden_layers", config["num_hidden_layers"] + r.choice([-1, 1, 100])),
        lambda: change("num_local_experts", config["num_local_experts"] + r.choice([-1, 1, 100])),
        lambda: change("vocab_size", config["vocab_size"] + r.choice([-1, 1])),
        lambda: b"[" * r.randrange(100, 200000),
        lambda: b'{"a":' * r.randrange(100, 1000) + b"1" + b"}" * 100,
    ]
    return r.choice(faults)()


def break_tokenizer(text, r):
    t = json.loads(text)
    model = t["model"]

    def change(**new):
        return json.dumps({**t, "model": {**model, **new}}).encode()

    token = r.choice(list(model["vocab"]))
    faults = [
        lambda: cut_json(text, r),
        lambda: change(type=r.choice(["Nothing", 5, []])),
        lambda: change(vocab=r.choice([None, 5, "x", [], {}])),
        lambda: change(vocab={**model["vocab"], token: r.choice([-1, 2**31, 10**9, "x", None, 1.5, []])}),
        lambda: change(merges=r.choice([None, 5, "x", {}, [5], [["a"]], [["a", "b", "c"]], [["never", "there"]]])),
        lambda: json.dumps({**t, "model": r.choice([None, 5, [], "x"])}).encode(),
        lambda: json.dumps({**t, "added_tokens": r.choice([5, "x", [5], [{"id": "x", "content": "y"}], [{"id": 1}]])}).encode(),
        lambda: json.dumps({**t, "pre_tokenizer": r.choice([5, [], {"type": "Nothing"}, {"type": 5}])}).encode(),
        lambda: json.dumps({**t, "normalizer": r.choice([5, [], {"type": "Nothing"}, {"type": 5}])}).encode(),
        lambda: b"[" * r.randrange(100, 200000),
    ]
    return r.choice(faults)()


# ---- the corpus


class Corpus:
    def __init__(self, seed, out):
        self.r, self.out = random.Random(seed), out
        self.config, self.tensors = hf_dir.mixtral(dtype="F32", layers=1, experts=2, width=16, ff=8, vocab=272)
        os.makedirs(out, exist_ok=True)
        self.gguf, self.at = gguf(self.config, self.tensors)
        hf_dir.write(os.path.join(out, "good.gguf"), self.gguf)
        for name, shards in (("good", 1), ("good-shards", 2)):
            hf_dir.save(os.path.join(out, name), self.config, self.tensors, shards)
            hf_dir.write(os.path.join(out, name, TOKENIZER), json.dumps(tokenizer()).encode())

    def good(self):
        return [os.path.join(self.out, n) for n in ("good.gguf", "good", "good-shards")]

    def folder(self, i, good, file, data):
        """A folder like the good one, by hard links, with one file of its own."""
        path, source = os.path.join(self.out, f"{i:04d}"), os.path.join(self.out, good)
        os.makedirs(path)
        for name in os.listdir(source):
            if name != file:
                os.link(os.path.join(source, name), os.path.join(path, name))
        hf_dir.write(os.path.join(path, file), data)
        return path

    def make(self, i):
        """Broken model i; its path."""
        kind = i % 5
        if kind == 0:
            path = os.path.join(self.out, f"{i:04d}.gguf")
            hf_dir.write(path, break_gguf(self.gguf, self.at, self.r))
            return path
        good, file, fault = [("good", SINGLE, break_safetensors), ("good-shards", INDEX, break_index),
                             ("good", CONFIG, break_config), ("good", TOKENIZER, break_tokenizer)][kind - 1]
        return self.folder(i, good, file, fault(read(self.out, good, file), self.r))


if __name__ == "__main__":
    corpus = Corpus(int(sys.argv[1]), sys.argv[3])
    for number in range(int(sys.argv[2])):
        print(corpus.make(number))
