/* Null experts (AdaMoE, Zeng et al. 2024): light experts that compute nothing stand among the true ones, and a token
 * chooses its k from all. Each null that it takes is a true expert that it does without; how many it takes on average
 * is set by the balance loss, which wants the nulls' mean use even with the others' (balance/switch.c). The weights add
 * up to 1 over the true experts, so that taking nulls does not shrink the output. */
#include "moe/router.h"

static cadre_err check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->n_light > 0, CADRE_E_ARG,
          "router null: expected light experts that compute nothing (experts_zero), found none");
    return CADRE_OK;
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, in->bias, cfg->k, NULL);
}

static void weigh(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    int64_t slots = tensor_rows(out->score) * out->k;
    int32_t *true_id = arena_alloc(c->arena, (size_t)slots * sizeof *true_id);
    for (int64_t i = 0; !c->dry && i < slots; i++)
        true_id[i] = out->id[i] < cfg->n_expert - cfg->n_light ? out->id[i] : -1;
    struct tensor *w = op_gather_cols(c, out->score, true_id, out->k);
    w = op_div_col(c, w, op_row_sum(c, w), ROUTER_MIN_SUM);
    out->weight = cfg->scale != 1 ? op_scale(c, w, cfg->scale) : w;
}

const struct router router_null = {.name = "null", .check = check, .choose = choose, .weigh = weigh};
