/* Qwen3, dense and MoE: per-head query and key norms before rope; weights renormalised. */
#include "model/family.h"

const struct family family_qwen3 = {
    .name = "qwen3",
    .facts = {.qk_norm = QK_NORM_HEAD},
};

const struct family family_qwen3moe = {
    .name = "qwen3moe",
    .facts = {.qk_norm = QK_NORM_HEAD, .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF),
};
