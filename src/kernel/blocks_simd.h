/* Block-quantized products over simd16.h; blocks.c is the definition, blocks.h says how strips lie. Included once by
 * each level's file, which says how large a tile its registers hold: GRID_ROWS, GRID_STRIPS and MAX_STRIPS. GRID_ONLY:
 * products on the grid alone; CODEBOOKS_ONLY: codebook formats alone.
 *
 * Up to FEW rows, codes become integers (or floats) in registers. For more rows a panel of PANEL_K numbers of k of one
 * or two strips is unpacked into the first-level cache, and all rows pass over it. */
#ifndef CADRE_KERNEL_BLOCKS_SIMD_H
#define CADRE_KERNEL_BLOCKS_SIMD_H

#ifdef __AVX512VBMI__
#include "kernel/codebooks_vbmi.h"
#else
#include "kernel/codebooks_simd.h"
#endif
#include "kernel/block_codes.h"
#include "kernel/scales_simd.h"

enum { PANEL_K = 256, AHEAD = 4096 /* bytes that few rows prefetch ahead */ };

/* ---- a format as constants of its functions */

/* Eight-bit floats from the upper bytes of lanes. */
typedef v16 floats_fn(i16 x);
/* `exponent` bits of exponent: the bits moved to their place in an f32, with its bias. Numbers below `least` come out
 * as least/2 + x/2 there, as f32 has a leading one. */
INLINE v16 small_floats(i16 x, int exponent, float least)
{
    int bias = 127 - ((1 << (exponent - 1)) - 1);
    i16 bits = i_add(i_shr(i_and(x, i_set1(0x7f000000)), 8 - exponent), i_set1(bias << 23));
    v16 f = v_from_bits(bits), one = v_set1(least);
    return v_select(v_less(f, one), v_sub(v_add(f, f), one), f);
}
INLINE v16 with_sign(v16 f, i16 x)
{
    return v_from_bits(i_or(v_bits(f), i_and(x, i_set1((int)0x80000000u))));
}
INLINE v16 floats_F8_E4M3(i16 x)
{
    v16 f = small_floats(x, 4, 0x1p-6f);
    return with_sign(v_select(v_less(v_set1(448), f), v_from_bits(i_set1(0x7fc00000)), f), x); /* 480: NaN */
}
INLINE v16 floats_F8_E5M2(i16 x)
{
    v16 f = small_floats(x, 5, 0x1p-14f);
    v16 none = v_from_bits(i_or(v_bits(f), i_set1(0x7f800000)));
    return with_sign(v_select(v_less(v_set1(57344), f), none, f), x); /* 2^16 and above: infinity, NaN */
}

struct block_format {
    int unit, sub, n_half, n_byte, low, high;
    bool has_min;
    scales_fn *scales;
    expand_fn *expand; /* codebook formats */
    floats_fn *floats; /* float formats */
};
INLINE int code_bits(struct block_format f)
{
    return f.expand ? 4 : f.low;
}

/* What codes of the planes stand for; a number is the sum of both. */
struct tables {
    i16 low, high;   /* words */
    v16 lowf, highf; /* floats */
    const struct book *book;
#ifdef BYTE_PRODUCTS
    i16 bytes; /* v + 128, of nibbles */
#endif
};

#ifndef __AVX512VBMI__
struct book {
    char none;
};
#endif

/* Whether codes are nibbles that a table of bytes gives whole. */
INLINE bool is_nibbles(struct block_format f)
{
    return !f.floats && code_bits(f) == 4 && !f.high;
}

static struct tables tables_of(const struct block_layout *f, struct book *book)
{
    int8_t low[16] = {0}, high[16] = {0};
    float lowf[16], highf[16];
    int bits = block_code_bits(f);
    for (int i = 0; i < 16 && bits < 8; i++) {
        int code = i % (1 << bits);
        low[i] = (int8_t)(f->table ? f->table[code] : code + f->offset);
        high[i] = (int8_t)(i % (1 << f->high) << f->low);
    }
    for (int i = 0; i < 16; i++) {
        lowf[i] = low[i];
        highf[i] = high[i];
    }
#ifdef __AVX512VBMI__
    open_book(book, f->book, f->entries, f->digits);
#endif
    struct tables t = {
        .low = w_table(low), .high = w_table(high), .lowf = v_load(lowf), .highf = v_load(highf), .book = book};
#ifdef BYTE_PRODUCTS
    t.bytes = b_table(low);
#endif
    return t;
}

INLINE int record_bytes(struct block_format f)
{
    return (2 * f.n_half + f.n_byte) * STRIP;
}
INLINE int plane_bytes(struct block_format f)
{
    return (f.low + f.high) * PLANE_BYTES;
}
INLINE int64_t strip_bytes_of(struct block_format f, int64_t k)
{
    return k / f.unit * record_bytes(f) + k / GRID_BLOCK * plane_bytes(f);
}
INLINE const char *planes_of(struct block_format f, const char *strip, int64_t k)
{
    return strip + k / f.unit * record_bytes(f);
}
INLINE const char *record_of(struct block_format f, const char *strip, int64_t k0)
{
    return strip + k0 / f.unit * record_bytes(f);
}
/* Scales of group i of the 32 numbers at k0, whose planes are at `plane`. */
INLINE struct scales scales_at(struct block_format f, const char *strip, const char *plane, int64_t k0, int i)
{
    const char *half = record_of(f, strip, k0);
    return f.scales(half, half + f.n_half * STRIP * 2, plane, (int)(k0 % f.unit) / f.sub + i);
}

/* Where the codes of 32 numbers are: in their planes or, for codebook formats, in registers. */
struct codes {
    const char *plane;
    i16 code[4];
};
INLINE struct codes codes_at(struct block_format f, const struct tables *t, const char *strip, const char *plane,
                             int64_t k0)
{
    struct codes c;
    c.plane = plane;
    const char *half = record_of(f, strip, k0);
    if (f.expand)
        f.expand(c.code, t->book, half, half + f.n_half * STRIP * 2, plane, (int)(k0 % f.unit) / GRID_BLOCK);
    return c;
}
/* Codes j, in bits from code_bits · (j % (16 / code_bits)) of both words on. */
INLINE i16 low_codes(struct block_format f, const struct codes *c, int j)
{
    int v = j / (16 / code_bits(f));
    return f.expand ? c->code[v] : i_load(c->plane + v * PLANE_BYTES);
}

/* Numbers 2 j and 2 j + 1 of 32. */
INLINE i16 pair_words(struct block_format f, const struct tables *t, const struct codes *c, int j)
{
    if (f.low == 8) {
        i16 x = i_load(c->plane + j / 2 * PLANE_BYTES);
        return j % 2 ? w_high_bytes(x) : w_low_bytes(x);
    }
    int bits = code_bits(f), per_high = f.high ? 16 / f.high : 1;
    i16 x = w_codes(low_codes(f, c, j), bits, j % (16 / bits), t->low);
    if (f.high)
        x = w_add(x, w_codes(i_load(c->plane + (f.low + j / per_high) * PLANE_BYTES), f.high, j % per_high, t->high));
    return x;
}

/* Number 2 j + p of 32 as floats. */
INLINE v16 number_floats(struct block_format f, const struct tables *t, const struct codes *c, int j, int p)
{
    if (f.floats)
        return f.floats(i_shl(i_load(c->plane + j / 2 * PLANE_BYTES), 24 - 8 * (2 * p + j % 2)));
    if (f.low == 8)
        return v_from_int(i_sra(i_shl(i_load(c->plane + j / 2 * PLANE_BYTES), 24 - 8 * (2 * p + j % 2)), 24));
#ifdef __AVX512F__
    int bits = code_bits(f), per_high = f.high ? 16 / f.high : 1;
    v16 v = _mm512_permutexvar_ps(i_shr(low_codes(f, c, j), 16 * p + bits * (j % (16 / bits))), t->lowf);
    if (f.high) {
        i16 y = i_shr(i_load(c->plane + (f.low + j / per_high) * PLANE_BYTES), 16 * p + f.high * (j % per_high));
        v = v_add(v, _mm512_permutexvar_ps(y, t->highf));
    }
    return v;
#else
    i16 x = pair_words(f, t, c, j);
    return v_from_int(i_sra(p ? x : i_shl(x, 16), 16));
#endif
}

INLINE void prefetch_planes(struct block_format f, const char *plane)
{
    for (int i = 0; i < f.low + f.high; i++)
        _mm_prefetch(plane + AHEAD + i * PLANE_BYTES, _MM_HINT_T0);
}

/* ---- activations on a grid */

#ifndef CODEBOOKS_ONLY
INLINE uint32_t largest_bits(const v16 a[2])
{
    i16 magnitude = i_set1(0x7fffffff);
    int t0 = i_largest(i_and(v_bits(a[0]), magnitude)), t1 = i_largest(i_and(v_bits(a[1]), magnitude));
    return (uint32_t)(t0 > t1 ? t0 : t1);
}
/* q and totals of block b, as integers of the step */
INLINE void put_block(struct grid_rows to, int64_t b, const v16 a[2], struct grid_step s, int total[2])
{
    bool number = !isnan(s.grid);
    to.grid[b] = s.grid;
    for (int h = 0; h < 2; h++) {
        i16 word = number ? v_round(v_mul(a[h], v_set1(s.inverse))) : i_set1(0);
        i_store_words(to.q + b * GRID_BLOCK + 16 * h, word);
        total[h] = i_total(word);
        to.sum[2 * b + h] = (float)total[h] * s.grid;
    }
}
INLINE void put_bytes(struct grid_rows to, int64_t b, const int total[2])
{
    const __m256i *q = (const __m256i *)(const void *)(to.q + b * GRID_BLOCK);
    __m256i byte = _mm256_packs_epi16(_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1));
    __m128i order = _mm_setr_epi8(ORDER_OF_8, ORDER_OF_8);
    order = _mm_or_si128(order, _mm_set_epi64x(0x0808080808080808, 0));
    byte = _mm256_shuffle_epi8(_mm256_permute4x64_epi64(byte, 0xd8), _mm256_broadcastsi128_si256(order));
    to.byte[b] = byte_block(to.grid[b], total, to.sum + 2 * b);
    _mm256_storeu_si256((__m256i *)(void *)to.byte[b].q, byte);
}
static void to_grid(const float *x, int64_t n, struct grid_rows to)
{
    int total[2];
    for (int64_t b = 0; b < n / GRID_BLOCK; b++, x += GRID_BLOCK) {
        v16 a[2];
        for (int h = 0; h < 2; h++)
            a[h] = to.byte ? v_load(x + 16 * h) : v_from_bits(i_shl(v_bf16(v_load(x + 16 * h)), 16));
        uint32_t top = largest_bits(a);
        float magnitude;
        memcpy(&magnitude, &top, sizeof magnitude);
        put_block(to, b, a, to.byte ? byte_step(magnitude) : grid_step(top), total);
        if (to.byte)
            put_bytes(to, b, total);
    }
}
#endif

/* One product of a format's tiles: what its functions take. */
struct grid_job {
    const struct tables *t;
    int64_t n, k;
    struct grid_rows a; /* from the first row of the tile on */
    const float *x;     /* f32 activations instead */
    int64_t ldx;
    const char *strip;
    float *c;
    int64_t ldc;
    bool accumulate;
};

INLINE void finish_group(v16 *c, struct scales s, bool has_min, i16 p, float grid, const float *sum, int sub)
{
    *c = v_fma(s.scale, v_mul(v_from_int(p), v_set1(grid)), *c);
    if (has_min)
        *c = v_fma(s.min, v_set1(-(sub == GRID_BLOCK ? sum[0] + sum[1] : sum[0])), *c);
}

/* `rows` rows against one strip. Sums are integers: those of one row are taken in parts, so that one product need not
 * wait for the one before. */
INLINE void few_grid(int rows, const struct grid_job *job, struct block_format f)
{
    const int parts = GEMM_FEW / rows;
    struct grid_job d = *job;
    struct tables t = *d.t;
    v16 acc[GEMM_FEW];
    UNROLL for (int r = 0; r < rows; r++) acc[r] = v_set1(0);
    const char *plane = planes_of(f, d.strip, d.k);
    for (int64_t k0 = 0; k0 < d.k; k0 += GRID_BLOCK, plane += plane_bytes(f)) {
        prefetch_planes(f, plane);
        struct codes codes = codes_at(f, &t, d.strip, plane, k0);
        UNROLL for (int g = 0; g < GRID_BLOCK / f.sub; g++)
        {
            i16 p[GEMM_FEW];
            struct scales s = scales_at(f, d.strip, plane, k0, g);
            UNROLL for (int i = 0; i < rows * parts; i++) p[i] = i_set1(0);
            UNROLL for (int j = 0; j < f.sub / 2; j++)
            {
                i16 w = pair_words(f, &t, &codes, g * f.sub / 2 + j);
                UNROLL for (int r = 0; r < rows; r++)
                {
                    i16 x = i_all(d.a.q + r * d.a.ld + k0 + g * f.sub + 2 * j);
                    p[r * parts + j % parts] = w_dot(p[r * parts + j % parts], x, w);
                }
            }
            UNROLL for (int r = 0; r < rows; r++)
            {
                UNROLL for (int i = 1; i < parts; i++) p[r * parts] = i_add(p[r * parts], p[r * parts + i]);
                int64_t at = r * d.a.ld + k0;
                finish_group(&acc[r], s, f.has_min, p[r * parts], d.a.grid[at / GRID_BLOCK],
                             d.a.sum + at / GRID_SUM + g, f.sub);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) v_put(d.c + r * d.ldc, acc[r], d.n);
}

#ifdef BYTE_PRODUCTS

/* … from a block of bytes, of its group g */
INLINE void finish_bytes(v16 *c, struct scales s, bool has_min, i16 p, const struct byte_block *b, int g, int sub)
{
    *c = v_fma(s.scale, v_mul(v_from_int(p), v_set1(b->grid)), *c);
    if (has_min)
        *c = v_fma(s.min, v_set1(b->minus[sub == GRID_BLOCK ? 2 : g]), *c);
}

/* … on the coarser grid, of nibbles */
INLINE void few_bytes(int rows, const struct grid_job *job, struct block_format f)
{
    const int parts = GEMM_FEW / rows;
    struct grid_job d = *job;
    struct tables t = *d.t;
    const int64_t ld = d.a.ld / GRID_BLOCK;
    v16 acc[GEMM_FEW];
    UNROLL for (int r = 0; r < rows; r++) acc[r] = v_set1(0);
    const struct byte_block *b = d.a.byte;
    const char *plane = planes_of(f, d.strip, d.k);
    for (int64_t k0 = 0; k0 < d.k; k0 += GRID_BLOCK, plane += plane_bytes(f), b++) {
        prefetch_planes(f, plane);
        struct codes codes = codes_at(f, &t, d.strip, plane, k0);
        UNROLL for (int g = 0; g < GRID_BLOCK / f.sub; g++)
        {
            i16 p[GEMM_FEW];
            struct scales s = scales_at(f, d.strip, plane, k0, g);
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int i = 0; i < parts; i++) p[r * parts + i] =
                i ? i_set1(0) : i_set1(b[r * ld].bias[f.sub == GRID_BLOCK ? 2 : g]);
            UNROLL for (int j = g * f.sub; j < (g + 1) * f.sub; j += 4)
            {
                i16 w = b_codes(low_codes(f, &codes, j / 8 * 4), j / 4 % 2, t.bytes);
                UNROLL for (int r = 0; r < rows; r++)
                {
                    i16 *to = &p[r * parts + j / 4 % parts];
                    *to = b_dot(*to, w, i_all(b[r * ld].q + j));
                }
            }
            UNROLL for (int r = 0; r < rows; r++)
            {
                UNROLL for (int i = 1; i < parts; i++) p[r * parts] = i_add(p[r * parts], p[r * parts + i]);
                finish_bytes(&acc[r], s, f.has_min, p[r * parts], b + r * ld, g, f.sub);
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++) v_put(d.c + r * d.ldc, acc[r], d.n);
}

#endif

/* `rows` rows of f32 against some strips: the sums of gemm_f32 with w = scale v (- min) */
INLINE void few_f32(int rows, int strips, const struct grid_job *job, struct block_format f)
{
    struct grid_job d = *job;
    struct tables t = *d.t;
    int64_t strip_bytes = strip_bytes_of(f, d.k);
    v16 acc[GEMM_FEW][MAX_STRIPS];
    sums_load(rows, strips, MAX_STRIPS, acc[0], d.c, d.ldc, d.n, d.accumulate);
    const char *plane = planes_of(f, d.strip, d.k);
    for (int64_t k0 = 0; k0 < d.k; k0 += GRID_BLOCK, plane += plane_bytes(f)) {
        struct codes codes[MAX_STRIPS];
        UNROLL for (int i = 0; i < strips; i++)
        {
            prefetch_planes(f, plane + i * strip_bytes);
            codes[i] = codes_at(f, &t, d.strip + i * strip_bytes, plane + i * strip_bytes, k0);
        }
        for (int g = 0; g < GRID_BLOCK / f.sub; g++) {
            struct scales s[MAX_STRIPS];
            UNROLL for (int i = 0; i < strips; i++) s[i] =
                scales_at(f, d.strip + i * strip_bytes, plane + i * strip_bytes, k0, g);
            UNROLL for (int j = 0; j < f.sub; j++)
            {
                v16 w[MAX_STRIPS];
                UNROLL for (int i = 0; i < strips; i++)
                {
                    int at = g * f.sub + j;
                    w[i] = v_mul(s[i].scale, number_floats(f, &t, &codes[i], at / 2, at % 2));
                    if (f.has_min)
                        w[i] = v_sub(w[i], s[i].min);
                }
                UNROLL for (int r = 0; r < rows; r++)
                {
                    v16 x = v_set1(d.x[r * d.ldx + k0 + g * f.sub + j]);
                    UNROLL for (int i = 0; i < strips; i++) acc[r][i] = v_fma(x, w[i], acc[r][i]);
                }
            }
        }
    }
    sums_store(rows, strips, MAX_STRIPS, acc[0], d.c, d.ldc, d.n);
}

INLINE void unpack_floats(const struct block_layout *layout, const char *strip, int64_t k, int64_t k0, int64_t n,
                          float *dst, struct block_format f)
{
    struct book book;
    struct tables t = tables_of(layout, &book);
    const char *plane = planes_of(f, strip, k) + k0 / GRID_BLOCK * plane_bytes(f);
    for (int64_t end = k0 + n; k0 < end; k0 += GRID_BLOCK, plane += plane_bytes(f)) {
        struct codes codes = codes_at(f, &t, strip, plane, k0);
        for (int g = 0; g < GRID_BLOCK / f.sub; g++) {
            struct scales s = scales_at(f, strip, plane, k0, g);
            UNROLL for (int j = 0; j < f.sub; j++, dst += STRIP)
            {
                int at = g * f.sub + j;
                v16 w = v_mul(s.scale, number_floats(f, &t, &codes, at / 2, at % 2));
                v_store(dst, f.has_min ? v_sub(w, s.min) : w);
            }
        }
    }
}

/* ---- many rows: a panel of unpacked strips */

struct panel {
    _Alignas(64) int16_t w[GRID_STRIPS][PANEL_K * STRIP]; /* [k / 2][16][2]; of bytes: [k / 4][16][4] */
    _Alignas(64) float scale[GRID_STRIPS][PANEL_K];       /* [k / sub][16] */
    _Alignas(64) float min[GRID_STRIPS][PANEL_K];
};

/* 32 numbers as unsigned bytes v + 128, each 8 in ORDER_OF_8 */
INLINE int16_t *unpack_bytes(int16_t *w, const struct tables *t, const struct codes *codes, struct block_format f)
{
#ifdef BYTE_PRODUCTS
    UNROLL for (int j = 0; j < GRID_BLOCK / 2; j += 4) UNROLL for (int i = 0; i < 2; i++, w += 2 * STRIP)
        i_store(w, is_nibbles(f) ? b_codes(low_codes(f, codes, j), i, t->bytes)
                                 : b_join(pair_words(f, t, codes, j + i), pair_words(f, t, codes, j + i + 2)));
#else
    (void)t, (void)codes, (void)f;
#endif
    return w;
}

INLINE void unpack_panel(const struct tables *tables, const char *strip, int64_t k, int64_t k0, int64_t n,
                         struct panel *to, int at, bool bytes, struct block_format f)
{
    struct tables t = *tables;
    int16_t *w = to->w[at];
    float *scale = to->scale[at], *min = to->min[at];
    const char *plane = planes_of(f, strip, k) + k0 / GRID_BLOCK * plane_bytes(f);
    for (int64_t end = k0 + n; k0 < end; k0 += GRID_BLOCK, plane += plane_bytes(f)) {
        UNROLL for (int g = 0; g < GRID_BLOCK / f.sub; g++, scale += STRIP, min += STRIP)
        {
            struct scales s = scales_at(f, strip, plane, k0, g);
            v_store(scale, s.scale);
            if (f.has_min)
                v_store(min, s.min);
        }
        struct codes codes = codes_at(f, &t, strip, plane, k0);
        if (bytes) {
            w = unpack_bytes(w, &t, &codes, f);
            continue;
        }
        UNROLL for (int j = 0; j < GRID_BLOCK / 2; j++, w += 2 * STRIP) i_store(w, pair_words(f, &t, &codes, j));
    }
}

/* A tile over a panel; k: its numbers. The sums of earlier panels are in c. */
INLINE void panel_words(int rows, int strips, int sub, bool has_min, const struct panel *p, const struct grid_job *d)
{
    v16 acc[GRID_ROWS][GRID_STRIPS];
    sums_load(rows, strips, GRID_STRIPS, acc[0], d->c, d->ldc, d->n, d->accumulate);
    const int16_t *q = d->a.q;
    int64_t ld = d->a.ld;
    for (int64_t at = 0; at < d->k; at += sub, q += sub) {
        i16 sum[GRID_ROWS][GRID_STRIPS];
        UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) sum[r][s] = i_set1(0);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC unroll 4
#else
#pragma unroll 4
#endif
        for (int j = 0; j < sub; j += 2) {
            i16 w[GRID_STRIPS];
            UNROLL for (int s = 0; s < strips; s++) w[s] = i_load(p->w[s] + (at + j) * STRIP);
            UNROLL for (int r = 0; r < rows; r++)
            {
                i16 x = i_all(q + r * ld + j);
                UNROLL for (int s = 0; s < strips; s++) sum[r][s] = w_dot(sum[r][s], x, w[s]);
            }
        }
        UNROLL for (int s = 0; s < strips; s++)
        {
            struct scales sc = {v_load(p->scale[s] + at / sub * STRIP), v_load(p->min[s] + at / sub * STRIP)};
            UNROLL for (int r = 0; r < rows; r++)
                finish_group(&acc[r][s], sc, has_min, sum[r][s], d->a.grid[(r * ld + at) / GRID_BLOCK],
                             d->a.sum + (r * ld + at) / GRID_SUM, sub);
        }
    }
    sums_store(rows, strips, GRID_STRIPS, acc[0], d->c, d->ldc, d->n);
}

#ifdef BYTE_PRODUCTS
INLINE void panel_bytes(int rows, int strips, int sub, bool has_min, const struct panel *p, const struct grid_job *d)
{
    v16 acc[GRID_ROWS][GRID_STRIPS];
    sums_load(rows, strips, GRID_STRIPS, acc[0], d->c, d->ldc, d->n, d->accumulate);
    const struct byte_block *b = d->a.byte, *end = b + d->k / GRID_BLOCK;
    const int64_t ld = d->a.ld / GRID_BLOCK;
    const int16_t *w = p->w[0];
    const float *scale = p->scale[0], *min = p->min[0];
    for (; b < end; b++)
        UNROLL for (int g = 0; g < GRID_BLOCK / sub; g++, scale += STRIP, min += STRIP)
        {
            i16 sum[GRID_ROWS][GRID_STRIPS];
            UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) sum[r][s] =
                i_set1(b[r * ld].bias[sub == GRID_BLOCK ? 2 : g]);
            UNROLL for (int j = 0; j < sub; j += 4, w += 2 * STRIP)
            {
                i16 v[GRID_STRIPS];
                UNROLL for (int s = 0; s < strips; s++) v[s] = i_load(w + s * PANEL_K * STRIP);
                UNROLL for (int r = 0; r < rows; r++)
                {
                    i16 x = i_all(b[r * ld].q + g * sub + j);
                    UNROLL for (int s = 0; s < strips; s++) sum[r][s] = b_dot(sum[r][s], v[s], x);
                }
            }
            UNROLL for (int s = 0; s < strips; s++)
            {
                struct scales sc = {v_load(scale + s * PANEL_K), v_load(min + s * PANEL_K)};
                UNROLL for (int r = 0; r < rows; r++)
                    finish_bytes(&acc[r][s], sc, has_min, sum[r][s], b + r * ld, g, sub);
            }
        }
    sums_store(rows, strips, GRID_STRIPS, acc[0], d->c, d->ldc, d->n);
}
#endif

typedef void panel_fn(const struct panel *p, const struct grid_job *d);

#define PANEL_TILE(rows, strips, sub, min, kind)                                                                       \
    static __attribute__((noinline)) void panel_##rows##x##strips##_##sub##_##min##_##kind(const struct panel *p,      \
                                                                                           const struct grid_job *d)   \
    {                                                                                                                  \
        panel_##kind(rows, strips, sub, min, p, d);                                                                    \
    }
#if GRID_STRIPS == 2
#define PANEL_ROW(rows, ...) PANEL_TILE(rows, 1, __VA_ARGS__) PANEL_TILE(rows, 2, __VA_ARGS__)
#define PANEL_NAMES(rows, sub, min, kind)                                                                              \
    {                                                                                                                  \
        panel_##rows##x1_##sub##_##min##_##kind, panel_##rows##x2_##sub##_##min##_##kind                               \
    }
#else
#define PANEL_ROW(rows, ...) PANEL_TILE(rows, 1, __VA_ARGS__)
#define PANEL_NAMES(rows, sub, min, kind)                                                                              \
    {                                                                                                                  \
        panel_##rows##x1_##sub##_##min##_##kind                                                                        \
    }
#endif
#if GRID_ROWS == 6
#define PANEL_LAST(...) PANEL_ROW(6, __VA_ARGS__)
#define PANEL_LAST_NAMES(...) PANEL_NAMES(6, __VA_ARGS__)
#else
#define PANEL_LAST(...)
#define PANEL_LAST_NAMES(...)                                                                                          \
    {                                                                                                                  \
        0                                                                                                              \
    }
#endif
#define PANEL_KIND(...)                                                                                                \
    PANEL_ROW(1, __VA_ARGS__) PANEL_ROW(2, __VA_ARGS__) PANEL_ROW(4, __VA_ARGS__) PANEL_LAST(__VA_ARGS__)
#define PANEL_KIND_NAMES(...)                                                                                          \
    {                                                                                                                  \
        PANEL_NAMES(1, __VA_ARGS__), PANEL_NAMES(2, __VA_ARGS__), PANEL_NAMES(4, __VA_ARGS__),                         \
            PANEL_LAST_NAMES(__VA_ARGS__)                                                                              \
    }
#define PANEL_KINDS(kind)                                                                                              \
    PANEL_KIND(16, 0, kind) PANEL_KIND(16, 1, kind) PANEL_KIND(32, 0, kind) PANEL_KIND(32, 1, kind)
/* [sub 32][has_min][1, 2, 4, 6 rows][strips - 1] */
#define PANEL_KINDS_NAMES(kind)                                                                                        \
    {                                                                                                                  \
        {PANEL_KIND_NAMES(16, 0, kind), PANEL_KIND_NAMES(16, 1, kind)},                                                \
        {                                                                                                              \
            PANEL_KIND_NAMES(32, 0, kind), PANEL_KIND_NAMES(32, 1, kind)                                               \
        }                                                                                                              \
    }
PANEL_KINDS(words)
#ifdef BYTE_PRODUCTS
PANEL_KINDS(bytes)
static panel_fn *const panel_tiles[2][2][2][4][GRID_STRIPS] = {PANEL_KINDS_NAMES(words), PANEL_KINDS_NAMES(bytes)};
#else
static panel_fn *const panel_tiles[1][2][2][4][GRID_STRIPS] = {PANEL_KINDS_NAMES(words)};
#endif

static void advance_rows(struct grid_job *d, int64_t rows)
{
    d->a = grid_rows_from(d->a, rows * d->a.ld);
    d->x = d->x ? d->x + rows * d->ldx : NULL;
    d->c += rows * d->ldc;
}

/* All rows over a panel whose first row, panel of k and outputs d describes. */
static void panel_rows(int64_t m, int strips, const struct panel *p, struct grid_job d,
                       panel_fn *const tiles[][GRID_STRIPS])
{
    while (m > 0) {
        int i = GRID_ROWS == 6 && m >= 6 ? 3 : m >= 4 ? 2 : m >= 2 ? 1 : 0, rows = i < 3 ? 1 << i : 6;
        tiles[i][strips - 1](p, &d);
        m -= rows;
        advance_rows(&d, rows);
    }
}

/* ---- the functions of a format */

typedef void grid_fn(const struct grid_job *job);
typedef void unpack_panel_fn(const struct tables *t, const char *strip, int64_t k, int64_t k0, int64_t n,
                             struct panel *to, int at, bool bytes);

/* fn: of 1, 2 and 4 rows. One row is the usual case and works on the caller's job: copying it costs as much as a block.
 */
static void few_rows(int64_t m, const struct grid_job *job, grid_fn *const fn[3])
{
    if (m == 1) {
        fn[0](job);
        return;
    }
    struct grid_job d = *job;
    while (m > 0) {
        int i = m >= 4 ? 2 : m >= 2 ? 1 : 0;
        fn[i](&d);
        advance_rows(&d, 1 << i);
        m -= 1 << i;
    }
}

static void grid_product(const struct block_layout *f, int64_t m, int64_t n_valid, struct grid_job d,
                         int64_t strip_bytes, grid_fn *const few[3], unpack_panel_fn *unpack)
{
    struct book book;
    struct tables t = tables_of(f, &book);
    struct panel p;
    d.t = &t;
    int64_t k = d.k;
#ifdef BYTE_PRODUCTS
    const bool bytes = d.a.byte;
#else
    const bool bytes = false;
#endif
    for (int64_t n = 0, step; n < n_valid; n += step, d.strip += step / STRIP * strip_bytes, d.c += step) {
        int64_t left = n_valid - n;
        int strips = m > GEMM_FEW && GRID_STRIPS == 2 && left > STRIP ? 2 : 1;
        step = strips * STRIP;
        d.n = left < step ? left : step;
        d.k = k;
        if (m <= GEMM_FEW) {
            few_rows(m, &d, few);
            continue;
        }
        for (int64_t k0 = 0; k0 < k; k0 += PANEL_K) {
            struct grid_job part = d;
            part.k = k - k0 < PANEL_K ? k - k0 : PANEL_K;
            for (int s = 0; s < strips; s++)
                unpack(&t, d.strip + s * strip_bytes, k, k0, part.k, &p, s, bytes);
            part.a = grid_rows_from(part.a, k0);
            part.accumulate = k0 > 0;
            panel_rows(m, strips, &p, part, panel_tiles[bytes][f->sub == GRID_BLOCK][f->has_min]);
        }
    }
}

#ifdef BYTE_PRODUCTS
#define FEW_ROWS(rows, job, format)                                                                                    \
    if (is_nibbles(format) && job->a.byte)                                                                             \
        few_bytes(rows, job, format);                                                                                  \
    else                                                                                                               \
        few_grid(rows, job, format)
#else
#define FEW_ROWS few_grid
#endif
#define FEW_FN(name, rows)                                                                                             \
    static __attribute__((noinline)) void grid_##name##_##rows(const struct grid_job *job)                             \
    {                                                                                                                  \
        FEW_ROWS(rows, job, block_##name);                                                                             \
    }
#define FEW_F32_FN(name, rows, strips)                                                                                 \
    static __attribute__((noinline)) void f32_##name##_##rows##x##strips(const struct grid_job *job)                   \
    {                                                                                                                  \
        few_f32(rows, strips, job, block_##name);                                                                      \
    }
#if MAX_STRIPS == 4
#define FEW_F32(name)                                                                                                  \
    FEW_F32_FN(name, 1, 1)                                                                                             \
    FEW_F32_FN(name, 2, 1) FEW_F32_FN(name, 4, 1) FEW_F32_FN(name, 1, 4) FEW_F32_FN(name, 2, 4) FEW_F32_FN(name, 4, 4)
#define WIDE(name)                                                                                                     \
    {                                                                                                                  \
        f32_##name##_1x4, f32_##name##_2x4, f32_##name##_4x4                                                           \
    }
#else
#define FEW_F32(name) FEW_F32_FN(name, 1, 1) FEW_F32_FN(name, 2, 1) FEW_F32_FN(name, 4, 1)
#define WIDE(name)                                                                                                     \
    {                                                                                                                  \
        0                                                                                                              \
    }
#endif

#define BLOCK_CONSTANTS(name, unit, sub, n_half, n_byte, low, high, has_min, scales, expand, floats)                   \
    static const struct block_format block_##name = {unit, sub,     n_half, n_byte, low,                               \
                                                     high, has_min, scales, expand, floats};
#define CODES(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, codes, scales)     \
    BLOCK_CONSTANTS(name, unit, sub, n_half, n_byte, low, high, has_min, scales_##scales, NULL, NULL)
#define CODEBOOK(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, codes, scales)  \
    BLOCK_CONSTANTS(name, unit, sub, n_half, n_byte, low, high, has_min, scales_##scales, expand_##name, NULL)
#define FLOATS(type, name, unit, sub, half, n_half, byte, n_byte, low, high, number, offset, has_min, codes, scales)   \
    BLOCK_CONSTANTS(name, unit, sub, n_half, n_byte, low, high, has_min, scales_##scales, NULL, floats_##number)
#ifndef CODEBOOKS_ONLY
CODE_FORMATS(CODES)
#ifndef GRID_ONLY
FLOAT_FORMATS(FLOATS)
#endif
#endif
CODEBOOK_FORMATS(CODEBOOK)

#ifdef CODEBOOKS_ONLY
#define LEVEL_FORMATS CODEBOOK_FORMATS
#else
#define LEVEL_FORMATS BLOCK_FORMATS
#endif

#define GRID_FUNCTIONS(type, name, ...)                                                                                \
    FEW_FN(name, 1)                                                                                                    \
    FEW_FN(name, 2)                                                                                                    \
    FEW_FN(name, 4)                                                                                                    \
    static __attribute__((noinline)) void panel_##name(const struct tables *t, const char *strip, int64_t k,           \
                                                       int64_t k0, int64_t n, struct panel *to, int at, bool bytes)    \
    {                                                                                                                  \
        unpack_panel(t, strip, k, k0, n, to, at, bytes, block_##name);                                                 \
    }                                                                                                                  \
    static void grid_##name(int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b, float *c, \
                            int64_t ldc)                                                                               \
    {                                                                                                                  \
        static grid_fn *const few[3] = {grid_##name##_1, grid_##name##_2, grid_##name##_4};                            \
        struct grid_job d = {.k = k, .a = *a, .strip = b, .c = c, .ldc = ldc};                                         \
        grid_product(block_layout(DTYPE_##type), m, n_valid, d, strip_bytes_of(block_##name, k), few, panel_##name);   \
    }
LEVEL_FORMATS(GRID_FUNCTIONS)

#define SET_GRID(type, name, ...) k->gemm_grid[DTYPE_##type] = grid_##name;

#ifndef CODEBOOKS_ONLY

static void set_grid(struct kernels *k)
{
    BLOCK_FORMATS(SET_GRID)
    k->to_grid = to_grid;
}

#endif

#ifndef GRID_ONLY

#ifndef CODEBOOKS_ONLY

/* ---- packing: 16 bytes of 16 rows at a time. Vector j has rows j, j + 4, j + 8, j + 12, a quarter each. */

INLINE i16 four_rows(const unsigned char *rows, int64_t row_bytes, int j)
{
    rows += j * row_bytes;
    return i_quarters(rows, rows + 4 * row_bytes, rows + 8 * row_bytes, rows + 12 * row_bytes);
}
/* Neighbouring bytes as one: low + high << b. */
INLINE i16 join(i16 x, int b)
{
    return i_pairs(x, i_set1(0x00010001 * (1 | 1 << (8 + b))));
}
/* Four words of a plane of b bits a row, of codes 0 … 15 and 16 … 31; for fewer bits, the first b words. */
INLINE i16 plane_words(i16 first, i16 last, int b)
{
    __m128i of_8 = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15); /* even, odd of each 8 */
    __m128i of_16 = _mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    if (b == 8) /* 0 2, 1 3 of each 4 */
        return i_bytes(first, _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
    if (b == 4)
        return i_narrow(join(i_bytes(first, of_8), 4), join(i_bytes(last, of_8), 4));
    i16 x = i_narrow(join(i_bytes(first, of_16), b), join(i_bytes(last, of_16), b));
    x = join(x, 2 * b);
    x = i_narrow(x, x);
    if (b == 2)
        return x;
    x = join(x, 4); /* even 0 …, odd 1 …, even 16 …, odd 17 … */
    return i_bytes(i_narrow(x, x), _mm_setr_epi8(0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11, 12, 14, 13, 15));
}
/* The first n of four words of 16 rows, each word's together */
INLINE void put_words(unsigned char *plane, const i16 w[4], int n)
{
    v16 x[4];
    for (int j = 0; j < 4; j++)
        x[j] = v_from_bits(w[j]);
    v_transpose4(x);
    for (int v = 0; v < n; v++)
        v_store((float *)(void *)(plane + v * PLANE_BYTES), x[v]);
}

/* A plane of b bits of 32 numbers, from where block_codes.h says that they lie */
INLINE i16 some_bits(struct bit_place from, int64_t row_bytes, int j, int at, int b)
{
    return i_and(i_shr(four_rows(from.p + at, row_bytes, j), from.shift), i_set1(0x01010101 * ((1 << b) - 1)));
}
INLINE void plane_of_bits(unsigned char *plane, struct bit_place from, int64_t row_bytes, int b)
{
    i16 w[4];
    for (int j = 0; j < 4; j++)
        w[j] = plane_words(some_bits(from, row_bytes, j, 0, b), some_bits(from, row_bytes, j, 16, b), b);
    put_words(plane, w, b);
}
INLINE void plane_of_low_high(unsigned char *plane, const unsigned char *rows, int64_t row_bytes)
{
    i16 w[4];
    for (int j = 0; j < 4; j++) {
        i16 x = four_rows(rows, row_bytes, j), nibble = i_set1(0x0f0f0f0f);
        w[j] = plane_words(i_and(x, nibble), i_and(i_shr(x, 4), nibble), 4);
    }
    put_words(plane, w, 4);
}
INLINE void plane_of_bytes(unsigned char *plane, const unsigned char *rows, int64_t row_bytes)
{
    for (int v = 0; v < 8; v += 4) {
        i16 w[4];
        for (int j = 0; j < 4; j++)
            w[j] = plane_words(four_rows(rows + 4 * v, row_bytes, j), i_set1(0), 8);
        put_words(plane + v * PLANE_BYTES, w, 4);
    }
}
/* Bits from `at` on change places with those `by` above them. */
INLINE i16 swap_bits(i16 x, int at, int by)
{
    i16 t = i_and(i_xor(x, i_shr(x, by)), i_set1(at));
    return i_xor(x, i_xor(t, i_shl(t, by)));
}
/* … of single bits: the even ones go to the lower half of their word */
INLINE void plane_of_single_bits(unsigned char *plane, const unsigned char *rows, int64_t row_bytes)
{
    uint32_t w[STRIP];
    for (int lane = 0; lane < STRIP; lane++)
        memcpy(&w[lane], rows + lane * row_bytes, sizeof *w);
    i16 x = swap_bits(i_load(w), 0x22222222, 1);
    x = swap_bits(x, 0x0c0c0c0c, 2);
    x = swap_bits(x, 0x00f000f0, 4);
    i_store(plane, swap_bits(x, 0x0000ff00, 8));
}
/* … of formats that have the codes in places of their own: a row's at a time */
INLINE void plane_of_codes(unsigned char *plane, const unsigned char *rows, int64_t row_bytes, int g, int b,
                           void (*codes)(const unsigned char *, int, uint8_t[GRID_BLOCK]))
{
    uint8_t code[STRIP][GRID_BLOCK];
    for (int lane = 0; lane < STRIP; lane++)
        codes(rows + lane * row_bytes, g, code[lane]);
    plane_of_bits(plane, (struct bit_place){code[0], 0}, GRID_BLOCK, b);
}

/* All planes of numbers 32 g … of 16 rows */
#define PLANES(name, ...)                                                                                              \
    INLINE void planes_##name(unsigned char *plane, const unsigned char *rows, int64_t row_bytes, int g)               \
    {                                                                                                                  \
        (void)g;                                                                                                       \
        __VA_ARGS__;                                                                                                   \
    }
#define UPPER(low) plane + (low)*PLANE_BYTES
PLANES(after_1, plane_of_low_high(plane, place_after_1(rows, g), row_bytes))
PLANES(after_2, plane_of_low_high(plane, place_after_2(rows, g), row_bytes))
PLANES(q4_1, plane_of_low_high(plane, place_q4_1(rows, g), row_bytes))
PLANES(iq4_xs, plane_of_low_high(plane, place_iq4_xs(rows, g), row_bytes))
PLANES(q5_0, plane_of_low_high(plane, place_q5_0(rows, g), row_bytes);
       plane_of_single_bits(UPPER(4), place_fifth_q5_0(rows, g), row_bytes))
PLANES(q5_1, plane_of_low_high(plane, place_q5_1(rows, g), row_bytes);
       plane_of_single_bits(UPPER(4), place_fifth_q5_1(rows, g), row_bytes))
PLANES(q1_0, plane_of_single_bits(plane, place_q1_0(rows, g), row_bytes))
PLANES(q8_0, plane_of_bytes(plane, place_q8_0(rows, g), row_bytes))
PLANES(f8, plane_of_bytes(plane, place_f8(rows, g), row_bytes))
PLANES(q2_k, plane_of_bits(plane, bits_q2_k(rows, g), row_bytes, 2))
PLANES(q3_k, plane_of_bits(plane, bits_q3_k(rows, g), row_bytes, 2);
       plane_of_bits(UPPER(2), bits_third_q3_k(rows, g), row_bytes, 1))
PLANES(q4_k, plane_of_bits(plane, bits_q4_k(rows, g), row_bytes, 4))
PLANES(q5_k, plane_of_bits(plane, bits_q5_k(rows, g), row_bytes, 4);
       plane_of_bits(UPPER(4), bits_fifth_q5_k(rows, g), row_bytes, 1))
PLANES(q6_k, plane_of_bits(plane, bits_q6_k(rows, g), row_bytes, 4);
       plane_of_bits(UPPER(4), bits_upper_q6_k(rows, g), row_bytes, 2))
PLANES(tq2_0, plane_of_bits(plane, bits_tq2_0(rows, g), row_bytes, 2))
PLANES(nvfp4, plane_of_codes(plane, rows, row_bytes, g, 4, codes_nvfp4))
PLANES(q2_0, plane_of_codes(plane, rows, row_bytes, g, 2, codes_q2_0))

/* The header fields of one unit of 16 rows */
INLINE void put_record_simd(unsigned char *record, const unsigned char *row, int64_t row_bytes, struct block_format f,
                            int half, int byte)
{
    for (int lane = 0; lane < STRIP; lane++, row += row_bytes) {
        UNROLL for (int i = 0; i < f.n_half; i++) memcpy(record + (i * STRIP + lane) * 2, row + half + 2 * i, 2);
        UNROLL for (int i = 0; i < f.n_byte; i++) record[(2 * f.n_half + i) * STRIP + lane] = row[byte + i];
    }
}
INLINE void put_strip_simd(unsigned char *strip, const unsigned char *rows, int64_t k, int64_t bytes,
                           struct block_format f, int half, int byte,
                           void (*planes)(unsigned char *, const unsigned char *, int64_t, int))
{
    unsigned char *plane = strip + k / f.unit * record_bytes(f);
    int64_t row_bytes = k / f.unit * bytes;
    for (; k > 0; k -= f.unit, rows += bytes, strip += record_bytes(f)) {
        put_record_simd(strip, rows, row_bytes, f, half, byte);
        for (int g = 0; g < f.unit / GRID_BLOCK; g++, plane += plane_bytes(f))
            planes(plane, rows, row_bytes, g);
    }
}
#define PUT_STRIP(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, codes, scales) \
    static void put_strip_##name(unsigned char *strip, const unsigned char *rows, int64_t k)                           \
    {                                                                                                                  \
        put_strip_simd(strip, rows, k, dtype_info(DTYPE_##type)->bytes, block_##name, half, byte, planes_##codes);     \
    }
CODE_FORMATS(PUT_STRIP)
FLOAT_FORMATS(PUT_STRIP)

INLINE void put_laid_strip(unsigned char *strip, const unsigned char *rows, int64_t k, int64_t bytes,
                           struct block_format f, void (*lay)(const unsigned char *, struct laid_block *))
{
    unsigned char *plane = strip + k / f.unit * record_bytes(f);
    int64_t groups = f.unit / GRID_BLOCK, row_bytes = k / f.unit * bytes;
    for (; k > 0; k -= f.unit, rows += bytes, strip += record_bytes(f), plane += groups * plane_bytes(f))
        for (int lane = 0; lane < STRIP; lane++) {
            struct laid_block b;
            lay(rows + lane * row_bytes, &b);
            UNROLL for (int i = 0; i < f.n_half; i++) memcpy(strip + (i * STRIP + lane) * 2, &b.half[i], 2);
            UNROLL for (int i = 0; i < f.n_byte; i++) strip[(2 * f.n_half + i) * STRIP + lane] = b.byte[i];
            UNROLL for (int g = 0; g < groups; g++) for (int v = 0; v < f.low; v++)
                memcpy(plane + g * plane_bytes(f) + v * PLANE_BYTES + lane * 4, &b.word[g][v], 4);
        }
}
#define PUT_LAID_STRIP(type, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min, codes,    \
                       scales)                                                                                         \
    static void put_strip_##name(unsigned char *strip, const unsigned char *rows, int64_t k)                           \
    {                                                                                                                  \
        put_laid_strip(strip, rows, k, dtype_info(DTYPE_##type)->bytes, block_##name, codes_##codes);                  \
    }
CODEBOOK_FORMATS(PUT_LAID_STRIP)

#endif

static void f32_product(const struct block_layout *f, int64_t m, int64_t n_valid, struct grid_job d,
                        int64_t strip_bytes, grid_fn *const few[3], grid_fn *const wide[3])
{
    struct book book;
    struct tables t = tables_of(f, &book);
    d.t = &t;
    for (int64_t n = 0, step; n < n_valid; n += step, d.strip += step / STRIP * strip_bytes, d.c += step) {
        int64_t left = n_valid - n;
        bool many = MAX_STRIPS == 4 && left > 3 * STRIP;
        step = many ? 4 * STRIP : STRIP;
        d.n = left < step ? left : step;
        few_rows(m, &d, many ? wide : few);
    }
}

#define F32_FUNCTIONS(type, name, ...)                                                                                 \
    FEW_F32(name)                                                                                                      \
    static void f32_##name(int64_t m, int64_t n_valid, int64_t k, const float *a, int64_t lda, const void *b,          \
                           float *c, int64_t ldc, bool accumulate)                                                     \
    {                                                                                                                  \
        static grid_fn *const few[3] = {f32_##name##_1x1, f32_##name##_2x1, f32_##name##_4x1}, *const wide[3] =        \
                                                                                                   WIDE(name);         \
        struct grid_job d = {.k = k, .x = a, .ldx = lda, .strip = b, .c = c, .ldc = ldc, .accumulate = accumulate};    \
        f32_product(block_layout(DTYPE_##type), m, n_valid, d, strip_bytes_of(block_##name, k), few, wide);            \
    }                                                                                                                  \
    static void unpack_##name(const void *strip, int64_t k, int64_t k0, int64_t n, float *dst)                         \
    {                                                                                                                  \
        unpack_floats(block_layout(DTYPE_##type), strip, k, k0, n, dst, block_##name);                                 \
    }
LEVEL_FORMATS(F32_FUNCTIONS)
#ifndef CODEBOOKS_ONLY
FLOAT_FORMATS(F32_FUNCTIONS)
#endif

#define SET_F32(type, name, ...)                                                                                       \
    k->gemm_few[DTYPE_##type] = f32_##name;                                                                            \
    k->unpack[DTYPE_##type] = unpack_##name;

#ifdef CODEBOOKS_ONLY

static void set_codebooks(struct kernels *k)
{
    CODEBOOK_FORMATS(SET_F32)
    CODEBOOK_FORMATS(SET_GRID)
}

#else

#define SET_PUT_STRIP(type, name, ...) k->put_strip[DTYPE_##type] = put_strip_##name;

static void set_blocks(struct kernels *k)
{
    BLOCK_FORMATS(SET_F32)
    FLOAT_FORMATS(SET_F32)
    BLOCK_FORMATS(SET_PUT_STRIP)
    FLOAT_FORMATS(SET_PUT_STRIP)
    set_grid(k);
}

#endif

#endif

#endif
