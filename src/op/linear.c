/* Linear layers, one matrix or one per expert, over gemm_run.
 *
 * A plain layer is the grouped one with a single expert, which owns all rows: list entries, gradients and scratch
 * follow from that. */
#include "op/op.h"

#include <assert.h>

struct linear {
    struct tensor *x, *y, *bias;
    const struct weight *w;
    const int64_t *offset; /* NULL: all rows through the only expert */
};

static int64_t experts(const struct linear *l)
{
    return l->offset ? l->w->n_expert : 1;
}

static int64_t first_row(const struct linear *l, int64_t e)
{
    if (!l->offset)
        return e == 0 ? 0 : tensor_rows(l->x);
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
        .a = l->x->x + from * w->k,
        .a_row = w->k,
        .a_col = 1,
        .b = w->param ? w->param->x + e * w->n * w->k : NULL,
        .b_row = w->k,
        .b_col = 1,
        .packed = w->param ? NULL : &w->packed[e],
        .c = l->y->x + from * w->n,
        .c_row = w->n,
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
        .a = l->y->g + from * w->n,
        .a_row = w->n,
        .a_col = 1,
        .b = w->param->x + e * w->n * w->k,
        .b_row = 1,
        .b_col = w->k,
        .c = dx + from * w->k,
        .c_row = w->k,
        .accumulate = accumulate,
    };
}

/* dW[e] += dy[rows of e]ᵀ x[rows of e] */
static struct gemm weight_entry(const struct linear *l, int64_t e, int64_t from, int64_t rows, real *dw)
{
    const struct weight *w = l->w;
    return (struct gemm){
        .m = w->n,
        .n = w->k,
        .k = rows,
        .a = l->y->g + from * w->n,
        .a_row = 1,
        .a_col = w->n,
        .b = l->x->x + from * w->k,
        .b_row = 1,
        .b_col = w->k,
        .c = dw + e * w->n * w->k,
        .c_row = w->k,
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

static void run_product(struct op_ctx *c, const struct linear *l, enum product which, real *grad, bool accumulate)
{
    size_t mark = arena_mark(c->arena);
    struct gemm *list = op_struct(c, (size_t)experts(l) * sizeof *list);
    /* What one product with all rows would need is set aside whatever the routing: an arena that is too small then
     * fails at once, not at the first batch that sends everything to one expert. */
    struct arena measure;
    arena_init_measuring(&measure);
    list[0] = entry(l, which, 0, 0, tensor_rows(l->x), grad, accumulate);
    gemm_run(c->k, c->pool, &measure, c->precision, list, 1);
    size_t scratch_mark = arena_mark(c->arena);
    arena_alloc(c->arena, measure.peak);
    arena_reset(c->arena, scratch_mark);
    if (!c->dry) {
        for (int64_t e = 0; e < experts(l); e++) {
            int64_t from = first_row(l, e);
            list[e] = entry(l, which, e, from, first_row(l, e + 1) - from, grad, accumulate);
        }
        gemm_run(c->k, c->pool, c->arena, c->precision, list, experts(l));
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
        run_product(c, l, INPUT, dx, accumulate);
    }
    if (l->w->param->track)
        run_product(c, l, WEIGHT, tensor_grad(c, l->w->param), true);
    if (l->bias && l->bias->track) {
        struct bias_job job = {c, l, tensor_grad(c, l->bias)};
        if (l->offset)
            op_rows_run(c, l->w->n_expert, tensor_rows(l->x) / l->w->n_expert * l->w->n, bias_expert, &job);
        else
            op_cols_run(c, tensor_rows(l->x), l->w->n, bias_sum, &job, job.db);
    }
}

#ifndef CADRE_F64
static void round_rows(void *arg, int64_t from, int64_t to)
{
    const struct linear *l = arg; /* x → y, k wide */
    const struct dtype_info *q8_0 = dtype_info(DTYPE_Q8_0);
    unsigned char block[64];
    for (int64_t i = from * l->w->k; i < to * l->w->k; i += q8_0->block) {
        q8_0->encode(l->x->x + i, block, q8_0->block);
        q8_0->decode(block, l->y->x + i, q8_0->block);
    }
}
#endif

/* x as products with block-quantized weights are asked to see it; x itself otherwise. */
static struct tensor *activations(struct op_ctx *c, const struct linear *l)
{
#ifndef CADRE_F64
    if (c->block_activations && !l->w->param && dtype_info(l->w->packed->type)->block > 1) {
        struct linear job = {.x = l->x, .y = op_new2(c, tensor_rows(l->x), l->w->k), .w = l->w};
        op_rows_run(c, tensor_rows(l->x), l->w->k, round_rows, &job);
        return job.y;
    }
#endif
    (void)c;
    return l->x;
}

static struct tensor *linear(struct op_ctx *c, struct linear l)
{
    const struct weight *w = l.w;
    assert(tensor_cols(l.x) == w->k);
    l.y = op_new2(c, tensor_rows(l.x), w->n);
    size_t mark = arena_mark(c->arena);
    struct linear product = l;
    product.x = activations(c, &l);
    run_product(c, &product, FORWARD, NULL, false);
    arena_reset(c->arena, mark);
    if (l.bias) {
        struct bias_job job = {c, &l, NULL};
        op_rows_run(c, tensor_rows(l.x), w->n, bias_rows, &job);
    }
    if (op_records(c, l.x->track || (w->param && w->param->track) || (l.bias && l.bias->track))) {
        assert(w->param); /* a packed matrix has no backward */
        l.y->track = true;
        struct linear *s = op_struct(c, sizeof *s);
        *s = l;
        tape_push(c, linear_back, s);
    }
    return l.y;
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
