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
    DTYPE_Q8_0, /* 32 numbers: f16 scale, 32 int8 */
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
