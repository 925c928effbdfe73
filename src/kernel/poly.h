/* Constants of exp and tanh, one definition for every level. Coefficients: minimax fits of our own.
 *
 * exp(x):  n = round(x / ln 2) by adding 1.5 · 2^23, whose low bits then hold n;  r = x - n · ln 2 in two steps (the
 *          high part has 9 zero bits, so n · HI is exact);  e^r = 1 + r (1 + r (C2 + r (C3 + …)));  2^n is added to the
 *          exponent bits. Below EXP_MIN (just above the smallest normal) the result is 0, above EXP_MAX infinity.
 * tanh(x), from m = |x|: m < TANH_SPLIT: m + m z (T0 + z (T1 + …)), z = m²;  else 1 - 2 / (exp(2m) + 1); the sign of x.
 *
 * A level evaluates exactly: t = fma(x, LOG2E, MAGIC), n = t - MAGIC, r = fma(n, -LN2_HI, x), r = fma(n, -LN2_LO, r),
 * p = C6, p = fma(p, r, C5) … C2, p = fma(p, r, 1), p = fma(p, r, 1), bits(p) + (bits(t) << 23). */
#ifndef CADRE_KERNEL_POLY_H
#define CADRE_KERNEL_POLY_H

#define EXP_MIN -87.33654f
#define EXP_MAX 88.72283f
#define EXP_LOG2E 0x1.715476p0f
#define EXP_MAGIC 0x1.8p23f
#define EXP_LN2_HI 0x1.62e4p-1f
#define EXP_LN2_LO 0x1.7f7d1cp-20f
#define EXP_C2 0x1.fffffcp-2f
#define EXP_C3 0x1.555492p-3f
#define EXP_C4 0x1.5558f2p-5f
#define EXP_C5 0x1.1239e8p-7f
#define EXP_C6 0x1.6a2424p-10f

#define TANH_SPLIT 0.55f
#define TANH_T0 -0.33333319425582886f
#define TANH_T1 0.13332602381706238f
#define TANH_T2 -0.05385385453701019f
#define TANH_T3 0.021077748388051987f
#define TANH_T4 -0.006282459944486618f

#endif
