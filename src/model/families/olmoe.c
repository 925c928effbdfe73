/* OLMoE (Muennighoff et al. 2024): query and key norms over the full projection, weights not renormalised. */
#include "model/family.h"

const struct family family_olmoe = {
    .name = "olmoe",
    .facts = {.qk_norm = QK_NORM_FULL, .router = {.kind = &router_softmax}},
    .experts_in_ff = true,
    .needs_output = true,
};
