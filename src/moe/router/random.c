/* A gate that is drawn at random and never trained (SMoE-Dropout, Chen et al. 2023): with nothing to learn it cannot
 * collapse, and with start_k the number of experts grows in training as dropout's keep rate would fall, so that the
 * model works with any number of them. */
#include "moe/router.h"

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, cfg->k, &cfg->groups);
}

const struct router router_random = {
    .name = "random", .fixed_gate = true, .choose = choose, .weigh = router_weigh_scores};
