#include "kernel/block_codes.h"

#include <math.h>
#include <string.h>

#include "kernel/kernel.h"
#include "tensor/format/scales.h"

/* ---- scales from header fields */

static void scale_half(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    (void)byte, (void)g;
    *scale = f16_to_f32(half[0]);
    *min = 0;
}
static void scale_half_min(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    (void)byte, (void)g;
    *scale = f16_to_f32(half[0]);
    *min = -f16_to_f32(half[1]);
}
static void scale_e8m0(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    (void)half, (void)g;
    *scale = e8m0_half(byte[0]);
    *min = 0;
}
static void scale_q2_k(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    *scale = f16_to_f32(half[0]) * (float)(byte[g] & 15);
    *min = f16_to_f32(half[1]) * (float)(byte[g] >> 4);
}
static void scale_q3_k(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    *scale = f16_to_f32(half[0]) * (float)q3_k_scale(byte, g);
    *min = 0;
}
static void scale_q4_k(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    scale_min(byte, g, scale, min);
    *scale *= f16_to_f32(half[0]);
    *min *= f16_to_f32(half[1]);
}
static void scale_q6_k(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    *scale = f16_to_f32(half[0]) * (float)(int8_t)byte[g];
    *min = 0;
}
static void scale_iq4_xs(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min)
{
    *scale = f16_to_f32(half[0]) * (float)iq4_xs_scale(half[1], byte, g);
    *min = 0;
}

/* ---- the table */

#define ROW(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, codes, scales)       \
    [DTYPE_##type] = {unit, sub,   half,   n_half,  byte,          n_byte,        low,                                 \
                      high, table, offset, has_min, codes_##codes, scale_##scales},
static const struct block_layout layouts[DTYPE_COUNT] = {BLOCK_FORMATS(ROW)};

const struct block_layout *block_layout(enum dtype type)
{
    return layouts[type].codes ? &layouts[type] : NULL;
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

static void put_record(const struct block_layout *f, unsigned char *record, int64_t lane, const unsigned char *block)
{
    for (int i = 0; i < f->n_half; i++)
        memcpy(record + ((size_t)i * STRIP + (size_t)lane) * 2, block + f->half + 2 * i, 2);
    unsigned char *bytes = record + (size_t)f->n_half * STRIP * 2 + lane;
    for (int i = 0; i < f->n_byte; i++)
        bytes[i * STRIP] = block[f->byte + i];
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
        put_record(f, strip, lane, row);
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
    uint16_t half[2] = {0};
    uint8_t byte[16] = {0};
    for (int i = 0; i < f->n_half; i++)
        half[i] = (uint16_t)le16(record + (i * STRIP + lane) * 2);
    for (int i = 0; i < f->n_byte; i++)
        byte[i] = record[(2 * f->n_half + i) * STRIP + lane];
    for (int j = 0; j < GRID_BLOCK; j++)
        out->v[j] = value(f, plane, lane, j);
    for (int i = 0; i < GRID_BLOCK / f->sub; i++)
        f->scale(half, byte, (int)(k0 % f->unit) / f->sub + i, &out->scale[i], &out->min[i]);
}

void block_unpack(enum dtype type, const void *strip, int64_t k, int64_t k0, int64_t n, real *dst)
{
    const struct block_layout *f = block_layout(type);
    struct block b;
    for (int64_t at = 0; at < n; at += GRID_BLOCK)
        for (int lane = 0; lane < STRIP; lane++) {
            read_block(f, strip, k, k0 + at, lane, &b);
            for (int j = 0; j < GRID_BLOCK; j++) {
                float x = b.scale[j / f->sub] * (float)b.v[j];
                dst[(at + j) * STRIP + lane] = f->has_min ? x - b.min[j / f->sub] : x;
            }
        }
}

#ifndef CADRE_F64
void block_to_grid(const float *x, int64_t n, int16_t *q, float *grid, float *sum)
{
    for (int64_t b = 0; b < n / GRID_BLOCK; b++, x += GRID_BLOCK, q += GRID_BLOCK, sum += 2) {
        float a[GRID_BLOCK];
        uint32_t top = 0; /* magnitudes are ordered as their bits */
        for (int j = 0; j < GRID_BLOCK; j++) {
            a[j] = bf16_to_f32(f32_to_bf16(x[j]));
            uint32_t bits;
            memcpy(&bits, &a[j], sizeof bits);
            top = (bits & 0x7fffffff) > top ? bits & 0x7fffffff : top;
        }
        struct grid_step s = grid_step(top);
        grid[b] = s.grid;
        int32_t total[2] = {0};
        for (int j = 0; j < GRID_BLOCK; j++) {
            float scaled = top < GRID_NO_NUMBER ? a[j] * s.inverse : 0;
            q[j] = (int16_t)nearbyintf(scaled);
            total[j / GRID_SUM] += q[j];
        }
        for (int i = 0; i < 2; i++)
            sum[i] = (float)total[i] * s.grid;
    }
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
