#include "model/spec.h"

#include <math.h>
#include <stddef.h>

#include "base/checked.h"
#include "model/attention.h"
#include "model/experts.h"

/* Bounds far beyond any model, so that products of two of them cannot overflow. */
enum { MAX_HEADS = 1 << 14, MAX_HEAD_DIM = 1 << 16, MAX_WIDTH = 1 << 24, MAX_VOCAB = 1 << 26, MAX_CTX = 1 << 30 };
static const uint64_t max_parameters = (uint64_t)1 << 46; /* with gradients and f64 still far below 2^63 bytes */

static int64_t at(const struct layer_list *list, int64_t layer, int64_t otherwise)
{
    return list->given ? list->at[layer] : otherwise;
}

bool spec_layer_is_moe(const struct spec *s, int64_t layer)
{
    if (s->n_expert > 0 && s->moe_side == MOE_SHORTCUT)
        return layer % 2 == 0;
    return s->n_expert > 0 && layer >= s->n_dense_leading && (s->moe_period <= 1 || (layer + 1) % s->moe_period == 0);
}

bool spec_layer_is_dense(const struct spec *s, int64_t layer)
{
    return s->moe_side != MOE_INSTEAD || !spec_layer_is_moe(s, layer);
}

static bool slides(const struct spec *s, int64_t layer)
{
    if (s->slides.given)
        return s->slides.at[layer] != 0;
    if (s->window_period <= 0)
        return true;
    return layer % s->window_period != (s->window_full_first ? 0 : s->window_period - 1);
}

static bool recurs(const struct spec *s, int64_t layer)
{
    if (!s->recurrent)
        return false;
    if (s->recurrent_at.given)
        return s->recurrent_at.at[layer] != 0;
    return s->recurrent_period <= 0 || (layer + 1) % s->recurrent_period != 0;
}

struct layer_spec spec_layer(const struct spec *s, int64_t layer)
{
    int64_t window = s->window > 0 && slides(s, layer) ? s->window : 0;
    return (struct layer_spec){
        .attention = recurs(s, layer) ? s->recurrent : s->attention,
        .n_head = at(&s->n_head_at, layer, s->n_head),
        .n_kv_head = at(&s->n_kv_head_at, layer, s->n_kv_head),
        .window = window,
        .rope = !s->no_rope && (!s->rope_sliding_only || window > 0),
        .moe = spec_layer_is_moe(s, layer),
        .dense = spec_layer_is_dense(s, layer),
        .dense_ff = at(&s->dense_ff_at, layer, s->dense_ff),
    };
}

/* A list of equal numbers is one number. */
static void settle(struct layer_list *list, int64_t n_layer, int64_t *number)
{
    if (!list->given || n_layer < 1 || n_layer > MODEL_MAX_LAYERS)
        return;
    for (int64_t i = 1; i < n_layer; i++)
        if (list->at[i] != list->at[0]) {
            *number = list->at[0];
            return;
        }
    *number = list->at[0];
    list->given = false;
}

static void default_real(real *x, real otherwise)
{
    if (*x == 0)
        *x = otherwise;
}

static void default_position(struct spec *s)
{
    s->n_rot = s->n_rot ? s->n_rot : s->head_dim;
    default_real(&s->rope_base, 10000);
    default_real(&s->rope_linear, 1);
    default_real(&s->yarn_factor, 1);
    s->yarn_ctx = s->yarn_ctx ? s->yarn_ctx : s->n_ctx;
    default_real(&s->yarn_beta_fast, 32);
    default_real(&s->yarn_beta_slow, 1);
    default_real(&s->rope_attention_factor, 1);
}

void spec_defaults(struct spec *s)
{
    settle(&s->n_head_at, s->n_layer, &s->n_head);
    settle(&s->n_kv_head_at, s->n_layer, &s->n_kv_head);
    settle(&s->dense_ff_at, s->n_layer, &s->dense_ff);
    int64_t per_head = s->n_head > 0 ? s->d_model / s->n_head : 0;
    s->attention = s->attention ? s->attention : &attention_grouped;
    s->n_kv_head = s->n_kv_head || s->n_kv_head_at.given ? s->n_kv_head : s->n_head;
    s->head_dim = s->head_dim ? s->head_dim : per_head;
    s->v_dim = s->v_dim ? s->v_dim : per_head;
    default_position(s);
    default_real(&s->embedding_scale, 1);
    default_real(&s->residual_scale, 1);
    default_real(&s->logit_divisor, 1);
    default_real(&s->q_latent_scale, 1);
    default_real(&s->kv_latent_scale, 1);
    if (s->window == 0) {
        s->window_period = 0;
        s->window_full_first = s->rope_sliding_only = false;
        s->slides.given = false;
    }
    if (!s->recurrent || s->recurrent_at.given)
        s->recurrent_period = 0;
    s->recurrent_at.given = s->recurrent && s->recurrent_at.given;
    s->moe_period = s->n_expert > 0 && s->moe_period ? s->moe_period : 1;
    s->router.n_expert = s->n_expert > 0 ? spec_choices(s) : 0;
    s->router.n_light = s->router.n_expert - s->n_expert;
    s->schedule = s->k_min > 0 ? s->schedule : NULL;
    if (s->router.groups.n <= 1)
        s->router.groups = (struct topk_groups){0};
    else {
        if (s->router.groups.best == 0)
            s->router.groups.best = 2; /* DeepSeek-V3 */
        if (s->router.groups.used == 0)
            s->router.groups.used = s->router.groups.n;
    }
    default_real(&s->router.scale, 1);
    default_real(&s->router.temperature, 2); /* EvoMoE */
    s->router.kind = s->router.kind ? s->router.kind : &router_softmax;
    s->expert_kind = s->expert_kind ? s->expert_kind : &expert_swiglu;
}

struct range {
    const char *name;
    int64_t value, min, max;
};

static cadre_err check_ranges(const struct range *r, size_t n, cadre_error *err)
{
    for (size_t i = 0; i < n; i++)
        CHECK(err, r[i].value >= r[i].min && r[i].value <= r[i].max, CADRE_E_FORMAT,
              "%s: expected %lld to %lld, found %lld", r[i].name, (long long)r[i].min, (long long)r[i].max,
              (long long)r[i].value);
    return CADRE_OK;
}

static cadre_err check_positive(const char *name, real x, cadre_error *err)
{
    CHECK(err, x > 0 && isfinite(x), CADRE_E_FORMAT, "%s: expected a number above 0, found %g", name, (double)x);
    return CADRE_OK;
}

static cadre_err check_yarn(const struct spec *s, cadre_error *err)
{
    TRY(check_ranges(&(struct range){"rope.scaling.original_context_length", s->yarn_ctx, 1, MAX_CTX}, 1, err));
    TRY(check_positive("rope.scaling.factor", s->yarn_factor, err));
    TRY(check_positive("rope.scaling.yarn_beta_fast", s->yarn_beta_fast, err));
    TRY(check_positive("rope.scaling.yarn_beta_slow", s->yarn_beta_slow, err));
    CHECK(err, s->rope_base > 1, CADRE_E_FORMAT, "rope.freq_base: expected above 1 with YaRN, found %g",
          (double)s->rope_base);
    CHECK(err, s->rope_linear == 1, CADRE_E_FORMAT, "rope.scaling: linear (%g) and YaRN (%g) exclude each other",
          (double)s->rope_linear, (double)s->yarn_factor);
    return CADRE_OK;
}

static cadre_err check_position(const struct spec *s, cadre_error *err)
{
    TRY(check_ranges(&(struct range){"rope.dimension_count", s->n_rot, 2, MAX_HEAD_DIM}, 1, err));
    CHECK(err, s->n_rot % 2 == 0, CADRE_E_FORMAT, "rope.dimension_count: expected an even number, found %lld",
          (long long)s->n_rot);
    TRY(check_positive("rope.freq_base", s->rope_base, err));
    TRY(check_positive("rope.scaling.factor", s->rope_linear, err));
    CHECK(err, s->rope_attention_factor >= 0 && isfinite(s->rope_attention_factor), CADRE_E_FORMAT,
          "rope.scaling.attn_factor: expected 0 (none) or above, found %g", (double)s->rope_attention_factor);
    CHECK(err, s->rope_long_factor >= 0 && isfinite(s->rope_long_factor), CADRE_E_FORMAT,
          "rope.scaling.attn_factor_long: expected 0 (as attn_factor) or above, found %g", (double)s->rope_long_factor);
    CHECK(err, s->rope_long_factor == 0 || s->rope_factors, CADRE_E_FORMAT,
          "rope.scaling.attn_factor_long: expected with rope.scaling.type longrope only, found %g",
          (double)s->rope_long_factor);
    CHECK(err, isfinite(s->yarn_log_multiplier), CADRE_E_FORMAT,
          "rope.scaling.yarn_log_multiplier: expected a number, found %g", (double)s->yarn_log_multiplier);
    CHECK(err, !(s->rope_freqs && s->rope_factors), CADRE_E_FORMAT,
          "rope_freqs.weight and rope_factors_short.weight: expected at most one set of divisors, found both");
    for (int i = 0; i < 4; i++)
        TRY(check_ranges(&(struct range){"rope.dimension_sections", s->rope_sections[i], 0, MAX_HEAD_DIM}, 1, err));
    CHECK(err, !s->rope_factors || (s->rope_linear == 1 && !spec_has_yarn(s)), CADRE_E_FORMAT,
          "rope_factors_short.weight: expected no other scaling of rope, found linear (%g) or YaRN (%g)",
          (double)s->rope_linear, (double)s->yarn_factor);
    if (s->rope_factors)
        TRY(check_ranges(&(struct range){"rope.scaling.original_context_length", s->yarn_ctx, 1, MAX_CTX}, 1, err));
    return spec_has_yarn(s) ? check_yarn(s, err) : CADRE_OK;
}

static cadre_err check_attention(const struct spec *s, cadre_error *err)
{
    const struct range r[] = {
        {"attention.key_length", s->head_dim, 1, MAX_HEAD_DIM},
        {"attention.value_length", s->v_dim, 1, MAX_HEAD_DIM},
        {"qk_norm", s->qk_norm, QK_NORM_NONE, QK_NORM_FULL},
        {"attention.sliding_window", s->window, 0, MAX_CTX},
        {"attention.sliding_window_period", s->window_period, 0, MODEL_MAX_LAYERS},
        {"full_attention_interval", s->recurrent_period, 0, MODEL_MAX_LAYERS},
    };
    TRY(check_ranges(r, sizeof r / sizeof *r, err));
    CHECK(err, s->attention, CADRE_E_FORMAT, "no attention kind is set");
    CHECK(err, s->attention_scale >= 0 && isfinite(s->attention_scale), CADRE_E_FORMAT,
          "attention.scale: expected 0 (1/sqrt of the head) or above, found %g", (double)s->attention_scale);
    CHECK(err, s->qkv_clamp >= 0 && isfinite(s->qkv_clamp), CADRE_E_FORMAT,
          "attention.clamp_kqv: expected 0 (none) or above, found %g", (double)s->qkv_clamp);
    TRY(check_position(s, err));
    for (int64_t i = 0; i < s->n_layer; i++) {
        struct layer_spec l = spec_layer(s, i);
        TRY(check_ranges(&(struct range){"attention.head_count", l.n_head, 1, MAX_HEADS}, 1, err));
        TRY(l.attention->check(s, &l, err));
    }
    return CADRE_OK;
}

static cadre_err check_experts(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert >= 0 && s->n_expert <= MODEL_MAX_EXPERTS, CADRE_E_FORMAT,
          "expert_count: expected 0 to %d, found %d", MODEL_MAX_EXPERTS, s->n_expert);
    CHECK(err, s->expert_kind, CADRE_E_FORMAT, "no expert kind is set");
    for (int64_t i = 0; i < s->n_layer; i++) {
        struct layer_spec l = spec_layer(s, i);
        if (l.dense)
            TRY(check_ranges(&(struct range){"feed_forward_length", l.dense_ff, 1, MAX_WIDTH}, 1, err));
    }
    if (s->n_expert == 0)
        return CADRE_OK;
    const struct range r[] = {
        {"leading_dense_block_count", s->n_dense_leading, 0, s->n_layer - 1},
        {"interleave_moe_layer_step", s->moe_period, 1, s->n_layer},
        {"expert_feed_forward_length", s->expert_ff, 1, MAX_WIDTH},
        {"expert_shared_feed_forward_length", s->shared_ff, 0, MAX_WIDTH},
        {"expert_used_count", s->router.k, 1, spec_choices(s)},
    };
    TRY(spec_check_structure(s, err));
    TRY(check_ranges(r, sizeof r / sizeof *r, err));
    CHECK(err, s->router.n_expert == spec_choices(s), CADRE_E_FORMAT,
          "the router's number of experts: expected expert_count and the light ones (%d), found %d", spec_choices(s),
          s->router.n_expert);
    CHECK(err, s->moe_side != MOE_SHORTCUT || s->n_layer % 2 == 0, CADRE_E_FORMAT,
          "block_count: expected an even number, as experts are added a layer later, found %lld",
          (long long)s->n_layer);
    CHECK(err, !s->shared_gated || s->shared_ff > 0, CADRE_E_FORMAT,
          "expert_shared_feed_forward_length: expected at least 1 with a gated shared expert, found 0");
    CHECK(err, s->router.kind, CADRE_E_FORMAT, "no router is set");
    return router_config_check(&s->router, err);
}

static cadre_err check_scales(const struct spec *s, cadre_error *err)
{
    const struct {
        const char *name;
        real value;
    } scales[] = {{"embedding_scale", s->embedding_scale},
                  {"residual_scale", s->residual_scale},
                  {"logit_scale", s->logit_divisor},
                  {"final_logit_softcapping", s->logit_softcap}};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++)
        CHECK(err, isfinite(scales[i].value), CADRE_E_FORMAT, "%s: expected a number, found %g", scales[i].name,
              (double)scales[i].value);
    return CADRE_OK;
}

cadre_err spec_check(const struct spec *s, cadre_error *err)
{
    const struct range r[] = {
        {"block_count", s->n_layer, 1, MODEL_MAX_LAYERS},
        {"embedding_length", s->d_model, 1, MAX_WIDTH},
        {"vocab_size", s->n_vocab, 1, MAX_VOCAB},
        {"context_length", s->n_ctx, 1, MAX_CTX},
    };
    TRY(check_ranges(r, sizeof r / sizeof *r, err));
    TRY(check_positive("attention.layer_norm_rms_epsilon", s->norm_eps, err));
    TRY(check_scales(s, err));
    CHECK(err, s->logit_divisor != 0, CADRE_E_FORMAT, "logit_scale: expected a number other than 0");
    TRY(check_attention(s, err));
    TRY(check_experts(s, err));
    uint64_t total = 0, n;
    struct tensor_walk w = tensor_walk(s);
    while (tensor_next(&w))
        CHECK(err, tensor_size_ok(&w, &n) && add_ok(total, n, &total) && total <= max_parameters, CADRE_E_FORMAT,
              "the model: expected at most %llu parameters; its sizes make more", (unsigned long long)max_parameters);
    return CADRE_OK;
}

struct spec_counts spec_count(const struct spec *s)
{
    struct spec_counts c = {0};
    struct tensor_walk w = tensor_walk(s);
    while (tensor_next(&w)) {
        int64_t n = 1;
        for (int i = 0; i < w.n_dims; i++)
            n *= w.dim[i];
        c.parameters += n;
        if (!(w.def->flags & TENSOR_LOOKUP) || s->tied)
            c.active_parameters += llround((double)n * spec_tensor_uses(s, w.def, w.layer));
    }
    return c;
}

/* The pair that makes `turns` full turns within the context of pre-training. */
static double yarn_pair(const struct spec *s, double turns)
{
    static const double two_pi = 6.283185307179586;
    return (double)s->n_rot * log((double)s->yarn_ctx / (turns * two_pi)) / (2 * log((double)s->rope_base));
}

/* What YaRN multiplies cos and sin by. Plainly 0.1 ln s + 1 (§3.4); with a log multiplier, mscale (0.1 mscale ln s + 1)
 * over the same with mscale_all_dim, which the models that have it set to the same. */
static double yarn_magnitude(const struct spec *s)
{
    return spec_has_yarn(s) && s->yarn_log_multiplier == 0 ? 0.1 * log((double)s->yarn_factor) + 1 : 1;
}

/* Interleaved M-RoPE (Qwen3-VL): pair i follows axis i mod 3 (time, height, width) as long as that axis has pairs left.
 * In a text all three are the position; what belongs to no axis stands still. */
static bool pair_turns(const struct spec *s, int64_t i)
{
    const int32_t *n = s->rope_sections;
    int64_t sum = (int64_t)n[0] + n[1] + n[2] + n[3];
    return sum == 0 || i % sum < 3 * (int64_t)n[i % sum % 3];
}

/* θ_i = base^(-2i / n_rot) / divisor_i, then / linear; with YaRN (§3.2, §3.4) slow pairs are divided by the factor,
 * fast ones kept, those between mixed: θ_i' = (1 - γ) θ_i / s + γ θ_i, γ falling from 1 at `low` to 0 at `high`. */
real spec_rope(const struct spec *s, const real *freqs, real *inv_freq)
{
    double factor = (double)s->yarn_factor, low = 0, high = 0;
    if (spec_has_yarn(s)) {
        low = fmax(0, floor(yarn_pair(s, (double)s->yarn_beta_fast)));
        high = fmin((double)s->n_rot - 1, ceil(yarn_pair(s, (double)s->yarn_beta_slow)));
    }
    for (int64_t i = 0; i < s->n_rot / 2; i++) {
        double theta = pow((double)s->rope_base, -2.0 * (double)i / (double)s->n_rot) / (double)s->rope_linear;
        if (freqs)
            theta /= (double)freqs[i];
        if (spec_has_yarn(s)) {
            double keep = 1 - fmin(1, fmax(0, ((double)i - low) / fmax(0.001, high - low)));
            theta = (1 - keep) * theta / factor + keep * theta;
        }
        inv_freq[i] = pair_turns(s, i) ? (real)theta : 0;
    }
    return (real)((s->rope_attention_factor != 0 ? (double)s->rope_attention_factor : 1) * yarn_magnitude(s));
}

real spec_attention_scale(const struct spec *s)
{
    if (s->attention_scale != 0)
        return s->attention_scale;
    return (real)(1 / sqrt((double)s->head_dim));
}
