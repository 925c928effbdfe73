/* Grouped-query attention (Ainslie et al. 2023; multi-head when every head has keys of its own):
 *
 *     q, k, v = linear(h);  y = o(attention(rope(norm(q)), rope(norm(k)), v)) */
#include "model/attention.h"

static int64_t size_q(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head * s->head_dim;
}

static int64_t size_query(const struct spec *s, int64_t layer) /* with the gates of the heads */
{
    return (s->attention_gate ? 2 : 1) * size_q(s, layer);
}

static int64_t size_k(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_kv_head * s->head_dim;
}

static int64_t size_v(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_kv_head * s->v_dim;
}

static int64_t size_o(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head * s->v_dim;
}

static int64_t size_head(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).n_head;
}

static int64_t size_q_norm(const struct spec *s, int64_t layer)
{
    return s->qk_norm == QK_NORM_FULL ? size_q(s, layer) : s->head_dim;
}

static int64_t size_k_norm(const struct spec *s, int64_t layer)
{
    return s->qk_norm == QK_NORM_FULL ? size_k(s, layer) : s->head_dim;
}

static bool with_qk_norm(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->qk_norm != QK_NORM_NONE;
}

#define BIAS(n, f, s, o)                                                                                               \
    {                                                                                                                  \
        .name = n, .field = LAYER(f), .slot = SLOT_VECTOR, .init = INIT_ZERO, .size = {s}, .option = OPTION(o)         \
    }
#define NORM(n, f, s)                                                                                                  \
    {                                                                                                                  \
        .name = n, .field = LAYER(f), .slot = SLOT_VECTOR, .init = INIT_ONE, .size = {s}, .when = with_qk_norm         \
    }

static const struct tensor_def tensors[] = {
    {.name = "attn_q.weight", .field = LAYER(q), .size = {size_query, size_model}},
    {.name = "attn_k.weight", .field = LAYER(k), .size = {size_k, size_model}},
    {.name = "attn_v.weight", .field = LAYER(v), .size = {size_v, size_model}},
    BIAS("attn_q.bias", q_bias, size_query, qkv_bias),
    BIAS("attn_k.bias", k_bias, size_k, qkv_bias),
    BIAS("attn_v.bias", v_bias, size_v, qkv_bias),
    NORM("attn_q_norm.weight", q_norm, size_q_norm),
    NORM("attn_k_norm.weight", k_norm, size_k_norm),
    {.name = "attn_output.weight", .field = LAYER(o), SLOT_WEIGHT, INIT_RESIDUAL, {size_model, size_o}},
    BIAS("attn_output.bias", o_bias, size_model, o_bias),
    BIAS("attn_sinks.weight", sinks, size_head, sinks),
};

static cadre_err check(const struct spec *s, const struct layer_spec *l, cadre_error *err)
{
    CHECK(err, l->n_kv_head >= 1 && l->n_kv_head <= l->n_head, CADRE_E_FORMAT,
          "attention.head_count_kv: expected 1 to %lld, found %lld", (long long)l->n_head, (long long)l->n_kv_head);
    CHECK(err, l->n_head % l->n_kv_head == 0, CADRE_E_FORMAT,
          "attention.head_count: expected a multiple of head_count_kv (%lld), found %lld", (long long)l->n_kv_head,
          (long long)l->n_head);
    CHECK(err, !s->attention_gate || s->v_dim == s->head_dim, CADRE_E_FORMAT,
          "attention.value_length: expected key_length (%lld) with gated heads, found %lld", (long long)s->head_dim,
          (long long)s->v_dim);
    CHECK(err, s->n_rot <= s->head_dim, CADRE_E_FORMAT,
          "rope.dimension_count: expected at most the width of a head (%lld), found %lld", (long long)s->head_dim,
          (long long)s->n_rot);
    return CADRE_OK;
}

static struct kv_width cache(const struct spec *s, const struct layer_spec *l, enum mla_form mla)
{
    (void)mla;
    return (struct kv_width){.heads = l->n_kv_head, .k = s->head_dim, .v = s->v_dim};
}

static struct tensor *head_norm(struct op_ctx *c, const struct spec *s, struct tensor *x, struct tensor *w)
{
    if (s->qk_norm == QK_NORM_FULL)
        return op_rmsnorm(c, x, w, s->norm_eps);
    int64_t rows = tensor_rows(x), cols = tensor_cols(x);
    struct tensor *heads = op_reshape(c, x, 2, (int64_t[]){rows * cols / s->head_dim, s->head_dim});
    return op_reshape(c, op_rmsnorm(c, heads, w, s->norm_eps), 2, (int64_t[]){rows, cols});
}

/* Queries, keys and values */
static void project(struct op_ctx *c, const struct spec *s, const struct layer *l, struct tensor *h,
                    struct tensor *qkv[3])
{
    const struct op_linear_part part[3] = {{&l->q, l->q_bias}, {&l->k, l->k_bias}, {&l->v, l->v_bias}};
    op_linears(c, h, NULL, 3, part, qkv);
    for (int i = 0; s->qkv_clamp != 0 && i < 3; i++)
        qkv[i] = op_clamp(c, qkv[i], s->qkv_clamp);
}

static struct tensor *place(struct op_ctx *c, const struct attend *a, struct tensor *x, struct tensor *norm)
{
    const struct spec *s = &a->m->spec;
    if (norm && !s->qk_norm_after_rope)
        x = head_norm(c, s, x, norm);
    if (a->l.rope)
        x = op_rope(c, x, s->head_dim, a->b->position, a->rope);
    return norm && s->qk_norm_after_rope ? head_norm(c, s, x, norm) : x;
}

/* Every head has its query, then its gate (Qwen3-Next). */
static struct tensor *split_gate(struct op_ctx *c, struct tensor *x, int64_t head_dim, struct tensor **gate)
{
    int64_t rows = tensor_rows(x), cols = tensor_cols(x);
    struct tensor *heads = op_reshape(c, x, 2, (int64_t[]){tensor_count(x) / (2 * head_dim), 2 * head_dim});
    *gate = op_reshape(c, op_slice_cols(c, heads, head_dim, head_dim), 2, (int64_t[]){rows, cols / 2});
    return op_reshape(c, op_slice_cols(c, heads, 0, head_dim), 2, (int64_t[]){rows, cols / 2});
}

static struct tensor *forward(struct op_ctx *c, const struct attend *a, struct tensor *h)
{
    const struct spec *s = &a->m->spec;
    const struct layer *l = &a->m->layers[a->layer];
    struct tensor *qkv[3], *gate = NULL;
    project(c, s, l, h, qkv);
    struct tensor *q = qkv[0];
    if (s->attention_gate)
        q = split_gate(c, q, s->head_dim, &gate);
    q = place(c, a, q, l->q_norm);
    struct tensor *k = place(c, a, qkv[1], l->k_norm);
    struct tensor *y = attend_rows(c, a, q, k, qkv[2],
                                   (struct attention){.n_head = a->l.n_head,
                                                      .n_kv_head = a->l.n_kv_head,
                                                      .head_dim = s->head_dim,
                                                      .v_dim = s->v_dim,
                                                      .scale = spec_attention_scale(s),
                                                      .window = a->l.window,
                                                      .sinks = l->sinks});
    if (gate)
        y = op_mul(c, y, op_sigmoid(c, gate));
    return op_linear(c, y, &l->o, l->o_bias);
}

const struct attention_kind attention_grouped = {
    .name = "grouped",
    .tensors = {tensors, sizeof tensors / sizeof *tensors},
    .check = check,
    .cache = cache,
    .forward = forward,
};
