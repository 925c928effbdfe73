/* What the tests of the moe room share: a context over one large arena, a layer of random weights, and the layer
 * written once more, naively and in double: a reference for whatever ids and weights a test wants. */
#ifndef CADRE_TESTS_MOE_TEST_H
#define CADRE_TESTS_MOE_TEST_H

#include "op/gradcheck.h"
#include "isa.h"

#include "moe/moe.h"

/* Relative to the largest value of what is compared. */
#define TOLERANCE (sizeof(real) == 8 ? 1e-12 : 1e-5)

struct fixture {
    struct kernels kernels;
    struct arena arena;
    struct tape tape;
    struct op_ctx c;
    struct rng rng;
};

static inline struct fixture *fixture_new(uint64_t seed)
{
    struct fixture *f = calloc(1, sizeof *f);
    cadre_error e = {0};
    assert_non_null(f);
    struct cpu cpu;
    cpu_detect(&cpu);
    kernels_init(&f->kernels, &cpu, test_isa(&cpu));
    assert_ok(arena_init(&f->arena, (size_t)256 << 20, &e), e);
    f->c = (struct op_ctx){.k = &f->kernels, .arena = &f->arena};
    rng_seed(&f->rng, seed);
    return f;
}

static inline void fixture_free(struct fixture *f)
{
    arena_destroy(&f->arena);
    free(f);
}

enum {
    P_X,
    P_GATE,
    P_EXPERT_GATE,
    P_EXPERT_UP,
    P_EXPERT_DOWN,
    P_SHARED_GATE,
    P_SHARED_UP,
    P_SHARED_DOWN,
    P_SIGMOID,
    P_N
};

/* A layer, its input, and room for a selection bias. */
struct layer_case {
    struct moe_layer l;
    struct tensor *p[P_N]; /* all that is differentiated */
    struct tensor *bias;
};

struct layer_shape {
    const struct router *router;
    int64_t n, d, ff, shared_ff; /* shared_ff 0: none */
    int n_expert, k;
    struct topk_groups groups;
    bool normalize, bias, shared_gate;
    real scale; /* 0 stands for 1 */
};

static inline struct weight weight_of(struct tensor *param, int64_t n_expert)
{
    int64_t rows = tensor_rows(param) / (n_expert ? n_expert : 1);
    return (struct weight){.n_expert = n_expert, .n = rows, .k = tensor_cols(param), .param = param};
}

static inline struct layer_case layer_new(struct fixture *f, const struct layer_shape *s)
{
    struct layer_case t = {0};
    int64_t e = s->n_expert, shared_ff = s->shared_ff ? s->shared_ff : 1;
    int64_t shape[P_N][2] = {{s->n, s->d},      {e, s->d},         {e * s->ff, s->d},
                             {e * s->ff, s->d}, {e * s->d, s->ff}, {shared_ff, s->d},
                             {shared_ff, s->d}, {s->d, shared_ff}, {1, s->d}};
    for (int i = 0; i < P_N; i++) {
        t.p[i] = grad_param2(&f->rng, shape[i][0], shape[i][1]);
        if (i != P_X) /* keeps every layer's output near the size of its input */
            for (int64_t j = 0; j < tensor_count(t.p[i]); j++)
                t.p[i]->x[j] /= (real)sqrt((double)shape[i][1]);
    }
    t.bias = grad_param2(&f->rng, 1, e);
    t.bias->track = false;
    t.l = (struct moe_layer){
        .layer = 5,
        .router = {.kind = s->router,
                   .n_expert = s->n_expert,
                   .k = s->k,
                   .groups = s->groups,
                   .normalize = s->normalize,
                   .scale = s->scale != 0 ? s->scale : 1},
        .gate = weight_of(t.p[P_GATE], 0),
        .bias = s->bias ? t.bias : NULL,
        .kind = &expert_swiglu,
        .experts = {.gate = weight_of(t.p[P_EXPERT_GATE], e),
                    .up = weight_of(t.p[P_EXPERT_UP], e),
                    .down = weight_of(t.p[P_EXPERT_DOWN], e)},
    };
    if (s->shared_ff) {
        t.l.shared.gate = weight_of(t.p[P_SHARED_GATE], 0);
        t.l.shared.up = weight_of(t.p[P_SHARED_UP], 0);
        t.l.shared.down = weight_of(t.p[P_SHARED_DOWN], 0);
    }
    if (s->shared_gate)
        t.l.shared_gate = t.p[P_SIGMOID];
    cadre_error e2 = {0};
    assert_ok(router_config_check(&t.l.router, &e2), e2);
    return t;
}

static inline void layer_free(struct layer_case *t)
{
    for (int i = 0; i < P_N; i++)
        grad_free(t->p[i]);
    grad_free(t->bias);
}

static inline double dot_d(const real *a, const real *b, int64_t n)
{
    double s = 0;
    for (int64_t i = 0; i < n; i++)
        s += (double)a[i] * (double)b[i];
    return s;
}

/* y[d] += scale · down(silu(gate x) · up x) */
static inline void ffn_add_d(double *y, double scale, const real *x, const real *gate, const real *up, const real *down,
                             int64_t d, int64_t ff)
{
    for (int64_t i = 0; i < ff; i++) {
        double g = dot_d(gate + i * d, x, d);
        double h = g / (1 + exp(-g)) * dot_d(up + i * d, x, d);
        for (int64_t j = 0; j < d; j++)
            y[j] += scale * h * (double)down[j * ff + i];
    }
}

/* The layer's output [n, d] for given ids and weights. */
static inline double *layer_reference(const struct layer_case *t, const int32_t *id, const real *weight)
{
    int64_t n = tensor_rows(t->p[P_X]), d = tensor_cols(t->p[P_X]), ff = t->l.experts.gate.n, k = t->l.router.k;
    double *y = calloc((size_t)(n * d), sizeof *y);
    assert_non_null(y);
    for (int64_t i = 0; i < n; i++) {
        const real *x = t->p[P_X]->x + i * d;
        for (int64_t j = 0; j < k; j++) {
            int64_t e = id[i * k + j];
            if (e >= 0)
                ffn_add_d(y + i * d, (double)weight[i * k + j], x, t->p[P_EXPERT_GATE]->x + e * ff * d,
                          t->p[P_EXPERT_UP]->x + e * ff * d, t->p[P_EXPERT_DOWN]->x + e * d * ff, d, ff);
        }
        double g = t->l.shared_gate ? 1 / (1 + exp(-dot_d(t->p[P_SIGMOID]->x, x, d))) : 1;
        if (t->l.shared.down.n)
            ffn_add_d(y + i * d, g, x, t->p[P_SHARED_GATE]->x, t->p[P_SHARED_UP]->x, t->p[P_SHARED_DOWN]->x, d,
                      t->l.shared.gate.n);
    }
    return y;
}

static inline double max_abs(const real *x, int64_t n)
{
    double m = 0;
    for (int64_t i = 0; i < n; i++)
        m = fmax(m, fabs((double)x[i]));
    return m;
}

static inline void assert_near(const char *what, const real *found, const real *want, int64_t n, double tolerance)
{
    double scale = max_abs(want, n);
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)found[i] - (double)want[i]) <= tolerance * scale))
            fail_msg("%s: element %d of %d: %.9g, expected %.9g", what, (int)i, (int)n, (double)found[i],
                     (double)want[i]);
}

static inline void assert_near_d(const char *what, const real *found, const double *want, int64_t n, double tolerance)
{
    double scale = 0;
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs(want[i]));
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)found[i] - want[i]) <= tolerance * scale))
            fail_msg("%s: element %d of %d: %.9g, expected %.9g", what, (int)i, (int)n, (double)found[i], want[i]);
}

/* Gradients of L = Σ r · y for a fixed r, with a tape over `forward`. */
static inline void backward_from(struct fixture *f, struct tensor *y, real *r)
{
    struct tensor *rt = op_wrap(&f->c, r, tensor_rows(y), tensor_cols(y));
    tape_backward(&f->c, op_sum(&f->c, op_mul(&f->c, y, rt)), 1);
}

static inline real *random_reals(struct fixture *f, int64_t n)
{
    real *x = malloc((size_t)n * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)rng_normal(&f->rng);
    return x;
}

#endif
