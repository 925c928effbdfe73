/* Rules in which an expert has room for a fixed number of tokens of a training batch and drops the rest, so that every
 * expert's work has one size. Room depends on neighbours, so only training has it: generation drops nothing.
 *
 *   switch  one expert, weighted by its probability (Fedus et al. 2021, eq. 1-3)
 *   gshard  two experts with weights that add up to 1; in training the second is used with probability min(1, 2 g₂)
 *           (Lepikhin et al. 2020, algorithm 1); first choices take room before second ones */
#include "base/rng.h"
#include "moe/router.h"

static cadre_err check_capacity(const struct router_config *cfg, int k, cadre_error *err)
{
    CHECK(err, cfg->k == k, CADRE_E_ARG, "router %s: experts per token: expected %d, found %d", cfg->kind->name, k,
          cfg->k);
    CHECK(err, cfg->capacity >= 0 && cfg->capacity <= (real)cfg->n_expert, CADRE_E_ARG,
          "router %s: capacity: expected 0 (no dropping) to %d, found %g", cfg->kind->name, cfg->n_expert,
          (double)cfg->capacity);
    return CADRE_OK;
}

static cadre_err switch_check(const struct router_config *cfg, cadre_error *err)
{
    return check_capacity(cfg, 1, err);
}

static cadre_err gshard_check(const struct router_config *cfg, cadre_error *err)
{
    return check_capacity(cfg, 2, err);
}

static void switch_choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in,
                          struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, 1, &cfg->groups);
    if (in->training && cfg->capacity > 0)
        router_drop_over_capacity(c, cfg, tensor_rows(in->logits), out);
}

/* g₂ = p₂ / (p₁ + p₂) */
static void drop_weak_seconds(const struct tensor *score, int32_t *id, const struct route_in *in)
{
    int64_t n_expert = tensor_cols(score);
    struct rng rng;
    rng_seed(&rng, in->training->seed + (uint64_t)in->layer);
    for (int64_t t = 0; t < tensor_rows(score); t++) {
        const real *s = score->x + t * n_expert;
        double chance = rng_uniform(&rng), first = (double)s[id[2 * t]], second = (double)s[id[2 * t + 1]];
        if (2 * second < chance * (first + second))
            id[2 * t + 1] = -1;
    }
}

static void gshard_choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in,
                          struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, 2, &cfg->groups);
    if (in->training && !c->dry)
        drop_weak_seconds(out->score, out->id, in);
    if (in->training && cfg->capacity > 0)
        router_drop_over_capacity(c, cfg, tensor_rows(in->logits), out);
}

/* The weights are those of both choices, whether or not the second was used or the first had room. */
static void gshard_weigh(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    int32_t *both = op_topk(c, out->score, NULL, 2, &cfg->groups);
    struct tensor *sum = op_row_sum(c, op_gather_cols(c, out->score, both, 2));
    struct tensor *w = op_div_col(c, op_gather_cols(c, out->score, out->id, 2), sum, ROUTER_MIN_SUM);
    out->weight = cfg->scale != 1 ? op_scale(c, w, cfg->scale) : w;
}

const struct router router_switch = {.name = "switch",
                                     .takes = ROUTER_CAPACITY,
                                     .check = switch_check,
                                     .choose = switch_choose,
                                     .weigh = router_weigh_scores};
const struct router router_gshard = {
    .name = "gshard", .takes = ROUTER_CAPACITY, .check = gshard_check, .choose = gshard_choose, .weigh = gshard_weigh};
