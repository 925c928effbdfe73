/* LFM2 (Liquid AI 2025), dense and MoE: short convolutions in most layers; those with kv heads attend. Sigmoid router
 * with a selection bias, leading dense layers. */
#include "model/family.h"

#include <stdio.h>

#include "model/attention.h"

static const struct tensor_alias aliases[] = {{"output_norm.weight", "token_embd_norm.weight"}, {NULL, NULL}};

/* Said by attention.head_count_kv here. */
static const char *const own_keys[] = {"attention.recurrent_layers", "full_attention_interval", NULL};

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    for (int i = 0; own_keys[i]; i++) {
        char key[96];
        snprintf(key, sizeof key, "%s.%s", s->family, own_keys[i]);
        CHECK(err, !gguf_has(g, key), CADRE_E_UNSUPPORTED,
              "key '%s': expected kv heads of 0 to mark layers that convolve", key);
    }
    s->recurrent_at.given = true;
    for (int64_t i = 0; i < s->n_layer && i < MODEL_MAX_LAYERS; i++)
        s->recurrent_at.at[i] = s->n_kv_head_at.given && s->n_kv_head_at.at[i] == 0;
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    for (int64_t i = 0; i < s->n_layer; i++) {
        struct layer_spec l = spec_layer(s, i);
        CHECK(err, (l.attention == &attention_short_conv) == (l.n_kv_head == 0), CADRE_E_UNSUPPORTED,
              "%s: expected no kv heads in layers that convolve and some in all others, found %lld in layer %lld; save "
              "as cadre",
              s->family, (long long)l.n_kv_head, (long long)i);
    }
    return CADRE_OK;
}

#define LAYERS .qk_norm = QK_NORM_HEAD, .recurrent = &attention_short_conv

const struct family family_lfm2 = {
    .name = "lfm2",
    .facts = {LAYERS},
    .keys = KEYS(KEY_SHORT_CONV),
    .aliases = aliases,
    .own_keys = own_keys,
    .read = read,
    .can_write = can_write,
    .hf = hf_lfm2,
};

const struct family family_lfm2moe = {
    .name = "lfm2moe",
    .facts = {LAYERS, .router_bias = true, .router = {.kind = &router_sigmoid, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_GATING) | KEYS(KEY_SHORT_CONV),
    .aliases = aliases,
    .own_keys = own_keys,
    .read = read,
    .can_write = can_write,
    .hf = hf_lfm2moe,
};
