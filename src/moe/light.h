/* Light experts: things a router can choose that compute next to nothing, so that an easy token costs less (MoE++, Jin
 * et al. 2024, eq. 4-6; the zero-computation experts of LongCat-Flash, 2025; the null experts of AdaMoE, 2024). Their
 * ids follow those of the FFN experts: first zero, then copy, then constant ones.
 *
 *     zero      E(x) = 0                                   the slot is spent on nothing
 *     copy      E(x) = x
 *     constant  E(x) = α₁ x + α₂ v,  [α₁, α₂] = softmax(W x)        v and W are the expert's own */
#ifndef CADRE_MOE_LIGHT_H
#define CADRE_MOE_LIGHT_H

#include "moe/router.h"

struct light_experts {
    int n_zero, n_copy, n_constant;
    struct weight constant; /* [n_constant, d] the v, looked up by row */
    struct weight mix;      /* [2 n_constant, d] the W, one expert's two rows after the other's */
};

static inline int light_count(const struct light_experts *l)
{
    return l->n_zero + l->n_copy + l->n_constant;
}

/* y [n, d] plus what the chosen light experts give for x [n, d]; `first` is the id of the first of them. */
struct tensor *light_forward(struct op_ctx *c, const struct light_experts *l, int first, struct tensor *x,
                             const struct routing *r, struct tensor *y);

#endif
