/* The definition of the loops over a cache's keys and values (attn.h), in portable C. */
#include <math.h>
#include <string.h>

#include "kernel/attn.h"

static inline real fma_(real a, real b, real c)
{
#ifdef CADRE_F64
    return fma(a, b, c);
#else
    return fmaf(a, b, c);
#endif
}

enum { BLOCK = 32, KEY_BLOCK = 2 * CACHE_STRIP + BLOCK * CACHE_STRIP, ROW_BLOCK = 2 + BLOCK }; /* of q8_0; bytes */

static inline uint16_t half_at(const char *p, int64_t i)
{
    uint16_t h;
    memcpy(&h, p + i * 2, sizeof h);
    return h;
}

/* Number d of position `lane` of a strip, and of a row. */

static inline real key_f32(const char *strip, int64_t d, int lane)
{
    return ((const real *)(const void *)strip)[d * CACHE_STRIP + lane];
}

static inline real row_f32(const char *row, int64_t d)
{
    return ((const real *)(const void *)row)[d];
}

static inline real key_f16(const char *strip, int64_t d, int lane)
{
    return f16_to_f32(half_at(strip, d * CACHE_STRIP + lane));
}

static inline real row_f16(const char *row, int64_t d)
{
    return f16_to_f32(half_at(row, d));
}

static inline real key_bf16(const char *strip, int64_t d, int lane)
{
    return bf16_to_f32(half_at(strip, d * CACHE_STRIP + lane));
}

static inline real row_bf16(const char *row, int64_t d)
{
    return bf16_to_f32(half_at(row, d));
}

static inline real key_q8_0(const char *strip, int64_t d, int lane)
{
    const char *block = strip + d / BLOCK * KEY_BLOCK;
    return f16_to_f32(half_at(block, lane)) *
           (float)(signed char)block[2 * CACHE_STRIP + d % BLOCK * CACHE_STRIP + lane];
}

static inline real row_q8_0(const char *row, int64_t d)
{
    const char *block = row + d / BLOCK * ROW_BLOCK;
    return f16_to_f32(half_at(block, 0)) * (float)(signed char)block[2 + d % BLOCK];
}

typedef real key_fn(const char *strip, int64_t d, int lane);
typedef real row_fn(const char *row, int64_t d);

static inline __attribute__((always_inline)) void unpack(real *dst, const char *strip, size_t strip_bytes,
                                                         int64_t n_keys, int64_t dim, key_fn *key)
{
    for (int64_t j = 0; j < n_keys; j += CACHE_STRIP, strip += strip_bytes)
        for (int64_t d = 0; d < dim; d++)
            for (int l = 0; l < CACHE_STRIP; l++)
                *dst++ = key(strip, d, l);
}

static inline __attribute__((always_inline)) void scores(int64_t m, int64_t n_keys, int64_t dim, const real *q,
                                                         int64_t ldq, const char *strip, size_t strip_bytes,
                                                         real *score, int64_t ld, key_fn *key)
{
    for (int64_t j = 0; j < n_keys; j += CACHE_STRIP, strip += strip_bytes)
        for (int64_t i = 0; i < m; i++) {
            real sum[CACHE_STRIP] = {0};
            for (int64_t d = 0; d < dim; d++)
                for (int l = 0; l < CACHE_STRIP; l++)
                    sum[l] = fma_(q[i * ldq + d], key(strip, d, l), sum[l]);
            memcpy(score + i * ld + j, sum, sizeof sum);
        }
}

static inline __attribute__((always_inline)) void add(int64_t m, int64_t n, const struct span *span, const real *p,
                                                      int64_t ldp, const char *values, size_t row_bytes, real *o,
                                                      int64_t ldo, row_fn *row)
{
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = span[i].lo; j < span[i].hi; j++)
            for (int64_t d = 0; d < n; d++)
                o[i * ldo + d] = fma_(p[i * ldp + j], row(values + (size_t)j * row_bytes, d), o[i * ldo + d]);
}

static inline __attribute__((always_inline)) void rows(real *dst, int64_t ld, const char *values, size_t row_bytes,
                                                       int64_t n_rows, int64_t n, row_fn *row)
{
    for (int64_t j = 0; j < n_rows; j++)
        for (int64_t d = 0; d < n; d++)
            dst[j * ld + d] = row(values + (size_t)j * row_bytes, d);
}

/* By pieces, which hold whole blocks of every format */
static void encode(enum dtype type, unsigned char *dst, const real *x, int64_t n)
{
    enum { PIECE = 256 };
    const struct dtype_info *info = dtype_info(type);
    float piece[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t m = n - at < PIECE ? n - at : PIECE, whole = (m + info->block - 1) / info->block * info->block;
        for (int64_t i = 0; i < whole; i++)
            piece[i] = i < m ? (float)x[at + i] : 0;
        info->encode(piece, dst + at / info->block * info->bytes, (size_t)whole);
    }
}

static void encode_f32(void *dst, const real *x, int64_t n)
{
    memcpy(dst, x, (size_t)n * sizeof *x);
}

static void encode_f16(void *dst, const real *x, int64_t n)
{
    encode(DTYPE_F16, dst, x, n);
}

static void encode_bf16(void *dst, const real *x, int64_t n)
{
    encode(DTYPE_BF16, dst, x, n);
}

static void encode_q8_0(void *dst, const real *x, int64_t n)
{
    encode(DTYPE_Q8_0, dst, x, n);
}

#define FORMAT(name, type)                                                                                             \
    static void scores_##name(int64_t m, int64_t n_keys, int64_t dim, const real *q, int64_t ldq, const void *keys,    \
                              const void *next, real *score, int64_t ld)                                               \
    {                                                                                                                  \
        (void)next;                                                                                                    \
        scores(m, n_keys, dim, q, ldq, keys, CACHE_STRIP *cache_row_bytes(type, dim), score, ld, key_##name);          \
    }                                                                                                                  \
    static void add_##name(int64_t m, int64_t n, const struct span *span, const real *p, int64_t ldp,                  \
                           const void *values, const void *next, real *o, int64_t ldo)                                 \
    {                                                                                                                  \
        (void)next;                                                                                                    \
        add(m, n, span, p, ldp, values, cache_row_bytes(type, n), o, ldo, row_##name);                                 \
    }                                                                                                                  \
    static void unpack_##name(real *dst, const void *keys, int64_t n_keys, int64_t dim)                                \
    {                                                                                                                  \
        unpack(dst, keys, CACHE_STRIP *cache_row_bytes(type, dim), n_keys, dim, key_##name);                           \
    }                                                                                                                  \
    static void rows_##name(real *dst, int64_t ld, const void *values, int64_t n_rows, int64_t n)                      \
    {                                                                                                                  \
        rows(dst, ld, values, cache_row_bytes(type, n), n_rows, n, row_##name);                                        \
    }

FORMAT(f32, DTYPE_F32)
FORMAT(f16, DTYPE_F16)
FORMAT(bf16, DTYPE_BF16)
FORMAT(q8_0, DTYPE_Q8_0)

void cache_kernels_generic(struct cache_kernels *of)
{
    of[DTYPE_F32] = (struct cache_kernels){scores_f32, add_f32, unpack_f32, rows_f32, encode_f32};
    of[DTYPE_F16] = (struct cache_kernels){scores_f16, add_f16, unpack_f16, rows_f16, encode_f16};
    of[DTYPE_BF16] = (struct cache_kernels){scores_bf16, add_bf16, unpack_bf16, rows_bf16, encode_bf16};
    of[DTYPE_Q8_0] = (struct cache_kernels){scores_q8_0, add_q8_0, unpack_q8_0, rows_q8_0, encode_q8_0};
}
