/* MiniMax-M2 (2025): query and key norms over the whole projection, a part of each head rotated, sigmoid with a
 * selection bias, weights renormalised. */
#include "model/family.h"

const struct family family_minimax_m2 = {
    .name = "minimax-m2",
    .facts = {.qk_norm = QK_NORM_FULL, .router_bias = true, .router = {.kind = &router_sigmoid, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_GATING) | KEYS(KEY_WEIGHTS_SCALE),
    .experts_in_ff = true,
    .needs_output = true,
    .hf = hf_minimax,
};
