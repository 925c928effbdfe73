/* The table of routers, what every router configuration has to satisfy, and the weighing that they share. */
#include "moe/router.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static const struct router *const routers[] = {
    &router_softmax, &router_topk_softmax,    &router_sigmoid,   &router_noisy,        &router_switch,
    &router_gshard,  &router_top_p,           &router_threshold, &router_null,         &router_expert_choice,
    &router_grouped, &router_dense_to_sparse, &router_random,    &router_sparse_mixer,
};

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
    CHECK(err, cfg->n_light >= 0 && cfg->n_light < cfg->n_expert, CADRE_E_ARG,
          "router: light experts: expected 0 to %d (fewer than all), found %d", cfg->n_expert - 1, cfg->n_light);
    CHECK(err, cfg->active >= 0 && cfg->active <= cfg->k, CADRE_E_ARG,
          "router: experts that a layer uses: expected 1 to %d, found %d", cfg->k, cfg->active);
    CHECK(err, cfg->start_k >= 0 && cfg->start_k <= cfg->k, CADRE_E_ARG,
          "router: experts per token at the start of training: expected 1 to %d, found %d", cfg->k, cfg->start_k);
    if (cfg->groups.n != 0)
        TRY(check_groups(cfg, err));
    return cfg->kind->check ? cfg->kind->check(cfg, err) : CADRE_OK;
}

int router_slots(const struct router_config *cfg, bool training)
{
    return cfg->kind->slots ? cfg->kind->slots(cfg, training) : cfg->k;
}

/* Experts that a token may keep: the layer's number; in training it grows in even steps from start_k. */
static int kept(const struct router_config *cfg, const struct route_in *in, int slots)
{
    int keep = cfg->active ? cfg->active : slots;
    if (!in->training || cfg->start_k == 0)
        return keep;
    int grown = cfg->start_k + (int)(in->training->progress * (cfg->k - cfg->start_k + 1));
    return grown < keep ? grown : keep;
}

static void keep_first(int32_t *id, int64_t n_tok, int slots, int keep)
{
    for (int64_t t = 0; t < n_tok; t++)
        for (int j = keep; j < slots; j++)
            id[t * slots + j] = -1;
}

void router_choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    *out = (struct routing){.k = router_slots(cfg, in->training != NULL)};
    cfg->kind->choose(c, cfg, in, out);
    int keep = kept(cfg, in, out->k);
    if (!c->dry && keep < out->k) {
        keep_first(out->id, tensor_rows(in->logits), out->k, keep);
        if (out->wanted)
            keep_first(out->wanted, tensor_rows(in->logits), out->k, keep);
    }
    if (!out->wanted)
        out->wanted = out->id;
}

void router_cut_at_mass(struct op_ctx *c, const struct tensor *score, int32_t *id, int k, real mass)
{
    int64_t n_expert = tensor_cols(score);
    for (int64_t t = 0; !c->dry && t < tensor_rows(score); t++) {
        real sum = score->x[t * n_expert + id[t * k]];
        for (int j = 1; j < k; j++) {
            bool enough = sum >= mass;
            sum += score->x[t * n_expert + id[t * k + j]];
            if (enough)
                id[t * k + j] = -1;
        }
    }
}

void router_drop_over_capacity(struct op_ctx *c, const struct router_config *cfg, int64_t n_tok, struct routing *out)
{
    size_t bytes = (size_t)(n_tok * out->k) * sizeof *out->id;
    out->wanted = op_struct(c, bytes);
    memcpy(out->wanted, out->id, bytes);
    int64_t *used = arena_alloc(c->arena, (size_t)cfg->n_expert * sizeof *used);
    if (c->dry)
        return;
    double even = (double)(n_tok * out->k) / cfg->n_expert;
    int64_t room = (int64_t)ceil((double)cfg->capacity * even);
    memset(used, 0, (size_t)cfg->n_expert * sizeof *used);
    for (int j = 0; j < out->k; j++)
        for (int64_t i = j; i < n_tok * out->k; i += out->k)
            if (out->id[i] >= 0 && used[out->id[i]]++ >= room)
                out->id[i] = -1;
}

struct tensor *router_mask(struct op_ctx *c, const int32_t *id, int64_t n_tok, int k, int n_expert)
{
    struct tensor *mask = op_new2(c, n_tok, n_expert);
    if (c->dry)
        return mask;
    memset(mask->x, 0, (size_t)(n_tok * n_expert) * sizeof(real));
    for (int64_t i = 0; i < n_tok * k; i++)
        if (id[i] >= 0)
            mask->x[i / k * n_expert + id[i]] = 1;
    return mask;
}

void router_weigh_scores(struct op_ctx *c, const struct router_config *cfg, struct routing *out)
{
    struct tensor *w = op_gather_cols(c, out->score, out->id, out->k);
    if (cfg->normalize)
        w = op_div_col(c, w, op_row_sum(c, w), ROUTER_MIN_SUM);
    if (cfg->scale != 1)
        w = op_scale(c, w, cfg->scale);
    out->weight = w;
}

struct routing routing_new(struct op_ctx *c, const struct router_config *cfg, int64_t n, bool training)
{
    int k = router_slots(cfg, training);
    struct routing r = {.k = k,
                        .id = arena_alloc(c->arena, (size_t)(n * k) * sizeof *r.id),
                        .wanted = arena_alloc(c->arena, (size_t)(n * k) * sizeof *r.wanted),
                        .weight = op_new2(c, n, k),
                        .score = op_new2(c, n, cfg->n_expert),
                        .logits = op_new2(c, n, cfg->n_expert)};
    r.weight->track = r.score->track = r.logits->track = true;
    return r;
}

static void copy_values(struct tensor *to, const struct tensor *from)
{
    assert(tensor_count(to) == tensor_count(from));
    memcpy(to->x, from->x, (size_t)tensor_count(from) * sizeof *from->x);
}

void routing_copy(struct routing *to, const struct routing *from)
{
    memcpy(to->id, from->id, (size_t)tensor_count(to->weight) * sizeof *to->id);
    memcpy(to->wanted, from->wanted, (size_t)tensor_count(to->weight) * sizeof *to->wanted);
    copy_values(to->weight, from->weight);
    copy_values(to->score, from->score);
    copy_values(to->logits, from->logits);
}

void routing_pass_gradients(struct routing *to, const struct routing *from)
{
    tensor_grad_take(to->weight, from->weight);
    tensor_grad_take(to->score, from->score);
    tensor_grad_take(to->logits, from->logits); /* or is score itself, where a gate learns nothing (route_to_first) */
}
