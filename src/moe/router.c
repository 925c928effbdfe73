/* The table of routers, what every router configuration has to satisfy, and the weighing that they share. */
#include "moe/router.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const struct router *const routers[] = {&router_softmax, &router_sigmoid};

const struct router *router_at(int i)
{
    return i >= 0 && (size_t)i < sizeof routers / sizeof *routers ? routers[i] : NULL;
}

const struct router *router_find(const char *name)
{
    const struct router *r;
    for (int i = 0; (r = router_at(i)); i++)
        if (strcmp(r->name, name) == 0)
            return r;
    return NULL;
}

static cadre_err check_groups(const struct router_config *cfg, cadre_error *err)
{
    const struct topk_groups *g = &cfg->groups;
    CHECK(err, g->n > 0 && cfg->n_expert % g->n == 0, CADRE_E_ARG,
          "expert groups: expected a number that divides the %d experts, found %d", cfg->n_expert, g->n);
    int size = cfg->n_expert / g->n;
    CHECK(err, g->used >= 1 && g->used <= g->n, CADRE_E_ARG, "expert groups used per token: expected 1 to %d, found %d",
          g->n, g->used);
    CHECK(err, g->best >= 1 && g->best <= size, CADRE_E_ARG,
          "scores that rank an expert group: expected 1 to %d (the experts of a group), found %d", size, g->best);
    CHECK(err, g->used * size >= cfg->k, CADRE_E_ARG,
          "expert groups: %d groups of %d experts cannot give %d experts a token; use more groups", g->used, size,
          cfg->k);
    return CADRE_OK;
}

cadre_err router_config_check(const struct router_config *cfg, cadre_error *err)
{
    CHECK(err, cfg->kind, CADRE_E_ARG, "router: no kind was set");
    CHECK(err, cfg->n_expert >= 1, CADRE_E_ARG, "router: expected at least 1 expert, found %d", cfg->n_expert);
    CHECK(err, cfg->k >= 1 && cfg->k <= cfg->n_expert, CADRE_E_ARG,
          "router: experts per token: expected 1 to %d (all experts), found %d", cfg->n_expert, cfg->k);
    CHECK(err, isfinite(cfg->scale) && cfg->scale > 0, CADRE_E_ARG,
          "router: scale of the weights: expected a positive number, found %g; 1 leaves them as they are",
          (double)cfg->scale);
    if (cfg->groups.n != 0)
        TRY(check_groups(cfg, err));
    return cfg->kind->check ? cfg->kind->check(cfg, err) : CADRE_OK;
}

void router_weigh_scores(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    struct tensor *w = op_gather_cols(c, out->score, out->id, cfg->k);
    if (cfg->normalize)
        w = op_div_col(c, w, op_row_sum(c, w), ROUTER_MIN_SUM);
    if (cfg->scale != 1)
        w = op_scale(c, w, cfg->scale);
    out->weight = w;
}

struct routing routing_new(struct op_ctx *c, const struct router_config *cfg, int64_t n)
{
    struct routing r = {.id = arena_alloc(c->arena, (size_t)(n * cfg->k) * sizeof *r.id),
                        .weight = op_new2(c, n, cfg->k),
                        .score = op_new2(c, n, cfg->n_expert),
                        .logits = op_new2(c, n, cfg->n_expert)};
    r.weight->track = r.score->track = r.logits->track = true;
    return r;
}

static void copy_values(struct tensor *to, const struct tensor *from)
{
    assert(tensor_count(to) == tensor_count(from) && !from->base);
    memcpy(to->x, from->x, (size_t)tensor_count(from) * sizeof *from->x);
}

void routing_copy(struct routing *to, const struct routing *from)
{
    memcpy(to->id, from->id, (size_t)tensor_count(to->weight) * sizeof *to->id);
    copy_values(to->weight, from->weight);
    copy_values(to->score, from->score);
    copy_values(to->logits, from->logits);
}

void routing_pass_gradients(struct routing *to, const struct routing *from)
{
    to->weight->g = from->weight->g;
    to->score->g = from->score->g;
    to->logits->g = from->logits->g;
}
