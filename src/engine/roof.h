/* What measurements share: the roof of matrix products, and medians. */
#ifndef CADRE_ENGINE_ROOF_H
#define CADRE_ENGINE_ROOF_H

#include "kernel/gemm.h"

/* FLOP/s of the product kernel on operands that stay in cache, loads included, all threads; best of several. */
cadre_err roof_products(const struct kernels *k, struct pool *pool, enum gemm_precision precision, double *out,
                        cadre_error *err);

/* Sorts x. */
cadre_spread spread_of(double *x, int n);

#endif
