/* What a routing decision is: for every token of a batch, in one layer, which experts work and with what weight.
 * It is the central object of this project: it is made once (moe/router), may be changed by a filter (moe/moe.h),
 * drives the experts, and is what traces record and every planner reads. */
#ifndef CADRE_TRACE_DECISION_H
#define CADRE_TRACE_DECISION_H

#include <stdint.h>

#include "tensor/real.h"

struct decision {
    int layer;
    int64_t n_tok;
    int n_expert, k;
    int32_t *id;        /* [n_tok, k] in order of falling selection score; -1 = none */
    const real *weight; /* [n_tok, k] final weights: after normalisation and scaling */
};

#endif
