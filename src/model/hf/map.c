#include "model/hf/map.h"

#include <limits.h>
#include <stdio.h>

#include "model/spec.h"

static bool copy(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    (void)d;
    *m = (struct hf_map){.count = rows, .units = 1, .step = 1};
    return true;
}

static bool pairs(int64_t heads, int64_t rows, struct hf_map *m)
{
    int64_t head = heads > 0 ? rows / heads : 0;
    *m = (struct hf_map){.count = rows, .units = 1, .step = 1, .turn = {0, 2, head / 2, 1}};
    return heads > 0 && rows % heads == 0 && head > 0 && head % 2 == 0;
}

static bool pairs_q(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return pairs(d->heads, rows, m);
}

static bool pairs_k(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return pairs(d->kv_heads, rows, m);
}

/* q: heads, then k and v: kv_heads each, of one size. */
static bool fused(const struct hf_dims *d, int64_t rows, int64_t from, int64_t heads, struct hf_map *m)
{
    int64_t all = d->heads + 2 * d->kv_heads, head = all > 0 ? rows / all : 0;
    *m = (struct hf_map){.count = heads * head, .units = 1, .step = 1, .first = from * head};
    return all > 0 && head > 0 && rows % all == 0;
}

static bool fused_q(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return fused(d, rows, 0, d->heads, m);
}

static bool fused_k(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return fused(d, rows, d->heads, d->kv_heads, m);
}

static bool fused_v(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return fused(d, rows, d->heads + d->kv_heads, d->kv_heads, m);
}

static bool first_half(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    (void)d;
    *m = (struct hf_map){.count = rows / 2, .units = 1, .step = 1};
    return rows % 2 == 0;
}

static bool second_half(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    (void)d;
    *m = (struct hf_map){.count = rows / 2, .units = 1, .step = 1, .first = rows / 2};
    return rows % 2 == 0;
}

static bool even(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    (void)d;
    *m = (struct hf_map){.count = rows / 2, .units = 1, .step = 2};
    return rows % 2 == 0;
}

static bool odd(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    (void)d;
    *m = (struct hf_map){.count = rows / 2, .units = 1, .step = 2, .first = 1};
    return rows % 2 == 0;
}

static bool k_b(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    *m = (struct hf_map){.count = d->nope, .units = d->heads, .step = 1, .block = d->nope + d->v, .transposed = true};
    return d->nope > 0 && d->v > 0 && rows == d->heads * m->block;
}

static bool v_b(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    *m = (struct hf_map){.count = d->v, .units = d->heads, .step = 1, .first = d->nope, .block = d->nope + d->v};
    return d->nope > 0 && d->v > 0 && rows == d->heads * m->block;
}

/* All v heads of n numbers together: k head by k head there; here the first of every k head, then the second of each.
 */
static bool v_heads(const struct hf_dims *d, int64_t from, int64_t n, struct hf_turn *t)
{
    if (d->delta_k < 1 || d->delta_v < 1 || d->delta_v % d->delta_k != 0 || n - from < 1 ||
        (n - from) % d->delta_v != 0)
        return false;
    *t = (struct hf_turn){from, d->delta_k, d->delta_v / d->delta_k, (n - from) / d->delta_v};
    return true;
}

static bool delta_v(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return copy(d, rows, m) && v_heads(d, 0, rows, &m->turn);
}

static bool delta_qkv(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    return copy(d, rows, m) && v_heads(d, 2 * d->delta_k_rows, rows, &m->turn);
}

/* All experts' rows below each other. */
static bool stacked(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    int64_t each = d->experts > 0 ? rows / d->experts : 0;
    *m = (struct hf_map){.count = each, .units = d->experts, .step = 1, .block = each};
    return each > 0 && rows % d->experts == 0;
}

static bool stacked_t(const struct hf_dims *d, int64_t rows, struct hf_map *m)
{
    bool fits = stacked(d, rows, m);
    m->transposed = true;
    return fits;
}

static bool (*const forms[HF_FORM_COUNT])(const struct hf_dims *d, int64_t rows, struct hf_map *m) = {
    [HF_COPY] = copy,
    [HF_PAIRS_Q] = pairs_q,
    [HF_PAIRS_K] = pairs_k,
    [HF_FUSED_Q] = fused_q,
    [HF_FUSED_K] = fused_k,
    [HF_FUSED_V] = fused_v,
    [HF_FIRST_HALF] = first_half,
    [HF_SECOND_HALF] = second_half,
    [HF_EVEN] = even,
    [HF_ODD] = odd,
    [HF_K_B] = k_b,
    [HF_V_B] = v_b,
    [HF_DELTA_V] = delta_v,
    [HF_DELTA_QKV] = delta_qkv,
    [HF_DELTA_OUT] = copy,
    [HF_STACKED] = stacked,
    [HF_STACKED_T] = stacked_t,
};

bool hf_map_of(enum hf_form form, const struct hf_dims *d, int64_t rows, int64_t cols, struct hf_map *m)
{
    return forms[form](d, rows, m) && (form != HF_DELTA_OUT || v_heads(d, 0, cols, &m->inputs));
}

static cadre_err get(const struct gguf *g, const char *architecture, const char *name, int64_t max, int64_t *out,
                     cadre_error *err)
{
    char key[128];
    bool found;
    snprintf(key, sizeof key, "%s.%s", architecture, name);
    if (gguf_is_array(g, key)) /* differs between layers: of no use to a form */
        return CADRE_OK;
    TRY(gguf_get_i64(g, key, out, &found, err));
    CHECK(err, *out >= 0 && *out <= max, CADRE_E_FORMAT, "%s: expected 0 to %lld, found %lld", key, (long long)max,
          (long long)*out);
    return CADRE_OK;
}

cadre_err hf_dims_from_gguf(struct hf_dims *d, const struct gguf *g, const char *a, cadre_error *err)
{
    int64_t width = 0, key_mla, k_dim = 0;
    *d = (struct hf_dims){0};
    TRY(get(g, a, "block_count", MODEL_MAX_LAYERS, &d->layers, err));
    TRY(get(g, a, "nextn_predict_layers", d->layers, &d->nextn, err));
    d->layers -= d->nextn; /* which are left out */
    TRY(get(g, a, "expert_count", MODEL_MAX_EXPERTS, &d->experts, err));
    TRY(get(g, a, "embedding_length", INT_MAX, &width, err));
    TRY(get(g, a, "attention.head_count", INT_MAX, &d->heads, err));
    d->kv_heads = d->heads;
    TRY(get(g, a, "attention.head_count_kv", INT_MAX, &d->kv_heads, err));
    d->head_dim = d->heads > 0 ? width / d->heads : 0;
    TRY(get(g, a, "attention.key_length", INT_MAX, &d->head_dim, err));
    d->n_rot = d->head_dim;
    TRY(get(g, a, "rope.dimension_count", INT_MAX, &d->n_rot, err));
    key_mla = d->v = d->head_dim; /* of a head, unless keys of their own say so */
    TRY(get(g, a, "attention.value_length", INT_MAX, &d->v, err));
    TRY(get(g, a, "attention.key_length_mla", INT_MAX, &key_mla, err));
    TRY(get(g, a, "attention.value_length_mla", INT_MAX, &d->v, err));
    d->nope = key_mla - d->n_rot;
    TRY(get(g, a, "ssm.group_count", 1 << 20, &d->delta_k, err));
    TRY(get(g, a, "ssm.time_step_rank", 1 << 20, &d->delta_v, err));
    TRY(get(g, a, "ssm.state_size", 1 << 20, &k_dim, err));
    d->delta_k_rows = d->delta_k * k_dim;
    return CADRE_OK;
}
