#include "tensor/dtype.h"

#include <math.h>
#include <string.h>

#include "base/checked.h"

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

enum { Q8_0_BLOCK = 32, Q8_0_BYTES = 34 };

static void q8_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / Q8_0_BLOCK; b++, p += Q8_0_BYTES) {
        float d = f16_to_f32((uint16_t)(p[0] | p[1] << 8));
        for (int i = 0; i < Q8_0_BLOCK; i++)
            dst[b * Q8_0_BLOCK + (size_t)i] = d * (float)(int8_t)p[2 + i];
    }
}

/* Where d underflows to 0 or is not finite no integer says anything: 0. */
static int8_t q8_0_round(float x)
{
    float r = roundf(x);
    return r >= -127 && r <= 127 ? (int8_t)r : 0;
}

/* d = max|x| / 127, q = round(x / d), halves away from zero, as every writer of the format does. A NaN or infinity
 * makes d one, so that the block decodes to NaN and is not taken for weights. */
static void q8_0_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / Q8_0_BLOCK; b++, p += Q8_0_BYTES) {
        const float *x = src + b * Q8_0_BLOCK;
        float max = 0;
        for (int i = 0; i < Q8_0_BLOCK; i++)
            max = fabsf(x[i]) > max || isnan(x[i]) ? fabsf(x[i]) : max;
        float d = max / 127.0f, inverse = d != 0 ? 1.0f / d : 0;
        uint16_t h = f32_to_f16(d);
        p[0] = (unsigned char)h;
        p[1] = (unsigned char)(h >> 8);
        for (int i = 0; i < Q8_0_BLOCK; i++)
            p[2 + i] = (unsigned char)q8_0_round(x[i] * inverse);
    }
}

static const struct dtype_info rows[DTYPE_COUNT] = {
    [DTYPE_F32] = {"f32", "F32", 0, 1, 4, f32_decode, f32_encode},
    [DTYPE_F16] = {"f16", "F16", 1, 1, 2, f16_decode, f16_encode},
    [DTYPE_BF16] = {"bf16", "BF16", 30, 1, 2, bf16_decode, bf16_encode},
    [DTYPE_Q8_0] = {"q8_0", NULL, 8, Q8_0_BLOCK, Q8_0_BYTES, q8_0_decode, q8_0_encode},
    [DTYPE_I8] = {"i8", "I8", 24, 1, 1, i8_decode, NULL},
    [DTYPE_I16] = {"i16", "I16", 25, 1, 2, i16_decode, NULL},
    [DTYPE_I32] = {"i32", "I32", 26, 1, 4, i32_decode, NULL},
    [DTYPE_I64] = {"i64", "I64", 27, 1, 8, i64_decode, NULL},
    [DTYPE_F64] = {"f64", "F64", 28, 1, 8, f64_decode, NULL},
    [DTYPE_U8] = {"u8", "U8", -1, 1, 1, u8_decode, NULL},
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
