/* Every kernel of every level against the generic one, and the generic one against definitions in double. */
#include "levels.h"

static struct levels levels;

enum { MAX_M = 18, MAX_N = 66, MAX_K = 320, TURNS = 150 };

/* Everything is read and written one float off alignment, with a guard that must survive. */
struct buffers {
    float a[MAX_M * (MAX_K + 8) + 1], b[MAX_N * MAX_K + 1], c[MAX_M * (MAX_N + 4) + 1];
    float got[MAX_M * (MAX_N + 4) + 1], want[MAX_M * (MAX_N + 4) + 1];
    uint16_t ah[MAX_M * (MAX_K + 8)];
    _Alignas(64) unsigned char packed[(MAX_N + 16) * (MAX_K + 32) * 4], packed2[(MAX_N + 16) * (MAX_K + 32) * 4];
};
static struct buffers t;

struct shape {
    int64_t m, n, k, lda, ldc;
};

static struct shape random_shape(struct rng *r, int64_t k_step)
{
    struct shape s = {(int64_t)rng_below(r, MAX_M - 1) + 1, (int64_t)rng_below(r, 65) + 1,
                      (int64_t)rng_below(r, 300) + 1, 0, 0};
    s.k = (s.k + k_step - 1) / k_step * k_step;
    s.lda = s.k + (int64_t)rng_below(r, 3);
    s.ldc = s.n + (int64_t)rng_below(r, 3);
    return s;
}

typedef void product_fn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                        int64_t ldc, bool accumulate);

static void compare_product(struct rng *r, struct shape s, bool accumulate, product_fn *want, product_fn *got)
{
    fill_normal(r, t.a, MAX_M * (MAX_K + 8) + 1);
    fill_normal(r, t.c, MAX_M * (MAX_N + 4) + 1);
    if (rng_below(r, 2))
        add_specials(r, t.a, s.m * s.lda, 500);
    memcpy(t.want, t.c, sizeof t.c);
    memcpy(t.got, t.c, sizeof t.c);
    want(s.m, s.n, s.k, t.a + 1, s.lda, t.packed, t.want + 1, s.ldc, accumulate);
    got(s.m, s.n, s.k, t.a + 1, s.lda, t.packed, t.got + 1, s.ldc, accumulate);
    char text[128];
    snprintf(text, sizeof text, "product m %d n %d k %d", (int)s.m, (int)s.n, (int)s.k);
    assert_same(text, t.got, t.want, MAX_M * (MAX_N + 4) + 1);
}

static void pack_strips(const struct kernels *ks, struct shape s, bool bf16, bool n_major, void *dst)
{
    int64_t row = n_major ? 1 : s.k, col = n_major ? s.n : 1;
    for (int64_t n = 0; n < s.n; n += STRIP) {
        int64_t valid = s.n - n < STRIP ? s.n - n : STRIP;
        if (bf16)
            ks->pack_bf16((uint16_t *)dst + n * (s.k + s.k % 2), t.b + 1 + n * row, row, col, valid, s.k);
        else
            ks->pack_f32((float *)dst + n * s.k, t.b + 1 + n * row, row, col, valid, s.k);
    }
}

typedef void gemm_f32_fn(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const float *b, float *c,
                         int64_t ldc, bool accumulate);

static void f32_products_are_the_same_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (int l = 1; l < levels.count; l++)
        for (int turn = 0; turn < TURNS; turn++) {
            struct shape s = random_shape(&r, 1);
            fill_normal(&r, t.b, MAX_N * MAX_K + 1);
            if (turn % 2)
                add_specials(&r, t.b, s.n * s.k, 1000);
            pack_strips(&levels.of[0], s, false, turn % 3 == 0, t.packed);
            gemm_f32_fn *want = levels.of[0].gemm_f32, *got = levels.of[l].gemm_f32;
            fill_normal(&r, t.a, MAX_M * (MAX_K + 8) + 1);
            fill_normal(&r, t.c, MAX_M * (MAX_N + 4) + 1);
            memcpy(t.want, t.c, sizeof t.c);
            memcpy(t.got, t.c, sizeof t.c);
            want(s.m, s.n, s.k, t.a + 1, s.lda, (float *)t.packed, t.want + 1, s.ldc, turn & 1);
            got(s.m, s.n, s.k, t.a + 1, s.lda, (float *)t.packed, t.got + 1, s.ldc, turn & 1);
            assert_same("gemm_f32", t.got, t.want, MAX_M * (MAX_N + 4) + 1);
        }
}

static void products_of_compact_weights_are_the_same_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (int l = 1; l < levels.count; l++)
        for (int turn = 0; turn < TURNS; turn++) {
            const struct kernels *g = &levels.of[0], *k = &levels.of[l];
            struct shape s = random_shape(&r, 1);
            for (size_t i = 0; i < sizeof t.packed; i++)
                t.packed[i] = (unsigned char)rng_u64(&r); /* any bits are weights, NaN and infinity among them */
            compare_product(&r, s, turn & 1, g->gemm_w[DTYPE_F16], k->gemm_w[DTYPE_F16]);
            s = random_shape(&r, 1);
            compare_product(&r, s, turn & 1, g->gemm_w[DTYPE_BF16], k->gemm_w[DTYPE_BF16]);
        }
}

static void packing_is_the_same_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    for (int l = 1; l < levels.count; l++)
        for (int turn = 0; turn < TURNS; turn++) {
            const struct kernels *g = &levels.of[0], *k = &levels.of[l];
            struct shape s = random_shape(&r, 1);
            bool transposed = turn & 1;
            fill_normal(&r, t.b, MAX_N * MAX_K + 1);
            add_specials(&r, t.b, MAX_N * MAX_K, 100);
            if (k->bf16_native) /* reads denormals as zeros */
                for (int i = 0; i < MAX_N * MAX_K + 1; i++)
                    t.b[i] = fpclassify(t.b[i]) == FP_SUBNORMAL ? 0 : t.b[i];
            for (int bf16 = 0; bf16 < 2; bf16++) {
                memset(t.packed, 0xaa, sizeof t.packed);
                memset(t.packed2, 0xaa, sizeof t.packed);
                pack_strips(g, s, bf16, transposed, t.packed);
                pack_strips(k, s, bf16, transposed, t.packed2);
                assert_memory_equal(t.packed, t.packed2, sizeof t.packed);
            }
            int64_t row = transposed ? 1 : s.lda, col = transposed ? s.m + 1 : 1, even = s.k + s.k % 2;
            g->rows_f32((float *)t.packed + 1, s.k + 1, t.b + 1, row, col, s.m, s.k);
            k->rows_f32((float *)t.packed2 + 1, s.k + 1, t.b + 1, row, col, s.m, s.k);
            assert_memory_equal(t.packed, t.packed2, sizeof t.packed);
            g->rows_bf16((uint16_t *)t.packed + 1, even + 2, t.b + 1, row, col, s.m, s.k);
            k->rows_bf16((uint16_t *)t.packed2 + 1, even + 2, t.b + 1, row, col, s.m, s.k);
            assert_memory_equal(t.packed, t.packed2, sizeof t.packed);
        }
}

/* The generic packing against its description. */
static void packing_puts_numbers_where_the_header_says(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 4);
    fill_normal(&r, t.b, MAX_N * MAX_K + 1);
    const struct kernels *g = &levels.of[0];
    float strip[7 * STRIP];
    uint16_t half[8 * STRIP], rows[3 * 8];
    g->pack_f32(strip, t.b, 7, 1, 5, 7);
    g->pack_bf16(half, t.b, 7, 1, 5, 7);
    g->rows_bf16(rows, 8, t.b, 7, 1, 3, 7);
    for (int k = 0; k < 8; k++)
        for (int n = 0; n < STRIP; n++) {
            float want = n < 5 && k < 7 ? t.b[n * 7 + k] : 0;
            if (k < 7)
                assert_true(strip[k * STRIP + n] == want);
            assert_int_equal(half[(k / 2 * STRIP + n) * 2 + k % 2], f32_to_bf16(want));
            if (n < 3)
                assert_int_equal(rows[n * 8 + k], f32_to_bf16(want));
        }
}

/* A sum of k products of numbers rounded to bf16, added in any order in f32 with hardware that may also flush
 * denormals, is off by at most (k + 2) 2^-23 Σ|a b|. The operands themselves are exact bf16 here. */
static void bf16_products_agree_within_rounding(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    for (int l = 0; l < levels.count; l++)
        for (int turn = 0; turn < TURNS; turn++) {
            struct shape s = random_shape(&r, 1);
            int64_t even = s.k + s.k % 2, lda = even + 2 * (turn % 2);
            bool accumulate = turn & 1;
            fill_normal(&r, t.a, MAX_M * (MAX_K + 8) + 1);
            fill_normal(&r, t.b, MAX_N * MAX_K + 1);
            fill_normal(&r, t.c, MAX_M * (MAX_N + 4) + 1);
            levels.of[l].rows_bf16(t.ah, lda, t.a, s.k, 1, s.m, s.k);
            pack_strips(&levels.of[l], s, true, false, t.packed);
            memcpy(t.got, t.c, sizeof t.c);
            levels.of[l].gemm_bf16(s.m, s.n, s.k, t.ah, lda, (uint16_t *)t.packed, t.got + 1, s.ldc, accumulate);
            for (int64_t i = 0; i < s.m; i++)
                for (int64_t j = 0; j < s.n; j++) {
                    double want = accumulate ? (double)t.c[1 + i * s.ldc + j] : 0, size = fabs(want);
                    for (int64_t k = 0; k < s.k; k++) {
                        double x = (double)bf16_to_f32(f32_to_bf16(t.a[i * s.k + k])) *
                                   (double)bf16_to_f32(f32_to_bf16(t.b[1 + j * s.k + k]));
                        want += x;
                        size += fabs(x);
                    }
                    double bound = (double)(s.k + 2) * 0x1p-23 * size;
                    if (!(fabs((double)t.got[1 + i * s.ldc + j] - want) <= bound))
                        fail_msg("gemm_bf16 %s m %d n %d k %d: expected %g, found %g", isa_name((enum isa)l), (int)s.m,
                                 (int)s.n, (int)s.k, want, (double)t.got[1 + i * s.ldc + j]);
                }
            for (int64_t i = 0; i < s.m; i++) /* columns beyond n stay as they were */
                for (int64_t j = s.n; j < s.ldc; j++)
                    assert_true(t.got[1 + i * s.ldc + j] == t.c[1 + i * s.ldc + j]);
        }
}

static void bf16_products_carry_nan_and_infinity(void **state)
{
    (void)state;
    for (int l = 0; l < levels.count; l++) {
        const struct kernels *k = &levels.of[l];
        float b[STRIP * 5], c[STRIP], a[5] = {1, 2, 3, 4, 5};
        uint16_t ah[6], strip[6 * STRIP];
        for (int i = 0; i < STRIP * 5; i++)
            b[i] = 1;
        b[3 * 5 + 4] = NAN;
        b[7 * 5 + 1] = INFINITY;
        b[9 * 5 + 0] = -INFINITY;
        k->rows_bf16(ah, 6, a, 5, 1, 1, 5);
        k->pack_bf16(strip, b, 5, 1, STRIP, 5);
        k->gemm_bf16(1, STRIP, 5, ah, 6, strip, c, STRIP, false);
        for (int n = 0; n < STRIP; n++)
            assert_true(n == 3 ? isnan(c[n]) : n == 7 ? c[n] == INFINITY : n == 9 ? c[n] == -INFINITY : c[n] == 15);
    }
}

/* A row gives the same bytes alone and among others: every kernel, every level. */
static void rows_do_not_depend_on_their_neighbours(void **state)
{
    (void)state;
    enum { M = 512, N = 40, K = 96 };
    static float a[M * K], alone[N], together[M * N];
    static uint16_t ah[M * K];
    struct rng r;
    rng_seed(&r, 6);
    fill_normal(&r, a, M * K);
    for (size_t i = 0; i < sizeof t.packed; i++)
        t.packed[i] = (unsigned char)rng_below(&r, 0x3c); /* small positive weights in each format */
    for (int l = 0; l < levels.count; l++) {
        const struct kernels *k = &levels.of[l];
        k->rows_bf16(ah, K, a, K, 1, M, K);
        int counts[] = {7, 64, 512};
        for (int form = 0; form < 4; form++)
            for (int c = 0; c < 3; c++) {
                int m = counts[c];
#define RUN(rows, from, out)                                                                                           \
    (form == 0   ? k->gemm_f32(rows, N, K, a + (from)*K, K, (float *)t.packed, out, N, false)                          \
     : form == 1 ? k->gemm_bf16(rows, N, K, ah + (from)*K, K, (uint16_t *)t.packed, out, N, false)                     \
     : form == 2 ? k->gemm_w[DTYPE_F16](rows, N, K, a + (from)*K, K, t.packed, out, N, false)                          \
                 : k->gemm_w[DTYPE_BF16](rows, N, K, a + (from)*K, K, t.packed, out, N, false))
                RUN(m, 0, together);
                for (int i = 0; i<m; i += m> 64 ? 37 : 1) {
                    RUN(1, i, alone);
                    assert_memory_equal(alone, together + i * N, sizeof alone);
                }
            }
    }
}

enum { ROW = 700 };

static void row_kernels_are_the_same_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 7);
    static float x[ROW + 1], y[ROW + 1], z[ROW + 1], w[2][ROW + 1], m[2][ROW + 1], v[2][ROW + 1];
    for (int l = 1; l < levels.count; l++)
        for (int turn = 0; turn < 400; turn++) {
            const struct kernels *k[2] = {&levels.of[0], &levels.of[l]};
            int64_t n = turn < 80 ? turn + 1 : (int64_t)rng_below(&r, ROW - 1) + 1;
            fill_normal(&r, x, ROW + 1);
            fill_normal(&r, y, ROW + 1);
            fill_normal(&r, z, ROW + 1);
            for (int i = 0; turn % 3 == 1 && i <= ROW; i++)
                x[i] *= 40;
            if (turn % 4 == 0) {
                add_specials(&r, x, ROW + 1, 20);
                add_specials(&r, y, ROW + 1, 20);
            }
            float s[2];
#define BOTH(name, expr)                                                                                               \
    for (int i = 0; i < 2; i++) {                                                                                      \
        memcpy(w[i], z, sizeof z);                                                                                     \
        memcpy(m[i], y, sizeof y);                                                                                     \
        expr;                                                                                                          \
    }                                                                                                                  \
    assert_same(name, w[1], w[0], ROW + 1);                                                                            \
    assert_same(name, m[1], m[0], ROW + 1)
#define VALUE(name, expr)                                                                                              \
    for (int i = 0; i < 2; i++)                                                                                        \
        s[i] = expr;                                                                                                   \
    assert_same(name, &s[1], &s[0], 1)
            VALUE("sum", k[i]->sum(x + 1, n));
            VALUE("dot", k[i]->dot(x + 1, y + 1, n));
            VALUE("max", k[i]->max(x + 1, n));
            BOTH("axpy", k[i]->axpy(w[i] + 1, 1.7f, x + 1, n));
            BOTH("exp", k[i]->exp(w[i] + 1, x + 1, n));
            BOTH("exp_sum", s[i] = k[i]->exp_sum(w[i] + 1, x + 1, y[0], n));
            assert_same("exp_sum", &s[1], &s[0], 1);
            BOTH("sigmoid", k[i]->sigmoid(w[i] + 1, x + 1, n));
            BOTH("tanh", k[i]->tanh(w[i] + 1, x + 1, n));
            BOTH("tanh in place", k[i]->tanh(w[i] + 1, w[i] + 1, n));
            BOTH("swiglu", k[i]->swiglu(w[i] + 1, x + 1, y + 1, n));
            BOTH("swiglu_back", k[i]->swiglu_back(w[i] + 1, m[i] + 1, y + 1, x + 1, z + 1, n));
            for (int i = 0; i <= ROW; i++)
                z[i] = fabsf(z[i]);
            for (int i = 0; i < 2; i++)
                memcpy(v[i], z, sizeof z);
            BOTH("adamw", k[i]->adamw(w[i] + 1, m[i] + 1, v[i] + 1, x + 1, n, 0.3f, 1e-3f, 0.9f, 0.99f, 1e-8f, 0.1f,
                                      0.2f, 0.05f));
            assert_same("adamw v", v[1], v[0], ROW + 1);
        }
}

/* Error in units of the last place of the true value, taken at least as large as the smallest normal. */
static double ulps(float got, long double want)
{
    int e;
    frexpl(want, &e);
    if (e < -125)
        e = -125;
    return (double)(fabsl((long double)got - want) / ldexpl(1, e - 24));
}

static void exp_and_relatives_are_accurate(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    const struct kernels *k = &levels.of[levels.count - 1];
    float *x = malloc(N * sizeof *x), *y = malloc(N * sizeof *y);
    for (int i = 0; i < N; i++)
        x[i] = -87.3f + 176.0f * (float)i / N;
    double worst[3] = {0};
    k->exp(y, x, N);
    for (int i = 0; i < N; i++)
        worst[0] = fmax(worst[0], ulps(y[i], expl((long double)x[i])));
    k->sigmoid(y, x, N);
    for (int i = 0; i < N; i++)
        worst[1] = fmax(worst[1], ulps(y[i], 1 / (1 + expl(-(long double)x[i]))));
    for (int i = 0; i < N; i++)
        x[i] = ldexpf(1 + (float)(i % 4096) / 4096, i / 4096 * 40 / 256 - 35) * (i & 1 ? 1.0f : -1.0f);
    k->tanh(y, x, N);
    for (int i = 0; i < N; i++)
        worst[2] = fmax(worst[2], ulps(y[i], tanhl((long double)x[i])));
    free(x);
    free(y);
    print_message("worst error in ulp: exp %.3f, sigmoid %.3f, tanh %.3f\n", worst[0], worst[1], worst[2]);
    assert_true(worst[0] < 1.0 && worst[1] < 2.5 && worst[2] < 2.0);
}

static void exp_and_relatives_at_the_edges(void **state)
{
    (void)state;
    for (int l = 0; l < levels.count; l++) {
        const struct kernels *k = &levels.of[l];
        float x[] = {INFINITY, -INFINITY, NAN, 89, -88, 0, -0.0f, 88.72283f, -87.33654f};
        float y[9];
        k->exp(y, x, 9);
        assert_true(y[0] == INFINITY && y[1] == 0 && isnan(y[2]) && y[3] == INFINITY && y[4] == 0 && y[5] == 1 &&
                    y[6] == 1);
        assert_true(isfinite(y[7]) && y[7] > 3.4e38f && isnormal(y[8]));
        k->sigmoid(y, x, 9);
        assert_true(y[0] == 1 && y[1] == 0 && isnan(y[2]) && y[5] == 0.5f);
        k->tanh(y, x, 9);
        assert_true(y[0] == 1 && y[1] == -1 && isnan(y[2]) && y[5] == 0 && !signbit(y[5]) && signbit(y[6]));
    }
}

static void sums_follow_their_definition(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 8);
    float x[100], y[100], e[100];
    for (int l = 0; l < levels.count; l++) {
        const struct kernels *k = &levels.of[l];
        for (int n = 1; n <= 100; n++) {
            fill_normal(&r, x, 100);
            fill_normal(&r, y, 100);
            double sum = 0, dot = 0, size = 0, largest = (double)x[0], exps = 0;
            for (int i = 0; i < n; i++) {
                sum += (double)x[i];
                dot += (double)x[i] * (double)y[i];
                size += fabs((double)x[i]) + fabs((double)x[i] * (double)y[i]);
                largest = fmax(largest, (double)x[i]);
                exps += exp((double)x[i] - 1);
            }
            assert_true(fabs((double)k->sum(x, n) - sum) <= 11 * 0x1p-24 * size);
            assert_true(fabs((double)k->dot(x, y, n) - dot) <= 11 * 0x1p-24 * size);
            assert_true((double)k->max(x, n) == largest);
            assert_true(fabs((double)k->exp_sum(e, x, 1.0f, n) - exps) <= 1e-5 * exps);
            x[n / 2] = NAN;
            assert_true(isnan(k->sum(x, n)) && isnan(k->dot(x, y, n)) && isnan(k->exp_sum(e, x, 0, n)));
        }
    }
}

static void swiglu_gradients_are_differences(void **state)
{
    (void)state;
    const struct kernels *k = &levels.of[levels.count - 1];
    float gate[33], up[33], dy[33], dg[33] = {0}, du[33] = {0};
    struct rng r;
    rng_seed(&r, 9);
    fill_normal(&r, gate, 33);
    fill_normal(&r, up, 33);
    fill_normal(&r, dy, 33);
    k->swiglu_back(dg, du, dy, gate, up, 33);
    for (int i = 0; i < 33; i++) {
        double g = (double)gate[i], h = 1e-5, d = (double)dy[i];
        double silu[3];
        for (int j = 0; j < 3; j++)
            silu[j] = (g + (j - 1) * h) / (1 + exp(-(g + (j - 1) * h)));
        assert_true(fabs((double)dg[i] - d * (double)up[i] * (silu[2] - silu[0]) / (2 * h)) < 1e-5);
        assert_true(fabs((double)du[i] - d * silu[1]) < 1e-5);
    }
}

static void adamw_follows_its_formula(void **state)
{
    (void)state;
    enum { N = 37 };
    const struct kernels *k = &levels.of[levels.count - 1];
    float w[N], m[N] = {0}, v[N] = {0}, g[N];
    double W[N], M[N] = {0}, V[N] = {0};
    struct rng r;
    rng_seed(&r, 10);
    fill_normal(&r, w, N);
    for (int i = 0; i < N; i++)
        W[i] = (double)w[i];
    for (int step = 1; step <= 50; step++) {
        double c1 = 1 - pow(0.9, step), c2 = 1 - pow(0.95, step);
        fill_normal(&r, g, N);
        k->adamw(w, m, v, g, N, 0.5f, 0.01f, 0.9f, 0.95f, 1e-8f, 0.1f, (float)c1, (float)c2);
        for (int i = 0; i < N; i++) {
            double gi = (double)g[i] * 0.5;
            M[i] = 0.9 * M[i] + 0.1 * gi;
            V[i] = 0.95 * V[i] + 0.05 * gi * gi;
            W[i] -= 0.01 * (M[i] / c1 / (sqrt(V[i] / c2) + 1e-8) + 0.1 * W[i]);
        }
    }
    for (int i = 0; i < N; i++)
        assert_true(fabs((double)w[i] - W[i]) < 2e-5);
}

static void levels_fill_every_pointer(void **state)
{
    (void)state;
    for (int l = 0; l < levels.count; l++) {
        const struct kernels *k = &levels.of[l];
        assert_int_equal(k->isa, l);
        for (enum dtype type = 0; type < DTYPE_COUNT; type++) /* one layout for all levels */
            assert_true(!k->gemm_w[type] == !levels.of[0].gemm_w[type] &&
                        !k->gemm_grid[type] == !(block_layout(type) && !block_layout(type)->element) &&
                        !k->unpack[type] == !block_layout(type));
        for (size_t at = offsetof(struct kernels, to_grid); at < sizeof *k; at += sizeof(void *)) {
            void *p;
            memcpy(&p, (const char *)k + at, sizeof p);
            assert_non_null(p);
        }
    }
}

int main(void)
{
    levels = levels_all();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_fill_every_pointer),
        cmocka_unit_test(packing_puts_numbers_where_the_header_says),
        cmocka_unit_test(packing_is_the_same_bytes),
        cmocka_unit_test(f32_products_are_the_same_bytes),
        cmocka_unit_test(products_of_compact_weights_are_the_same_bytes),
        cmocka_unit_test(bf16_products_agree_within_rounding),
        cmocka_unit_test(bf16_products_carry_nan_and_infinity),
        cmocka_unit_test(rows_do_not_depend_on_their_neighbours),
        cmocka_unit_test(row_kernels_are_the_same_bytes),
        cmocka_unit_test(exp_and_relatives_are_accurate),
        cmocka_unit_test(exp_and_relatives_at_the_edges),
        cmocka_unit_test(sums_follow_their_definition),
        cmocka_unit_test(swiglu_gradients_are_differences),
        cmocka_unit_test(adamw_follows_its_formula),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
