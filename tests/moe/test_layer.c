/* Properties of the MoE layer that hold in both builds. */
#include "moe_test.h"

static const struct layer_shape shapes[] = {
    {.router = &router_softmax, .n = 9, .d = 24, .ff = 12, .n_expert = 6, .k = 2},
    {.router = &router_softmax, .n = 5, .d = 8, .ff = 20, .n_expert = 4, .k = 4, .normalize = true, .shared_ff = 7},
    {.router = &router_softmax, .n = 17, .d = 33, .ff = 5, .n_expert = 8, .k = 3, .shared_ff = 16, .shared_gate = true},
    {.router = &router_softmax, .n = 1, .d = 16, .ff = 16, .n_expert = 3, .k = 1, .bias = true},
    {.router = &router_sigmoid,
     .n = 12,
     .d = 16,
     .ff = 8,
     .n_expert = 8,
     .k = 3,
     .groups = {4, 2, 2},
     .normalize = true,
     .bias = true,
     .scale = 2.5,
     .shared_ff = 9},
    {.router = &router_sigmoid, .n = 40, .d = 20, .ff = 11, .n_expert = 12, .k = 4, .groups = {3, 2, 1}},
};

static void forward_is_the_weighted_sum_of_its_experts(void **s)
{
    (void)s;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct fixture *f = fixture_new(i + 1);
        struct layer_case t = layer_new(f, &shapes[i]);
        struct routing r;
        cadre_error e = {0};
        struct tensor *y = moe_forward(&f->c, &t.l, t.p[P_X], NULL, &r, &e);
        assert_non_null(y);
        double *want = layer_reference(&t, r.id, r.weight->x);
        assert_near_d("y", y->x, want, tensor_count(y), TOLERANCE);
        free(want);
        layer_free(&t);
        fixture_free(f);
    }
}

static void copy_expert(struct tensor *experts, const struct tensor *one, int n_expert)
{
    for (int e = 0; e < n_expert; e++)
        memcpy(experts->x + e * tensor_count(one), one->x, (size_t)tensor_count(one) * sizeof(real));
}

static void assert_expert_sum(const char *what, const struct tensor *experts, const struct tensor *one, int n_expert)
{
    int64_t n = tensor_count(one);
    real *sum = calloc((size_t)n, sizeof *sum);
    assert_non_null(sum);
    for (int e = 0; e < n_expert; e++)
        for (int64_t i = 0; i < n; i++)
            sum[i] += experts->g[e * n + i];
    assert_near(what, sum, one->g, n, 4 * TOLERANCE);
    free(sum);
}

/* Weights that sum to 1 over equal experts: the layer is that expert, whoever is chosen. So are its gradients: the
 * experts share the dense one's, and the router has none, for no choice of weights would change the output. */
static void equal_experts_are_a_dense_layer(void **s)
{
    (void)s;
    const struct router *routers[] = {&router_softmax, &router_sigmoid};
    enum { N_EXPERT = 5 };
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new(7);
        struct layer_shape shape = {
            .router = routers[i], .n = 14, .d = 24, .ff = 13, .n_expert = N_EXPERT, .k = 3, .normalize = true};
        struct layer_case t = layer_new(f, &shape);
        struct tensor *x = grad_param2(&f->rng, 14, 24);
        memcpy(x->x, t.p[P_X]->x, (size_t)tensor_count(x) * sizeof(real));
        struct tensor *dense[3] = {grad_param2(&f->rng, 13, 24), grad_param2(&f->rng, 13, 24),
                                   grad_param2(&f->rng, 24, 13)};
        for (int m = 0; m < 3; m++)
            copy_expert(t.p[P_EXPERT_GATE + m], dense[m], N_EXPERT);
        struct expert_weights w = {
            .gate = weight_of(dense[0], 0), .up = weight_of(dense[1], 0), .down = weight_of(dense[2], 0)};
        real *r = random_reals(f, tensor_count(x));
        cadre_error e = {0};

        f->c.tape = &f->tape;
        struct tensor *want = expert_swiglu.forward(&f->c, &w, x, NULL);
        backward_from(f, want, r);
        struct tensor *y = moe_forward(&f->c, &t.l, t.p[P_X], NULL, NULL, &e);
        backward_from(f, y, r);

        assert_near("y", y->x, want->x, tensor_count(y), TOLERANCE);
        assert_near("dx", t.p[P_X]->g, x->g, tensor_count(x), 4 * TOLERANCE);
        for (int m = 0; m < 3; m++)
            assert_expert_sum("expert gradients", t.p[P_EXPERT_GATE + m], dense[m], N_EXPERT);
        assert_true(max_abs(t.p[P_GATE]->g, tensor_count(t.p[P_GATE])) < TOLERANCE * max_abs(dense[0]->g, 13 * 24));
        for (int m = 0; m < 3; m++)
            grad_free(dense[m]);
        grad_free(x);
        free(r);
        layer_free(&t);
        fixture_free(f);
    }
}

/* Halves of k = 2 copies are exact, so the way there and back changes no bit. */
static void dispatch_then_combine_is_the_identity(void **s)
{
    (void)s;
    enum { N = 37, K = 2, E = 5, D = 19 };
    struct fixture *f = fixture_new(3);
    struct tensor *x = grad_param2(&f->rng, N, D), *weight = grad_param2(&f->rng, N, K);
    int32_t id[N * K];
    for (int t = 0; t < N; t++) {
        id[t * K] = (int32_t)rng_below(&f->rng, E);
        id[t * K + 1] = (id[t * K] + 1 + (int32_t)rng_below(&f->rng, E - 1)) % E;
        weight->x[t * K] = weight->x[t * K + 1] = (real)0.5;
    }
    real *r = random_reals(f, N * D);
    f->c.tape = &f->tape;
    struct dispatch *plan = op_dispatch_plan(&f->c, id, N, K, E);
    assert_int_equal(plan->n_rows, N * K);
    struct tensor *y = op_combine(&f->c, op_dispatch(&f->c, x, plan), weight, plan);
    assert_memory_equal(y->x, x->x, N * D * sizeof(real));
    backward_from(f, y, r);
    assert_memory_equal(x->g, r, N * D * sizeof(real));
    for (int t = 0; t < N; t++) { /* d/dw of w x · r is x · r, for both slots */
        double want = dot_d(x->x + t * D, r + t * D, D);
        for (int j = 0; j < K; j++)
            assert_true(fabs((double)weight->g[t * K + j] - want) < 10 * TOLERANCE * (1 + fabs(want)));
    }
    grad_free(x);
    grad_free(weight);
    free(r);
    fixture_free(f);
}

/* Every token's slots add up in slot order and its rows do not know their neighbours. */
static void a_token_alone_is_the_token_in_its_batch(void **s)
{
    (void)s;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct fixture *f = fixture_new(i + 20);
        struct layer_case t = layer_new(f, &shapes[i]);
        struct routing all, one;
        cadre_error e = {0};
        int64_t d = shapes[i].d, k = shapes[i].k;
        struct tensor *y = moe_forward(&f->c, &t.l, t.p[P_X], NULL, &all, &e);
        for (int64_t n = 0; n < shapes[i].n; n++) {
            struct tensor *x = op_wrap(&f->c, t.p[P_X]->x + n * d, 1, d);
            struct tensor *alone = moe_forward(&f->c, &t.l, x, NULL, &one, &e);
            assert_memory_equal(alone->x, y->x + n * d, (size_t)d * sizeof(real));
            assert_memory_equal(one.id, all.id + n * k, (size_t)k * sizeof *one.id);
            assert_memory_equal(one.weight->x, all.weight->x + n * k, (size_t)k * sizeof(real));
        }
        layer_free(&t);
        fixture_free(f);
    }
}

static void threads_change_no_byte(void **s)
{
    (void)s;
    struct layer_shape shape = {.router = &router_softmax,
                                .n = 300,
                                .d = 32,
                                .ff = 48,
                                .n_expert = 7,
                                .k = 2,
                                .shared_ff = 40,
                                .shared_gate = true};
    real *first[P_N + 1] = {0};
    for (int threads = 1; threads <= 3; threads++) {
        struct fixture *f = fixture_new(11);
        struct layer_case t = layer_new(f, &shape);
        real *r = random_reals(f, shape.n * shape.d);
        cadre_error e = {0};
        assert_ok(pool_new(&f->c.pool, threads, &e), e);
        f->c.tape = &f->tape;
        struct tensor *y = moe_forward(&f->c, &t.l, t.p[P_X], NULL, NULL, &e);
        backward_from(f, y, r);
        for (int i = 0; i <= P_N; i++) {
            const real *found = i < P_N ? t.p[i]->g : y->x;
            size_t bytes = (size_t)tensor_count(i < P_N ? t.p[i] : y) * sizeof(real);
            if (threads == 1) {
                assert_true(max_abs(found, (int64_t)(bytes / sizeof(real))) > 0);
                first[i] = malloc(bytes);
                assert_non_null(first[i]);
                memcpy(first[i], found, bytes);
            }
            assert_memory_equal(found, first[i], bytes);
        }
        free(r);
        pool_free(f->c.pool);
        layer_free(&t);
        fixture_free(f);
    }
    for (int i = 0; i <= P_N; i++)
        free(first[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_weighted_sum_of_its_experts),
        cmocka_unit_test(equal_experts_are_a_dense_layer),
        cmocka_unit_test(dispatch_then_combine_is_the_identity),
        cmocka_unit_test(a_token_alone_is_the_token_in_its_batch),
        cmocka_unit_test(threads_change_no_byte),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
