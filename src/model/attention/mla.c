/* Multi-head latent attention (DeepSeek-V2, 2024, §2.1). A position leaves one latent row c and one rotated key part kᴿ
 * that all heads share:
 *
 *     [c | kᴿ] = W_kv_a h,  c = α_kv norm(c)   q = W_q h, or W_q_b (α_q norm(W_q_a h));  per head q = [qᶜ | qᴿ]
 *     plain:     k = [W_k c | rope(kᴿ)], v = W_v c, then attention with a key and a value for every head
 *     absorbed:  qᶜ · W_k c = (W_kᵀ qᶜ) · c: queries [W_kᵀ qᶜ | rope(qᴿ)] meet the rows [c | rope(kᴿ)] themselves, one
 *                kv head; what comes out is Σ p c, of which W_v makes the head's output
 *
 * The same numbers up to rounding. Absorbed, the cache keeps kv_rank + n_rot numbers a position, whatever the heads.
 * W_k is kept as [kv_rank, head_dim - n_rot] (as files have it), so plain turns it round. The α are 1 but in
 * LongCat-Flash (2025, §2.3.1): √(d / q_rank) and √(d / kv_rank) bring q and k to the variance of h. */
#include <math.h>

#include "model/attention.h"

static int64_t size_q_rank(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->q_rank;
}

static int64_t size_kv_rank(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->kv_rank;
}

static int64_t size_latent_row(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->kv_rank + s->n_rot;
}

static int64_t size_q(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head * s->head_dim;
}

static int64_t size_o(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head * s->v_dim;
}

static int64_t size_n_head(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head;
}

static int64_t size_still(const struct spec *s, int64_t layer) /* what does not turn */
{
    (void)layer;
    return s->head_dim - s->n_rot;
}

static int64_t size_v(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->v_dim;
}

static bool with_q_rank(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->q_rank > 0;
}

static bool without_q_rank(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->q_rank == 0;
}

static const struct tensor_def tensors[] = {
    {.name = "attn_q.weight", .field = LAYER(q), .size = {size_q, size_model}, .when = without_q_rank},
    {.name = "attn_q_a.weight", .field = LAYER(q_a), .size = {size_q_rank, size_model}, .when = with_q_rank},
    {.name = "attn_q_a_norm.weight",
     .field = LAYER(q_a_norm),
     SLOT_VECTOR,
     INIT_ONE,
     {size_q_rank},
     .when = with_q_rank},
    {.name = "attn_q_b.weight", .field = LAYER(q_b), .size = {size_q, size_q_rank}, .when = with_q_rank},
    {.name = "attn_kv_a_mqa.weight", .field = LAYER(kv_a), .size = {size_latent_row, size_model}},
    {.name = "attn_kv_a_norm.weight", .field = LAYER(kv_a_norm), SLOT_VECTOR, INIT_ONE, {size_kv_rank}},
    {.name = "attn_k_b.weight",
     .field = LAYER(k_b),
     .size = {size_n_head, size_kv_rank, size_still},
     .flags = TENSOR_TURNS},
    {.name = "attn_v_b.weight", .field = LAYER(v_b), .size = {size_n_head, size_v, size_kv_rank}},
    {.name = "attn_output.weight", .field = LAYER(o), SLOT_WEIGHT, INIT_RESIDUAL, {size_model, size_o}},
};

static cadre_err check(const struct spec *s, const struct layer_spec *l, cadre_error *err)
{
    CHECK(err, s->kv_rank >= 1 && s->kv_rank <= INT32_MAX, CADRE_E_FORMAT,
          "attention.kv_lora_rank: expected at least 1, found %lld", (long long)s->kv_rank);
    CHECK(err, s->q_rank >= 0 && s->q_rank <= INT32_MAX, CADRE_E_FORMAT,
          "attention.q_lora_rank: expected at least 0, found %lld", (long long)s->q_rank);
    CHECK(err, s->q_latent_scale > 0 && isfinite(s->q_latent_scale), CADRE_E_FORMAT,
          "attention.q_lora_scale: expected a number above 0, found %g", (double)s->q_latent_scale);
    CHECK(err, s->kv_latent_scale > 0 && isfinite(s->kv_latent_scale), CADRE_E_FORMAT,
          "attention.kv_lora_scale: expected a number above 0, found %g", (double)s->kv_latent_scale);
    CHECK(err, s->q_rank > 0 || s->q_latent_scale == 1, CADRE_E_FORMAT,
          "attention.q_lora_scale: expected 1 without attention.q_lora_rank, found %g", (double)s->q_latent_scale);
    CHECK(err, s->n_rot < s->head_dim, CADRE_E_FORMAT,
          "rope.dimension_count: expected less than the width of a head (%lld), found %lld", (long long)s->head_dim,
          (long long)s->n_rot);
    CHECK(err,
          !s->qkv_bias && !s->o_bias && !s->sinks && !s->attention_gate && s->qk_norm == QK_NORM_NONE && !s->no_rope &&
              s->attention_scale == 0,
          CADRE_E_UNSUPPORTED,
          "latent attention: biases, sinks, gates, query and key norms, a scale of its own are not supported");
    (void)l;
    return CADRE_OK;
}

static struct kv_width cache(const struct spec *s, const struct layer_spec *l, enum mla_form mla)
{
    if (mla == MLA_ABSORBED)
        return (struct kv_width){.heads = 1, .k = s->kv_rank + s->n_rot};
    return (struct kv_width){.heads = l->n_head, .k = s->head_dim, .v = s->v_dim};
}

/* The columns from … of each of `heads` parts of every row, as [n heads, width]. */
static struct tensor *part(struct op_ctx *c, struct tensor *x, int64_t heads, int64_t from, int64_t width)
{
    int64_t rows = tensor_rows(x) * heads, cols = tensor_cols(x) / heads;
    return op_slice_cols(c, op_reshape(c, x, 2, (int64_t[]){rows, cols}), from, width);
}

static struct tensor *flat(struct op_ctx *c, struct tensor *x, int64_t n)
{
    return op_reshape(c, x, 2, (int64_t[]){n, tensor_count(x) / n});
}

/* scale · norm(x) */
static struct tensor *latent_norm(struct op_ctx *c, const struct spec *s, struct tensor *x, struct tensor *w,
                                  real scale)
{
    x = op_rmsnorm(c, x, w, s->norm_eps);
    return scale != 1 ? op_scale(c, x, scale) : x;
}

static struct tensor *queries(struct op_ctx *c, const struct attend *a, struct tensor *h)
{
    const struct layer *l = &a->m->layers[a->layer];
    const struct spec *s = &a->m->spec;
    if (s->q_rank == 0)
        return op_linear(c, h, &l->q, NULL);
    struct tensor *low = latent_norm(c, s, op_linear(c, h, &l->q_a, NULL), l->q_a_norm, s->q_latent_scale);
    return op_linear(c, low, &l->q_b, NULL);
}

/* x [n, width] once for each head → [n heads, width] */
static struct tensor *for_heads(struct op_ctx *c, struct tensor *x, int64_t heads)
{
    int64_t n = tensor_rows(x) * heads;
    int32_t *row = arena_alloc(c->arena, (size_t)n * sizeof *row);
    for (int64_t i = 0; !c->dry && i < n; i++)
        row[i] = (int32_t)(i / heads);
    return op_gather_rows(c, x, row, n);
}

/* DeepSeek-V2 with YaRN: cos and sin by the usual factor F unless a log multiplier λ is given, scores by
 * (F (1 + λ ln s))² besides 1 / √head_dim. */
static real score_scale(const struct spec *s, const struct rope *rope)
{
    double m = 1;
    if (spec_has_yarn(s))
        m = (double)rope->scale * (1 + (double)s->yarn_log_multiplier * log((double)s->yarn_factor));
    return (real)(m * m / sqrt((double)s->head_dim));
}

static struct tensor *forward(struct op_ctx *c, const struct attend *a, struct tensor *h)
{
    const struct spec *s = &a->m->spec;
    const struct layer *l = &a->m->layers[a->layer];
    int64_t n = tensor_rows(h), heads = a->l.n_head, still = s->head_dim - s->n_rot;
    struct rope inside = *a->rope; /* the last n_rot values of a head turn */
    inside.first = still;
    struct tensor *q = op_rope(c, queries(c, a, h), s->head_dim, a->b->position, &inside);
    struct tensor *kv = op_linear(c, h, &l->kv_a, NULL);
    struct tensor *latent = op_slice_cols(c, kv, 0, s->kv_rank);
    latent = latent_norm(c, s, latent, l->kv_a_norm, s->kv_latent_scale);
    struct tensor *turned = op_rope(c, op_slice_cols(c, kv, s->kv_rank, s->n_rot), s->n_rot, a->b->position, a->rope);
    struct attention shape = {.n_head = heads, .scale = score_scale(s, a->rope), .window = a->l.window};
    struct tensor *y;
    if (a->m->mla == MLA_ABSORBED) {
        shape.n_kv_head = 1;
        shape.head_dim = s->kv_rank + s->n_rot;
        shape.v_dim = s->kv_rank;
        struct tensor *absorbed = op_linear_heads(c, flat(c, part(c, q, heads, 0, still), n), &l->k_b);
        q = op_concat_cols(c, part(c, absorbed, heads, 0, s->kv_rank), part(c, q, heads, still, s->n_rot));
        y = attend_rows(c, a, flat(c, q, n), op_concat_cols(c, latent, turned), NULL, shape);
        y = op_linear_heads(c, y, &l->v_b);
    } else {
        shape.n_kv_head = heads;
        shape.head_dim = s->head_dim;
        shape.v_dim = s->v_dim;
        struct tensor *all = flat(c, for_heads(c, latent, heads), n);
        struct tensor *k = part(c, op_linear_heads(c, all, &l->k_b), heads, 0, still);
        k = op_concat_cols(c, k, for_heads(c, turned, heads));
        y = attend_rows(c, a, q, flat(c, k, n), op_linear_heads(c, all, &l->v_b), shape);
    }
    return op_linear(c, y, &l->o, NULL);
}

const struct attention_kind attention_mla = {
    .name = "mla",
    .tensors = {tensors, sizeof tensors / sizeof *tensors},
    .check = check,
    .cache = cache,
    .forward = forward,
};
