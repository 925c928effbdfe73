/* Noisy top-k gating (Shazeer et al. 2017, §2.1 and appendix A): in training
 *
 *     H = z + ε · softplus(W_noise x),  ε ~ N(0, 1)          the k largest H work, with a softmax over them as weights
 *
 * so that experts near the threshold are tried. The rule's own loss is CV²(importance) + CV²(load): importance is the
 * sum of an expert's weights, load the expected number of tokens it would get under fresh noise,
 *
 *     P(t, e) = Φ((z_e - threshold without e) / softplus(…)_e)
 *
 * which is smooth where counting is not. Generation has no noise. */
#include "base/rng.h"
#include "moe/router.h"

static struct tensor *normal(struct op_ctx *c, const struct route_in *in)
{
    struct tensor *e = op_new2(c, tensor_rows(in->logits), tensor_cols(in->logits));
    struct rng rng;
    rng_seed(&rng, in->training->seed + (uint64_t)in->layer);
    for (int64_t i = 0; !c->dry && i < tensor_count(e); i++)
        e->x[i] = (real)rng_normal(&rng);
    return e;
}

/* What e has to beat: the k-th largest of the others. With the k + 1 best ids of a token in falling order that is the
 * last of them for the chosen, the last but one for the rest. A constant: the loss moves z and the noise, not it. */
static struct tensor *rivals(struct op_ctx *c, const struct tensor *noisy, int k)
{
    int64_t n = tensor_rows(noisy), n_expert = tensor_cols(noisy);
    struct tensor *t = op_new2(c, n, n_expert);
    int32_t *best = op_topk(c, noisy, NULL, k + 1, NULL);
    for (int64_t i = 0; !c->dry && i < n; i++) {
        const real *h = noisy->x + i * n_expert;
        const int32_t *id = best + i * (k + 1);
        for (int64_t e = 0; e < n_expert; e++)
            t->x[i * n_expert + e] = h[id[k - 1]];
        for (int j = 0; j < k; j++)
            t->x[i * n_expert + id[j]] = h[id[k]];
    }
    return t;
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    struct tensor *h = in->logits;
    out->logits = in->logits;
    if (in->training) {
        struct tensor *deviation = op_softplus(c, in->noise);
        h = op_add(c, h, op_mul(c, deviation, normal(c, in)));
        struct tensor *lead = cfg->k < cfg->n_expert ? op_sub(c, in->logits, rivals(c, h, cfg->k)) : NULL;
        if (lead)
            out->chances = op_normal_cdf(c, op_mul(c, lead, op_reciprocal(c, deviation)));
    }
    out->score = op_softmax(c, h);
    out->id = op_topk(c, out->score, in->bias, cfg->k, &cfg->groups);
}

/* The softmax over the chosen: that over all, divided by its sum over them. */
static void weigh(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    struct router_config chosen = *cfg;
    chosen.normalize = true;
    router_weigh_scores(c, &chosen, out);
}

/* Var(v) / mean(v)² of a row */
static struct tensor *squared_variation(struct op_ctx *c, struct tensor *v)
{
    struct tensor *mean = op_mean(c, v), *d = op_sub(c, v, mean);
    return op_div_col(c, op_mean(c, op_mul(c, d, d)), op_mul(c, mean, mean), (real)1e-10);
}

static struct tensor *loss(struct op_ctx *c, const struct router_config *cfg, const struct routing *r)
{
    struct tensor *mask = router_mask(c, r->id, tensor_rows(r->score), r->k, cfg->n_expert);
    struct tensor *kept = op_mul(c, r->score, mask);
    struct tensor *gates = op_div_col(c, kept, op_row_sum(c, kept), ROUTER_MIN_SUM);
    struct tensor *importance = squared_variation(c, op_col_mean(c, gates));
    return r->chances ? op_add(c, importance, squared_variation(c, op_col_mean(c, r->chances))) : importance;
}

const struct router router_noisy = {
    .name = "noisy", .noise_gate = true, .choose = choose, .weigh = weigh, .loss = loss};
