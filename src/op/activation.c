/* Activations. The unary ones are rows of one table: value, and d x += d y f'(x) from the input x and the output y. */
#include "op/op.h"

#include <assert.h>
#include <math.h>

#include "base/checked.h"

enum { ACT_CHUNK = 512 };

struct unary {
    void (*value)(const struct kernels *k, real *y, const real *x, int64_t n);
    void (*back)(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n);
};

static void silu_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    k->sigmoid(y, x, n);
    for (int64_t i = 0; i < n; i++)
        y[i] *= x[i];
}

/* (x σ)' = σ + x σ (1 - σ) */
static void silu_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    real s[ACT_CHUNK];
    k->sigmoid(s, x, n);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * (s[i] + y[i] * (1 - s[i]));
}

static const real gelu_a = (real)0.7978845608028654; /* √(2/π) */
static const real gelu_b = (real)0.044715;

static void gelu_tanh(const struct kernels *k, real *t, const real *x, int64_t n)
{
    assert(n > 0);
    for (int64_t i = 0; i < n; i++)
        t[i] = gelu_a * (x[i] + gelu_b * x[i] * x[i] * x[i]);
    k->tanh(t, t, n);
}

static void gelu_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    gelu_tanh(k, y, x, n);
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)0.5 * x[i] * (1 + y[i]);
}

/* with t = tanh u(x): 0.5 (1 + t) + 0.5 x (1 - t²) u', u' = √(2/π) (1 + 3 · 0.044715 x²) */
static void gelu_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)y;
    real t[ACT_CHUNK];
    gelu_tanh(k, t, x, n);
    for (int64_t i = 0; i < n; i++) {
        real slope = gelu_a * (1 + 3 * gelu_b * x[i] * x[i]);
        dx[i] += dy[i] * (real)0.5 * (1 + t[i] + x[i] * (1 - t[i] * t[i]) * slope);
    }
}

static void relu_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    (void)k;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] : 0;
}

static void relu_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)k, (void)y;
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] > 0 ? dy[i] : 0;
}

static void relu2_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    (void)k;
    for (int64_t i = 0; i < n; i++)
        y[i] = x[i] > 0 ? x[i] * x[i] : 0;
}

static void relu2_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)k, (void)y;
    for (int64_t i = 0; i < n; i++)
        dx[i] += x[i] > 0 ? 2 * x[i] * dy[i] : 0;
}

static void sigmoid_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    k->sigmoid(y, x, n);
}

static void sigmoid_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)k, (void)x;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * y[i] * (1 - y[i]);
}

static void tanh_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    k->tanh(y, x, n);
}

static void tanh_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)k, (void)x;
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * (1 - y[i] * y[i]);
}

/* log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|)), in double and libm's: few numbers take it (a layer's decays) */
static void softplus_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    (void)k;
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)(fmax((double)x[i], 0) + log1p(exp(-fabs((double)x[i]))));
}

static void softplus_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)y;
    real s[ACT_CHUNK];
    k->sigmoid(s, x, n);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * s[i];
}

static void reciprocal_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    (void)k;
    for (int64_t i = 0; i < n; i++)
        y[i] = 1 / x[i];
}

static void reciprocal_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)k, (void)x;
    for (int64_t i = 0; i < n; i++)
        dx[i] -= dy[i] * y[i] * y[i];
}

/* Φ(x) = erfc(-x / √2) / 2; only losses of routers take it, so libm's is fast enough */
static void normal_cdf_value(const struct kernels *k, real *y, const real *x, int64_t n)
{
    (void)k;
    for (int64_t i = 0; i < n; i++)
        y[i] = (real)(0.5 * erfc(-M_SQRT1_2 * (double)x[i]));
}

/* Φ' = exp(-x² / 2) / √(2π) */
static void normal_cdf_back(const struct kernels *k, real *dx, const real *dy, const real *x, const real *y, int64_t n)
{
    (void)y;
    real e[ACT_CHUNK];
    assert(n > 0);
    for (int64_t i = 0; i < n; i++)
        e[i] = (real)-0.5 * x[i] * x[i];
    k->exp(e, e, n);
    for (int64_t i = 0; i < n; i++)
        dx[i] += dy[i] * e[i] * (real)0.3989422804014327;
}

static const struct unary silu = {silu_value, silu_back}, gelu = {gelu_value, gelu_back},
                          relu = {relu_value, relu_back}, relu2 = {relu2_value, relu2_back},
                          sigmoid = {sigmoid_value, sigmoid_back}, tanh_row = {tanh_value, tanh_back},
                          softplus = {softplus_value, softplus_back}, reciprocal = {reciprocal_value, reciprocal_back},
                          normal_cdf = {normal_cdf_value, normal_cdf_back};

struct unary_job {
    const struct kernels *k;
    const struct unary *f;
    struct tensor *x, *y;
    real *dx;
};

/* The tensor as one line of numbers; cutting it changes nothing, each is on its own. */
static void unary_elements(void *arg, int64_t from, int64_t to)
{
    const struct unary_job *job = arg;
    job->f->value(job->k, job->y->x + from, job->x->x + from, to - from);
}

static void unary_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct unary_job *job = arg;
    for (int64_t i = from; i < to; i += ACT_CHUNK)
        job->f->back(job->k, job->dx + i, job->y->g + i, job->x->x + i, job->y->x + i, min_i64(ACT_CHUNK, to - i));
}

static void unary_back(struct op_ctx *c, void *saved)
{
    struct unary_job *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad(c, s->x);
    op_rows_run(c, tensor_count(s->x), 1, unary_back_elements, s);
}

static struct tensor *unary(struct op_ctx *c, const struct unary *f, struct tensor *x)
{
    struct unary_job job = {.k = c->k, .f = f, .x = x, .y = op_new(c, x->n_dims, x->dim)};
    op_rows_run(c, tensor_count(x), 1, unary_elements, &job);
    if (op_records(c, x->track)) {
        job.y->track = true;
        struct unary_job *s = op_struct(c, sizeof *s);
        *s = job;
        tape_push(c, unary_back, s);
    }
    return job.y;
}

struct tensor *op_silu(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &silu, x);
}

struct tensor *op_gelu(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &gelu, x);
}

struct tensor *op_relu(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &relu, x);
}

struct tensor *op_relu2(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &relu2, x);
}

struct tensor *op_sigmoid(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &sigmoid, x);
}

struct tensor *op_tanh(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &tanh_row, x);
}

struct tensor *op_softplus(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &softplus, x);
}

struct tensor *op_reciprocal(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &reciprocal, x);
}

struct tensor *op_normal_cdf(struct op_ctx *c, struct tensor *x)
{
    return unary(c, &normal_cdf, x);
}

struct gated_job {
    const struct kernels *k;
    struct tensor *gate, *up, *y;
    real *d_gate, *d_up;
};

static void swiglu_elements(void *arg, int64_t from, int64_t to)
{
    const struct gated_job *job = arg;
    job->k->swiglu(job->y->x + from, job->gate->x + from, job->up->x + from, to - from);
}

static void swiglu_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct gated_job *job = arg;
    job->k->swiglu_back(job->d_gate + from, job->d_up + from, job->y->g + from, job->gate->x + from, job->up->x + from,
                        to - from);
}

/* Both gradients come at once, so both inputs get one even if only one is tracked. */
static void gated_back(struct op_ctx *c, struct gated_job *s, op_rows_fn *elements)
{
    if (!s->y->g)
        return;
    s->d_gate = tensor_grad(c, s->gate);
    s->d_up = tensor_grad(c, s->up);
    op_rows_run(c, tensor_count(s->y), 1, elements, s);
}

static struct tensor *gated(struct op_ctx *c, struct tensor *gate, struct tensor *up, op_rows_fn *elements,
                            op_back *back)
{
    assert(tensor_count(gate) == tensor_count(up));
    struct gated_job job = {.k = c->k, .gate = gate, .up = up, .y = op_new(c, gate->n_dims, gate->dim)};
    op_rows_run(c, tensor_count(gate), 1, elements, &job);
    if (op_records(c, gate->track || up->track)) {
        job.y->track = true;
        struct gated_job *s = op_struct(c, sizeof *s);
        *s = job;
        tape_push(c, back, s);
    }
    return job.y;
}

static void swiglu_back(struct op_ctx *c, void *saved)
{
    gated_back(c, saved, swiglu_back_elements);
}

struct tensor *op_swiglu(struct op_ctx *c, struct tensor *gate, struct tensor *up)
{
    return gated(c, gate, up, swiglu_elements, swiglu_back);
}

/* gpt-oss: y = g σ(1.702 g) (u + 1) with g = min(gate, 7), u = clamp(up, -7, 7) */
static const real clamped_limit = 7, clamped_slope = (real)1.702;

static void clamped_sigmoid(const struct kernels *k, real *s, const real *gate, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        s[i] = clamped_slope * (gate[i] < clamped_limit ? gate[i] : clamped_limit);
    k->sigmoid(s, s, n);
}

static real clamped_up(real up)
{
    real below = up < clamped_limit ? up : clamped_limit;
    return (below > -clamped_limit ? below : -clamped_limit) + 1;
}

static void clamped_elements(void *arg, int64_t from, int64_t to)
{
    const struct gated_job *job = arg;
    real *y = job->y->x;
    clamped_sigmoid(job->k, y + from, job->gate->x + from, to - from);
    for (int64_t i = from; i < to; i++) {
        real g = job->gate->x[i];
        y[i] = (g < clamped_limit ? g : clamped_limit) * y[i] * clamped_up(job->up->x[i]);
    }
}

/* Below the limit d gate = dy (u + 1) (σ + 1.702 g σ (1 - σ)); inside the limits d up = dy g σ. */
static void clamped_back_elements(void *arg, int64_t from, int64_t to)
{
    const struct gated_job *job = arg;
    real s[ACT_CHUNK];
    for (int64_t at = from; at < to; at += ACT_CHUNK) {
        int64_t n = min_i64(ACT_CHUNK, to - at);
        const real *gate = job->gate->x + at, *up = job->up->x + at, *dy = job->y->g + at;
        clamped_sigmoid(job->k, s, gate, n);
        for (int64_t i = 0; i < n; i++) {
            real g = gate[i] < clamped_limit ? gate[i] : clamped_limit;
            if (gate[i] < clamped_limit)
                job->d_gate[at + i] += dy[i] * clamped_up(up[i]) * (s[i] + clamped_slope * g * s[i] * (1 - s[i]));
            if (up[i] < clamped_limit && up[i] > -clamped_limit)
                job->d_up[at + i] += dy[i] * g * s[i];
        }
    }
}

static void clamped_back(struct op_ctx *c, void *saved)
{
    gated_back(c, saved, clamped_back_elements);
}

struct tensor *op_swiglu_clamped(struct op_ctx *c, struct tensor *gate, struct tensor *up)
{
    return gated(c, gate, up, clamped_elements, clamped_back);
}
