/* Qwen3-Next and Qwen3.5, MoE and dense: Gated DeltaNet in most layers, attention with gated heads in the others, a
 * gated shared expert. Qwen3.5 orders the v heads otherwise and turns pairs by sections (M-RoPE). In files the norm
 * before the feed-forward part is the one after attention, and 1 is already added to the norms' weights. */
#include "model/family.h"

#include "model/attention.h"

static const struct tensor_alias aliases[] = {{"ffn_norm.weight", "post_attention_norm.weight"}, {NULL, NULL}};

#define HYBRID .attention_gate = true, .qk_norm = QK_NORM_HEAD, .recurrent = &attention_delta_net, .recurrent_period = 4
#define EXPERTS .shared_gated = true, .router = {.kind = &router_softmax, .normalize = true}

const struct family family_qwen3next = {
    .name = "qwen3next",
    .facts = {HYBRID, EXPERTS, .delta = {.joined_gates = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_DELTA),
    .aliases = aliases,
    .widths_from_ff = true,
    .hf = hf_qwen3next,
};

const struct family family_qwen35moe = {
    .name = "qwen35moe",
    .facts = {HYBRID, EXPERTS, .delta = {.tiled = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_DELTA) | KEYS(KEY_SECTIONS),
    .aliases = aliases,
    .widths_from_ff = true,
    .hf = hf_qwen35moe,
};

const struct family family_qwen35 = {
    .name = "qwen35",
    .facts = {HYBRID, .delta = {.tiled = true}},
    .keys = KEYS(KEY_DELTA) | KEYS(KEY_SECTIONS),
    .aliases = aliases,
    .hf = hf_qwen35,
};
