#include "engine/roof.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

enum { TILE_M = 24, TILE_N = 64, TILE_K = 128, TILE_TURNS = 200, BEST_OF = 5 };
enum { TILE_REALS = TILE_M * TILE_K + TILE_N * TILE_K + TILE_M * TILE_N }; /* of bf16 operands half is used */

struct flop_job {
    const struct kernels *k;
    enum gemm_precision precision;
    real *memory;
};

static void flop_item(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct flop_job *j = arg;
    real *a = j->memory + item * TILE_REALS, *b = a + TILE_M * TILE_K, *c = b + TILE_N * TILE_K;
    for (int i = 0; i < TILE_TURNS; i++)
        if (j->precision == GEMM_BF16)
            j->k->gemm_bf16(TILE_M, TILE_N, TILE_K, (const uint16_t *)a, TILE_K, (const uint16_t *)b, c, TILE_N, false);
        else
            j->k->gemm_f32(TILE_M, TILE_N, TILE_K, a, TILE_K, b, c, TILE_N, false);
}

cadre_err roof_products(const struct kernels *k, struct pool *pool, enum gemm_precision precision, double *out,
                        cadre_error *err)
{
    struct arena a;
    int n = 4 * pool_threads(pool);
    size_t bytes = (size_t)n * TILE_REALS * sizeof(real);
    TRY(arena_init(&a, bytes + (1 << 20), err));
    struct flop_job j = {k, precision, arena_alloc(&a, bytes)};
    double flop = 2.0 * TILE_M * TILE_N * TILE_K * TILE_TURNS * n;
    *out = 0;
    memset(j.memory, 0, bytes);
    for (int i = 0; i < BEST_OF; i++) {
        double start = clock_now();
        pool_run(pool, n, flop_item, &j);
        *out = fmax(*out, flop / (clock_now() - start));
    }
    arena_destroy(&a);
    return CADRE_OK;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

cadre_spread spread_of(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_number);
    return (cadre_spread){n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2, x[0], x[n - 1]};
}
