/* Row kernels over simd16.h; generic.c is the definition. Included once by each level's file. */
#ifndef CADRE_KERNEL_ROWS_SIMD_H
#define CADRE_KERNEL_ROWS_SIMD_H

#include <math.h>

#include "kernel/kernel.h"
#include "kernel/poly.h"
#include "kernel/simd16.h"

/* for each 16 elements at i, n left; the last piece is masked */
#define FOR16(i, left, n) for (int64_t i = 0, left = (n); left > 0; i += 16, left -= 16)

/* ---- exp and relatives (poly.h) */

INLINE v16 v_exp(v16 x)
{
    v16 magic = v_set1(EXP_MAGIC), one = v_set1(1.0f);
    v16 t = v_fma(x, v_set1(EXP_LOG2E), magic), n = v_sub(t, magic);
    v16 r = v_fma(n, v_set1(-EXP_LN2_LO), v_fma(n, v_set1(-EXP_LN2_HI), x));
    v16 p = v_set1(EXP_C6);
    p = v_fma(p, r, v_set1(EXP_C5));
    p = v_fma(p, r, v_set1(EXP_C4));
    p = v_fma(p, r, v_set1(EXP_C3));
    p = v_fma(p, r, v_set1(EXP_C2));
    p = v_fma(p, r, one);
    p = v_fma(p, r, one);
    v16 y = v_from_bits(i_add(v_bits(p), i_shl(v_bits(t), 23)));
    y = v_select(v_less(x, v_set1(EXP_MIN)), v_set1(0), y);
    y = v_select(v_less(v_set1(EXP_MAX), x), v_set1(INFINITY), y);
    return v_select(v_nan(x), x, y);
}

INLINE v16 v_negate(v16 x)
{
    return v_from_bits(i_xor(v_bits(x), i_set1((int)0x80000000u)));
}

INLINE v16 v_sigmoid(v16 x)
{
    v16 one = v_set1(1.0f);
    return v_div(one, v_add(one, v_exp(v_negate(x))));
}

INLINE v16 v_tanh(v16 x)
{
    v16 one = v_set1(1.0f);
    i16 sign = i_and(v_bits(x), i_set1((int)0x80000000u));
    v16 mag = v_from_bits(i_xor(v_bits(x), sign)), z = v_mul(x, x);
    v16 p = v_set1(TANH_T4);
    p = v_fma(p, z, v_set1(TANH_T3));
    p = v_fma(p, z, v_set1(TANH_T2));
    p = v_fma(p, z, v_set1(TANH_T1));
    p = v_fma(p, z, v_set1(TANH_T0));
    v16 small = v_fma(v_mul(mag, z), p, mag);
    v16 large = v_sub(one, v_div(v_set1(2.0f), v_add(v_exp(v_add(mag, mag)), one)));
    v16 y = v_select(v_less(mag, v_set1(TANH_SPLIT)), small, large);
    return v_from_bits(i_or(v_bits(y), sign));
}

static void exp_row(float *y, const float *x, int64_t n)
{
    FOR16(i, left, n)
    v_put(y + i, v_exp(v_get(x + i, left)), left);
}

static float exp_sum(float *y, const float *x, float shift, int64_t n)
{
    v16 acc = v_set1(0), s = v_set1(shift);
    FOR16(i, left, n)
    {
        v16 e = v_exp(v_sub(v_get(x + i, left), s));
        v_put(y + i, e, left);
        acc = v_add(acc, left >= 16 ? e : v_keep(v_first(left), e));
    }
    return v_sum(acc);
}

static void sigmoid_row(float *y, const float *x, int64_t n)
{
    FOR16(i, left, n)
    v_put(y + i, v_sigmoid(v_get(x + i, left)), left);
}

static void tanh_row(float *y, const float *x, int64_t n)
{
    FOR16(i, left, n)
    v_put(y + i, v_tanh(v_get(x + i, left)), left);
}

static void swiglu(float *y, const float *gate, const float *up, int64_t n)
{
    FOR16(i, left, n)
    {
        v16 g = v_get(gate + i, left);
        v_put(y + i, v_mul(v_mul(g, v_sigmoid(g)), v_get(up + i, left)), left);
    }
}

static void swiglu_back(float *d_gate, float *d_up, const float *dy, const float *gate, const float *up, int64_t n)
{
    v16 one = v_set1(1.0f);
    FOR16(i, left, n)
    {
        v16 g = v_get(gate + i, left), u = v_get(up + i, left), d = v_get(dy + i, left), s = v_sigmoid(g);
        v16 slope = v_mul(s, v_fma(g, v_sub(one, s), one));
        v_put(d_gate + i, v_fma(v_mul(d, u), slope, v_get(d_gate + i, left)), left);
        v_put(d_up + i, v_fma(d, v_mul(g, s), v_get(d_up + i, left)), left);
    }
}

/* ---- sums */

static float sum(const float *x, int64_t n)
{
    v16 acc = v_set1(0);
    FOR16(i, left, n)
    acc = v_add(acc, v_get(x + i, left));
    return v_sum(acc);
}

static float dot(const float *x, const float *y, int64_t n)
{
    v16 acc = v_set1(0);
    FOR16(i, left, n)
    acc = v_fma(v_get(x + i, left), v_get(y + i, left), acc);
    return v_sum(acc);
}

static float max(const float *x, int64_t n)
{
    v16 least = v_set1(-INFINITY), acc = least;
    FOR16(i, left, n)
    {
        v16 v = v_get(x + i, left);
        acc = v_max(left >= 16 ? v : v_select(v_first(left), v, least), acc);
    }
    return v_largest(acc);
}

static void axpy(float *y, float a, const float *x, int64_t n)
{
    v16 s = v_set1(a);
    FOR16(i, left, n)
    v_put(y + i, v_fma(s, v_get(x + i, left), v_get(y + i, left)), left);
}

static void adamw(float *w, float *m, float *v, const float *g, int64_t n, float g_scale, float lr, float beta1,
                  float beta2, float eps, float decay, float c1, float c2)
{
    v16 b1 = v_set1(beta1), b2 = v_set1(beta2), rest1 = v_set1(1 - beta1), rest2 = v_set1(1 - beta2);
    FOR16(i, left, n)
    {
        v16 gi = v_mul(v_get(g + i, left), v_set1(g_scale));
        v16 mi = v_fma(b1, v_get(m + i, left), v_mul(rest1, gi));
        v16 vi = v_fma(b2, v_get(v + i, left), v_mul(v_mul(rest2, gi), gi));
        v16 root = v_add(v_sqrt(v_div(vi, v_set1(c2))), v_set1(eps));
        v16 step = v_div(v_div(mi, v_set1(c1)), root), wi = v_get(w + i, left);
        v_put(m + i, mi, left);
        v_put(v + i, vi, left);
        v_put(w + i, v_fma(v_set1(-lr), v_fma(v_set1(decay), wi, step), wi), left);
    }
}

#endif
