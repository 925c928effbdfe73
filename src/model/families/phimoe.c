/* Phi-3.5-MoE (Microsoft 2024), twice. `phimoe` is what its GGUF files are everywhere run as: RMS norms with a bias, a
 * softmax router whose weights are normalised. `phimoe-mixer` is the model as it was trained and as its directory is
 * run: LayerNorm, SparseMixer. No other engine has a GGUF of that, so the name is this project's; under the old one the
 * same weights would silently give other results. */
#include "model/family.h"

const struct family family_phimoe = {
    .name = "phimoe",
    .facts = {.norm_bias = true,
              .qkv_bias = true,
              .o_bias = true,
              .output_bias = true,
              .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_WINDOW),
    .experts_in_ff = true,
    .needs_output = true,
};

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "phimoe-mixer: expected a model with experts; save as cadre");
    return CADRE_OK;
}

const struct family family_phimoe_mixer = {
    .name = "phimoe-mixer",
    .facts = {.norm = NORM_LAYER, .norm_bias = true, .router = {.kind = &router_sparse_mixer}},
    .keys = KEYS(KEY_THRESHOLD) | KEYS(KEY_LONG_FACTOR),
    .experts_in_ff = true,
    .can_write = can_write,
    .hf = hf_phimoe,
};
