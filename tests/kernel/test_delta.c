/* One token of the delta rule: generic against double, every level against generic to the byte. */
#include "levels.h"

static struct levels levels;

enum { DK = 21, COLUMNS = 150, PAD = 3 };

struct token {
    float k[DK], q[DK], v[COLUMNS], decay, beta;
};

static void assert_is_the_formula(const struct token *t, int64_t dk, int64_t n, const float *before, const float *after,
                                  int64_t ld, const float *o)
{
    for (int64_t c = 0; c < n; c++) {
        double seen = 0, sum = 0, size = fabs(t->v[c]);
        for (int64_t i = 0; i < dk; i++) {
            seen += (double)t->k[i] * t->decay * before[i * ld + c];
            size += fabs((double)t->k[i] * before[i * ld + c]);
        }
        double d = t->beta * (t->v[c] - seen), total = 0;
        for (int64_t i = 0; i < dk; i++) {
            double s = (double)t->decay * before[i * ld + c] + t->k[i] * d;
            assert_true(fabs(after[i * ld + c] - s) <= 1e-5 * size);
            sum += t->q[i] * s;
            total += fabs(t->q[i]) * size;
        }
        assert_true(fabs(o[c] - sum) <= 1e-5 * total);
    }
}

static void step_is_the_same_on_every_level(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 61);
    static float before[DK * (COLUMNS + PAD)], want[DK * (COLUMNS + PAD)], got[DK * (COLUMNS + PAD)];
    for (int turn = 0; turn < 300; turn++) {
        int64_t dk = (int64_t)rng_below(&r, DK) + 1, n = (int64_t)rng_below(&r, COLUMNS) + 1, ld = n + PAD;
        struct token t = {.decay = 0.5f + 0.4f * (float)rng_below(&r, 2), .beta = 0.25f + (float)rng_below(&r, 2)};
        float o[2][COLUMNS + 1];
        fill_normal(&r, t.k, DK);
        fill_normal(&r, t.q, DK);
        fill_normal(&r, t.v, COLUMNS);
        fill_normal(&r, before, DK * (COLUMNS + PAD));
        memcpy(want, before, sizeof before);
        o[0][n] = o[1][n] = 7;
        levels.of[0].delta.step(dk, n, want, ld, t.decay, t.beta, t.k, t.q, t.v, o[0]);
        assert_is_the_formula(&t, dk, n, before, want, ld, o[0]);
        for (int64_t i = 0; i < dk; i++) /* what lies beside the columns is another head's */
            assert_memory_equal(want + i * ld + n, before + i * ld + n, PAD * sizeof *want);
        for (int l = 1; l < levels.count; l++) {
            memcpy(got, before, sizeof before);
            levels.of[l].delta.step(dk, n, got, ld, t.decay, t.beta, t.k, t.q, t.v, o[1]);
            assert_same(isa_name(levels.of[l].isa), got, want, DK * (COLUMNS + PAD));
            assert_same(isa_name(levels.of[l].isa), o[1], o[0], n + 1);
        }
    }
}

int main(void)
{
    levels = levels_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(step_is_the_same_on_every_level),
    };
    return cmocka_run_group_tests_name("delta", tests, NULL, NULL);
}
