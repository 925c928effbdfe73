"""Tiny random models of the families with recurrent layers, as GGUF files.

A model is a dict of settings; keys() and tensors() say how llama.cpp's format spells it. Weights are float32 and large
enough that every part of a layer moves the logits.
"""

import struct

import numpy as np

COMMON = dict(n_layer=4, d=32, n_vocab=264, n_ctx=512, eps=1e-6, n_head=4, n_kv_head=2, head_dim=16, n_rot=8,
              rope_base=1e6, tied=False, n_expert=8, k=3, expert_ff=16, shared_ff=24)
DELTA = dict(conv=4, state=8, k_heads=2, v_heads=4)

MODELS = {
    # Gated delta net in three layers of four, attention with a gate in the fourth, shared expert with a gate
    "qwen3next": dict(COMMON, seed=21, **DELTA, arch="qwen3next", interval=4),
    # One projection for q, k, v and z, grouped by k head; every second layer attends; three v heads a k head
    "qwen3next-fused": dict(COMMON, seed=13, **dict(DELTA, v_heads=6, conv=3), arch="qwen3next", interval=2, fused=True, tied=True),
    # v heads of one k head lie apart; the layers are listed; a layer that predicts further tokens is not run
    "qwen35moe": dict(COMMON, seed=18, **DELTA, arch="qwen35moe", sections=[2, 1, 1, 0], recurrent=[1, 0, 1, 1], mtp=1),
    # Dense; as many v heads as k heads; pairs that no section covers do not turn
    "qwen35": dict(COMMON, seed=1, **dict(DELTA, k_heads=3, v_heads=3, state=12), arch="qwen35", interval=3, sections=[3, 1, 0, 0],
                   n_expert=0, ff=40),
    "qwen35-tiled": dict(COMMON, seed=1, **dict(DELTA, k_heads=2, v_heads=6), arch="qwen35", interval=4, sections=[2, 1, 1, 0],
                         n_expert=0, ff=40, tied=True),
    # Short convolutions, attention in some layers; sigmoid router with a bias that chooses, leading dense layers
    "lfm2moe": dict(COMMON, seed=14, arch="lfm2moe", n_layer=5, taps=3, kv_heads=[0, 0, 2, 0, 2], leading=2, ff=40, head_dim=8,
                    n_rot=8, n_head=4, tied=True, eps=1e-5),
    "lfm2": dict(COMMON, seed=1, arch="lfm2", taps=4, kv_heads=[0, 4, 0, 2], ff=48, head_dim=8, n_rot=8, n_expert=0, eps=1e-5,
                 tied=True),
}


def recurrent(m, layer):
    """Whether a layer carries a state instead of keys and values"""
    if "kv_heads" in m:
        return m["kv_heads"][layer] == 0
    if "recurrent" in m:
        return bool(m["recurrent"][layer])
    return (layer + 1) % m["interval"] != 0


def is_moe(m, layer):
    return m["n_expert"] > 0 and layer >= m.get("leading", 0)


def kv_heads(m, layer):
    return m["kv_heads"][layer] if "kv_heads" in m else m["n_kv_head"]


def keys(m):
    """[(key, type, value)]: u32, f32, str, bool, [u32], [str]"""
    arch, mtp = m["arch"], m.get("mtp", 0)
    out = [("general.architecture", "str", arch), ("general.name", "str", "tiny"), ("general.alignment", "u32", 32),
           ("general.file_type", "u32", 0)]
    own = [("vocab_size", "u32", m["n_vocab"]), ("context_length", "u32", m["n_ctx"]),
           ("embedding_length", "u32", m["d"]), ("block_count", "u32", m["n_layer"] + mtp),
           ("feed_forward_length", "u32", m.get("ff", m["expert_ff"])), ("attention.head_count", "u32", m["n_head"]),
           ("attention.key_length", "u32", m["head_dim"]), ("attention.value_length", "u32", m["head_dim"]),
           ("attention.layer_norm_rms_epsilon", "f32", m["eps"]), ("rope.freq_base", "f32", m["rope_base"])]
    own.append(("attention.head_count_kv", "[u32]", m["kv_heads"]) if "kv_heads" in m else
               ("attention.head_count_kv", "u32", m["n_kv_head"]))
    if m["n_expert"]:
        own += [("expert_count", "u32", m["n_expert"]), ("expert_used_count", "u32", m["k"]),
                ("expert_feed_forward_length", "u32", m["expert_ff"])]
    if arch.startswith("qwen"):
        own += [("rope.dimension_count", "u32", m["n_rot"]), ("ssm.conv_kernel", "u32", m["conv"]),
                ("ssm.state_size", "u32", m["state"]), ("ssm.group_count", "u32", m["k_heads"]),
                ("ssm.time_step_rank", "u32", m["v_heads"]), ("ssm.inner_size", "u32", m["v_heads"] * m["state"])]
        if m["n_expert"]:
            own.append(("expert_shared_feed_forward_length", "u32", m["shared_ff"]))
        if "recurrent" in m:
            own.append(("attention.recurrent_layers", "[bool]", m["recurrent"] + [0] * mtp))
        elif m["interval"] != 4:  # the default
            own.append(("full_attention_interval", "u32", m["interval"]))
        if "sections" in m:
            own.append(("rope.dimension_sections", "[i32]", m["sections"]))
        if mtp:
            own.append(("nextn_predict_layers", "u32", mtp))
    else:
        own.append(("shortconv.l_cache", "u32", m["taps"]))
        if m["n_expert"]:
            own += [("leading_dense_block_count", "u32", m["leading"]), ("expert_gating_func", "u32", 2)]
    return out + [(f"{arch}.{name}", kind, value) for name, kind, value in own] + vocabulary(m)


def vocabulary(m):
    """Byte-level BPE of the 256 bytes, a merge (readers want one) and fillers"""
    visible = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    spelled = {b: chr(b) for b in visible}
    for i, b in enumerate(b for b in range(256) if b not in spelled):
        spelled[b] = chr(256 + i)
    tokens = [spelled[b] for b in range(256)] + ["he"]
    tokens += [f"<|filler{i}|>" for i in range(m["n_vocab"] - 258)] + ["<|endoftext|>"]
    kinds = [1] * 257 + [3] * (m["n_vocab"] - 257)
    return [("tokenizer.ggml.model", "str", "gpt2"), ("tokenizer.ggml.pre", "str", "qwen2"),
            ("tokenizer.ggml.tokens", "[str]", tokens), ("tokenizer.ggml.token_type", "[i32]", kinds),
            ("tokenizer.ggml.merges", "[str]", ["h e"]), ("tokenizer.ggml.eos_token_id", "u32", m["n_vocab"] - 1),
            ("tokenizer.ggml.add_bos_token", "bool", False)]


def tensors(m, seed):
    """name -> float32 array, row-major (GGUF lists the dimensions the other way round)"""
    random, out = np.random.RandomState(seed), {}
    d, arch = m["d"], m["arch"]

    def matrix(name, *shape, gain=1.0):
        out[name] = (random.standard_normal(shape) * gain / np.sqrt(shape[-1])).astype(np.float32)

    def vector(name, n, mean=1.0, deviation=0.2):
        out[name] = (mean + deviation * random.standard_normal(n)).astype(np.float32)

    def attention(p, kv):
        heads, size = m["n_head"], m["head_dim"]
        matrix(p + "attn_q.weight", heads * size * (2 if arch.startswith("qwen") else 1), d, gain=1.5)
        matrix(p + "attn_k.weight", kv * size, d, gain=1.5)
        matrix(p + "attn_v.weight", kv * size, d)
        vector(p + "attn_q_norm.weight", size, mean=1.5)
        vector(p + "attn_k_norm.weight", size, mean=1.5)
        matrix(p + "attn_output.weight", d, heads * size, gain=1.5)

    def delta_net(p):
        keys_, values, heads = m["k_heads"] * m["state"], m["v_heads"] * m["state"], m["v_heads"]
        if m.get("fused"):
            matrix(p + "ssm_in.weight", 2 * keys_ + 2 * values, d)
        else:
            matrix(p + "attn_qkv.weight", 2 * keys_ + values, d)
            matrix(p + "attn_gate.weight", values, d)
        if arch == "qwen3next":
            matrix(p + "ssm_ba.weight", 2 * heads, d, gain=1.5)
        else:
            matrix(p + "ssm_beta.weight", heads, d, gain=1.5)
            matrix(p + "ssm_alpha.weight", heads, d, gain=1.5)
        out[p + "ssm_conv1d.weight"] = random.standard_normal((2 * keys_ + values, m["conv"])).astype(np.float32)
        vector(p + "ssm_dt.bias", heads, mean=-1.0, deviation=0.5)
        out[p + "ssm_a"] = -np.exp(random.uniform(-2, 1, heads)).astype(np.float32)
        vector(p + "ssm_norm.weight", m["state"])
        matrix(p + "ssm_out.weight", d, values, gain=1.5)

    def experts(p):
        e, ff = m["n_expert"], m["expert_ff"]
        matrix(p + "ffn_gate_inp.weight", e, d, gain=2.0)
        matrix(p + "ffn_gate_exps.weight", e, ff, d, gain=1.5)
        matrix(p + "ffn_up_exps.weight", e, ff, d, gain=1.5)
        matrix(p + "ffn_down_exps.weight", e, d, ff, gain=1.5)
        if arch == "lfm2moe":
            vector(p + "exp_probs_b.bias", e, mean=0.0)
            return
        out[p + "ffn_gate_inp_shexp.weight"] = (random.standard_normal(d) / np.sqrt(d)).astype(np.float32)
        matrix(p + "ffn_gate_shexp.weight", m["shared_ff"], d)
        matrix(p + "ffn_up_shexp.weight", m["shared_ff"], d)
        matrix(p + "ffn_down_shexp.weight", d, m["shared_ff"])

    matrix("token_embd.weight", m["n_vocab"], d, gain=np.sqrt(d))
    # A tied output matrix is as large as embeddings are.
    vector("token_embd_norm.weight" if arch.startswith("lfm2") else "output_norm.weight", d,
           mean=0.2 if m["tied"] else 1.0, deviation=0.05)
    if not m["tied"]:
        matrix("output.weight", m["n_vocab"], d)
    for i in range(m["n_layer"] + m.get("mtp", 0)):
        p, extra = f"blk.{i}.", i >= m["n_layer"]
        vector(p + "attn_norm.weight", d)
        if extra or not recurrent(m, i):
            attention(p, m["n_kv_head"] if extra else kv_heads(m, i))
        elif arch.startswith("qwen"):
            delta_net(p)
        else:
            matrix(p + "shortconv.in_proj.weight", 3 * d, d, gain=1.5)
            out[p + "shortconv.conv.weight"] = random.standard_normal((d, m["taps"])).astype(np.float32)
            matrix(p + "shortconv.out_proj.weight", d, d, gain=1.5)
        vector(p + ("post_attention_norm.weight" if arch.startswith("qwen") else "ffn_norm.weight"), d)
        if extra or is_moe(m, i):
            experts(p)
        else:
            matrix(p + "ffn_gate.weight", m["ff"], d)
            matrix(p + "ffn_up.weight", m["ff"], d)
            matrix(p + "ffn_down.weight", d, m["ff"])
        if extra:
            matrix(p + "nextn.eh_proj.weight", d, 2 * d)
            vector(p + "nextn.enorm.weight", d)
            vector(p + "nextn.hnorm.weight", d)
            vector(p + "nextn.shared_head_norm.weight", d)
    return out


def write_gguf(path, pairs, weights):
    number = {"u32": ("<I", 4), "i32": ("<i", 5), "f32": ("<f", 6), "bool": ("<?", 7)}

    def text(s):
        return struct.pack("<Q", len(s.encode())) + s.encode()

    def value(kind, v):
        return text(v) if kind == "str" else struct.pack(number[kind][0], v)

    def code(kind):
        return 8 if kind == "str" else number[kind][1]

    head = struct.pack("<4sIQQ", b"GGUF", 3, len(weights), len(pairs))
    for key, kind, v in pairs:
        head += text(key)
        if kind.startswith("["):
            kind = kind[1:-1]
            head += struct.pack("<IIQ", 9, code(kind), len(v)) + b"".join(value(kind, x) for x in v)
        else:
            head += struct.pack("<I", code(kind)) + value(kind, v)
    at = 0
    for name, a in weights.items():
        head += text(name) + struct.pack(f"<I{a.ndim}QIQ", a.ndim, *reversed(a.shape), 0, at)
        at += (a.nbytes + 31) // 32 * 32
    head += b"\0" * (-len(head) % 32)
    with open(path, "wb") as out:
        out.write(head)
        for a in weights.values():
            out.write(a.tobytes() + b"\0" * (-a.nbytes % 32))
