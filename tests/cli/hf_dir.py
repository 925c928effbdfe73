"""Small Hugging Face directories made in plain Python: names and keys as transformers has them."""

import json
import os
import random
import struct


def bf16(x):
    bits = struct.unpack("<I", struct.pack("<f", x))[0]
    return struct.pack("<H", (bits + 0x7FFF + (bits >> 16 & 1)) >> 16)


ENCODE = {"BF16": bf16, "F32": lambda x: struct.pack("<f", x)}


def safetensors_bytes(tensors):
    """tensors: {name: (dtype, shape, data)}."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values())


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def save(folder, config, tensors, shards=1):
    """Tensors in so many shards with an index, or in one file."""
    os.makedirs(folder)
    write(os.path.join(folder, "config.json"), json.dumps(config, indent=1).encode())
    if shards == 1:
        write(os.path.join(folder, "model.safetensors"), safetensors_bytes(tensors))
        return
    names, where = list(tensors), {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        some = names[i * len(names) // shards : (i + 1) * len(names) // shards]
        write(os.path.join(folder, file), safetensors_bytes({n: tensors[n] for n in some}))
        where.update({n: file for n in some})
    index = {"metadata": {"total_size": 0}, "weight_map": where}
    write(os.path.join(folder, "model.safetensors.index.json"), json.dumps(index).encode())


def mixtral(seed=1, dtype="BF16", layers=2, experts=4, width=32, ff=16, vocab=48):
    """(config, tensors) of a tiny Mixtral."""
    rng = random.Random(seed)

    def normal(*shape):
        n = 1
        for s in shape:
            n *= s
        return dtype, list(shape), b"".join(ENCODE[dtype](rng.gauss(0, 0.3)) for _ in range(n))

    t = {"model.embed_tokens.weight": normal(vocab, width)}
    for i in range(layers):
        at = f"model.layers.{i}."
        t[at + "input_layernorm.weight"] = normal(width)
        t[at + "post_attention_layernorm.weight"] = normal(width)
        for name, rows in (("q", width), ("k", width // 2), ("v", width // 2), ("o", width)):
            t[at + f"self_attn.{name}_proj.weight"] = normal(rows, width)
        t[at + "block_sparse_moe.gate.weight"] = normal(experts, width)
        for e in range(experts):
            own = at + f"block_sparse_moe.experts.{e}."
            t[own + "w1.weight"] = normal(ff, width)
            t[own + "w2.weight"] = normal(width, ff)
            t[own + "w3.weight"] = normal(ff, width)
    t["model.norm.weight"] = normal(width)
    t["lm_head.weight"] = normal(vocab, width)
    config = {
        "architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": width,
        "num_hidden_layers": layers, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": ff,
        "vocab_size": vocab, "rms_norm_eps": 1e-5, "rope_theta": 1e6, "max_position_embeddings": 256,
        "hidden_act": "silu", "tie_word_embeddings": False, "num_local_experts": experts, "num_experts_per_tok": 2,
        "sliding_window": None, "torch_dtype": "bfloat16" if dtype == "BF16" else "float32",
    }
    return config, t
