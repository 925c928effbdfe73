/* Choosing the next token from logits. Truncations are applied in this order: top-k, softmax at the temperature,
 * min-p (Nguyen et al. 2024), top-p (Holtzman et al. 2020); then one draw. */
#ifndef CADRE_ENGINE_SAMPLER_H
#define CADRE_ENGINE_SAMPLER_H

#include "base/error.h"
#include "base/rng.h"
#include "tensor/real.h"

struct sampling {
    double temperature; /* 0: the largest logit, the lower id where equal */
    int top_k;          /* 0: off */
    double top_p;       /* 1: off */
    double min_p;       /* 0: off; keep tokens with at least min_p times the best one's probability */
};

struct candidate {
    int32_t id;
    float p; /* logit, then probability */
};

cadre_err sampling_check(const struct sampling *s, cadre_error *err);
/* scratch [n]. Logits that are NaN are never chosen; if all are, the result is -1. */
int32_t sample(const struct sampling *s, struct rng *rng, const real *logits, int64_t n, struct candidate *scratch);

#endif
