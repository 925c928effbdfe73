/* Expert diversification (EvoMoE, Nie et al. 2021, §3.1): for the first part of a run every layer is a single expert
 * that sees all tokens; then all experts are made from it, each with its own random share of weights set to zero, so
 * that they begin useful and different. */
#ifndef CADRE_TRAIN_DIVERSIFY_H
#define CADRE_TRAIN_DIVERSIFY_H

#include "model/model.h"

/* Every expert of every layer becomes expert 0 with each weight zeroed with probability `mask`; so does expert 0. */
void diversify_experts(struct model *m, double mask, uint64_t seed);

#endif
