/* i-quants: groups of 4 or 8 numbers are an entry of a codebook (iq_tables.h), with signs and a small integer scale;
 * super-blocks of 256. IQ4 has a codebook of 16 single numbers instead. */
#include <string.h>

#include "tensor/format/format.h"
#include "tensor/format/iq_tables.h"
#include "tensor/format/scales.h"

enum { SUPER = 256, GROUP = 8 };

/* What the digits of a codebook entry stand for, then their negatives. IQ1: eight times -1, 0, 1, moved up or down by
 * one. */
const int8_t iq1_values[16] = {-7, 1, 9, 0, 0, 0, 0, 0, -9, -1, 7};
const int8_t iq2_values[16] = {8, 25, 43, 0, 0, 0, 0, 0, -8, -25, -43};
const int8_t iq3_xxs_values[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
const int8_t iq3_s_values[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};

/* Seven sign bits; the eighth makes their number even. */
static uint32_t even_signs(uint32_t seven)
{
    return seven | (uint32_t)__builtin_parity(seven) << 7;
}

static void put_iq2(float *dst, float scale, uint32_t code, uint32_t signs)
{
    for (int j = 0; j < GROUP; j++)
        dst[j] = scale * (float)iq2_values[(code >> 2 * j & 3) | (signs >> j & 1) << 3];
}

static void put_iq3(float *dst, float scale, uint32_t first, uint32_t second, uint32_t signs, const int8_t value[16])
{
    static const int place[4] = {0, 8, 4, 12};
    uint32_t code[2] = {first, second};
    for (int j = 0; j < GROUP; j++)
        dst[j] = scale * (float)value[(code[j / 4] >> place[j % 4] & 7) | (signs >> j & 1) << 3];
}

/* {d, 8 × {4 codes, word of 4 × 7 signs and a scale in bits 28–31}}: d (1/2 + scale) / 4 · ±entry */
void iq2_xxs_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 66) {
        const unsigned char *q = p + 2;
        for (int g = 0; g < SUPER / 32; g++, q += 8) {
            uint32_t word = le32(q + 4);
            float scale = half_at(p) * (0.5f + (float)(word >> 28)) * 0.25f;
            for (int l = 0; l < 4; l++, dst += GROUP)
                put_iq2(dst, scale, iq2xxs_codes[q[l]], even_signs(word >> 7 * l & 127));
        }
    }
}

/* {d, 32 × u16 (code 9 bits, signs 7 bits), 8 bytes of two scales each (16 numbers a scale)} */
void iq2_xs_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 74)
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            uint32_t q = le16(p + 2 + 2 * g), s = p[66 + g / 4] >> g % 4 / 2 * 4 & 15u;
            put_iq2(dst, half_at(p) * (0.5f + (float)s) * 0.25f, iq2xs_codes[q & 511], even_signs(q >> 9));
        }
}

/* {d, 32 low bytes of codes, 32 bytes of signs, 8 bytes of the codes' upper two bits, 8 bytes of two scales each} */
void iq2_s_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 82)
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            uint32_t code = p[2 + g] | (p[66 + g / 4] >> g % 4 * 2 & 3u) << 8, s = p[74 + g / 4] >> g % 4 / 2 * 4 & 15u;
            put_iq2(dst, half_at(p) * (0.5f + (float)s) * 0.25f, iq2s_codes[code], p[34 + g]);
        }
}

/* {d, 64 codes of four numbers, 8 words of signs and scale as in iq2_xxs}: d (1/2 + scale) / 2 · ±entry */
void iq3_xxs_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 98)
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            uint32_t word = le32(p + 66 + g / 4 * 4);
            const unsigned char *q = p + 2 + 2 * g;
            put_iq3(dst, half_at(p) * (0.5f + (float)(word >> 28)) * 0.5f, iq3xxs_codes[q[0]], iq3xxs_codes[q[1]],
                    even_signs(word >> g % 4 * 7 & 127), iq3_xxs_values);
        }
}

/* {d, 64 low bytes of codes, 8 bytes of their ninth bits, 32 bytes of signs, 4 bytes of two scales each (32 numbers a
 * scale)}: d (1 + 2 scale) · ±entry */
void iq3_s_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 110)
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            const unsigned char *q = p + 2 + 2 * g;
            uint32_t high = (uint32_t)p[66 + g / 4] >> g % 4 * 2, s = p[106 + g / 8] >> g % 8 / 4 * 4 & 15u;
            put_iq3(dst, half_at(p) * (float)(1 + 2 * s), iq3s_codes[q[0] | (high & 1) << 8],
                    iq3s_codes[q[1] | (high & 2) << 7], p[74 + g], iq3_s_values);
        }
}

/* Digits stand for -1, 0, 1, and all eight numbers are moved by an eighth: scale (digit ± 1/8). */
static void put_iq1(float *dst, float scale, uint32_t code, bool down)
{
    for (int j = 0; j < GROUP; j++)
        dst[j] = scale * 0.125f * (float)iq1_values[(code >> 2 * j & 3) | (uint32_t)down << 3];
}

/* {d, 32 low bytes of codes, 8 × u16 (4 × 3 upper bits, scale in bits 12–14, direction in bit 15)}: scale d (2 s + 1)
 */
void iq1_s_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 50)
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            uint32_t h = le16(p + 34 + g / 4 * 2), code = p[2 + g] | (h >> g % 4 * 3 & 7) << 8;
            put_iq1(dst, half_at(p) * (float)(2 * (h >> 12 & 7) + 1), iq1s_codes[code], h >> 15);
        }
}

/* {32 low bytes of codes, 16 bytes of two × (3 upper bits, direction), 4 × u16 of four 3-bit scales (16 numbers a
 * scale)}; the upper four bits of these words, lowest word first, are d. */
void iq1_m_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 56) {
        uint32_t bits = 0;
        for (int i = 0; i < 4; i++)
            bits |= le16(p + 48 + 2 * i) >> 12 << 4 * i;
        float d = f16_to_f32((uint16_t)bits);
        for (int g = 0; g < SUPER / GROUP; g++, dst += GROUP) {
            uint32_t h = p[32 + g / 2] >> g % 2 * 4 & 15u, code = p[g] | (h & 7) << 8;
            uint32_t s = le16(p + 48 + g / 8 * 2) >> g % 8 / 2 * 3 & 7;
            put_iq1(dst, d * (float)(2 * s + 1), iq1s_codes[code], h >> 3);
        }
    }
}

const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void put_iq4(float *dst, float scale, const unsigned char *q)
{
    for (int j = 0; j < 16; j++) {
        dst[j] = scale * (float)iq4_values[q[j] & 15];
        dst[j + 16] = scale * (float)iq4_values[q[j] >> 4];
    }
}

/* {d, 16 bytes}, blocks of 32: d · value */
void iq4_nl_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 32; b++, p += 18, dst += 32)
        put_iq4(dst, half_at(p), p + 2);
}

/* {d, u16 of upper two bits of 8 scales, 4 bytes of their low halves, 128 bytes}: d (scale - 32) · value */
void iq4_xs_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 136)
        for (int g = 0; g < SUPER / 32; g++, dst += 32)
            put_iq4(dst, half_at(p) * (float)iq4_xs_scale(le16(p + 2), p + 4, g), p + 8 + 16 * g);
}
