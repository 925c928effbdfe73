/* Mixture of grouped experts (Pangu Pro MoE, Tang et al. 2025, eq. 5-6): the experts fall into groups, one a device,
 * and every token takes its k / groups best of each. All groups then have the same number of rows, whatever the router
 * learns. Scores are a softmax over all experts. */
#include <string.h>

#include "moe/router.h"

static cadre_err check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->groups.n > 0 && cfg->k % cfg->groups.n == 0, CADRE_E_ARG,
          "router grouped: expected groups that divide the %d experts of a token, found %d", cfg->k, cfg->groups.n);
    CHECK(err, cfg->n_light == 0 && cfg->active == 0 && cfg->start_k == 0, CADRE_E_ARG,
          "router grouped: every token takes %d experts of each group: light experts, a layer schedule and a growing "
          "number of experts would break that",
          cfg->k / cfg->groups.n);
    return CADRE_OK;
}

/* A falling order over the slots of a token: by score, then id. The groups' own lists are merged by insertion. */
static void sort_slots(const real *score, int32_t *id, int k)
{
    for (int i = 1; i < k; i++) {
        int32_t e = id[i];
        int at = i;
        for (; at > 0 && score[id[at - 1]] < score[e]; at--)
            id[at] = id[at - 1];
        id[at] = e;
    }
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    int groups = cfg->groups.n, size = cfg->n_expert / groups, each = cfg->k / groups;
    int64_t n = tensor_rows(in->logits);
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    /* Groups are rows of their own: [n, E] is [n · groups, E / groups]. A selection bias is added before. */
    struct op_ctx plain = *c;
    plain.tape = NULL;
    struct tensor *biased = out->score;
    if (in->bias)
        biased = op_add(&plain, out->score, op_wrap(&plain, (real *)(uintptr_t)in->bias, 1, cfg->n_expert));
    struct tensor *rows = op_reshape(&plain, biased, 2, (int64_t[]){n * groups, size});
    out->id = op_topk(c, rows, NULL, each, NULL);
    for (int64_t i = 0; !c->dry && i < n * cfg->k; i++)
        out->id[i] += (int32_t)(i / each % groups * size);
    for (int64_t t = 0; !c->dry && t < n; t++)
        sort_slots(biased->x + t * cfg->n_expert, out->id + t * cfg->k, cfg->k);
}

const struct router router_grouped = {
    .name = "grouped", .check = check, .choose = choose, .weigh = router_weigh_scores};
