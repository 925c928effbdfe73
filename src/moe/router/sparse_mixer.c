/* SparseMixer (GRIN, Liu et al. 2024; Phi-3.5-MoE): experts are taken one after another, each with the weight that it
 * has in a softmax over its rivals alone. Those are the experts not taken before whose logit z is near the best one's,
 * m:
 *
 *   (m - z) / max(|z|, m) <= 2 threshold
 *
 * The weights do not add up to 1: every one that is ahead of all others by more than that is 1. In training the best
 * are taken, too; the paper draws them at random from the rivals, which is not done here. */
#include <math.h>

#include "moe/router.h"

static cadre_err check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->threshold > 0 && cfg->threshold <= 1, CADRE_E_ARG,
          "router sparse_mixer: threshold: expected a relative distance above 0 and at most 1, found %g",
          (double)cfg->threshold);
    CHECK(err, cfg->groups.n == 0 && !cfg->normalize, CADRE_E_ARG,
          "router sparse_mixer: expected no groups and weights that are not normalized");
    return CADRE_OK;
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, in->logits, in->bias, cfg->k, NULL);
}

/* Added to a row of logits: 0 for the rivals of slot `slot`, a number that leaves nothing for the others. */
static void mark_rivals(const real *z, int n, const int32_t *id, int slot, real threshold, real *row)
{
    static const real nothing = (real)-1e30;
    real best = (real)-INFINITY;
    for (int e = 0; e < n; e++)
        row[e] = 0;
    for (int j = 0; j < slot; j++)
        if (id[j] >= 0)
            row[id[j]] = nothing;
    for (int e = 0; e < n; e++)
        if (row[e] == 0 && z[e] > best)
            best = z[e];
    for (int e = 0; e < n; e++)
        if ((best - z[e]) / (real)fmax(fabs((double)z[e]), (double)best) > 2 * threshold)
            row[e] = nothing;
}

/* Slots are rows of their own: [n, E] logits become [n · k, E], one softmax each. */
static void weigh(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    int64_t n = tensor_rows(out->logits), rows = n * out->k;
    int n_expert = cfg->n_expert;
    struct tensor *rivals = op_new2(c, rows, n_expert);
    int32_t *token = arena_alloc(c->arena, (size_t)rows * sizeof *token);
    for (int64_t i = 0; !c->dry && i < rows; i++) {
        token[i] = (int32_t)(i / out->k);
        mark_rivals(out->logits->x + token[i] * n_expert, n_expert, out->id + token[i] * out->k, (int)(i % out->k),
                    cfg->threshold, rivals->x + i * n_expert);
    }
    struct tensor *p = op_softmax(c, op_add(c, op_gather_rows(c, out->logits, token, rows), rivals));
    struct tensor *w = op_reshape(c, op_gather_cols(c, p, out->id, 1), 2, (int64_t[]){n, out->k});
    out->weight = cfg->scale != 1 ? op_scale(c, w, cfg->scale) : w;
}

const struct router router_sparse_mixer = {
    .name = "sparse_mixer", .takes = ROUTER_THRESHOLD, .check = check, .choose = choose, .weigh = weigh};
