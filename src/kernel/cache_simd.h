/* The loops over a cache's keys and values over simd16.h; cache.c is the definition. Included by each level's file.
 * With few rows they wait for memory: so numbers are read in their format, once for a tile of rows whose sums stay in
 * registers, and what comes next is fetched meanwhile. */
#ifndef CADRE_KERNEL_CACHE_SIMD_H
#define CADRE_KERNEL_CACHE_SIMD_H

#include <string.h>

#include "kernel/attn.h"
#include "kernel/gemm_simd.h"
#include "kernel/rows_simd.h"

/* Rows of the largest tile, and vectors of 16 that a tile of so many rows has beside each other: enough sums to hide an
 * fma's latency, and no more than registers. Groups of 8 heads are usual. */
#if MAX_STRIPS == 4
#define CACHE_ROWS 8
#define CACHE_WIDE(rows) ((rows) == 8 ? 2 : 4)
#else
#define CACHE_ROWS 6
#define CACHE_WIDE(rows) ((rows) == 1 ? 4 : (rows) == 2 ? 2 : 1)
#endif

/* 16 numbers at p, before the scale of their block of 32. */
struct cache_format {
    enum dtype type;
    int bytes; /* of a number */
    v16 (*get)(const void *p);
};

INLINE v16 cache_get_f32(const void *p)
{
    return v_load(p);
}

static const struct cache_format cache_f32 = {DTYPE_F32, 4, cache_get_f32};
static const struct cache_format cache_f16 = {DTYPE_F16, 2, v_load_f16};
static const struct cache_format cache_bf16 = {DTYPE_BF16, 2, v_load_bf16};
static const struct cache_format cache_q8_0 = {DTYPE_Q8_0, 1, v_load_i8};

/* cache_row_bytes */
INLINE size_t format_bytes(struct cache_format f, int64_t n)
{
    return f.type == DTYPE_Q8_0 ? (size_t)(n + 31) / 32 * 34 : (size_t)(n * f.bytes);
}

INLINE float cache_scale(const char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return _cvtsh_ss(h);
}

/* ---- keys */

enum { CACHE_STEP = 4 }; /* numbers of a position at a time: at most a cache line of each */

/* Number i from `keys` on of each strip times each row's */
INLINE void cache_score_step(int n, int rows, int strips, struct cache_format f, v16 *acc, const v16 *scale,
                             const float *q, int64_t ldq, const char *keys, size_t strip_bytes)
{
    UNROLL for (int i = 0; i < n; i++) UNROLL for (int s = 0; s < strips; s++)
    {
        v16 w = f.get(keys + (size_t)s * strip_bytes + i * CACHE_STRIP * f.bytes);
        if (f.type == DTYPE_Q8_0)
            w = v_mul(scale[s], w);
        UNROLL for (int r = 0; r < rows; r++) acc[r * strips + s] =
            v_fma(v_set1(q[r * ldq + i]), w, acc[r * strips + s]);
    }
}

INLINE void cache_score_tile(int rows, int strips, struct cache_format f, int64_t dim, const float *q, int64_t ldq,
                             const char *keys, ptrdiff_t ahead, float *score, int64_t ld)
{
    v16 acc[CACHE_ROWS * 4], scale[4];
    size_t strip_bytes = CACHE_STRIP * format_bytes(f, dim);
    UNROLL for (int i = 0; i < rows * strips; i++) acc[i] = v_set1(0);
    for (int64_t d = 0; d < dim;) {
        int64_t end = dim;
        if (f.type == DTYPE_Q8_0) {
            end = d + 32 < dim ? d + 32 : dim;
            UNROLL for (int s = 0; s < strips; s++) scale[s] = v_load_f16(keys + (size_t)s * strip_bytes);
            keys += 2 * CACHE_STRIP;
        }
        for (; d + CACHE_STEP <= end; d += CACHE_STEP, q += CACHE_STEP, keys += CACHE_STEP * CACHE_STRIP * f.bytes) {
            UNROLL for (int s = 0; s < strips; s++) UNROLL for (int at = 0; at < CACHE_STEP * f.bytes; at += 4)
                _mm_prefetch(keys + (size_t)s * strip_bytes + ahead + at * CACHE_STRIP, _MM_HINT_T0);
            cache_score_step(CACHE_STEP, rows, strips, f, acc, scale, q, ldq, keys, strip_bytes);
        }
        for (; d < end; d++, q++, keys += CACHE_STRIP * f.bytes)
            cache_score_step(1, rows, strips, f, acc, scale, q, ldq, keys, strip_bytes);
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++)
        v_store(score + r * ld + s * CACHE_STRIP, acc[r * strips + s]);
}

/* ---- values */

/* rows × strips sums at o, over all j of one span that the rows share */
INLINE void cache_add_tile(int rows, int strips, struct cache_format f, int64_t n, struct span span, const float *p,
                           int64_t ldp, const char *values, size_t row_bytes, int64_t column, ptrdiff_t ahead, float *o,
                           int64_t ldo)
{
    v16 acc[CACHE_ROWS * 4];
    const char *at[4], *scale[4];
    UNROLL for (int s = 0; s < strips; s++)
    {
        int64_t d = column + s * 16;
        scale[s] = values + span.lo * (int64_t)row_bytes + d / 32 * 34;
        at[s] = f.type == DTYPE_Q8_0 ? scale[s] + 2 + d % 32 : values + span.lo * (int64_t)row_bytes + d * f.bytes;
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) acc[r * strips + s] =
        v_get(o + r * ldo + s * 16, n - s * 16);
    size_t to = 0;
    for (int64_t j = span.lo; j < span.hi; j++, to += row_bytes) {
        UNROLL for (int s = 0; s < strips; s += 4 / f.bytes) _mm_prefetch(at[s] + to + ahead, _MM_HINT_T0);
        UNROLL for (int s = 0; s < strips; s++)
        {
            v16 w = f.get(at[s] + to);
            if (f.type == DTYPE_Q8_0)
                w = v_mul(v_set1(cache_scale(scale[s] + to)), w);
            UNROLL for (int r = 0; r < rows; r++) acc[r * strips + s] =
                v_fma(v_set1(p[r * ldp + j]), w, acc[r * strips + s]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++)
        v_put(o + r * ldo + s * 16, acc[r * strips + s], n - s * 16);
}

/* All columns of `rows` rows over one span */
INLINE void cache_add_span(int rows, struct cache_format f, int64_t n, struct span span, const float *p, int64_t ldp,
                           const char *values, ptrdiff_t ahead, float *o, int64_t ldo)
{
    size_t row_bytes = format_bytes(f, n);
    int64_t d = 0;
    for (; n - d >= 16 * CACHE_WIDE(rows); d += 16 * CACHE_WIDE(rows))
        cache_add_tile(rows, CACHE_WIDE(rows), f, 16 * CACHE_WIDE(rows), span, p, ldp, values, row_bytes, d, ahead,
                       o + d, ldo);
    for (; d < n; d += 16)
        cache_add_tile(rows, 1, f, n - d, span, p, ldp, values, row_bytes, d, ahead, o + d, ldo);
}

/* ---- the loops of a format, tiles being functions of their own so that each has all registers for itself */

#define CACHE_TILE(format, rows, name)                                                                                 \
    static __attribute__((noinline)) void format##_score_##name(int64_t n_keys, int64_t dim, const float *q,           \
                                                                int64_t ldq, const char *keys, ptrdiff_t ahead,        \
                                                                float *score, int64_t ld)                              \
    {                                                                                                                  \
        size_t bytes = CACHE_STRIP * format_bytes(format, dim);                                                        \
        int64_t j = 0;                                                                                                 \
        for (; n_keys - j > CACHE_STRIP * (CACHE_WIDE(rows) - 1); j += CACHE_STRIP * CACHE_WIDE(rows))                 \
            cache_score_tile(rows, CACHE_WIDE(rows), format, dim, q, ldq, keys + (size_t)j / CACHE_STRIP * bytes,      \
                             ahead, score + j, ld);                                                                    \
        for (; j < n_keys; j += CACHE_STRIP)                                                                           \
            cache_score_tile(rows, 1, format, dim, q, ldq, keys + (size_t)j / CACHE_STRIP * bytes, ahead, score + j,   \
                             ld);                                                                                      \
    }                                                                                                                  \
    static                                                                                                             \
        __attribute__((noinline)) void format##_add_##name(int64_t n, struct span span, const float *p, int64_t ldp,   \
                                                           const char *values, ptrdiff_t ahead, float *o, int64_t ldo) \
    {                                                                                                                  \
        cache_add_span(rows, format, n, span, p, ldp, values, ahead, o, ldo);                                          \
    }

typedef void cache_score_fn(int64_t n_keys, int64_t dim, const float *q, int64_t ldq, const char *keys, ptrdiff_t ahead,
                            float *score, int64_t ld);
typedef void cache_add_fn(int64_t n, struct span span, const float *p, int64_t ldp, const char *values, ptrdiff_t ahead,
                          float *o, int64_t ldo);

static const int cache_tile_rows[] = {CACHE_ROWS, 4, 2, 1};

INLINE ptrdiff_t cache_ahead(const void *from, const void *next)
{
    return next ? (const char *)next - (const char *)from : 0;
}

static void cache_scores(int64_t m, int64_t n_keys, int64_t dim, const float *q, int64_t ldq, const void *keys,
                         const void *next, float *score, int64_t ld, cache_score_fn *const tile[4])
{
    ptrdiff_t ahead = cache_ahead(keys, next);
    for (int t = 0; t < 4; t++)
        for (int64_t rows = cache_tile_rows[t]; m >= rows; m -= rows, q += rows * ldq, score += rows * ld, ahead = 0)
            tile[t](n_keys, dim, q, ldq, keys, ahead, score, ld);
}

/* Rows of a tile that see more than all of them do take the rest alone: chains go on through o. */
static void cache_add_rows(int rows, int64_t n, const struct span *span, const float *p, int64_t ldp,
                           const void *values, ptrdiff_t ahead, float *o, int64_t ldo, cache_add_fn *tile,
                           cache_add_fn *one)
{
    struct span all = span[0];
    for (int r = 1; r < rows; r++) {
        all.lo = span[r].lo > all.lo ? span[r].lo : all.lo;
        all.hi = span[r].hi < all.hi ? span[r].hi : all.hi;
    }
    all.hi = all.hi > all.lo ? all.hi : all.lo;
    for (int r = 0; r < rows; r++) {
        struct span before = {span[r].lo, span[r].hi < all.lo ? span[r].hi : all.lo};
        if (before.lo < before.hi)
            one(n, before, p + r * ldp, ldp, values, 0, o + r * ldo, ldo);
    }
    if (all.lo < all.hi)
        tile(n, all, p, ldp, values, ahead, o, ldo);
    for (int r = 0; r < rows; r++) {
        struct span after = {all.hi, span[r].hi};
        if (after.lo < after.hi)
            one(n, after, p + r * ldp, ldp, values, 0, o + r * ldo, ldo);
    }
}

static void cache_add(int64_t m, int64_t n, const struct span *span, const float *p, int64_t ldp, const void *values,
                      const void *next, float *o, int64_t ldo, cache_add_fn *const tile[4])
{
    ptrdiff_t ahead = cache_ahead(values, next);
    for (int t = 0; t < 4; t++)
        for (int rows = cache_tile_rows[t]; m >= rows;
             m -= rows, span += rows, p += rows * ldp, o += rows * ldo, ahead = 0)
            cache_add_rows(rows, n, span, p, ldp, values, ahead, o, ldo, tile[t], tile[3]);
}

INLINE void cache_unpack(struct cache_format f, float *dst, const char *keys, int64_t n_keys, int64_t dim)
{
    size_t strip_bytes = CACHE_STRIP * format_bytes(f, dim);
    for (int64_t j = 0; j < n_keys; j += CACHE_STRIP, keys += strip_bytes) {
        const char *p = keys;
        v16 scale = v_set1(1);
        for (int64_t d = 0; d < dim; d++, p += CACHE_STRIP * f.bytes, dst += CACHE_STRIP) {
            if (f.type == DTYPE_Q8_0 && d % 32 == 0) {
                scale = v_load_f16(p);
                p += 2 * CACHE_STRIP;
            }
            v16 w = f.get(p);
            v_store(dst, f.type == DTYPE_Q8_0 ? v_mul(scale, w) : w);
        }
    }
}

INLINE void cache_rows(struct cache_format f, float *dst, int64_t ld, const char *values, int64_t n_rows, int64_t n)
{
    size_t row_bytes = format_bytes(f, n);
    for (int64_t j = 0; j < n_rows; j++, values += row_bytes, dst += ld)
        for (int64_t d = 0; d < n; d += 16) {
            const char *block = values + d / 32 * 34;
            v16 w = f.get(f.type == DTYPE_Q8_0 ? block + 2 + d % 32 : values + d * f.bytes);
            v_store(dst + d, f.type == DTYPE_Q8_0 ? v_mul(v_set1(cache_scale(block)), w) : w);
        }
}

/* ---- writing */

static void cache_f32_encode(void *dst, const float *x, int64_t n)
{
    memcpy(dst, x, (size_t)n * sizeof *x);
}

/* Two bytes a number; the last piece through a buffer, as only so many may be written */
#define CACHE_ENCODE_HALF(format, store)                                                                               \
    static void format##_encode(void *dst, const float *x, int64_t n)                                                  \
    {                                                                                                                  \
        uint16_t *p = dst, tail[16];                                                                                   \
        int64_t i = 0;                                                                                                 \
        for (; i + 16 <= n; i += 16)                                                                                   \
            store(p + i, v_load(x + i));                                                                               \
        if (i < n) {                                                                                                   \
            store(tail, v_load_n(x + i, n - i));                                                                       \
            memcpy(p + i, tail, (size_t)(n - i) * sizeof *p);                                                          \
        }                                                                                                              \
    }

CACHE_ENCODE_HALF(cache_f16, v_store_f16)
CACHE_ENCODE_HALF(cache_bf16, v_store_bf16)

/* To the nearest integer, halves away from zero: trunc(x + s) with the largest s below ½ and the sign of x */
INLINE void store_rounded(char *p, v16 x)
{
    i16 sign = i_and(v_bits(x), i_set1((int)0x80000000u));
    v_store_i8(p, v_add(x, v_from_bits(i_or(v_bits(v_set1(0x1.fffffep-2f)), sign))));
}

/* d = max|x| / 127, q = round(x / d). Blocks of zeros, of what hardly differs from them, or not of numbers are left to
 * the definition. */
static void cache_q8_0_encode(void *dst, const float *x, int64_t n)
{
    char *p = dst;
    const struct dtype_info *info = dtype_info(DTYPE_Q8_0);
    i16 magnitude = i_set1(0x7fffffff);
    for (int64_t i = 0; i < n; i += 32, p += 34) {
        int64_t left = n - i;
        v16 a = v_get(x + i, left), b = left > 16 ? v_get(x + i + 16, left - 16) : v_set1(0);
        float max =
            v_largest(v_max(v_from_bits(i_and(v_bits(a), magnitude)), v_from_bits(i_and(v_bits(b), magnitude))));
        float d = max / 127.0f;
        if (v_sum(v_add(v_sub(a, a), v_sub(b, b))) == 0 && d > 1e-30f) { /* the sum is 0 if all are finite */
            uint16_t half = _cvtss_sh(d, _MM_FROUND_TO_NEAREST_INT);
            v16 steps = v_set1(1.0f / d);
            memcpy(p, &half, sizeof half);
            store_rounded(p + 2, v_mul(a, steps));
            store_rounded(p + 18, v_mul(b, steps));
        } else {
            float block[32];
            v_store(block, a);
            v_store(block + 16, b);
            info->encode(block, p, 32);
        }
    }
}

/* clang-format off */
#define CACHE_FORMAT(format)                                                                                           \
    CACHE_TILE(format, CACHE_ROWS, top) CACHE_TILE(format, 4, 4) CACHE_TILE(format, 2, 2) CACHE_TILE(format, 1, 1)                            \
    static cache_score_fn *const format##_score[] = {format##_score_top, format##_score_4, format##_score_2,             \
                                                     format##_score_1};                                                \
    static cache_add_fn *const format##_add[] = {format##_add_top, format##_add_4, format##_add_2, format##_add_1};      \
    static void format##_scores(int64_t m, int64_t n_keys, int64_t dim, const float *q, int64_t ldq, const void *keys, \
                                const void *next, float *score, int64_t ld)                                            \
    {                                                                                                                  \
        cache_scores(m, n_keys, dim, q, ldq, keys, next, score, ld, format##_score);                                   \
    }                                                                                                                  \
    static void format##_adds(int64_t m, int64_t n, const struct span *span, const float *p, int64_t ldp,              \
                              const void *values, const void *next, float *o, int64_t ldo)                             \
    {                                                                                                                  \
        cache_add(m, n, span, p, ldp, values, next, o, ldo, format##_add);                                             \
    }                                                                                                                  \
    static void format##_unpack(float *dst, const void *keys, int64_t n_keys, int64_t dim)                             \
    {                                                                                                                  \
        cache_unpack(format, dst, keys, n_keys, dim);                                                                  \
    }                                                                                                                  \
    static void format##_rows(float *dst, int64_t ld, const void *values, int64_t n_rows, int64_t n)                   \
    {                                                                                                                  \
        cache_rows(format, dst, ld, values, n_rows, n);                                                                \
    }
/* clang-format on */

CACHE_FORMAT(cache_f32)
CACHE_FORMAT(cache_f16)
CACHE_FORMAT(cache_bf16)
CACHE_FORMAT(cache_q8_0)

static void cache_kernels_simd(struct cache_kernels *of)
{
    of[DTYPE_F32] =
        (struct cache_kernels){cache_f32_scores, cache_f32_adds, cache_f32_unpack, cache_f32_rows, cache_f32_encode};
    of[DTYPE_F16] =
        (struct cache_kernels){cache_f16_scores, cache_f16_adds, cache_f16_unpack, cache_f16_rows, cache_f16_encode};
    of[DTYPE_BF16] = (struct cache_kernels){cache_bf16_scores, cache_bf16_adds, cache_bf16_unpack, cache_bf16_rows,
                                            cache_bf16_encode};
    of[DTYPE_Q8_0] = (struct cache_kernels){cache_q8_0_scores, cache_q8_0_adds, cache_q8_0_unpack, cache_q8_0_rows,
                                            cache_q8_0_encode};
}

#endif
