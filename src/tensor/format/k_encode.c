/* Writing K-quants. What is kept per group (a scale, for q4_k and q5_k a minimum) is found by least squares: the range
 * of the group proposes integers at some two dozen step sizes; for given integers the best scale and minimum are the
 * solution of a 2 × 2 system; the proposal with the smallest squared error wins. The f16 numbers of the super-block
 * then turn scales and minima into small integers, whose neighbours are tried too, and the numbers are rounded once
 * more for what is finally stored. All sums are plain, so that what is minimised is the RMS error. */
#include <math.h>
#include <string.h>

#include "tensor/format/format.h"

enum { SUPER = 256, LANES = 4, PROPOSALS = 12 /* on either side of the plain one */ };

/* Steps finer than this lie below the smallest f16. */
static const float tiny = 0x1p-30f;

/* The nearest integer to x, cut to low … high; in f32 arithmetic that compilers can vectorise. */
static inline float level(float x, float low, float high)
{
    x = x > low ? x : low;
    x = x < high ? x : high;
    return x + 12582912.0f - 12582912.0f;
}

static void put_half(unsigned char *p, float x)
{
    uint16_t h = f32_to_f16(x);
    p[0] = (unsigned char)h;
    p[1] = (unsigned char)(h >> 8);
}

static bool all_finite(const float *x, int n)
{
    for (int i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static float add_lanes(const float s[LANES])
{
    return (s[0] + s[2]) + (s[1] + s[3]);
}

/* ---- with a minimum: x ≈ scale q - min, q = 0 … top */

struct line {
    float scale, min;
};

/* Σ (x - scale q + min)² with the best q */
static float line_error(const float *x, int n, float top, struct line f)
{
    float inverse = f.scale > 0 ? 1 / f.scale : 0, sum[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = x[i + l] + f.min - f.scale * level((x[i + l] + f.min) * inverse, 0, top);
            sum[l] += e * e;
        }
    return add_lanes(sum);
}

/* The best line for the integers that (x - low) · steps rounds to; minima below 0 cannot be stored. */
static struct line line_solve(const float *x, int n, float top, float low, float steps)
{
    float q1[LANES] = {0}, q2[LANES] = {0}, x1[LANES] = {0}, qx[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float q = level((x[i + l] - low) * steps, 0, top);
            q1[l] += q;
            q2[l] += q * q;
            x1[l] += x[i + l];
            qx[l] += q * x[i + l];
        }
    float sq = add_lanes(q1), sqq = add_lanes(q2), sx = add_lanes(x1), sqx = add_lanes(qx);
    float det = (float)n * sqq - sq * sq;
    struct line f = {det > 0 ? ((float)n * sqx - sq * sx) / det : 0, 0};
    f.min = det > 0 ? (sq * sqx - sqq * sx) / det : 0;
    if (det <= 0 || f.min < 0)
        f = (struct line){sqq > 0 ? sqx / sqq : 0, 0};
    return f.scale > 0 ? f : (struct line){0, f.min > 0 ? f.min : 0};
}

static struct line line_fit(const float *x, int n, float top)
{
    float low = 0, high = x[0];
    for (int i = 0; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    struct line best = {0, -low};
    if (high - low < tiny)
        return best;
    float least = INFINITY;
    for (int p = -PROPOSALS; p <= PROPOSALS; p++) {
        struct line f = line_solve(x, n, top, low, (top + 0.1f * (float)p) / (high - low));
        float e = line_error(x, n, top, f);
        if (e < least) {
            least = e;
            best = f;
        }
    }
    return best;
}

/* Small integers for a group's line under the super-block's d and dmin: the nearest ones or their neighbours. */
static void line_store(const float *x, int n, float top, struct line f, struct line d, int out[2])
{
    int scale = d.scale > 0 ? (int)level(f.scale / d.scale, 0, 63) : 0;
    int min = d.min > 0 ? (int)level(f.min / d.min, 0, 63) : 0;
    float least = INFINITY;
    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = min - 1; m <= min + 1; m++) {
            if (s < 0 || s > 63 || m < 0 || m > 63)
                continue;
            float e = line_error(x, n, top, (struct line){d.scale * (float)s, d.min * (float)m});
            if (e < least) {
                least = e;
                out[0] = s;
                out[1] = m;
            }
        }
}

/* The inverse of scale_min. */
static void put_scale_min(unsigned char *s, int g, int scale, int min)
{
    if (g < 4) {
        s[g] |= (unsigned char)scale;
        s[g + 4] |= (unsigned char)min;
    } else {
        s[g + 4] = (unsigned char)((scale & 15) | (min & 15) << 4);
        s[g - 4] |= (unsigned char)(scale >> 4 << 6);
        s[g] |= (unsigned char)(min >> 4 << 6);
    }
}

/* Header of 16 bytes and the integers of one super-block of q4_k or q5_k. */
static void encode_lines(const float *x, float top, unsigned char *header, uint8_t q[SUPER])
{
    struct line f[8], d = {0, 0};
    memset(q, 0, SUPER);
    if (!all_finite(x, SUPER)) {
        put_half(header, NAN);
        return;
    }
    for (int g = 0; g < 8; g++) {
        f[g] = line_fit(x + 32 * g, 32, top);
        d.scale = f[g].scale > d.scale ? f[g].scale : d.scale;
        d.min = f[g].min > d.min ? f[g].min : d.min;
    }
    put_half(header, d.scale / 63);
    put_half(header + 2, d.min / 63);
    d = (struct line){half_at(header), half_at(header + 2)};
    for (int g = 0; g < 8; g++) {
        int stored[2] = {0};
        line_store(x + 32 * g, 32, top, f[g], d, stored);
        put_scale_min(header + 4, g, stored[0], stored[1]);
        float scale = d.scale * (float)stored[0], min = d.min * (float)stored[1], inverse = scale > 0 ? 1 / scale : 0;
        for (int j = 0; j < 32; j++)
            q[32 * g + j] = (uint8_t)level((x[32 * g + j] + min) * inverse, 0, top);
    }
}

void q4_k_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    memset(p, 0, n / SUPER * 144);
    for (size_t b = 0; b < n / SUPER; b++, p += 144, src += SUPER) {
        uint8_t q[SUPER];
        encode_lines(src, 15, p, q);
        for (int j = 0; j < SUPER; j++)
            p[16 + j / 64 * 32 + j % 32] |= (unsigned char)(q[j] << j / 32 % 2 * 4);
    }
}

void q5_k_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    memset(p, 0, n / SUPER * 176);
    for (size_t b = 0; b < n / SUPER; b++, p += 176, src += SUPER) {
        uint8_t q[SUPER];
        encode_lines(src, 31, p, q);
        for (int j = 0; j < SUPER; j++) {
            p[48 + j / 64 * 32 + j % 32] |= (unsigned char)((q[j] & 15) << j / 32 % 2 * 4);
            p[16 + j % 32] |= (unsigned char)(q[j] >> 4 << j / 32);
        }
    }
}

/* ---- without: x ≈ scale q, q = -32 … 31, scales of either sign */

static float ray_error(const float *x, int n, float scale)
{
    float inverse = fabsf(scale) > 0 ? 1 / scale : 0, sum[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float e = x[i + l] - scale * level(x[i + l] * inverse, -32, 31);
            sum[l] += e * e;
        }
    return add_lanes(sum);
}

static float ray_solve(const float *x, int n, float steps)
{
    float q2[LANES] = {0}, qx[LANES] = {0};
    for (int i = 0; i < n; i += LANES)
        for (int l = 0; l < LANES; l++) {
            float q = level(x[i + l] * steps, -32, 31);
            q2[l] += q * q;
            qx[l] += q * x[i + l];
        }
    float sqq = add_lanes(q2);
    return sqq > 0 ? add_lanes(qx) / sqq : 0;
}

/* The number of largest magnitude should become about -32, which gives the scale its sign. */
static float ray_fit(const float *x, int n)
{
    float peak = 0, best = 0, least = INFINITY;
    for (int i = 0; i < n; i++)
        peak = fabsf(x[i]) > fabsf(peak) ? x[i] : peak;
    if (fabsf(peak) < tiny)
        return 0;
    for (int p = -PROPOSALS; p <= PROPOSALS; p++) {
        float scale = ray_solve(x, n, -(32 + 0.1f * (float)p) / peak), e = ray_error(x, n, scale);
        if (e < least) {
            least = e;
            best = scale;
        }
    }
    return best;
}

static int ray_store(const float *x, int n, float scale, float d)
{
    int nearest = fabsf(d) > 0 ? (int)level(scale / d, -128, 127) : 0, best = 0;
    float least = INFINITY;
    for (int s = nearest - 1; s <= nearest + 1; s++) {
        float e = s < -128 || s > 127 ? INFINITY : ray_error(x, n, d * (float)s);
        if (e < least) {
            least = e;
            best = s;
        }
    }
    return best;
}

void q6_k_encode(const float *src, void *dst, size_t n)
{
    unsigned char *p = dst;
    memset(p, 0, n / SUPER * 210);
    for (size_t b = 0; b < n / SUPER; b++, p += 210, src += SUPER) {
        float scale[16], peak = 0;
        if (!all_finite(src, SUPER)) {
            put_half(p + 208, NAN);
            continue;
        }
        for (int g = 0; g < 16; g++) {
            scale[g] = ray_fit(src + 16 * g, 16);
            peak = fabsf(scale[g]) > fabsf(peak) ? scale[g] : peak;
        }
        put_half(p + 208, peak / -128);
        float d = half_at(p + 208);
        for (int g = 0; g < 16; g++) {
            int stored = ray_store(src + 16 * g, 16, scale[g], d);
            p[192 + g] = (unsigned char)(int8_t)stored;
            float step = d * (float)stored, inverse = fabsf(step) > 0 ? 1 / step : 0;
            for (int j = 0; j < 16; j++) {
                unsigned q = (unsigned)((int)level(src[16 * g + j] * inverse, -32, 31) + 32);
                int at = g % 2 * 16 + j, s = g % 8 / 2; /* the places q6_k_decode reads */
                p[g / 8 * 64 + s % 2 * 32 + at] |= (unsigned char)((q & 15) << s / 2 * 4);
                p[128 + g / 8 * 32 + at] |= (unsigned char)(q >> 4 << s * 2);
            }
        }
    }
}
