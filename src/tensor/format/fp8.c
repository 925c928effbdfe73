/* Eight-bit floats (OCP 8-bit Floating Point 1.0), single and in rows of blocks with an f32 scale. */
#include <math.h>
#include <string.h>

#include "tensor/format/format.h"

typedef float element_fn(unsigned x);

/* Sign, 4 bits of exponent (bias 7), 3 of fraction; no infinities, all ones is NaN. Placing the bits as those of an f32
 * scales the number by 2^-120 exactly, subnormals too. */
static inline float e4m3(unsigned x)
{
    uint32_t sign = (x & 0x80u) << 24, bits = (x & 0x7fu) << 20;
    float f;
    memcpy(&f, &bits, sizeof f);
    f = (x & 0x7fu) == 0x7f ? NAN : f * 0x1p120f;
    memcpy(&bits, &f, sizeof f);
    bits |= sign;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Sign, 5 bits of exponent, 2 of fraction: the upper half of an f16. */
static inline float e5m2(unsigned x)
{
    return f16_to_f32((uint16_t)(x << 8));
}

static inline __attribute__((always_inline)) void decode_blocks(const unsigned char *p, float *dst, size_t n,
                                                                size_t block, element_fn *element)
{
    for (size_t b = 0; b < n / block; b++, p += 4 + block, dst += block) {
        float scale;
        memcpy(&scale, p, sizeof scale);
        for (size_t j = 0; j < block; j++)
            dst[j] = element(p[4 + j]) * scale;
    }
}

void f8_e4m3_decode(const void *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = e4m3(((const unsigned char *)src)[i]);
}

void f8_e5m2_decode(const void *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = e5m2(((const unsigned char *)src)[i]);
}

/* {f32 scale, 32 or 128 numbers}: number · scale */
void f8_e4m3_b32_decode(const void *src, float *dst, size_t n)
{
    decode_blocks(src, dst, n, 32, e4m3);
}

void f8_e4m3_b128_decode(const void *src, float *dst, size_t n)
{
    decode_blocks(src, dst, n, 128, e4m3);
}

void f8_e5m2_b32_decode(const void *src, float *dst, size_t n)
{
    decode_blocks(src, dst, n, 32, e5m2);
}
