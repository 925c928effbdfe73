/* Scales that lie spread over bits, for the decoders here and the faster ones of the kernel levels. */
#ifndef CADRE_TENSOR_FORMAT_SCALES_H
#define CADRE_TENSOR_FORMAT_SCALES_H

#include <string.h>

#include "tensor/format/format.h"

/* Six-bit scale g of 16 in 12 bytes: low halves first (g and g + 8 share a byte), then bits 4 and 5 (g, g + 4, g + 8
 * and g + 12 share one). */
static inline int q3_k_scale(const unsigned char *s, int g)
{
    int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4;
    return (low | (s[8 + g % 4] >> g / 4 * 2 & 3) << 4) - 32;
}

/* Six-bit scale and minimum of group g of 8 in 12 bytes: scales 0–3, minima 0–3 in the low six bits of bytes 0–3 and
 * 4–7; the others' low halves in bytes 8–11, their upper two bits above scale g - 4 and minimum g - 4. */
static inline void scale_min(const unsigned char *s, int g, float *scale, float *min)
{
    if (g < 4) {
        *scale = (float)(s[g] & 63);
        *min = (float)(s[g + 4] & 63);
    } else {
        *scale = (float)((s[g + 4] & 15) | s[g - 4] >> 6 << 4);
        *min = (float)(s[g + 4] >> 4 | s[g] >> 6 << 4);
    }
}

/* 2^(e - 128): half of what the power-of-two scale e says (E8M0). The number 255, not a number to OCP, is 2^127. */
static inline float e8m0_half(unsigned e)
{
    uint32_t bits = e < 2 ? 0x00200000u << e : (e - 1) << 23;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Half of an unsigned E4M3 scale; 127, not a number there, is 0. Bit 7 is no part of it. */
static inline float ue4m3_half(unsigned x)
{
    unsigned e = x >> 3 & 15, m = x & 7, bits = ((e ? e : 1) + 116) << 23; /* 2^(e - 11) */
    float f;
    memcpy(&f, &bits, sizeof f);
    return x == 0x7f ? 0 : (float)(e ? 8 + m : m) * f;
}

/* Scale of group g of 8 of an iq4_xs block: low halves in four bytes, upper two bits in a u16. */
static inline int iq4_xs_scale(unsigned high, const unsigned char *low, int g)
{
    return (int)((low[g / 2] >> g % 2 * 4 & 15u) | (high >> 2 * g & 3) << 4) - 32;
}

#endif
