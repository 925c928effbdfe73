/* The definition of every kernel, in portable C. Faster levels must return the same bytes (kernel.h says where not). */
#include "kernel/kernel.h"

#include <math.h>
#include <string.h>

#include "kernel/poly.h"

enum { LANES = 16 };

#ifdef CADRE_F64
static real fma_(real a, real b, real c)
{
    return fma(a, b, c);
}
static real sqrt_(real x)
{
    return sqrt(x);
}
#else
static real fma_(real a, real b, real c)
{
    return fmaf(a, b, c);
}
static real sqrt_(real x)
{
    return sqrtf(x);
}
#endif

/* ---- products: weight(strip, k, lane) is number k of output `lane` */

typedef real weight_fn(const void *strip, int64_t k, int lane);

static inline __attribute__((always_inline)) void product(int64_t m, int64_t n_valid, int64_t k, const real *a,
                                                          int64_t lda, const void *b, size_t strip_bytes, real *c,
                                                          int64_t ldc, bool accumulate, weight_fn *weight)
{
    for (int64_t n0 = 0; n0 < n_valid; n0 += STRIP, b = (const char *)b + strip_bytes) {
        int lanes = n_valid - n0 < STRIP ? (int)(n_valid - n0) : STRIP;
        for (int64_t i = 0; i < m; i++) {
            real acc[STRIP] = {0};
            if (accumulate)
                memcpy(acc, c + i * ldc + n0, (size_t)lanes * sizeof *c);
            for (int64_t kk = 0; kk < k; kk++)
                for (int l = 0; l < STRIP; l++)
                    acc[l] = fma_(a[i * lda + kk], weight(b, kk, l), acc[l]);
            memcpy(c + i * ldc + n0, acc, (size_t)lanes * sizeof *c);
        }
    }
}

static inline real weight_f32(const void *strip, int64_t k, int lane)
{
    return ((const real *)strip)[k * STRIP + lane];
}

static void gemm_f32(int64_t m, int64_t n_valid, int64_t k, const real *a, int64_t lda, const real *b, real *c,
                     int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, (size_t)k * STRIP * sizeof *b, c, ldc, accumulate, weight_f32);
}

static void pack_f32(real *dst, const real *b, int64_t row, int64_t col, int64_t n_valid, int64_t k)
{
    for (int64_t kk = 0; kk < k; kk++)
        for (int64_t n = 0; n < STRIP; n++)
            dst[kk * STRIP + n] = n < n_valid ? b[n * row + kk * col] : 0;
}

static void rows_f32(real *dst, int64_t ld, const real *a, int64_t row, int64_t col, int64_t m, int64_t k)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t kk = 0; kk < k; kk++)
            dst[i * ld + kk] = a[i * row + kk * col];
}

#ifndef CADRE_F64
static inline real weight_bf16(const void *strip, int64_t k, int lane)
{
    return bf16_to_f32(((const uint16_t *)strip)[(k / 2 * STRIP + lane) * 2 + k % 2]);
}

static inline real weight_f16(const void *strip, int64_t k, int lane)
{
    return f16_to_f32(((const uint16_t *)strip)[k * STRIP + lane]);
}

static void gemm_bf16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                       int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, (size_t)(k + k % 2) * STRIP * 2, c, ldc, accumulate, weight_bf16);
}

static void gemm_f16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                      int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, (size_t)k * STRIP * 2, c, ldc, accumulate, weight_f16);
}

static void gemm_bf16(int64_t m, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
                      float *c, int64_t ldc, bool accumulate)
{
    float piece[256]; /* a row's decoded piece; pieces continue the chain through c */
    for (int64_t i = 0; i < m; i++)
        for (int64_t n0 = 0; n0 < n_valid; n0 += STRIP) {
            const uint16_t *strip = b + n0 * (k + k % 2);
            for (int64_t k0 = 0; k0 < k; k0 += 256) {
                int64_t part = k - k0 < 256 ? k - k0 : 256;
                for (int64_t kk = 0; kk < part; kk++)
                    piece[kk] = bf16_to_f32(a[i * lda + k0 + kk]);
                gemm_bf16w(1, n_valid - n0 < STRIP ? n_valid - n0 : STRIP, part, piece, part, strip + k0 * STRIP,
                           c + i * ldc + n0, ldc, accumulate || k0 > 0);
            }
        }
}

static void pack_bf16(uint16_t *dst, const real *b, int64_t row, int64_t col, int64_t n_valid, int64_t k)
{
    for (int64_t kk = 0; kk < k + k % 2; kk++)
        for (int64_t n = 0; n < STRIP; n++)
            dst[(kk / 2 * STRIP + n) * 2 + kk % 2] = n < n_valid && kk < k ? f32_to_bf16(b[n * row + kk * col]) : 0;
}

static void rows_bf16(uint16_t *dst, int64_t ld, const real *a, int64_t row, int64_t col, int64_t m, int64_t k)
{
    for (int64_t i = 0; i < m; i++) {
        for (int64_t kk = 0; kk < k; kk++)
            dst[i * ld + kk] = f32_to_bf16(a[i * row + kk * col]);
        if (k % 2)
            dst[i * ld + k] = 0;
    }
}
#endif

/* ---- sums over rows: 16 lanes, then a tree */

static real tree_sum(real lane[LANES])
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

static real sum(const real *x, int64_t n)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % LANES] += x[i];
    return tree_sum(lane);
}

static real dot(const real *x, const real *y, int64_t n)
{
    real lane[LANES] = {0};
    for (int64_t i = 0; i < n; i++)
        lane[i % LANES] = fma_(x[i], y[i], lane[i % LANES]);
    return tree_sum(lane);
}

/* A comparison that is false for NaN keeps the old value; equal zeros keep the first. */
static real larger(real x, real m)
{
    return x > m ? x : m;
}

static real max(const real *x, int64_t n)
{
    real lane[LANES];
    for (int i = 0; i < LANES; i++)
        lane[i] = -(real)INFINITY;
    for (int64_t i = 0; i < n; i++)
        lane[i % LANES] = larger(x[i], lane[i % LANES]);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lane[i] = larger(lane[i + half], lane[i]);
    return lane[0];
}

static void axpy(real *y, real a, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = fma_(a, x[i], y[i]);
}

/* ---- exp and relatives: poly.h says what is computed */

#ifdef CADRE_F64
static real exp_(real x) /* the gradient tests need the function itself, not its f32 approximation */
{
    return exp(x);
}
static real tanh_(real x)
{
    return tanh(x);
}
#else
static uint32_t bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static float exp_(float x)
{
    if (x > EXP_MAX)
        return INFINITY;
    if (x < EXP_MIN)
        return 0;
    if (x != x)
        return x;
    float t = fmaf(x, EXP_LOG2E, EXP_MAGIC), n = t - EXP_MAGIC;
    float r = fmaf(n, -EXP_LN2_LO, fmaf(n, -EXP_LN2_HI, x));
    float p = EXP_C6;
    p = fmaf(p, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return from_bits(bits(p) + (bits(t) << 23));
}

static float tanh_(float x)
{
    float mag = fabsf(x);
    if (mag < TANH_SPLIT) {
        float z = x * x, p = TANH_T4;
        p = fmaf(p, z, TANH_T3);
        p = fmaf(p, z, TANH_T2);
        p = fmaf(p, z, TANH_T1);
        p = fmaf(p, z, TANH_T0);
        return copysignf(fmaf(mag * z, p, mag), x);
    }
    return copysignf(1.0f - 2.0f / (exp_(mag + mag) + 1.0f), x);
}
#endif

static real sigmoid_(real x)
{
    return 1 / (1 + exp_(-x));
}

static void exp_row(real *y, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_(x[i]);
}

static real exp_sum(real *y, const real *x, real shift, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = exp_(x[i] - shift);
    return sum(y, n);
}

static void sigmoid_row(real *y, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = sigmoid_(x[i]);
}

static void tanh_row(real *y, const real *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = tanh_(x[i]);
}

static void swiglu(real *y, const real *gate, const real *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        y[i] = gate[i] * sigmoid_(gate[i]) * up[i];
}

/* With s = sigmoid(gate): d gate = dy · up · s (1 + gate (1 - s)), d up = dy · gate · s. */
static void swiglu_back(real *d_gate, real *d_up, const real *dy, const real *gate, const real *up, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        real g = gate[i], u = up[i], d = dy[i], s = sigmoid_(g);
        d_gate[i] = fma_(d * u, s * fma_(g, 1 - s, 1), d_gate[i]);
        d_up[i] = fma_(d, g * s, d_up[i]);
    }
}

static void adamw(real *w, real *m, real *v, const real *g, int64_t n, real g_scale, real lr, real beta1, real beta2,
                  real eps, real decay, real c1, real c2)
{
    for (int64_t i = 0; i < n; i++) {
        real gi = g[i] * g_scale;
        m[i] = fma_(beta1, m[i], (1 - beta1) * gi);
        v[i] = fma_(beta2, v[i], (1 - beta2) * gi * gi);
        real step = m[i] / c1 / (sqrt_(v[i] / c2) + eps);
        w[i] = fma_(-lr, fma_(decay, w[i], step), w[i]);
    }
}

static void span_add(int64_t m, int64_t n, const struct span *span, const real *a, int64_t lda, const real *b,
                     int64_t ldb, real *c, int64_t ldc)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = span[i].lo; j < span[i].hi; j++)
            for (int64_t d = 0; d < n; d++)
                c[i * ldc + d] = fma_(a[i * lda + j], b[j * ldb + d], c[i * ldc + d]);
}

static void softmax_back(real *p, real *ds, int64_t n, real max, real inverse_sum, real delta, real scale)
{
    for (int64_t j = 0; j < n; j++) {
        p[j] = exp_(p[j] - max) * inverse_sum;
        ds[j] = p[j] * (ds[j] - delta) * scale;
    }
}

static void delta_step(int64_t dk, int64_t n, real *s, int64_t ld, real decay, real beta, const real *k, const real *q,
                       const real *v, real *o)
{
    for (int64_t c = 0; c < n; c++) {
        real seen = 0, sum = 0;
        for (int64_t i = 0; i < dk; i++) {
            s[i * ld + c] *= decay;
            seen = fma_(k[i], s[i * ld + c], seen);
        }
        real d = beta * (v[c] - seen);
        for (int64_t i = 0; i < dk; i++) {
            s[i * ld + c] = fma_(k[i], d, s[i * ld + c]);
            sum = fma_(q[i], s[i * ld + c], sum);
        }
        o[c] = sum;
    }
}

/* Block formats: one function each around blocks.c's definitions */
#define UNPACK_ENTRY(type, name, ...) [DTYPE_##type] = unpack_##name,
#define UNPACK(type, name, ...)                                                                                        \
    static void unpack_##name(const void *strip, int64_t k, int64_t k0, int64_t n, real *dst)                          \
    {                                                                                                                  \
        block_unpack(DTYPE_##type, strip, k, k0, n, dst);                                                              \
    }
BLOCK_FORMATS(UNPACK)
FLOAT_FORMATS(UNPACK)
#define PUT_STRIP_ENTRY(type, name, ...) [DTYPE_##type] = put_strip_##name,
#define PUT_STRIP(type, name, ...)                                                                                     \
    static void put_strip_##name(unsigned char *strip, const unsigned char *rows, int64_t k)                           \
    {                                                                                                                  \
        block_put_strip(DTYPE_##type, strip, rows, STRIP, k);                                                          \
    }
BLOCK_FORMATS(PUT_STRIP)
FLOAT_FORMATS(PUT_STRIP)
#ifndef CADRE_F64
#define GRID_ENTRY(type, name, ...) [DTYPE_##type] = grid_##name,
#define GRID(type, name, ...)                                                                                          \
    static void grid_##name(int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b, float *c, \
                            int64_t ldc)                                                                               \
    {                                                                                                                  \
        block_product(DTYPE_##type, m, n_valid, k, a, b, c, ldc);                                                      \
    }
BLOCK_FORMATS(GRID)
#endif

void kernels_init_generic(struct kernels *k)
{
    *k = (struct kernels){
        .isa = ISA_GENERIC,
        .gemm_f32 = gemm_f32,
        .put_strip = {BLOCK_FORMATS(PUT_STRIP_ENTRY) FLOAT_FORMATS(PUT_STRIP_ENTRY)},
        .unpack = {BLOCK_FORMATS(UNPACK_ENTRY) FLOAT_FORMATS(UNPACK_ENTRY)},
        .pack_f32 = pack_f32,
        .rows_f32 = rows_f32,
#ifndef CADRE_F64
        .gemm_bf16 = gemm_bf16,
        .gemm_w = {[DTYPE_F16] = gemm_f16w, [DTYPE_BF16] = gemm_bf16w},
        .gemm_grid = {BLOCK_FORMATS(GRID_ENTRY)},
        .to_grid = block_to_grid,
        .pack_bf16 = pack_bf16,
        .rows_bf16 = rows_bf16,
#endif
        .sum = sum,
        .dot = dot,
        .max = max,
        .axpy = axpy,
        .exp = exp_row,
        .exp_sum = exp_sum,
        .sigmoid = sigmoid_row,
        .tanh = tanh_row,
        .swiglu = swiglu,
        .swiglu_back = swiglu_back,
        .adamw = adamw,
        .attn = {.span_add = span_add, .softmax_back = softmax_back},
        .delta = {.step = delta_step},
    };
    cache_kernels_generic(k->attn.cache);
}
