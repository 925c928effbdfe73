/* Probabilities of tokens from logits, in double. */
#ifndef CADRE_ENGINE_LIKELIHOOD_H
#define CADRE_ENGINE_LIKELIHOOD_H

#include <math.h>
#include <stdint.h>

#include "tensor/real.h"

/* log Σ_j exp(x_j) */
static inline double log_sum_exp(const real *x, int64_t n)
{
    double max = (double)x[0], sum = 0;
    for (int64_t i = 1; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (int64_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    return max + log(sum);
}

#endif
