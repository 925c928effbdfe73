#include "kernel/block_codes.h"

#include <math.h>
#include <string.h>

#include "kernel/kernel.h"
#include "tensor/format/scales.h"

/* ---- scales from header fields */

static void scale_half(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    *scale = f16_to_f32(b->half[0]);
    *min = 0;
}
static void scale_half_min(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    *scale = f16_to_f32(b->half[0]);
    *min = -f16_to_f32(b->half[1]);
}
static void scale_e8m0(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    *scale = e8m0_half(b->byte[0]);
    *min = 0;
}
static void scale_ue4m3(const struct lane_block *b, int g, float *scale, float *min)
{
    *scale = ue4m3_half(b->byte[g]);
    *min = 0;
}
static void scale_f32(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    uint32_t bits = b->half[0] | (uint32_t)b->half[1] << 16;
    memcpy(scale, &bits, sizeof bits);
    *min = 0;
}
static void scale_q2_k(const struct lane_block *b, int g, float *scale, float *min)
{
    *scale = f16_to_f32(b->half[0]) * (float)(b->byte[g] & 15);
    *min = f16_to_f32(b->half[1]) * (float)(b->byte[g] >> 4);
}
static void scale_q3_k(const struct lane_block *b, int g, float *scale, float *min)
{
    *scale = f16_to_f32(b->half[0]) * (float)q3_k_scale(b->byte, g);
    *min = 0;
}
static void scale_q4_k(const struct lane_block *b, int g, float *scale, float *min)
{
    scale_min(b->byte, g, scale, min);
    *scale *= f16_to_f32(b->half[0]);
    *min *= f16_to_f32(b->half[1]);
}
static void scale_q6_k(const struct lane_block *b, int g, float *scale, float *min)
{
    *scale = f16_to_f32(b->half[0]) * (float)(int8_t)b->byte[g];
    *min = 0;
}
static void scale_iq4_xs(const struct lane_block *b, int g, float *scale, float *min)
{
    *scale = f16_to_f32(b->half[0]) * (float)iq4_xs_scale(b->half[1], b->byte, g);
    *min = 0;
}

/* ---- codebook formats */

/* d (1/2 + s) · factor */
static void scale_iq(const struct lane_block *b, uint32_t s, float factor, float *scale, float *min)
{
    *scale = f16_to_f32(b->half[0]) * (0.5f + (float)s) * factor;
    *min = 0;
}
/* d (2 s + 1) / 8 */
static void scale_iq1(uint16_t d, uint32_t s, float *scale, float *min)
{
    *scale = f16_to_f32(d) * (float)(2 * s + 1) * 0.125f;
    *min = 0;
}
static void scale_iq1_s(const struct lane_block *b, int g, float *scale, float *min)
{
    scale_iq1(b->half[0], b->half[1 + g] >> 12 & 7u, scale, min);
}
static void scale_iq1_m(const struct lane_block *b, int g, float *scale, float *min)
{
    uint32_t d = 0;
    for (int i = 0; i < 4; i++)
        d |= (uint32_t)(b->half[i] >> 12) << 4 * i;
    scale_iq1((uint16_t)d, b->half[g / 4] >> g % 4 * 3 & 7u, scale, min);
}
static void scale_iq2_xxs(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    scale_iq(b, b->word[1] >> 28, 0.25f, scale, min);
}
static void scale_iq2_xs(const struct lane_block *b, int g, float *scale, float *min)
{
    scale_iq(b, b->byte[g / 2] >> g % 2 * 4 & 15u, 0.25f, scale, min);
}
static void scale_iq2_s(const struct lane_block *b, int g, float *scale, float *min)
{
    scale_iq(b, b->byte[8 + g / 2] >> g % 2 * 4 & 15u, 0.25f, scale, min);
}
static void scale_iq3_xxs(const struct lane_block *b, int g, float *scale, float *min)
{
    (void)g;
    scale_iq(b, b->word[2] >> 28, 0.5f, scale, min);
}
static void scale_iq3_s(const struct lane_block *b, int g, float *scale, float *min)
{
    scale_iq(b, b->byte[8 + g / 2] >> g % 2 * 4 & 15u, 2, scale, min); /* d (1 + 2 s) */
}

/* Signs of sevens with the eighth of each, which makes their number even: bits 28 + l from the parity of bits 4 i + l.
 */
static uint32_t with_eighth(uint32_t word)
{
    uint32_t z = word & 0x0fffffff, f = z ^ z >> 16;
    f ^= f >> 8;
    f ^= f >> 4;
    return z | f << 28;
}
static uint32_t signs_at(uint32_t signs, int l)
{
    return signs << (3 - l) & 0x88888888;
}
/* Base-4 digit t of eight: 2 i + p from bits 4 i + 2 p to nibble i of word p. */
static uint32_t digits_of_8(uint32_t entry)
{
    return (entry & 0x3333) | (entry << 14 & 0x33330000);
}
/* Two entries of nibbles 0, 2, 1, 3 */
static uint32_t digits_of_4(uint32_t first, uint32_t second)
{
    return (first & 0xff) | (second & 0xff) << 8 | (first & 0xff00) << 8 | (second & 0xff00) << 16;
}

static uint32_t trit(uint32_t word, int t)
{
    static const uint16_t power[10] = {1, 3, 9, 27, 81, 243, 729, 2187, 6561, 19683};
    return (word * power[t] & 0xffff) * 3 >> 16;
}
static void expand_tq1_0(const struct lane_block *b, uint32_t code[4])
{
    memset(code, 0, 4 * sizeof *code);
    for (int j = 0; j < 16; j++)
        for (int p = 0; p < 2; p++) {
            uint32_t word = b->word[0] >> 16 * p & 0xffff;
            uint32_t digit = j < 10   ? trit(word, j)
                             : j < 15 ? trit(b->half[1 + 2 * (j - 10) + p], b->g)
                                      : trit(b->half[1 + 2 * (b->g % 5) + p], 8 + b->g / 5);
            code[j / 4] |= digit << (16 * p + 4 * (j % 4));
        }
}
static void expand_iq1_s(const struct lane_block *b, uint32_t code[4])
{
    uint32_t h = b->half[1 + b->g];
    for (int l = 0; l < 4; l++) {
        uint32_t rank = (b->word[0] >> 8 * l & 255) | (h >> 3 * l & 7) << 8;
        code[l] = digits_of_8(iq1s_codes[rank]) | (h >> 15 ? 0x88888888 : 0);
    }
}
static void expand_iq1_m(const struct lane_block *b, uint32_t code[4])
{
    for (int l = 0; l < 4; l++) {
        uint32_t h = (uint32_t)b->byte[2 * b->g + l / 2] >> l % 2 * 4, rank = (b->word[0] >> 8 * l & 255) | (h & 7)
                                                                                                                << 8;
        code[l] = digits_of_8(iq1s_codes[rank]) | (h >> 3 & 1 ? 0x88888888 : 0);
    }
}
static void expand_iq2_xxs(const struct lane_block *b, uint32_t code[4])
{
    uint32_t signs = with_eighth(b->word[1]);
    for (int l = 0; l < 4; l++)
        code[l] = digits_of_8(iq2xxs_codes[b->word[0] >> 8 * l & 255]) | signs_at(signs, l);
}
static void expand_iq2_xs(const struct lane_block *b, uint32_t code[4])
{
    uint32_t signs = with_eighth(b->word[1]);
    for (int l = 0; l < 4; l++) {
        uint32_t rank = (b->word[0] >> 8 * l & 255) | (b->word[1] >> (28 + l) & 1) << 8;
        code[l] = digits_of_8(iq2xs_codes[rank]) | signs_at(signs, l);
    }
}
static void expand_iq2_s(const struct lane_block *b, uint32_t code[4])
{
    for (int l = 0; l < 4; l++) {
        uint32_t rank = (b->word[0] >> 8 * l & 255) | (b->byte[b->g] >> 2 * l & 3u) << 8;
        code[l] = digits_of_8(iq2s_codes[rank]) | signs_at(b->word[1], l);
    }
}
static void expand_iq3_xxs(const struct lane_block *b, uint32_t code[4])
{
    uint32_t signs = with_eighth(b->word[2]);
    for (int l = 0; l < 4; l++) {
        uint32_t two = b->word[l / 2] >> l % 2 * 16;
        code[l] = digits_of_4(iq3xxs_codes[two & 255], iq3xxs_codes[two >> 8 & 255]) | signs_at(signs, l);
    }
}
static void expand_iq3_s(const struct lane_block *b, uint32_t code[4])
{
    for (int l = 0; l < 4; l++) {
        uint32_t two = b->word[l / 2] >> l % 2 * 16, ninth = b->byte[b->g] >> 2 * l;
        uint32_t first = (two & 255) | (ninth & 1) << 8, second = (two >> 8 & 255) | (ninth & 2) << 7;
        code[l] = digits_of_4(iq3s_codes[first], iq3s_codes[second]) | signs_at(b->word[2], l);
    }
}

/* ---- the table */

#define FIELDS(unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min)                               \
    unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min
#define CODES(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, get, scales)       \
    [DTYPE_##type] = {FIELDS(unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min),                \
                      .codes = codes_##get, .scale = scale_##scales},
#define CODEBOOK(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, get, scales)    \
    [DTYPE_##type] = {FIELDS(unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min),                \
                      .lay = codes_##get, .expand = expand_##name, .scale = scale_##scales, BOOK_##type},
#define BOOK(table, numbers) .book = table, .entries = sizeof table / sizeof *table - 1, .digits = numbers
#define BOOK_TQ1_0 .book = NULL
#define BOOK_IQ1_S BOOK(iq1s_codes, 8)
#define BOOK_IQ1_M BOOK(iq1s_codes, 8)
#define BOOK_IQ2_XXS BOOK(iq2xxs_codes, 8)
#define BOOK_IQ2_XS BOOK(iq2xs_codes, 8)
#define BOOK_IQ2_S BOOK(iq2s_codes, 8)
#define BOOK_IQ3_XXS BOOK(iq3xxs_codes, 4)
#define BOOK_IQ3_S BOOK(iq3s_codes, 4)
#define FLOATS(type, name, unit, sub, half, n_half, byte, n_byte, low, high, number, offset, has_min, get, scales)     \
    [DTYPE_##type] = {FIELDS(unit, sub, half, n_half, byte, n_byte, low, high, NULL, offset, has_min),                 \
                      .codes = codes_##get, .scale = scale_##scales, .element = DTYPE_##number},
static const struct block_layout layouts[DTYPE_COUNT] = {CODE_FORMATS(CODES) CODEBOOK_FORMATS(CODEBOOK)
                                                             FLOAT_FORMATS(FLOATS)};

const struct block_layout *block_layout(enum dtype type)
{
    return layouts[type].unit ? &layouts[type] : NULL;
}

/* ---- packing */

static uint64_t load8(const void *p)
{
    uint64_t x;
    memcpy(&x, p, sizeof x);
    return x;
}

static size_t record_bytes(const struct block_layout *f)
{
    return (size_t)(2 * f->n_half + f->n_byte) * STRIP;
}

static size_t plane_bytes(const struct block_layout *f)
{
    return (size_t)(f->low + f->high) * PLANE_BYTES;
}

static void put_record(const struct block_layout *f, unsigned char *record, int64_t lane, const void *half,
                       const unsigned char *byte)
{
    for (int i = 0; i < f->n_half; i++)
        memcpy(record + ((size_t)i * STRIP + (size_t)lane) * 2, (const char *)half + 2 * i, 2);
    unsigned char *bytes = record + (size_t)f->n_half * STRIP * 2 + lane;
    for (int i = 0; i < f->n_byte; i++)
        bytes[i * STRIP] = byte[i];
}

/* Four codes of b bits, one in each 16 bits of x, side by side. */
static uint32_t close_up(uint64_t x, int b)
{
    uint64_t mask = (UINT64_C(1) << 2 * b) - 1;
    x |= x >> (16 - b);
    return (uint32_t)((x & mask) | (x >> 32 & mask) << 2 * b);
}

static void put_plane(unsigned char *plane, int64_t lane, const uint8_t code[GRID_BLOCK], int shift, int b)
{
    uint64_t mask = UINT64_C(0x0001000100010001) * ((UINT64_C(1) << b) - 1);
    uint32_t even[8] = {0}, odd[8] = {0}; /* 16-bit words of the plane */
    for (int q = 0; q < 4; q++) {
        uint64_t x = load8(code + 8 * q);
        uint32_t e = close_up(x >> shift & mask, b), o = close_up(x >> (shift + 8) & mask, b);
        int at = 4 * b * q; /* bit of the stream of even (or odd) codes */
        even[at / 16] |= (e & 0xffff) << at % 16;
        odd[at / 16] |= (o & 0xffff) << at % 16;
        if (b == 8) {
            even[at / 16 + 1] = e >> 16;
            odd[at / 16 + 1] = o >> 16;
        }
    }
    for (int v = 0; v < b; v++) {
        uint32_t both = even[v] | odd[v] << 16;
        memcpy(plane + v * PLANE_BYTES + lane * 4, &both, sizeof both);
    }
}

static void put_row(enum dtype type, unsigned char *strip, int64_t lane, const unsigned char *row, int64_t k)
{
    const struct block_layout *f = block_layout(type);
    unsigned char *plane = strip + record_bytes(f) * (size_t)(k / f->unit);
    for (int64_t u = 0; u < k / f->unit; u++, row += dtype_info(type)->bytes, strip += record_bytes(f)) {
        if (f->lay) {
            struct laid_block b;
            f->lay(row, &b);
            put_record(f, strip, lane, b.half, b.byte);
            for (int g = 0; g < f->unit / GRID_BLOCK; g++, plane += plane_bytes(f))
                for (int v = 0; v < f->low; v++)
                    memcpy(plane + v * PLANE_BYTES + lane * 4, &b.word[g][v], 4);
            continue;
        }
        put_record(f, strip, lane, row + f->half, row + f->byte);
        for (int g = 0; g < f->unit / GRID_BLOCK; g++, plane += plane_bytes(f)) {
            uint8_t code[GRID_BLOCK];
            f->codes(row, g, code);
            put_plane(plane, lane, code, 0, f->low);
            if (f->high)
                put_plane(plane + f->low * PLANE_BYTES, lane, code, f->low, f->high);
        }
    }
}

void block_put_strip(enum dtype type, unsigned char *strip, const unsigned char *rows, int64_t n, int64_t k)
{
    size_t row_bytes = (size_t)(k / dtype_info(type)->block) * dtype_info(type)->bytes;
    for (int64_t i = 0; i < n; i++)
        put_row(type, strip, i, rows + (size_t)i * row_bytes, k);
}

/* ---- reading */

static unsigned plane_code(const unsigned char *plane, int b, int lane, int k)
{
    int per_lane = 32 / b, v = k / per_lane, i = k % per_lane / 2, p = k % 2;
    return le16(plane + v * PLANE_BYTES + lane * 4 + p * 2) >> b * i & ((1u << b) - 1);
}

static int value(const struct block_layout *f, const unsigned char *plane, int lane, int k)
{
    unsigned low = plane_code(plane, f->low, lane, k);
    if (f->low == 8)
        return (int8_t)low;
    unsigned high = f->high ? plane_code(plane + f->low * PLANE_BYTES, f->high, lane, k) << f->low : 0;
    return f->table ? f->table[low] : (int)(low | high) + f->offset;
}

static void read_lane(const struct block_layout *f, const unsigned char *record, const unsigned char *plane, int lane,
                      struct lane_block *b)
{
    for (int i = 0; i < f->n_half; i++)
        b->half[i] = (uint16_t)le16(record + (i * STRIP + lane) * 2);
    for (int i = 0; i < f->n_byte; i++)
        b->byte[i] = record[(2 * f->n_half + i) * STRIP + lane];
    for (int v = 0; f->lay && v < f->low; v++)
        b->word[v] = le32(plane + v * PLANE_BYTES + lane * 4);
}

/* 32 numbers of one output: integers, and the scales of their one or two groups. */
struct block {
    int v[GRID_BLOCK];
    float scale[2], min[2];
};

static void read_block(const struct block_layout *f, const unsigned char *strip, int64_t k, int64_t k0, int lane,
                       struct block *out)
{
    const unsigned char *record = strip + record_bytes(f) * (size_t)(k0 / f->unit);
    const unsigned char *plane =
        strip + record_bytes(f) * (size_t)(k / f->unit) + plane_bytes(f) * (size_t)(k0 / GRID_BLOCK);
    struct lane_block b = {.g = (int)(k0 % f->unit) / GRID_BLOCK};
    read_lane(f, record, plane, lane, &b);
    if (f->expand) {
        uint32_t code[4];
        f->expand(&b, code);
        for (int j = 0; j < GRID_BLOCK; j++)
            out->v[j] = f->table[code[j / 8] >> (j % 2 * 16 + j % 8 / 2 * 4) & 15];
    } else {
        for (int j = 0; j < GRID_BLOCK; j++)
            out->v[j] = value(f, plane, lane, j);
    }
    for (int i = 0; i < GRID_BLOCK / f->sub; i++)
        f->scale(&b, (int)(k0 % f->unit) / f->sub + i, &out->scale[i], &out->min[i]);
}

/* Number j of a block */
static float number(const struct block_layout *f, const struct block *b, int j)
{
    float x = (float)b->v[j];
    if (f->element) {
        uint8_t code = (uint8_t)b->v[j];
        dtype_info(f->element)->decode(&code, &x, 1);
    }
    return x;
}

void block_unpack(enum dtype type, const void *strip, int64_t k, int64_t k0, int64_t n, real *dst)
{
    const struct block_layout *f = block_layout(type);
    struct block b;
    for (int64_t at = 0; at < n; at += GRID_BLOCK)
        for (int lane = 0; lane < STRIP; lane++) {
            read_block(f, strip, k, k0 + at, lane, &b);
            for (int j = 0; j < GRID_BLOCK; j++) {
                float x = b.scale[j / f->sub] * number(f, &b, j);
                dst[(at + j) * STRIP + lane] = f->has_min ? x - b.min[j / f->sub] : x;
            }
        }
}

#ifndef CADRE_F64
/* bits of the largest magnitude: magnitudes are ordered as their bits */
static uint32_t largest(const float a[GRID_BLOCK])
{
    uint32_t top = 0;
    for (int j = 0; j < GRID_BLOCK; j++) {
        uint32_t bits;
        memcpy(&bits, &a[j], sizeof bits);
        top = (bits & 0x7fffffff) > top ? bits & 0x7fffffff : top;
    }
    return top;
}

static void put_bytes(const int16_t q[GRID_BLOCK], struct byte_block *b)
{
    static const int order[] = {ORDER_OF_8};
    for (int j = 0; j < GRID_BLOCK; j++)
        b->q[j] = (int8_t)q[j / 8 * 8 + order[j % 8]];
}

void block_to_grid(const float *x, int64_t n, struct grid_rows to)
{
    for (int64_t b = 0; b < n / GRID_BLOCK; b++, x += GRID_BLOCK) {
        int16_t *q = to.q + b * GRID_BLOCK;
        float a[GRID_BLOCK], magnitude;
        for (int j = 0; j < GRID_BLOCK; j++)
            a[j] = to.byte ? x[j] : bf16_to_f32(f32_to_bf16(x[j]));
        uint32_t top = largest(a);
        memcpy(&magnitude, &top, sizeof magnitude);
        struct grid_step s = to.byte ? byte_step(magnitude) : grid_step(top);
        bool number = !isnan(s.grid);
        to.grid[b] = s.grid;
        int32_t total[2] = {0};
        for (int j = 0; j < GRID_BLOCK; j++) {
            float scaled = number ? a[j] * s.inverse : 0;
            q[j] = (int16_t)nearbyintf(scaled);
            total[j / GRID_SUM] += q[j];
        }
        for (int i = 0; i < 2; i++)
            to.sum[2 * b + i] = (float)total[i] * s.grid;
        if (to.byte) {
            to.byte[b] = byte_block(s.grid, total, to.sum + 2 * b);
            put_bytes(q, &to.byte[b]);
        }
    }
}

/* The parts of n numbers on a grid, each aligned to 64 bytes. */
struct grid_parts {
    size_t q, grid, sum, byte;
};
static size_t line(size_t bytes)
{
    return (bytes + 63) / 64 * 64;
}
static struct grid_parts grid_parts(enum act act, int64_t n)
{
    size_t blocks = (size_t)n / GRID_BLOCK;
    return (struct grid_parts){line((size_t)n * sizeof(int16_t)), line(blocks * sizeof(float)),
                               line(2 * blocks * sizeof(float)),
                               act == ACT_INT8 ? blocks * sizeof(struct byte_block) : 0};
}

size_t grid_rows_bytes(enum act act, int64_t n)
{
    struct grid_parts p = grid_parts(act, n);
    return p.q + p.grid + p.sum + p.byte;
}

struct grid_rows grid_rows_in(void *memory, enum act act, int64_t n, int64_t ld)
{
    struct grid_parts p = grid_parts(act, n);
    char *q = memory, *grid = q + p.q, *sum = grid + p.grid, *byte = sum + p.sum;
    return (struct grid_rows){.q = (void *)q,
                              .grid = (void *)grid,
                              .sum = (void *)sum,
                              .byte = act == ACT_INT8 ? (void *)byte : NULL,
                              .ld = ld};
}

void block_product(enum dtype type, int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b,
                   float *c, int64_t ldc)
{
    const struct block_layout *f = block_layout(type);
    size_t strip_bytes = record_bytes(f) * (size_t)(k / f->unit) + plane_bytes(f) * (size_t)(k / GRID_BLOCK);
    struct block w;
    for (int64_t n = 0; n < n_valid; n++) {
        const unsigned char *strip = (const unsigned char *)b + (size_t)(n / STRIP) * strip_bytes;
        for (int64_t i = 0; i < m; i++)
            c[i * ldc + n] = 0;
        for (int64_t k0 = 0; k0 < k; k0 += GRID_BLOCK) {
            read_block(f, strip, k, k0, (int)(n % STRIP), &w);
            for (int64_t i = 0; i < m; i++)
                for (int j = 0; j < GRID_BLOCK; j += f->sub) {
                    int32_t p = 0;
                    for (int t = j; t < j + f->sub; t++)
                        p += a->q[i * a->ld + k0 + t] * w.v[t];
                    float *to = &c[i * ldc + n], grid = a->grid[(i * a->ld + k0) / GRID_BLOCK];
                    *to = fmaf(w.scale[j / f->sub], (float)p * grid, *to);
                    const float *s = &a->sum[(i * a->ld + k0 + j) / GRID_SUM];
                    if (f->has_min)
                        *to = fmaf(-w.min[j / f->sub], f->sub == GRID_BLOCK ? s[0] + s[1] : s[0], *to);
                }
        }
    }
}
#endif
