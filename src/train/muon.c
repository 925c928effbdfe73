/* Muon (Jordan et al. 2024): momentum, then the nearest matrix with equal singular values instead of the gradient, so
 * that every direction of a matrix learns at one rate. Scaled to AdamW's usual RMS, so that both share a learning rate
 * (Liu et al. 2025, "Muon is scalable for LLM training", eq. 4 and §2.2). For each matrix [n, k], r = min(n, k):
 *
 *     m = μ m + g           u = g + μ m (Nesterov)           X = u / ‖u‖
 *     five times:           A = X Xᵀ (XᵀX when n > k)        X = a X + (b A + c A²) X
 *     w -= lr (0.2 √max(n, k) X + decay w)
 *
 * The quintic pushes singular values into about 0.7 … 1.2. Experts' matrices are separate ones, batched: each product
 * is one list over all of a group. */
#include <math.h>

#include "base/checked.h"
#include "kernel/gemm.h"
#include "train/optimizer.h"

enum { ITERATIONS = 5, GROUP_NUMBERS = 8 << 20 /* of scratch; at least one matrix */ };
static const real quintic[] = {(real)3.4445, (real)-4.7750, (real)2.0315};

/* Matrices first … first + count of a parameter. */
struct group {
    const struct kernels *kernels;
    const struct optimizer_step *s;
    int64_t n, k, r;
    real *w, *m;
    const real *g;
    real *x, *next; /* [count, n, k] */
    real *a, *b;    /* [count, r, r] */
    real *norm;     /* [count] */
};

static void momentum_rows(void *arg, int64_t from, int64_t to)
{
    const struct group *p = arg;
    real mu = (real)p->s->cfg->momentum, scale = p->s->grad_scale;
    for (int64_t i = from * p->k; i < to * p->k; i++) {
        real g = p->g[i] * scale;
        p->m[i] = mu * p->m[i] + g;
        p->x[i] = g + mu * p->m[i];
    }
}

/* ‖u‖ of whole matrices: rows by the kernel, their sums in order. */
static void norm_matrices(void *arg, int64_t from, int64_t to)
{
    const struct group *p = arg;
    for (int64_t e = from; e < to; e++) {
        double sum = 0;
        for (int64_t i = e * p->n; i < (e + 1) * p->n; i++)
            sum += (double)p->kernels->dot(p->x + i * p->k, p->x + i * p->k, p->k);
        p->norm[e] = (real)(1 / (sqrt(sum) + 1e-7));
    }
}

static void normalize_rows(void *arg, int64_t from, int64_t to)
{
    const struct group *p = arg;
    for (int64_t i = from; i < to; i++)
        for (int64_t j = i * p->k; j < (i + 1) * p->k; j++)
            p->x[j] *= p->norm[i / p->n];
}

static void square_rows(void *arg, int64_t from, int64_t to) /* B = b A + c A², where B holds A² */
{
    const struct group *p = arg;
    for (int64_t i = from * p->r; i < to * p->r; i++)
        p->b[i] = quintic[1] * p->a[i] + quintic[2] * p->b[i];
}

static void start_rows(void *arg, int64_t from, int64_t to)
{
    const struct group *p = arg;
    for (int64_t i = from * p->k; i < to * p->k; i++)
        p->next[i] = quintic[0] * p->x[i];
}

static void step_rows(void *arg, int64_t from, int64_t to)
{
    const struct group *p = arg;
    real lr = p->s->lr, decay = (real)p->s->cfg->weight_decay;
    real rms = (real)(0.2 * sqrt((double)max_i64(p->n, p->k)));
    for (int64_t i = from * p->k; i < to * p->k; i++)
        p->w[i] -= lr * (rms * p->x[i] + decay * p->w[i]);
}

enum product { GRAM, SQUARE, APPLY };

static struct gemm product(const struct group *p, enum product which, int64_t e)
{
    int64_t n = p->n, k = p->k, r = p->r;
    const real *x = p->x + e * n * k, *a = p->a + e * r * r, *b = p->b + e * r * r;
    bool wide = n <= k;
    switch (which) {
    case GRAM: /* X Xᵀ or XᵀX */
        return (struct gemm){.m = r,
                             .n = r,
                             .k = wide ? k : n,
                             .a = x,
                             .a_row = wide ? k : 1,
                             .a_col = wide ? 1 : k,
                             .b = x,
                             .b_row = wide ? k : 1,
                             .b_col = wide ? 1 : k,
                             .c = p->a + e * r * r,
                             .c_row = r};
    case SQUARE: /* A is symmetric: A A = A Aᵀ */
        return (struct gemm){.m = r,
                             .n = r,
                             .k = r,
                             .a = a,
                             .a_row = r,
                             .a_col = 1,
                             .b = a,
                             .b_row = r,
                             .b_col = 1,
                             .c = p->b + e * r * r,
                             .c_row = r};
    default: /* next += B X or X B (B = Bᵀ) */
        return (struct gemm){.m = n,
                             .n = k,
                             .k = r,
                             .a = wide ? b : x,
                             .a_row = wide ? r : k,
                             .a_col = 1,
                             .b = wide ? x : b,
                             .b_row = wide ? 1 : r,
                             .b_col = wide ? k : 1,
                             .c = p->next + e * n * k,
                             .c_row = k,
                             .accumulate = true};
    }
}

static void multiply(struct op_ctx *c, const struct group *p, enum product which, struct gemm *list, int64_t count)
{
    for (int64_t e = 0; e < count && !c->dry; e++)
        list[e] = product(p, which, e);
    if (c->dry) { /* one stands for all: scratch does not grow with a list */
        struct gemm one = product(p, which, 0);
        gemm_run(c->k, c->pool, c->arena, GEMM_F32, &one, 1);
    } else {
        gemm_run(c->k, c->pool, c->arena, GEMM_F32, list, count);
    }
}

static void step_group(struct op_ctx *c, struct group *p, int64_t count)
{
    size_t mark = arena_mark(c->arena);
    int64_t rows = count * p->n;
    p->x = arena_alloc(c->arena, (size_t)(rows * p->k) * sizeof(real));
    p->next = arena_alloc(c->arena, (size_t)(rows * p->k) * sizeof(real));
    p->a = arena_alloc(c->arena, (size_t)(count * p->r * p->r) * sizeof(real));
    p->b = arena_alloc(c->arena, (size_t)(count * p->r * p->r) * sizeof(real));
    p->norm = arena_alloc(c->arena, (size_t)count * sizeof(real));
    struct gemm *list = arena_alloc(c->arena, (size_t)count * sizeof *list);
    op_rows_run(c, rows, p->k, momentum_rows, p);
    op_rows_run(c, count, p->n * p->k, norm_matrices, p);
    op_rows_run(c, rows, p->k, normalize_rows, p);
    for (int i = 0; i < ITERATIONS; i++) {
        multiply(c, p, GRAM, list, count);
        multiply(c, p, SQUARE, list, count);
        op_rows_run(c, count * p->r, p->r, square_rows, p);
        op_rows_run(c, rows, p->k, start_rows, p);
        multiply(c, p, APPLY, list, count);
        real *x = p->x;
        p->x = p->next;
        p->next = x;
    }
    op_rows_run(c, rows, p->k, step_rows, p);
    arena_reset(c->arena, mark);
}

static void muon(struct op_ctx *c, const struct optimizer_step *s, struct param *p, real *const *state)
{
    struct group g = {.kernels = c->k, .s = s, .n = p->dim[p->n_dims - 2], .k = p->dim[p->n_dims - 1]};
    g.r = min_i64(g.n, g.k);
    int64_t all = tensor_count(&p->t) / (g.n * g.k);
    int64_t most = max_i64(1, GROUP_NUMBERS / (2 * g.n * g.k + 2 * g.r * g.r));
    for (int64_t first = 0; first < all; first += most) {
        int64_t count = min_i64(most, all - first), at = first * g.n * g.k;
        g.w = p->t.x + at, g.g = p->t.g + at, g.m = state[0] + at;
        step_group(c, &g, count);
    }
}

const struct optimizer_rule rule_muon = {1, {"m"}, NULL, muon};
