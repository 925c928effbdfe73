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

/* ---- over a cache: random bytes are keys and values; what they mean is read here by the layouts of attn.h */

enum { POSITIONS = 64, DIM = 100, STRIDE = DIM + 12 };

static const enum dtype cache_formats[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};

/* Number d of `bytes`, a position's numbers in the format */
static float number_at(enum dtype type, const unsigned char *bytes, int64_t d)
{
    const struct dtype_info *info = dtype_info(type);
    float block[32];
    info->decode(bytes + (size_t)(d / info->block) * info->bytes, block, info->block);
    return block[d % info->block];
}

static void random_cache(struct rng *r, enum dtype type, unsigned char *rows, int64_t dim)
{
    float x[128] = {0};
    for (int64_t j = 0; j < POSITIONS; j++) {
        fill_normal(r, x, dim);
        dtype_info(type)->encode(x, rows + (size_t)j * cache_row_bytes(type, dim), (size_t)(dim + 31) / 32 * 32);
    }
}

/* Rows as strips: the first number or scale of 16 positions, …, then bytes of 16 positions */
static void to_strips(enum dtype type, const unsigned char *rows, unsigned char *strips, int64_t dim)
{
    size_t row = cache_row_bytes(type, dim), unit = dtype_info(type)->bytes, first = type == DTYPE_F32 ? 4 : 2;
    for (size_t j = 0; j < POSITIONS; j++)
        for (size_t at = 0; at < row; at += unit) {
            unsigned char *to = strips + j / 16 * 16 * row + at * 16;
            memcpy(to + j % 16 * first, rows + j * row + at, first);
            for (size_t i = first; i < unit; i++)
                to[i * 16 + j % 16] = rows[j * row + at + i];
        }
}

struct cache_case {
    enum dtype type;
    int64_t m, n, dim;            /* query rows, positions, numbers of a position */
    unsigned char *rows, *strips; /* [POSITIONS] */
    float a[M * STRIDE], o[M * STRIDE];
    struct span span[M];
};

static void cache_case_new(struct cache_case *c, struct rng *r, int turn)
{
    c->type = cache_formats[turn % 4];
    c->m = (int64_t)rng_below(r, M) + 1;
    c->n = (int64_t)rng_below(r, POSITIONS) + 1;
    c->dim = (int64_t)rng_below(r, DIM) + 1;
    size_t bytes = POSITIONS * cache_row_bytes(c->type, c->dim) + 1024;
    c->rows = calloc(1, bytes);
    c->strips = calloc(1, bytes);
    assert_true(c->rows && c->strips);
    random_cache(r, c->type, c->rows, c->dim);
    to_strips(c->type, c->rows, c->strips, c->dim);
    fill_normal(r, c->a, M * STRIDE);
    fill_normal(r, c->o, M * STRIDE);
    random_spans(r, c->span, c->m, c->n);
}

static void near(float found, double sum, double size)
{
    assert_true(isnan(sum) ? isnan(found) : fabs(found - sum) <= 1e-5 * size + 1e-30);
}

static void check_scores(const struct cache_case *c)
{
    static float want[M * 64], got[M * 64];
    for (int l = 0; l < levels.count; l++) {
        float *score = l ? got : want;
        const struct cache_kernels *k = &levels.of[l].attn.cache[c->type];
        k->scores(c->m, c->n, c->dim, c->a, STRIDE, c->strips, l % 2 ? c->strips : NULL, score, 64);
        for (int64_t i = 0; i < c->m; i++) {
            assert_same(isa_name(levels.of[l].isa), score + i * 64, want + i * 64, c->n);
            for (int64_t j = 0; l == 0 && j < c->n; j++) {
                double sum = 0, size = 0;
                for (int64_t d = 0; d < c->dim; d++) {
                    double x = (double)c->a[i * STRIDE + d] *
                               number_at(c->type, c->rows + (size_t)j * cache_row_bytes(c->type, c->dim), d);
                    sum += x;
                    size += fabs(x);
                }
                near(score[i * 64 + j], sum, size);
            }
        }
    }
}

static void check_add(const struct cache_case *c)
{
    static float want[M * STRIDE], got[M * STRIDE];
    for (int l = 0; l < levels.count; l++) {
        float *o = l ? got : want;
        memcpy(o, c->o, sizeof c->o);
        levels.of[l].attn.cache[c->type].add(c->m, c->dim, c->span, c->a, STRIDE, c->rows, NULL, o, STRIDE);
        assert_same(isa_name(levels.of[l].isa), o, want, M * STRIDE); /* and nothing beyond dim */
        for (int64_t i = 0; l == 0 && i < c->m; i++)
            for (int64_t d = 0; d < STRIDE; d++) {
                double sum = c->o[i * STRIDE + d], size = fabs(sum);
                for (int64_t j = c->span[i].lo; d < c->dim && j < c->span[i].hi; j++) {
                    double x = (double)c->a[i * STRIDE + j] *
                               number_at(c->type, c->rows + (size_t)j * cache_row_bytes(c->type, c->dim), d);
                    sum += x;
                    size += fabs(x);
                }
                near(o[i * STRIDE + d], sum, size);
            }
    }
}

/* Both ways out of the format give its decoder's floats. */
static void check_unpacked(const struct cache_case *c)
{
    static float strips[POSITIONS * DIM], rows[POSITIONS * STRIDE];
    for (int l = 0; l < levels.count; l++) {
        levels.of[l].attn.cache[c->type].unpack(strips, c->strips, c->n, c->dim);
        levels.of[l].attn.cache[c->type].rows(rows, STRIDE, c->rows, c->n, c->dim);
        for (int64_t j = 0; j < c->n; j++)
            for (int64_t d = 0; d < c->dim; d++) {
                float x = number_at(c->type, c->rows + (size_t)j * cache_row_bytes(c->type, c->dim), d);
                assert_same("strips", &strips[(j / 16 * c->dim + d) * 16 + j % 16], &x, 1);
                assert_same("rows", &rows[j * STRIDE + d], &x, 1);
            }
    }
}

/* Rows that hold zeros, huge and tiny numbers, halves, NaN and infinities now and then */
static void cache_rows_are_the_encoders(void **state)
{
    (void)state;
    static const float odd[] = {0, -0.0f, 1e-40f, 1e-37f, 3e38f, INFINITY, -INFINITY, NAN, 0.5f, -1.5f, 65520, 1e-7f};
    struct rng r;
    rng_seed(&r, 54);
    for (int turn = 0; turn < 4000; turn++) {
        enum dtype type = cache_formats[turn % 4];
        const struct dtype_info *info = dtype_info(type);
        int64_t n = (int64_t)rng_below(&r, DIM) + 1;
        float x[128] = {0}, scale = odd[rng_below(&r, 4)];
        unsigned char want[512], got[512 + 1];
        fill_normal(&r, x, n);
        for (int64_t i = 0; i < n; i++) {
            x[i] *= turn % 8 < 4 ? 1 : scale;
            if (turn % 16 >= 12 && rng_below(&r, 20) == 0)
                x[i] = odd[rng_below(&r, sizeof odd / sizeof *odd)];
        }
        size_t bytes = cache_row_bytes(type, n);
        info->encode(x, want, ((size_t)n + info->block - 1) / info->block * info->block);
        for (int l = 0; l < levels.count; l++) {
            memset(got, 0xa5, sizeof got);
            levels.of[l].attn.cache[type].encode(got, x, n);
            assert_memory_equal(got, want, bytes);
            assert_int_equal(got[bytes], 0xa5);
        }
    }
}

static void caches_are_read_in_their_format(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 53);
    for (int turn = 0; turn < 400; turn++) {
        struct cache_case c;
        cache_case_new(&c, &r, turn);
        check_scores(&c);
        check_add(&c);
        check_unpacked(&c);
        free(c.rows);
        free(c.strips);
    }
}

int main(void)
{
    levels = levels_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(span_add_sees_its_span_only),
        cmocka_unit_test(softmax_back_is_the_formula),
        cmocka_unit_test(caches_are_read_in_their_format),
        cmocka_unit_test(cache_rows_are_the_encoders),
    };
    return cmocka_run_group_tests_name("attn", tests, NULL, NULL);
}
