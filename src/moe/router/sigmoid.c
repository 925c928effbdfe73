/* Each expert's affinity is a sigmoid of its own logit, so experts do not compete for mass; score + bias chooses within
 * the best groups, the unbiased score weighs (DeepSeek-V3, 2024, §2.1.2, eq. 12-16: the bias balances the load without
 * a loss that would disturb the gradients). */
#include "moe/router.h"

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_sigmoid(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, cfg->k, &cfg->groups);
}

const struct router router_sigmoid = {.name = "sigmoid", .choose = choose, .weigh = router_weigh_scores};
