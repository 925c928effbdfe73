/* The kernel table: one pointer per inner loop, filled once. Generic C fills every pointer and is the definition;
 * AVX2, AVX-512 (with VNNI and BF16 where the processor has them) and AMX then overwrite what they do faster, in
 * ascending order.
 *
 * Results are the same bytes on every level, for every number of rows and threads:
 *   - a product accumulates each output in its own lane, c = fma(a[k], b[k], c) for k = 0, 1, … (generic: fma());
 *   - a sum over a row uses 16 lanes, lane i adding elements i, i + 16, … in order (missing tail elements add
 *     nothing), then the fixed tree (0+8, 1+9, …), (0+4, …), (0+2, 1+3), (0+1);
 *   - exp and its relatives are our own polynomials, evaluated with the same fma chain everywhere (poly.h).
 * A NaN stays a NaN; its payload and sign are not part of the promise.
 * The only exception is the bf16 product, whose hardware instructions (VDPBF16PS, TDPBF16PS) round in their own way:
 * there one machine gives one result for every batch and thread count, and levels agree within a stated bound. */
#ifndef CADRE_KERNEL_KERNEL_H
#define CADRE_KERNEL_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cpu.h"
#include "kernel/attn.h"
#include "kernel/blocks.h"
#include "kernel/delta.h"
#include "tensor/dtype.h"
#include "tensor/real.h"

enum {
    STRIP = 16 /* outputs (rows of a weight matrix) that lie interleaved in one packed strip */
};

/* A product with packed weights of one format: f32 activations, or activations on a grid. */
typedef void gemm_weights(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                          int64_t ldc, bool accumulate);
typedef void gemm_grid(int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b, float *c,
                       int64_t ldc);

enum { GEMM_FEW = 4 };

struct kernels {
    enum isa isa;
    bool bf16_native; /* gemm_bf16 runs on bf16 instructions */

    /* Products with weights of a format, f32 activations; layouts below. NULL, on all levels: strips of the format are
     * decoded and go through gemm_f32 (packed.h). gemm_few gives the same bytes as that without the detour, for so few
     * rows that it is worth it (GEMM_FEW); NULL where a level has none. */
    gemm_weights *gemm_w[DTYPE_COUNT], *gemm_few[DTYPE_COUNT];
    /* Block formats (blocks.h): c[m, n] with activations on a grid; numbers k0 … of a strip as f32 [n][16], whole
     * blocks of 32; n numbers, whole blocks, onto the grid. */
    gemm_grid *gemm_grid[DTYPE_COUNT];
    void (*unpack[DTYPE_COUNT])(const void *strip, int64_t k, int64_t k0, int64_t n, real *dst);
    block_put_strip_fn *put_strip[DTYPE_COUNT];
    void (*to_grid)(const float *x, int64_t n, struct grid_rows to);

    /* Products against one or more packed strips of 16 outputs: c[m, n] = (accumulate ? c : 0) + Σ_k a[m, k] b[n, k]
     * for n < n_valid; a row-major with row stride lda, c with ldc. Any m >= 1, k >= 1, 1 <= n_valid.
     * Layouts of b, strip after strip, each strip 16 outputs × k:
     *   f32   real     [k][16]
     *   bf16  uint16_t [ceil(k / 2)][16][2], odd k padded with 0;  a is bf16 too, rows padded to even k, lda even
     *   gemm_w[bf16] the layout of bf16 (a is f32, read up to k only)
     *   gemm_w[f16]  uint16_t [k][16], converted to f32 exactly
     * and those of the block formats. */
    void (*gemm_f32)(int64_t m, int64_t n_valid, int64_t k, const real *a, int64_t lda, const real *b, real *c,
                     int64_t ldc, bool accumulate);
    void (*gemm_bf16)(int64_t m, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
                      float *c, int64_t ldc, bool accumulate);

    /* Packing: n_valid <= 16 rows of B(n, k) = b[n * row + k * col] (one stride is 1) into one strip; missing rows are
     * zeros. */
    void (*pack_f32)(real *dst, const real *b, int64_t row, int64_t col, int64_t n_valid, int64_t k);
    void (*pack_bf16)(uint16_t *dst, const real *b, int64_t row, int64_t col, int64_t n_valid, int64_t k);
    /* m rows of A(i, k) = a[i * row + k * col] (one stride is 1) into rows of f32, ld apart / of bf16 (padded with a
     * zero to even k). */
    void (*rows_f32)(real *dst, int64_t ld, const real *a, int64_t row, int64_t col, int64_t m, int64_t k);
    void (*rows_bf16)(uint16_t *dst, int64_t ld, const real *a, int64_t row, int64_t col, int64_t m, int64_t k);

    /* Rows. n >= 1; source and destination may be the same array. */
    real (*sum)(const real *x, int64_t n);
    real (*dot)(const real *x, const real *y, int64_t n);
    real (*max)(const real *x, int64_t n); /* of the numbers that are not NaN; -inf if there is none */
    void (*axpy)(real *y, real a, const real *x, int64_t n);      /* y += a x (one fma each) */
    void (*exp)(real *y, const real *x, int64_t n);               /* overflow gives inf, underflow 0 */
    real (*exp_sum)(real *y, const real *x, real max, int64_t n); /* y = exp(x - max); returns Σ y */
    void (*sigmoid)(real *y, const real *x, int64_t n);
    void (*tanh)(real *y, const real *x, int64_t n);
    void (*swiglu)(real *y, const real *gate, const real *up, int64_t n); /* y = gate · sigmoid(gate) · up */
    void (*swiglu_back)(real *d_gate, real *d_up, const real *dy, const real *gate, const real *up, int64_t n); /* += */

    /* AdamW (Loshchilov and Hutter 2019), one tensor's slice. g is multiplied by g_scale first (clipping);
     * m = β1 m + (1-β1) g, v = β2 v + (1-β2) g², w -= lr · (m / c1 / (sqrt(v / c2) + eps) + decay · w). */
    void (*adamw)(real *w, real *m, real *v, const real *g, int64_t n, real g_scale, real lr, real beta1, real beta2,
                  real eps, real decay, real c1, real c2);

    struct attn_kernels attn;
    struct delta_kernels delta;
};

/* Fill the table for a processor, using at most `limit`. */
void kernels_init(struct kernels *k, const struct cpu *cpu, enum isa limit);

/* Each level's file has one function that overwrites its pointers. */
void kernels_init_generic(struct kernels *k);
#ifndef CADRE_F64
void kernels_init_avx2(struct kernels *k);
void kernels_init_avx512(struct kernels *k);
void kernels_init_avx512vnni(struct kernels *k);
void kernels_init_avx512vbmi(struct kernels *k);
void kernels_init_avx512bf16(struct kernels *k);
void kernels_init_amx(struct kernels *k);
void kernels_init_amxblocks(struct kernels *k);
#endif

#endif
