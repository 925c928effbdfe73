/* RMSNorm, LayerNorm and L2 norm over the last dimension. Backwards keep the statistics of each row only; sums over a
 * row go through the kernels' fixed order, chunk by chunk. */
#include "op/op.h"

#include <assert.h>
#include <math.h>

#include "base/checked.h"

enum { NORM_CHUNK = 512 };

struct norm {
    const struct kernels *k;
    struct tensor *x, *w, *b, *y; /* b may be NULL */
    bool centered;                /* LayerNorm */
    real eps;
    real *mean; /* [rows], LayerNorm with a tape */
    real *rstd; /* [rows], with a tape: 1 / √(mean of squares + eps) */
    real *dx;
};

static real inverse_root(real mean_square, real eps)
{
    return (real)(1 / sqrt((double)mean_square + (double)eps));
}

/* y = x · rstd · w, rstd = 1 / √(Σ x² / d + eps) */
static void rmsnorm_rows(void *arg, int64_t from, int64_t to)
{
    const struct norm *s = arg;
    int64_t d = tensor_cols(s->x);
    const real *w = s->w->x;
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d;
        real *y = s->y->x + i * d;
        real rstd = inverse_root(s->k->dot(x, x, d) / (real)d, s->eps);
        for (int64_t j = 0; j < d; j++)
            y[j] = x[j] * rstd * w[j];
        if (s->rstd)
            s->rstd[i] = rstd;
    }
}

/* Σ_j dy w and Σ_j dy w x̂ with x̂ = (x - mean) rstd */
static void row_sums(const struct norm *s, const real *dy, const real *x, real mean, real rstd, real sums[2])
{
    real g[NORM_CHUNK], xhat[NORM_CHUNK];
    int64_t d = tensor_cols(s->x);
    sums[0] = sums[1] = 0;
    for (int64_t at = 0; at < d; at += NORM_CHUNK) {
        int64_t n = min_i64(NORM_CHUNK, d - at);
        for (int64_t j = 0; j < n; j++) {
            g[j] = dy[at + j] * s->w->x[at + j];
            xhat[j] = (x[at + j] - mean) * rstd;
        }
        sums[0] += s->k->sum(g, n);
        sums[1] += s->k->dot(g, xhat, n);
    }
}

/* dx += rstd (dy w - [LayerNorm: mean(dy w)] - x̂ mean(dy w x̂)) */
static void input_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct norm *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d, *dy = s->y->g + i * d, *w = s->w->x;
        real *dx = s->dx + i * d;
        real mean = s->mean ? s->mean[i] : 0, rstd = s->rstd[i], sums[2];
        row_sums(s, dy, x, mean, rstd, sums);
        real mean_g = s->mean ? sums[0] / (real)d : 0, mean_gx = sums[1] / (real)d;
        for (int64_t j = 0; j < d; j++)
            dx[j] += rstd * (dy[j] * w[j] - mean_g - (x[j] - mean) * rstd * mean_gx);
    }
}

/* dw += Σ_rows dy x̂ */
static void weight_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct norm *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d, *dy = s->y->g + i * d;
        real mean = s->mean ? s->mean[i] : 0, rstd = s->rstd[i];
        for (int64_t j = 0; j < d; j++)
            sum[j] += dy[j] * ((x[j] - mean) * rstd);
    }
}

static void bias_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct norm *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++)
        s->k->axpy(sum, 1, s->y->g + i * d, d);
}

static void norm_back(struct op_ctx *c, void *saved)
{
    struct norm *s = saved;
    if (!s->y->g)
        return;
    int64_t rows = tensor_rows(s->x), d = tensor_cols(s->x);
    if (s->x->track) {
        s->dx = tensor_grad(c, s->x);
        op_rows_run(c, rows, d, input_back_rows, s);
    }
    if (s->w->track)
        op_cols_run(c, rows, d, weight_sum, s, tensor_grad(c, s->w));
    if (s->b && s->b->track)
        op_cols_run(c, rows, d, bias_sum, s, tensor_grad(c, s->b));
}

static struct tensor *norm(struct op_ctx *c, struct norm n, op_rows_fn *fn)
{
    assert(tensor_count(n.w) == tensor_cols(n.x));
    int64_t rows = tensor_rows(n.x);
    n.k = c->k;
    n.y = op_new(c, n.x->n_dims, n.x->dim);
    n.y->track = op_records(c, n.x->track || n.w->track || (n.b && n.b->track));
    if (n.y->track) {
        n.rstd = arena_alloc(c->arena, (size_t)rows * sizeof(real));
        n.mean = n.centered ? arena_alloc(c->arena, (size_t)rows * sizeof(real)) : NULL;
        struct norm *s = op_struct(c, sizeof *s);
        *s = n;
        tape_push(c, norm_back, s);
    }
    op_rows_run(c, rows, tensor_cols(n.x), fn, &n);
    return n.y;
}

struct tensor *op_rmsnorm(struct op_ctx *c, struct tensor *x, struct tensor *w, real eps)
{
    return norm(c, (struct norm){.x = x, .w = w, .eps = eps}, rmsnorm_rows);
}

/* y = (x - mean) · rstd · w + b, rstd = 1 / √(Σ (x - mean)² / d + eps); b may be absent */
static void layernorm_rows(void *arg, int64_t from, int64_t to)
{
    const struct norm *s = arg;
    int64_t d = tensor_cols(s->x);
    const real *w = s->w->x, *b = s->b ? s->b->x : NULL;
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d;
        real *y = s->y->x + i * d;
        real mean = s->k->sum(x, d) / (real)d;
        for (int64_t j = 0; j < d; j++)
            y[j] = x[j] - mean;
        real rstd = inverse_root(s->k->dot(y, y, d) / (real)d, s->eps);
        for (int64_t j = 0; j < d; j++)
            y[j] = y[j] * rstd * w[j];
        for (int64_t j = 0; b && j < d; j++)
            y[j] += b[j];
        if (s->rstd) {
            s->rstd[i] = rstd;
            s->mean[i] = mean;
        }
    }
}

struct tensor *op_layernorm(struct op_ctx *c, struct tensor *x, struct tensor *w, struct tensor *b, real eps)
{
    return norm(c, (struct norm){.x = x, .w = w, .b = b, .centered = true, .eps = eps}, layernorm_rows);
}

struct l2norm {
    const struct kernels *k;
    struct tensor *x, *y;
    real eps;
    real *scale; /* [rows], with a tape: 1 / max(|x|, eps) */
    real *dx;
};

static void l2norm_rows(void *arg, int64_t from, int64_t to)
{
    const struct l2norm *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d;
        real *y = s->y->x + i * d;
        real scale = (real)(1 / fmax(sqrt((double)s->k->dot(x, x, d)), (double)s->eps));
        for (int64_t j = 0; j < d; j++)
            y[j] = x[j] * scale;
        if (s->scale)
            s->scale[i] = scale;
    }
}

/* dx += (dy - y (y · dy)) / |x|; where eps acts the length does not matter: dx += dy / eps */
static void l2norm_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct l2norm *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *y = s->y->x + i * d, *dy = s->y->g + i * d;
        bool floored = s->scale[i] >= (real)(1 / (double)s->eps);
        real along = floored ? 0 : s->k->dot(y, dy, d);
        for (int64_t j = 0; j < d; j++)
            s->dx[i * d + j] += s->scale[i] * (dy[j] - y[j] * along);
    }
}

static void l2norm_back(struct op_ctx *c, void *saved)
{
    struct l2norm *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), l2norm_back_rows, s);
}

struct tensor *op_l2norm(struct op_ctx *c, struct tensor *x, real eps)
{
    struct l2norm n = {.k = c->k, .x = x, .y = op_new(c, x->n_dims, x->dim), .eps = eps};
    n.y->track = op_records(c, x->track);
    if (n.y->track) {
        n.scale = arena_alloc(c->arena, (size_t)tensor_rows(x) * sizeof(real));
        struct l2norm *s = op_struct(c, sizeof *s);
        *s = n;
        tape_push(c, l2norm_back, s);
    }
    op_rows_run(c, tensor_rows(x), tensor_cols(x), l2norm_rows, &n);
    return n.y;
}
