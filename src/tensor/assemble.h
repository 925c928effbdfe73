/* Rows of a number format from the parts that safetensors checkpoints keep apart: numbers, scales, zeros. Values are
 * exact: what the parts say, computed in f32 (number · scale, or (q - zero) · scale). Pure functions over arrays; no
 * part is read before its size is checked against the shape. A stack of experts is assembled matrix by matrix.
 *
 * First ask *_type for the format the rows will have, take dtype_size(type, n * k) bytes, then assemble into them. */
#ifndef CADRE_TENSOR_ASSEMBLE_H
#define CADRE_TENSOR_ASSEMBLE_H

#include "base/error.h"
#include "tensor/dtype.h"

/* A tensor's data as it lies in the file, little-endian; any alignment. */
struct part {
    const void *data;
    uint64_t bytes;
};

/* ---- FP8: W[n, k] of one-byte floats with a grid of f32 scales, each for scale_n × scale_k numbers (the last ones may
 * be cut): value = number · scale. DeepSeek-V3's weight_scale_inv is a grid of 128 × 128; one scale for all is n × k,
 * one a row is 1 × k. */
struct fp8_parts {
    enum dtype element;       /* DTYPE_F8_E4M3 or DTYPE_F8_E5M2 */
    int64_t n, k;             /* at least 1 */
    int64_t scale_n, scale_k; /* at least 1 */
    struct part weight;       /* u8 [n, k] */
    struct part scale;        /* f32 [ceil(n / scale_n), ceil(k / scale_k)]; bytes 0: no scale, and scale_n, scale_k are
                                 not looked at */
};

/* Without a scale the element's own format; else blocks with a scale each where rows are whole blocks and no block
 * needs two scales; else f32. */
enum dtype fp8_type(const struct fp8_parts *p);
cadre_err fp8_assemble(void *dst, uint64_t dst_bytes, const struct fp8_parts *p, cadre_error *err);

/* ---- Four-bit integers in int32 words: GPTQ and AWQ. value = (q - zero) · scale; x = Wᵀ there, n outputs, k inputs.
 *
 *   GPTQ  qweight i32 [k / 8, n]: number 8 r + i of column c in bits 4 i of word (r, c)
 *         qzeros  i32 [groups, n / 8]: zero 8 c + i in bits 4 i; the first version stores zero - 1 (mod 16)
 *         g_idx   i32 [k]: the group of each input; bytes 0: k / group
 *   AWQ   qweight i32 [k, n / 8], qzeros i32 [groups, n / 8]: bits 4 i hold column 8 c + (0, 2, 4, 6, 1, 3, 5, 7)[i]
 *   both  scales  f16 [groups, n], groups = ceil(k / group) */
enum int4_kind { INT4_GPTQ, INT4_GPTQ_V2, INT4_AWQ };

struct int4_parts {
    enum int4_kind kind;
    int64_t n, k, group; /* n a multiple of 8, for GPTQ k too; group at least 1, or -1: one group */
    struct part qweight, qzeros, scales, g_idx;
};

/* int4 blocks of 128 or 32 where rows are whole blocks and no block needs two scales; else (also with a g_idx other
 * than k / group) f32. Looks at g_idx, so its size is checked first. */
cadre_err int4_type(enum dtype *type, const struct int4_parts *p, cadre_error *err);
cadre_err int4_assemble(void *dst, uint64_t dst_bytes, const struct int4_parts *p, cadre_error *err);

/* ---- MXFP4 as gpt-oss ships it: blocks u8 [rows, k / 32, 16], two numbers a byte in order, the first in its low half;
 * scales u8 [rows, k / 32]. Row i of the n made is row first + i * step of the parts (gate and up lie interleaved
 * there: first 0 and 1, step 2). Gives rows of DTYPE_MXFP4. */
struct mxfp4_parts {
    int64_t n, k; /* k a multiple of 32 */
    int64_t rows, first, step;
    struct part blocks, scales;
};

cadre_err mxfp4_assemble(void *dst, uint64_t dst_bytes, const struct mxfp4_parts *p, cadre_error *err);

#endif
