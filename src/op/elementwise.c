/* Arithmetic of two tensors; the second may be a row or a column that is repeated. One loop over rows serves all:
 * element (i, j) of b is at b[i * row + j * col], where a repeated direction has stride 0. */
#include "op/op.h"

#include <assert.h>

struct binary_rule {
    void (*value)(real *y, const real *a, const real *b, int64_t b_col, int64_t n);
    /* += the terms of one row into d a; the terms of d b are dy · slope_b, or without it dy · b_sign */
    void (*back_a)(real *da, const real *dy, const real *b, int64_t b_col, int64_t n);
    bool product;
    real b_sign;
};

struct binary {
    const struct kernels *k;
    const struct binary_rule *rule;
    struct tensor *a, *b, *y;
    int64_t row, col; /* strides of b */
    real *da, *db;
};

static void add_value(real *y, const real *a, const real *b, int64_t b_col, int64_t n)
{
    if (b_col)
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] + b[j];
    else
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] + b[0];
}

static void sub_value(real *y, const real *a, const real *b, int64_t b_col, int64_t n)
{
    if (b_col)
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] - b[j];
    else
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] - b[0];
}

static void mul_value(real *y, const real *a, const real *b, int64_t b_col, int64_t n)
{
    if (b_col)
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] * b[j];
    else
        for (int64_t j = 0; j < n; j++)
            y[j] = a[j] * b[0];
}

static void sum_back_a(real *da, const real *dy, const real *b, int64_t b_col, int64_t n)
{
    (void)b, (void)b_col;
    for (int64_t j = 0; j < n; j++)
        da[j] += dy[j];
}

static void mul_back_a(real *da, const real *dy, const real *b, int64_t b_col, int64_t n)
{
    if (b_col)
        for (int64_t j = 0; j < n; j++)
            da[j] += dy[j] * b[j];
    else
        for (int64_t j = 0; j < n; j++)
            da[j] += dy[j] * b[0];
}

static const struct binary_rule add = {add_value, sum_back_a, false, 1}, sub = {sub_value, sum_back_a, false, -1},
                                mul = {mul_value, mul_back_a, true, 0};

static void binary_rows(void *arg, int64_t from, int64_t to)
{
    const struct binary *s = arg;
    int64_t d = tensor_cols(s->a);
    for (int64_t i = from; i < to; i++)
        s->rule->value(s->y->x + i * d, s->a->x + i * d, s->b->x + i * s->row, s->col, d);
}

static void back_a_rows(void *arg, int64_t from, int64_t to)
{
    const struct binary *s = arg;
    int64_t d = tensor_cols(s->a);
    for (int64_t i = from; i < to; i++)
        s->rule->back_a(s->da + i * d, s->y->g + i * d, s->b->x + i * s->row, s->col, d);
}

/* db += the terms of row i, where b has an element per column */
static void back_b_row(const struct binary *s, int64_t i, real *db)
{
    int64_t d = tensor_cols(s->a);
    const real *dy = s->y->g + i * d, *a = s->a->x + i * d;
    if (s->rule->product)
        for (int64_t j = 0; j < d; j++)
            db[j] += dy[j] * a[j];
    else
        for (int64_t j = 0; j < d; j++)
            db[j] += dy[j] * s->rule->b_sign;
}

static void back_b_rows(void *arg, int64_t from, int64_t to)
{
    const struct binary *s = arg;
    int64_t d = tensor_cols(s->a);
    for (int64_t i = from; i < to; i++) {
        if (s->col)
            back_b_row(s, i, s->db + i * s->row);
        else
            s->db[i] += s->rule->product ? s->k->dot(s->y->g + i * d, s->a->x + i * d, d)
                                         : s->k->sum(s->y->g + i * d, d) * s->rule->b_sign;
    }
}

static void back_b_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    for (int64_t i = from; i < to; i++)
        back_b_row(arg, i, sum);
}

static void binary_back(struct op_ctx *c, void *saved)
{
    struct binary *s = saved;
    if (!s->y->g)
        return;
    int64_t rows = tensor_rows(s->a), cols = tensor_cols(s->a);
    if (s->b->track) {
        s->db = tensor_grad(c, s->b);
        if (s->row == 0)
            op_cols_run(c, rows, cols, back_b_sum, s, s->db);
        else
            op_rows_run(c, rows, cols, back_b_rows, s);
    }
    /* Last, for then dy is free: along a residual stream one gradient array serves every layer. */
    if (s->a->track && (s->rule->product || !tensor_grad_take(s->a, s->y))) {
        s->da = tensor_grad(c, s->a);
        op_rows_run(c, rows, cols, back_a_rows, s);
    }
}

static struct tensor *binary(struct op_ctx *c, const struct binary_rule *rule, struct tensor *a, struct tensor *b)
{
    int64_t rows = tensor_rows(a), cols = tensor_cols(a);
    struct binary s = {.k = c->k, .rule = rule, .a = a, .b = b, .y = op_new(c, a->n_dims, a->dim)};
    if (tensor_count(b) == tensor_count(a)) {
        s.row = cols;
        s.col = 1;
    } else if (tensor_rows(b) == 1 && tensor_cols(b) == cols) {
        s.col = 1;
    } else {
        assert(tensor_rows(b) == rows && tensor_cols(b) == 1);
        s.row = 1;
    }
    op_rows_run(c, rows, cols, binary_rows, &s);
    if (op_records(c, a->track || b->track)) {
        s.y->track = true;
        struct binary *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, binary_back, saved);
    }
    return s.y;
}

struct tensor *op_add(struct op_ctx *c, struct tensor *a, struct tensor *b)
{
    return binary(c, &add, a, b);
}

struct tensor *op_sub(struct op_ctx *c, struct tensor *a, struct tensor *b)
{
    return binary(c, &sub, a, b);
}

struct tensor *op_mul(struct op_ctx *c, struct tensor *a, struct tensor *b)
{
    return binary(c, &mul, a, b);
}

struct scale {
    const struct kernels *k;
    struct tensor *a, *y;
    real s;
    real *da;
};

static void scale_elements(void *arg, int64_t from, int64_t to)
{
    const struct scale *s = arg;
    for (int64_t i = from; i < to; i++)
        s->y->x[i] = s->a->x[i] * s->s;
}

static void scale_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct scale *s = arg;
    s->k->axpy(s->da + from, s->s, s->y->g + from, to - from);
}

static void scale_back(struct op_ctx *c, void *saved)
{
    struct scale *s = saved;
    if (!s->y->g)
        return;
    s->da = tensor_grad(c, s->a);
    op_rows_run(c, tensor_count(s->a), 1, scale_back_elements, s);
}

/* An operator of one tensor and one number. */
static struct tensor *with_number(struct op_ctx *c, struct tensor *a, real number, op_rows_fn *value,
                                  void (*back)(struct op_ctx *c, void *saved))
{
    struct scale s = {.k = c->k, .a = a, .y = op_new(c, a->n_dims, a->dim), .s = number};
    op_rows_run(c, tensor_count(a), 1, value, &s);
    if (op_records(c, a->track)) {
        s.y->track = true;
        struct scale *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, back, saved);
    }
    return s.y;
}

struct tensor *op_scale(struct op_ctx *c, struct tensor *a, real factor)
{
    return with_number(c, a, factor, scale_elements, scale_back);
}

static void clamp_elements(void *arg, int64_t from, int64_t to)
{
    const struct scale *s = arg;
    for (int64_t i = from; i < to; i++) {
        real x = s->a->x[i];
        s->y->x[i] = x > s->s ? s->s : x < -s->s ? -s->s : x;
    }
}

static void clamp_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct scale *s = arg;
    for (int64_t i = from; i < to; i++)
        if (s->a->x[i] <= s->s && s->a->x[i] >= -s->s)
            s->da[i] += s->y->g[i];
}

static void clamp_back(struct op_ctx *c, void *saved)
{
    struct scale *s = saved;
    if (!s->y->g)
        return;
    s->da = tensor_grad(c, s->a);
    op_rows_run(c, tensor_count(s->a), 1, clamp_back_elements, s);
}

struct tensor *op_clamp(struct op_ctx *c, struct tensor *a, real limit)
{
    return with_number(c, a, limit, clamp_elements, clamp_back);
}

struct quotient {
    const struct kernels *k;
    struct tensor *a, *b, *y;
    real floor;
    real *da, *db;
};

static real divisor(const struct quotient *s, int64_t i)
{
    return s->b->x[i] > s->floor ? s->b->x[i] : s->floor;
}

static void quotient_rows(void *arg, int64_t from, int64_t to)
{
    const struct quotient *s = arg;
    int64_t d = tensor_cols(s->a);
    for (int64_t i = from; i < to; i++) {
        real b = divisor(s, i);
        for (int64_t j = i * d; j < (i + 1) * d; j++)
            s->y->x[j] = s->a->x[j] / b;
    }
}

/* da += dy / b; db += -Σ_j dy y / b */
static void quotient_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct quotient *s = arg;
    int64_t d = tensor_cols(s->a);
    for (int64_t i = from; i < to; i++) {
        real b = divisor(s, i);
        if (s->da)
            for (int64_t j = i * d; j < (i + 1) * d; j++)
                s->da[j] += s->y->g[j] / b;
        if (s->db && s->b->x[i] > s->floor)
            s->db[i] -= s->k->dot(s->y->g + i * d, s->y->x + i * d, d) / b;
    }
}

static void quotient_back(struct op_ctx *c, void *saved)
{
    struct quotient *s = saved;
    if (!s->y->g)
        return;
    s->da = s->a->track ? tensor_grad(c, s->a) : NULL;
    s->db = s->b->track ? tensor_grad(c, s->b) : NULL;
    op_rows_run(c, tensor_rows(s->a), tensor_cols(s->a), quotient_back_rows, s);
}

struct tensor *op_div_col(struct op_ctx *c, struct tensor *a, struct tensor *b, real floor)
{
    assert(tensor_count(b) == tensor_rows(a));
    struct quotient s = {.k = c->k, .a = a, .b = b, .y = op_new(c, a->n_dims, a->dim), .floor = floor};
    op_rows_run(c, tensor_rows(a), tensor_cols(a), quotient_rows, &s);
    if (op_records(c, a->track || b->track)) {
        s.y->track = true;
        struct quotient *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, quotient_back, saved);
    }
    return s.y;
}
