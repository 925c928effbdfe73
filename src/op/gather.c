/* Views and copies: the same numbers under another shape or in another place. */
#include "op/op.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "op/scatter.h"

/* A view needs no tape entry: its gradient is its base's. */
struct tensor *op_reshape(struct op_ctx *c, struct tensor *x, int n_dims, const int64_t *dim)
{
    assert(n_dims >= 1 && n_dims <= TENSOR_MAX_DIMS);
    struct tensor *y = op_struct(c, sizeof *y);
    *y = (struct tensor){.x = x->x, .base = x, .n_dims = n_dims, .track = x->track};
    memcpy(y->dim, dim, (size_t)n_dims * sizeof *dim);
    assert(tensor_count(y) == tensor_count(x));
    return y;
}

/* Columns `from` … from + n of wide ↔ columns 0 … n of narrow. */
struct columns {
    const struct kernels *k;
    real *wide, *narrow;
    int64_t wide_cols, narrow_cols, from;
};

static void copy_out_rows(void *arg, int64_t from, int64_t to)
{
    const struct columns *s = arg;
    for (int64_t i = from; i < to; i++)
        memcpy(s->narrow + i * s->narrow_cols, s->wide + i * s->wide_cols + s->from,
               (size_t)s->narrow_cols * sizeof(real));
}

static void copy_in_rows(void *arg, int64_t from, int64_t to)
{
    const struct columns *s = arg;
    for (int64_t i = from; i < to; i++)
        memcpy(s->wide + i * s->wide_cols + s->from, s->narrow + i * s->narrow_cols,
               (size_t)s->narrow_cols * sizeof(real));
}

static void add_out_rows(void *arg, int64_t from, int64_t to)
{
    const struct columns *s = arg;
    for (int64_t i = from; i < to; i++)
        s->k->axpy(s->narrow + i * s->narrow_cols, 1, s->wide + i * s->wide_cols + s->from, s->narrow_cols);
}

static void add_in_rows(void *arg, int64_t from, int64_t to)
{
    const struct columns *s = arg;
    for (int64_t i = from; i < to; i++)
        s->k->axpy(s->wide + i * s->wide_cols + s->from, 1, s->narrow + i * s->narrow_cols, s->narrow_cols);
}

struct slice {
    struct tensor *x, *y;
    int64_t from;
};

static void slice_back(struct op_ctx *c, void *saved)
{
    struct slice *s = saved;
    if (!s->y->g)
        return;
    struct columns job = {c->k, tensor_grad(c, s->x), s->y->g, tensor_cols(s->x), tensor_cols(s->y), s->from};
    op_rows_run(c, tensor_rows(s->y), tensor_cols(s->y), add_in_rows, &job);
}

struct tensor *op_slice_cols(struct op_ctx *c, struct tensor *x, int64_t from, int64_t n)
{
    assert(from >= 0 && n >= 1 && from + n <= tensor_cols(x));
    struct tensor *y = op_new2(c, tensor_rows(x), n);
    struct columns job = {c->k, x->x, y->x, tensor_cols(x), n, from};
    op_rows_run(c, tensor_rows(x), n, copy_out_rows, &job);
    if (op_records(c, x->track)) {
        y->track = true;
        struct slice *s = op_struct(c, sizeof *s);
        *s = (struct slice){x, y, from};
        tape_push(c, slice_back, s);
    }
    return y;
}

struct concat {
    struct tensor *a, *b, *y;
};

static void concat_part(struct op_ctx *c, struct tensor *y, struct tensor *part, int64_t from)
{
    struct columns job = {c->k, y->x, part->x, tensor_cols(y), tensor_cols(part), from};
    op_rows_run(c, tensor_rows(y), tensor_cols(part), copy_in_rows, &job);
}

static void concat_part_back(struct op_ctx *c, struct tensor *y, struct tensor *part, int64_t from)
{
    if (!part->track)
        return;
    struct columns job = {c->k, y->g, tensor_grad(c, part), tensor_cols(y), tensor_cols(part), from};
    op_rows_run(c, tensor_rows(y), tensor_cols(part), add_out_rows, &job);
}

static void concat_back(struct op_ctx *c, void *saved)
{
    struct concat *s = saved;
    if (!s->y->g)
        return;
    concat_part_back(c, s->y, s->a, 0);
    concat_part_back(c, s->y, s->b, tensor_cols(s->a));
}

struct tensor *op_concat_cols(struct op_ctx *c, struct tensor *a, struct tensor *b)
{
    assert(tensor_rows(a) == tensor_rows(b));
    struct tensor *y = op_new2(c, tensor_rows(a), tensor_cols(a) + tensor_cols(b));
    concat_part(c, y, a, 0);
    concat_part(c, y, b, tensor_cols(a));
    if (op_records(c, a->track || b->track)) {
        y->track = true;
        struct concat *s = op_struct(c, sizeof *s);
        *s = (struct concat){a, b, y};
        tape_push(c, concat_back, s);
    }
    return y;
}

enum { SCATTER_COLS = 64 }; /* 256 bytes of each row: several whole cache lines */

struct scatter {
    const struct kernels *k;
    real *dst;
    const real *src;
    const int32_t *row;
    int64_t n, cols;
};

static void scatter_item(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct scatter *s = arg;
    int64_t from = item * SCATTER_COLS, n = min_i64(SCATTER_COLS, s->cols - from);
    for (int64_t i = 0; i < s->n; i++)
        if (s->row[i] >= 0)
            s->k->axpy(s->dst + s->row[i] * s->cols + from, 1, s->src + i * s->cols + from, n);
}

void op_scatter_add(struct op_ctx *c, real *dst, const real *src, const int32_t *row, int64_t n, int64_t cols)
{
    struct scatter job = {c->k, dst, src, row, n, cols};
    if (!c->dry)
        pool_run(c->pool, (cols + SCATTER_COLS - 1) / SCATTER_COLS, scatter_item, &job);
}

struct gather {
    struct tensor *x, *y;
    const int32_t *index;
    real *dx;
};

static void gather_row_rows(void *arg, int64_t from, int64_t to)
{
    const struct gather *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        assert(s->index[i] >= -1 && s->index[i] < tensor_rows(s->x));
        if (s->index[i] < 0)
            memset(s->y->x + i * d, 0, (size_t)d * sizeof(real));
        else
            memcpy(s->y->x + i * d, s->x->x + s->index[i] * d, (size_t)d * sizeof(real));
    }
}

static void gather_rows_back(struct op_ctx *c, void *saved)
{
    struct gather *s = saved;
    if (s->y->g)
        op_scatter_add(c, tensor_grad(c, s->x), s->y->g, s->index, tensor_rows(s->y), tensor_cols(s->y));
}

static void gather_col_rows(void *arg, int64_t from, int64_t to)
{
    const struct gather *s = arg;
    int64_t d = tensor_cols(s->x), k = tensor_cols(s->y);
    for (int64_t i = from; i < to; i++)
        for (int64_t j = i * k; j < (i + 1) * k; j++) {
            assert(s->index[j] >= -1 && s->index[j] < d);
            s->y->x[j] = s->index[j] < 0 ? 0 : s->x->x[i * d + s->index[j]];
        }
}

static void gather_col_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct gather *s = arg;
    int64_t d = tensor_cols(s->x), k = tensor_cols(s->y);
    for (int64_t i = from; i < to; i++)
        for (int64_t j = i * k; j < (i + 1) * k; j++)
            if (s->index[j] >= 0)
                s->dx[i * d + s->index[j]] += s->y->g[j];
}

static void gather_cols_back(struct op_ctx *c, void *saved)
{
    struct gather *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->y), tensor_cols(s->y), gather_col_back_rows, s);
}

static struct tensor *gather(struct op_ctx *c, struct gather g, op_rows_fn *fn, op_back *back)
{
    op_rows_run(c, tensor_rows(g.y), tensor_cols(g.y), fn, &g);
    if (op_records(c, g.x->track)) {
        g.y->track = true;
        struct gather *s = op_struct(c, sizeof *s);
        *s = g;
        tape_push(c, back, s);
    }
    return g.y;
}

struct tensor *op_gather_rows(struct op_ctx *c, struct tensor *x, const int32_t *row, int64_t n)
{
    struct gather g = {.x = x, .y = op_new2(c, n, tensor_cols(x)), .index = row};
    return gather(c, g, gather_row_rows, gather_rows_back);
}

struct tensor *op_gather_cols(struct op_ctx *c, struct tensor *x, const int32_t *id, int64_t k)
{
    struct gather g = {.x = x, .y = op_new2(c, tensor_rows(x), k), .index = id};
    return gather(c, g, gather_col_rows, gather_cols_back);
}
