#include "engine/roof.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"

enum { TILE_M = 24, TILE_N = 64, TILE_K = 128, TILE_TURNS = 100, BEST_OF = 20 };
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

/* Rows and strips of a product fit a second-level cache together. */
enum { LINEAR_ROWS = 128, LINEAR_BYTES = 128 << 10, LINEAR_TURNS = 8 };

/* Products of one matrix, several, so that every thread has work; all have the same rows of x. */
struct linear_job {
    const struct kernels *k;
    struct pool *pool;
    struct packed w;
    struct grid_rows grid;
    struct gemm *list;
    int64_t count;
};

static void linear_list(struct linear_job *j, struct arena *a, enum act act)
{
    int64_t n = LINEAR_ROWS * j->w.k;
    real *x = arena_alloc(a, (size_t)n * sizeof *x);
    for (int64_t i = 0; !a->measuring && i < n; i++)
        x[i] = (real)(i % 61) / 61 - (real)0.5;
    struct gemm g = {.m = LINEAR_ROWS,
                     .n = j->w.n,
                     .k = j->w.k,
                     .a = x,
                     .a_row = j->w.k,
                     .a_col = 1,
                     .packed = &j->w,
                     .c_row = j->w.n};
#ifndef CADRE_F64
    if (act != ACT_F32 && j->k->gemm_grid[j->w.type]) {
        j->grid = grid_rows_in(arena_alloc(a, grid_rows_bytes(act, n)), act, n, j->w.k);
        g.grid = &j->grid;
        if (!a->measuring)
            j->k->to_grid(x, n, j->grid);
    }
#else
    (void)act;
#endif
    for (int64_t i = 0; i < j->count; i++) {
        g.c = arena_alloc(a, (size_t)(LINEAR_ROWS * j->w.n) * sizeof *g.c);
        j->list[i] = g;
    }
}

static double linear_turns(struct linear_job *j, struct arena *a)
{
    double start = clock_now();
    for (int i = 0; i < LINEAR_TURNS; i++)
        gemm_run(j->k, j->pool, a, GEMM_F32, j->list, j->count);
    return clock_now() - start;
}

static cadre_err linear_measure(struct linear_job *j, enum act act, double *out, cadre_error *err)
{
    struct arena a;
    arena_init_measuring(&a);
    linear_list(j, &a, act);
    gemm_run(j->k, j->pool, &a, GEMM_F32, j->list, j->count);
    TRY(arena_init(&a, a.peak, err));
    linear_list(j, &a, act);
    double flop = 2.0 * LINEAR_ROWS * (double)(j->count * j->w.n * j->w.k) * LINEAR_TURNS;
    *out = 0;
    for (int i = 0; i < BEST_OF; i++)
        *out = fmax(*out, flop / linear_turns(j, &a));
    arena_destroy(&a);
    return CADRE_OK;
}

cadre_err roof_linear(const struct kernels *k, struct pool *pool, const struct packed *w, enum act act, double *out,
                      cadre_error *err)
{
    struct linear_job j = {.k = k, .pool = pool, .w = *w, .count = 2 * pool_threads(pool)};
    j.w.n = min_i64(w->n, max_i64(1, LINEAR_BYTES / (int64_t)packed_strip_bytes(w->type, w->k)) * STRIP);
    j.list = calloc((size_t)j.count, sizeof *j.list);
    cadre_err rc = j.list ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a measurement");
    if (rc == CADRE_OK)
        rc = linear_measure(&j, act, out, err);
    free(j.list);
    return rc;
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
