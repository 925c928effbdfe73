/* Central differences against the backward of an operator, in the float64 build.
 *
 * A check is a builder (a function that makes a graph out of parameters) and its parameters. It runs
 *   - dry, forward and backward, to size the arena: the real run must then use exactly that much;
 *   - with a tape and without one: the outputs must be the same bytes;
 *   - without a tape on x ± h for a sample of the elements of each parameter.
 * An output of any shape becomes the scalar L = Σ_i r_i y_i with random r. */
#ifndef CADRE_TESTS_GRADCHECK_H
#define CADRE_TESTS_GRADCHECK_H

#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "op/op.h"

enum { GRAD_SAMPLE = 200 };

typedef struct tensor *grad_builder(struct op_ctx *c, struct tensor **p, void *arg);

/* A parameter of normal random values; freed by grad_free. */
static inline struct tensor *grad_param(struct rng *rng, int n_dims, const int64_t *dim)
{
    struct tensor *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->n_dims = n_dims;
    t->track = true;
    memcpy(t->dim, dim, (size_t)n_dims * sizeof *dim);
    size_t n = (size_t)tensor_count(t);
    t->x = malloc((n + 1) * sizeof *t->x);
    t->g = calloc(n + 1, sizeof *t->g);
    assert_true(t->x && t->g);
    for (size_t i = 0; i < n; i++)
        t->x[i] = (real)rng_normal(rng);
    return t;
}

static inline struct tensor *grad_param2(struct rng *rng, int64_t rows, int64_t cols)
{
    return grad_param(rng, 2, (int64_t[]){rows, cols});
}

static inline void grad_free(struct tensor *t)
{
    free(t->x);
    free(t->g);
    free(t);
}

struct grad_probe {
    struct tensor *y, *loss;
    const real *r;
};

static inline void grad_probe_back(struct op_ctx *c, void *saved)
{
    struct grad_probe *s = saved;
    real *g = tensor_grad(c, s->y);
    if (!c->dry)
        for (int64_t i = 0; i < tensor_count(s->y); i++)
            g[i] += s->loss->g[0] * s->r[i];
}

static inline double grad_dot(const struct tensor *y, const real *r, double *magnitude)
{
    double sum = 0;
    *magnitude = 0;
    for (int64_t i = 0; i < tensor_count(y); i++) {
        sum += (double)r[i] * (double)y->x[i];
        *magnitude += fabs((double)r[i] * (double)y->x[i]);
    }
    return sum;
}

struct grad_case {
    struct op_ctx ctx;
    struct arena plan, arena;
    struct tape tape;
    real *r;
    grad_builder *build;
    void *arg;
    struct tensor **p;
    bool bound; /* the plan may be larger than what is used: ids of -1 leave rows out */
};

/* One forward without a tape; gives back the arena. */
static inline double grad_forward(struct grad_case *t, double *magnitude)
{
    struct op_ctx c = t->ctx;
    c.tape = NULL;
    c.arena = &t->arena;
    size_t mark = arena_mark(c.arena);
    double value = grad_dot(t->build(&c, t->p, t->arg), t->r, magnitude);
    arena_reset(c.arena, mark);
    return value;
}

static inline struct tensor *grad_backward(struct op_ctx *c, struct grad_case *t)
{
    t->tape.last = NULL;
    c->tape = &t->tape;
    struct tensor *y = t->build(c, t->p, t->arg);
    assert_true(y->track);
    struct grad_probe *probe = op_struct(c, sizeof *probe);
    *probe = (struct grad_probe){.y = y, .loss = op_new2(c, 1, 1), .r = t->r};
    tape_push(c, grad_probe_back, probe);
    tape_backward(c, probe->loss, 1);
    assert_null(t->tape.last);
    return y;
}

static inline void grad_plan_and_run(struct grad_case *t, struct rng *rng, const char *name)
{
    cadre_error e = {0};
    struct arena measure;
    arena_init_measuring(&measure);
    assert_ok(arena_init(&t->plan, (size_t)16 << 20, &e), e);
    struct op_ctx dry = t->ctx;
    dry.dry = true;
    dry.arena = &measure;
    dry.plan = &t->plan;
    struct tensor *shape = grad_backward(&dry, t);
    int64_t n = tensor_count(shape);
    t->r = malloc((size_t)(n + 1) * sizeof *t->r);
    assert_non_null(t->r);
    for (int64_t i = 0; i < n; i++)
        t->r[i] = (real)rng_normal(rng);

    assert_ok(arena_init(&t->arena, measure.peak, &e), e);
    struct op_ctx c = t->ctx;
    c.arena = &t->arena;
    struct tensor *y = grad_backward(&c, t);
    if (t->bound ? t->arena.peak > measure.peak : t->arena.peak != measure.peak)
        fail_msg("%s: planned %zu bytes, used %zu", name, measure.peak, t->arena.peak);
    assert_true(t->bound ? tensor_count(y) <= n : tensor_count(y) == n);
    n = tensor_count(y);
    real *with_tape = malloc((size_t)(n + 1) * sizeof *with_tape);
    assert_non_null(with_tape);
    memcpy(with_tape, y->x, (size_t)n * sizeof *with_tape);
    arena_reset(&t->arena, 0);
    c.tape = NULL;
    y = t->build(&c, t->p, t->arg);
    assert_memory_equal(with_tape, y->x, (size_t)n * sizeof *with_tape);
    free(with_tape);
    arena_reset(&t->arena, 0);
}

/* L is a sum of rounded terms: two values of it differ by rounding alone by about 1e-16 Σ|r y|, which divided by
 * 2h = 2e-5 is an error of 5e-12 Σ|r y| in the difference. The floor makes the smallest bound, 1e-6 of it, 20 times
 * that. */
static inline double grad_floor(double magnitude)
{
    return 1e-4 * (1 + magnitude);
}

static inline void grad_check_param(struct grad_case *t, struct rng *rng, const char *name, int which)
{
    struct tensor *p = t->p[which];
    int64_t n = tensor_count(p);
    for (int64_t s = 0; s < (n < GRAD_SAMPLE ? n : GRAD_SAMPLE); s++) {
        int64_t i = n <= GRAD_SAMPLE ? s : (int64_t)rng_below(rng, (uint64_t)n);
        real x = p->x[i];
        double magnitude, h = 1e-5 * fmax(1, fabs((double)x));
        p->x[i] = (real)((double)x + h);
        double up = grad_forward(t, &magnitude), step = (double)p->x[i];
        p->x[i] = (real)((double)x - h);
        double down = grad_forward(t, &magnitude);
        step -= (double)p->x[i];
        p->x[i] = x;
        double want = (up - down) / step, found = (double)p->g[i];
        double scale = fmax(fmax(fabs(want), fabs(found)), grad_floor(magnitude));
        if (!(fabs(want - found) <= 1e-6 * scale))
            fail_msg("%s: parameter %d, element %d of %d: backward %.12g, differences %.12g", name, which, (int)i,
                     (int)n, found, want);
    }
}

static inline void grad_check_case(struct grad_case *t, struct rng *rng, const char *name, int n_params)
{
    for (int i = 0; i < n_params; i++)
        memset(t->p[i]->g, 0, (size_t)tensor_count(t->p[i]) * sizeof(real));
    grad_plan_and_run(t, rng, name);
    for (int i = 0; i < n_params; i++)
        if (t->p[i]->track)
            grad_check_param(t, rng, name, i);
    free(t->r);
    arena_destroy(&t->plan);
    arena_destroy(&t->arena);
}

/* ctx gives kernels, pool and precision. Gradients of the parameters are set to zero first and hold d L afterwards. */
static inline void gradcheck(const struct op_ctx *ctx, struct rng *rng, const char *name, grad_builder *build,
                             void *arg, int n_params, struct tensor **p)
{
    struct grad_case t = {.ctx = *ctx, .build = build, .arg = arg, .p = p};
    grad_check_case(&t, rng, name, n_params);
}

/* The same for graphs whose plan is an upper bound. */
static inline void gradcheck_bound(const struct op_ctx *ctx, struct rng *rng, const char *name, grad_builder *build,
                                   void *arg, int n_params, struct tensor **p)
{
    struct grad_case t = {.ctx = *ctx, .build = build, .arg = arg, .p = p, .bound = true};
    grad_check_case(&t, rng, name, n_params);
}

#endif
