/* Sums and means: of rows (the kernels' order), of columns (chunks and a tree), of everything (rows, then their
 * sums as one row). */
#include "op/op.h"

struct reduce {
    const struct kernels *k;
    struct tensor *x, *y;
    real scale; /* 1, or 1 / number of terms */
    real *row;  /* [rows] where the sums of rows go */
    real *dx;
};

static void row_sums(void *arg, int64_t from, int64_t to)
{
    const struct reduce *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        s->row[i] = s->k->sum(s->x->x + i * d, d);
}

static void column_sums(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct reduce *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        s->k->axpy(sum, 1, s->x->x + i * d, d);
}

static void row_sum_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct reduce *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        for (int64_t j = i * d; j < (i + 1) * d; j++)
            s->dx[j] += s->y->g[i];
}

static void row_sum_back(struct op_ctx *c, void *saved)
{
    struct reduce *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), row_sum_back_rows, s);
}

static void col_mean_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct reduce *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        s->k->axpy(s->dx + i * d, s->scale, s->y->g, d);
}

static void col_mean_back(struct op_ctx *c, void *saved)
{
    struct reduce *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), col_mean_back_rows, s);
}

static void total_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct reduce *s = arg;
    real g = s->y->g[0] * s->scale;
    for (int64_t i = from; i < to; i++)
        s->dx[i] += g;
}

static void total_back(struct op_ctx *c, void *saved)
{
    struct reduce *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_count(s->x), 1, total_back_elements, s);
}

static struct tensor *record(struct op_ctx *c, struct reduce s, op_back *back)
{
    if (op_records(c, s.x->track)) {
        s.y->track = true;
        struct reduce *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, back, saved);
    }
    return s.y;
}

struct tensor *op_row_sum(struct op_ctx *c, struct tensor *x)
{
    struct reduce s = {.k = c->k, .x = x, .y = op_new2(c, tensor_rows(x), 1), .scale = 1};
    s.row = s.y->x;
    op_rows_run(c, tensor_rows(x), tensor_cols(x), row_sums, &s);
    return record(c, s, row_sum_back);
}

struct tensor *op_col_mean(struct op_ctx *c, struct tensor *x)
{
    int64_t d = tensor_cols(x);
    struct reduce s = {.k = c->k, .x = x, .y = op_new2(c, 1, d), .scale = 1 / (real)tensor_rows(x)};
    if (!c->dry)
        for (int64_t j = 0; j < d; j++)
            s.y->x[j] = 0;
    op_cols_run(c, tensor_rows(x), d, column_sums, &s, s.y->x);
    if (!c->dry)
        for (int64_t j = 0; j < d; j++)
            s.y->x[j] *= s.scale;
    return record(c, s, col_mean_back);
}

static struct tensor *total(struct op_ctx *c, struct tensor *x, real scale)
{
    struct reduce s = {.k = c->k, .x = x, .y = op_new2(c, 1, 1), .scale = scale};
    size_t mark = arena_mark(c->arena);
    s.row = arena_alloc(c->arena, (size_t)tensor_rows(x) * sizeof(real));
    op_rows_run(c, tensor_rows(x), tensor_cols(x), row_sums, &s);
    if (!c->dry)
        s.y->x[0] = c->k->sum(s.row, tensor_rows(x)) * scale;
    s.row = NULL;
    arena_reset(c->arena, mark);
    return record(c, s, total_back);
}

struct tensor *op_sum(struct op_ctx *c, struct tensor *x)
{
    return total(c, x, 1);
}

struct tensor *op_mean(struct op_ctx *c, struct tensor *x)
{
    return total(c, x, 1 / (real)tensor_count(x));
}
