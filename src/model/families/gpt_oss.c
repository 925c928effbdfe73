/* gpt-oss (OpenAI 2025): every second layer slides, attention sinks, biases everywhere, top-k before softmax, bounded
 * SwiGLU. What its files call post_attention_norm is the norm before the experts. */
#include "model/family.h"

static const struct tensor_alias aliases[] = {{"ffn_norm.weight", "post_attention_norm.weight"}, {0}};

const struct family family_gpt_oss = {
    .name = "gpt-oss",
    .facts = {.window_period = 2,
              .sinks = true,
              .qkv_bias = true,
              .o_bias = true,
              .gate_bias = true,
              .expert_bias = true,
              .expert_kind = &expert_swiglu_clamped,
              .router = {.kind = &router_topk_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_WINDOW) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .aliases = aliases,
    .hf = hf_gpt_oss,
};
