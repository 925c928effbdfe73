/* The gated delta rule (Yang et al. 2024, arXiv 2412.06464), token by token:
 *
 *     S ← exp(g) S                      what is known fades
 *     d = β (v - Sᵀk)                   what the key k should give and does not
 *     S ← S + k dᵀ;  o = Sᵀq
 *
 * A work item is a sequence, a head and DELTA_COLUMNS columns of its state, which stay in the nearest cache for all
 * rows of the sequence. Columns are independent and rows follow each other, so neither the batch nor the cut changes a
 * byte. */
#include "op/delta.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"

/* A block of columns of one head's state: in place, or in the worker's scratch. */
struct columns {
    real *s;
    int64_t ld, from, n;
};

static void keep(const struct delta *f, const struct columns *b, int64_t index, int64_t head)
{
    const struct delta_rule *d = &f->rule;
    real *to = f->kept + (index * d->n_v_head + head) * d->k_dim * d->v_dim + b->from;
    for (int64_t i = 0; i < d->k_dim; i++)
        memcpy(to + i * d->v_dim, b->s + i * b->ld, (size_t)b->n * sizeof *to);
}

static void delta_item(void *arg, int64_t item, int worker)
{
    const struct delta *f = arg;
    const struct delta_rule *d = &f->rule;
    int64_t blocks = (d->v_dim + DELTA_COLUMNS - 1) / DELTA_COLUMNS;
    int64_t from = item % blocks * DELTA_COLUMNS, head = item / blocks % d->n_v_head, seq = item / blocks / d->n_v_head;
    struct columns b = {.from = from, .n = min_i64(DELTA_COLUMNS, d->v_dim - from)};
    if (d->seq.state) {
        b.s = d->seq.state[seq] + head * d->k_dim * d->v_dim + from;
        b.ld = d->v_dim;
    } else {
        b.s = f->scratch[worker];
        b.ld = b.n;
        memset(b.s, 0, (size_t)(d->k_dim * b.n) * sizeof *b.s);
    }
    int64_t first = d->seq.row_start[seq], k_head = delta_k_head(d, head);
    for (int64_t i = first; i < d->seq.row_start[seq + 1]; i++) {
        if (f->kept && (i - first) % DELTA_CHUNK == 0)
            keep(f, &b, delta_kept_first(d, seq) + (i - first) / DELTA_CHUNK, head);
        int64_t at_k = (i * d->n_k_head + k_head) * d->k_dim, at = i * d->n_v_head + head;
        f->ks->delta.step(d->k_dim, b.n, b.s, b.ld, f->decay[at], f->beta->x[at], f->k->x + at_k, f->q->x + at_k,
                          f->v->x + at * d->v_dim + from, f->o->x + at * d->v_dim + from);
    }
}

static void decay_elements(void *arg, int64_t from, int64_t to)
{
    const struct delta *f = arg;
    f->ks->exp(f->decay + from, f->g->x + from, to - from);
}

static struct delta delta_new(struct op_ctx *c, const struct delta *in)
{
    struct delta f = *in;
    const struct delta_rule *d = &f.rule;
    int64_t n = tensor_rows(f.q), state = d->n_v_head * d->k_dim * d->v_dim;
    f.o = op_new2(c, n, d->n_v_head * d->v_dim);
    f.o->track = op_records(c, f.q->track || f.k->track || f.v->track || f.g->track || f.beta->track);
    if (f.o->track) {
        assert(!d->seq.state);
        int64_t count = delta_kept_count(n, d->seq.n_seq);
        f.kept = arena_alloc(c->arena, (size_t)(count * state) * sizeof *f.kept);
        f.decay = arena_alloc(c->arena, (size_t)(n * d->n_v_head) * sizeof *f.decay);
        struct delta *saved = op_struct(c, sizeof *saved);
        *saved = f;
        tape_push(c, delta_back, saved);
    }
    return f;
}

struct tensor *op_delta_rule(struct op_ctx *c, struct tensor *q, struct tensor *k, struct tensor *v, struct tensor *g,
                             struct tensor *beta, const struct delta_rule *d)
{
    int64_t n = tensor_rows(q);
    assert(d->n_v_head % d->n_k_head == 0);
    assert(tensor_cols(q) == d->n_k_head * d->k_dim && tensor_cols(k) == tensor_cols(q) && tensor_rows(k) == n);
    assert(tensor_cols(v) == d->n_v_head * d->v_dim && tensor_rows(v) == n);
    assert(tensor_count(g) == n * d->n_v_head && tensor_count(beta) == tensor_count(g));
    struct delta f =
        delta_new(c, &(struct delta){.ks = c->k, .rule = *d, .q = q, .k = k, .v = v, .g = g, .beta = beta});
    size_t mark = arena_mark(c->arena);
    if (!f.kept)
        f.decay = arena_alloc(c->arena, (size_t)(n * d->n_v_head) * sizeof *f.decay);
    int threads = pool_threads(c->pool);
    f.scratch = arena_alloc(c->arena, (size_t)threads * sizeof *f.scratch);
    for (int i = 0; i < threads; i++) {
        real *block = arena_alloc(c->arena, (size_t)(d->k_dim * DELTA_COLUMNS) * sizeof *block);
        if (!c->dry)
            f.scratch[i] = block;
    }
    op_rows_run(c, n * d->n_v_head, 1, decay_elements, &f);
    int64_t blocks = (d->v_dim + DELTA_COLUMNS - 1) / DELTA_COLUMNS;
    if (!c->dry)
        pool_run(c->pool, d->seq.n_seq * d->n_v_head * blocks, delta_item, &f);
    arena_reset(c->arena, mark);
    return f.o;
}
