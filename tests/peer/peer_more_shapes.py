"""Shapes beyond those of peer_shapes.py: corners of each reader of files, prompts of one, two and 200 tokens."""

from peer_shapes import BAILING, LITE, V3

ONE, TWO, LONG = {"prompt": 1}, {"prompt": 2}, {"prompt": 200}
VOCAB = {"vocab": 283}

MORE = {
    "llama": [
        {"experts": 0, "qkv_bias": True, **VOCAB}, {"experts": 0, "qkv_bias": True, "o_bias": True, **LONG},
        {"experts": 0, "scaling": "linear", "scaling_factor": 4.0, **LONG}, {"experts": 0, "scaling_factor": 2.5},
        {"experts": 0, "scaling": "none", "scaling_factor": 2.5}, {"experts": 0, "base": 500000.0, "ff": 37, **VOCAB},
        {"experts": 0, "yarn": 4.0, **LONG}, {"yarn": 8.0, "head": 32, "yarn_more": {"yarn_beta_fast": 16.0}},
        {"experts": 0, "yarn": 4.0, "yarn_more": {"attn_factor": 1.3}},
        {"experts": 0, "yarn": 4.0, "freqs": True}, {"experts": 0, "freqs": True, "scaling": "linear",
                                                       "scaling_factor": 2.0},
        {"experts": 0, "head": 48, "kv_heads": 1}, {"experts": 1, "used": 1, **LONG}, {"layers": 1, **ONE},
        {"experts": 12, "used": 12, **TWO}, {"ff": 53, "expert_ff": 53, "eps": 1e-6, **VOCAB},
        {"experts": 0, "kv_heads": 4, "without": ["attention.head_count_kv"]},
        {"experts": 0, "without": ["rope.dimension_count"]}, {"experts": 0, "without": ["rope.freq_base"]},
        {"experts": 32, "used": 8, "ff": 16, **LONG}, {"experts": 0, "d": 96, "heads": 6, "kv_heads": 2, "tied": True},
    ],
    "qwen2moe": [
        {"shared": 96, "without": ["expert_shared_feed_forward_length"]},
        {"shared": 48, "used": 3, "without": ["expert_feed_forward_length"], "expert_ff": 32},
        {"shared": 33, "expert_ff": 17, "experts": 1, "used": 1}, {"shared": 48, **LONG, **VOCAB}, {"shared": 48, **ONE},
        {"shared": 48, "experts": 6, "used": 6, "kv_heads": 1},
    ],
    "qwen3": [
        {"experts": 0, "head": 32, "kv_heads": 1, **LONG}, {"experts": 0, "yarn": 4.0, **LONG},
        {"experts": 0, "base": 1e6, "ff": 51, **VOCAB}, {"experts": 0, "layers": 1, **ONE},
        {"experts": 0, "scaling": "linear", "scaling_factor": 3.0},
    ],
    "qwen3moe": [
        {"used": 3, "expert_ff": 32, "without": ["expert_feed_forward_length"]}, {**LONG, **VOCAB, "expert_ff": 19},
        {"experts": 1, "used": 1}, {"experts": 4, "used": 4, "tied": True, **TWO}, {"base": 1e6, "eps": 1e-6, **ONE},
        {"experts": 64, "used": 8, "expert_ff": 8, **LONG},
    ],
    "olmoe": [{"kv_heads": 4, **LONG, **VOCAB}, {"kv_heads": 4, "experts": 4, "used": 4, **ONE},
              {"kv_heads": 4, "ff": 31, "layers": 1, **TWO}, {"kv_heads": 4, "experts": 1, "used": 1}],
    "deepseek": [
        {"shared": 2, "dense": 2, **LONG}, {"shared": 3, "dense": 0, "scale": 0.0}, {"shared": 1, "dense": 1, **ONE},
        {"shared": 1, "expert_ff": 17, "used": 8, **VOCAB},
        {"shared": 1, "kv_heads": 1, "without": ["expert_weights_scale"]},
    ],
    "deepseek2": [
        {**V3, "groups": 4, "groups_used": 2, **LONG}, {**V3, "gating": 1, "groups": 4, "groups_used": 2},
        {**V3, "gating": 1, "bias": False, "groups": 4, "groups_used": 3, "normalize": False},
        {**V3, "groups": 1, "groups_used": 1}, {**V3, "groups": 8, "groups_used": 4, "used": 6},
        {**V3, "scale": None, "normalize": None}, {**V3, "scale": 0.0}, {**V3, "scale": 1.0, "normalize": True},
        {**V3, "yarn": 40.0}, {**V3, "yarn": 40.0, "log_multiplier": 0.07}, {**V3, "yarn": 4.0, "log_multiplier": 0.1, **LONG},
        {**V3, "legacy": True, "yarn": 40.0, "log_multiplier": 0.1}, {**V3, "legacy": True, "bias": False, **LONG},
        {**V3, "gating": None}, {**LITE, "gating": None, "dense": 0}, {**LITE, "yarn": 40.0}, {**LITE, **LONG},
        {**LITE, "normalize": True, "scale": 1.7}, {**LITE, "legacy": True, "normalize": True, "scale": 0.7, **ONE},
        {**LITE, "layers": 27, "without": ["attention.q_lora_rank"]}, {**LITE, "heads": 1, **VOCAB},
        {**LITE, "v": 20, "nope": 8, "rope": 12, "rank": 20}, {**V3, "experts": 16, "used": 16, **TWO},
        {**LITE, "shared": 1, "expert_ff": 15}, {**V3, "dense": 2, "layers": 3, "tied": True},
        {**V3, "gating": 3, "bias": False},
    ],
    "gpt-oss": [
        {"window": 8, "layers": 4, **LONG}, {"window": 128, "yarn": 32.0, "layers": 4, **LONG},
        {"window": 64, "head": 24, "heads": 8, "kv_heads": 2, **LONG}, {"window": 1, "layers": 3},
        {"window": 16, "experts": 4, "used": 4, **ONE}, {"window": 30, "layers": 1, "base": 150000.0, **VOCAB},
        {"window": 31, "heads": 2, "kv_heads": 2, "prompt": 32}, {"window": 8, "experts": 1, "used": 1, "expert_ff": 17},
    ],
    "glm4moe": [
        {"shared": 1, "dense": 1, "rot": 8, "normalize": True, "gating": 2, "bias": True, **LONG},
        {"shared": 1, "dense": 0, "rot": 16, "gating": 1, "normalize": True, "scale": 1.0},
        {"shared": 1, "dense": 1, "rot": 8, "nextn": 1, "qk_norm": "head", "normalize": True, **VOCAB},
        {"shared": 1, "dense": 1, "rot": 8, "normalize": True, "groups": 2, "groups_used": 1},
        {"shared": 1, "dense": 1, "rot": 4, "kv_heads": 1, "normalize": True, "qkv_bias": False, "tied": True, **ONE},
        {"shared": 3, "dense": 1, "rot": 8, "expert_ff": 17},
    ],
    "phimoe": [
        {"original": 64, **LONG}, {"original": 4096, **LONG}, {"original": 512, "attn_factor": 1.2},
        {"original": 511, "attn_factor": 1.2}, {"original": 64, "kv_heads": 1, "ff": 37, **VOCAB},
        {"original": 64, "experts": 3, "used": 3, **ONE},
    ],
    "granite": [
        {"experts": 0, **LONG, **VOCAB}, {"experts": 0, "tied": True, "logit": 8.0, "kv_heads": 1, "attention": 0.25},
        {"experts": 0, "attention": 0.0, "ff": 41}, {"experts": 0, "embedding": 0.0, "residual": 0.0},
        {"experts": 0, "scaling": "linear", "scaling_factor": 2.0}, {"experts": 0, "head": 24, **ONE},
        {"experts": 0, "keys": {"rope__scaling__finetuned": False}},
        {"experts": 0, "without": ["embedding_scale", "residual_scale", "attention.scale"]},
    ],
    "granitemoe": [
        {"shared": 40, **LONG}, {"used": 8, "tied": True, **VOCAB}, {"attention": 0.0}, {"embedding": 0.0, "shared": 17},
        {"shared": 24, "ff": 33, "kv_heads": 1, **ONE}, {"residual": 0.0}, {"experts": 1, "used": 1},
        {"keys": {"rope__scaling__finetuned": False}}, {"keys": {"rope__scaling__finetuned": True}},
        {"without": ["embedding_scale", "residual_scale", "attention.scale"]},
    ],
    "bailingmoe": [
        {"shared": 1, **LONG}, {"shared": 2, "normalize": True, **VOCAB}, {"shared": 1, "kv_heads": 1, **ONE},
        {"shared": 1, "head": 24, "normalize": False}, {"shared": 1, "scale": 0.0, "used": 8},
        {"shared": 1, "expert_ff": 17, "tied": False, "scale": 2.5, "normalize": True},
    ],
    "bailingmoe2": [
        {**BAILING, **LONG}, {**BAILING, "rot": 8}, {**BAILING, "gating": 1}, {**BAILING, "scale": None},
        {**BAILING, "groups": 8, "groups_used": 4, **VOCAB}, {**BAILING, "normalize": None},
        {**BAILING, "shared_ff": 17, "shared": 2, "expert_ff": 19}, {**BAILING, "kv_heads": 1, **ONE},
    ],
    "ernie4_5-moe": [
        {"dense": 0, "shared": 48}, {"dense": 1, "shared": 0},
        {"dense": 1, "shared": 32, **LONG}, {"dense": 1, "shared": 64, "used": 8, **VOCAB},
        {"dense": 1, "shared": 17, "expert_ff": 19, "head": 24, **ONE},
    ],
    "hunyuan-moe": [
        {"shared": 48, "ff": 32, **LONG}, {"shared": 48, "ff": 32, "used": 8, **VOCAB}, {"shared": 17, "ff": 19, **ONE,
        "expert_ff": 19}, {"shared": 96, "ff": 32, "heads": 5, "kv_heads": 1, "base": 1e6},
        {"shared": 32, "ff": 32, "without": ["expert_shared_feed_forward_length"]},
        {"shared": 32, "ff": 32, "experts": 1, "used": 1},
    ],
    "minimax-m2": [
        {"rot": 8, "ff": 32, **LONG}, {"rot": 16, "ff": 32, **VOCAB}, {"rot": 4, "ff": 32, "used": 8, **ONE},
        {"rot": 2, "ff": 32, "head": 24, "kv_heads": 1}, {"rot": 8, "ff": 17, "expert_ff": 17, "base": 5e6},
        {"rot": 8, "ff": 32, "heads": 4, "kv_heads": 4},
    ],
    "dots1": [
        {"kv_heads": 4, "shared": 1, "dense": 1, "gating": 2, "normalize": True, **LONG},
        {"kv_heads": 4, "shared": 2, "dense": 1, "gating": 2, "scale": 0.0, **VOCAB},
        {"kv_heads": 4, "shared": 1, "gating": 2, **ONE},
        {"kv_heads": 4, "shared": 1, "gating": 1, "bias": False, "expert_ff": 17, "used": 8},
    ],
    "dbrx": [{**LONG}, {"clamp": 0.1, **VOCAB}, {"kv_heads": 1, "used": 8, **ONE}, {"kv_heads": 4, "ff": 31}],
    "arctic": [{**LONG}, {**VOCAB, "kv_heads": 1, "used": 8}, {**ONE, "ff": 31}, {"experts": 1, "used": 1}],
    "smallthinker": [
        {**LONG, "window": 64}, {"gating": 1, "used": 8, **VOCAB}, {"gating": 2, **ONE, "expert_ff": 17},
        {"gating": 2, "window": 64, "layers": 5, "head": 24, **LONG}, {"experts": 1, "used": 1},
        {"gating": 2, "window": 0, "layers": 5},
    ],
}
