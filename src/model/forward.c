/* The forward pass: one builder from operators, for training (with a tape) and inference (without).
 *
 *     x = embedding[token]
 *     each layer:  x += o(attention(rope(q), rope(k), v)),  q, k, v = linear(norm(x))
 *                  x += ffn(norm(x)) or moe(norm(x))
 *     logits = output(norm(x of the wanted rows))
 *
 * Without a tape a layer's intermediate results are given back when it is done and only the residual stream stays, so
 * the arena holds one layer's worth. Attention is the only operator that looks at other rows, and it goes by absolute
 * position: a row's bytes do not depend on what else is in the batch. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/model.h"

static struct tensor *head_norm(struct op_ctx *c, const struct spec *s, struct tensor *x, struct tensor *w)
{
    if (s->qk_norm == QK_NORM_NONE)
        return x;
    if (s->qk_norm == QK_NORM_FULL)
        return op_rmsnorm(c, x, w, s->norm_eps);
    int64_t rows = tensor_rows(x), cols = tensor_cols(x);
    struct tensor *heads = op_reshape(c, x, 2, (int64_t[]){rows * cols / s->head_dim, s->head_dim});
    return op_reshape(c, op_rmsnorm(c, heads, w, s->norm_eps), 2, (int64_t[]){rows, cols});
}

/* Store the new keys and values, then attend over all that the cache holds. */
static struct tensor *attend_cached(struct op_ctx *c, const struct batch *b, int64_t layer, struct tensor *q,
                                    struct tensor *k, struct tensor *v, const struct attention *a)
{
    struct kv_layer_view *storage = op_struct(c, sizeof *storage);
    *storage = (struct kv_layer_view){b->kv, layer, b->slot};
    for (int64_t s = 0; !c->dry && s < b->n_seq; s++) {
        int64_t row = b->row_start[s], n = b->row_start[s + 1] - row;
        if (n > 0)
            kv_put(b->kv, layer, b->slot[s], b->position[row], k->x + row * tensor_cols(k), v->x + row * tensor_cols(v),
                   n);
    }
    struct kv_view view = kv_layer_view(storage);
    return op_attention_kv(c, q, &view, a);
}

static struct tensor *attend(struct op_ctx *c, const struct model *m, int64_t layer, const struct batch *b,
                             const int64_t *first, struct tensor *x)
{
    const struct spec *s = &m->spec;
    const struct layer *l = &m->layers[layer];
    struct tensor *h = op_rmsnorm(c, x, l->attn_norm, s->norm_eps);
    struct tensor *q = head_norm(c, s, op_linear(c, h, &l->q, l->q_bias), l->q_norm);
    struct tensor *k = head_norm(c, s, op_linear(c, h, &l->k, l->k_bias), l->k_norm);
    struct tensor *v = op_linear(c, h, &l->v, l->v_bias);
    q = op_rope(c, q, s->head_dim, b->position, &m->rope);
    k = op_rope(c, k, s->head_dim, b->position, &m->rope);
    struct attention a = {
        .n_head = s->n_head,
        .n_kv_head = s->n_kv_head,
        .head_dim = s->head_dim,
        .v_dim = s->v_dim,
        .scale = s->attention_scale != 0 ? s->attention_scale : (real)(1 / sqrt((double)s->head_dim)),
        .n_seq = b->n_seq,
        .row_start = b->row_start,
        .position = first,
    };
    struct tensor *y = b->kv ? attend_cached(c, b, layer, q, k, v, &a) : op_attention(c, q, k, v, &a);
    return op_linear(c, y, &l->o, l->o_bias);
}

static struct tensor *layer_forward(struct op_ctx *c, const struct model *m, int64_t i, const struct batch *b,
                                    const int64_t *first, struct tensor *x, struct moe_pass *pass,
                                    struct routing *routing, cadre_error *err)
{
    const struct layer *l = &m->layers[i];
    x = op_add(c, x, attend(c, m, i, b, first, x));
    struct tensor *h = op_rmsnorm(c, x, l->ffn_norm, m->spec.norm_eps);
    struct tensor *y;
    if (spec_layer_is_moe(&m->spec, i)) {
        y = moe_forward(c, &l->moe, h, pass, routing, err);
        if (!y)
            return NULL;
    } else {
        y = ffn_forward(c, &l->ffn, h);
        if (routing)
            *routing = (struct routing){0};
    }
    return op_add(c, x, y);
}

/* A layer whose activations are dropped (Chen et al. 2016): its forward leaves the output and the routing that balance
 * terms read; its backward computes the layer again, with a tape of its own, and goes back through that. The same
 * operators on the same numbers: the same gradients to the byte. A router that draws random numbers must draw the same
 * again. */
struct recompute {
    const struct model *m;
    int64_t layer;
    struct batch b;
    const int64_t *first;
    struct tensor *x, *y;
    struct routing routing;
};

static void recompute_back(struct op_ctx *c, void *saved)
{
    struct recompute *s = saved;
    if (!s->y->g)
        return;
    cadre_error err = {0};
    size_t mark = arena_mark(c->arena);
    struct tape tape = {0};
    struct op_ctx inner = *c;
    struct routing r = {0};
    inner.tape = &tape;
    struct moe_pass pass = {.training = s->b.training};
    struct tensor *y = layer_forward(&inner, s->m, s->layer, &s->b, s->first, s->x, &pass, &r, &err);
    assert(y); /* it succeeded before, and has no hooks that could fail now */
    y->g = s->y->g;
    if (r.id)
        routing_pass_gradients(&r, &s->routing);
    tape_unwind(&inner);
    /* A layer ends by adding to its input, so the gradient of its input goes on in the array of its output's, which
     * lies below what is given back here. */
    assert(c->dry || !s->x->track || (unsigned char *)s->x->g < c->arena->base + mark);
    arena_reset(c->arena, mark);
}

static struct tensor *layer_dropped(struct op_ctx *c, const struct model *m, int64_t i, const struct batch *b,
                                    const int64_t *first, struct tensor *x, struct routing *routing, cadre_error *err)
{
    struct recompute *s = op_struct(c, sizeof *s);
    *s = (struct recompute){m, i, *b, first, x, op_new2(c, tensor_rows(x), tensor_cols(x)), {0}};
    if (spec_layer_is_moe(&m->spec, i))
        s->routing = routing_new(c, &m->layers[i].moe.router, tensor_rows(x), b->training != NULL);
    size_t mark = arena_mark(c->arena);
    struct op_ctx plain = *c;
    struct routing r = {0};
    plain.tape = NULL;
    struct moe_pass pass = {.hooks = b->hooks, .training = b->training};
    struct tensor *y = layer_forward(&plain, m, i, b, first, x, &pass, &r, err);
    if (!y)
        return NULL;
    if (!c->dry) {
        memcpy(s->y->x, y->x, (size_t)tensor_count(y) * sizeof *y->x);
        if (r.id)
            routing_copy(&s->routing, &r);
    }
    arena_reset(c->arena, mark);
    if (routing)
        *routing = s->routing;
    s->y->track = true;
    tape_push(c, recompute_back, s);
    return s->y;
}

/* [n_seq] position of each sequence's first row; lives until the backward. */
static int64_t *first_positions(struct op_ctx *c, const struct batch *b)
{
    int64_t *first = arena_alloc(c->arena, (size_t)b->n_seq * sizeof *first);
    if (!c->dry)
        for (int64_t s = 0; s < b->n_seq; s++)
            first[s] = b->row_start[s] < b->row_start[s + 1] ? b->position[b->row_start[s]] : 0;
    return first;
}

struct tensor *model_hidden(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err)
{
    const struct spec *s = &m->spec;
    const int64_t *first = first_positions(c, b);
    struct moe_pass pass = {.hooks = b->hooks, .training = b->training};
    bool keep = c->tape || b->routing || b->hidden; /* somebody looks at intermediate results later */
    struct tensor *x = op_embed(c, &m->embedding, b->token, b->n_tok);
    for (int64_t i = 0; i < s->n_layer; i++) {
        size_t mark = arena_mark(c->arena);
        struct routing *routing = b->routing ? &b->routing[i] : NULL;
        struct tensor *y = c->tape && b->recompute ? layer_dropped(c, m, i, b, first, x, routing, err)
                                                   : layer_forward(c, m, i, b, first, x, &pass, routing, err);
        if (!y)
            return NULL;
        if (keep) {
            x = y;
        } else {
            if (!c->dry)
                memcpy(x->x, y->x, (size_t)tensor_count(x) * sizeof *x->x);
            arena_reset(c->arena, mark);
        }
        if (b->hidden)
            b->hidden[i] = x;
    }
    if (b->want)
        x = op_gather_rows(c, x, b->want, b->n_want);
    return op_rmsnorm(c, x, m->output_norm, s->norm_eps);
}

struct tensor *model_forward(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err)
{
    struct tensor *x = model_hidden(c, m, b, err);
    return x ? op_linear(c, x, &m->output, NULL) : NULL;
}
