/* Tensors, the tape, and the two loops that operators run over the pool.
 *
 * Invariant: every arena_alloc of a real run is made in the same order by a dry run, whether its memory is then used
 * or not; so the peak of a measuring arena is the size that is needed. */
#include "op/tape.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"

enum {
    ITEM_ELEMENTS = 32768, /* of a row loop: about 10 µs of work, large against handing out an item */
    CHUNK_ROWS = 256       /* of a sum over rows */
};

void *op_struct(struct op_ctx *c, size_t size)
{
    void *p = arena_alloc(c->arena, size);
    if (c->dry) {
        assert(c->plan);
        p = arena_alloc(c->plan, size);
    }
    return p;
}

static struct tensor *tensor_header(struct op_ctx *c, int n_dims, const int64_t *dim)
{
    assert(n_dims >= 1 && n_dims <= TENSOR_MAX_DIMS);
    struct tensor *t = op_struct(c, sizeof *t);
    *t = (struct tensor){.n_dims = n_dims};
    memcpy(t->dim, dim, (size_t)n_dims * sizeof *dim);
    return t;
}

struct tensor *op_new(struct op_ctx *c, int n_dims, const int64_t *dim)
{
    struct tensor *t = tensor_header(c, n_dims, dim);
    t->x = arena_alloc(c->arena, (size_t)tensor_count(t) * sizeof(real));
    return t;
}

struct tensor *op_new2(struct op_ctx *c, int64_t rows, int64_t cols)
{
    return op_new(c, 2, (int64_t[]){rows, cols});
}

struct tensor *op_wrap(struct op_ctx *c, real *x, int64_t rows, int64_t cols)
{
    struct tensor *t = tensor_header(c, 2, (int64_t[]){rows, cols});
    t->x = x;
    return t;
}

void tape_push(struct op_ctx *c, op_back *back, void *saved)
{
    struct tape_node *node = op_struct(c, sizeof *node);
    *node = (struct tape_node){.previous = c->tape->last, .back = back, .saved = saved};
    c->tape->last = node;
}

real *tensor_grad_write(struct op_ctx *c, struct tensor *t, bool *accumulate)
{
    while (t->base)
        t = t->base;
    *accumulate = t->g != NULL;
    if (!t->g)
        t->g = arena_alloc(c->arena, (size_t)tensor_count(t) * sizeof(real));
    return t->g;
}

bool tensor_grad_take(struct tensor *t, struct tensor *y)
{
    while (t->base)
        t = t->base;
    if (t->g)
        return false;
    t->g = y->g;
    return true;
}

void tape_unwind(struct op_ctx *c)
{
    for (struct tape_node *node = c->tape->last; node; node = node->previous)
        node->back(c, node->saved);
    c->tape->last = NULL;
}

void tape_backward(struct op_ctx *c, struct tensor *loss, real scale)
{
    assert(tensor_count(loss) == 1);
    real *g = tensor_grad(c, loss);
    if (!c->dry)
        g[0] += scale;
    tape_unwind(c);
}

struct rows_job {
    op_rows_fn *fn;
    void *arg;
    int64_t rows, rows_per_item;
};

static void rows_item(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct rows_job *job = arg;
    int64_t from = item * job->rows_per_item;
    job->fn(job->arg, from, min_i64(from + job->rows_per_item, job->rows));
}

void op_rows_run(struct op_ctx *c, int64_t rows, int64_t cols, op_rows_fn *fn, void *arg)
{
    if (c->dry || rows == 0)
        return;
    struct rows_job job = {fn, arg, rows, max_i64(1, ITEM_ELEMENTS / max_i64(1, cols))};
    pool_run(c->pool, (rows + job.rows_per_item - 1) / job.rows_per_item, rows_item, &job);
}

static void clear_elements(void *arg, int64_t from, int64_t to)
{
    memset((real *)arg + from, 0, (size_t)(to - from) * sizeof(real));
}

real *tensor_grad(struct op_ctx *c, struct tensor *t)
{
    bool accumulate;
    real *g = tensor_grad_write(c, t, &accumulate);
    if (!accumulate)
        op_rows_run(c, tensor_count(t), 1, clear_elements, g);
    return g;
}

struct cols_job {
    op_cols_fn *fn;
    void *arg;
    int64_t rows, cols;
    real *partial; /* [chunks, cols] */
};

static void cols_item(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct cols_job *job = arg;
    real *sum = job->partial + item * job->cols;
    memset(sum, 0, (size_t)job->cols * sizeof *sum);
    job->fn(job->arg, item * CHUNK_ROWS, min_i64((item + 1) * CHUNK_ROWS, job->rows), sum);
}

void op_cols_run(struct op_ctx *c, int64_t rows, int64_t cols, op_cols_fn *fn, void *arg, real *out)
{
    int64_t chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    size_t mark = arena_mark(c->arena);
    struct cols_job job = {fn, arg, rows, cols, arena_alloc(c->arena, (size_t)(chunks * cols) * sizeof(real))};
    if (!c->dry && chunks > 0) {
        pool_run(c->pool, chunks, cols_item, &job);
        for (int64_t step = 1; step < chunks; step *= 2)
            for (int64_t i = 0; i + step < chunks; i += 2 * step)
                c->k->axpy(job.partial + i * cols, 1, job.partial + (i + step) * cols, cols);
        c->k->axpy(out, 1, job.partial, cols);
    }
    arena_reset(c->arena, mark);
}
