/* DeepSeekMoE (Dai et al. 2024): leading dense layers, always-on shared experts, weights not renormalised. The shared
 * experts are one FFN as wide as all of them together; the file says how many. */
#include "model/family.h"

static const char *const own_keys[] = {"expert_shared_count", NULL};

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    int64_t n = 0;
    bool found;
    TRY(gguf_get_i64(g, "deepseek.expert_shared_count", &n, &found, err));
    CHECK(err, n >= 0 && n <= MODEL_MAX_EXPERTS, CADRE_E_FORMAT,
          "deepseek.expert_shared_count: expected 0 to %d, found %lld", MODEL_MAX_EXPERTS, (long long)n);
    CHECK(err, s->expert_ff >= 0 && s->expert_ff <= INT32_MAX, CADRE_E_FORMAT,
          "deepseek.expert_feed_forward_length: expected a width, found %lld", (long long)s->expert_ff);
    s->shared_ff = n * s->expert_ff;
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "deepseek: expected a model with experts; save as llama");
    CHECK(err, s->shared_ff % s->expert_ff == 0, CADRE_E_UNSUPPORTED,
          "deepseek: expected a shared width that is a multiple of the experts' (%lld), found %lld; save as cadre",
          (long long)s->expert_ff, (long long)s->shared_ff);
    return CADRE_OK;
}

static cadre_err write(struct gguf_writer *w, const struct spec *s, cadre_error *err)
{
    return gguf_put_u32(w, "deepseek.expert_shared_count", (uint32_t)(s->shared_ff / s->expert_ff), err);
}

const struct family family_deepseek = {
    .name = "deepseek",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .own_keys = own_keys,
    .read = read,
    .can_write = can_write,
    .write = write,
};
