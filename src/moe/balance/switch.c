/* L = E Σ_e f_e P_e (Fedus et al. 2021, eq. 4). f_e counts choices and has no gradient; P_e has, so the loss pushes the
 * scores of experts down in proportion to their load. The factor E makes an even load cost 1 for any number of experts.
 * Sigmoid scores are first divided by their sum, as in DeepSeek-V3 (eq. 18-20). */
#include <string.h>

#include "moe/balance.h"

/* f [1, E] */
static struct tensor *load_share(struct op_ctx *c, const struct router_config *cfg, const struct routing *r,
                                 const int64_t *counts)
{
    int n_expert = cfg->n_expert;
    struct tensor *f = op_new2(c, 1, n_expert);
    int64_t *own = arena_alloc(c->arena, (size_t)n_expert * sizeof *own);
    if (c->dry)
        return f;
    if (!counts) {
        memset(own, 0, (size_t)n_expert * sizeof *own);
        balance_count(r->id, tensor_rows(r->score) * cfg->k, n_expert, own);
        counts = own;
    }
    int64_t total = 0;
    for (int e = 0; e < n_expert; e++)
        total += counts[e];
    for (int e = 0; e < n_expert; e++)
        f->x[e] = total ? (real)counts[e] / (real)total : 0;
    return f;
}

struct tensor *balance_switch(struct op_ctx *c, const struct router_config *cfg, const struct routing *r,
                              const int64_t *counts)
{
    struct tensor *f = load_share(c, cfg, r, counts);
    struct tensor *p = op_div_col(c, r->score, op_row_sum(c, r->score), ROUTER_MIN_SUM);
    return op_scale(c, op_sum(c, op_mul(c, op_col_mean(c, p), f)), (real)cfg->n_expert);
}
