/* Four-bit floats (E2M1: 0, 1/2, 1, 3/2, 2, 3, 4, 6 and their negatives) with a shared scale. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "tensor/format/scales.h"

/* Twice the number, an integer; scales below are halved for it, which is exact. */
const int8_t fp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void put_fp4(float *dst, float scale, const unsigned char *q, int half)
{
    for (int j = 0; j < half; j++) {
        dst[j] = (float)fp4_values[q[j] & 15] * scale;
        dst[j + half] = (float)fp4_values[q[j] >> 4] * scale;
    }
}

/* {e, 16 bytes}, blocks of 32 (OCP Microscaling Formats 1.0), numbers j and j + 16 in byte j */
void mxfp4_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 32; b++, p += 17, dst += 32)
        put_fp4(dst, e8m0_half(p[0]), p + 1, 16);
}

/* {4 scales, 32 bytes}, blocks of 64 in four groups of 16 (8 bytes each), numbers j and j + 8 in byte j */
void nvfp4_decode(const void *src, float *dst, size_t n)
{
    const unsigned char *p = src;
    for (size_t b = 0; b < n / 64; b++, p += 36)
        for (int g = 0; g < 4; g++, dst += 16)
            put_fp4(dst, ue4m3_half(p[g]), p + 4 + 8 * g, 8);
}

/* The code nearest to x under a halved scale, the smaller magnitude when two are. */
static unsigned nearest_fp4(float x, float scale)
{
    unsigned best = 0;
    float least = fabsf(x);
    for (unsigned c = 1; c < 8; c++) {
        float e = fabsf((float)fp4_values[c] * scale - fabsf(x));
        if (e < least) {
            least = e;
            best = c;
        }
    }
    return best ? best | (x < 0) << 3 : 0;
}

/* The power of two that puts the largest magnitude between 4 and 8 (numbers above 6 become 6), as OCP defines the
 * conversion. Scales cannot say NaN here: numbers that are not finite count as the largest finite ones. */
void mxfp4_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    for (size_t b = 0; b < n / 32; b++, p += 17, src += 32) {
        float peak = 0, x[32];
        for (int j = 0; j < 32; j++) {
            x[j] = isfinite(src[j]) ? src[j] : copysignf(FLT_MAX, src[j]);
            peak = fabsf(x[j]) > peak ? fabsf(x[j]) : peak;
        }
        int e = peak > 0 ? ilogbf(peak) - 2 + 127 : 0;
        p[0] = (unsigned char)(e > 0 ? e : 0);
        for (int j = 0; j < 16; j++)
            p[1 + j] =
                (unsigned char)(nearest_fp4(x[j], e8m0_half(p[0])) | nearest_fp4(x[j + 16], e8m0_half(p[0])) << 4);
    }
}
