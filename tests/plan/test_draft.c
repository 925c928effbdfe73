/* The planner of draft lengths: its formulas against sums and simulations written out, its choices where the answer is
 * known. */
#include "test.h"

#include <math.h>

#include "base/rng.h"
#include "plan/draft.h"

static void assert_near(double a, double b, double within)
{
    if (!(fabs(a - b) <= within))
        fail_msg("expected %.9g within %g, found %.9g", b, within, a);
}

static void expected_tokens_are_those_of_trials(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3);
    for (double a = 0; a <= 1; a += 0.25)
        for (int d = 0; d <= 6; d += 3) {
            int64_t sum = 0;
            enum { TRIALS = 40000 };
            for (int t = 0; t < TRIALS; t++) {
                int i = 0;
                while (i < d && rng_uniform(&rng) < a)
                    i++;
                sum += i + 1;
            }
            assert_near(draft_expected_tokens(a, d), (double)sum / TRIALS, 0.06); /* five deviations of the worst */
        }
    assert_near(draft_expected_tokens(0.8, 4), (1 - pow(0.8, 5)) / (1 - 0.8), 1e-12);
    assert_near(draft_expected_tokens(1, 7), 8, 1e-12);
}

static void even_unions_are_those_of_trials(void **state)
{
    (void)state;
    enum { E = 24, K = 3, TRIALS = 20000 };
    struct rng rng;
    rng_seed(&rng, 5);
    for (int n = 1; n <= 9; n += 4) {
        double sum = 0;
        for (int t = 0; t < TRIALS; t++) {
            unsigned seen = 0;
            for (int i = 0; i < n; i++)
                for (unsigned mine = 0; __builtin_popcount(mine) < K;) {
                    unsigned e = 1u << rng_below(&rng, E);
                    mine |= e;
                    seen |= e;
                }
            sum += __builtin_popcount(seen);
        }
        assert_near(draft_even_union(E, K, n), sum / TRIALS, 0.1);
    }
    assert_near(draft_even_union(E, K, 1), K, 1e-12);
    assert_near(draft_even_union(E, E, 5), E, 1e-12);
    assert_near(draft_even_union(0, 0, 5), 0, 0);
}

enum { LAYERS = 3, EXPERTS = 7, SLOTS = 2, ROWS = 5, TOKENS = 40 };

/* Bytes of the distinct experts of tokens from … to. */
static double union_of(int32_t id[TOKENS][LAYERS][SLOTS], const double *bytes, int from, int to)
{
    double sum = 0;
    for (int l = 0; l < LAYERS; l++)
        for (int e = 0; e < EXPERTS; e++) {
            bool chosen = false;
            for (int t = from; t <= to; t++)
                for (int i = 0; i < SLOTS; i++)
                    chosen |= id[t][l][i] == e;
            sum += chosen ? bytes[l * EXPERTS + e] : 0;
        }
    return sum;
}

/* Windows of every length, counted anew for each token; weights fade by 0.98 and start as 4 of the prior. */
static void reads_are_means_over_windows(void **state)
{
    (void)state;
    static int32_t id[TOKENS][LAYERS][SLOTS];
    double bytes[LAYERS * EXPERTS], k[LAYERS] = {2, 1.5, 2}, want[ROWS + 1] = {0}, weight[ROWS + 1];
    int64_t last[LAYERS * EXPERTS] = {0};
    struct draft_reads r;
    struct rng rng;
    rng_seed(&rng, 9);
    for (int i = 0; i < LAYERS * EXPERTS; i++)
        bytes[i] = i % 5 == 4 ? 0 : 100 + i; /* some have none: light experts */
    draft_reads_init(&r, LAYERS, EXPERTS, ROWS, bytes, last, k);
    for (int n = 1; n <= ROWS; n++) {
        for (int l = 0; l < LAYERS; l++)
            for (int e = 0; e < EXPERTS; e++)
                want[n] += bytes[l * EXPERTS + e] * (1 - pow(1 - k[l] / EXPERTS, n));
        weight[n] = 4;
        assert_near(r.mean[n], want[n], 1e-9);
    }
    double first = want[2];
    for (int t = 0; t < TOKENS; t++) {
        for (int l = 0; l < LAYERS; l++)
            for (int i = 0; i < SLOTS; i++)
                id[t][l][i] = (int32_t)rng_below(&rng, EXPERTS + 1) - 1;
        draft_reads_add(&r, &id[t][0][0], SLOTS, SLOTS);
        for (int n = 1; n <= ROWS; n++) {
            if (n <= t + 1) {
                double seen = union_of(id, bytes, t - n + 1, t);
                want[n] = (want[n] * 0.98 * weight[n] + seen) / (0.98 * weight[n] + 1);
                weight[n] = 0.98 * weight[n] + 1;
            }
            assert_near(r.mean[n], want[n], 1e-9);
        }
    }
    draft_reads_begin(&r); /* another text: as if nothing had been seen */
    assert_near(r.mean[2], first, 1e-9);
    draft_reads_add(&r, &id[0][0][0], SLOTS, SLOTS);
    assert_near(r.mean[2], first, 1e-9); /* there is no window of two tokens yet */
}

static void chances_follow_what_happens(void **state)
{
    (void)state;
    struct draft_chance c = {.prior = 0.6}, always = c, never = c, early = c;
    assert_near(draft_chance(&early), 0.6, 1e-12);
    draft_chance_saw(&early, 1, true); /* two tests against the two of the prior, but for what fades */
    assert_near(draft_chance(&early), (0.6 * 2 + 0.97) / (2 + 0.97 + 1), 1e-12);
    for (int i = 0; i < 200; i++) {
        draft_chance_saw(&c, 3, true); /* three right, then one wrong */
        draft_chance_saw(&always, 5, false);
        draft_chance_saw(&never, 0, true);
    }
    assert_near(draft_chance(&c), 0.75, 0.05);
    assert_near(draft_chance(&always), 1, 0.05);
    assert_near(draft_chance(&never), 0, 0.06);
    struct draft_chance same = c;
    draft_chance_saw(&same, 0, false); /* nothing was tested */
    assert_memory_equal(&same, &c, sizeof c);
    for (int i = 0; i < 60; i++)
        draft_chance_saw(&always, 0, true);
    assert_true(draft_chance(&always) < 0.25); /* what was long ago is forgotten */
}

/* Expert bytes of n tokens: `first` for one, and `more` for each further one. */
static const double *line(double first, double more)
{
    static double e[4][DRAFT_ROWS + 1];
    static int turn;
    double *x = e[turn++ % 4];
    for (int n = 1; n <= DRAFT_ROWS; n++)
        x[n] = first + more * (n - 1);
    return x;
}

static void lengths_are_right_where_they_are_known(void **state)
{
    (void)state;
    /* All bytes are dense and rows cost nothing: every token that may be right is worth it. */
    struct draft_cost dense = {.dense = 100, .expert = line(0, 0), .pending = 1};
    assert_int_equal(draft_length(&dense, 0.9, 8), 8);
    assert_int_equal(draft_length(&dense, 0.9, 0), 0);
    assert_int_equal(draft_length(&dense, 0, 8), 0);
    /* All bytes are experts' and no two tokens share one: n tokens cost n times as much, and give fewer. */
    struct draft_cost apart = {.dense = 0, .expert = line(10, 10), .pending = 1};
    for (double a = 0; a <= 1; a += 0.1)
        assert_int_equal(draft_length(&apart, a, 8), 0);
    /* The same experts again and again cost nothing more. */
    struct draft_cost shared = {.dense = 0, .expert = line(10, 0), .pending = 1};
    assert_int_equal(draft_length(&shared, 0.5, 8), 8);
    /* A second token pays when 1 + a > 1.05 (dense + first + more) / (dense + first): here 1.05 · 13 / 10. */
    struct draft_cost half = {.dense = 5, .expert = line(5, 3), .pending = 1};
    assert_int_equal(draft_length(&half, 0.36, 8), 0);
    assert_int_equal(draft_length(&half, 0.37, 8), 1);
    /* The same for what rows and the drafter cost. */
    struct draft_cost rows = {.dense = 4, .expert = line(5, 0), .row = 1, .draft = 2, .pending = 1};
    assert_int_equal(draft_length(&rows, 0.36, 8), 0);
    assert_int_equal(draft_length(&rows, 0.37, 8), 1);
    /* A drafter as dear as the model never pays. */
    struct draft_cost dear = {.dense = 10, .expert = line(0, 0), .draft = 10, .pending = 1};
    assert_int_equal(draft_length(&dear, 0.99, 8), 0);
}

static void better_drafts_are_never_shorter(void **state)
{
    (void)state;
    struct draft_cost c = {.dense = 5, .expert = line(5, 2), .row = 0.2, .pending = 1};
    int before = 0;
    for (double a = 0; a <= 1; a += 0.01) {
        int d = draft_length(&c, a, 16);
        assert_true(d >= before);
        before = d;
    }
    assert_int_equal(before, 16);
    /* What is read anyway makes a draft cheaper beside it; dearer experts make it shorter. */
    struct draft_cost more = c;
    more.expert = line(5, 4);
    assert_true(draft_length(&more, 0.8, 16) < draft_length(&c, 0.8, 16));
}

/* By trials: the pass, and with a wrong token at i, i + 1 rows more in the next one than that has to take. */
static void tokens_read_again_are_paid_for(void **state)
{
    (void)state;
    struct draft_cost c = {.dense = 20, .expert = line(7, 3), .row = 0.5, .draft = 0.25, .pending = 2, .again = true};
    struct rng rng;
    enum { D = 4, TRIALS = 100000 };
    const double a = 0.6;
    double sum = 0;
    rng_seed(&rng, 1);
    for (int t = 0; t < TRIALS; t++) {
        int i = 0;
        while (i < D && rng_uniform(&rng) < a)
            i++;
        int rows = c.pending + D;
        sum += c.dense + c.expert[rows] + c.row * rows + c.draft * D;
        int next = i < D ? c.pending + i + 1 : 1; /* that the next pass takes before it drafts */
        sum += c.expert[next] - c.expert[1] + c.row * (next - 1);
    }
    assert_near(draft_pass_cost(&c, a, D), sum / TRIALS, 0.1);
    double again = draft_pass_cost(&c, a, D);
    c.again = false;
    assert_true(draft_pass_cost(&c, a, D) < again);
    assert_near(draft_pass_cost(&c, a, 0), 20 + c.expert[2] + 0.5 * 2, 1e-12);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expected_tokens_are_those_of_trials),    cmocka_unit_test(even_unions_are_those_of_trials),
        cmocka_unit_test(reads_are_means_over_windows),           cmocka_unit_test(chances_follow_what_happens),
        cmocka_unit_test(lengths_are_right_where_they_are_known), cmocka_unit_test(better_drafts_are_never_shorter),
        cmocka_unit_test(tokens_read_again_are_paid_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
