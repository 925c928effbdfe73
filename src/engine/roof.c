#include "engine/roof.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
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

enum { LINEAR_ROWS = 64, LINEAR_BYTES = 256 << 10, LINEAR_TURNS = 8 }; /* rows and strips fit a second-level cache */

/* Grouped, so that every thread has work: two experts a thread, all of them the same strips. */
struct linear_job {
    struct op_ctx c;
    struct weight w;
    struct packed *expert; /* [w.n_expert] */
    int64_t *offset;       /* [w.n_expert + 1] */
};

static double linear_turns(struct linear_job *j, struct arena *a)
{
    j->c.arena = a;
    int64_t rows = j->w.n_expert * LINEAR_ROWS;
    size_t all = arena_mark(a);
    struct tensor *x = op_new2(&j->c, rows, j->w.k);
    for (int64_t i = 0; !j->c.dry && i < rows * j->w.k; i++)
        x->x[i] = (real)(i % 61) / 61 - (real)0.5;
    size_t mark = arena_mark(a);
    double start = clock_now();
    for (int i = 0; i < LINEAR_TURNS; i++) {
        op_linear_grouped(&j->c, x, &j->w, j->offset, NULL);
        arena_reset(a, mark);
    }
    double seconds = clock_now() - start;
    arena_reset(a, all);
    return seconds;
}

static cadre_err linear_measure(struct linear_job *j, double *out, cadre_error *err)
{
    struct arena plan, measure, a;
    TRY(arena_init(&plan, OP_PLAN_BYTES, err)); /* the operators' structs */
    arena_init_measuring(&measure);
    j->c.dry = true;
    j->c.plan = &plan;
    linear_turns(j, &measure);
    arena_destroy(&plan);
    j->c.dry = false;
    j->c.plan = NULL;
    TRY(arena_init(&a, measure.peak, err));
    double flop = 2.0 * LINEAR_ROWS * (double)(j->w.n_expert * j->w.n * j->w.k) * LINEAR_TURNS;
    *out = 0;
    for (int i = 0; i < BEST_OF; i++)
        *out = fmax(*out, flop / linear_turns(j, &a));
    arena_destroy(&a);
    return CADRE_OK;
}

cadre_err roof_linear(const struct kernels *k, struct pool *pool, const struct packed *w, bool block_activations,
                      double *out, cadre_error *err)
{
    int64_t n_expert = 2 * pool_threads(pool);
    struct packed part = *w;
    part.n = min_i64(w->n, max_i64(1, LINEAR_BYTES / (int64_t)packed_strip_bytes(w->type, w->k)) * STRIP);
    struct linear_job j = {.c = {.k = k, .pool = pool, .block_activations = block_activations},
                           .w = {.n_expert = n_expert, .n = part.n, .k = part.k},
                           .expert = calloc((size_t)n_expert, sizeof *j.expert),
                           .offset = calloc((size_t)n_expert + 1, sizeof *j.offset)};
    cadre_err rc = j.expert && j.offset ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a measurement");
    for (int64_t e = 0; e < n_expert && rc == CADRE_OK; e++) {
        j.expert[e] = part;
        j.offset[e + 1] = (e + 1) * LINEAR_ROWS;
    }
    j.w.packed = j.expert;
    if (rc == CADRE_OK)
        rc = linear_measure(&j, out, err);
    free(j.expert);
    free(j.offset);
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
