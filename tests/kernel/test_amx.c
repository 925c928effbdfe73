/* The AMX kernel over a model of its instructions: data movement, tails and tile shapes, on any machine. */
#include "levels.h"

/* The level itself may be linked in too, so the modelled one has another name. */
void kernels_init_amx_model(struct kernels *k);
#define CADRE_AMX_MODEL
#define kernels_init_amx kernels_init_amx_model
#include "kernel/k_amx.c"
#undef kernels_init_amx

enum { MAX_M = 80, MAX_N = 70, MAX_K = 1100 };

static struct kernels generic, model;
static float a[MAX_M * MAX_K], b[MAX_N * MAX_K], c[MAX_M * MAX_N], got[MAX_M * MAX_N], want[MAX_M * MAX_N];
static uint16_t rows[MAX_M * (MAX_K + 4)], strips[(MAX_N + 16) * MAX_K];

/* What one output must be: steps of 32 k, in each the chain over even k plus the chain over odd k. */
static float expected(const float *x, const float *y, int64_t k, float sum)
{
    for (int64_t k0 = 0; k0 < k; k0 += 32) {
        float chain[2] = {0, 0};
        for (int64_t i = k0; i < k0 + 32 && i < k; i++)
            chain[i % 2] = fmaf(bf16_to_f32(f32_to_bf16(x[i])), bf16_to_f32(f32_to_bf16(y[i])), chain[i % 2]);
        sum += chain[0] + chain[1];
    }
    return sum;
}

static void multiply_both(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldc, bool accumulate)
{
    generic.rows_bf16(rows, lda, a, k, 1, m, k);
    for (int64_t j = 0; j < n; j += STRIP)
        generic.pack_bf16(strips + j * (k + k % 2), b + j * k, k, 1, n - j < STRIP ? n - j : STRIP, k);
    memcpy(got, c, sizeof c);
    memcpy(want, c, sizeof c);
    model.gemm_bf16(m, n, k, rows, lda, strips, got, ldc, accumulate);
    assert_false(amx.configured); /* tiles were released */
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++)
            want[i * ldc + j] = expected(a + i * k, b + j * k, k, accumulate ? c[i * ldc + j] : 0);
    assert_same("gemm_bf16 on tiles", got, want, MAX_M * MAX_N);
}

static void products_are_the_chains_of_the_instruction(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (int turn = 0; turn < 120; turn++) {
        fill_normal(&r, a, MAX_M * MAX_K);
        fill_normal(&r, b, MAX_N * MAX_K);
        fill_normal(&r, c, MAX_M * MAX_N);
        int64_t m = turn < 40 ? turn + 1 : (int64_t)rng_below(&r, MAX_M - 1) + 1, n = (int64_t)rng_below(&r, 65) + 1;
        int64_t k = turn % 10 == 0 ? 1000 + (int64_t)rng_below(&r, 99) : (int64_t)rng_below(&r, 140) + 1;
        multiply_both(m, n, k, k + k % 2 + 2 * (turn % 2), n + (int64_t)rng_below(&r, 3), turn % 3 == 0);
    }
    multiply_both(64, 64, 64, 64, 64, true);
}

static void a_row_does_not_depend_on_its_batch(void **state)
{
    (void)state;
    enum { M = 77, N = 48, K = 600 };
    struct rng r;
    rng_seed(&r, 2);
    fill_normal(&r, a, M * K);
    fill_normal(&r, b, N * K);
    multiply_both(M, N, K, K, N, false);
    for (int i = 0; i < M; i++) {
        model.gemm_bf16(1, N, K, rows + i * K, K, strips, want, N, false);
        assert_memory_equal(want, got + i * N, N * sizeof(float));
    }
}

/* Against the definition: both add the same k products, in another order. */
static void results_agree_with_generic(void **state)
{
    (void)state;
    enum { M = 33, N = 33, K = 301 };
    struct rng r;
    rng_seed(&r, 3);
    fill_normal(&r, a, M * K);
    fill_normal(&r, b, N * K);
    multiply_both(M, N, K, K + 1, N, false);
    generic.gemm_bf16(M, N, K, rows, K + 1, strips, want, N, false);
    for (int i = 0; i < M * N; i++) {
        double size = 0;
        for (int k = 0; k < K; k++)
            size += fabs((double)a[i / N * K + k] * (double)b[i % N * K + k]);
        assert_true(fabs((double)got[i] - (double)want[i]) <= 2 * (K + 2) * 0x1p-23 * size);
    }
}

int main(void)
{
    kernels_init_generic(&generic);
    model = generic;
    kernels_init_amx_model(&model);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_the_chains_of_the_instruction),
        cmocka_unit_test(a_row_does_not_depend_on_its_batch),
        cmocka_unit_test(results_agree_with_generic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
