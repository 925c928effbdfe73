/* Choosing the next token from logits. Truncations are applied in this order: top-k, softmax at the temperature,
 * min-p (Nguyen et al. 2024), top-p (Holtzman et al. 2020); then one draw. */
#ifndef CADRE_ENGINE_SAMPLER_H
#define CADRE_ENGINE_SAMPLER_H

#include <stdbool.h>

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

/* What is drawn from: candidates in some fixed order, p relative to sum. */
struct distribution {
    const struct candidate *c;
    int64_t n;
    double sum;
    int32_t best; /* the likeliest; -1: there is none */
    bool certain; /* it is always the best: a draw takes no random number */
};

cadre_err sampling_check(const struct sampling *s, cadre_error *err);
/* scratch [n]. Logits that are NaN are never chosen; if all are, the result is -1. */
int32_t sample(const struct sampling *s, struct rng *rng, const real *logits, int64_t n, struct candidate *scratch);

/* The same in two steps. Lies in scratch. */
struct distribution sampling_distribution(const struct sampling *s, const real *logits, int64_t n,
                                          struct candidate *scratch);
int32_t distribution_draw(const struct distribution *d, struct rng *rng);

/* Speculative sampling (Leviathan et al. 2023, §2.3; Chen et al. 2023): from a token drawn from q to one of p. It is
 * `drafted` with the chance min(1, p/q), else one of max(0, p - q), normalised: together, p. of_id: zeros, one for each
 * id; zeros again afterwards. */
int32_t distribution_check(const struct distribution *p, const struct distribution *q, int32_t drafted, struct rng *rng,
                           double *of_id);

#endif
