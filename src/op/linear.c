/* Linear layers, one matrix or one per expert, over gemm_run.
 *
 * A plain layer is the grouped one with a single expert, which owns all rows: list entries, gradients and scratch
 * follow from that. In a layer by heads each expert owns all rows, and its part of the columns. */
#include "op/op.h"

#include <assert.h>

struct linear {
    struct tensor *x, *y, *bias;
    const struct weight *w;
    const struct grid_rows *grid; /* x on a grid, while a forward that wants it runs */
    const int64_t *offset;        /* NULL: all rows through the only expert, or */
    bool heads;                   /* through every one, by columns */
};

static int64_t experts(const struct linear *l)
{
    return l->offset || l->heads ? l->w->n_expert : 1;
}

/* Columns of x and y, and where expert e's begin: in a layer by heads there are n_expert times as many. */
static int64_t stride(const struct linear *l, int64_t one)
{
    return l->heads ? l->w->n_expert * one : one;
}

static int64_t start(const struct linear *l, int64_t e, int64_t row, int64_t one)
{
    return l->heads ? row * stride(l, one) + e * one : row * one;
}

static int64_t first_row(const struct linear *l, int64_t e)
{
    if (!l->offset)
        return e == 0 || l->heads ? 0 : tensor_rows(l->x);
    return l->offset[e];
}

/* y[rows of e] = x[rows of e] W[e]ᵀ */
static struct gemm forward_entry(const struct linear *l, int64_t e, int64_t from, int64_t rows)
{
    const struct weight *w = l->w;
    return (struct gemm){
        .m = rows,
        .n = w->n,
        .k = w->k,
        .a = l->x->x + start(l, e, from, w->k),
        .a_row = stride(l, w->k),
        .a_col = 1,
        .b = w->param ? w->param->x + e * w->n * w->k : NULL,
        .b_row = w->transposed ? 1 : w->k,
        .b_col = w->transposed ? w->n : 1,
        .packed = w->param ? NULL : &w->packed[e],
        .grid = l->grid,
        .grid_row = from,
        .grid_col = l->heads ? e * w->k : 0,
        .c = l->y->x + start(l, e, from, w->n),
        .c_row = stride(l, w->n),
    };
}

/* dx[rows of e] (+)= dy[rows of e] W[e] */
static struct gemm input_entry(const struct linear *l, int64_t e, int64_t from, int64_t rows, real *dx, bool accumulate)
{
    const struct weight *w = l->w;
    return (struct gemm){
        .m = rows,
        .n = w->k,
        .k = w->n,
        .a = l->y->g + start(l, e, from, w->n),
        .a_row = stride(l, w->n),
        .a_col = 1,
        .b = w->param->x + e * w->n * w->k,
        .b_row = w->transposed ? w->n : 1,
        .b_col = w->transposed ? 1 : w->k,
        .c = dx + start(l, e, from, w->k),
        .c_row = stride(l, w->k),
        .accumulate = accumulate,
    };
}

/* dW[e] += dy[rows of e]ᵀ x[rows of e], or its transpose */
static struct gemm weight_entry(const struct linear *l, int64_t e, int64_t from, int64_t rows, real *dw)
{
    const struct weight *w = l->w;
    const real *dy = l->y->g + start(l, e, from, w->n), *x = l->x->x + start(l, e, from, w->k);
    bool t = w->transposed;
    return (struct gemm){
        .m = t ? w->k : w->n,
        .n = t ? w->n : w->k,
        .k = rows,
        .a = t ? x : dy,
        .a_row = 1,
        .a_col = stride(l, t ? w->k : w->n),
        .b = t ? dy : x,
        .b_row = 1,
        .b_col = stride(l, t ? w->n : w->k),
        .c = dw + e * w->n * w->k,
        .c_row = t ? w->n : w->k,
        .accumulate = true,
    };
}

enum product { FORWARD, INPUT, WEIGHT };

static struct gemm entry(const struct linear *l, enum product which, int64_t e, int64_t from, int64_t rows, real *grad,
                         bool accumulate)
{
    switch (which) {
    case INPUT:
        return input_entry(l, e, from, rows, grad, accumulate);
    case WEIGHT:
        return weight_entry(l, e, from, rows, grad);
    default:
        return forward_entry(l, e, from, rows);
    }
}

/* One call of gemm_run for n layers. */
static void run_products(struct op_ctx *c, const struct linear *l, int n, enum product which, real *grad,
                         bool accumulate)
{
    size_t mark = arena_mark(c->arena);
    int64_t count = 0;
    for (int i = 0; i < n; i++)
        count += experts(&l[i]);
    struct gemm *list = op_struct(c, (size_t)count * sizeof *list);
    /* What one product with all rows would need is set aside whatever the routing: an arena that is too small then
     * fails at once, not at the first batch that sends everything to one expert. */
    struct arena measure;
    arena_init_measuring(&measure);
    for (int i = 0; i < n; i++)
        list[i] = entry(&l[i], which, 0, 0, tensor_rows(l[i].x), grad, accumulate);
    gemm_run(c->k, c->pool, &measure, c->precision, list, n);
    size_t scratch_mark = arena_mark(c->arena);
    arena_alloc(c->arena, measure.peak);
    arena_reset(c->arena, scratch_mark);
    if (!c->dry) {
        struct gemm *at = list;
        for (int i = 0; i < n; i++)
            for (int64_t e = 0; e < experts(&l[i]); e++) {
                int64_t from = first_row(&l[i], e);
                int64_t rows = l[i].heads ? tensor_rows(l[i].x) : first_row(&l[i], e + 1) - from;
                *at++ = entry(&l[i], which, e, from, rows, grad, accumulate);
            }
        gemm_run(c->k, c->pool, c->arena, c->precision, list, count);
    }
    arena_reset(c->arena, mark);
}

struct bias_job {
    const struct op_ctx *c;
    const struct linear *l;
    real *db;
};

static void bias_rows(void *arg, int64_t from, int64_t to)
{
    const struct bias_job *job = arg;
    const struct linear *l = job->l;
    int64_t n = l->w->n, e = 0;
    for (int64_t i = from; i < to; i++) {
        while (i >= first_row(l, e + 1))
            e++;
        job->c->k->axpy(l->y->x + i * n, 1, l->bias->x + e * n, n);
    }
}

static void bias_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct bias_job *job = arg;
    int64_t n = job->l->w->n;
    for (int64_t i = from; i < to; i++)
        job->c->k->axpy(sum, 1, job->l->y->g + i * n, n);
}

/* One expert's bias: its rows in order. Experts are few hundred rows each, and independent of each other. */
static void bias_expert(void *arg, int64_t from, int64_t to)
{
    const struct bias_job *job = arg;
    for (int64_t e = from; e < to; e++)
        bias_sum(arg, first_row(job->l, e), first_row(job->l, e + 1), job->db + e * job->l->w->n);
}

static void linear_back(struct op_ctx *c, void *saved)
{
    struct linear *l = saved;
    if (!l->y->g)
        return;
    if (l->x->track) {
        bool accumulate;
        real *dx = tensor_grad_write(c, l->x, &accumulate);
        run_products(c, l, 1, INPUT, dx, accumulate);
    }
    if (l->w->param->track)
        run_products(c, l, 1, WEIGHT, tensor_grad(c, l->w->param), true);
    if (l->bias && l->bias->track) {
        struct bias_job job = {c, l, tensor_grad(c, l->bias)};
        if (l->offset)
            op_rows_run(c, l->w->n_expert, tensor_rows(l->x) / l->w->n_expert * l->w->n, bias_expert, &job);
        else
            op_cols_run(c, tensor_rows(l->x), l->w->n, bias_sum, &job, job.db);
    }
}

#ifndef CADRE_F64
struct to_grid {
    const struct kernels *k;
    const struct tensor *x;
    struct grid_rows rows;
};

static void grid_rows_of(void *arg, int64_t from, int64_t to)
{
    const struct to_grid *job = arg;
    int64_t cols = tensor_cols(job->x), at = from * cols;
    job->k->to_grid(job->x->x + at, (to - from) * cols, grid_rows_from(job->rows, at));
}
#endif

/* Whether a layer wants its rows on a grid. */
static bool wants_grid(const struct op_ctx *c, const struct linear *l)
{
#ifndef CADRE_F64
    return c->act != ACT_F32 && !l->w->param && c->k->gemm_grid[l->w->packed->type];
#else
    (void)c, (void)l;
    return false;
#endif
}

static const struct grid_rows *on_grid(struct op_ctx *c, const struct tensor *x)
{
#ifndef CADRE_F64
    int64_t n = tensor_count(x);
    void *memory = arena_alloc(c->arena, grid_rows_bytes(c->act, n));
    struct to_grid job = {c->k, x, grid_rows_in(memory, c->act, n, tensor_cols(x))};
    struct grid_rows *out = op_struct(c, sizeof *out);
    *out = job.rows;
    op_rows_run(c, tensor_rows(x), tensor_cols(x), grid_rows_of, &job);
    return out;
#else
    (void)c, (void)x;
    return NULL;
#endif
}

/* What one layer adds to its product: the bias, and its place on the tape. */
static void finish(struct op_ctx *c, struct linear *l)
{
    const struct weight *w = l->w;
    if (l->bias) {
        struct bias_job job = {c, l, NULL};
        op_rows_run(c, tensor_rows(l->x), w->n, bias_rows, &job);
    }
    if (op_records(c, l->x->track || (w->param && w->param->track) || (l->bias && l->bias->track))) {
        assert(w->param); /* a packed matrix has no backward */
        l->y->track = true;
        struct linear *s = op_struct(c, sizeof *s);
        *s = *l;
        tape_push(c, linear_back, s);
    }
}

/* n layers of one x: their products are one list of work, and x goes onto the grid once. */
static void linears(struct op_ctx *c, struct linear *l, int n)
{
    bool grid = false;
    for (int i = 0; i < n; i++) {
        assert(tensor_cols(l[i].x) == stride(&l[i], l[i].w->k) && !(l[i].heads && l[i].bias));
        l[i].y = op_new2(c, tensor_rows(l[i].x), stride(&l[i], l[i].w->n));
        grid = grid || wants_grid(c, &l[i]);
    }
    size_t mark = arena_mark(c->arena);
    const struct grid_rows *rows = grid ? on_grid(c, l[0].x) : NULL;
    for (int i = 0; i < n; i++)
        l[i].grid = wants_grid(c, &l[i]) ? rows : NULL;
    run_products(c, l, n, FORWARD, NULL, false);
    arena_reset(c->arena, mark);
    for (int i = 0; i < n; i++) {
        l[i].grid = NULL;
        finish(c, &l[i]);
    }
}

static struct tensor *linear(struct op_ctx *c, struct linear l)
{
    linears(c, &l, 1);
    return l.y;
}

void op_linears(struct op_ctx *c, struct tensor *x, const int64_t *offset, int n, const struct op_linear_part *part,
                struct tensor **y)
{
    struct linear l[OP_LINEARS];
    assert(n <= OP_LINEARS);
    for (int i = 0; i < n; i++) {
        assert(offset ? part[i].w->n_expert >= 1 : part[i].w->n_expert <= 1);
        l[i] = (struct linear){.x = x, .w = part[i].w, .offset = offset, .bias = part[i].bias};
    }
    linears(c, l, n);
    for (int i = 0; i < n; i++)
        y[i] = l[i].y;
}

struct tensor *op_linear(struct op_ctx *c, struct tensor *x, const struct weight *w, struct tensor *bias)
{
    assert(w->n_expert <= 1);
    return linear(c, (struct linear){.x = x, .w = w, .bias = bias});
}

struct tensor *op_linear_grouped(struct op_ctx *c, struct tensor *x, const struct weight *w, const int64_t *offset,
                                 struct tensor *bias)
{
    assert(w->n_expert >= 1);
    assert(c->dry || (offset[0] == 0 && offset[w->n_expert] == tensor_rows(x)));
    return linear(c, (struct linear){.x = x, .w = w, .offset = offset, .bias = bias});
}

struct tensor *op_linear_heads(struct op_ctx *c, struct tensor *x, const struct weight *w)
{
    assert(w->n_expert >= 1);
    return linear(c, (struct linear){.x = x, .w = w, .heads = true});
}
