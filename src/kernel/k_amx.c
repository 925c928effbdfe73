/* AMX: the bf16 product with TDPBF16PS. A packed strip is a column of B tiles: 16 pairs of k × 16 outputs every 32 k.
 * One product of tiles adds to each sum the chain over its even k plus the chain over its odd k; steps of 32 follow
 * in order. So a result depends on k alone: single rows take this path too, and neither rows nor strips meet in a sum.
 *
 *      tile 6   tile 7      B: two strips
 *      tile 0   tile 1      tile 4: A, first 16 rows
 *      tile 2   tile 3      tile 5: A, second 16 rows
 *
 * Tiles are configured at the start of a call and released at its end: a thread that leaves carries no tile state. */
#include <string.h>

#include "kernel/amx.h"
#include "kernel/kernel.h"

enum {
    GROUP = TILE_HEIGHT, /* rows of a tile */
    STEP = 32,           /* k of a tile */
    ROW_BYTES = TILE_WIDTH,
    K_BLOCK = 512 /* two strips of it stay in L1 while all rows pass */
};

/* Tiles for row groups of `first` and `second` rows; 0: the group does not exist. */
static void configure(int first, int second)
{
    const int rows[TILE_COUNT] = {first, first, second, second, first, second, STEP / 2, STEP / 2};
    const int row_bytes[TILE_COUNT] = {ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES,
                                       ROW_BYTES, ROW_BYTES, ROW_BYTES, ROW_BYTES};
    tile_shapes(rows, row_bytes);
}

/* Up to 32 rows and two strips of a product. */
struct block {
    int first, second, strips; /* rows of the two groups */
    int64_t n, k;              /* n <= strips * 16 */
    const uint16_t *a, *b;
    int64_t lda, strip;
    float *c;
    int64_t ldc;
    bool accumulate;
};

/* op(sum's tile, row group, strip, A's tile, B's tile) for each sum that exists. Tile numbers are immediates of the
 * instructions, hence macros. */
#define EACH_SUM(op)                                                                                                   \
    do {                                                                                                               \
        op(0, 0, 0, 4, 6);                                                                                             \
        if (p->strips == 2)                                                                                            \
            op(1, 0, 1, 4, 7);                                                                                         \
        if (p->second)                                                                                                 \
            op(2, 1, 0, 5, 6);                                                                                         \
        if (p->second && p->strips == 2)                                                                               \
            op(3, 1, 1, 5, 7);                                                                                         \
    } while (0)
#define SUM_ZERO(tile, i, j, at, bt) _tile_zero(tile)
#define SUM_LOAD(tile, i, j, at, bt) _tile_loadd(tile, sums + (i)*GROUP * ld + (j)*STRIP, (size_t)ld * sizeof *sums)
#define SUM_STORE(tile, i, j, at, bt) _tile_stored(tile, sums + (i)*GROUP * ld + (j)*STRIP, (size_t)ld * sizeof *sums)
#define SUM_ADD(tile, i, j, at, bt) _tile_dpbf16ps(tile, at, bt)

/* Sums += 32 k of A (two row groups, rows a_bytes apart) × B (two strips) */
#define ADD_STEP(a0, a1, a_bytes, b0, b1)                                                                              \
    do {                                                                                                               \
        _tile_loadd(6, b0, ROW_BYTES);                                                                                 \
        _tile_loadd(4, a0, a_bytes);                                                                                   \
        if (p->strips == 2)                                                                                            \
            _tile_loadd(7, b1, ROW_BYTES);                                                                             \
        if (p->second)                                                                                                 \
            _tile_loadd(5, a1, a_bytes);                                                                               \
        EACH_SUM(SUM_ADD);                                                                                             \
    } while (0)

/* The last step when k is not a multiple of 32: copies with zeros behind the end. */
static void add_tail(const struct block *p, int64_t k0)
{
    uint16_t a[2 * GROUP][STEP] = {{0}}, b[2][STEP / 2][STRIP][2] = {{{{0}}}};
    size_t even = (size_t)(p->k - k0 + p->k % 2);
    for (int i = 0; i < p->first + p->second; i++)
        memcpy(a[i], p->a + i * p->lda + k0, even * sizeof **a);
    for (int s = 0; s < p->strips; s++)
        memcpy(b[s], p->b + s * p->strip + k0 * STRIP, even * STRIP * sizeof ****b);
    tile_memory();
    ADD_STEP(a[0], a[GROUP], ROW_BYTES, b[0], b[1]);
}

static void multiply(const struct block *p)
{
    float edge[2 * GROUP][2 * STRIP]; /* stands in for C where a strip is not whole */
    bool whole = p->n == p->strips * STRIP;
    int64_t ld = whole ? p->ldc : 2 * STRIP, rows = p->first + p->second;
    float *sums = whole ? p->c : edge[0];
    if (!whole && p->accumulate) {
        memset(edge, 0, sizeof edge);
        for (int i = 0; i < rows; i++)
            memcpy(edge[i], p->c + i * p->ldc, (size_t)p->n * sizeof *p->c);
    }
    tile_memory();
    if (p->accumulate)
        EACH_SUM(SUM_LOAD);
    else
        EACH_SUM(SUM_ZERO);

    const uint16_t *a = p->a, *b = p->b;
    int64_t k0 = 0;
    for (; k0 + STEP <= p->k; k0 += STEP, a += STEP, b += STEP * STRIP)
        ADD_STEP(a, a + GROUP * p->lda, (size_t)p->lda * sizeof *a, b, b + p->strip);
    if (k0 < p->k)
        add_tail(p, k0);

    EACH_SUM(SUM_STORE);
    for (int i = 0; !whole && i < rows; i++)
        memcpy(p->c + i * p->ldc, edge[i], (size_t)p->n * sizeof *p->c);
}

/* Rows from … from + rows in blocks of 32 or, at the end, one smaller block; all have the same tile shapes. */
static void multiply_rows(int64_t from, int64_t rows, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda,
                          const uint16_t *b, float *c, int64_t ldc, bool accumulate)
{
    int height = rows < 2 * GROUP ? (int)rows : 2 * GROUP;
    struct block p = {.first = height < GROUP ? height : GROUP, .lda = lda, .strip = (k + k % 2) * STRIP, .ldc = ldc};
    p.second = height - p.first;
    configure(p.first, p.second);
    int64_t k_block = rows <= height ? k : K_BLOCK;
    for (int64_t n = 0; n < n_valid; n += 2 * STRIP) {
        p.n = n_valid - n < 2 * STRIP ? n_valid - n : 2 * STRIP;
        p.strips = p.n > STRIP ? 2 : 1;
        for (int64_t k0 = 0; k0 < k; k0 += k_block) {
            p.k = k - k0 < k_block ? k - k0 : k_block;
            p.b = b + n * (k + k % 2) + k0 * STRIP;
            p.accumulate = accumulate || k0 > 0;
            for (int64_t i = from; i < from + rows; i += height) {
                p.a = a + i * lda + k0;
                p.c = c + i * ldc + n;
                multiply(&p);
            }
        }
    }
}

static void gemm_bf16(int64_t m, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
                      float *c, int64_t ldc, bool accumulate)
{
    int64_t full = m / (2 * GROUP) * (2 * GROUP);
    if (full)
        multiply_rows(0, full, n_valid, k, a, lda, b, c, ldc, accumulate);
    if (full < m)
        multiply_rows(full, m - full, n_valid, k, a, lda, b, c, ldc, accumulate);
    _tile_release();
}

void kernels_init_amx(struct kernels *k)
{
    k->isa = ISA_AMX;
    k->bf16_native = true;
    k->gemm_bf16 = gemm_bf16;
}
