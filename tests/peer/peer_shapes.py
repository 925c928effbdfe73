"""The architectures that are compared with the peer: which keys and tensors each has, and the shapes it is tried in.

A row of ARCHITECTURES is a builder and a list of overrides of its hyper-parameters: one tiny model each. A builder is
written from what files of that architecture hold, and knows nothing of how either engine computes.
"""

from tiny_gguf import Model, vocabulary

DEFAULTS = {
    "d": 64, "layers": 3, "heads": 4, "kv_heads": 2, "head": 16, "ff": 96, "eps": 1e-5, "base": 10000.0, "vocab": 272,
    "experts": 8, "used": 2, "expert_ff": 32, "shared": 0, "dense": 0, "tied": False, "rot": None, "prompt": 24,
}


class Hyper(dict):
    """Hyper-parameters by attribute."""

    __getattr__ = dict.__getitem__


def start(name, h, seed):
    m = h.get("model", Model)(name, seed)
    m.key(context_length=h.get("context", 512), embedding_length=h.d, block_count=h.layers, feed_forward_length=h.ff,
          attention__head_count=h.heads, attention__head_count_kv=h.kv_heads, rope__freq_base=h.base,
          attention__layer_norm_rms_epsilon=h.eps, vocab_size=h.vocab, rope__dimension_count=h.rot or h.head)
    if h.head * h.heads != h.d:
        m.key(attention__key_length=h.head, attention__value_length=h.head)
    if h.experts:
        m.key(expert_count=h.experts, expert_used_count=h.used)
    m.key(rope__scaling__type=h.get("scaling"), rope__scaling__factor=h.get("scaling_factor"))
    m.keys.update(vocabulary(h.vocab))
    m.matrix("token_embd.weight", h.vocab, h.d, gain=h.d ** 0.5)
    m.vector("output_norm.weight", h.d, around=1.0)
    if not h.tied:
        m.matrix("output.weight", h.vocab, h.d)
    return m


def norms(m, i, h, *names):
    for name in names:
        m.vector(f"blk.{i}.{name}.weight", h.d, around=1.0)


def attention(m, i, h, qkv_bias=False, o_bias=False, qk_norm=None, fused=False):
    q, kv = h.heads * h.head, h.kv_heads * h.head
    if fused:
        m.matrix(f"blk.{i}.attn_qkv.weight", q + 2 * kv, h.d)
    for letter, rows in (("q", q), ("k", kv), ("v", kv)):
        if not fused:
            m.matrix(f"blk.{i}.attn_{letter}.weight", rows, h.d)
        if qkv_bias:
            m.vector(f"blk.{i}.attn_{letter}.bias", rows)
    for letter, rows in (("q", q), ("k", kv)):
        if qk_norm:
            m.vector(f"blk.{i}.attn_{letter}_norm.weight", h.head if qk_norm == "head" else rows, around=1.0)
    m.matrix(f"blk.{i}.attn_output.weight", h.d, q)
    if o_bias:
        m.vector(f"blk.{i}.attn_output.bias", h.d)


def ffn(m, i, d, ff, suffix=""):
    m.matrix(f"blk.{i}.ffn_gate{suffix}.weight", ff, d)
    m.matrix(f"blk.{i}.ffn_up{suffix}.weight", ff, d)
    m.matrix(f"blk.{i}.ffn_down{suffix}.weight", d, ff)


def experts(m, i, h, selection_bias=False, shared_ff=0, expert_ff=None, merged=False):
    n, ff = h.experts, expert_ff or h.expert_ff
    m.matrix(f"blk.{i}.ffn_gate_inp.weight", n, h.d, gain=2.0)
    if selection_bias:
        m.vector(f"blk.{i}.exp_probs_b.bias", n, spread=0.1)
    if merged:
        m.matrix(f"blk.{i}.ffn_gate_up_exps.weight", n, 2 * ff, h.d)
    else:
        m.matrix(f"blk.{i}.ffn_gate_exps.weight", n, ff, h.d)
        m.matrix(f"blk.{i}.ffn_up_exps.weight", n, ff, h.d)
    m.matrix(f"blk.{i}.ffn_down_exps.weight", n, h.d, ff)
    if shared_ff:
        ffn(m, i, h.d, shared_ff, "_shexp")


def llama(h, seed):
    m = start("llama", h, seed)
    if h.get("freqs"):
        m.vector("rope_freqs.weight", h.head // 2, around=2.0)
    if h.get("yarn"):
        yarn(m, h.yarn, 32, **h.get("yarn_more", {}))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qkv_bias=h.get("qkv_bias", False), o_bias=h.get("o_bias", False))
        if h.experts:
            experts(m, i, h, expert_ff=h.ff)
        else:
            ffn(m, i, h.d, h.ff)
    return m


def qwen2moe(h, seed):
    m = start("qwen2moe", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_feed_forward_length=h.shared)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qkv_bias=True)
        experts(m, i, h, shared_ff=h.shared)
        m.vector(f"blk.{i}.ffn_gate_inp_shexp.weight", h.d)
    return m


def qwen3(h, seed):
    m = start("qwen3moe" if h.experts else "qwen3", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff if h.experts else None)
    if h.get("yarn"):
        yarn(m, h.yarn, 32)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="head")
        if h.experts:
            experts(m, i, h)
        else:
            ffn(m, i, h.d, h.ff)
    return m


def olmoe(h, seed):
    m = start("olmoe", h, seed)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="full")
        experts(m, i, h, expert_ff=h.ff)
    return m


def yarn(m, factor, context, **more):
    m.key(rope__scaling__type="yarn", rope__scaling__factor=factor, rope__scaling__original_context_length=context,
          **{f"rope__scaling__{name}": value for name, value in more.items()})


def deepseek(h, seed):
    m = start("deepseek", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_count=h.shared, leading_dense_block_count=h.dense,
          expert_weights_scale=h.get("scale", 1.0))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h)
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, shared_ff=h.shared * h.expert_ff)
    return m


def groups(m, h):
    m.key(expert_gating_func=h.get("gating"), expert_weights_norm=h.get("normalize"),
          expert_weights_scale=h.get("scale"), expert_group_count=h.get("groups"),
          expert_group_used_count=h.get("groups_used"))


def deepseek2(h, seed):
    nope, rope, rank, v = h.nope, h.rope, h.rank, h.v
    m = start("deepseek2", Hyper(h, kv_heads=h.heads if h.get("legacy") else 1, rot=rope, head=0), seed)
    m.key(attention__q_lora_rank=h.q_rank, attention__kv_lora_rank=rank, expert_feed_forward_length=h.expert_ff,
          expert_shared_count=h.shared, leading_dense_block_count=h.dense)
    if h.get("legacy"):
        m.key(attention__key_length=nope + rope, attention__value_length=v)
    else:
        m.key(attention__key_length=rank + rope, attention__value_length=rank, attention__key_length_mla=nope + rope,
              attention__value_length_mla=v)
    groups(m, h)
    if h.get("yarn"):
        yarn(m, h.yarn, 16, yarn_log_multiplier=h.get("log_multiplier"))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        if h.q_rank:
            m.matrix(f"blk.{i}.attn_q_a.weight", h.q_rank, h.d)
            m.vector(f"blk.{i}.attn_q_a_norm.weight", h.q_rank, around=1.0)
            m.matrix(f"blk.{i}.attn_q_b.weight", h.heads * (nope + rope), h.q_rank)
        else:
            m.matrix(f"blk.{i}.attn_q.weight", h.heads * (nope + rope), h.d)
        m.matrix(f"blk.{i}.attn_kv_a_mqa.weight", rank + rope, h.d)
        m.vector(f"blk.{i}.attn_kv_a_norm.weight", rank, around=1.0)
        if h.get("legacy"):
            m.matrix(f"blk.{i}.attn_kv_b.weight", h.heads * (nope + v), rank)
        else:
            m.matrix(f"blk.{i}.attn_k_b.weight", h.heads, rank, nope)
            m.matrix(f"blk.{i}.attn_v_b.weight", h.heads, v, rank)
        m.matrix(f"blk.{i}.attn_output.weight", h.d, h.heads * v)
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, selection_bias=h.get("bias", False), shared_ff=h.shared * h.expert_ff,
                    merged=h.get("merged", False))
    return m


def gpt_oss(h, seed):
    m = start("gpt-oss", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, attention__sliding_window=h.window)
    if h.get("yarn"):
        yarn(m, h.yarn, 32)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "post_attention_norm")
        attention(m, i, h, qkv_bias=True, o_bias=True)
        m.vector(f"blk.{i}.attn_sinks.weight", h.heads, spread=1.0)
        experts(m, i, h)
        m.vector(f"blk.{i}.ffn_gate_inp.bias", h.experts)
        m.vector(f"blk.{i}.ffn_gate_exps.bias", h.experts, h.expert_ff)
        m.vector(f"blk.{i}.ffn_up_exps.bias", h.experts, h.expert_ff)
        m.vector(f"blk.{i}.ffn_down_exps.bias", h.experts, h.d)
    return m


def nextn(m, h):
    """A layer for the prediction of one token more, that a forward pass leaves aside."""
    i, name = h.layers, m.architecture
    m.keys[f"{name}.block_count"] = h.layers + 1
    m.key(nextn_predict_layers=1)
    m.matrix(f"blk.{i}.nextn.eh_proj.weight", h.d, 2 * h.d)
    m.vector(f"blk.{i}.nextn.enorm.weight", h.d, around=1.0)
    m.vector(f"blk.{i}.nextn.hnorm.weight", h.d, around=1.0)
    m.vector(f"blk.{i}.nextn.shared_head_norm.weight", h.d, around=1.0)
    m.matrix(f"blk.{i}.nextn.shared_head_head.weight", h.vocab, h.d)
    m.matrix(f"blk.{i}.nextn.embed_tokens.weight", h.vocab, h.d)


def glm4moe(h, seed):
    m = start("glm4moe", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_count=h.shared, leading_dense_block_count=h.dense)
    groups(m, h)
    extra = h.get("nextn", 0)
    for i in range(h.layers + extra):
        norms(m, i, h, "attn_norm", "post_attention_norm")
        attention(m, i, h, qkv_bias=h.get("qkv_bias", True), qk_norm=h.get("qk_norm"))
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, selection_bias=True, shared_ff=h.shared * h.expert_ff)
    if extra:
        nextn(m, h)
    return m


def phimoe(h, seed):
    m = start("phimoe", h, seed)
    m.key(rope__scaling__original_context_length=h.original, rope__scaling__attn_factor=h.get("attn_factor"),
          rope__scaling__type="longrope")
    m.keys["phimoe.context_length"] = 4096
    m.vector("output_norm.bias", h.d)
    m.vector("output.bias", h.vocab)
    m.vector("rope_factors_long.weight", h.head // 2, around=4.0)
    m.vector("rope_factors_short.weight", h.head // 2, around=1.5)
    for i in range(h.layers):
        for name in ("attn_norm", "ffn_norm"):
            norms(m, i, h, name)
            m.vector(f"blk.{i}.{name}.bias", h.d)
        attention(m, i, h, qkv_bias=True, o_bias=True)
        experts(m, i, h, expert_ff=h.ff)
    return m


def granite(h, seed):
    m = start("granitemoe" if h.experts else "granite", h, seed)
    m.key(expert_shared_feed_forward_length=h.shared or None, logit_scale=h.get("logit", 2.0),
          embedding_scale=h.get("embedding", 0.6), residual_scale=h.get("residual", 0.35),
          attention__scale=h.get("attention", 0.125))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h)
        if h.experts:
            experts(m, i, h, expert_ff=h.ff, shared_ff=h.shared)
        else:
            ffn(m, i, h.d, h.ff)
    return m


def bailingmoe(h, seed):
    m = start("bailingmoe", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_count=h.shared, leading_dense_block_count=h.dense,
          expert_weights_norm=h.get("normalize"), expert_weights_scale=h.get("scale", 1.0))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h)
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, shared_ff=h.shared * h.expert_ff)
    return m


def bailingmoe2(h, seed):
    m = start("bailingmoe2", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_count=h.shared, leading_dense_block_count=h.dense,
          expert_shared_feed_forward_length=h.get("shared_ff"))
    groups(m, h)
    extra = h.get("nextn", 0)
    for i in range(h.layers + extra):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="head", fused=True)
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, selection_bias=h.get("bias", True), shared_ff=h.shared * h.get("shared_ff", h.expert_ff))
    if extra:
        nextn(m, h)
        norms(m, h.layers, h, "layer_output_norm")
    return m


def ernie(h, seed):
    m = start("ernie4_5-moe", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_feed_forward_length=h.shared or None,
          leading_dense_block_count=h.dense, interleave_moe_layer_step=h.get("step", 1))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h)
        if i < h.dense or (i + 1) % h.get("step", 1):
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, selection_bias=h.get("bias", True), shared_ff=h.shared)
    return m


def hunyuan(h, seed):
    m = start("hunyuan-moe", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_feed_forward_length=h.shared)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="head")
        experts(m, i, h, shared_ff=h.shared)
    return m


def minimax(h, seed):
    m = start("minimax-m2", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_gating_func=2)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="full")
        experts(m, i, h, selection_bias=True)
    return m


def dots1(h, seed):
    m = start("dots1", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_shared_count=h.shared, leading_dense_block_count=h.dense)
    groups(m, h)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h, qk_norm="head")
        if i < h.dense:
            ffn(m, i, h.d, h.ff)
        else:
            experts(m, i, h, selection_bias=h.get("bias", True), shared_ff=h.shared * h.expert_ff)
    return m


def dbrx(h, seed):
    m = start("dbrx", h, seed)
    del m.keys["dbrx.attention.layer_norm_rms_epsilon"]
    m.key(attention__layer_norm_epsilon=h.eps, attention__clamp_kqv=h.get("clamp", 1.0))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "attn_output_norm")
        attention(m, i, h, fused=True)
        experts(m, i, h, expert_ff=h.ff)
    return m


def arctic(h, seed):
    m = start("arctic", h, seed)
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm", "ffn_norm_exps")
        attention(m, i, h)
        ffn(m, i, h.d, h.d)
        experts(m, i, h, expert_ff=h.ff)
    return m


def smallthinker(h, seed):
    m = start("smallthinker", h, seed)
    m.key(expert_feed_forward_length=h.expert_ff, expert_gating_func=h.get("gating", 2),
          attention__sliding_window=h.get("window"))
    for i in range(h.layers):
        norms(m, i, h, "attn_norm", "ffn_norm")
        attention(m, i, h)
        experts(m, i, h)
    return m


V3 = {"layers": 3, "dense": 1, "q_rank": 24, "rank": 32, "nope": 16, "rope": 8, "v": 24, "experts": 16, "used": 4,
      "expert_ff": 16, "shared": 1, "gating": 2, "normalize": True, "scale": 2.5, "bias": True}
LITE = {"layers": 3, "dense": 1, "q_rank": 0, "rank": 32, "nope": 16, "rope": 8, "v": 16, "used": 3, "expert_ff": 16,
        "shared": 2, "gating": 1, "scale": 1.0}
BAILING = {"dense": 1, "experts": 16, "used": 4, "expert_ff": 16, "shared": 1, "gating": 2, "normalize": True,
           "scale": 2.5, "groups": 4, "groups_used": 2}
ODD = {"heads": 6, "kv_heads": 3, "head": 10, "d": 72, "experts": 5, "used": 3}

ARCHITECTURES = {
    "llama": (llama, [
        {},
        {"heads": 3, "kv_heads": 1, "head": 20, "d": 60, "experts": 5, "used": 1, "tied": True},
        {"experts": 0, "freqs": True, "heads": 6, "kv_heads": 6, "head": 12, "d": 72},
        {"experts": 7, "used": 7, "layers": 2, "kv_heads": 4, "head": 24},
    ]),
    "qwen2moe": (qwen2moe, [{"shared": 48, "used": 4}, {"shared": 20, **ODD, "head": 12}]),
    "qwen3": (qwen3, [{"experts": 0, "head": 24}, {"experts": 0, "tied": True, "heads": 5, "kv_heads": 5}]),
    "qwen3moe": (qwen3, [{"head": 24, "used": 4, "experts": 16}, {"yarn": 4.0}, ODD]),
    "olmoe": (olmoe, [  # its reader wants as many kv heads as heads
        {"kv_heads": 4, "used": 3}, {"kv_heads": 4, "used": 1, "experts": 6},
        {"ff": 40, **ODD, "head": 12, "kv_heads": 6},
    ]),
    "deepseek": (deepseek, [{"shared": 2, "dense": 1, "used": 3}, {"shared": 1, "dense": 0, "scale": 1.7}]),
    "deepseek2": (deepseek2, [
        {**V3, "groups": 4, "groups_used": 2, "yarn": 40.0, "log_multiplier": 0.1},
        {**V3, "bias": False, "merged": True, "heads": 3},
        {**V3, "dense": 0, "normalize": False, "groups": 2, "groups_used": 1, "layers": 2},
        {**LITE, "yarn": 40.0, "log_multiplier": 0.0707},
        {**LITE, "legacy": True, "gating": None},
        {**LITE, "legacy": True, "yarn": 8.0, "log_multiplier": 0.05, "heads": 5, "v": 12, "tied": True},
    ]),
    "gpt-oss": (gpt_oss, [
        {"window": 8, "yarn": 32.0, "used": 4, "layers": 4},
        {"window": 5, "heads": 6, "kv_heads": 1, "head": 12, "used": 1, "experts": 4, "expert_ff": 20},
    ]),
    "glm4moe": (glm4moe, [
        {"shared": 1, "dense": 1, "rot": 8, "gating": 2, "normalize": True, "scale": 1.5, "qk_norm": "head"},
        {"shared": 2, "dense": 2, "rot": 8, "normalize": True, "used": 3, "qkv_bias": True},
        {"shared": 1, "dense": 1, "rot": 8, "normalize": False, "scale": 1.0, "nextn": 1, "layers": 2, "head": 24},
    ]),
    "phimoe": (phimoe, [{"original": 4096, "attn_factor": 1.19}, {"original": 64, "attn_factor": 1.1, "used": 1}]),
    "granite": (granite, [{"experts": 0}]),
    "granitemoe": (granite, [{"tied": True, "used": 3}, {"shared": 40}, {"logit": 6.0, "residual": 1.3, **ODD,
                                                                             "head": 12}]),
    "bailingmoe": (bailingmoe, [{"shared": 2, "normalize": True}, {"shared": 1, "used": 3, "scale": 1.5}]),
    "bailingmoe2": (bailingmoe2, [
        BAILING,
        {**BAILING, "bias": False, "groups": 2, "groups_used": 1, "shared_ff": 24, "dense": 2},
        {**BAILING, "shared": 2, "normalize": False, "groups": None, "groups_used": None},
        {**BAILING, "nextn": 1, "layers": 2},
    ]),
    "ernie4_5-moe": (ernie, [
        {"dense": 1, "shared": 48, "used": 3},
        {"dense": 2, "shared": 24, "layers": 4, "used": 1, "kv_heads": 1},
        {"dense": 1, "bias": False, "tied": True, "shared": 16, "heads": 3, "kv_heads": 3, "head": 20, "d": 60},
    ]),
    "hunyuan-moe": (hunyuan, [
        {"shared": 48, "head": 24, "ff": 32}, {"shared": 32, "used": 1, "kv_heads": 1, "ff": 32, "tied": True}]),
    "minimax-m2": (minimax, [
        {"rot": 8, "used": 3, "ff": 32}, {"rot": 6, "head": 12, "heads": 6, "kv_heads": 3, "used": 1, "ff": 32}]),
    "dots1": (dots1, [  # its reader wants as many kv heads as heads
        {"kv_heads": 4, "shared": 1, "dense": 1, "gating": 2, "normalize": True, "scale": 2.5, "used": 3},
        {"kv_heads": 4, "shared": 2, "dense": 2, "gating": 2, "normalize": False, "scale": 1.0, "head": 24,
         "bias": False},
        {"kv_heads": 4, "shared": 1, "dense": 0, "gating": 1, "normalize": True, "layers": 2, "used": 1},
        {"kv_heads": 4, "shared": 1, "dense": 1, "gating": 2, "groups": 4, "groups_used": 2, "normalize": True,
         "experts": 16},
    ]),
    "dbrx": (dbrx, [
        {"used": 4},
        {"clamp": 0.5, "heads": 6, "kv_heads": 2, "head": 12, "d": 72, "experts": 5, "used": 1},
        {"clamp": 100.0, "kv_heads": 4, "layers": 2},
    ]),
    "arctic": (arctic, [
        {},
        {"tied": True, "heads": 3, "kv_heads": 1, "head": 20, "d": 60, "experts": 6, "used": 1, "ff": 40},
        {"used": 5, "kv_heads": 4, "layers": 2},
    ]),
    "smallthinker": (smallthinker, [
        {"gating": 2, "used": 3, "layers": 5},
        {"gating": 1, "window": 4096, "layers": 9},
        {"gating": 1, "heads": 3, "kv_heads": 1, "head": 20, "d": 60, "used": 1},
        {"gating": 2, "window": 8, "layers": 6, "tied": True},
    ]),
}

# What cadre does not know yet: it has to say so. A row that begins to work must be taken out.
PENDING = set()


def build(name, overrides, seed):
    """(the model, its hyper-parameters); "without" names keys that the file leaves out, "model" another class of models"""
    h = Hyper(DEFAULTS, **overrides)
    model = ARCHITECTURES[name][0](h, seed)
    for key in h.get("without", ()):
        del model.keys[f"{name}.{key}"]
    model.key(**h.get("keys", {}))
    return model, h
