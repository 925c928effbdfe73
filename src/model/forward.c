/* The forward pass: one builder from operators, for training (with a tape) and inference (without).
 *
 *     x = embedding[token]
 *     each layer:  x += attention(norm(x))            the kind that the spec names for this layer
 *                  x += ffn(norm(x)) or moe(norm(x))  or both: see enum moe_side
 *     logits = output(norm(x of the wanted rows))
 *
 * Without a tape a layer's intermediate results are given back when it is done and only the residual stream stays, so
 * the arena holds one layer's worth. Attention is the only operator that looks at other rows, and it goes by absolute
 * position: a row's bytes do not depend on what else is in the batch. */
#include <assert.h>
#include <string.h>

#include "model/attention.h"

static struct tensor *scaled(struct op_ctx *c, struct tensor *x, real factor)
{
    return factor != 0 && factor != 1 ? op_scale(c, x, factor) : x;
}

static struct tensor *layer_forward(struct op_ctx *c, const struct attend *a, struct tensor *x, struct moe_pass *pass,
                                    struct routing *routing, cadre_error *err)
{
    const struct spec *s = &a->m->spec;
    const struct layer *l = &a->m->layers[a->layer];
    struct tensor *in = x, *moe = pass->late;
    pass->late = NULL;
    struct tensor *y = a->l.attention->forward(c, a, model_norm(c, s, x, l->attn_norm, l->attn_norm_bias));
    x = op_add(c, x, scaled(c, y, s->residual_scale));
    struct tensor *h = model_norm(c, s, x, l->ffn_norm, l->ffn_norm_bias);
    if (routing && !a->l.moe)
        *routing = (struct routing){0};
    if (a->l.moe) {
        pass->gate_x = s->gate_early ? in : NULL;
        moe = moe_forward(c, &l->moe, l->moe_norm ? model_norm(c, s, in, l->moe_norm, NULL) : h, pass, routing, err);
        if (!moe)
            return NULL;
    }
    if (a->l.dense)
        x = op_add(c, x, scaled(c, s->expert_kind->forward(c, &l->ffn, h, NULL), s->residual_scale));
    if (a->l.moe && s->moe_side == MOE_SHORTCUT) {
        pass->late = moe;
        return x;
    }
    return moe ? op_add(c, x, scaled(c, moe, s->residual_scale)) : x;
}

/* A layer whose activations are dropped (Chen et al. 2016): its forward leaves the output and the routing that balance
 * terms read; its backward computes the layer again, with a tape of its own, and goes back through that. The same
 * operators on the same numbers: the same gradients to the byte. A router that draws random numbers must draw the same
 * again. */
struct recompute {
    struct attend a;
    struct batch b; /* a.b's copy: the caller's may be gone */
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
    struct tensor *y = layer_forward(&inner, &s->a, s->x, &pass, &r, &err);
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

static struct tensor *layer_dropped(struct op_ctx *c, const struct attend *a, struct tensor *x, struct routing *routing,
                                    cadre_error *err)
{
    const struct batch *b = a->b;
    struct recompute *s = op_struct(c, sizeof *s);
    *s = (struct recompute){*a, *b, x, op_new2(c, tensor_rows(x), tensor_cols(x)), {0}};
    s->a.b = &s->b;
    if (a->l.moe)
        s->routing = routing_new(c, &a->m->layers[a->layer].moe.router, tensor_rows(x), b->training != NULL);
    size_t mark = arena_mark(c->arena);
    struct op_ctx plain = *c;
    struct routing r = {0};
    plain.tape = NULL;
    struct moe_pass pass = {.hooks = b->hooks, .training = b->training};
    struct tensor *y = layer_forward(&plain, a, x, &pass, &r, err);
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

/* What MoE layers hand on to later ones besides x, where a layer's memory is given back after it. */
struct handed_on {
    struct tensor *logits, *state; /* NULL: nobody reads them */
};

static struct handed_on room_to_hand_on(struct op_ctx *c, const struct spec *s, int64_t n_tok)
{
    int64_t rows = n_tok * (s->moe_heads > 1 ? s->moe_heads : 1);
    return (struct handed_on){
        .logits = s->gate_residual ? op_new2(c, rows, s->router.n_expert) : NULL,
        .state = s->router_state > 0 ? op_new2(c, rows, s->router_state) : NULL,
    };
}

static void hand_on(struct op_ctx *c, struct tensor *room, struct tensor **from)
{
    if (*from && room && !c->dry)
        memcpy(room->x, (*from)->x, (size_t)tensor_count(room) * sizeof *room->x);
    *from = *from ? room : NULL;
}

struct tensor *model_hidden(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err)
{
    const struct spec *s = &m->spec;
    struct attend a = {.m = m, .b = b, .first = first_positions(c, b), .rope = choose_rope(c, m, b)};
    struct moe_pass pass = {.hooks = b->hooks, .training = b->training};
    bool keep = c->tape || b->routing || b->hidden; /* somebody looks at intermediate results later */
    bool drop = c->tape && b->recompute && s->moe_side != MOE_SHORTCUT; /* there a layer leaves more than x */
    size_t mark = 0;
    struct tensor *x = scaled(c, op_embed(c, &m->embedding, b->token, b->n_tok), s->embedding_scale);
    struct tensor *stream = x;
    struct handed_on room = {0};
    if (!keep)
        room = room_to_hand_on(c, s, b->n_tok);
    for (int64_t i = 0; i < s->n_layer; i++) {
        if (!pass.late)
            mark = arena_mark(c->arena);
        struct routing *routing = b->routing ? &b->routing[i] : NULL;
        a.layer = i;
        a.l = spec_layer(s, i);
        x = drop ? layer_dropped(c, &a, x, routing, err) : layer_forward(c, &a, x, &pass, routing, err);
        if (!x)
            return NULL;
        if (!keep && !pass.late) {
            if (!c->dry)
                memcpy(stream->x, x->x, (size_t)tensor_count(x) * sizeof *x->x);
            x = stream;
            hand_on(c, room.logits, &pass.logits);
            hand_on(c, room.state, &pass.state);
            arena_reset(c->arena, mark);
        }
        if (b->hidden)
            b->hidden[i] = x;
    }
    if (b->want)
        x = op_gather_rows(c, x, b->want, b->n_want);
    return model_norm(c, s, x, m->output_norm, m->output_norm_bias);
}

struct tensor *model_logits(struct op_ctx *c, struct model *m, struct tensor *x)
{
    const struct spec *s = &m->spec;
    x = scaled(c, op_linear(c, x, &m->output, m->output_bias), 1 / s->logit_divisor);
    if (s->logit_softcap != 0)
        x = op_scale(c, op_tanh(c, op_scale(c, x, 1 / s->logit_softcap)), s->logit_softcap);
    return x;
}

struct tensor *model_loss(struct op_ctx *c, struct model *m, struct tensor *x, const int32_t *target)
{
    bool plain = !m->output_bias && m->spec.logit_divisor == 1 && m->spec.logit_softcap == 0;
    return plain ? op_head_loss(c, x, &m->output, target) : op_cross_entropy(c, model_logits(c, m, x), target);
}

struct tensor *model_forward(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err)
{
    struct tensor *x = model_hidden(c, m, b, err);
    return x ? model_logits(c, m, x) : NULL;
}
