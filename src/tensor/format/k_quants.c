/* K-quants: super-blocks of 256 numbers. Groups of 16 or 32 have small integer scales (and minima), which f16 numbers
 * of the super-block scale again. */
#include "tensor/format/scales.h"

enum { SUPER = 256 };

/* {16 × (scale | min << 4), 64 bytes of 2 bits, d, dmin}, groups of 16: d·scale q - dmin·min. In each half of 128
 * numbers, number 32 s + i is bits 2 s of byte i. */
void q2_k_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 84) {
        const unsigned char *q = p + 16;
        float d = half_at(p + 80), min = half_at(p + 82);
        for (int g = 0; g < 16; g++, dst += 16) {
            float scale = d * (float)(p[g] & 15), low = min * (float)(p[g] >> 4);
            const unsigned char *from = q + g / 8 * 32 + g % 2 * 16;
            int shift = g % 8 / 2 * 2;
            for (int j = 0; j < 16; j++)
                dst[j] = scale * (float)(from[j] >> shift & 3) - low;
        }
    }
}

/* {32 bytes of third bits, 64 bytes of 2 bits as in q2_k, 12 bytes of scales, d}, groups of 16: d·scale (q - 4). Third
 * bit of number 32 g + i: bit g of byte i. */
void q3_k_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 110) {
        float d = half_at(p + 108);
        for (int g = 0; g < 16; g++, dst += 16) {
            float scale = d * (float)q3_k_scale(p + 96, g);
            const unsigned char *low = p + 32 + g / 8 * 32 + g % 2 * 16, *high = p + g % 2 * 16;
            int shift = g % 8 / 2 * 2, bit = g / 2;
            for (int j = 0; j < 16; j++)
                dst[j] = scale * (float)((low[j] >> shift & 3) + (high[j] >> bit & 1) * 4 - 4);
        }
    }
}

/* {d, dmin, 12 bytes of scales and minima, 128 bytes}, groups of 32: d·scale q - dmin·min. Groups 2 g and 2 g + 1 are
 * the low and high halves of 32 bytes. */
void q4_k_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 144) {
        float d = half_at(p), dmin = half_at(p + 2);
        for (int g = 0; g < 8; g++, dst += 32) {
            const unsigned char *q = p + 16 + g / 2 * 32;
            float scale, min;
            scale_min(p + 4, g, &scale, &min);
            scale *= d;
            min *= dmin;
            int shift = g % 2 * 4;
            for (int j = 0; j < 32; j++)
                dst[j] = scale * (float)(q[j] >> shift & 15) - min;
        }
    }
}

/* As q4_k with 32 bytes of fifth bits before the halves: number j of group g has bit g of byte j. */
void q5_k_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 176) {
        float d = half_at(p), dmin = half_at(p + 2);
        for (int g = 0; g < 8; g++, dst += 32) {
            const unsigned char *q = p + 48 + g / 2 * 32, *high = p + 16;
            float scale, min;
            scale_min(p + 4, g, &scale, &min);
            scale *= d;
            min *= dmin;
            int shift = g % 2 * 4;
            for (int j = 0; j < 32; j++)
                dst[j] = scale * (float)((q[j] >> shift & 15) + (high[j] >> g & 1) * 16) - min;
        }
    }
}

/* {128 bytes of low halves, 64 bytes of upper two bits, 16 int8 scales, d}, groups of 16: d·scale (q - 32). In each
 * half of 128 numbers, number 32 s + i has its low half in byte 32 (s % 2) + i (s < 2: the low four bits), its upper
 * bits at bit 2 s of byte i. */
void q6_k_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 210) {
        float d = half_at(p + 208);
        for (int g = 0; g < 16; g++, dst += 16) {
            int s = g % 8 / 2, at = g % 2 * 16;
            const unsigned char *low = p + g / 8 * 64 + s % 2 * 32 + at, *high = p + 128 + g / 8 * 32 + at;
            float scale = d * (float)(int8_t)p[192 + g];
            int low_shift = s / 2 * 4, high_shift = s * 2;
            for (int j = 0; j < 16; j++)
                dst[j] = scale * (float)((low[j] >> low_shift & 15) + (high[j] >> high_shift & 3) * 16 - 32);
        }
    }
}
