/* Matrix products over the kernel table: packing, blocking and threads. A call takes a list of products, so that one
 * call serves a dense layer (a list of one) and all experts of a layer (one product an expert, rows grouped by
 * expert); work items are bounded by shape alone and taken by whichever thread is free.
 *
 *     C[m, n] (+)= Σ_k A(m, k) · B(n, k)         A(m, k) = a[m * a_row + k * a_col], B likewise
 *
 * The three products of a linear layer y[M, N] = x[M, K] W[N, K]ᵀ:
 *     y   : A = x            B = W              dx : A = dy,  B = Wᵀ (b_row = 1, b_col = K), k runs over N
 *     dW  : A = dyᵀ          B = xᵀ             k runs over the M rows, accumulated into the gradient
 */
#ifndef CADRE_KERNEL_GEMM_H
#define CADRE_KERNEL_GEMM_H

#include "base/arena.h"
#include "base/pool.h"
#include "kernel/packed.h"

struct gemm {
    int64_t m, n, k; /* m = 0 or k = 0 is allowed: nothing is added */
    const real *a;
    int64_t a_row, a_col; /* one of them is 1 */
    const real *b;        /* ignored when packed is given */
    int64_t b_row, b_col;
    const struct packed *packed;
    /* Block formats only: A from these rows instead, from row grid_row and number grid_col on; accumulate is false. */
    const struct grid_rows *grid;
    int64_t grid_row, grid_col;
    real *c;
    int64_t c_row;
    bool accumulate;
};

/* GEMM_BF16 rounds both operands to bf16 and sums in f32; it applies to unpacked products and to packed BF16. */
enum gemm_precision { GEMM_F32, GEMM_BF16 };

/* Scratch comes from the arena and is given back. With a measuring arena only the scratch is counted: it depends on the
 * number of threads and on the largest entry's shape, strides, and whether it is packed, and rises with m, n and k,
 * never with count. So for list entries whose m varies (experts; for weight gradients k) pass one product with the
 * largest possible total: the need for a list never exceeds that for one product with the sum of their m (or of their
 * k). */
void gemm_run(const struct kernels *ks, struct pool *pool, struct arena *scratch, enum gemm_precision precision,
              const struct gemm *list, int64_t count);

#endif
