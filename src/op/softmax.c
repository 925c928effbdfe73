/* Softmax and log-sum-exp of rows. */
#include "op/softmax.h"

#include <math.h>

#include "base/checked.h"
#include "op/op.h"

/* Natural logarithm of a positive, normal number. The C library's differs between processors in the last bit; this one
 * is plain arithmetic: x = m 2^e with m in [√½, √2), log m = 2 artanh t = 2 (t + t³/3 + t⁵/5 + …), t = (m - 1) / (m +
 * 1); |t| < 0.172, so the first term left out is below 1e-18. */
static double plain_log(double x)
{
    int e;
    double m = frexp(x, &e);
    if (m < 0.70710678118654752) {
        m *= 2;
        e--;
    }
    double t = (m - 1) / (m + 1), t2 = t * t, sum = 0;
    for (int i = 21; i >= 1; i -= 2)
        sum = sum * t2 + 1.0 / i;
    return (double)e * 0.69314718055994531 + 2 * t * sum;
}

real op_row_logsumexp(const struct kernels *k, const real *x, int64_t n)
{
    real chunk[EXP_CHUNK], max = k->max(x, n), sum = 0;
    for (int64_t i = 0; i < n; i += EXP_CHUNK)
        sum += k->exp_sum(chunk, x + i, max, min_i64(EXP_CHUNK, n - i));
    return max + (real)plain_log((double)sum);
}

real op_row_exp(const struct kernels *k, real *x, int64_t n, real *sum)
{
    real max = k->max(x, n);
    *sum = 0;
    for (int64_t i = 0; i < n; i += EXP_CHUNK)
        *sum += k->exp_sum(x + i, x + i, max, min_i64(EXP_CHUNK, n - i));
    return max + (real)plain_log((double)*sum);
}

struct softmax {
    const struct kernels *k;
    struct tensor *x, *y;
    real *dx;
};

static void softmax_rows(void *arg, int64_t from, int64_t to)
{
    const struct softmax *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d;
        real *y = s->y->x + i * d;
        real scale = 1 / s->k->exp_sum(y, x, s->k->max(x, d), d);
        for (int64_t j = 0; j < d; j++)
            y[j] *= scale;
    }
}

/* dx += y (dy - Σ_j dy_j y_j) */
static void softmax_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct softmax *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *y = s->y->x + i * d, *dy = s->y->g + i * d;
        real *dx = s->dx + i * d, mean = s->k->dot(dy, y, d);
        for (int64_t j = 0; j < d; j++)
            dx[j] += y[j] * (dy[j] - mean);
    }
}

static void softmax_back(struct op_ctx *c, void *saved)
{
    struct softmax *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), softmax_back_rows, s);
}

static void logsumexp_rows(void *arg, int64_t from, int64_t to)
{
    const struct softmax *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        s->y->x[i] = op_row_logsumexp(s->k, s->x->x + i * d, d);
}

/* dx += dy exp(x - y): the softmax */
static void logsumexp_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct softmax *s = arg;
    int64_t d = tensor_cols(s->x);
    real p[EXP_CHUNK];
    for (int64_t i = from; i < to; i++) {
        for (int64_t at = i * d; at < (i + 1) * d; at += EXP_CHUNK) {
            int64_t n = min_i64(EXP_CHUNK, (i + 1) * d - at);
            s->k->exp_sum(p, s->x->x + at, s->y->x[i], n);
            s->k->axpy(s->dx + at, s->y->g[i], p, n);
        }
    }
}

static void logsumexp_back(struct op_ctx *c, void *saved)
{
    struct softmax *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), logsumexp_back_rows, s);
}

static struct tensor *run(struct op_ctx *c, struct softmax s, op_rows_fn *fn, op_back *back)
{
    op_rows_run(c, tensor_rows(s.x), tensor_cols(s.x), fn, &s);
    if (op_records(c, s.x->track)) {
        s.y->track = true;
        struct softmax *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, back, saved);
    }
    return s.y;
}

struct tensor *op_softmax(struct op_ctx *c, struct tensor *x)
{
    struct softmax s = {.k = c->k, .x = x, .y = op_new(c, x->n_dims, x->dim)};
    return run(c, s, softmax_rows, softmax_back);
}

struct tensor *op_logsumexp(struct op_ctx *c, struct tensor *x)
{
    struct softmax s = {.k = c->k, .x = x, .y = op_new2(c, tensor_rows(x), 1)};
    return run(c, s, logsumexp_rows, logsumexp_back);
}
