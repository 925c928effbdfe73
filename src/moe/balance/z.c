/* L = 1/n Σ_t (log Σ_e exp(logit[t, e]))² (Zoph et al. 2022, eq. 5): keeps logits small, where their rounding is. */
#include "moe/balance.h"

struct tensor *balance_z(struct op_ctx *c, const struct routing *r)
{
    struct tensor *z = op_logsumexp(c, r->logits);
    return op_mean(c, op_mul(c, z, z));
}
