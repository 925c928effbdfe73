/* Attention's inner loops: generic against double, every level against generic to the byte. */
#include "levels.h"

static struct levels levels;

enum { M = 13, N = 150, K = 40, PAD = 3 };

/* A span of each kind a tile can meet: whole, cut on the left, on the right, empty, rising as on a diagonal. */
static void random_spans(struct rng *r, struct span *span, int64_t m, int64_t k)
{
    int64_t kind = (int64_t)rng_below(r, 4);
    for (int64_t i = 0; i < m; i++) {
        int64_t lo = (int64_t)rng_below(r, (uint64_t)k), hi = (int64_t)rng_below(r, (uint64_t)k + 1);
        span[i] = kind == 0   ? (struct span){0, k}
                  : kind == 1 ? (struct span){0, i < k ? i + 1 : k}
                  : kind == 2 ? (struct span){i < k ? i : k, i + 5 < k ? i + 5 : k}
                              : (struct span){lo, hi};
    }
}

static void span_add_sees_its_span_only(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 51);
    static float a[M * (K + PAD)], b[K * (N + PAD)], c[M * (N + PAD)], want[M * (N + PAD)], got[M * (N + PAD)];
    for (int turn = 0; turn < 400; turn++) {
        int64_t m = (int64_t)rng_below(&r, M) + 1, n = (int64_t)rng_below(&r, N) + 1;
        int64_t k = (int64_t)rng_below(&r, K) + 1, lda = k + PAD, ldb = n + PAD;
        struct span span[M];
        random_spans(&r, span, m, k);
        fill_normal(&r, a, M * (K + PAD));
        fill_normal(&r, b, K * (N + PAD));
        fill_normal(&r, c, M * (N + PAD));
        int64_t dead = (int64_t)rng_below(&r, (uint64_t)k); /* rows that do not see it must not touch it */
        for (int64_t d = 0; d < n; d++)
            b[dead * ldb + d] = NAN;
        memcpy(want, c, sizeof c);
        levels.of[0].attn.span_add(m, n, span, a, lda, b, ldb, want, ldb);
        for (int64_t i = 0; i < m; i++)
            for (int64_t d = 0; d < ldb; d++) {
                double sum = c[i * ldb + d], size = fabs(sum);
                for (int64_t j = span[i].lo; d < n && j < span[i].hi; j++) {
                    sum += (double)a[i * lda + j] * b[j * ldb + d];
                    size += fabs((double)a[i * lda + j] * b[j * ldb + d]);
                }
                float found = want[i * ldb + d];
                assert_true(isnan(sum) ? isnan(found) : fabs(found - sum) <= 1e-6 * size);
            }
        for (int l = 1; l < levels.count; l++) {
            memcpy(got, c, sizeof c);
            levels.of[l].attn.span_add(m, n, span, a, lda, b, ldb, got, ldb);
            assert_same(isa_name(levels.of[l].isa), got, want, M * (N + PAD));
        }
    }
}

static void softmax_back_is_the_formula(void **state)
{
    (void)state;
    enum { LONGEST = 66 };
    struct rng r;
    rng_seed(&r, 52);
    float score[LONGEST + 1], dp[LONGEST + 1], p[2][LONGEST + 1], ds[2][LONGEST + 1];
    for (int n = 0; n <= LONGEST; n++)
        for (int l = 0; l < levels.count; l++) {
            if (l == 0) {
                fill_normal(&r, score, LONGEST + 1);
                fill_normal(&r, dp, LONGEST + 1);
            }
            float *pn = p[l > 0], *dsn = ds[l > 0];
            memcpy(pn, score, sizeof score);
            memcpy(dsn, dp, sizeof dp);
            levels.of[l].attn.softmax_back(pn, dsn, n, 1.5f, 0.3f, 0.25f, 0.125f);
            for (int j = 0; j < n && l == 0; j++) {
                double want = exp((double)score[j] - 1.5) * 0.3f;
                assert_true(fabs(pn[j] - want) < 1e-6);
                assert_true(fabs(dsn[j] - want * (dp[j] - 0.25) * 0.125) < 1e-6);
            }
            assert_memory_equal(pn, p[0], sizeof score);
            assert_memory_equal(dsn, ds[0], sizeof dp);
            assert_true(pn[n] == score[n] && dsn[n] == dp[n]);
        }
}

int main(void)
{
    levels = levels_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(span_add_sees_its_span_only),
        cmocka_unit_test(softmax_back_is_the_formula),
    };
    return cmocka_run_group_tests_name("attn", tests, NULL, NULL);
}
