/* DBRX (Databricks 2024): LayerNorm without bias, queries, keys and values clamped, softmax router, weights
 * renormalised. Its norm before the experts is named after what it follows. */
#include "model/family.h"

static const struct tensor_alias aliases[] = {{"ffn_norm.weight", "attn_output_norm.weight"}, {NULL, NULL}};

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "dbrx: expected a model with experts; save as cadre");
    return CADRE_OK;
}

const struct family family_dbrx = {
    .name = "dbrx",
    .facts = {.norm = NORM_LAYER, .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_CLAMP) | KEYS(KEY_WEIGHTS_SCALE),
    .experts_in_ff = true,
    .needs_output = true,
    .aliases = aliases,
    .can_write = can_write,
    .hf = hf_dbrx,
};
