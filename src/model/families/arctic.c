/* Arctic (Snowflake 2024): a dense FFN as wide as the model in every layer, and beside it experts that read the layer's
 * input, under a norm of their own. */
#include "model/family.h"

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)g;
    CHECK(err, s->n_expert > 0, CADRE_E_FORMAT, "arctic.expert_count: expected at least 1, found %d", s->n_expert);
    s->dense_ff = s->d_model;
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0 && s->dense_ff == s->d_model, CADRE_E_UNSUPPORTED,
          "arctic: expected experts, and dense layers as wide as the model (%lld), found %lld; save as cadre",
          (long long)s->d_model, (long long)s->dense_ff);
    return CADRE_OK;
}

const struct family family_arctic = {
    .name = "arctic",
    .facts = {.rope_pairs = true, .moe_side = MOE_BESIDE, .router = {.kind = &router_softmax, .normalize = true}},
    .experts_in_ff = true,
    .read = read,
    .can_write = can_write,
    .hf = hf_arctic,
};
