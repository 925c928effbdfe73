/* The backward of the gated delta rule. With P the state before a row, S the one after it, e = exp(g), A = e P,
 * r = v - Aᵀk, d = β r, and G the gradient of S that later rows leave:
 *
 *     G += q doᵀ           dq = S do
 *     δ = Gᵀk              dk = G d - β A δ        dv = β δ        dβ = δ · r
 *     H = G - β k δᵀ       dg = Σ A H              G of P = e H
 *
 * States are not kept but for one in DELTA_CHUNK rows; those between are computed again, a chunk at a time from the
 * last to the first. A work item is a sequence and a k head: all v heads that read it, ascending, so every gradient has
 * one order. */
#include "op/delta.h"

#include <string.h>

#include "base/checked.h"

struct gradients {
    struct delta *f;
    real *dq, *dk, *dv, *dg, *dbeta;
};

/* A worker's memory: states [DELTA_CHUNK + 1][k_dim, v_dim] and G, then rows of v_dim */
struct head {
    const struct gradients *g;
    int64_t seq, k_head, v_head;
    real *states, *grad, *residual, *delta;
};

static int64_t state_size(const struct delta_rule *d)
{
    return d->k_dim * d->v_dim;
}

static int64_t scratch_size(const struct delta_rule *d)
{
    return (DELTA_CHUNK + 2) * state_size(d) + (DELTA_CHUNK + 1) * d->v_dim;
}

/* states[t + 1] and residual[t] of rows from … to */
static void rebuild(const struct head *w, int64_t from, int64_t to)
{
    const struct delta *f = w->g->f;
    const struct delta_rule *d = &f->rule;
    int64_t index = delta_kept_first(d, w->seq) + (from - d->seq.row_start[w->seq]) / DELTA_CHUNK, size = state_size(d);
    memcpy(w->states, f->kept + (index * d->n_v_head + w->v_head) * size, (size_t)size * sizeof(real));
    for (int64_t i = from; i < to; i++) {
        int64_t at = i * d->n_v_head + w->v_head;
        const real *k = f->k->x + (i * d->n_k_head + w->k_head) * d->k_dim, *v = f->v->x + at * d->v_dim;
        real *s = w->states + (i - from + 1) * size, *r = w->residual + (i - from) * d->v_dim, e = f->decay[at];
        memcpy(r, v, (size_t)d->v_dim * sizeof *r);
        for (int64_t j = 0; j < size; j++)
            s[j] = e * s[j - size];
        for (int64_t j = 0; j < d->k_dim; j++)
            f->ks->axpy(r, -k[j], s + j * d->v_dim, d->v_dim);
        for (int64_t j = 0; j < d->k_dim; j++)
            f->ks->axpy(s + j * d->v_dim, f->beta->x[at] * k[j], r, d->v_dim);
    }
}

static void row_back(const struct head *w, int64_t i, const real *before, const real *r)
{
    const struct gradients *g = w->g;
    const struct delta *f = g->f;
    const struct delta_rule *d = &f->rule;
    const struct kernels *ks = f->ks;
    int64_t n = d->v_dim, at = i * d->n_v_head + w->v_head, at_k = (i * d->n_k_head + w->k_head) * d->k_dim;
    const real *q = f->q->x + at_k, *k = f->k->x + at_k, *d_o = f->o->g + at * n, *after = before + state_size(d);
    real e = f->decay[at], beta = f->beta->x[at], faded = 0;
    memset(w->delta, 0, (size_t)n * sizeof *w->delta);
    for (int64_t j = 0; j < d->k_dim; j++) {
        real *grad = w->grad + j * n;
        g->dq[at_k + j] += ks->dot(after + j * n, d_o, n);
        ks->axpy(grad, q[j], d_o, n);
        ks->axpy(w->delta, k[j], grad, n);
    }
    for (int64_t j = 0; j < d->k_dim; j++) {
        real *grad = w->grad + j * n;
        const real *p = before + j * n;
        g->dk[at_k + j] += beta * (ks->dot(grad, r, n) - e * ks->dot(p, w->delta, n));
        ks->axpy(grad, -beta * k[j], w->delta, n);
        faded += ks->dot(p, grad, n);
        for (int64_t c = 0; c < n; c++)
            grad[c] *= e;
    }
    g->dg[at] += e * faded;
    g->dbeta[at] += ks->dot(w->delta, r, n);
    ks->axpy(g->dv + at * n, beta, w->delta, n);
}

static void head_back(const struct head *w)
{
    const struct delta_rule *d = &w->g->f->rule;
    int64_t first = d->seq.row_start[w->seq], end = d->seq.row_start[w->seq + 1];
    memset(w->grad, 0, (size_t)state_size(d) * sizeof *w->grad);
    for (int64_t to = end; to > first;) {
        int64_t from = first + (to - 1 - first) / DELTA_CHUNK * DELTA_CHUNK;
        rebuild(w, from, to);
        for (int64_t i = to - 1; i >= from; i--)
            row_back(w, i, w->states + (i - from) * state_size(d), w->residual + (i - from) * d->v_dim);
        to = from;
    }
}

static void back_item(void *arg, int64_t item, int worker)
{
    const struct gradients *g = arg;
    const struct delta_rule *d = &g->f->rule;
    real *memory = g->f->scratch[worker];
    struct head w = {.g = g, .seq = item / d->n_k_head, .k_head = item % d->n_k_head, .states = memory};
    w.grad = w.states + (DELTA_CHUNK + 1) * state_size(d);
    w.residual = w.grad + state_size(d);
    w.delta = w.residual + DELTA_CHUNK * d->v_dim;
    for (w.v_head = 0; w.v_head < d->n_v_head; w.v_head++)
        if (delta_k_head(d, w.v_head) == w.k_head)
            head_back(&w);
}

void delta_back(struct op_ctx *c, void *saved)
{
    struct delta *f = saved;
    if (!f->o->g)
        return;
    /* A row gives all gradients at once, so all inputs get one. */
    struct gradients g = {.f = f};
    g.dq = tensor_grad(c, f->q);
    g.dk = tensor_grad(c, f->k);
    g.dv = tensor_grad(c, f->v);
    g.dg = tensor_grad(c, f->g);
    g.dbeta = tensor_grad(c, f->beta);
    size_t mark = arena_mark(c->arena);
    int threads = pool_threads(c->pool);
    f->scratch = arena_alloc(c->arena, (size_t)threads * sizeof *f->scratch);
    for (int i = 0; i < threads; i++) {
        real *memory = arena_alloc(c->arena, (size_t)scratch_size(&f->rule) * sizeof *memory);
        if (!c->dry)
            f->scratch[i] = memory;
    }
    if (!c->dry)
        pool_run(c->pool, f->rule.seq.n_seq * f->rule.n_k_head, back_item, &g);
    arena_reset(c->arena, mark);
}
