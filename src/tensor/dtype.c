#include "tensor/dtype.h"

#include <string.h>

#include "base/checked.h"
#include "tensor/format/format.h"

float f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, frac = h & 1023;
    union {
        uint32_t u;
        float f;
    } v;
    if (exp == 31)
        v.u = sign | 0x7f800000u | frac << 13;
    else if (exp)
        v.u = sign | (exp + 112) << 23 | frac << 13;
    else { /* subnormal: frac · 2^-24 is exact in f32 */
        v.f = (float)frac * 0x1p-24f;
        v.u |= sign;
    }
    return v.f;
}

uint16_t f32_to_f16(float f)
{
    union {
        float f;
        uint32_t u;
    } v = {.f = f};
    uint16_t sign = (uint16_t)(v.u >> 16 & 0x8000);
    uint32_t mag = v.u & 0x7fffffffu;
    if (mag > 0x7f800000u)
        return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x1ff));
    if (mag >= 0x47800000u) /* 2^16 and above */
        return sign | 0x7c00;
    if (mag < 0x38800000u) { /* below 2^-14: a multiple of 2^-24; adding 0.5 makes the FPU round there */
        v.u = mag;
        v.f += 0.5f;
        return (uint16_t)(sign | (v.u - 0x3f000000u));
    }
    mag += 0xfffu + (mag >> 13 & 1); /* may carry into the exponent, up to infinity, as it should */
    return (uint16_t)(sign | (mag - 0x38000000u) >> 13);
}

static void f32_decode(const void *src, float *dst, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

static void f32_encode(const float *src, void *dst, size_t n)
{
    memcpy(dst, src, n * sizeof *src);
}

#define SCALAR_DECODE(name, T, expr)                                                                                   \
    static void name(const void *src, float *dst, size_t n)                                                            \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T x;                                                                                                       \
            memcpy(&x, (const char *)src + i * sizeof x, sizeof x);                                                    \
            dst[i] = expr;                                                                                             \
        }                                                                                                              \
    }
#define SCALAR_ENCODE(name, T, expr)                                                                                   \
    static void name(const float *src, void *dst, size_t n)                                                            \
    {                                                                                                                  \
        for (size_t i = 0; i < n; i++) {                                                                               \
            T x = expr;                                                                                                \
            memcpy((char *)dst + i * sizeof x, &x, sizeof x);                                                          \
        }                                                                                                              \
    }

SCALAR_DECODE(f16_decode, uint16_t, f16_to_f32(x))
SCALAR_ENCODE(f16_encode, uint16_t, f32_to_f16(src[i]))
SCALAR_DECODE(bf16_decode, uint16_t, bf16_to_f32(x))
SCALAR_ENCODE(bf16_encode, uint16_t, f32_to_bf16(src[i]))
SCALAR_DECODE(f64_decode, double, (float)x)
SCALAR_DECODE(u8_decode, uint8_t, (float)x)
SCALAR_DECODE(i8_decode, int8_t, (float)x)
SCALAR_DECODE(i16_decode, int16_t, (float)x)
SCALAR_DECODE(i32_decode, int32_t, (float)x)
SCALAR_DECODE(i64_decode, int64_t, (float)x)

#define SCALAR(bytes, fn) 1, bytes, false, fn##_decode, NULL
#define WEIGHT(block, bytes, fn) block, bytes, true, fn##_decode, NULL
#define WRITTEN(block, bytes, fn) block, bytes, true, fn##_decode, fn##_encode

static const struct dtype_info rows[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", "F32", 0, WRITTEN(1, 4, f32)},
    [DTYPE_F16] = {"f16", "F16", 1, WRITTEN(1, 2, f16)},
    [DTYPE_BF16] = {"bf16", "BF16", 30, WRITTEN(1, 2, bf16)},
    [DTYPE_Q8_0] = {"q8_0", NULL, 8, WRITTEN(32, 34, q8_0)},
    [DTYPE_Q4_0] = {"q4_0", NULL, 2, WRITTEN(32, 18, q4_0)},
    [DTYPE_Q4_1] = {"q4_1", NULL, 3, WRITTEN(32, 20, q4_1)},
    [DTYPE_Q5_0] = {"q5_0", NULL, 6, WRITTEN(32, 22, q5_0)},
    [DTYPE_Q5_1] = {"q5_1", NULL, 7, WRITTEN(32, 24, q5_1)},
    [DTYPE_Q2_K] = {"q2_k", NULL, 10, WEIGHT(256, 84, q2_k)},
    [DTYPE_Q3_K] = {"q3_k", NULL, 11, WEIGHT(256, 110, q3_k)},
    [DTYPE_Q4_K] = {"q4_k", NULL, 12, WRITTEN(256, 144, q4_k)},
    [DTYPE_Q5_K] = {"q5_k", NULL, 13, WRITTEN(256, 176, q5_k)},
    [DTYPE_Q6_K] = {"q6_k", NULL, 14, WRITTEN(256, 210, q6_k)},
    [DTYPE_IQ1_S] = {"iq1_s", NULL, 19, WEIGHT(256, 50, iq1_s)},
    [DTYPE_IQ1_M] = {"iq1_m", NULL, 29, WEIGHT(256, 56, iq1_m)},
    [DTYPE_IQ2_XXS] = {"iq2_xxs", NULL, 16, WEIGHT(256, 66, iq2_xxs)},
    [DTYPE_IQ2_XS] = {"iq2_xs", NULL, 17, WEIGHT(256, 74, iq2_xs)},
    [DTYPE_IQ2_S] = {"iq2_s", NULL, 22, WEIGHT(256, 82, iq2_s)},
    [DTYPE_IQ3_XXS] = {"iq3_xxs", NULL, 18, WEIGHT(256, 98, iq3_xxs)},
    [DTYPE_IQ3_S] = {"iq3_s", NULL, 21, WEIGHT(256, 110, iq3_s)},
    [DTYPE_IQ4_NL] = {"iq4_nl", NULL, 20, WEIGHT(32, 18, iq4_nl)},
    [DTYPE_IQ4_XS] = {"iq4_xs", NULL, 23, WEIGHT(256, 136, iq4_xs)},
    [DTYPE_MXFP4] = {"mxfp4", NULL, 39, WRITTEN(32, 17, mxfp4)},
    [DTYPE_NVFP4] = {"nvfp4", NULL, 40, WEIGHT(64, 36, nvfp4)},
    [DTYPE_TQ1_0] = {"tq1_0", NULL, 34, WEIGHT(256, 54, tq1_0)},
    [DTYPE_TQ2_0] = {"tq2_0", NULL, 35, WEIGHT(256, 66, tq2_0)},
    [DTYPE_Q1_0] = {"q1_0", NULL, 41, WEIGHT(128, 18, q1_0)},
    [DTYPE_Q2_0] = {"q2_0", NULL, 42, WEIGHT(64, 18, q2_0)},
    [DTYPE_F8_E4M3] = {"f8_e4m3", "F8_E4M3", -1, WEIGHT(1, 1, f8_e4m3)},
    [DTYPE_F8_E5M2] = {"f8_e5m2", "F8_E5M2", -1, WEIGHT(1, 1, f8_e5m2)},
    [DTYPE_F8_E4M3_B32] = {"f8_e4m3_b32", NULL, -1, WEIGHT(32, 36, f8_e4m3_b32)},
    [DTYPE_F8_E4M3_B128] = {"f8_e4m3_b128", NULL, -1, WEIGHT(128, 132, f8_e4m3_b128)},
    [DTYPE_F8_E5M2_B32] = {"f8_e5m2_b32", NULL, -1, WEIGHT(32, 36, f8_e5m2_b32)},
    [DTYPE_INT4_B32] = {"int4_b32", NULL, -1, WEIGHT(32, 19, int4_b32)},
    [DTYPE_INT4_B128] = {"int4_b128", NULL, -1, WEIGHT(128, 67, int4_b128)},
    [DTYPE_I8] = {"i8", "I8", 24, SCALAR(1, i8)},
    [DTYPE_I16] = {"i16", "I16", 25, SCALAR(2, i16)},
    [DTYPE_I32] = {"i32", "I32", 26, SCALAR(4, i32)},
    [DTYPE_I64] = {"i64", "I64", 27, SCALAR(8, i64)},
    [DTYPE_F64] = {"f64", "F64", 28, SCALAR(8, f64)},
    [DTYPE_U8] = {"u8", "U8", -1, SCALAR(1, u8)},
};

const struct dtype_info *dtype_info(enum dtype t)
{
    return &rows[t];
}

enum dtype dtype_by_name(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0)
            return (enum dtype)i;
    return DTYPE_NONE;
}

enum dtype dtype_by_gguf(uint32_t number)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (rows[i].gguf >= 0 && (uint32_t)rows[i].gguf == number)
            return (enum dtype)i;
    return DTYPE_NONE;
}

enum dtype dtype_by_safetensors(const char *name)
{
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (rows[i].safetensors && strcmp(rows[i].safetensors, name) == 0)
            return (enum dtype)i;
    return DTYPE_NONE;
}

bool dtype_size(enum dtype t, uint64_t n, uint64_t *bytes)
{
    return n % rows[t].block == 0 && mul_ok(n / rows[t].block, rows[t].bytes, bytes);
}
