/* Each router row by the property that distinguishes its paper. */
#include "moe_test.h"

#include "moe/balance.h"

static struct routing route(struct fixture *f, const struct router_config *cfg, struct tensor *logits,
                            struct tensor *noise, const struct route_training *training)
{
    struct route_in in = {.logits = logits, .noise = noise, .training = training, .layer = 2};
    struct routing r;
    cadre_error e = {0};
    assert_ok(router_config_check(cfg, &e), e);
    router_choose(&f->c, cfg, &in, &r);
    cfg->kind->weigh(&f->c, cfg, &r);
    return r;
}

static struct tensor *random_logits(struct fixture *f, int64_t n, int64_t n_expert, real spread)
{
    struct tensor *t = op_new2(&f->c, n, n_expert);
    for (int64_t i = 0; i < n * n_expert; i++)
        t->x[i] = spread * (real)rng_normal(&f->rng);
    return t;
}

static int chosen(const struct routing *r, int64_t token)
{
    int n = 0;
    for (int j = 0; j < r->k; j++)
        n += r->id[token * r->k + j] >= 0;
    return n;
}

static void assert_refused(const struct router_config *cfg, const char *says)
{
    cadre_error e = {0};
    assert_int_equal(router_config_check(cfg, &e), CADRE_E_ARG);
    if (!strstr(e.text, says))
        fail_msg("\"%s\" does not say \"%s\"", e.text, says);
}

/* ---- as many as it takes */

static void mass_rules_take_the_shortest_sufficient_prefix(void **s)
{
    (void)s;
    enum { N = 200, E = 12, K = 9 };
    const struct router *const rows[] = {&router_top_p, &router_threshold};
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new(3);
        struct router_config cfg = {.kind = rows[i], .n_expert = E, .k = K, .scale = 1, .threshold = (real)0.6};
        struct routing r = route(f, &cfg, random_logits(f, N, E, 2), NULL, NULL);
        bool few = false, many = false;
        for (int t = 0; t < N; t++) {
            double mass = 0;
            int n = chosen(&r, t);
            few |= n == 1, many |= n > 3;
            for (int j = 0; j < K; j++) {
                int e = r.id[t * K + j];
                assert_true((e >= 0) == (j < n)); /* none follow some */
                if (e < 0) {
                    assert_true(r.weight->x[t * K + j] == 0);
                    continue;
                }
                assert_true(j == 0 || mass < 0.6);
                mass += (double)r.score->x[t * E + e];
                assert_true(r.weight->x[t * K + j] == r.score->x[t * E + e]);
            }
            assert_true(n == K || mass >= 0.6 - 1e-6);
        }
        assert_true(few && many);
        fixture_free(f);
    }
    struct router_config bad = {.kind = &router_top_p, .n_expert = 4, .k = 2, .scale = 1};
    assert_refused(&bad, "threshold");
    bad.threshold = (real)1.01;
    assert_refused(&bad, "found 1.01");
}

static void the_entropy_loss_is_the_mean_entropy(void **s)
{
    (void)s;
    enum { N = 17, E = 5 };
    struct fixture *f = fixture_new(4);
    struct router_config cfg = {.kind = &router_top_p, .n_expert = E, .k = 2, .scale = 1, .threshold = (real)0.5};
    struct routing r = route(f, &cfg, random_logits(f, N, E, 1), NULL, NULL);
    double want = 0;
    for (int i = 0; i < N * E; i++)
        want -= (double)r.score->x[i] * log((double)r.score->x[i]) / N;
    double found = (double)cfg.kind->loss(&f->c, &cfg, &r)->x[0];
    assert_true(fabs(found - want) < 10 * TOLERANCE * want);
    assert_null(router_threshold.loss);
    fixture_free(f);
}

/* ---- capacity */

static void nobody_gets_more_than_its_room_and_the_first_are_kept(void **s)
{
    (void)s;
    enum { N = 96, E = 6 };
    const struct route_training training = {.progress = 0.5, .seed = 9};
    const struct router *const rows[] = {&router_switch, &router_gshard};
    for (int i = 0; i < 2; i++) {
        struct fixture *f = fixture_new(5);
        int k = i + 1, room = N * k / E * 3 / 4;
        struct router_config cfg = {.kind = rows[i], .n_expert = E, .k = k, .scale = 1, .capacity = (real)0.75};
        struct tensor *logits = random_logits(f, N, E, 1);
        struct routing r = route(f, &cfg, logits, NULL, &training), free_run = route(f, &cfg, logits, NULL, NULL);
        int used[E] = {0}, dropped = 0;
        for (int j = 0; j < k; j++)
            for (int t = 0; t < N; t++) {
                int wanted = r.wanted[t * k + j], got = r.id[t * k + j];
                assert_int_equal(got, wanted >= 0 && used[wanted]++ < room ? wanted : -1);
                dropped += wanted != got;
                assert_true(free_run.id[t * k + j] >= 0); /* generation drops nothing */
            }
        assert_true(dropped > 0);
        int64_t count[E] = {0};
        balance_count(&r, E, count); /* the loss sees what was wanted, not what there was room for */
        for (int e = 0; e < E; e++)
            assert_int_equal(count[e], used[e]);
        fixture_free(f);
    }
    struct router_config bad = {.kind = &router_switch, .n_expert = 4, .k = 2, .scale = 1};
    assert_refused(&bad, "expected 1");
    bad.kind = &router_gshard, bad.capacity = -1;
    assert_refused(&bad, "capacity");
}

static void the_second_expert_is_used_in_proportion_to_its_weight(void **s)
{
    (void)s;
    enum { N = 20000, E = 4 };
    struct fixture *f = fixture_new(6);
    struct router_config cfg = {.kind = &router_gshard, .n_expert = E, .k = 2, .scale = 1};
    struct tensor *logits = op_new2(&f->c, N, E);
    for (int t = 0; t < N; t++) { /* p₁ = 3 p₂: g₂ = 1/4, so half of the seconds are used */
        const real row[E] = {(real)log(3), 0, -9, -9};
        memcpy(logits->x + t * E, row, sizeof row);
    }
    struct routing r = route(f, &cfg, logits, NULL, &(struct route_training){.seed = 1});
    int seconds = 0;
    for (int t = 0; t < N; t++) {
        assert_int_equal(r.id[2 * t], 0);
        seconds += r.id[2 * t + 1] == 1;
        assert_true(fabs((double)r.weight->x[2 * t] - 0.75) < 1e-4); /* whether or not the second works */
    }
    assert_true(abs(seconds - N / 2) < 5 * 71); /* 5 σ of a binomial */
    fixture_free(f);
}

/* ---- noise */

static void noise_is_for_training_and_a_function_of_its_seed(void **s)
{
    (void)s;
    enum { N = 64, E = 8, K = 2 };
    struct fixture *f = fixture_new(7);
    struct router_config cfg = {.kind = &router_noisy, .n_expert = E, .k = K, .scale = 1};
    struct tensor *logits = random_logits(f, N, E, 1), *noise = random_logits(f, N, E, 1);
    const struct route_training one = {.seed = 1}, two = {.seed = 2};
    struct routing plain = route(f, &cfg, logits, noise, NULL), a = route(f, &cfg, logits, noise, &one),
                   again = route(f, &cfg, logits, noise, &one), b = route(f, &cfg, logits, noise, &two);
    struct router_config softmax = {.kind = &router_softmax, .n_expert = E, .k = K, .normalize = true, .scale = 1};
    struct routing want = route(f, &softmax, logits, NULL, NULL);
    assert_memory_equal(plain.id, want.id, N * K * sizeof *plain.id);
    assert_memory_equal(plain.weight->x, want.weight->x, N * K * sizeof(real));
    assert_memory_equal(a.id, again.id, N * K * sizeof *a.id);
    assert_memory_not_equal(a.id, plain.id, N * K * sizeof *a.id);
    assert_memory_not_equal(a.id, b.id, N * K * sizeof *a.id);
    fixture_free(f);
}

/* The smooth load estimates the mean number of tokens: over many draws of the noise both agree. */
static void the_smooth_load_is_the_mean_of_the_counted_one(void **s)
{
    (void)s;
    enum { N = 8, E = 5, K = 2, DRAWS = 4000 };
    struct fixture *f = fixture_new(8);
    struct router_config cfg = {.kind = &router_noisy, .n_expert = E, .k = K, .scale = 1};
    struct tensor *logits = random_logits(f, N, E, 1), *noise = random_logits(f, N, E, (real)0.5);
    double smooth[E] = {0}, counted[E] = {0};
    size_t mark = arena_mark(&f->arena);
    for (int i = 0; i < DRAWS; i++) {
        struct routing r = route(f, &cfg, logits, noise, &(struct route_training){.seed = (uint64_t)i * 1000});
        for (int t = 0; t < N; t++) {
            for (int e = 0; e < E; e++)
                smooth[e] += (double)r.chances->x[t * E + e];
            for (int j = 0; j < K; j++)
                counted[r.id[t * K + j]]++;
        }
        arena_reset(&f->arena, mark);
    }
    for (int e = 0; e < E; e++) /* 5 σ of the counts: at most √(N DRAWS / 4) */
        assert_true(fabs(smooth[e] - counted[e]) < 5 * sqrt(N * DRAWS / 4.0));
    fixture_free(f);
}

/* ---- experts that are not there, experts that choose */

static void null_experts_take_slots_and_no_weight(void **s)
{
    (void)s;
    enum { N = 300, E = 7, NULLS = 3, K = 3 };
    struct fixture *f = fixture_new(9);
    struct router_config cfg = {.kind = &router_null, .n_expert = E, .n_light = NULLS, .k = K, .scale = 2};
    struct routing r = route(f, &cfg, random_logits(f, N, E, 2), NULL, NULL);
    bool seen[K + 1] = {0};
    for (int t = 0; t < N; t++) {
        int n_true = 0;
        double sum = 0;
        for (int j = 0; j < K; j++) {
            bool is_null = r.id[t * K + j] >= E - NULLS;
            n_true += !is_null;
            sum += (double)r.weight->x[t * K + j];
            assert_true(!is_null || r.weight->x[t * K + j] == 0);
        }
        seen[n_true] = true;
        assert_true(n_true == 0 ? sum == 0 : fabs(sum - 2) < 1e-3);
    }
    assert_true(seen[0] && seen[1] && seen[2] && seen[3]); /* the number of experts is each token's own */
    cfg.n_light = 0;
    assert_refused(&cfg, "experts_zero");
    fixture_free(f);
}

/* Only the nulls' mean use counts, so tokens that all take the same null cost as much as tokens that spread. */
static void the_balance_loss_sees_the_mean_use_of_light_experts(void **s)
{
    (void)s;
    enum { N = 12, E = 6, LIGHT = 3, K = 1 };
    struct fixture *f = fixture_new(10);
    struct router_config cfg = {.kind = &router_null, .n_expert = E, .n_light = LIGHT, .k = K, .scale = 1};
    struct routing r = route(f, &cfg, random_logits(f, N, E, 1), NULL, NULL);
    int32_t spread[N], same[N];
    for (int t = 0; t < N; t++) {
        spread[t] = t % E;
        same[t] = t % E < E - LIGHT ? t % E : E - 1;
    }
    r.wanted = spread;
    real first = balance_switch(&f->c, &cfg, &r, NULL)->x[0];
    r.wanted = same;
    assert_true(balance_switch(&f->c, &cfg, &r, NULL)->x[0] == first);
    cfg.light_weight = (real)0.5;
    assert_true(balance_switch(&f->c, &cfg, &r, NULL)->x[0] < first);
    fixture_free(f);
}

static void experts_choose_equally_many_tokens(void **s)
{
    (void)s;
    enum { N = 60, E = 5, K = 2, ROOM = N * K / E };
    struct fixture *f = fixture_new(11);
    struct router_config cfg = {.kind = &router_expert_choice, .n_expert = E, .k = K, .scale = 1};
    struct routing r = route(f, &cfg, random_logits(f, N, E, 1), NULL, &(struct route_training){0});
    bool uneven = false;
    assert_int_equal(r.k, E);
    for (int e = 0; e < E; e++) {
        int got = 0;
        real weakest = 2, best_left = -1;
        for (int t = 0; t < N; t++) {
            bool has = false;
            for (int j = 0; j < r.k; j++)
                has |= r.id[t * r.k + j] == e;
            got += has;
            real score = r.score->x[t * E + e];
            if (has && score < weakest)
                weakest = score;
            if (!has && score > best_left)
                best_left = score;
            uneven |= chosen(&r, t) != K;
        }
        assert_int_equal(got, ROOM);
        assert_true(weakest >= best_left);
    }
    assert_true(uneven && router_expert_choice.train_only);
    fixture_free(f);
}

static void every_group_gives_equally_many(void **s)
{
    (void)s;
    enum { N = 100, E = 12, K = 6, G = 3, EACH = K / G, SIZE = E / G };
    struct fixture *f = fixture_new(12);
    struct router_config cfg = {.kind = &router_grouped, .n_expert = E, .k = K, .groups = {G, G, 1}, .scale = 1};
    struct routing r = route(f, &cfg, random_logits(f, N, E, 2), NULL, NULL);
    for (int t = 0; t < N; t++) {
        int of[G] = {0};
        const real *score = r.score->x + t * E;
        for (int j = 0; j < K; j++) {
            int e = r.id[t * K + j], above = 0;
            of[e / SIZE]++;
            for (int o = e / SIZE * SIZE; o < (e / SIZE + 1) * SIZE; o++)
                above += score[o] > score[e];
            assert_true(above < EACH); /* the best of its group */
            assert_true(j == 0 || score[e] <= score[r.id[t * K + j - 1]]);
        }
        for (int g = 0; g < G; g++)
            assert_int_equal(of[g], EACH);
    }
    cfg.k = 4;
    assert_refused(&cfg, "found 3");
    fixture_free(f);
}

/* Softmax over what is near the best of those not taken before, for every slot anew. */
static void every_slot_is_weighed_against_its_rivals(void **s)
{
    (void)s;
    enum { N = 300, E = 7, K = 2 };
    struct fixture *f = fixture_new(15);
    struct router_config cfg = {
        .kind = &router_sparse_mixer, .n_expert = E, .k = K, .scale = 1, .threshold = (real)0.15};
    struct tensor *logits = random_logits(f, N, E, 1);
    for (int e = 0; e < E; e++)
        logits->x[e] = -1 - e; /* all below 0: distances by the size of each, not of the best */
    struct routing r = route(f, &cfg, logits, NULL, NULL);
    int alone = 0, shared = 0;
    for (int t = 0; t < N; t++) {
        const real *z = logits->x + t * E;
        bool taken[E] = {false};
        for (int j = 0; j < K; j++) {
            double m = -INFINITY, sum = 0;
            int best = -1;
            for (int e = 0; e < E; e++)
                if (!taken[e] && (double)z[e] > m)
                    m = (double)z[best = e];
            for (int e = 0; e < E; e++)
                if (!taken[e] && m - (double)z[e] <= 0.3 * fmax(fabs((double)z[e]), m))
                    sum += exp((double)z[e] - m);
            assert_int_equal(r.id[t * K + j], best);
            double found = (double)r.weight->x[t * K + j];
            assert_true(fabs(found - 1 / sum) < 10 * TOLERANCE);
            alone += found == 1, shared += found < 0.99;
            taken[best] = true;
        }
    }
    assert_true(alone > N / 4 && shared > N / 4);
    cfg.active = 1; /* a slot that the layer does not use has no weight */
    struct routing first = route(f, &cfg, logits, NULL, NULL);
    for (int t = 0; t < N; t++) {
        assert_true(first.weight->x[t * K] == r.weight->x[t * K]);
        assert_true(first.weight->x[t * K + 1] == 0);
    }
    cfg.threshold = 0;
    assert_refused(&cfg, "threshold");
    cfg.threshold = (real)0.1, cfg.normalize = true;
    assert_refused(&cfg, "not normalized");
    fixture_free(f);
}

/* ---- training that changes the number of experts */

static void dense_becomes_sparse(void **s)
{
    (void)s;
    enum { N = 80, E = 8, K = 2 };
    struct fixture *f = fixture_new(13);
    struct router_config cfg = {
        .kind = &router_dense_to_sparse, .n_expert = E, .k = K, .scale = 1, .threshold = (real)0.02, .temperature = 20};
    struct tensor *logits = random_logits(f, N, E, 1);
    int last = N * E + 1, total = 0;
    for (int step = 0; step <= 4; step++, last = total) {
        struct routing r = route(f, &cfg, logits, NULL, &(struct route_training){.progress = step / 4.0, .seed = 5});
        total = 0;
        for (int t = 0; t < N; t++) {
            total += chosen(&r, t);
            for (int j = 1; j < r.k; j++)
                if (r.id[t * r.k + j] >= 0)
                    assert_true(r.score->x[t * E + r.id[t * r.k + j]] > cfg.threshold);
        }
        assert_true(step > 0 || total == N * E);
        assert_true(total <= last);
    }
    assert_true(total < N * 4);
    struct routing r = route(f, &cfg, logits, NULL, NULL);
    assert_int_equal(r.k, K);
    cfg.threshold = (real)0.125;
    assert_refused(&cfg, "below 1 / experts");
    fixture_free(f);
}

static void a_growing_number_of_experts_ends_at_k(void **s)
{
    (void)s;
    enum { N = 10, E = 8, K = 5 };
    struct fixture *f = fixture_new(14);
    struct router_config cfg = {.kind = &router_random, .n_expert = E, .k = K, .start_k = 2, .scale = 1};
    struct tensor *logits = random_logits(f, N, E, 1);
    const double progress[] = {0, 0.24, 0.26, 0.5, 0.75, 0.9999, 1};
    const int want[] = {2, 2, 3, 4, 5, 5, 5};
    for (int i = 0; i < 7; i++) {
        struct routing r = route(f, &cfg, logits, NULL, &(struct route_training){.progress = progress[i]});
        for (int t = 0; t < N; t++)
            assert_int_equal(chosen(&r, t), want[i]);
    }
    struct routing r = route(f, &cfg, logits, NULL, NULL); /* generation has all */
    assert_int_equal(chosen(&r, 0), K);
    cfg.active = 3; /* unless the layer's schedule says fewer: then the best */
    struct routing few = route(f, &cfg, logits, NULL, NULL);
    for (int t = 0; t < N; t++)
        for (int j = 0; j < K; j++)
            assert_int_equal(few.id[t * K + j], j < 3 ? r.id[t * K + j] : -1);
    assert_true(router_random.fixed_gate);
    cfg.active = 6;
    assert_refused(&cfg, "found 6");
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mass_rules_take_the_shortest_sufficient_prefix),
        cmocka_unit_test(the_entropy_loss_is_the_mean_entropy),
        cmocka_unit_test(nobody_gets_more_than_its_room_and_the_first_are_kept),
        cmocka_unit_test(the_second_expert_is_used_in_proportion_to_its_weight),
        cmocka_unit_test(noise_is_for_training_and_a_function_of_its_seed),
        cmocka_unit_test(the_smooth_load_is_the_mean_of_the_counted_one),
        cmocka_unit_test(null_experts_take_slots_and_no_weight),
        cmocka_unit_test(the_balance_loss_sees_the_mean_use_of_light_experts),
        cmocka_unit_test(experts_choose_equally_many_tokens),
        cmocka_unit_test(every_group_gives_equally_many),
        cmocka_unit_test(every_slot_is_weighed_against_its_rivals),
        cmocka_unit_test(dense_becomes_sparse),
        cmocka_unit_test(a_growing_number_of_experts_ends_at_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
