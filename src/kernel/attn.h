/* The inner loops of attention that the plain products do not cover. Part of the kernel table; same promises. */
#ifndef CADRE_KERNEL_ATTN_H
#define CADRE_KERNEL_ATTN_H

#include <stdint.h>

#include "tensor/real.h"

struct span {
    int64_t lo, hi; /* lo … hi - 1; empty when hi <= lo */
};

struct attn_kernels {
    /* c[i, d] = fma(a[i, j], b[j, d], c[i, d]) for j in span[i], ascending, i < m, d < n. b is row-major, unpacked;
     * rows of b outside a row's span are not touched by that row, whatever they hold. */
    void (*span_add)(int64_t m, int64_t n, const struct span *span, const real *a, int64_t lda, const real *b,
                     int64_t ldb, real *c, int64_t ldc);
    /* One row of the softmax backwards: p = exp(p - max) · inverse_sum, ds = p (ds - delta) scale. */
    void (*softmax_back)(real *p, real *ds, int64_t n, real max, real inverse_sum, real delta, real scale);
};

#endif
