/* DeepSeek-V2, V3, R1, Kimi-K2 and models of their form: latent attention, leading dense layers, shared experts; from
 * V3 on sigmoid with a selection bias and groups of experts.
 *
 * Files describe what is cached: key_length = kv_lora_rank + rotated values, value_length = kv_lora_rank, one kv head;
 * the true widths of a head are in keys of their own. Older ones have keys and values of all heads in one matrix
 * (attn_kv_b), the true widths in the usual keys, and all heads as kv heads. */
#include "model/family.h"

#include <stdio.h>

static const char *const own_keys[] = {"attention.head_count_kv",    "attention.key_length",
                                       "attention.value_length",     "attention.key_length_mla",
                                       "attention.value_length_mla", NULL};

static cadre_err get(const struct gguf *g, const char *name, int64_t *out, cadre_error *err)
{
    char key[64];
    bool found;
    snprintf(key, sizeof key, "deepseek2.%s", name);
    return gguf_get_i64(g, key, out, &found, err);
}

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    TRY(get(g, "attention.key_length", &s->head_dim, err));
    TRY(get(g, "attention.value_length", &s->v_dim, err));
    TRY(get(g, "attention.key_length_mla", &s->head_dim, err));
    TRY(get(g, "attention.value_length_mla", &s->v_dim, err));
    bool glm_lite = (s->n_layer == 47 || s->n_layer == 48) && s->n_vocab == 154880; /* GLM-4.7-Flash, early files */
    if (!s->router.kind)
        s->router.kind = glm_lite ? &router_sigmoid : &router_softmax;
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "deepseek2: expected a model with experts; save as cadre");
    return CADRE_OK;
}

static cadre_err put(struct gguf_writer *w, const char *name, int64_t value, cadre_error *err)
{
    char key[64];
    snprintf(key, sizeof key, "deepseek2.%s", name);
    return gguf_put_u32(w, key, (uint32_t)value, err);
}

static cadre_err write(struct gguf_writer *w, const struct spec *s, cadre_error *err)
{
    TRY(put(w, "attention.head_count_kv", 1, err));
    TRY(put(w, "attention.key_length", s->kv_rank + s->n_rot, err));
    TRY(put(w, "attention.value_length", s->kv_rank, err));
    TRY(put(w, "attention.key_length_mla", s->head_dim, err));
    return put(w, "attention.value_length_mla", s->v_dim, err);
}

const struct family family_deepseek2 = {
    .name = "deepseek2",
    .facts = {.attention = &attention_mla, .rope_pairs = true},
    .keys = KEYS(KEY_LATENT) | KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) |
            KEYS(KEY_GATING) | KEYS(KEY_WEIGHTS_NORM) | KEYS(KEY_WEIGHTS_SCALE) | KEYS(KEY_GROUP_BEST),
    .own_keys = own_keys,
    .read = read,
    .can_write = can_write,
    .write = write,
    .hf = hf_deepseek2,
};
