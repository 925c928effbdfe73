/* Decoders of the most common formats over simd16.h: the definitions of tensor/format, sixteen numbers at a time, in
 * the same order of operations and therefore the same bits. Included once by each level's file. */
#ifndef CADRE_KERNEL_DECODE_SIMD_H
#define CADRE_KERNEL_DECODE_SIMD_H

#include "kernel/kernel.h"
#include "kernel/simd16.h"
#include "tensor/format/scales.h"

/* (each of 16 bytes >> shift) & mask */
INLINE __m128i bits_at(const unsigned char *p, int shift, int mask)
{
    __m128i x = _mm_srl_epi16(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_cvtsi32_si128(shift));
    return _mm_and_si128(x, _mm_set1_epi8((char)mask));
}

INLINE v16 v_from_i8(__m128i x)
{
    return v_load_i8(&x);
}

INLINE __m128i minus(__m128i x, int by)
{
    return _mm_sub_epi8(x, _mm_set1_epi8((char)by));
}

static void decode_q4_0(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 32; b++, p += 18, dst += 32) {
        v16 d = v_set1(half_at(p));
        v_store(dst, v_mul(v_from_i8(minus(bits_at(p + 2, 0, 15), 8)), d));
        v_store(dst + 16, v_mul(v_from_i8(minus(bits_at(p + 2, 4, 15), 8)), d));
    }
}

/* d · table[4 bits] */
INLINE void decode_by_table(float *dst, float scale, const unsigned char *p, __m128i table)
{
    v16 d = v_set1(scale);
    v_store(dst, v_mul(v_from_i8(_mm_shuffle_epi8(table, bits_at(p, 0, 15))), d));
    v_store(dst + 16, v_mul(v_from_i8(_mm_shuffle_epi8(table, bits_at(p, 4, 15))), d));
}

static void decode_mxfp4(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    __m128i table = _mm_setr_epi8(0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12);
    for (size_t b = 0; b < n / 32; b++, p += 17, dst += 32)
        decode_by_table(dst, e8m0_half(p[0]), p + 1, table);
}

INLINE __m128i iq4_table(void)
{
    return _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
}

static void decode_iq4_nl(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 32; b++, p += 18, dst += 32)
        decode_by_table(dst, half_at(p), p + 2, iq4_table());
}

static void decode_iq4_xs(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 136)
        for (int g = 0; g < 8; g++, dst += 32)
            decode_by_table(dst, half_at(p) * (float)iq4_xs_scale(p, g), p + 8 + 16 * g, iq4_table());
}

/* Two registers of a group of 32 with a minimum: scale q - min */
INLINE void put_line(float *dst, v16 scale, v16 min, __m128i q0, __m128i q1)
{
    v_store(dst, v_sub(v_mul(scale, v_from_i8(q0)), min));
    v_store(dst + 16, v_sub(v_mul(scale, v_from_i8(q1)), min));
}

static void decode_q4_k(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 144) {
        float d = half_at(p), dmin = half_at(p + 2), scale, min;
        for (int g = 0; g < 8; g++, dst += 32) {
            const unsigned char *q = p + 16 + g / 2 * 32;
            int shift = g % 2 * 4;
            scale_min(p + 4, g, &scale, &min);
            put_line(dst, v_set1(scale * d), v_set1(min * dmin), bits_at(q, shift, 15), bits_at(q + 16, shift, 15));
        }
    }
}

/* The fifth bit, bit g of 16 bytes, as 16 or 0 */
INLINE __m128i fifth(const unsigned char *p, int g)
{
    return _mm_slli_epi16(bits_at(p, g, 1), 4);
}

static void decode_q5_k(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 176) {
        float d = half_at(p), dmin = half_at(p + 2), scale, min;
        for (int g = 0; g < 8; g++, dst += 32) {
            const unsigned char *q = p + 48 + g / 2 * 32;
            int shift = g % 2 * 4;
            scale_min(p + 4, g, &scale, &min);
            put_line(dst, v_set1(scale * d), v_set1(min * dmin), _mm_or_si128(bits_at(q, shift, 15), fifth(p + 16, g)),
                     _mm_or_si128(bits_at(q + 16, shift, 15), fifth(p + 32, g)));
        }
    }
}

static void decode_q6_k(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 210) {
        float d = half_at(p + 208);
        for (int g = 0; g < 16; g++, dst += 16) {
            int s = g % 8 / 2, at = g % 2 * 16;
            __m128i low = bits_at(p + g / 8 * 64 + s % 2 * 32 + at, s / 2 * 4, 15);
            __m128i high = _mm_slli_epi16(bits_at(p + 128 + g / 8 * 32 + at, s * 2, 3), 4);
            v16 q = v_from_i8(minus(_mm_or_si128(low, high), 32));
            v_store(dst, v_mul(v_set1(d * (float)(int8_t)p[192 + g]), q));
        }
    }
}

static void decode_q2_k(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 84) {
        float d = half_at(p + 80), min = half_at(p + 82);
        for (int g = 0; g < 16; g++, dst += 16) {
            v16 q = v_from_i8(bits_at(p + 16 + g / 8 * 32 + g % 2 * 16, g % 8 / 2 * 2, 3));
            v_store(dst, v_sub(v_mul(v_set1(d * (float)(p[g] & 15)), q), v_set1(min * (float)(p[g] >> 4))));
        }
    }
}

static void decode_q3_k(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 256; b++, p += 110) {
        float d = half_at(p + 108);
        for (int g = 0; g < 16; g++, dst += 16) {
            __m128i low = bits_at(p + 32 + g / 8 * 32 + g % 2 * 16, g % 8 / 2 * 2, 3);
            __m128i high = _mm_slli_epi16(bits_at(p + g % 2 * 16, g / 2, 1), 2);
            v16 q = v_from_i8(minus(_mm_or_si128(low, high), 4));
            v_store(dst, v_mul(v_set1(d * (float)q3_k_scale(p + 96, g)), q));
        }
    }
}

#endif
