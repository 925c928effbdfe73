/* The delta rule's inner loops over simd16.h; generic.c is the definition. Included by each level's file after
 * rows_simd.h. Four strips of columns at a time: a column is a chain of dependent additions, four hide their latency.
 */
#ifndef CADRE_KERNEL_DELTA_SIMD_H
#define CADRE_KERNEL_DELTA_SIMD_H

#include "kernel/delta.h"
#include "kernel/rows_simd.h"

/* n: columns of these strips; below 16 * strips only for the last, narrow one */
INLINE void delta_columns(int strips, int64_t n, int64_t dk, float *s, int64_t ld, float decay, float beta,
                          const float *k, const float *q, const float *v, float *o)
{
    v16 d[4], sum[4], fade = v_set1(decay);
    UNROLL for (int j = 0; j < strips; j++) d[j] = sum[j] = v_set1(0);
    for (int64_t i = 0; i < dk; i++) {
        v16 ki = v_set1(k[i]);
        UNROLL for (int j = 0; j < strips; j++)
        {
            v16 x = v_mul(v_get(s + i * ld + 16 * j, n - 16 * j), fade);
            v_put(s + i * ld + 16 * j, x, n - 16 * j);
            d[j] = v_fma(ki, x, d[j]);
        }
    }
    UNROLL for (int j = 0; j < strips; j++) d[j] = v_mul(v_set1(beta), v_sub(v_get(v + 16 * j, n - 16 * j), d[j]));
    for (int64_t i = 0; i < dk; i++) {
        v16 ki = v_set1(k[i]), qi = v_set1(q[i]);
        UNROLL for (int j = 0; j < strips; j++)
        {
            v16 x = v_fma(ki, d[j], v_get(s + i * ld + 16 * j, n - 16 * j));
            v_put(s + i * ld + 16 * j, x, n - 16 * j);
            sum[j] = v_fma(qi, x, sum[j]);
        }
    }
    UNROLL for (int j = 0; j < strips; j++) v_put(o + 16 * j, sum[j], n - 16 * j);
}

static void delta_step(int64_t dk, int64_t n, float *s, int64_t ld, float decay, float beta, const float *k,
                       const float *q, const float *v, float *o)
{
    int64_t c = 0;
    for (; n - c >= 64; c += 64)
        delta_columns(4, 64, dk, s + c, ld, decay, beta, k, q, v + c, o + c);
    for (; n - c >= 16; c += 16)
        delta_columns(1, 16, dk, s + c, ld, decay, beta, k, q, v + c, o + c);
    if (c < n)
        delta_columns(1, n - c, dk, s + c, ld, decay, beta, k, q, v + c, o + c);
}

#endif
