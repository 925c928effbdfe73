"""Tiny random models of the families with recurrent layers, as GGUF files.

A model is a dict of settings; keys() and tensors() say how llama.cpp's format spells it. Weights are float32 and large
enough that every part of a layer moves the logits.
"""

import numpy as np

from tiny_gguf import vocabulary

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
    """name -> value"""
    arch, mtp = m["arch"], m.get("mtp", 0)
    own = {"vocab_size": m["n_vocab"], "context_length": m["n_ctx"], "embedding_length": m["d"],
           "block_count": m["n_layer"] + mtp, "feed_forward_length": m.get("ff", m["expert_ff"]),
           "attention.head_count": m["n_head"], "attention.head_count_kv": m.get("kv_heads", m["n_kv_head"]),
           "attention.key_length": m["head_dim"], "attention.value_length": m["head_dim"],
           "attention.layer_norm_rms_epsilon": m["eps"], "rope.freq_base": m["rope_base"]}
    if m["n_expert"]:
        own |= {"expert_count": m["n_expert"], "expert_used_count": m["k"], "expert_feed_forward_length": m["expert_ff"]}
    if arch.startswith("qwen"):
        own |= {"rope.dimension_count": m["n_rot"], "ssm.conv_kernel": m["conv"], "ssm.state_size": m["state"],
                "ssm.group_count": m["k_heads"], "ssm.time_step_rank": m["v_heads"],
                "ssm.inner_size": m["v_heads"] * m["state"]}
        if m["n_expert"]:
            own["expert_shared_feed_forward_length"] = m["shared_ff"]
        if "recurrent" in m:
            own["attention.recurrent_layers"] = [bool(x) for x in m["recurrent"] + [0] * mtp]
        elif m["interval"] != 4:  # the default
            own["full_attention_interval"] = m["interval"]
        if "sections" in m:
            own["rope.dimension_sections"] = m["sections"]
        if mtp:
            own["nextn_predict_layers"] = mtp
    else:
        own["shortconv.l_cache"] = m["taps"]
        if m["n_expert"]:
            own |= {"leading_dense_block_count": m["leading"], "expert_gating_func": 2}
    return {"general.architecture": arch} | {f"{arch}.{name}": value for name, value in own.items()} | vocabulary(m["n_vocab"])


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
