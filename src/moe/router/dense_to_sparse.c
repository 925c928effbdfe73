/* Dense to sparse (EvoMoE's DTS gate, Nie et al. 2021, eq. 6-8): training begins with all experts and ends with few.
 *
 *     g = softmax((z + ζ) / τ),  ζ ~ Gumbel        expert e works when g_e > threshold, with weight g_e
 *
 * τ falls from `temperature` to final_temperature: a hot softmax is flat and passes the threshold everywhere, a cold
 * one is nearly one-hot. Generation has no noise, τ at its end, and the k best of those that pass. */
#include <math.h>

#include "base/rng.h"
#include "moe/router.h"

static const real final_temperature = (real)0.3;

static cadre_err check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->threshold > 0 && cfg->threshold * (real)cfg->n_expert < 1, CADRE_E_ARG,
          "router dense_to_sparse: threshold: expected a score above 0 and below 1 / experts (%g), found %g",
          1.0 / cfg->n_expert, (double)cfg->threshold);
    CHECK(err, cfg->temperature >= final_temperature && isfinite(cfg->temperature), CADRE_E_ARG,
          "router dense_to_sparse: temperature: expected %g, that of the end, or above, found %g",
          (double)final_temperature, (double)cfg->temperature);
    return CADRE_OK;
}

static int slots(const struct router_config *cfg, bool training)
{
    return training ? cfg->n_expert : cfg->k;
}

static struct tensor *gumbel(struct op_ctx *c, const struct route_in *in)
{
    struct tensor *noise = op_new2(c, tensor_rows(in->logits), tensor_cols(in->logits));
    struct rng rng;
    rng_seed(&rng, in->training->seed + (uint64_t)in->layer);
    for (int64_t i = 0; !c->dry && i < tensor_count(noise); i++)
        noise->x[i] = (real)-log(-log((rng_uniform(&rng) + 0x1p-54))); /* u > 0 */
    return noise;
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    struct tensor *z = in->logits;
    real t = final_temperature;
    if (in->training) {
        z = op_add(c, z, gumbel(c, in));
        t = cfg->temperature * (real)pow((double)(final_temperature / cfg->temperature), in->training->progress);
    }
    out->logits = in->logits;
    out->score = op_softmax(c, op_scale(c, z, 1 / t));
    out->id = op_topk(c, out->score, in->bias, out->k, NULL);
    for (int64_t i = 0; !c->dry && i < tensor_rows(z) * out->k; i++)
        if (i % out->k && out->score->x[i / out->k * cfg->n_expert + out->id[i]] <= cfg->threshold)
            out->id[i] = -1;
}

const struct router router_dense_to_sparse = {.name = "dense_to_sparse",
                                              .takes = ROUTER_THRESHOLD | ROUTER_TEMPERATURE,
                                              .check = check,
                                              .slots = slots,
                                              .choose = choose,
                                              .weigh = router_weigh_scores};
