/* Block-quantized formats as kernels read them, and activations on a grid.
 *
 * A number of such a format is scale · v - min with a small integer v. What kernels multiply are the integers: in a
 * packed strip of 16 outputs they lie so that one shift and one table look-up of 16-bit words give v for two k of all
 * outputs. A strip has as many bytes as its 16 rows in a file:
 *
 *     records   one per `unit` of k: the header fields of the file's blocks, each field of all 16 outputs together:
 *               uint16_t half[n_half][16], then uint8_t byte[n_byte][16]
 *     planes    one per 32 k: the lower `low` bits of the codes, then the upper `high` bits. In a plane of b bits,
 *               word p (0, 1) of 32-bit lane `output` of vector v has in bits b i … the code of k = 32 / b v + 2 i + p
 *
 * Codebook formats (i-quants: iq_tables.h) have ranks in a codebook of groups instead of codes. Their planes are `low`
 * words of 32 bits a lane, made by `codes` from the file's block, which `expand` turns into what a plane of 4 bits
 * would have: digit of the codebook in bits 0 … 2, sign in bit 3. In vector l of those are the numbers 8 l + 2 i + p.
 *
 *     iq1_*     word 0: byte l has the lower bits of the rank of the group l of 8. The rest is in the record; the sign
 *               of a code is the direction in which its numbers are moved by 1/8, and it stands for 8 times as much
 *
 *     iq2_*     word 0: byte l has the (lower bits of the) rank of the group l of 8; word 1: signs
 *
 *     iq3_*     words 0, 1: byte i has the (lower bits of the) rank of group i of 4; word 2: signs
 *
 *     signs     number 8 l + 2 i + p in bit 4 i + l of word p. Where files have only seven signs of eight, the upper
 *               four bits (l of the eighth: the one that makes the signs of its eight even) have iq2_xxs's and
 *               iq3_xxs's scale, and iq2_xs's ninth bits of ranks
 *
 * TQ1_0 is kept like one of them: a word of 16 bits has ten digits of base 3, ⌈N 2^16 / 3^10⌉ with N their number, the
 * first most significant; digit t is (w 3^t mod 2^16) 3 >> 16. Number 2 j + p of 32, block g of 8, is
 *
 *     j < 10        digit j of word p of its plane
 *     j = 10 … 14   digit g of half 1 + 2 (j - 10) + p
 *     j = 15        digit 8 + g / 5 of half 1 + 2 (g mod 5) + p
 *
 * Formats of eight-bit floats have planes like q8_0's and no product on the grid: their range is no small integer's.
 *
 * Activations on a grid: a block of 32 becomes integers A with a = grid · A, grid = 2^(e - 12), where 2^e exceeds every
 * magnitude of the block once rounded to bf16. So |A| <= 4080, A has at most 8 significant bits, and a sum of 32
 * products A v with |v| <= 128 stays below 2^24: exact in int32 and in f32, in whatever order hardware adds. The
 * product's only roundings are
 *
 *     c = fma(scale, p · grid, c), c = fma(-min, s · grid, c)     p = Σ A v, s = Σ A
 *
 * for each scale's numbers in ascending k. A block with a NaN or an infinity has a grid of NaN and zeros for A.
 *
 * A coarser grid for speed: grid = top / 127 with the block's largest magnitude, |A| <= 127. The same products then run
 * on bytes: VPDPBUSD multiplies A by v + 128 as unsigned bytes, and the sum starts at -128 Σ A. */
#ifndef CADRE_KERNEL_BLOCKS_H
#define CADRE_KERNEL_BLOCKS_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "tensor/format/format.h"
#include "tensor/real.h"

enum {
    GRID_BLOCK = 32, /* activations that share a grid */
    GRID_SUM = 16,   /* activations whose sum is kept: the smallest number that share a scale */
    PLANE_BYTES = 64 /* of one bit of 32 k of 16 outputs */
};

/* What products with weights in blocks take as activations. */
enum act { ACT_F32, ACT_GRID, ACT_INT8, ACT_COUNT };

/* Rows of activations: number (i, k) is grid[i * ld / 32 + k / 32] · q[i * ld + k]; sum[i * ld / 16 + k / 16] is
 * grid · Σ of 16 of them. ld is a multiple of 32. On the coarser grid the same also lies as products of bytes want it.
 */
struct grid_rows {
    int16_t *q;
    float *grid, *sum;
    struct byte_block *byte; /* NULL: the finer grid */
    int64_t ld;
};

/* 32 activations. The numbers of each 8 are in the order that bytes of a plane of nibbles have. */
#define ORDER_OF_8 0, 4, 1, 5, 2, 6, 3, 7
struct byte_block {
    int8_t q[GRID_BLOCK];
    float grid;
    int32_t bias[3]; /* -128 Σ q of the first 16, of the last 16, of all */
    float minus[3];  /* -grid · Σ q of the same */
    float unused;    /* 64 bytes: a line of the cache */
};

/* Room for n numbers in rows of ld, n a multiple of 32, at `memory` (aligned to 64 bytes). */
size_t grid_rows_bytes(enum act act, int64_t n);
struct grid_rows grid_rows_in(void *memory, enum act act, int64_t n, int64_t ld);
/* Those from number `at` on, a multiple of 32. */
static inline struct grid_rows grid_rows_from(struct grid_rows r, int64_t at)
{
    r.q += at;
    r.grid += at / GRID_BLOCK;
    r.sum += at / GRID_SUM;
    r.byte = r.byte ? r.byte + at / GRID_BLOCK : NULL;
    return r;
}

/* One output's part of a record and of the planes of its 32 numbers 32 g …; of all planes. */
enum { MOST_HALVES = 11, MOST_BYTES = 16, MOST_WORDS = 3, MOST_GROUPS = 8 };
struct lane_block {
    uint16_t half[MOST_HALVES];
    uint8_t byte[MOST_BYTES];
    uint32_t word[MOST_WORDS];
    int g;
};
struct laid_block {
    uint16_t half[MOST_HALVES];
    uint8_t byte[MOST_BYTES];
    uint32_t word[MOST_GROUPS][MOST_WORDS];
};

/* A format's layout. Offsets are those in a block of the file, which is one unit. */
struct block_layout {
    int unit, sub; /* numbers of a record; numbers that share a scale: 16 or 32 */
    int half, n_half, byte, n_byte;
    int low, high;       /* bits of the planes; 8 + 0: the code is an int8; codebook formats: words */
    const int8_t *table; /* what a code of `low` bits stands for; NULL: it stands for code + offset */
    int offset;
    bool has_min;
    /* The codes of numbers 32 g … of a file's block; NULL for codebook formats. */
    void (*codes)(const unsigned char *block, int g, uint8_t code[GRID_BLOCK]);
    /* Codebook formats: a file's block as strips have it; the codes of 32 numbers. */
    void (*lay)(const unsigned char *block, struct laid_block *to);
    void (*expand)(const struct lane_block *b, uint32_t code[4]);
    enum dtype element;   /* of float formats, else DTYPE_F32 */
    const uint16_t *book; /* of `entries` groups of `digits` numbers */
    int entries, digits;
    /* Scale (and minimum, 0 without) of the g-th `sub` numbers of a unit. */
    void (*scale)(const struct lane_block *b, int g, float *scale, float *min);
};

/* Bits of a code, in planes or once expanded */
static inline int block_code_bits(const struct block_layout *f)
{
    return f->lay ? 4 : f->low;
}

/* The rows: X(name in enum dtype, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min,
 * codes, scales). blocks.c makes the table of them; each level makes its kernels, with a function of its own for
 * `scales`. */
#define BLOCK_FORMATS(X) CODE_FORMATS(X) CODEBOOK_FORMATS(X) /* those with products on the grid */
#define CODE_FORMATS(X)                                                                                                \
    X(Q4_0, q4_0, 32, 32, 0, 1, 0, 0, 4, 0, NULL, -8, false, after_2, half)                                            \
    X(Q4_1, q4_1, 32, 32, 0, 2, 0, 0, 4, 0, NULL, 0, true, q4_1, half_min)                                             \
    X(Q5_0, q5_0, 32, 32, 0, 1, 0, 0, 4, 1, NULL, -16, false, q5_0, half)                                              \
    X(Q5_1, q5_1, 32, 32, 0, 2, 0, 0, 4, 1, NULL, 0, true, q5_1, half_min)                                             \
    X(Q8_0, q8_0, 32, 32, 0, 1, 0, 0, 8, 0, NULL, 0, false, q8_0, half)                                                \
    X(Q2_K, q2_k, 256, 16, 80, 2, 0, 16, 2, 0, NULL, 0, true, q2_k, q2_k)                                              \
    X(Q3_K, q3_k, 256, 16, 108, 1, 96, 12, 2, 1, NULL, -4, false, q3_k, q3_k)                                          \
    X(Q4_K, q4_k, 256, 32, 0, 2, 4, 12, 4, 0, NULL, 0, true, q4_k, q4_k)                                               \
    X(Q5_K, q5_k, 256, 32, 0, 2, 4, 12, 4, 1, NULL, 0, true, q5_k, q4_k)                                               \
    X(Q6_K, q6_k, 256, 16, 208, 1, 192, 16, 4, 2, NULL, -32, false, q6_k, q6_k)                                        \
    X(IQ4_NL, iq4_nl, 32, 32, 0, 1, 0, 0, 4, 0, iq4_values, 0, false, after_2, half)                                   \
    X(IQ4_XS, iq4_xs, 256, 32, 0, 2, 4, 4, 4, 0, iq4_values, 0, false, iq4_xs, iq4_xs)                                 \
    X(MXFP4, mxfp4, 32, 32, 0, 0, 0, 1, 4, 0, fp4_values, 0, false, after_1, e8m0)                                     \
    X(NVFP4, nvfp4, 64, 16, 0, 0, 0, 4, 4, 0, fp4_values, 0, false, nvfp4, ue4m3)                                      \
    X(TQ2_0, tq2_0, 256, 32, 64, 1, 0, 0, 2, 0, NULL, -1, false, tq2_0, half)                                          \
    X(Q1_0, q1_0, 128, 32, 0, 1, 0, 0, 1, 0, q1_values, 0, false, q1_0, half)                                          \
    X(Q2_0, q2_0, 64, 32, 0, 1, 0, 0, 2, 0, NULL, -1, false, q2_0, half)
/* half and byte have no meaning here: `codes` lays a block out. */
#define CODEBOOK_FORMATS(X)                                                                                            \
    X(IQ1_S, iq1_s, 256, 32, 0, 9, 0, 0, 1, 0, iq1_values, 0, false, iq1_s, iq1_s)                                     \
    X(IQ1_M, iq1_m, 256, 16, 0, 4, 0, 16, 1, 0, iq1_values, 0, false, iq1_m, iq1_m)                                    \
    X(IQ2_XXS, iq2_xxs, 256, 32, 0, 1, 0, 0, 2, 0, iq2_values, 0, false, iq2_xxs, iq2_xxs)                             \
    X(IQ2_XS, iq2_xs, 256, 16, 0, 1, 0, 8, 2, 0, iq2_values, 0, false, iq2_xs, iq2_xs)                                 \
    X(IQ2_S, iq2_s, 256, 16, 0, 1, 0, 16, 2, 0, iq2_values, 0, false, iq2_s, iq2_s)                                    \
    X(IQ3_XXS, iq3_xxs, 256, 32, 0, 1, 0, 0, 3, 0, iq3_xxs_values, 0, false, iq3_xxs, iq3_xxs)                         \
    X(IQ3_S, iq3_s, 256, 32, 0, 1, 0, 12, 3, 0, iq3_s_values, 0, false, iq3_s, iq3_s)                                  \
    X(TQ1_0, tq1_0, 256, 32, 0, 11, 0, 0, 1, 0, trit_values, 0, false, tq1_0, half)
/* Numbers that are no integers: the name of their format instead of a table. */
#define FLOAT_FORMATS(X)                                                                                               \
    X(F8_E4M3_B32, f8_e4m3_b32, 32, 32, 0, 2, 0, 0, 8, 0, F8_E4M3, 0, false, f8, f32)                                  \
    X(F8_E4M3_B128, f8_e4m3_b128, 128, 32, 0, 2, 0, 0, 8, 0, F8_E4M3, 0, false, f8, f32)                               \
    X(F8_E5M2_B32, f8_e5m2_b32, 32, 32, 0, 2, 0, 0, 8, 0, F8_E5M2, 0, false, f8, f32)

/* NULL: the format has none. */
const struct block_layout *block_layout(enum dtype type);

/* n rows of a matrix, of k numbers as in a file, into the first n lanes of a strip; into all 16 of them. */
void block_put_strip(enum dtype type, unsigned char *strip, const unsigned char *rows, int64_t n, int64_t k);
typedef void block_put_strip_fn(unsigned char *strip, const unsigned char *rows, int64_t k);

/* From the bits of a block's largest magnitude (bf16 as f32). 2^-126 is the least grid: below 2^-114 a block's numbers
 * lose bits, and become 0 in the end. */
enum { GRID_NO_NUMBER = 0x7f800000 }; /* from these bits on */
struct grid_step {
    float grid, inverse;
};
static inline struct grid_step grid_step(uint32_t top)
{
    uint32_t e = top >> 23 > 12 ? top >> 23 : 12, bits[2] = {(e - 11) << 23, (265 - e) << 23};
    struct grid_step s;
    if (top >= GRID_NO_NUMBER)
        bits[0] = 0x7fc00000;
    memcpy(&s, bits, sizeof s);
    return s;
}

/* The coarser grid, from the largest magnitude. Blocks below 2^-100 are 0. */
static inline struct grid_step byte_step(float top)
{
    if (!(top < INFINITY))
        return (struct grid_step){NAN, 0};
    return top < 0x1p-100f ? (struct grid_step){0, 0} : (struct grid_step){top / 127, 127 / top};
}
/* All of a block but its numbers, from the sums of the first and the last 16. */
static inline struct byte_block byte_block(float grid, const int32_t total[2], const float sum[2])
{
    int32_t b[2] = {-128 * total[0], -128 * total[1]};
    return (struct byte_block){
        .grid = grid, .bias = {b[0], b[1], b[0] + b[1]}, .minus = {-sum[0], -sum[1], -(sum[0] + sum[1])}};
}

/* ---- generic definitions of the kernel table's entries */

/* dst[i][16] = numbers k0 + i of a strip's 16 outputs, i < n, whole blocks of 32; k: of the strip. */
void block_unpack(enum dtype type, const void *strip, int64_t k, int64_t k0, int64_t n, real *dst);
#ifndef CADRE_F64
void block_to_grid(const float *x, int64_t n, struct grid_rows to);
void block_product(enum dtype type, int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b,
                   float *c, int64_t ldc);
#endif

#endif
