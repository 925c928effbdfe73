/* The k largest logits, then a softmax over them alone (Mixtral's paper, Jiang et al. 2024, §2.1; gpt-oss): the softmax
 * over all, divided by its sum over the chosen. Logits choose, for probabilities far from the largest may be equal. */
#include "moe/router.h"

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, in->logits, in->bias, cfg->k, &cfg->groups);
}

static void weigh(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    struct router_config chosen = *cfg;
    chosen.normalize = true;
    router_weigh_scores(c, &chosen, out);
}

const struct router router_topk_softmax = {.name = "topk_softmax", .choose = choose, .weigh = weigh};
