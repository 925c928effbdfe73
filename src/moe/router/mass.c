/* As many experts as it takes until their probabilities add up to a threshold: a token whose router is sure gets few,
 * one that is hard gets more, at most k.
 *
 *   top_p      Dynamic MoE (Huang et al. 2024, eq. 4-6), with a loss on the entropy of the distribution, which would
 *              otherwise become flat to win more experts
 *   threshold  XMoE (Yang et al. 2024): the same choice among many small experts, without that loss */
#include <math.h>

#include "moe/router.h"

static cadre_err check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->threshold > 0 && cfg->threshold <= 1, CADRE_E_ARG,
          "router %s: threshold: expected a probability mass above 0 and at most 1, found %g", cfg->kind->name,
          (double)cfg->threshold);
    return CADRE_OK;
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, cfg->k, &cfg->groups);
    router_cut_at_mass(c, out->score, out->id, cfg->k, cfg->threshold);
}

/* Mean over tokens of H(P) = -Σ P log P = logsumexp(z) - Σ P z. */
static struct tensor *entropy(struct op_ctx *c, const struct router_config *cfg, const struct routing *r)
{
    (void)cfg;
    struct tensor *mean_logit = op_row_sum(c, op_mul(c, r->score, r->logits));
    return op_mean(c, op_sub(c, op_logsumexp(c, r->logits), mean_logit));
}

const struct router router_top_p = {.name = "top_p",
                                    .takes = ROUTER_THRESHOLD,
                                    .check = check,
                                    .choose = choose,
                                    .weigh = router_weigh_scores,
                                    .loss = entropy};
const struct router router_threshold = {
    .name = "threshold", .takes = ROUTER_THRESHOLD, .check = check, .choose = choose, .weigh = router_weigh_scores};
