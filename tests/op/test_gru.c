/* The GRU cell in the float64 build: against the textbook formula, and its gradients. */
#include "gradcheck.h"

enum { N = 4, IN = 5, D = 3 };

enum { X, H, W_INPUT, W_HIDDEN, B_INPUT, B_HIDDEN, N_PARAMS };

static struct tensor *build(struct op_ctx *c, struct tensor **p, void *arg)
{
    bool bias = *(bool *)arg;
    struct weight *w = op_struct(c, 2 * sizeof *w);
    w[0] = (struct weight){.n = 3 * D, .k = IN, .param = p[W_INPUT]};
    w[1] = (struct weight){.n = 3 * D, .k = D, .param = p[W_HIDDEN]};
    return op_gru_cell(c, p[X], p[H], &w[0], &w[1], bias ? p[B_INPUT] : NULL, bias ? p[B_HIDDEN] : NULL);
}

static void params_new(struct tensor **p, struct rng *rng)
{
    p[X] = grad_param2(rng, N, IN);
    p[H] = grad_param2(rng, N, D);
    p[W_INPUT] = grad_param2(rng, 3 * D, IN);
    p[W_HIDDEN] = grad_param2(rng, 3 * D, D);
    p[B_INPUT] = grad_param2(rng, 1, 3 * D);
    p[B_HIDDEN] = grad_param2(rng, 1, 3 * D);
}

static void params_free(struct tensor **p)
{
    for (int i = 0; i < N_PARAMS; i++)
        grad_free(p[i]);
}

/* Row g * D + j of W x + b */
static double gate(const struct tensor *w, const struct tensor *b, const real *x, int g, int j)
{
    int row = g * D + j, k = (int)tensor_cols(w);
    double sum = b ? b->x[row] : 0;
    for (int i = 0; i < k; i++)
        sum += w->x[row * k + i] * x[i];
    return sum;
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static void forward_is_the_formula(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 31);
    struct arena arena;
    cadre_error e = {0};
    assert_ok(arena_init(&arena, 4 << 20, &e), e);
    struct op_ctx c = {.k = &k, .arena = &arena};
    struct tensor *p[N_PARAMS];
    params_new(p, &rng);
    for (int bias = 0; bias < 2; bias++) {
        const struct tensor *bi = bias ? p[B_INPUT] : NULL, *bh = bias ? p[B_HIDDEN] : NULL;
        const struct tensor *y = build(&c, p, &(bool){bias});
        for (int i = 0; i < N; i++)
            for (int j = 0; j < D; j++) {
                const real *x = p[X]->x + i * IN, *h = p[H]->x + i * D;
                double r = logistic(gate(p[W_INPUT], bi, x, 0, j) + gate(p[W_HIDDEN], bh, h, 0, j));
                double z = logistic(gate(p[W_INPUT], bi, x, 1, j) + gate(p[W_HIDDEN], bh, h, 1, j));
                double n = tanh(gate(p[W_INPUT], bi, x, 2, j) + r * gate(p[W_HIDDEN], bh, h, 2, j));
                assert_true(fabs((1 - z) * n + z * h[j] - y->x[i * D + j]) < 1e-12);
            }
    }
    params_free(p);
    arena_destroy(&arena);
}

static void gradients(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 32);
    struct tensor *p[N_PARAMS];
    params_new(p, &rng);
    struct op_ctx c = {.k = &k};
    gradcheck(&c, &rng, "with bias", build, &(bool){true}, N_PARAMS, p);
    gradcheck(&c, &rng, "without bias", build, &(bool){false}, B_INPUT, p);
    p[H]->track = false; /* the first step: a state of zeros that nobody trains */
    gradcheck(&c, &rng, "state not tracked", build, &(bool){true}, N_PARAMS, p);
    params_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_formula),
        cmocka_unit_test(gradients),
    };
    return cmocka_run_group_tests_name("gru", tests, NULL, NULL);
}
