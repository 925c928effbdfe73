"""Tiny random Hugging Face directories of the families with recurrent layers, and what they compute in float64, both
written from the classes of transformers: names, layouts and the order of heads are theirs."""

import numpy as np

from hybrid_reference import convolve, rms, sigmoid, silu, swiglu

COMMON = dict(vocab_size=264, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              max_position_embeddings=512, hidden_act="silu", tie_word_embeddings=False)
QWEN = dict(COMMON, head_dim=16, rms_norm_eps=1e-6, linear_conv_kernel_dim=4, linear_key_head_dim=8,
            linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, attention_bias=False)
EXPERTS = dict(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=16, shared_expert_intermediate_size=24)
LFM2 = dict(COMMON, norm_eps=1e-5, conv_bias=False, tie_word_embeddings=True)
LINEAR, FULL = "linear_attention", "full_attention"

# name -> (config, options of this file)
MODELS = {
    "qwen3_next": (dict(QWEN, **EXPERTS, model_type="qwen3_next", rope_theta=1e6, partial_rotary_factor=0.5,
                        intermediate_size=40, norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[]), {}),
    # Listed layers that follow no period, three v heads a k head and wider, stacked experts, tied
    "qwen3_next-listed": (dict(QWEN, **EXPERTS, model_type="qwen3_next", layer_types=[LINEAR, FULL, FULL, LINEAR],
                               linear_num_value_heads=6, linear_value_head_dim=12, linear_conv_kernel_dim=3,
                               tie_word_embeddings=True, rope_parameters=dict(rope_type="default", rope_theta=5e5)),
                          dict(stacked=True, mtp=True)),
    # The language model of one that sees
    "qwen3_5_moe": (dict(model_type="qwen3_5_moe", vision_config=dict(depth=1), tie_word_embeddings=False,
                         text_config=dict(QWEN, **EXPERTS, model_type="qwen3_5_moe_text", linear_num_value_heads=6,
                                          attn_output_gate=True, full_attention_interval=2,
                                          rope_parameters=dict(rope_type="default", rope_theta=1e6, mrope_interleaved=True,
                                                               mrope_section=[2, 1, 1], partial_rotary_factor=0.5))),
                    dict(stacked=True, mtp=True, visual=True)),
    "qwen3_5_moe_text": (dict(QWEN, **EXPERTS, model_type="qwen3_5_moe_text", linear_num_key_heads=3,
                              linear_num_value_heads=6, linear_key_head_dim=12, linear_value_head_dim=4, rope_theta=1e6,
                              layer_types=[FULL, LINEAR, LINEAR, FULL], tie_word_embeddings=True), dict(bf16=True)),
    "qwen3_5_text": (dict(QWEN, model_type="qwen3_5_text", intermediate_size=40, rope_theta=1e6,
                          layer_types=[LINEAR, FULL, FULL, LINEAR]), {}),
    # Blocks of FP8 whose columns change places, whole ones and not
    "qwen3_5_text-fp8": (dict(QWEN, model_type="qwen3_5_text", intermediate_size=64, rope_theta=1e6, linear_value_head_dim=32,
                              linear_key_head_dim=32, full_attention_interval=3,
                              quantization_config=dict(quant_method="fp8", weight_block_size=[16, 32])), dict(fp8=True)),
    "qwen3_5_text-fp8-cut": (dict(QWEN, model_type="qwen3_5_text", intermediate_size=64, rope_theta=1e6,
                                  full_attention_interval=3, linear_value_head_dim=16, linear_key_head_dim=8,
                                  quantization_config=dict(quant_method="fp8", weight_block_size=[16, 32])), dict(fp8=True)),
    "lfm2_moe": (dict(LFM2, model_type="lfm2_moe", num_hidden_layers=5, conv_L_cache=3, intermediate_size=40,
                      moe_intermediate_size=16, num_experts=8, num_experts_per_tok=3, num_dense_layers=2, rope_theta=5e5,
                      use_expert_bias=True, norm_topk_prob=True, routed_scaling_factor=1.0,
                      layer_types=["conv", "conv", FULL, "conv", FULL]), {}),
    "lfm2": (dict(LFM2, model_type="lfm2", conv_L_cache=4, block_ff_dim=50, block_auto_adjust_ff_dim=True,
                  block_ffn_dim_multiplier=1.3, block_multiple_of=16, full_attn_idxs=[1, 3]), dict(bf16=True)),
}


def text(config):
    return config.get("text_config", config)


def kinds(c):
    """What each layer mixes its rows with"""
    n = c["num_hidden_layers"]
    if c["model_type"].startswith("qwen"):
        every = c.get("full_attention_interval", 4)
        return c.get("layer_types") or [LINEAR if (i + 1) % every else FULL for i in range(n)]
    return c.get("layer_types") or [FULL if i in c["full_attn_idxs"] else "conv" for i in range(n)]


def dense_width(c):
    if c["model_type"] != "lfm2":
        return c["intermediate_size"]
    ff = int(c["block_ffn_dim_multiplier"] * int(2 * c["block_ff_dim"] / 3))
    return -(-ff // c["block_multiple_of"]) * c["block_multiple_of"]


def is_moe(c, layer):
    return "num_experts" in c and layer >= c.get("num_dense_layers", 0)


class Tensors:
    def __init__(self, seed):
        self.random, self.all = np.random.RandomState(seed), {}

    def matrix(self, name, *shape, gain=1.0):
        self.all[name] = (self.random.standard_normal(shape) * gain / np.sqrt(shape[-1])).astype(np.float32)

    def vector(self, name, *shape, mean=0.0, deviation=0.2):
        self.all[name] = (mean + deviation * self.random.standard_normal(shape)).astype(np.float32)


def attention_tensors(t, c, p):
    d, heads, kv = c["hidden_size"], c["num_attention_heads"], c["num_key_value_heads"]
    qwen, size = c["model_type"].startswith("qwen"), c.get("head_dim", d // heads)
    t.matrix(p + "q_proj.weight", heads * size * (2 if qwen else 1), d, gain=1.5)
    t.matrix(p + "k_proj.weight", kv * size, d, gain=1.5)
    t.matrix(p + "v_proj.weight", kv * size, d)
    for x in "qk":
        t.vector(p + x + ("_norm.weight" if qwen else "_layernorm.weight"), size, mean=0.5 if qwen else 1.5)
    t.matrix(p + ("o_proj.weight" if qwen else "out_proj.weight"), d, heads * size, gain=1.5)


def delta_tensors(t, c, p):
    d, heads = c["hidden_size"], c["linear_num_value_heads"]
    keys, values = c["linear_num_key_heads"] * c["linear_key_head_dim"], heads * c["linear_value_head_dim"]
    if c["model_type"] == "qwen3_next":
        t.matrix(p + "in_proj_qkvz.weight", 2 * keys + 2 * values, d)
        t.matrix(p + "in_proj_ba.weight", 2 * heads, d, gain=1.5)
    else:
        t.matrix(p + "in_proj_qkv.weight", 2 * keys + values, d)
        t.matrix(p + "in_proj_z.weight", values, d)
        t.matrix(p + "in_proj_b.weight", heads, d, gain=1.5)
        t.matrix(p + "in_proj_a.weight", heads, d, gain=1.5)
    t.vector(p + "conv1d.weight", 2 * keys + values, 1, c["linear_conv_kernel_dim"], deviation=1)
    t.vector(p + "dt_bias", heads, mean=-1, deviation=0.5)
    t.all[p + "A_log"] = t.random.uniform(-2, 1, heads).astype(np.float32)
    t.vector(p + "norm.weight", c["linear_value_head_dim"], mean=1)
    t.matrix(p + "out_proj.weight", d, values, gain=1.5)


def expert_tensors(t, c, p, stacked):
    d, n, ff = c["hidden_size"], c["num_experts"], c["moe_intermediate_size"]
    gate, up, down = ("gate_proj", "up_proj", "down_proj") if c["model_type"].startswith("qwen") else ("w1", "w3", "w2")
    t.matrix(p + "gate.weight", n, d, gain=2)
    if stacked:
        t.matrix(p + "experts.gate_up_proj", n, 2 * ff, d, gain=1.5)
        t.matrix(p + "experts.down_proj", n, d, ff, gain=1.5)
    for e in range(0 if stacked else n):
        t.matrix(p + f"experts.{e}.{gate}.weight", ff, d, gain=1.5)
        t.matrix(p + f"experts.{e}.{up}.weight", ff, d, gain=1.5)
        t.matrix(p + f"experts.{e}.{down}.weight", d, ff, gain=1.5)
    if "use_expert_bias" in c:
        t.vector(p + "expert_bias", n)
        return
    shared = c["shared_expert_intermediate_size"]
    t.matrix(p + "shared_expert_gate.weight", 1, d)
    t.matrix(p + "shared_expert.gate_proj.weight", shared, d)
    t.matrix(p + "shared_expert.up_proj.weight", shared, d)
    t.matrix(p + "shared_expert.down_proj.weight", d, shared)


BLOCK = (16, 32)


def e4m3(codes):
    sign, exponent, mantissa = codes >> 7, codes >> 3 & 15, codes & 7
    x = np.where(exponent > 0, (8 + mantissa) / 8 * 2.0 ** (exponent - 7.0), mantissa / 8 * 2.0 ** -6)
    return np.where(sign, -x, x)


def to_fp8(t):
    """The projections replaced by random codes and scales: name -> (codes, scales)"""
    out = {}
    for name, x in t.all.items():
        if x.ndim != 2 or "_proj" not in name or name.endswith(("in_proj_a.weight", "in_proj_b.weight")):
            continue
        codes = t.random.randint(0, 120, x.shape) + 128 * t.random.randint(0, 2, x.shape)
        scale = (t.random.uniform(0.5, 2, [-(-n // b) for n, b in zip(x.shape, BLOCK)]) / 500).astype(np.float32)
        spread = np.repeat(np.repeat(scale.astype(float), BLOCK[0], 0), BLOCK[1], 1)[:x.shape[0], :x.shape[1]]
        x[...] = e4m3(codes) * spread
        out[name] = codes.astype(np.uint8), scale
    return out


def tensors(config, seed, stacked=False, mtp=False, visual=False, bf16=False, fp8=None):
    """name -> float32 array; fp8, a dict, gets the codes and scales of those that are FP8"""
    c, t = text(config), Tensors(seed)
    qwen, d, tied = c["model_type"].startswith("qwen"), c["hidden_size"], c["tie_word_embeddings"]
    t.matrix("model.embed_tokens.weight", c["vocab_size"], d, gain=np.sqrt(d))
    end = 0.2 if tied else 1.0  # a tied output matrix is as large as embeddings are
    t.vector("model.norm.weight" if qwen else "model.embedding_norm.weight", d, mean=end - qwen, deviation=0.05)
    if not tied:
        t.matrix("lm_head.weight", c["vocab_size"], d)
    for i, kind in enumerate(kinds(c)):
        p = f"model.layers.{i}."
        t.vector(p + ("input_layernorm.weight" if qwen else "operator_norm.weight"), d, mean=1 - qwen)
        t.vector(p + ("post_attention_layernorm.weight" if qwen else "ffn_norm.weight"), d, mean=1 - qwen)
        if kind == FULL:
            attention_tensors(t, c, p + "self_attn.")
        elif kind == LINEAR:
            delta_tensors(t, c, p + "linear_attn.")
        else:
            t.matrix(p + "conv.in_proj.weight", 3 * d, d, gain=1.5)
            t.vector(p + "conv.conv.weight", d, 1, c["conv_L_cache"], deviation=1)
            t.matrix(p + "conv.out_proj.weight", d, d, gain=1.5)
        p += "mlp." if qwen else "feed_forward."
        if is_moe(c, i):
            expert_tensors(t, c, p, stacked)
            continue
        gate, up, down = ("gate_proj", "up_proj", "down_proj") if qwen else ("w1", "w3", "w2")
        t.matrix(p + gate + ".weight", dense_width(c), d)
        t.matrix(p + up + ".weight", dense_width(c), d)
        t.matrix(p + down + ".weight", d, dense_width(c))
    if mtp:
        t.matrix("mtp.fc.weight", d, 2 * d)
    if bf16:
        for x in t.all.values():
            x.view(np.uint32)[...] &= 0xFFFF0000
    if fp8 is not None:
        fp8.update(to_fp8(t))
    if visual:
        t.all = {name.replace("model.", "model.language_model.", 1): x for name, x in t.all.items()}
        t.matrix("model.visual.patch_embed.proj.weight", 4, 4)
    return t.all


# ---- what they compute ----


def turn(c, x, position):
    """Halves of the first part of each head; in a text all sections of M-RoPE have the same position."""
    rope = c.get("rope_parameters") or {}
    factor = c.get("partial_rotary_factor", rope.get("partial_rotary_factor", 0.25 if "head_dim" in c else 1))
    base = c.get("rope_theta", rope.get("rope_theta", 1e6))
    half, out = int(x.shape[1] * factor) // 2, x.copy()
    angle = position * base ** (-np.arange(half) / half)
    a, b = x[:, :half], x[:, half:2 * half]
    out[:, :half] = a * np.cos(angle) - b * np.sin(angle)
    out[:, half:2 * half] = b * np.cos(angle) + a * np.sin(angle)
    return out


def attention(c, w, x):
    qwen, heads, kv = "head_dim" in c, c["num_attention_heads"], c["num_key_value_heads"]
    size, n = c.get("head_dim", c["hidden_size"] // heads), len(x)
    q = (x @ w["q_proj.weight"].T).reshape(n, heads, -1)
    gate, q = q[:, :, size:], q[:, :, :size]
    k = (x @ w["k_proj.weight"].T).reshape(n, kv, size)
    v = (x @ w["v_proj.weight"].T).reshape(n, kv, size)
    if qwen:
        q, k = rms(q, 1 + w["q_norm.weight"], c["rms_norm_eps"]), rms(k, 1 + w["k_norm.weight"], c["rms_norm_eps"])
    else:
        q, k = rms(q, w["q_layernorm.weight"], c["norm_eps"]), rms(k, w["k_layernorm.weight"], c["norm_eps"])
    q, k = (np.stack([turn(c, row, t) for t, row in enumerate(y)]) for y in (q, k))
    out = np.zeros((n, heads, size))
    for t in range(n):
        for h in range(heads):
            score = k[:t + 1, h * kv // heads] @ q[t, h] / np.sqrt(size)
            p = np.exp(score - score.max())
            out[t, h] = p @ v[:t + 1, h * kv // heads] / p.sum()
    if qwen:
        return (out * sigmoid(gate)).reshape(n, -1) @ w["o_proj.weight"].T
    return out.reshape(n, -1) @ w["out_proj.weight"].T


def delta_net(c, w, x):
    n, nk, nv = len(x), c["linear_num_key_heads"], c["linear_num_value_heads"]
    dk, dv, per = c["linear_key_head_dim"], c["linear_value_head_dim"], nv // nk
    if "in_proj_qkvz.weight" in w:
        q, k, v, z = np.split((x @ w["in_proj_qkvz.weight"].T).reshape(n, nk, -1), np.cumsum([dk, dk, per * dv]), axis=2)
        qkv, z = np.concatenate([y.reshape(n, -1) for y in (q, k, v)], axis=1), z.reshape(n, nv, dv)
        b, a = (y.reshape(n, nv) for y in np.split((x @ w["in_proj_ba.weight"].T).reshape(n, nk, -1), 2, axis=2))
    else:
        qkv, z = x @ w["in_proj_qkv.weight"].T, (x @ w["in_proj_z.weight"].T).reshape(n, nv, dv)
        b, a = x @ w["in_proj_b.weight"].T, x @ w["in_proj_a.weight"].T
    q, k, v = np.split(silu(convolve(qkv, w["conv1d.weight"][:, 0])), [nk * dk, 2 * nk * dk], axis=1)
    q, k = (np.repeat(y.reshape(n, nk, dk), per, axis=1) for y in (q, k))
    q, k = (y / np.sqrt(np.sum(y * y, axis=2, keepdims=True) + 1e-6) for y in (q, k))
    v, beta, g = v.reshape(n, nv, dv), sigmoid(b), -np.exp(w["A_log"]) * np.log1p(np.exp(a + w["dt_bias"]))
    out = np.zeros((n, nv, dv))
    for h in range(nv):
        state = np.zeros((dk, dv))
        for t in range(n):
            state *= np.exp(g[t, h])
            state += np.outer(k[t, h], beta[t, h] * (v[t, h] - k[t, h] @ state))
            out[t, h] = q[t, h] / np.sqrt(dk) @ state
    return (rms(out, w["norm.weight"], c["rms_norm_eps"]) * silu(z)).reshape(n, -1) @ w["out_proj.weight"].T


def short_convolution(_, w, x):
    b, c, x = np.split(x @ w["in_proj.weight"].T, 3, axis=1)
    return (c * convolve(b * x, w["conv.weight"][:, 0])) @ w["out_proj.weight"].T


def expert(c, w, e):
    if "experts.gate_up_proj" in w:
        return (*np.split(w["experts.gate_up_proj"][e], 2), w["experts.down_proj"][e])
    names = ("gate_proj", "up_proj", "down_proj") if "head_dim" in c else ("w1", "w3", "w2")
    return tuple(w[f"experts.{e}.{x}.weight"] for x in names)


def feed_forward(c, w, x):
    """(output, smallest gap of a decision)"""
    if "gate.weight" not in w:
        names = ("gate_proj", "up_proj", "down_proj") if "head_dim" in c else ("w1", "w3", "w2")
        return swiglu(x, *(w[f"{name}.weight"] for name in names)), np.inf
    logits, k, out, gap = x @ w["gate.weight"].T, c["num_experts_per_tok"], np.zeros_like(x), np.inf
    score = sigmoid(logits)
    choice = score + w.get("expert_bias", 0)
    if "head_dim" in c:
        score = np.exp(logits - logits.max(axis=1, keepdims=True))
        choice = score = score / score.sum(axis=1, keepdims=True)
    for t, row in enumerate(x):
        order = np.argsort(-choice[t], kind="stable")
        gap = min(gap, choice[t][order[k - 1]] - choice[t][order[k]])
        for e in order[:k]:
            out[t] += score[t][e] / score[t][order[:k]].sum() * swiglu(row, *expert(c, w, e))
    if "shared_expert_gate.weight" in w:
        shared = swiglu(x, *(w[f"shared_expert.{name}_proj.weight"] for name in ("gate", "up", "down")))
        out += sigmoid(x @ w["shared_expert_gate.weight"].T) * shared
    return out, gap


def forward(config, weights, ids):
    """(logits [n, vocabulary], smallest gap of a routing decision)"""
    c, gap = text(config), np.inf
    w = {name.replace("language_model.", ""): x.astype(np.float64) for name, x in weights.items()}
    qwen, mixers = "head_dim" in c, {FULL: attention, LINEAR: delta_net, "conv": short_convolution}
    parts = {FULL: "self_attn.", LINEAR: "linear_attn.", "conv": "conv."}
    eps = c["rms_norm_eps"] if qwen else c["norm_eps"]

    def under(prefix):
        return {name[len(prefix):]: x for name, x in w.items() if name.startswith(prefix)}

    x = w["model.embed_tokens.weight"][ids]
    for i, kind in enumerate(kinds(c)):
        p = f"model.layers.{i}."
        first, second = (qwen + w[p + name + ".weight"] for name in (
            ("input_layernorm", "post_attention_layernorm") if qwen else ("operator_norm", "ffn_norm")))
        x = x + mixers[kind](c, under(p + parts[kind]), rms(x, first, eps))
        y, least = feed_forward(c, under(p + ("mlp." if qwen else "feed_forward.")), rms(x, second, eps))
        x, gap = x + y, min(gap, least)
    end = 1 + w["model.norm.weight"] if qwen else w["model.embedding_norm.weight"]
    return rms(x, end, eps) @ w.get("lm_head.weight", w["model.embed_tokens.weight"]).T, gap
