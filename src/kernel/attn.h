/* The inner loops of attention that the plain products do not cover. Part of the kernel table; same promises.
 *
 * Over a cache they work on keys and values as it keeps them: in one of the formats below, a head's numbers of a piece
 * of consecutive positions together.
 *   keys    strips of 16 positions, interleaved so that a product has one position in each lane:
 *           f32 real [dim][16];  f16, bf16 uint16_t [dim][16];  q8_0 per 32 of dim, filled up with zeros to whole
 *           blocks: uint16_t scale[16] (f16), int8_t q[32][16]
 *   values  a row for each position in the format's own layout, filled up with zeros to whole blocks
 * Numbers become floats exactly as the format's decoder makes them. The last vector of a row may be read past its end:
 * up to CACHE_SLACK bytes behind the last row must be there. */
#ifndef CADRE_KERNEL_ATTN_H
#define CADRE_KERNEL_ATTN_H

#include <stddef.h>
#include <stdint.h>

#include "tensor/dtype.h"
#include "tensor/real.h"

enum {
    CACHE_FORMATS = DTYPE_Q8_0 + 1, /* F32, F16, BF16, Q8_0 */
    CACHE_STRIP = 16,               /* positions */
    CACHE_SLACK = 64                /* bytes */
};

struct span {
    int64_t lo, hi; /* lo … hi - 1; empty when hi <= lo */
};

/* What dim numbers of one position take: a row of values, a sixteenth of a strip of keys. */
static inline size_t cache_row_bytes(enum dtype type, int64_t dim)
{
    const struct dtype_info *info = dtype_info(type);
    return type == DTYPE_F32 ? (size_t)dim * sizeof(real) : ((size_t)dim + info->block - 1) / info->block * info->bytes;
}

struct cache_kernels {
    /* score[i, j] = Σ_d q[i, d] key_j[d] for i < m, j < n_keys and maybe to the end of their strip: one fma chain over
     * ascending d each, as gemm_f32's. For few rows, all of which read the format. While it works the same parts of
     * `next`, the keys that come then, are fetched; NULL: nothing. */
    void (*scores)(int64_t m, int64_t n_keys, int64_t dim, const real *q, int64_t ldq, const void *keys,
                   const void *next, real *score, int64_t ld);
    /* span_add with rows of n numbers of the format. */
    void (*add)(int64_t m, int64_t n, const struct span *span, const real *p, int64_t ldp, const void *values,
                const void *next, real *o, int64_t ldo);
    /* Strips of n_keys as strips of f32. */
    void (*unpack)(real *dst, const void *keys, int64_t n_keys, int64_t dim);
    /* Rows of n numbers as rows of f32, ld apart: n rounded up to whole vectors of 16, or more. */
    void (*rows)(real *dst, int64_t ld, const void *values, int64_t n_rows, int64_t n);
    /* One row of n numbers, filled up with zeros: the bytes of the format's encoder. */
    void (*encode)(void *dst, const real *x, int64_t n);
};

struct attn_kernels {
    /* c[i, d] = fma(a[i, j], b[j, d], c[i, d]) for j in span[i], ascending, i < m, d < n. b is row-major, unpacked;
     * rows of b outside a row's span are not touched by that row, whatever they hold. */
    void (*span_add)(int64_t m, int64_t n, const struct span *span, const real *a, int64_t lda, const real *b,
                     int64_t ldb, real *c, int64_t ldc);
    /* One row of the softmax backwards: p = exp(p - max) · inverse_sum, ds = p (ds - delta) scale. */
    void (*softmax_back)(real *p, real *ds, int64_t n, real max, real inverse_sum, real delta, real scale);
    struct cache_kernels cache[CACHE_FORMATS];
};

void cache_kernels_generic(struct cache_kernels *of); /* cache.c: [CACHE_FORMATS] */

#endif
