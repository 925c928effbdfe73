/* Positions: rope_theta and rope_scaling, or both in rope_parameters (transformers 5). */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/names.h"
#include "model/hf/config.h"

/* The object that describes the scaling; NULL: none. */
static cadre_err scaling_of(const struct hf_config *c, const json_t **out, const char **type, cadre_error *err)
{
    bool found;
    *type = "default";
    *out = json_object_get(c->root, "rope_parameters");
    if (!*out || json_is_null(*out))
        *out = json_object_get(c->root, "rope_scaling");
    if (!*out || json_is_null(*out)) {
        *out = NULL;
        return CADRE_OK;
    }
    CHECK(err, json_is_object(*out), CADRE_E_FORMAT, "%s: key 'rope_scaling': expected an object or null", c->path);
    TRY(hf_get_text(c, *out, "type", type, &found, err));
    return hf_get_text(c, *out, "rope_type", type, &found, err);
}

/* YaRN (Peng et al. 2023) as transformers has it: cos and sin times attention_factor, which is 0.1 ln f + 1 unless
 * given. DeepSeek: with m(x) = 0.1 x ln f + 1 they are multiplied by F = m(mscale) / m(mscale_all_dim) instead, and
 * scores by m(mscale_all_dim)². Here the log multiplier λ makes it (F (1 + λ ln f))² with F the attention factor. */
static cadre_err put_yarn_attention(const struct hf_config *c, const json_t *r, double factor, struct hf_keys *k,
                                    cadre_error *err)
{
    double given = 0, mscale = 0, all = 0;
    bool has_given, has_mscale, has_all;
    TRY(hf_get_real(c, r, "attention_factor", &given, &has_given, err));
    TRY(hf_get_real(c, r, "mscale", &mscale, &has_mscale, err));
    TRY(hf_get_real(c, r, "mscale_all_dim", &all, &has_all, err));
    if (has_all && all != 0) {
        double log_factor = factor > 1 ? log(factor) : 0, of_all = 0.1 * all * log_factor + 1;
        CHECK(err, !has_given, CADRE_E_UNSUPPORTED,
              "%s: key 'rope_scaling': attention_factor besides mscale_all_dim is not supported", c->path);
        if (!has_mscale || mscale == all || log_factor == 0)
            return hf_put_real(k, "rope.scaling.yarn_log_multiplier", 0.1 * all, err);
        double turned = (0.1 * mscale * log_factor + 1) / of_all, multiplier = (of_all / turned - 1) / log_factor;
        CHECK(err, turned > 0 && of_all > 0 && multiplier != 0, CADRE_E_UNSUPPORTED,
              "%s: key 'rope_scaling': this mscale (%g) does not go with this mscale_all_dim (%g)", c->path, mscale,
              all);
        TRY(hf_put_real(k, "rope.scaling.attn_factor", turned, err));
        return hf_put_real(k, "rope.scaling.yarn_log_multiplier", multiplier, err);
    }
    double own = factor > 1 ? 0.1 * log(factor) + 1 : 1;
    if (has_given && given != own)
        return hf_put_real(k, "rope.scaling.attn_factor", given / own, err);
    return CADRE_OK;
}

static cadre_err put_yarn(const struct hf_config *c, const json_t *r, struct hf_keys *k, cadre_error *err)
{
    double factor = 0, fast = 32, slow = 1;
    int64_t context = 0;
    bool found;
    TRY(hf_get_real(c, r, "factor", &factor, NULL, err));
    TRY(hf_get_int(c, r, "original_max_position_embeddings", 1, INT_MAX, &context, &found, err));
    if (!found)
        TRY(hf_get_int(c, c->root, "max_position_embeddings", 1, INT_MAX, &context, NULL, err));
    TRY(hf_put_real(k, "rope.scaling.factor", factor, err));
    TRY(hf_put_int(k, "rope.scaling.original_context_length", context, err));
    TRY(hf_get_real(c, r, "beta_fast", &fast, &found, err));
    TRY(hf_get_real(c, r, "beta_slow", &slow, &found, err));
    if (fast != 32)
        TRY(hf_put_real(k, "rope.scaling.yarn_beta_fast", fast, err));
    if (slow != 1)
        TRY(hf_put_real(k, "rope.scaling.yarn_beta_slow", slow, err));
    return put_yarn_attention(c, r, factor, k, err);
}

/* The context of pre-training: in the object, else in the config. */
static cadre_err original_context(const struct hf_config *c, const json_t *r, int64_t *context, cadre_error *err)
{
    static const char key[] = "original_max_position_embeddings";
    bool found;
    TRY(hf_get_int(c, r, key, 1, INT_MAX, context, &found, err));
    return found ? CADRE_OK : hf_get_int(c, c->root, key, 1, INT_MAX, context, NULL, err);
}

/* LongRoPE (Ding et al. 2024): cos and sin times short_mscale and long_mscale (Phi-3.5-MoE), else attention_factor,
 * else √(1 + ln f / ln C), f how many times longer the context is than that of pre-training, C. */
static cadre_err put_longrope(const struct hf_config *c, const json_t *r, struct hf_keys *k, cadre_error *err)
{
    int64_t original = 0, context = 0;
    double factor, given;
    bool found, has_short, has_long;
    TRY(original_context(c, r, &original, err));
    TRY(hf_get_int(c, c->root, "max_position_embeddings", 1, INT_MAX, &context, NULL, err));
    factor = (double)context / (double)original;
    TRY(hf_get_real(c, r, "factor", &factor, &found, err));
    given = factor > 1 && original > 1 ? sqrt(1 + log(factor) / log((double)original)) : 1;
    TRY(hf_get_real(c, r, "attention_factor", &given, &found, err));
    double of_short = given, of_long = given;
    TRY(hf_get_real(c, r, "short_mscale", &of_short, &has_short, err));
    TRY(hf_get_real(c, r, "long_mscale", &of_long, &has_long, err));
    CHECK(err, of_short > 0 && of_long > 0 && has_short == has_long, CADRE_E_FORMAT,
          "%s: key 'rope_scaling': expected short_mscale and long_mscale above 0, or neither", c->path);
    TRY(hf_put_int(k, "rope.scaling.original_context_length", original, err));
    TRY(hf_put_real(k, "rope.scaling.attn_factor", of_short, err));
    return of_long == of_short ? CADRE_OK : hf_put_real(k, "rope.scaling.attn_factor_long", of_long, err);
}

static cadre_err put_type(struct hf_keys *k, const char *type, cadre_error *err)
{
    char key[128];
    snprintf(key, sizeof key, "%s.rope.scaling.type", k->architecture);
    return gguf_put_string(k->w, key, type, strlen(type), err);
}

cadre_err hf_rope_keys(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    const json_t *r;
    const char *type;
    bool found;
    double base = c->hf->rope_base != 0 ? c->hf->rope_base : 10000, factor;
    TRY(scaling_of(c, &r, &type, err));
    TRY(hf_get_real(c, c->root, "rope_theta", &base, &found, err));
    if (!found && r)
        TRY(hf_get_real(c, r, "rope_theta", &base, &found, err));
    CHECK(err, base > 0, CADRE_E_FORMAT, "%s: key 'rope_theta': expected a number above 0, found %g", c->path, base);
    if (!hf_key_own(c->hf, "rope.freq_base"))
        TRY(hf_put_real(k, "rope.freq_base", base, err));
    if (strcmp(type, "default") == 0 || strcmp(type, "llama3") == 0)
        return CADRE_OK; /* the latter is a tensor: hf_rope_factors */
    if (strcmp(type, "yarn") == 0) {
        TRY(put_type(k, type, err));
        return put_yarn(c, r, k, err);
    }
    if (strcmp(type, "longrope") == 0) {
        TRY(put_type(k, type, err));
        return put_longrope(c, r, k, err);
    }
    CHECK(err, strcmp(type, "linear") == 0, CADRE_E_UNSUPPORTED,
          "%s: key 'rope_scaling': only default, linear, yarn, llama3 and longrope are supported, found '%s'", c->path,
          shown(type, strlen(type)).s);
    TRY(hf_get_real(c, r, "factor", &factor, NULL, err));
    TRY(put_type(k, type, err));
    return hf_put_real(k, "rope.scaling.factor", factor, err);
}

/* Llama 3.1: frequencies whose wave is longer than context / low are divided by the factor, those shorter than
 * context / high stay, between them the two are mixed. */
static cadre_err llama3_factors(const struct hf_config *c, const json_t *r, int64_t n_rot, struct hf_made *made,
                                cadre_error *err)
{
    double base = c->hf->rope_base != 0 ? c->hf->rope_base : 10000, factor, low, high;
    int64_t context;
    bool found;
    TRY(hf_get_real(c, c->root, "rope_theta", &base, &found, err));
    if (!found)
        TRY(hf_get_real(c, r, "rope_theta", &base, &found, err));
    TRY(hf_get_real(c, r, "factor", &factor, NULL, err));
    TRY(hf_get_real(c, r, "low_freq_factor", &low, NULL, err));
    TRY(hf_get_real(c, r, "high_freq_factor", &high, NULL, err));
    TRY(hf_get_int(c, r, "original_max_position_embeddings", 1, INT_MAX, &context, NULL, err));
    CHECK(err, factor > 0 && high > low && low > 0 && base > 0, CADRE_E_FORMAT,
          "%s: key 'rope_scaling': expected factor and low_freq_factor above 0, high_freq_factor above that", c->path);
    made->gguf = "rope_freqs.weight";
    made->n = n_rot / 2;
    made->value = malloc((size_t)(made->n + 1) * sizeof(float));
    CHECK(err, made->value, CADRE_E_MEMORY, "%s: no memory for %lld frequencies", c->path, (long long)made->n);
    for (int64_t i = 0; i < made->n; i++) {
        double wave = 2 * M_PI * pow(base, 2.0 * (double)i / (double)n_rot);
        double mix = ((double)context / wave - low) / (high - low);
        mix = mix < 0 ? 0 : mix > 1 ? 1 : mix;
        made->value[i] = (float)(1 / ((1 - mix) / factor + mix));
    }
    return CADRE_OK;
}

static cadre_err longrope_factors(const struct hf_config *c, const json_t *r, int64_t n_rot,
                                  struct hf_made made[HF_MAX_MADE], int *n, cadre_error *err)
{
    static const char *const names[][2] = {{"short_factor", "rope_factors_short.weight"},
                                           {"long_factor", "rope_factors_long.weight"}};
    for (int i = 0; i < 2; i++) {
        struct hf_made *m = &made[(*n)++];
        *m = (struct hf_made){.gguf = names[i][1], .n = n_rot / 2};
        m->value = malloc((size_t)(m->n + 1) * sizeof(float));
        CHECK(err, m->value, CADRE_E_MEMORY, "%s: no memory for %lld frequencies", c->path, (long long)m->n);
        TRY(hf_get_reals(c, r, names[i][0], m->n, m->value, err));
        for (int64_t j = 0; j < m->n; j++)
            CHECK(err, m->value[j] > 0, CADRE_E_FORMAT, "%s: key '%s': expected numbers above 0, found %g", c->path,
                  names[i][0], (double)m->value[j]);
    }
    return CADRE_OK;
}

cadre_err hf_rope_factors(const struct hf_config *c, int64_t n_rot, struct hf_made made[HF_MAX_MADE], int *n,
                          cadre_error *err)
{
    const json_t *r;
    const char *type;
    *n = 0;
    TRY(scaling_of(c, &r, &type, err));
    if (strcmp(type, "longrope") == 0)
        return longrope_factors(c, r, n_rot, made, n, err);
    if (strcmp(type, "llama3") != 0)
        return CADRE_OK;
    made[(*n)++] = (struct hf_made){0};
    return llama3_factors(c, r, n_rot, &made[0], err);
}
