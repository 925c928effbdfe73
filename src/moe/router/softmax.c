/* Softmax over all experts, then the k largest (Shazeer et al. 2017 with the softmax first; GShard, Switch, Mixtral,
 * Qwen-MoE, DeepSeek-V2). With normalize the weights equal a softmax over the chosen logits alone. A selection bias
 * and groups, where a model has them, act on the choice only. */
#include "moe/router.h"

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, cfg->k, &cfg->groups);
}

const struct router router_softmax = {.name = "softmax", .choose = choose, .weigh = router_weigh_scores};
