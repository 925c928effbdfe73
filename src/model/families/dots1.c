/* dots.llm1 (rednote-hilab 2025): attention as Qwen3's, experts as DeepSeek-V3's. */
#include "model/family.h"

const struct family family_dots1 = {
    .name = "dots1",
    .facts = {.qk_norm = QK_NORM_HEAD, .router = {.kind = &router_sigmoid}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_GATING) |
            KEYS(KEY_WEIGHTS_NORM) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .hf = hf_dots1,
};
