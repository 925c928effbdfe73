/* L = E Σ_e f_e P_e (Fedus et al. 2021, eq. 4). f_e counts choices and has no gradient; P_e has, so the loss pushes the
 * scores of experts down in proportion to their load. The factor E makes an even load cost 1 for any number of experts.
 * Sigmoid scores are first divided by their sum, as in DeepSeek-V3 (eq. 18-20). */
#include <string.h>

#include "moe/balance.h"

static int64_t sum(const int64_t *x, int from, int to)
{
    int64_t total = 0;
    for (int e = from; e < to; e++)
        total += x[e];
    return total;
}

/* f [1, E] */
static struct tensor *load_share(struct op_ctx *c, const struct router_config *cfg, const struct routing *r,
                                 const int64_t *counts)
{
    int n_expert = cfg->n_expert, ffn = n_expert - cfg->n_light;
    struct tensor *f = op_new2(c, 1, n_expert);
    int64_t *own = arena_alloc(c->arena, (size_t)n_expert * sizeof *own);
    if (c->dry)
        return f;
    if (!counts) {
        struct routing one = *r;
        one.next = NULL;
        memset(own, 0, (size_t)n_expert * sizeof *own);
        balance_count(&one, n_expert, own);
        counts = own;
    }
    real light_weight = cfg->light_weight != 0 ? cfg->light_weight : 1;
    int64_t total = sum(counts, 0, n_expert), light = sum(counts, ffn, n_expert);
    for (int e = 0; e < n_expert; e++) {
        real share = e < ffn ? (real)counts[e] : light_weight * (real)light / (real)cfg->n_light;
        f->x[e] = total ? share / (real)total : 0;
    }
    return f;
}

struct tensor *balance_switch(struct op_ctx *c, const struct router_config *cfg, const struct routing *r,
                              const int64_t *counts)
{
    struct tensor *f = load_share(c, cfg, r, counts);
    struct tensor *p = op_div_col(c, r->score, op_row_sum(c, r->score), ROUTER_MIN_SUM);
    return op_scale(c, op_sum(c, op_mul(c, op_col_mean(c, p), f)), (real)cfg->n_expert);
}
