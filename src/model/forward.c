/* The forward pass: one builder from operators, for training (with a tape) and inference (without).
 *
 *     x = embedding[token]
 *     each layer:  x += attention(norm(x))            the kind that the spec names for this layer
 *                  x += ffn(norm(x)) or moe(norm(x))
 *     logits = output(norm(x of the wanted rows))
 *
 * Without a tape a layer's intermediate results are given back when it is done and only the residual stream stays, so
 * the arena holds one layer's worth. Attention is the only operator that looks at other rows, and it goes by absolute
 * position: a row's bytes do not depend on what else is in the batch. */
#include <string.h>

#include "model/attention.h"

static struct tensor *scaled(struct op_ctx *c, struct tensor *x, real factor)
{
    return factor != 0 && factor != 1 ? op_scale(c, x, factor) : x;
}

static struct tensor *layer_forward(struct op_ctx *c, const struct attend *a, struct tensor *x, cadre_error *err)
{
    const struct spec *s = &a->m->spec;
    const struct layer *l = &a->m->layers[a->layer];
    const struct batch *b = a->b;
    struct tensor *y = a->l.attention->forward(c, a, model_norm(c, s, x, l->attn_norm, l->attn_norm_bias));
    x = op_add(c, x, scaled(c, y, s->residual_scale));
    struct tensor *h = model_norm(c, s, x, l->ffn_norm, l->ffn_norm_bias);
    if (a->l.moe) {
        y = moe_forward(c, &l->moe, h, b->hooks, b->routing ? &b->routing[a->layer] : NULL, err);
        if (!y)
            return NULL;
    } else {
        y = s->expert_kind->forward(c, &l->ffn, h, NULL);
        if (b->routing)
            b->routing[a->layer] = (struct routing){0};
    }
    return op_add(c, x, scaled(c, y, s->residual_scale));
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

/* LongRoPE decides by the room that a sequence has, not by how far it has come, so that what is in the cache stays
 * right: the cache's context; without one the longest sequence of the batch. */
static const struct rope *choose_rope(const struct op_ctx *c, const struct model *m, const struct batch *b)
{
    int64_t room = b->kv ? kv_context(b->kv) : 0;
    for (int64_t s = 0; !b->kv && !c->dry && s < b->n_seq; s++)
        if (b->row_start[s + 1] - b->row_start[s] > room)
            room = b->row_start[s + 1] - b->row_start[s];
    return &m->rope[room > m->spec.yarn_ctx];
}

static struct tensor *head(struct op_ctx *c, const struct model *m, const struct batch *b, struct tensor *x)
{
    const struct spec *s = &m->spec;
    if (b->want)
        x = op_gather_rows(c, x, b->want, b->n_want);
    x = model_norm(c, s, x, m->output_norm, m->output_norm_bias);
    x = op_linear(c, x, &m->output, m->output_bias);
    x = scaled(c, x, s->logit_divisor != 0 ? 1 / s->logit_divisor : 1);
    if (s->logit_softcap != 0)
        x = op_scale(c, op_tanh(c, op_scale(c, x, 1 / s->logit_softcap)), s->logit_softcap);
    return x;
}

struct tensor *model_forward(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err)
{
    const struct spec *s = &m->spec;
    struct attend a = {.m = m, .b = b, .first = first_positions(c, b), .rope = choose_rope(c, m, b)};
    bool keep = c->tape || b->routing || b->hidden; /* somebody looks at intermediate results later */
    struct tensor *x = scaled(c, op_embed(c, &m->embedding, b->token, b->n_tok), s->embedding_scale);
    for (int64_t i = 0; i < s->n_layer; i++) {
        size_t mark = arena_mark(c->arena);
        a.layer = i;
        a.l = spec_layer(s, i);
        struct tensor *y = layer_forward(c, &a, x, err);
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
    return head(c, m, b, x);
}
