/* Blocks of 32 with one f16 scale. Four-bit numbers j and j + 16 share byte j, the first in its low half. */
#include <math.h>

#include "tensor/format/format.h"

enum { BLOCK = 32, HALF = BLOCK / 2 };

/* {d, 16 bytes}: d (q - 8) */
void q4_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / BLOCK; b++, p += 18, dst += BLOCK) {
        float d = half_at(p);
        for (int j = 0; j < HALF; j++) {
            dst[j] = (float)((p[2 + j] & 15) - 8) * d;
            dst[j + HALF] = (float)((p[2 + j] >> 4) - 8) * d;
        }
    }
}

/* {d, m, 16 bytes}: d q + m */
void q4_1_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / BLOCK; b++, p += 20, dst += BLOCK) {
        float d = half_at(p), m = half_at(p + 2);
        for (int j = 0; j < HALF; j++) {
            dst[j] = (float)(p[4 + j] & 15) * d + m;
            dst[j + HALF] = (float)(p[4 + j] >> 4) * d + m;
        }
    }
}

/* Number j of 16 bytes of low halves and a word of fifth bits. */
static inline int five_bits(const unsigned char *low, uint32_t high, int j)
{
    return (int)((j < HALF ? low[j] & 15u : low[j - HALF] >> 4u) | (high >> j & 1) << 4);
}

/* {d, fifth bits, 16 bytes}: d (q - 16) */
void q5_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / BLOCK; b++, p += 22, dst += BLOCK) {
        float d = half_at(p);
        uint32_t high = le32(p + 2);
        for (int j = 0; j < BLOCK; j++)
            dst[j] = (float)(five_bits(p + 6, high, j) - 16) * d;
    }
}

/* {d, m, fifth bits, 16 bytes}: d q + m */
void q5_1_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / BLOCK; b++, p += 24, dst += BLOCK) {
        float d = half_at(p), m = half_at(p + 2);
        uint32_t high = le32(p + 4);
        for (int j = 0; j < BLOCK; j++)
            dst[j] = (float)five_bits(p + 8, high, j) * d + m;
    }
}

/* {d, 32 int8}: d q */
void q8_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / BLOCK; b++, p += 34, dst += BLOCK) {
        float d = half_at(p);
        for (int j = 0; j < BLOCK; j++)
            dst[j] = (float)(int8_t)p[2 + j] * d;
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
void q8_0_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 34) {
        const float *x = src + b * BLOCK;
        float max = 0;
        for (int i = 0; i < BLOCK; i++)
            max = fabsf(x[i]) > max || isnan(x[i]) ? fabsf(x[i]) : max;
        float d = max / 127.0f, inverse = d != 0 ? 1.0f / d : 0;
        uint16_t h = f32_to_f16(d);
        p[0] = (unsigned char)h;
        p[1] = (unsigned char)(h >> 8);
        for (int i = 0; i < BLOCK; i++)
            p[2 + i] = (unsigned char)q8_0_round(x[i] * inverse);
    }
}
