/* One step of a GRU cell (Cho et al. 2014; the reset gate acts after the product, as in PyTorch and cuDNN):
 *
 *     gi = W_i x + b_i,  gh = W_h h + b_h          each [n, 3 d]: reset, update, new
 *     r = σ(gi_r + gh_r)    z = σ(gi_z + gh_z)    c = tanh(gi_c + r gh_c)
 *     h' = c + z (h - c)
 *
 * The products are op_linear; the rest is one operator over gi, gh and h. */
#include "op/op.h"

#include <assert.h>

struct gates {
    const struct kernels *k;
    struct tensor *gi, *gh, *h, *y;
    real *act; /* [n, 3 d]: r, z, c */
};

static void gates_rows(void *arg, int64_t from, int64_t to)
{
    const struct gates *s = arg;
    int64_t d = tensor_cols(s->h);
    for (int64_t i = from; i < to; i++) {
        const real *gi = s->gi->x + i * 3 * d, *gh = s->gh->x + i * 3 * d, *h = s->h->x + i * d;
        real *r = s->act + i * 3 * d, *z = r + d, *c = z + d, *y = s->y->x + i * d;
        for (int64_t j = 0; j < 2 * d; j++)
            r[j] = gi[j] + gh[j];
        s->k->sigmoid(r, r, 2 * d);
        for (int64_t j = 0; j < d; j++)
            c[j] = gi[2 * d + j] + r[j] * gh[2 * d + j];
        s->k->tanh(c, c, d);
        for (int64_t j = 0; j < d; j++)
            y[j] = c[j] + z[j] * (h[j] - c[j]);
    }
}

struct gates_gradient {
    const struct gates *gates;
    const real *dy;
    real *dgi, *dgh, *dh; /* NULL: not wanted */
};

/* Before the activations: dc' = dy (1 - z)(1 - c²), dz' = dy (h - c) z (1 - z), dr' = dc' gh_c r (1 - r). */
static void gates_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct gates_gradient *g = arg;
    const struct gates *s = g->gates;
    int64_t d = tensor_cols(s->h);
    for (int64_t i = from; i < to; i++) {
        const real *r = s->act + i * 3 * d, *z = r + d, *c = z + d;
        const real *gh = s->gh->x + i * 3 * d, *h = s->h->x + i * d, *dy = g->dy + i * d;
        real *dgi = g->dgi ? g->dgi + i * 3 * d : NULL, *dgh = g->dgh ? g->dgh + i * 3 * d : NULL;
        for (int64_t j = 0; j < d; j++) {
            real dc = dy[j] * (1 - z[j]) * (1 - c[j] * c[j]);
            real dz = dy[j] * (h[j] - c[j]) * z[j] * (1 - z[j]);
            real dr = dc * gh[2 * d + j] * r[j] * (1 - r[j]);
            if (dgi) {
                dgi[j] += dr;
                dgi[d + j] += dz;
                dgi[2 * d + j] += dc;
            }
            if (dgh) {
                dgh[j] += dr;
                dgh[d + j] += dz;
                dgh[2 * d + j] += dc * r[j];
            }
            if (g->dh)
                g->dh[i * d + j] += dy[j] * z[j];
        }
    }
}

static void gates_back(struct op_ctx *c, void *saved)
{
    struct gates *s = saved;
    if (!s->y->g)
        return;
    struct gates_gradient g = {.gates = s, .dy = s->y->g};
    g.dgi = s->gi->track ? tensor_grad(c, s->gi) : NULL;
    g.dgh = s->gh->track ? tensor_grad(c, s->gh) : NULL;
    g.dh = s->h->track ? tensor_grad(c, s->h) : NULL;
    op_rows_run(c, tensor_rows(s->h), 3 * tensor_cols(s->h), gates_back_rows, &g);
}

struct tensor *op_gru_cell(struct op_ctx *c, struct tensor *x, struct tensor *h, const struct weight *w_input,
                           const struct weight *w_hidden, struct tensor *b_input, struct tensor *b_hidden)
{
    int64_t n = tensor_rows(h), d = tensor_cols(h);
    assert(w_input->n == 3 * d && w_hidden->n == 3 * d && tensor_rows(x) == n);
    struct gates s = {.k = c->k, .h = h, .y = op_new2(c, n, d)};
    size_t mark = arena_mark(c->arena);
    s.gi = op_linear(c, x, w_input, b_input);
    s.gh = op_linear(c, h, w_hidden, b_hidden);
    s.act = arena_alloc(c->arena, (size_t)(n * 3 * d) * sizeof(real));
    op_rows_run(c, n, 3 * d, gates_rows, &s);
    s.y->track = op_records(c, s.gi->track || s.gh->track || h->track);
    if (!s.y->track) {
        arena_reset(c->arena, mark);
        return s.y;
    }
    struct gates *saved = op_struct(c, sizeof *saved);
    *saved = s;
    tape_push(c, gates_back, saved);
    return s.y;
}
