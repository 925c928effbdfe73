/* Choosing and weighing, each against the rule in its paper. */
#include "moe_test.h"

static const struct router *const both[] = {&router_softmax, &router_sigmoid};

static void table_finds_every_row_by_its_name(void **s)
{
    (void)s;
    int n = 0;
    for (; router_at(n); n++)
        assert_ptr_equal(router_find(router_at(n)->name), router_at(n));
    assert_true(n > 2);
    assert_null(router_at(-1));
    assert_null(router_find("soft"));
    assert_ptr_equal(router_find("sigmoid"), &router_sigmoid);
    for (n = 0; expert_kind_at(n); n++)
        assert_ptr_equal(expert_kind_find(expert_kind_at(n)->name), expert_kind_at(n));
    assert_ptr_equal(expert_kind_find("swiglu"), &expert_swiglu);
    assert_null(expert_kind_find(""));
}

static void a_wrong_configuration_says_what_is_wrong(void **s)
{
    (void)s;
    const struct router_config good = {.kind = &router_sigmoid, .n_expert = 8, .k = 3, .groups = {4, 2, 2}, .scale = 1};
    cadre_error e = {0};
    assert_ok(router_config_check(&good, &e), e);
    struct {
        struct router_config cfg;
        const char *says;
    } bad[12];
    for (int i = 0; i < 12; i++)
        bad[i].cfg = good;
    bad[0].cfg.kind = NULL, bad[0].says = "kind";
    bad[1].cfg.n_expert = 0, bad[1].says = "at least 1 expert";
    bad[2].cfg.k = 0, bad[2].says = "expected 1 to 8";
    bad[3].cfg.k = 9, bad[3].says = "found 9";
    bad[4].cfg.scale = 0, bad[4].says = "scale";
    bad[5].cfg.scale = (real)NAN, bad[5].says = "scale";
    bad[6].cfg.groups.n = 3, bad[6].says = "divides";
    bad[7].cfg.groups.n = -4, bad[7].says = "found -4";
    bad[8].cfg.groups.used = 5, bad[8].says = "found 5";
    bad[9].cfg.groups.used = 0, bad[9].says = "groups used";
    bad[10].cfg.groups.best = 3, bad[10].says = "1 to 2";
    bad[11].cfg.groups.used = 1, bad[11].says = "cannot give 3";
    for (int i = 0; i < 12; i++) {
        assert_int_equal(router_config_check(&bad[i].cfg, &e), CADRE_E_ARG);
        if (!strstr(e.text, bad[i].says))
            fail_msg("case %d: \"%s\" does not say \"%s\"", i, e.text, bad[i].says);
    }
}

static struct routing route(struct fixture *f, const struct router_config *cfg, real *logits, int64_t n,
                            const real *bias)
{
    struct route_in in = {.logits = op_wrap(&f->c, logits, n, cfg->n_expert), .bias = bias};
    struct routing r = {0};
    router_choose(&f->c, cfg, &in, &r);
    cfg->kind->weigh(&f->c, cfg, &r);
    return r;
}

static double score_d(const struct router *kind, const real *logits, int e, int n_expert)
{
    if (kind == &router_sigmoid)
        return 1 / (1 + exp(-(double)logits[e]));
    double sum = 0;
    for (int i = 0; i < n_expert; i++)
        sum += exp((double)logits[i]);
    return exp((double)logits[e]) / sum;
}

static bool in_best_groups(const double *selection, const struct router_config *cfg, int e)
{
    int size = cfg->n_expert / cfg->groups.n, better = 0;
    double own = 0;
    for (int turn = 0; turn <= cfg->groups.n; turn++) { /* the own group first, then all */
        int g = turn ? turn - 1 : e / size;
        double sum = 0, last = INFINITY;
        for (int b = 0; b < cfg->groups.best; b++) {
            double best = -INFINITY;
            for (int i = g * size; i < (g + 1) * size; i++)
                if (selection[i] < last && selection[i] > best)
                    best = selection[i];
            sum += last = best;
        }
        if (!turn)
            own = sum;
        else
            better += sum > own;
    }
    return better < cfg->groups.used;
}

/* DeepSeek-V3 eq. 12-16 and Shazeer's softmax, by definition: an expert is chosen when fewer than k eligible ones have
 * a larger biased score. */
static void assert_routed(const struct router_config *cfg, const real *logits, const real *bias, const int32_t *id,
                          const real *weight)
{
    int n_expert = cfg->n_expert, k = cfg->k, n_chosen = 0;
    double selection[64], sum = 0;
    for (int e = 0; e < n_expert; e++)
        selection[e] = score_d(cfg->kind, logits, e, n_expert) + (bias ? (double)bias[e] : 0);
    for (int e = 0; e < n_expert; e++) {
        int above = 0;
        bool eligible = !cfg->groups.n || in_best_groups(selection, cfg, e);
        for (int i = 0; i < n_expert; i++)
            above += selection[i] > selection[e] && (!cfg->groups.n || in_best_groups(selection, cfg, i));
        if (!eligible || above >= k)
            continue;
        assert_int_equal(id[above], e);
        sum += score_d(cfg->kind, logits, e, n_expert);
        n_chosen++;
    }
    assert_int_equal(n_chosen, k);
    for (int j = 0; j < k; j++) {
        double want = score_d(cfg->kind, logits, id[j], n_expert) * (double)cfg->scale;
        if (cfg->normalize)
            want /= fmax(sum, pow(2, -14));
        assert_true(fabs((double)weight[j] - want) <= TOLERANCE * want);
    }
}

static void choice_and_weights_are_as_defined(void **s)
{
    (void)s;
    const struct topk_groups groups[] = {{0}, {4, 2, 2}, {4, 2, 1}, {8, 3, 2}, {2, 1, 3}};
    enum { N = 50, E = 16 };
    struct fixture *f = fixture_new(5);
    real *logits = random_reals(f, N * E), *bias = random_reals(f, E);
    for (int e = 0; e < E; e++)
        bias[e] *= (real)0.3;
    int n_differ = 0;
    for (int i = 0; i < 2 * 5 * 4; i++) {
        struct router_config cfg = {.kind = both[i % 2],
                                    .n_expert = E,
                                    .k = 3,
                                    .groups = groups[i / 2 % 5],
                                    .normalize = i / 10 % 2,
                                    .scale = i / 10 == 3 ? (real)2.5 : 1};
        const real *b = i / 20 ? bias : NULL;
        struct routing r = route(f, &cfg, logits, N, b);
        struct router_config free_choice = cfg;
        free_choice.groups.n = 0;
        struct routing plain = route(f, &free_choice, logits, N, b);
        n_differ += cfg.groups.n && memcmp(r.id, plain.id, N * 3 * sizeof *r.id) != 0;
        for (int t = 0; t < N; t++)
            assert_routed(&cfg, logits + t * E, b, r.id + t * 3, r.weight->x + t * 3);
        arena_reset(&f->arena, 0);
    }
    assert_int_equal(n_differ, 32); /* the groups had something to forbid */
    free(logits);
    free(bias);
    fixture_free(f);
}

static void the_best_expert_of_a_weak_group_is_out(void **s)
{
    (void)s;
    /* Groups {0,1}, {2,3}: expert 0 is the best of all, but 2 + 3 together score more. */
    real logits[4] = {3, -3, (real)1.2, 1};
    struct fixture *f = fixture_new(1);
    struct router_config cfg = {.kind = &router_sigmoid, .n_expert = 4, .k = 2, .groups = {2, 1, 2}, .scale = 1};
    struct routing r = route(f, &cfg, logits, 1, NULL);
    assert_int_equal(r.id[0], 2);
    assert_int_equal(r.id[1], 3);
    cfg.groups.best = 1; /* ranked by its maximum, the first group wins */
    r = route(f, &cfg, logits, 1, NULL);
    assert_int_equal(r.id[0], 0);
    assert_int_equal(r.id[1], 1);
    fixture_free(f);
}

static void bias_changes_the_choice_and_not_the_weights(void **s)
{
    (void)s;
    real logits[5] = {2, 1, 0, -1, -2}, bias[5] = {0, 0, 0, 0, 3};
    struct fixture *f = fixture_new(1);
    for (int i = 0; i < 2; i++) {
        struct router_config cfg = {.kind = both[i], .n_expert = 5, .k = 2, .scale = 1};
        struct routing r = route(f, &cfg, logits, 1, NULL), biased = route(f, &cfg, logits, 1, bias);
        assert_int_equal(r.id[0], 0);
        assert_int_equal(r.id[1], 1);
        assert_int_equal(biased.id[0], 4);
        assert_int_equal(biased.id[1], 0);
        assert_true(biased.weight->x[1] == r.weight->x[0]);
        assert_true(biased.weight->x[0] == r.score->x[4]);
        assert_memory_equal(biased.score->x, r.score->x, 5 * sizeof(real));
    }
    fixture_free(f);
}

static void weights_of_hopeless_experts_stay_small(void **s)
{
    (void)s;
    real logits[3] = {-40, -41, -42};
    struct fixture *f = fixture_new(1);
    struct router_config cfg = {.kind = &router_sigmoid, .n_expert = 3, .k = 2, .normalize = true, .scale = 1};
    struct routing r = route(f, &cfg, logits, 1, NULL);
    for (int j = 0; j < 2; j++) {
        double want = exp((double)logits[j]) * pow(2, 14); /* the floor divides, not the sum */
        assert_true(fabs((double)r.weight->x[j] - want) <= 1e-4 * want);
    }
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_finds_every_row_by_its_name),
        cmocka_unit_test(a_wrong_configuration_says_what_is_wrong),
        cmocka_unit_test(choice_and_weights_are_as_defined),
        cmocka_unit_test(the_best_expert_of_a_weak_group_is_out),
        cmocka_unit_test(bias_changes_the_choice_and_not_the_weights),
        cmocka_unit_test(weights_of_hopeless_experts_stay_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
