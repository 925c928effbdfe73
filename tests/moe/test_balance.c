/* What keeps experts evenly used: each method's own promise. */
#include "moe_test.h"

#include "moe/balance.h"

/* Tokens per expert of n ids, one a token. */
static void count_ids(int32_t *id, int64_t n, int n_expert, int64_t *count)
{
    struct tensor rows = {.n_dims = 2, .dim = {n, n_expert}};
    balance_count(&(struct routing){.id = id, .wanted = id, .k = 1, .score = &rows}, n_expert, count);
}

static void counting_and_statistics(void **s)
{
    (void)s;
    int32_t id[] = {0, 2, 2, -1, 3, 2};
    int64_t count[4] = {10, 0, 0, 0};
    count_ids(id, 6, 4, count);
    assert_int_equal(count[0], 11); /* adds to what was there */
    assert_int_equal(count[1], 0);
    assert_int_equal(count[2], 3);
    assert_int_equal(count[3], 1);
    const int64_t even[4] = {5, 5, 5, 5}, one[4] = {0, 0, 8, 0}, half[4] = {3, 0, 3, 0}, none[4] = {0};
    assert_true(balance_max_over_mean(even, 4) == 1);
    assert_true(balance_max_over_mean(one, 4) == 4);
    assert_true(balance_max_over_mean(none, 4) == 0);
    assert_true(fabs(balance_entropy(even, 4) - log(4)) < 1e-15);
    assert_true(fabs(balance_entropy(half, 4) - log(2)) < 1e-15);
    assert_true(balance_entropy(one, 4) == 0);
    assert_true(balance_entropy(none, 4) == 0);
}

/* A routing of these logits with these ids: losses are asked about decisions that no router would make. */
static struct routing routing_of(struct fixture *f, const struct router_config *cfg, struct tensor *logits, int32_t *id)
{
    struct route_in in = {.logits = logits};
    struct routing r;
    router_choose(&f->c, cfg, &in, &r);
    r.id = r.wanted = id;
    return r;
}

static const struct router *const both[] = {&router_softmax, &router_sigmoid};

static void switch_loss_is_one_when_even(void **s)
{
    (void)s;
    enum { N = 12, E = 6, K = 2 };
    int32_t id[N * K];
    for (int i = 0; i < N * K; i++)
        id[i] = i % E;
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new(1);
        struct router_config cfg = {.kind = both[i], .n_expert = E, .k = K, .scale = 1};
        struct tensor *logits = grad_param2(&f->rng, N, E);
        struct routing r = routing_of(f, &cfg, logits, id);
        /* With an even load any probabilities cost 1 … */
        assert_true(fabs((double)balance_switch(&f->c, &cfg, &r, NULL)->x[0] - 1) < TOLERANCE);
        /* … and with even probabilities any load does. */
        for (int j = 0; j < N * E; j++)
            logits->x[j] = (real)0.7;
        for (int j = 0; j < N * K; j++)
            id[j] = 0;
        r = routing_of(f, &cfg, logits, id);
        assert_true(fabs((double)balance_switch(&f->c, &cfg, &r, NULL)->x[0] - 1) < TOLERANCE);
        for (int j = 0; j < N * K; j++)
            id[j] = j % E;
        grad_free(logits);
        fixture_free(f);
    }
}

static void switch_loss_is_its_formula(void **s)
{
    (void)s;
    enum { N = 9, E = 4, K = 2 };
    struct fixture *f = fixture_new(2);
    struct tensor *logits = grad_param2(&f->rng, N, E);
    for (int i = 0; i < 2; i++) {
        struct router_config cfg = {.kind = both[i], .n_expert = E, .k = K, .scale = 1};
        struct route_in in = {.logits = logits};
        struct routing r = {0};
        router_choose(&f->c, &cfg, &in, &r);
        r.id[3] = -1; /* a slot that a filter emptied loads nobody */
        double want = 0;
        for (int e = 0; e < E; e++) {
            double load = 0, p = 0;
            for (int j = 0; j < N * K; j++)
                load += r.id[j] == e;
            for (int t = 0; t < N; t++) {
                double sum = 0;
                for (int o = 0; o < E; o++)
                    sum += (double)r.score->x[t * E + o];
                p += (double)r.score->x[t * E + e] / sum / N;
            }
            want += E * load / (N * K - 1) * p;
        }
        assert_true(fabs((double)balance_switch(&f->c, &cfg, &r, NULL)->x[0] - want) < TOLERANCE * want);
    }
    grad_free(logits);
    fixture_free(f);
}

static void switch_loss_pushes_the_overloaded_expert_down(void **s)
{
    (void)s;
    enum { N = 5, E = 4 };
    int32_t id[N] = {2, 2, 2, 2, 2};
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new(4);
        struct router_config cfg = {.kind = both[i], .n_expert = E, .k = 1, .scale = 1};
        struct tensor *logits = grad_param2(&f->rng, N, E);
        f->c.tape = &f->tape;
        struct routing r = routing_of(f, &cfg, logits, id);
        tape_backward(&f->c, balance_switch(&f->c, &cfg, &r, NULL), 1);
        for (int j = 0; j < N * E; j++) /* descent goes against the gradient */
            assert_true(j % E == 2 ? logits->g[j] > 0 : logits->g[j] < 0);
        grad_free(logits);
        fixture_free(f);
    }
}

/* Two micro-batches, each of one domain with experts of its own, that together load all experts evenly. By its own
 * counts each is punished for that; by the counts of the whole batch neither is. */
static void global_counts_let_sequences_specialise(void **s)
{
    (void)s;
    enum { N = 8, E = 4 };
    struct fixture *f = fixture_new(6);
    struct router_config cfg = {.kind = &router_softmax, .n_expert = E, .k = 1, .scale = 1};
    struct tensor *logits[2] = {grad_param2(&f->rng, N, E), grad_param2(&f->rng, N, E)};
    int64_t total[E] = {0};
    struct routing r[2];
    f->c.tape = &f->tape;
    for (int b = 0; b < 2; b++) {
        for (int i = 0; i < N * E; i++) /* batch 0 goes to experts 0 and 1, batch 1 to 2 and 3, in turn */
            logits[b]->x[i] = (real)(i % E == 2 * b + i / E % 2 ? 3 : 0);
        struct route_in in = {.logits = logits[b]};
        r[b] = (struct routing){0};
        router_choose(&f->c, &cfg, &in, &r[b]);
        count_ids(r[b].id, N, E, total);
    }
    for (int e = 0; e < E; e++)
        assert_int_equal(total[e], 2 * N / E);
    /* P sums to 1, so an even f has no slope in any logit. */
    for (int b = 0; b < 2; b++)
        for (int global = 0; global < 2; global++) {
            memset(logits[b]->g, 0, N * E * sizeof(real));
            f->tape.last = NULL;
            struct routing again = routing_of(f, &cfg, logits[b], r[b].id);
            struct tensor *loss = balance_switch(&f->c, &cfg, &again, global ? total : NULL);
            tape_backward(&f->c, loss, 1);
            double slope = max_abs(logits[b]->g, N * E);
            if (global)
                assert_true(fabs((double)loss->x[0] - 1) < TOLERANCE && slope < TOLERANCE);
            else
                assert_true((double)loss->x[0] > 1.5 && slope > 1e-3);
        }
    grad_free(logits[0]);
    grad_free(logits[1]);
    fixture_free(f);
}

static void z_loss_is_the_mean_square_of_logsumexp(void **s)
{
    (void)s;
    enum { N = 13, E = 7 };
    struct fixture *f = fixture_new(8);
    struct tensor *logits = grad_param2(&f->rng, N, E);
    struct routing r = {.logits = logits};
    double want = 0;
    for (int t = 0; t < N; t++) {
        double sum = 0;
        for (int e = 0; e < E; e++)
            sum += exp((double)logits->x[t * E + e]);
        want += log(sum) * log(sum) / N;
    }
    assert_true(fabs((double)balance_z(&f->c, &r)->x[0] - want) < TOLERANCE * want);
    grad_free(logits);
    fixture_free(f);
}

static void bias_steps_are_the_signs(void **s)
{
    (void)s;
    const int64_t count[4] = {3, 1, 2, 4}; /* the mean, 2.5, is no whole number */
    real bias[4] = {0, 0, 1, -1};
    balance_update_bias(bias, count, 4, (real)0.25);
    assert_true(bias[0] == (real)-0.25 && bias[1] == (real)0.25 && bias[2] == (real)1.25 && bias[3] == (real)-1.25);
    const int64_t even[4] = {2, 2, 2, 2};
    balance_update_bias(bias, even, 4, (real)0.25);
    assert_true(bias[0] == (real)-0.25 && bias[3] == (real)-1.25);
}

/* A router whose experts differ by a lasting skew, as one that collapses: 200 steps of the bias even it out. */
static void bias_evens_out_a_skewed_router(void **s)
{
    (void)s;
    enum { N = 256, E = 8, K = 2, STEPS = 200 };
    struct fixture *f = fixture_new(9);
    struct router_config cfg = {.kind = &router_sigmoid, .n_expert = E, .k = K, .scale = 1};
    real bias[E] = {0}, *logits = malloc(N * E * sizeof *logits);
    assert_non_null(logits);
    double first = 0;
    int64_t late[E] = {0};
    for (int step = 0; step < STEPS; step++) {
        int64_t count[E] = {0};
        for (int i = 0; i < N * E; i++)
            logits[i] = (real)(0.5 * rng_normal(&f->rng) + 0.3 * (i % E));
        struct route_in in = {.logits = op_wrap(&f->c, logits, N, E), .bias = bias};
        struct routing r = {0};
        router_choose(&f->c, &cfg, &in, &r);
        count_ids(r.id, N * K, E, count);
        if (step == 0)
            first = balance_max_over_mean(count, E);
        if (step >= STEPS - 20)
            count_ids(r.id, N * K, E, late);
        balance_update_bias(bias, count, E, (real)0.005);
        arena_reset(&f->arena, 0);
    }
    assert_true(first > 2.5);
    assert_true(balance_max_over_mean(late, E) < 1.1);
    assert_true(balance_entropy(late, E) > 0.995 * log(E));
    free(logits);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_and_statistics),
        cmocka_unit_test(switch_loss_is_one_when_even),
        cmocka_unit_test(switch_loss_is_its_formula),
        cmocka_unit_test(switch_loss_pushes_the_overloaded_expert_down),
        cmocka_unit_test(global_counts_let_sequences_specialise),
        cmocka_unit_test(z_loss_is_the_mean_square_of_logsumexp),
        cmocka_unit_test(bias_steps_are_the_signs),
        cmocka_unit_test(bias_evens_out_a_skewed_router),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
