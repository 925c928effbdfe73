/* Rotary embedding in the float64 build: against complex multiplication, its defining property, and its gradients. */
#include "gradcheck.h"

#include <complex.h>

enum { N = 5, HEADS = 3, HEAD_DIM = 10 };

/* Far apart; of several sequences side by side, which share angles; and before the first. */
static const int32_t positions[][N] = {{0, 1, 7, 4096, 131071}, {3, 0, 3, 1, 4}, {2, -1, 0, 4, 1}};
enum { N_POSITIONS = sizeof positions / sizeof *positions };
static const real inv_freq[HEAD_DIM / 2] = {1, 0.31, 0.1, 0.031, 1e-4};

static const struct rope ropes[] = {
    {.n_rot = 10, .pairs = false, .inv_freq = inv_freq, .scale = 1},
    {.n_rot = 10, .pairs = true, .inv_freq = inv_freq, .scale = 1},
    {.n_rot = 6, .pairs = false, .inv_freq = inv_freq, .scale = 1.25},
    {.n_rot = 6, .pairs = true, .inv_freq = inv_freq, .scale = 0.8},
    {.n_rot = 0, .pairs = true, .inv_freq = inv_freq, .scale = 1},
};
enum { N_ROPES = sizeof ropes / sizeof *ropes };

struct call {
    const struct rope *rope;
    const int32_t *position;
};

static struct tensor *build(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct call *call = arg;
    return op_rope(c, p[0], HEAD_DIM, call->position, call->rope);
}

static void turns_as_complex_numbers(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 21);
    struct arena arena;
    cadre_error e = {0};
    assert_ok(arena_init(&arena, 1 << 20, &e), e);
    struct op_ctx c = {.k = &k, .arena = &arena};
    struct tensor *x = grad_param2(&rng, N, HEADS * HEAD_DIM);
    for (int t = 0; t < N_ROPES * N_POSITIONS; t++) {
        const struct rope *r = &ropes[t % N_ROPES];
        const int32_t *position = positions[t / N_ROPES];
        const real *y = build(&c, &x, &(struct call){r, position})->x;
        for (int i = 0; i < N * HEADS; i++) {
            const real *in = x->x + i * HEAD_DIM, *out = y + i * HEAD_DIM;
            for (int j = 0; j < r->n_rot / 2; j++) {
                int a = r->pairs ? 2 * j : j, b = r->pairs ? 2 * j + 1 : j + (int)r->n_rot / 2;
                double complex z = (in[a] + I * in[b]) * cexp(I * (double)position[i / HEADS] * inv_freq[j]) * r->scale;
                assert_true(fabs(creal(z) - out[a]) < 1e-9 && fabs(cimag(z) - out[b]) < 1e-9);
            }
            for (int64_t d = r->n_rot; d < HEAD_DIM; d++)
                assert_true(out[d] == in[d]);
        }
    }
    grad_free(x);
    arena_destroy(&arena);
}

/* The dot product of a turned query and key depends on the distance of their positions alone. */
static void products_see_distance_only(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 22);
    struct arena arena;
    cadre_error e = {0};
    assert_ok(arena_init(&arena, 1 << 20, &e), e);
    struct op_ctx c = {.k = &k, .arena = &arena};
    struct tensor *x = grad_param2(&rng, 2, HEADS * HEAD_DIM);
    for (int t = 0; t < N_ROPES; t++) {
        double dot[2];
        for (int far = 0; far < 2; far++) {
            const real *y = build(&c, &x, &(struct call){&ropes[t], (int32_t[]){3 + 1000 * far, 14 + 1000 * far}})->x;
            dot[far] = k.dot(y, y + HEADS * HEAD_DIM, HEADS * HEAD_DIM);
        }
        assert_true(fabs(dot[0] - dot[1]) < 1e-9);
    }
    grad_free(x);
    arena_destroy(&arena);
}

static void gradients(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 23);
    struct tensor *x = grad_param2(&rng, N, HEADS * HEAD_DIM);
    struct op_ctx c = {.k = &k};
    for (int t = 0; t < N_ROPES * N_POSITIONS; t++) {
        struct call call = {&ropes[t % N_ROPES], positions[t / N_ROPES]};
        gradcheck(&c, &rng, call.rope->pairs ? "pairs" : "halves", build, &call, 1, &x);
    }
    grad_free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_as_complex_numbers),
        cmocka_unit_test(products_see_distance_only),
        cmocka_unit_test(gradients),
    };
    return cmocka_run_group_tests_name("rope", tests, NULL, NULL);
}
