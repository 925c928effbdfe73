/* AMX: products of many rows on a grid with block-quantized weights (blocks.h), with TDPBF16PS. It multiplies
 * bf16 numbers that lose nothing: grid · A has at most 8 significant bits, as has every code, and all partial sums of a
 * group are multiples of the grid below 2^24 of them. So a tile of sums is p · grid of blocks.h, bit by bit, in
 * whatever order the instruction adds; only c = fma(scale, p · grid, c) and its fellow for minima remain for AVX-512. A
 * grid that is NaN makes its activations NaN. Where p · grid might overflow, rows take the way of AVX-512.
 *
 *      panel   GROUPS groups of `sub` k: 16 rows each of activations, and of two strips of weights, as tiles of bf16
 *      unit    16 rows × 2 strips × a panel: 2 · GROUPS products, the even ones of strip 0, the odd ones of strip 1.
 *              Their sums go to memory three products later, and from there into c, 16 registers at a time, two units
 *              later: a tile that is stored at once waits for its product, and what was stored by tiles cannot be
 *              loaded at once.
 *
 *      tiles 0 … 3   sums, in turns      tiles 4, 5   activations, in turns      tiles 6, 7   weights of the two strips
 *
 * A last strip without a neighbour and few rows are AVX-512's (VNNI, VBMI for codebooks). */
#define MAX_STRIPS 4
#define GRID_ROWS 6
#define GRID_STRIPS 2
#define GRID_ONLY

#include "kernel/amx.h"
#include "kernel/blocks_simd.h"

enum {
    GROUPS = 4,                    /* of a panel */
    PRODUCTS = 2 * GROUPS,         /* of a unit */
    LAG = 2,                       /* units between a product and its way into c */
    ROWS = 256,                    /* that share a decoded panel of weights */
    UNITS = ROWS / TILE_HEIGHT,    /* of a pair of strips */
    BLOCK_WORDS = 16 * GRID_BLOCK, /* a tile of 16 rows of activations, or of weights */
    PANEL_WORDS = GROUPS * BLOCK_WORDS
};

/* A panel: about 30 KB of it are in use at a time, to stay in L1; the activations come from L2. */
struct tiles {
    _Alignas(64) uint16_t weight[2][PANEL_WORDS]; /* [k / 2][16 outputs][2] */
    _Alignas(64) float scale[2][GROUPS][STRIP], min[2][GROUPS][STRIP];
    _Alignas(64) float sum[LAG + 1][PRODUCTS][TILE_HEIGHT][STRIP]; /* of the last units */
    _Alignas(64) uint16_t row[UNITS][PANEL_WORDS];                 /* [k / 32][16 rows][32] */
    _Alignas(64) float row_sum[UNITS][GROUPS][TILE_HEIGHT];        /* -Σ of a group's activations */
    _Alignas(64) float row_grid[UNITS][GROUPS][TILE_HEIGHT];       /* of the coarser grid */
};

/* ---- into bf16 */

/* Numbers of at most 8 significant bits, the first of each pair in the lower word */
INLINE i16 bf16_pairs(v16 first, v16 second)
{
    return i_or(i_shr(v_bits(first), 16), v_bits(second));
}
INLINE v16 first_words(i16 x)
{
    return v_from_int(i_sra(i_shl(x, 16), 16));
}
INLINE v16 second_words(i16 x)
{
    return v_from_int(i_sra(x, 16));
}

/* What codes of up to 6 bits stand for, as bf16 */
struct bf16_tables {
    struct tables words;
    i16 value[2];
};

static struct bf16_tables bf16_tables_of(const struct block_layout *f, struct book *book)
{
    uint16_t word[64] = {0};
    int bits = block_code_bits(f) + f->high;
    for (int i = 0; i < 64 && bits < 8; i++) {
        int code = i % (1 << bits);
        word[i] = f32_to_bf16((float)(f->table ? f->table[code] : code + f->offset));
    }
    return (struct bf16_tables){tables_of(f, book), {i_load(word), i_load(word + 32)}};
}

/* The bits of a code's upper part, number i of its plane, moved to where the lower part ends. Their neighbours stay. */
INLINE i16 upper_bits(i16 x, int bits, int i, int to)
{
    return bits * i >= to ? _mm512_srli_epi16(x, (unsigned)(bits * i - to))
                          : _mm512_slli_epi16(x, (unsigned)(to - bits * i));
}

/* Numbers 2 j and 2 j + 1 of 32 as bf16: pair_words with another table. Look-ups see 5 or 6 bits of a word. */
INLINE i16 pair_bf16(struct block_format f, const struct bf16_tables *t, const struct codes *c, int j)
{
    if (f.low == 8) {
        i16 x = pair_words(f, &t->words, c, j);
        return bf16_pairs(first_words(x), second_words(x));
    }
    int bits = code_bits(f), per_high = f.high ? 16 / f.high : 1;
    i16 code = _mm512_srli_epi16(low_codes(f, c, j), (unsigned)(bits * (j % (16 / bits))));
    if (f.high) {
        i16 high = i_load(c->plane + (f.low + j / per_high) * PLANE_BYTES),
            lower = i_set1(((1 << f.low) - 1) * 0x10001);
        high = upper_bits(high, f.high, j % per_high, f.low);
        code = _mm512_ternarylogic_epi32(lower, code, high, 0xca); /* lower ? code : high */
    }
    return bits + f.high == 6 ? _mm512_permutex2var_epi16(t->value[0], code, t->value[1])
                              : _mm512_permutexvar_epi16(code, t->value[0]);
}

/* The same numbers of the pair of strips after this one are fetched meanwhile: those lie apart. */
INLINE void prefetch_strip(struct block_format f, const char *strip, int64_t k, int64_t k0, int64_t n)
{
    const char *record = strip + k0 / f.unit * record_bytes(f);
    const char *plane = planes_of(f, strip, k) + k0 / GRID_BLOCK * plane_bytes(f);
    int64_t units = (n + f.unit - 1) / f.unit;
    for (int64_t i = 0; i < units * record_bytes(f); i += 64)
        _mm_prefetch(record + i, _MM_HINT_T0);
    for (int64_t i = 0; i < n / GRID_BLOCK * plane_bytes(f); i += 64)
        _mm_prefetch(plane + i, _MM_HINT_T0);
}

/* Numbers k0 … k0 + n of a strip into a panel; what a short panel lacks is zeros. */
INLINE void decode_strip(const struct bf16_tables *tables, const char *strip, int64_t k, int64_t k0, int64_t n,
                         struct tiles *to, int at, struct block_format f)
{
    prefetch_strip(f, strip + 2 * strip_bytes_of(f, k), k, k0, n);
    struct bf16_tables t = *tables;
    uint16_t *w = to->weight[at], *end = w + GROUPS * f.sub * STRIP;
    float *scale = to->scale[at][0], *min = to->min[at][0];
    const char *plane = planes_of(f, strip, k) + k0 / GRID_BLOCK * plane_bytes(f);
    for (int64_t last = k0 + n; k0 < last; k0 += GRID_BLOCK, plane += plane_bytes(f)) {
        UNROLL for (int g = 0; g < GRID_BLOCK / f.sub; g++, scale += STRIP, min += STRIP)
        {
            struct scales s = scales_at(f, strip, plane, k0, g);
            v_store(scale, s.scale);
            if (f.has_min)
                v_store(min, s.min);
        }
        struct codes codes = codes_at(f, &t.words, strip, plane, k0);
        UNROLL for (int j = 0; j < GRID_BLOCK / 2; j++, w += 2 * STRIP) i_store(w, pair_bf16(f, &t, &codes, j));
    }
    memset(w, 0, (size_t)(end - w) * sizeof *w);
}

/* m <= ROWS rows of a panel of n numbers; what the last unit and a short panel lack is zeros. */
static void gather_rows(struct tiles *t, const struct grid_rows *a, int64_t m, int64_t n, const struct block_layout *f)
{
    int64_t blocks = n / GRID_BLOCK, panel = GROUPS * f->sub / GRID_BLOCK, units = (m + TILE_HEIGHT - 1) / TILE_HEIGHT;
    for (int64_t i = 0; i < units * TILE_HEIGHT; i++) {
        uint16_t *to = t->row[i / TILE_HEIGHT] + i % TILE_HEIGHT * GRID_BLOCK;
        const int16_t *q = a->q + i * a->ld;
        const float *grid = a->grid + i * a->ld / GRID_BLOCK, *sum = a->sum + i * a->ld / GRID_SUM;
        for (int64_t b = 0; b < panel; b++, to += BLOCK_WORDS) {
            if (i >= m || b >= blocks) {
                memset(to, 0, GRID_BLOCK * sizeof *to);
                continue;
            }
            i16 x = i_load(q + b * GRID_BLOCK);
            v16 g = v_set1(a->byte ? 1 : grid[b]);
            i_store(to, bf16_pairs(v_mul(first_words(x), g), v_mul(second_words(x), g)));
        }
        for (int64_t g = 0; g < GROUPS; g++) {
            bool none = i >= m || g * f->sub >= n;
            if (f->has_min) {
                float s = none ? 0 : f->sub == GRID_BLOCK ? sum[2 * g] + sum[2 * g + 1] : sum[g];
                t->row_sum[i / TILE_HEIGHT][g][i % TILE_HEIGHT] = -s;
            }
            if (a->byte)
                t->row_grid[i / TILE_HEIGHT][g][i % TILE_HEIGHT] = none ? 0 : grid[g * f->sub / GRID_BLOCK];
        }
    }
}

/* ---- the way into c */

/* 16 rows × 16 outputs of c, from row and column on; where fewer exist, a copy stands in for them. */
struct corner {
    float *c;
    int64_t ldc, rows, cols;
    float copy[TILE_HEIGHT][STRIP];
};

static __attribute__((noinline)) void corner_copy(struct corner *at, float *c, int64_t ldc, bool back)
{
    memset(at->copy, 0, back ? 0 : sizeof at->copy);
    for (int64_t i = 0; i < at->rows; i++)
        memcpy(back ? c + i * ldc : at->copy[i], back ? at->copy[i] : c + i * ldc, (size_t)at->cols * sizeof *c);
}

INLINE float *corner_of(const struct grid_job *d, int64_t unit, int strip)
{
    return d->c + unit * TILE_HEIGHT * d->ldc + strip * STRIP;
}

INLINE void corner_open(struct corner *at, v16 acc[TILE_HEIGHT], const struct grid_job *d, int64_t m, int64_t unit,
                        int strip)
{
    int64_t rows = m - unit * TILE_HEIGHT, cols = d->n - strip * STRIP;
    at->rows = rows < TILE_HEIGHT ? rows : TILE_HEIGHT;
    at->cols = cols < STRIP ? cols : STRIP;
    at->c = corner_of(d, unit, strip);
    at->ldc = d->ldc;
    if (at->rows < TILE_HEIGHT || at->cols < STRIP) {
        if (d->accumulate)
            corner_copy(at, at->c, at->ldc, false);
        at->c = at->copy[0];
        at->ldc = STRIP;
    }
    sums_load(TILE_HEIGHT, 1, 1, acc, at->c, at->ldc, STRIP, d->accumulate);
}

INLINE void corner_close(struct corner *at, v16 acc[TILE_HEIGHT], const struct grid_job *d, int64_t unit, int strip)
{
    sums_store(TILE_HEIGHT, 1, 1, acc, at->c, at->ldc, STRIP);
    if (at->c == at->copy[0])
        corner_copy(at, corner_of(d, unit, strip), d->ldc, true);
}

/* c = fma(scale, p · grid, c), c = fma(min, -s, c) for 16 rows. sum: p · grid or, on the coarser grid, p. */
INLINE void add_group(v16 acc[TILE_HEIGHT], const struct tiles *t, float (*sum)[STRIP], int strip, int group,
                      int64_t unit, bool has_min, bool coarse)
{
    const float *row_sum = t->row_sum[unit][group], *row_grid = t->row_grid[unit][group];
    v16 scale = v_load(t->scale[strip][group]), min = has_min ? v_load(t->min[strip][group]) : scale;
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++)
    {
        v16 p = v_load(sum[r]);
        acc[r] = v_fma(scale, coarse ? v_mul(p, v_set1(row_grid[r])) : p, acc[r]);
        if (has_min)
            acc[r] = v_fma(min, v_set1(row_sum[r]), acc[r]);
    }
}

/* ---- all rows over a panel */

/* Where product i of a unit finds its operands */
INLINE const uint16_t *weights_of(const struct tiles *t, int sub, int i)
{
    return t->weight[i % 2] + i / 2 * sub * STRIP;
}
INLINE const uint16_t *rows_of(const struct tiles *t, int64_t unit, int sub, int i)
{
    int k = i / 2 * sub;
    return t->row[unit] + k / GRID_BLOCK * BLOCK_WORDS + k % GRID_BLOCK;
}

/* A unit's place in the row of units of a panel, and the sums of it, of the one before and of the one LAG before. */
struct turn {
    int64_t unit;
    float (*now)[TILE_HEIGHT][STRIP], (*last)[TILE_HEIGHT][STRIP], (*old)[TILE_HEIGHT][STRIP];
    bool make, store, use; /* this unit's products, the last sums of the one before, c of the one LAG before */
};

/* Product i of this unit, the sums of the one three before it to memory, and what comes next of the old unit into c.
 * Tile numbers are immediates of the instructions, hence a macro. */
#define STEP(i, sum_tile, before, row_tile, weight_tile)                                                               \
    do {                                                                                                               \
        if (u.make) {                                                                                                  \
            if (i % 2 == 0)                                                                                            \
                _tile_loadd(row_tile, rows_of(t, u.unit, sub, i), TILE_WIDTH);                                         \
            _tile_loadd(weight_tile, weights_of(t, sub, i), TILE_WIDTH);                                               \
            _tile_zero(sum_tile);                                                                                      \
            _tile_dpbf16ps(sum_tile, row_tile, weight_tile);                                                           \
        }                                                                                                              \
        if (i < 3 ? u.store : u.make)                                                                                  \
            _tile_stored(before, (i < 3 ? u.last : u.now)[(i + PRODUCTS - 3) % PRODUCTS], TILE_WIDTH);                 \
        if (u.use) {                                                                                                   \
            const int strip = i / GROUPS, group = i % GROUPS;                                                          \
            if (group == 0)                                                                                            \
                corner_open(&at, acc, d, m, u.unit - LAG, strip);                                                      \
            if (group < groups)                                                                                        \
                add_group(acc, t, u.old[2 * group + strip], strip, group, u.unit - LAG, has_min, coarse);              \
            if (group == GROUPS - 1)                                                                                   \
                corner_close(&at, acc, d, u.unit - LAG, strip);                                                        \
        }                                                                                                              \
    } while (0)

INLINE void unit_steps(const int sub, const bool has_min, const bool coarse, const struct turn u, struct tiles *t,
                       const struct grid_job *d, int64_t m)
{
    int groups = (int)(d->k / sub);
    struct corner at;
    v16 acc[TILE_HEIGHT];
    UNROLL for (int r = 0; r < TILE_HEIGHT; r++) acc[r] = v_set1(0);
    STEP(0, 0, 1, 4, 6);
    STEP(1, 1, 2, 4, 7);
    STEP(2, 2, 3, 5, 6);
    STEP(3, 3, 0, 5, 7);
    STEP(4, 0, 1, 4, 6);
    STEP(5, 1, 2, 4, 7);
    STEP(6, 2, 3, 5, 6);
    STEP(7, 3, 0, 5, 7);
}

INLINE void panel_product(const int sub, const bool has_min, const bool coarse, struct tiles *t,
                          const struct grid_job *d, int64_t m)
{
    int64_t units = (m + TILE_HEIGHT - 1) / TILE_HEIGHT;
    tile_memory();
    for (int64_t unit = 0; unit < units + LAG; unit++) {
        struct turn u = {unit,
                         t->sum[unit % (LAG + 1)],
                         t->sum[(unit + LAG) % (LAG + 1)],
                         t->sum[(unit + 1) % (LAG + 1)],
                         unit < units,
                         (unit > 0) & (unit <= units),
                         unit >= LAG};
        if (u.make && u.use) { /* the usual one, without questions */
            u.make = u.store = u.use = true;
            unit_steps(sub, has_min, coarse, u, t, d, m);
        } else
            unit_steps(sub, has_min, coarse, u, t, d, m);
    }
}

typedef void panel_product_fn(struct tiles *t, const struct grid_job *d, int64_t m);

#define PANEL_PRODUCT(sub, min, coarse)                                                                                \
    static __attribute__((noinline)) void product_##sub##_##min##_##coarse(struct tiles *t, const struct grid_job *d,  \
                                                                           int64_t m)                                  \
    {                                                                                                                  \
        panel_product(sub, min, coarse, t, d, m);                                                                      \
    }
PANEL_PRODUCT(16, 0, 0)
PANEL_PRODUCT(16, 1, 0)
PANEL_PRODUCT(32, 0, 0)
PANEL_PRODUCT(32, 1, 0)
PANEL_PRODUCT(16, 0, 1)
PANEL_PRODUCT(16, 1, 1)
PANEL_PRODUCT(32, 0, 1)
PANEL_PRODUCT(32, 1, 1)

/* ---- a product */

typedef void decode_strip_fn(const struct bf16_tables *t, const char *strip, int64_t k, int64_t k0, int64_t n,
                             struct tiles *to, int at);

static void shapes(int sub)
{
    int rows[TILE_COUNT], bytes[TILE_COUNT];
    for (int i = 0; i < TILE_COUNT; i++) {
        rows[i] = i < 6 ? TILE_HEIGHT : sub / 2;
        bytes[i] = i == 4 || i == 5 ? sub * 2 : TILE_WIDTH;
    }
    tile_shapes(rows, bytes);
}

/* What a product on tiles costs beside its rows (decoding, and up to 15 rows that do not exist) against AVX-512's cost
 * a row: docs/PERFORMANCE.md, "AMX". */
static bool enough_rows(const struct block_layout *f, int64_t m)
{
    return m > (f->low < 8 && f->sub == GRID_BLOCK ? GEMM_FEW : 2 * GEMM_FEW);
}

/* From this grid on, sums of 2^24 steps may overflow. */
static bool may_overflow(const struct grid_rows *a, int64_t m, int64_t k)
{
    v16 least = v_set1(0x1p103f);
    for (int64_t i = 0; i < m; i++)
        for (int64_t b = 0, n = k / GRID_BLOCK; b < n; b += 16)
            if (v_less(least, v_load_n(a->grid + i * a->ld / GRID_BLOCK + b, n - b)))
                return true;
    return false;
}

/* n outputs, of which the last strip has a neighbour */
static void tile_product(const struct block_layout *f, int64_t m, int64_t n, const struct grid_job *job,
                         int64_t strip_bytes, decode_strip_fn *decode)
{
    static panel_product_fn *const product[2][2][2] = {
        {{product_16_0_0, product_16_1_0}, {product_32_0_0, product_32_1_0}},
        {{product_16_0_1, product_16_1_1}, {product_32_0_1, product_32_1_1}}};
    struct book book;
    struct bf16_tables tables = bf16_tables_of(f, &book);
    struct tiles t;
    const int64_t panel = GROUPS * f->sub;
    shapes(f->sub);
    for (int64_t from = 0; from < m; from += ROWS) {
        int64_t rows = m - from < ROWS ? m - from : ROWS;
        for (int64_t k0 = 0; k0 < job->k; k0 += panel) {
            struct grid_job d = *job;
            d.k = d.k - k0 < panel ? d.k - k0 : panel;
            d.accumulate = k0 > 0;
            d.a = grid_rows_from(d.a, from * d.a.ld + k0);
            d.c += from * d.ldc;
            gather_rows(&t, &d.a, rows, d.k, f);
            for (int64_t i = 0; i < n; i += 2 * STRIP, d.c += 2 * STRIP, d.strip += 2 * strip_bytes) {
                d.n = n - i < 2 * STRIP ? n - i : 2 * STRIP;
                for (int s = 0; s < 2; s++)
                    decode(&tables, d.strip + s * strip_bytes, job->k, k0, d.k, &t, s);
                product[job->a.byte != NULL][f->sub == GRID_BLOCK][f->has_min](&t, &d, rows);
            }
        }
    }
    _tile_release();
}

#define TILE_FUNCTIONS(type, name, ...)                                                                                \
    static __attribute__((noinline)) void decode_##name(const struct bf16_tables *t, const char *strip, int64_t k,     \
                                                        int64_t k0, int64_t n, struct tiles *to, int at)               \
    {                                                                                                                  \
        decode_strip(t, strip, k, k0, n, to, at, block_##name);                                                        \
    }                                                                                                                  \
    static void tiles_##name(int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b,          \
                             float *c, int64_t ldc)                                                                    \
    {                                                                                                                  \
        const struct block_layout *f = block_layout(DTYPE_##type);                                                     \
        int64_t alone = (n_valid - 1) / STRIP % 2 == 0 ? (n_valid - 1) / STRIP * STRIP : n_valid;                      \
        int64_t bytes = strip_bytes_of(block_##name, k), n = enough_rows(f, m) ? alone : 0;                            \
        if (n > 0 && !a->byte && may_overflow(a, m, k))                                                                \
            n = 0;                                                                                                     \
        struct grid_job d = {.k = k, .a = *a, .strip = b, .c = c, .ldc = ldc};                                         \
        if (n > 0)                                                                                                     \
            tile_product(f, m, n, &d, bytes, decode_##name);                                                           \
        if (n < n_valid)                                                                                               \
            grid_##name(m, n_valid - n, k, a, d.strip + n / STRIP * bytes, c + n, ldc);                                \
    }
BLOCK_FORMATS(TILE_FUNCTIONS)

#define SET_TILES(type, name, ...) k->gemm_grid[DTYPE_##type] = tiles_##name;

void kernels_init_amxblocks(struct kernels *k)
{
    set_grid(k);
    BLOCK_FORMATS(SET_TILES)
}
