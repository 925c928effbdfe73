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
 * Activations on a grid: a block of 32 becomes integers A with a = grid · A, grid = 2^(e - 12), where 2^e exceeds every
 * magnitude of the block once rounded to bf16. So |A| <= 4080, A has at most 8 significant bits, and a sum of 32
 * products A v with |v| <= 128 stays below 2^24: exact in int32 and in f32, in whatever order hardware adds. The
 * product's only roundings are
 *
 *     c = fma(scale, p · grid, c), c = fma(-min, s · grid, c)     p = Σ A v, s = Σ A
 *
 * for each scale's numbers in ascending k. A block with a NaN or an infinity has a grid of NaN and zeros for A. */
#ifndef CADRE_KERNEL_BLOCKS_H
#define CADRE_KERNEL_BLOCKS_H

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

/* Rows of activations: number (i, k) is grid[i * ld / 32 + k / 32] · q[i * ld + k]; sum[i * ld / 16 + k / 16] is
 * grid · Σ of 16 of them. ld is a multiple of 32. */
struct grid_rows {
    const int16_t *q;
    const float *grid, *sum;
    int64_t ld;
};

/* A format's layout. Offsets are those in a block of the file, which is one unit. */
struct block_layout {
    int unit, sub; /* numbers of a record; numbers that share a scale: 16 or 32 */
    int half, n_half, byte, n_byte;
    int low, high;       /* bits of the planes; 8 + 0: the code is an int8 */
    const int8_t *table; /* what a code of `low` bits stands for; NULL: it stands for code + offset */
    int offset;
    bool has_min;
    /* The codes of numbers 32 g … of a file's block. */
    void (*codes)(const unsigned char *block, int g, uint8_t code[GRID_BLOCK]);
    /* Scale (and minimum, 0 without) of the g-th `sub` numbers from one output's header fields. */
    void (*scale)(const uint16_t *half, const uint8_t *byte, int g, float *scale, float *min);
};

/* The rows: X(name in enum dtype, name, unit, sub, half, n_half, byte, n_byte, low, high, table, offset, has_min,
 * codes, scales). blocks.c makes the table of them; each level makes its kernels, with a function of its own for
 * `scales`. */
#define BLOCK_FORMATS(X)                                                                                               \
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
    X(MXFP4, mxfp4, 32, 32, 0, 0, 0, 1, 4, 0, fp4_values, 0, false, after_1, e8m0)

/* NULL: the format has none. */
const struct block_layout *block_layout(enum dtype type);

/* One row of a matrix (k numbers as in a file) into lane `lane` of a strip. */
typedef void block_put_row_fn(unsigned char *strip, int64_t lane, const unsigned char *row, int64_t k);
void block_put_row(enum dtype type, unsigned char *strip, int64_t lane, const unsigned char *row, int64_t k);

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

/* ---- generic definitions of the kernel table's entries */

/* dst[i][16] = numbers k0 + i of a strip's 16 outputs, i < n, whole blocks of 32; k: of the strip. */
void block_unpack(enum dtype type, const void *strip, int64_t k, int64_t k0, int64_t n, real *dst);
#ifndef CADRE_F64
void block_to_grid(const float *x, int64_t n, int16_t *q, float *grid, float *sum);
void block_product(enum dtype type, int64_t m, int64_t n_valid, int64_t k, const struct grid_rows *a, const void *b,
                   float *c, int64_t ldc);
#endif

#endif
