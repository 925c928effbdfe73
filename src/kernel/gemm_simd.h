/* Products over simd16.h: tiles of up to TILE_ROWS rows × MAX_STRIPS strips whose sums stay in registers. The
 * including file defines both numbers for its register file (6 rows; 1 or 4 strips). A tile takes, per k, one vector of
 * each strip and one broadcast per row. Rows and strips of a tile do not mix, so every cut of m and n gives the same
 * bytes. */
#ifndef CADRE_KERNEL_GEMM_SIMD_H
#define CADRE_KERNEL_GEMM_SIMD_H

#include "kernel/kernel.h"
#include "kernel/tile_simd.h"

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

/* acc += a[·, 0] × number i of each strip's unit */
INLINE void tile_step(int rows, int strips, v16 acc[][MAX_STRIPS], const act *a, int64_t lda, const char *b,
                      int64_t strip_bytes, const v16 shared[], int i, struct format f)
{
    v16 w[MAX_STRIPS];
    UNROLL for (int s = 0; s < strips; s++) w[s] = f.get(b + s * strip_bytes, shared[s], i);
    UNROLL for (int r = 0; r < rows; r++)
    {
        v16 x = v_set1(a[r * lda]);
        UNROLL for (int s = 0; s < strips; s++) acc[r][s] = f.add(x, w[s], acc[r][s]);
    }
}

/* One tile: what its function takes. Tiles are functions of their own, so that each has all registers for itself. */
struct tile {
    int64_t n, k;
    const act *a;
    int64_t lda;
    const char *b;
    int64_t strip_bytes;
    float *c;
    int64_t ldc;
    bool accumulate;
};
typedef void tile_fn(const struct tile *t);

INLINE void tile_run(int rows, int strips, const struct tile *t, struct format f)
{
    v16 acc[TILE_ROWS][MAX_STRIPS], shared[MAX_STRIPS];
    UNROLL for (int s = 0; s < strips; s++) shared[s] = v_set1(0);
    sums_load(rows, strips, MAX_STRIPS, acc[0], t->c, t->ldc, t->n, t->accumulate);
    const act *a = t->a;
    const char *b = t->b;
    int64_t lda = t->lda, strip_bytes = t->strip_bytes, units = t->k / f.unit;
    for (int64_t u = 0; u < units; u++, a += f.unit, b += f.unit_bytes) {
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
    if (f.unit == 2 && t->k % 2) /* half a pair; formats of blocks have no tail */
        tile_step(rows, strips, acc, a, lda, b, strip_bytes, shared, 0, f);
    sums_store(rows, strips, MAX_STRIPS, acc[0], t->c, t->ldc, t->n);
}

/* The tiles of a format: name_tiles[rows - 1][0, 1, 2 for 1, 2, 4 strips]. */
#define TILE(name, rows, strips)                                                                                       \
    static __attribute__((noinline)) void name##_##rows##x##strips(const struct tile *t)                               \
    {                                                                                                                  \
        tile_run(rows, strips, t, name);                                                                               \
    }
#define TILES(name, rows) TILE(name, rows, 1) TILE_2(name, rows) TILE_4(name, rows)
#if MAX_STRIPS == 4
#define TILE_2(name, rows) TILE(name, rows, 2)
#define TILE_4(name, rows) TILE(name, rows, 4)
#define TILE_ROW(name, rows)                                                                                           \
    {                                                                                                                  \
        name##_##rows##x1, name##_##rows##x2, name##_##rows##x4                                                        \
    }
#else
#define TILE_2(name, rows)
#define TILE_4(name, rows)
#define TILE_ROW(name, rows)                                                                                           \
    {                                                                                                                  \
        name##_##rows##x1                                                                                              \
    }
#endif
/* clang-format off */
#define FORMAT(name, ...)                                                                                              \
    static const struct format name = __VA_ARGS__;                                                                     \
    TILES(name, 1) TILES(name, 2) TILES(name, 3) TILES(name, 4) TILES(name, 5) TILES(name, 6)                          \
    static tile_fn *const name##_tiles[TILE_ROWS][3] = {TILE_ROW(name, 1), TILE_ROW(name, 2), TILE_ROW(name, 3),       \
                                                        TILE_ROW(name, 4), TILE_ROW(name, 5), TILE_ROW(name, 6)};
/* clang-format on */

/* Blocks of k keep a group's strips in L1 while all rows pass; the chains go on through C. t holds the whole product;
 * t->n and t->k change on the way. */
static void product(int64_t m, int64_t n_valid, struct tile t, int unit, int unit_bytes, tile_fn *const tiles[][3])
{
    struct tile whole = t;
    for (int64_t n = 0; n < n_valid; n += t.n) {
        int64_t left = n_valid - n;
        int strips = MAX_STRIPS == 4 && left > 3 * STRIP ? 4 : MAX_STRIPS == 4 && left > STRIP ? 2 : 1;
        t.n = strips * STRIP < left ? strips * STRIP : left;
        int64_t k_block = m <= TILE_ROWS ? whole.k : L1_BYTES / (strips * unit_bytes) * unit;
        for (int64_t k0 = 0; k0 < whole.k; k0 += k_block) {
            t.k = whole.k - k0 < k_block ? whole.k - k0 : k_block;
            t.b = whole.b + n / STRIP * whole.strip_bytes + k0 / unit * unit_bytes;
            t.accumulate = whole.accumulate || k0 > 0;
            for (int64_t i = 0; i < m; i += TILE_ROWS) {
                int64_t rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
                t.a = whole.a + i * t.lda + k0;
                t.c = whole.c + i * t.ldc + n;
                tiles[rows - 1][strips / 2](&t);
            }
        }
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

#ifndef __AVX512BF16__ /* that level has its own bf16 product only */

FORMAT(f32_format, {1, 64, open_none, get_f32, v_fma})
FORMAT(bf16_format, {2, 64, open_none, get_bf16, v_fma})
FORMAT(f16_format, {2, 64, open_none, get_f16, v_fma})

static void gemm_f32(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const float *b, float *c,
                     int64_t ldc, bool accumulate)
{
    struct tile t = {n_valid, k, a, lda, (const char *)b, k * 64, c, ldc, accumulate};
    product(m, n_valid, t, 1, 64, f32_format_tiles);
}

static void gemm_bf16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                       int64_t ldc, bool accumulate)
{
    struct tile t = {n_valid, k, a, lda, b, (k + k % 2) * 32, c, ldc, accumulate};
    product(m, n_valid, t, 2, 64, bf16_format_tiles);
}

static void gemm_f16w(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                      int64_t ldc, bool accumulate)
{
    struct tile t = {n_valid, k, a, lda, b, k * 32, c, ldc, accumulate};
    product(m, n_valid, t, 2, 64, f16_format_tiles);
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
            struct tile t = {n_valid,
                             part,
                             wide,
                             PIECE,
                             (const char *)(b + k0 * STRIP),
                             (k + k % 2) * 32,
                             c + i * ldc,
                             ldc,
                             accumulate || k0 > 0};
            product(rows, n_valid, t, 2, 64, bf16_format_tiles);
        }
}

#endif

#endif
