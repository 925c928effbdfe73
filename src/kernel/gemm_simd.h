/* Products over simd16.h: tiles of up to TILE_ROWS rows × TILE_STRIPS strips whose sums stay in registers. The
 * including file defines both numbers for its register file. A tile takes, per k, one vector of each strip and one
 * broadcast per row. Rows and strips of a tile do not mix, so every cut of m and n gives the same bytes. */
#ifndef CADRE_KERNEL_GEMM_SIMD_H
#define CADRE_KERNEL_GEMM_SIMD_H

#include "kernel/kernel.h"
#include "kernel/simd16.h"

#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 16")
#else
#define UNROLL _Pragma("unroll")
#endif

enum {
    PREFETCH = 2048,    /* bytes ahead, for few rows: then a product waits for memory */
    PREFETCH_ROWS = 4,  /* at most this many rows count as few */
    L1_BYTES = 32 << 10 /* of one tile's strips; the rest of L1 is for A and C */
};

/* A weight format: `unit` numbers of k lie together in unit_bytes per strip; open() reads what a unit shares (its
 * scales), get() number i of the unit. All inline: each format gives its own loop. */
typedef v16 open_fn(const char *unit);
typedef v16 get_fn(const char *unit, v16 shared, int i);
typedef v16 add_fn(v16 x, v16 w, v16 sum);
struct format {
    int unit, unit_bytes;
    open_fn *open;
    get_fn *get;
    add_fn *add; /* sum + x w */
};

/* Activations: floats, or pairs of bf16 moved as floats. */
typedef float __attribute__((may_alias)) act;

INLINE void tile_load(int rows, int strips, v16 acc[][TILE_STRIPS], const float *c, int64_t ldc, int64_t n,
                      bool accumulate)
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) acc[r][s] =
        !accumulate           ? v_set1(0)
        : n - s * STRIP >= 16 ? v_load(c + r * ldc + s * STRIP)
                              : v_load_n(c + r * ldc + s * STRIP, n - s * STRIP);
}

INLINE void tile_store(int rows, int strips, v16 acc[][TILE_STRIPS], float *c, int64_t ldc, int64_t n)
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) if (n - s * STRIP >= 16)
        v_store(c + r * ldc + s * STRIP, acc[r][s]);
    else v_store_n(c + r * ldc + s * STRIP, acc[r][s], n - s * STRIP);
}

/* acc += a[·, 0] × number i of each strip's unit */
INLINE void tile_step(int rows, int strips, v16 acc[][TILE_STRIPS], const act *a, int64_t lda, const char *b,
                      int64_t strip_bytes, const v16 shared[], int i, struct format f)
{
    v16 w[TILE_STRIPS];
    UNROLL for (int s = 0; s < strips; s++) w[s] = f.get(b + s * strip_bytes, shared[s], i);
    UNROLL for (int r = 0; r < rows; r++)
    {
        v16 x = v_set1(a[r * lda]);
        UNROLL for (int s = 0; s < strips; s++) acc[r][s] = f.add(x, w[s], acc[r][s]);
    }
}

INLINE void tile(int rows, int strips, int64_t n, int64_t k, const act *a, int64_t lda, const char *b,
                 int64_t strip_bytes, float *c, int64_t ldc, bool accumulate, struct format f)
{
    v16 acc[TILE_ROWS][TILE_STRIPS], shared[TILE_STRIPS];
    UNROLL for (int s = 0; s < strips; s++) shared[s] = v_set1(0);
    tile_load(rows, strips, acc, c, ldc, n, accumulate);
    int64_t kk = 0;
    for (; kk + f.unit <= k; kk += f.unit, a += f.unit, b += f.unit_bytes) {
        UNROLL for (int s = 0; s < strips; s++)
        {
            if (rows <= PREFETCH_ROWS)
                for (int at = 0; at < f.unit_bytes; at += 64)
                    _mm_prefetch(b + s * strip_bytes + PREFETCH + at, _MM_HINT_T0);
            shared[s] = f.open(b + s * strip_bytes);
        }
        for (int i = 0; i < f.unit; i++)
            tile_step(rows, strips, acc, a + i, lda, b, strip_bytes, shared, i, f);
    }
    if (f.unit == 2 && kk < k) /* half a pair; formats of blocks have no tail */
        tile_step(rows, strips, acc, a, lda, b, strip_bytes, shared, 0, f);
    tile_store(rows, strips, acc, c, ldc, n);
}

/* All rows of one group of strips. */
INLINE void column(int strips, int64_t m, int64_t n, int64_t k, const act *a, int64_t lda, const char *b,
                   int64_t strip_bytes, float *c, int64_t ldc, bool accumulate, struct format f)
{
    for (; m >= TILE_ROWS; m -= TILE_ROWS, a += TILE_ROWS * lda, c += TILE_ROWS * ldc)
        tile(TILE_ROWS, strips, n, k, a, lda, b, strip_bytes, c, ldc, accumulate, f);
#define REST(r)                                                                                                        \
    if (r < TILE_ROWS && m == r)                                                                                       \
    tile(r, strips, n, k, a, lda, b, strip_bytes, c, ldc, accumulate, f)
    REST(1);
    REST(2);
    REST(3);
    REST(4);
    REST(5);
#undef REST
}

/* Blocks of k keep a group's strips in L1 while all rows pass; the chains go on through C. */
INLINE void product(int64_t m, int64_t n_valid, int64_t k, const act *a, int64_t lda, const char *b,
                    int64_t strip_bytes, float *c, int64_t ldc, bool accumulate, struct format f)
{
    for (int64_t n = 0; n < n_valid;) {
        int64_t left = n_valid - n;
        int strips = TILE_STRIPS >= 4 && left > 2 * STRIP ? 4 : TILE_STRIPS >= 2 && left > STRIP ? 2 : 1;
        if (left <= 3 * STRIP && strips == 4)
            strips = 2;
        int64_t width = strips * STRIP < left ? strips * STRIP : left;
        int64_t k_block = L1_BYTES / (strips * f.unit_bytes) * f.unit;
        if (m <= TILE_ROWS)
            k_block = k;
        const char *strip = b + n / STRIP * strip_bytes;
        for (int64_t k0 = 0; k0 < k; k0 += k_block, strip += k_block / f.unit * f.unit_bytes) {
            int64_t part = k - k0 < k_block ? k - k0 : k_block;
            bool more = accumulate || k0 > 0;
            if (strips == 4)
                column(4 <= TILE_STRIPS ? 4 : 1, m, width, part, a + k0, lda, strip, strip_bytes, c + n, ldc, more, f);
            else if (strips == 2)
                column(2 <= TILE_STRIPS ? 2 : 1, m, width, part, a + k0, lda, strip, strip_bytes, c + n, ldc, more, f);
            else
                column(1, m, width, part, a + k0, lda, strip, strip_bytes, c + n, ldc, more, f);
        }
        n += width;
    }
}

INLINE v16 open_none(const char *unit)
{
    (void)unit;
    return v_set1(0);
}
INLINE v16 get_f32(const char *unit, v16 shared, int i)
{
    (void)shared, (void)i;
    return v_load((const float *)(const void *)unit);
}
INLINE v16 get_bf16(const char *unit, v16 shared, int i)
{
    (void)shared;
    i16 pair = i_load(unit);
    return v_from_bits(i ? i_and(pair, i_set1((int)0xffff0000u)) : i_shl(pair, 16));
}
INLINE v16 get_f16(const char *unit, v16 shared, int i)
{
    (void)shared;
    return v_load_f16(unit + i * 32);
}
INLINE v16 open_q8_0(const char *unit)
{
    return v_load_f16(unit);
}
INLINE v16 get_q8_0(const char *unit, v16 shared, int i)
{
    return v_mul(shared, v_load_i8(unit + 32 + i * 16));
}

#define F32_FORMAT ((struct format){1, 64, open_none, get_f32, v_fma})
#define BF16_FORMAT ((struct format){2, 64, open_none, get_bf16, v_fma})
#define F16_FORMAT ((struct format){2, 64, open_none, get_f16, v_fma})
#define Q8_0_FORMAT ((struct format){32, 544, open_q8_0, get_q8_0, v_fma})

#ifndef __AVX512BF16__

static void gemm_f32(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const float *b, float *c,
                     int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, (const char *)b, k * 64, c, ldc, accumulate, F32_FORMAT);
}

static void gemm_bf16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                       int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, (k + k % 2) * 32, c, ldc, accumulate, BF16_FORMAT);
}

static void gemm_f16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                      int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, k * 32, c, ldc, accumulate, F16_FORMAT);
}

static void gemm_q8_0w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                       int64_t ldc, bool accumulate)
{
    product(m, n_valid, k, a, lda, b, k / 32 * 544, c, ldc, accumulate, Q8_0_FORMAT);
}

/* Without bf16 instructions both operands are widened; rows piece by piece. */
static void gemm_bf16(int64_t m, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
                      float *c, int64_t ldc, bool accumulate)
{
    enum { ROWS = 4 * TILE_ROWS, PIECE = 256 };
    float wide[ROWS * PIECE];
    for (int64_t i = 0; i < m; i += ROWS)
        for (int64_t k0 = 0; k0 < k; k0 += PIECE) {
            int64_t rows = m - i < ROWS ? m - i : ROWS, part = k - k0 < PIECE ? k - k0 : PIECE;
            for (int64_t r = 0; r < rows; r++)
                for (int64_t kk = 0; kk < part; kk++)
                    wide[r * PIECE + kk] = bf16_to_f32(a[(i + r) * lda + k0 + kk]);
            product(rows, n_valid, part, wide, PIECE, (const char *)(b + k0 * STRIP), (k + k % 2) * 32, c + i * ldc,
                    ldc, accumulate || k0 > 0, BF16_FORMAT);
        }
}

#endif

#endif
