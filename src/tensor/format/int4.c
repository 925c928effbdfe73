/* Four-bit integers with an f16 scale and an integer zero of their own, as GPTQ and AWQ checkpoints mean them, in rows:
 * {scale, zero, 16 or 64 bytes}: (q - zero) · scale, two numbers a byte in order, the first in its low half. */
#include "tensor/format/format.h"

static inline __attribute__((always_inline)) void decode_blocks(const unsigned char *p, float *dst, size_t n,
                                                                size_t block)
{
    for (size_t b = 0; b < n / block; b++, p += 3 + block / 2, dst += block) {
        float scale = half_at(p);
        int zero = p[2];
        for (size_t j = 0; j < block / 2; j++) {
            dst[2 * j] = (float)((p[3 + j] & 15) - zero) * scale;
            dst[2 * j + 1] = (float)((p[3 + j] >> 4) - zero) * scale;
        }
    }
}

void int4_b32_decode(const void *src, float *dst, size_t n)
{
    decode_blocks(src, dst, n, 32);
}

void int4_b128_decode(const void *src, float *dst, size_t n)
{
    decode_blocks(src, dst, n, 128);
}
