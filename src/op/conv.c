/* Causal depthwise convolution, the short memory of recurrent layers. With the state's K - 1 rows before a sequence's
 * first one,
 *
 *     y[t, c] = Σ_j w[c, j] x[t - K + 1 + j, c]       j ascending, from 0
 *
 * A missing row (no state) is one of zeros. Multiplications and additions are rounded one by one, so vectors of any
 * width give the same bytes. */
#include "op/op.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "op/recurrence.h"

struct conv {
    struct recurrence r;
    struct tensor *x, *w, *y;
    const real *taps; /* w transposed: [K, C] */
    real *dx;
};

static void conv_rows(void *arg, int64_t from, int64_t to)
{
    const struct conv *f = arg;
    int64_t n = tensor_cols(f->x), before = tensor_cols(f->w) - 1;
    int64_t s = recurrence_sequence(&f->r, from);
    for (int64_t i = from; i < to; i++) {
        while (i >= f->r.row_start[s + 1])
            s++;
        int64_t at = i - f->r.row_start[s];
        real *restrict y = f->y->x + i * n;
        memset(y, 0, (size_t)n * sizeof *y);
        for (int64_t j = 0; j <= before; j++) {
            int64_t source = at - before + j; /* below 0: in the state */
            if (source < 0 && !f->r.state)
                continue;
            const real *restrict x =
                source < 0 ? f->r.state[s] + (source + before) * n : f->x->x + (i - before + j) * n;
            const real *restrict tap = f->taps + j * n;
            for (int64_t c = 0; c < n; c++)
                y[c] += tap[c] * x[c];
        }
    }
}

/* The last K - 1 rows of what is now the past. */
static void keep_state(const struct conv *f)
{
    int64_t n = tensor_cols(f->x), before = tensor_cols(f->w) - 1;
    for (int64_t s = 0; s < f->r.n_seq; s++) {
        int64_t rows = f->r.row_start[s + 1] - f->r.row_start[s], fresh = min_i64(rows, before);
        real *state = f->r.state[s];
        memmove(state, state + fresh * n, (size_t)((before - fresh) * n) * sizeof *state);
        memcpy(state + (before - fresh) * n, f->x->x + (f->r.row_start[s + 1] - fresh) * n,
               (size_t)(fresh * n) * sizeof *state);
    }
}

/* dx[t, c] += Σ_j w[c, j] dy[t + K - 1 - j, c], within the sequence */
static void input_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct conv *f = arg;
    int64_t n = tensor_cols(f->x), width = tensor_cols(f->w);
    int64_t s = recurrence_sequence(&f->r, from);
    for (int64_t i = from; i < to; i++) {
        while (i >= f->r.row_start[s + 1])
            s++;
        for (int64_t j = 0; j < width; j++) {
            int64_t later = i + width - 1 - j;
            for (int64_t c = 0; c < n && later < f->r.row_start[s + 1]; c++)
                f->dx[i * n + c] += f->w->x[c * width + j] * f->y->g[later * n + c];
        }
    }
}

/* dw[c, j] += Σ_t dy[t, c] x[t - K + 1 + j, c] */
static void weight_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct conv *f = arg;
    int64_t n = tensor_cols(f->x), width = tensor_cols(f->w);
    int64_t s = recurrence_sequence(&f->r, from);
    for (int64_t i = from; i < to; i++) {
        while (i >= f->r.row_start[s + 1])
            s++;
        for (int64_t j = 0; j < width; j++) {
            int64_t source = i - width + 1 + j;
            for (int64_t c = 0; c < n && source >= f->r.row_start[s]; c++)
                sum[c * width + j] += f->y->g[i * n + c] * f->x->x[source * n + c];
        }
    }
}

static void conv_back(struct op_ctx *c, void *saved)
{
    struct conv *f = saved;
    if (!f->y->g)
        return;
    int64_t rows = tensor_rows(f->x), n = tensor_cols(f->x);
    if (f->x->track) {
        f->dx = tensor_grad(c, f->x);
        op_rows_run(c, rows, n, input_back_rows, f);
    }
    if (f->w->track)
        op_cols_run(c, rows, tensor_count(f->w), weight_sum, f, tensor_grad(c, f->w));
}

struct tensor *op_conv(struct op_ctx *c, struct tensor *x, struct tensor *w, const struct recurrence *r)
{
    int64_t rows = tensor_rows(x), n = tensor_cols(x), width = tensor_cols(w);
    assert(tensor_rows(w) == n && width >= 2);
    struct conv f = {.r = *r, .x = x, .w = w, .y = op_new2(c, rows, n)};
    f.y->track = op_records(c, x->track || w->track);
    if (f.y->track) {
        assert(!r->state);
        struct conv *s = op_struct(c, sizeof *s);
        *s = f;
        tape_push(c, conv_back, s);
    }
    size_t mark = arena_mark(c->arena);
    real *taps = arena_alloc(c->arena, (size_t)(n * width) * sizeof *taps);
    f.taps = taps;
    if (!c->dry)
        for (int64_t i = 0; i < n * width; i++)
            taps[i % width * n + i / width] = w->x[i];
    op_rows_run(c, rows, n, conv_rows, &f);
    if (!c->dry && r->state)
        keep_state(&f);
    arena_reset(c->arena, mark);
    return f.y;
}
