/* ERNIE 4.5 (Baidu 2025): MoE in every n-th layer after some dense ones; softmax, a selection bias on it, weights
 * renormalised. */
#include "model/family.h"

const struct family family_ernie4_5_moe = {
    .name = "ernie4_5-moe",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_MOE_PERIOD),
    .hf = hf_ernie,
};
