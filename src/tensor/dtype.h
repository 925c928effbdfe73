/* Number formats, one row each. A row says how numbers are laid out in a file; it holds no arithmetic (dot
 * products live in the kernel table). A format with block > 1 stores `block` numbers in `bytes` bytes. */
#ifndef CADRE_TENSOR_DTYPE_H
#define CADRE_TENSOR_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DTYPE_F32,
    DTYPE_F16,
    DTYPE_BF16,
    DTYPE_Q8_0,
    DTYPE_Q4_0,
    DTYPE_Q4_1,
    DTYPE_Q5_0,
    DTYPE_Q5_1,
    DTYPE_Q2_K,
    DTYPE_Q3_K,
    DTYPE_Q4_K,
    DTYPE_Q5_K,
    DTYPE_Q6_K,
    DTYPE_IQ1_S,
    DTYPE_IQ1_M,
    DTYPE_IQ2_XXS,
    DTYPE_IQ2_XS,
    DTYPE_IQ2_S,
    DTYPE_IQ3_XXS,
    DTYPE_IQ3_S,
    DTYPE_IQ4_NL,
    DTYPE_IQ4_XS,
    DTYPE_MXFP4,
    DTYPE_NVFP4,
    DTYPE_TQ1_0,
    DTYPE_TQ2_0,
    DTYPE_Q1_0,
    DTYPE_Q2_0,
    /* Formats of safetensors models. Those with a block have no number in files; assemble.h makes their rows. */
    DTYPE_F8_E4M3,
    DTYPE_F8_E5M2,
    DTYPE_F8_E4M3_B32,
    DTYPE_F8_E4M3_B128,
    DTYPE_F8_E5M2_B32,
    DTYPE_INT4_B32,
    DTYPE_INT4_B128,
    /* Not weights. */
    DTYPE_I8,
    DTYPE_I16,
    DTYPE_I32,
    DTYPE_I64,
    DTYPE_F64,
    DTYPE_U8,
    DTYPE_COUNT,
    DTYPE_NONE = -1
};

struct dtype_info {
    const char *name;        /* as on the command line and in configs: "f32", "q8_0" */
    const char *safetensors; /* its name there, NULL if it has none */
    int gguf;                /* its number in GGUF files, -1 if it has none */
    uint32_t block, bytes;
    bool weight; /* a model's matrices may have it */
    /* n is a multiple of block. encode is NULL for formats that are only read. */
    void (*decode)(const void *src, float *dst, size_t n);
    void (*encode)(const float *src, void *dst, size_t n);
};

const struct dtype_info *dtype_info(enum dtype t);
enum dtype dtype_by_name(const char *name);        /* DTYPE_NONE if unknown */
enum dtype dtype_by_gguf(uint32_t number);         /* likewise */
enum dtype dtype_by_safetensors(const char *name); /* likewise */

/* Bytes of n numbers; false if n is not a multiple of the block or the size overflows. */
bool dtype_size(enum dtype t, uint64_t n, uint64_t *bytes);

float f16_to_f32(uint16_t h);
uint16_t f32_to_f16(float f); /* round to nearest even; overflow gives infinity, NaN stays NaN */

static inline float bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {.u = (uint32_t)h << 16};
    return v.f;
}

/* Round to nearest even; a NaN keeps its sign and becomes quiet. */
static inline uint16_t f32_to_bf16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    if ((v.u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)((v.u >> 16) | 64);
    return (uint16_t)((v.u + 0x7fffu + ((v.u >> 16) & 1)) >> 16);
}

#endif
