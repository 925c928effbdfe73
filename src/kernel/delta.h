/* The inner loops of the gated delta rule (op/delta.c). Part of the kernel table; same promises. */
#ifndef CADRE_KERNEL_DELTA_H
#define CADRE_KERNEL_DELTA_H

#include <stdint.h>

#include "tensor/real.h"

struct delta_kernels {
    /* One token on n columns of a state S [dk, n] with row stride ld; each column is a lane of its own:
     *     S = decay S;  d = beta (v - Σ_i k_i S_i);  S_i = fma(k_i, d, S_i);  o = Σ_i q_i S_i
     * both sums as fma chains over i ascending. o may not overlap S. */
    void (*step)(int64_t dk, int64_t n, real *s, int64_t ld, real decay, real beta, const real *k, const real *q,
                 const real *v, real *o);
};

#endif
