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

/* ---- writing: as every writer of these formats does. A block with a NaN or an infinity gets NaN scales, so that it
 * decodes to NaN and is not taken for weights. */

static void put_half(unsigned char *p, float x)
{
    uint16_t h = f32_to_f16(x);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

/* x cut down to an integer 0 … max; 0 where x is no number. */
static int floor_level(float x, int max)
{
    return x >= (float)max ? max : x > 0 ? (int)x : 0;
}

struct range {
    float low, high, peak; /* peak: the number of largest magnitude, with its sign */
};

/* All NaN if a number is not finite. */
static struct range block_range(const float *x)
{
    struct range r = {x[0], x[0], 0};
    for (int i = 0; i < BLOCK; i++) {
        if (!isfinite(x[i]))
            return (struct range){NAN, NAN, NAN};
        r.low = x[i] < r.low ? x[i] : r.low;
        r.high = x[i] > r.high ? x[i] : r.high;
        r.peak = fabsf(x[i]) > fabsf(r.peak) ? x[i] : r.peak;
    }
    return r;
}

/* floor(x · steps + shift) for the numbers of a block: low halves to 16 bytes, fifth bits to *high. */
static void put_levels(unsigned char *low, uint32_t *high, const float *x, float from, float steps, float shift,
                       int max)
{
    *high = 0;
    for (int j = 0; j < BLOCK; j++) {
        unsigned q = (unsigned)floor_level((x[j] - from) * steps + shift, max);
        if (j < HALF)
            low[j] = (unsigned char)(q & 15);
        else
            low[j - HALF] |= (unsigned char)((q & 15) << 4);
        *high |= (q >> 4) << j;
    }
}

static void put_word(unsigned char *p, uint32_t x)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(x >> 8 * i);
}

static float inverse(float d)
{
    return d != 0 ? 1.0f / d : 0;
}

/* d = peak / -8, so that the peak itself is exact */
void q4_0_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 18, src += BLOCK) {
        float d = block_range(src).peak / -8;
        uint32_t none;
        put_half(p, d);
        put_levels(p + 2, &none, src, 0, inverse(d), 8.5f, 15);
    }
}

/* d = (high - low) / 15, m = low */
void q4_1_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 20, src += BLOCK) {
        struct range r = block_range(src);
        float d = (r.high - r.low) / 15;
        uint32_t none;
        put_half(p, d);
        put_half(p + 2, r.low);
        put_levels(p + 4, &none, src, r.low, inverse(d), 0.5f, 15);
    }
}

void q5_0_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 22, src += BLOCK) {
        float d = block_range(src).peak / -16;
        uint32_t high;
        put_half(p, d);
        put_levels(p + 6, &high, src, 0, inverse(d), 16.5f, 31);
        put_word(p + 2, high);
    }
}

void q5_1_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 24, src += BLOCK) {
        struct range r = block_range(src);
        float d = (r.high - r.low) / 31;
        uint32_t high;
        put_half(p, d);
        put_half(p + 2, r.low);
        put_levels(p + 8, &high, src, r.low, inverse(d), 0.5f, 31);
        put_word(p + 4, high);
    }
}

/* Where d underflows to 0 or is not finite no integer says anything: 0. */
static int8_t q8_0_round(float x)
{
    float r = roundf(x);
    return r >= -127 && r <= 127 ? (int8_t)r : 0;
}

/* d = max|x| / 127, q = round(x / d), halves away from zero */
void q8_0_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / BLOCK; b++, p += 34, src += BLOCK) {
        float max = 0;
        for (int i = 0; i < BLOCK; i++)
            max = fabsf(src[i]) > max || isnan(src[i]) ? fabsf(src[i]) : max;
        float d = max / 127.0f, steps = inverse(d);
        put_half(p, d);
        for (int i = 0; i < BLOCK; i++)
            p[2 + i] = (unsigned char)q8_0_round(src[i] * steps);
    }
}
