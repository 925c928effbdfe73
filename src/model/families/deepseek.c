/* DeepSeekMoE (Dai et al. 2024): leading dense layers, always-on shared experts, weights not renormalised. */
#include "model/family.h"

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "deepseek: expected a model with experts; save as llama");
    return CADRE_OK;
}

const struct family family_deepseek = {
    .name = "deepseek",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .can_write = can_write,
};
