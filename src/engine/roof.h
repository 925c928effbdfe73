/* What measurements share: the roof of matrix products, and medians. */
#ifndef CADRE_ENGINE_ROOF_H
#define CADRE_ENGINE_ROOF_H

#include "kernel/gemm.h"
#include "op/op.h"

/* FLOP/s of the product kernel on operands that stay in cache, loads included, all threads; best of several. */
cadre_err roof_products(const struct kernels *k, struct pool *pool, enum gemm_precision precision, double *out,
                        cadre_error *err);

/* The same for products with a packed matrix, in its format and with activations as they would be: as much of the
 * matrix as stays in cache. */
cadre_err roof_linear(const struct kernels *k, struct pool *pool, const struct packed *w, enum act act, double *out,
                      cadre_error *err);

/* Sorts x. */
cadre_spread spread_of(double *x, int n);

#endif
