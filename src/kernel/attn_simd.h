/* Attention's inner loops over simd16.h; generic.c is the definition. Included by each level's file after rows_simd.h.
 * Tiles as in gemm_simd.h: sums stay in registers while j ascends, alone where only one row sees j, together else. */
#ifndef CADRE_KERNEL_ATTN_SIMD_H
#define CADRE_KERNEL_ATTN_SIMD_H

#include "kernel/attn.h"
#include "kernel/gemm_simd.h"
#include "kernel/rows_simd.h"

/* One j for rows from … to - 1 of a tile */
INLINE void span_step(int from, int to, int strips, int64_t n, v16 acc[][MAX_STRIPS], const float *a, int64_t lda,
                      const float *b)
{
    v16 w[MAX_STRIPS];
    UNROLL for (int s = 0; s < strips; s++) w[s] = v_get(b + s * STRIP, n - s * STRIP);
    UNROLL for (int r = from; r < to; r++)
    {
        v16 x = v_set1(a[r * lda]);
        UNROLL for (int s = 0; s < strips; s++) acc[r][s] = v_fma(x, w[s], acc[r][s]);
    }
}

INLINE void span_tile(int rows, int strips, int64_t n, const struct span *span, const float *a, int64_t lda,
                      const float *b, int64_t ldb, float *c, int64_t ldc)
{
    v16 acc[TILE_ROWS][MAX_STRIPS];
    sums_load(rows, strips, MAX_STRIPS, acc[0], c, ldc, n, true);
    int64_t lo = span[0].lo, hi = span[0].hi; /* what all rows see */
    for (int r = 1; r < rows; r++) {
        lo = span[r].lo > lo ? span[r].lo : lo;
        hi = span[r].hi < hi ? span[r].hi : hi;
    }
    hi = hi > lo ? hi : lo;
    UNROLL for (int r = 0; r < rows; r++) for (int64_t j = span[r].lo; j < lo && j < span[r].hi; j++)
        span_step(r, r + 1, strips, n, acc, a + j, lda, b + j * ldb);
    for (int64_t j = lo; j < hi; j++)
        span_step(0, rows, strips, n, acc, a + j, lda, b + j * ldb);
    UNROLL for (int r = 0; r < rows; r++) for (int64_t j = hi; j < span[r].hi; j++)
        span_step(r, r + 1, strips, n, acc, a + j, lda, b + j * ldb);
    sums_store(rows, strips, MAX_STRIPS, acc[0], c, ldc, n);
}

/* All rows of one group of strips; n is a constant but for the last, narrow one. */
INLINE void span_column(int strips, int64_t n, int64_t m, const struct span *span, const float *a, int64_t lda,
                        const float *b, int64_t ldb, float *c, int64_t ldc)
{
#define TAKE(rows)                                                                                                     \
    for (; m >= rows; m -= rows, span += rows, a += rows * lda, c += rows * ldc)                                       \
    span_tile(rows, strips, n, span, a, lda, b, ldb, c, ldc)
    TAKE(TILE_ROWS);
    TAKE(4);
    TAKE(2);
    TAKE(1);
#undef TAKE
}

static void span_add(int64_t m, int64_t n, const struct span *span, const float *a, int64_t lda, const float *b,
                     int64_t ldb, float *c, int64_t ldc)
{
    enum { WIDE = MAX_STRIPS * STRIP };
    int64_t d = 0;
    for (; n - d >= WIDE; d += WIDE)
        span_column(MAX_STRIPS, WIDE, m, span, a, lda, b + d, ldb, c + d, ldc);
    for (; n - d >= STRIP; d += STRIP)
        span_column(1, STRIP, m, span, a, lda, b + d, ldb, c + d, ldc);
    if (d < n)
        span_column(1, n - d, m, span, a, lda, b + d, ldb, c + d, ldc);
}

static void softmax_back(float *p, float *ds, int64_t n, float max, float inverse_sum, float delta, float scale)
{
    FOR16(j, left, n)
    {
        v16 w = v_mul(v_exp(v_sub(v_get(p + j, left), v_set1(max))), v_set1(inverse_sum));
        v16 g = v_mul(v_mul(w, v_sub(v_get(ds + j, left), v_set1(delta))), v_set1(scale));
        v_put(p + j, w, left);
        v_put(ds + j, g, left);
    }
}

#endif
