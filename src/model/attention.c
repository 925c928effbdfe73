/* The table of attention kinds, and what they share. */
#include "model/attention.h"

#include <string.h>

static const struct attention_kind *const kinds[] = {
    &attention_grouped,
    &attention_mla,
    &attention_delta_net,
    &attention_short_conv,
};

const struct attention_kind *attention_kind_at(int i)
{
    return i >= 0 && (size_t)i < sizeof kinds / sizeof *kinds ? kinds[i] : NULL;
}

const struct attention_kind *attention_kind_find(const char *name)
{
    const struct attention_kind *k;
    for (int i = 0; (k = attention_kind_at(i)); i++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

struct tensor *model_norm(struct op_ctx *c, const struct spec *s, struct tensor *x, struct tensor *w, struct tensor *b)
{
    if (s->norm == NORM_LAYER)
        return op_layernorm(c, x, w, b, s->norm_eps);
    struct tensor *y = op_rmsnorm(c, x, w, s->norm_eps);
    return b ? op_add(c, y, b) : y;
}

/* Store the new keys and values, then attend over all that the cache holds. */
static struct tensor *attend_cached(struct op_ctx *c, const struct attend *a, struct tensor *q, struct tensor *k,
                                    struct tensor *v, const struct attention *shape)
{
    const struct batch *b = a->b;
    struct kv_layer_view *storage = op_struct(c, sizeof *storage);
    *storage = (struct kv_layer_view){b->kv, a->layer, b->slot};
    for (int64_t s = 0; !c->dry && s < b->n_seq; s++) {
        int64_t row = b->row_start[s], n = b->row_start[s + 1] - row;
        if (n > 0)
            kv_put(b->kv, c, a->layer, b->slot[s], b->position[row], k->x + row * tensor_cols(k),
                   v ? v->x + row * tensor_cols(v) : NULL, n);
    }
    struct kv_view view = kv_layer_view(storage);
    return op_attention_kv(c, q, &view, shape);
}

struct tensor *attend_rows(struct op_ctx *c, const struct attend *a, struct tensor *q, struct tensor *k,
                           struct tensor *v, struct attention shape)
{
    shape.n_seq = a->b->n_seq;
    shape.row_start = a->b->row_start;
    shape.position = a->first;
    if (a->b->kv)
        return attend_cached(c, a, q, k, v, &shape);
    return op_attention(c, q, k, v ? v : op_slice_cols(c, k, 0, shape.v_dim), &shape);
}

void attend_states(struct op_ctx *c, const struct attend *a, int n, const int64_t *size, struct recurrence *r)
{
    const struct batch *b = a->b;
    real **states = b->kv ? op_struct(c, (size_t)(n * b->n_seq) * sizeof *states) : NULL;
    for (int i = 0; i < n; i++)
        r[i] = (struct recurrence){b->n_seq, b->row_start, b->kv ? states + i * b->n_seq : NULL};
    for (int64_t s = 0; b->kv && !c->dry && s < b->n_seq; s++) {
        real *at = kv_state(b->kv, a->layer, b->slot[s], a->first[s], b->row_start[s + 1] - b->row_start[s]);
        for (int i = 0; i < n; at += size[i++])
            states[i * b->n_seq + s] = at;
    }
}

cadre_err attention_check_taps(int64_t taps, const char *key, cadre_error *err)
{
    CHECK(err, taps >= 2 && taps <= 256, CADRE_E_FORMAT, "%s: expected 2 to 256, found %lld", key, (long long)taps);
    return CADRE_OK;
}
