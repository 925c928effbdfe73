/* One, two and log2(3) bits a number. */
#include "tensor/format/format.h"

enum { SUPER = 256 };

/* A byte holds five ternary digits as ⌈256/243 · (their base-3 number)⌉: multiplying by 3 moves the first digit above
 * bit 8, whatever digits were multiplied away before (modulo 256). */
static void put_trits(float *dst, float d, const unsigned char *q, int bytes, int digits)
{
    static const uint8_t power[5] = {1, 3, 9, 27, 81};
    for (int t = 0; t < digits; t++)
        for (int j = 0; j < bytes; j++)
            *dst++ = (float)((int)((uint32_t)(uint8_t)(q[j] * power[t]) * 3 >> 8) - 1) * d;
}

/* {48 bytes of five digits, 4 bytes of four, d}: d (digit - 1). Digit t of byte j is number bytes · t + j of its run of
 * 32, 16 or 4 bytes. */
void tq1_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 54, dst += SUPER) {
        float d = half_at(p + 52);
        put_trits(dst, d, p, 32, 5);
        put_trits(dst + 160, d, p + 32, 16, 5);
        put_trits(dst + 240, d, p + 48, 4, 4);
    }
}

/* {64 bytes, d}: d (q - 1). In each half of 128 numbers, number 32 s + i is bits 2 s of byte i. */
void tq2_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / SUPER; b++, p += 66) {
        float d = half_at(p + 64);
        for (int g = 0; g < 8; g++, dst += 32)
            for (int j = 0; j < 32; j++)
                dst[j] = (float)((p[g / 4 * 32 + j] >> g % 4 * 2 & 3) - 1) * d;
    }
}

const int8_t q1_values[2] = {-1, 1}, trit_values[16] = {-1, 0, 1};

/* {d, 16 bytes}, blocks of 128: d where the bit is set, else -d */
void q1_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 128; b++, p += 18, dst += 128) {
        float d = half_at(p);
        for (int j = 0; j < 128; j++)
            dst[j] = p[2 + j / 8] >> j % 8 & 1 ? d : -d;
    }
}

/* {d, 16 bytes}, blocks of 64: d (q - 1), four numbers a byte in order */
void q2_0_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 64; b++, p += 18, dst += 64) {
        float d = half_at(p);
        for (int j = 0; j < 64; j++)
            dst[j] = (float)((p[2 + j / 4] >> j % 4 * 2 & 3) - 1) * d;
    }
}
