/* Qwen1.5-MoE and Qwen2-MoE: q, k, v biases, a gated shared expert, weights not renormalised. */
#include "model/family.h"

const struct family family_qwen2moe = {
    .name = "qwen2moe",
    .facts = {.qkv_bias = true, .shared_gated = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF),
    .needs_output = true,
};
