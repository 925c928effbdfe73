/* The MoE layer: y = Σ_j weight[t, j] · E_id[t, j](x) + g(x) · E_shared(x).
 *
 *     x ─gate─▶ logits ─choose─▶ ids ─filter─▶ ids ─weigh─▶ weights ──────────┐
 *     └────────────────────────────────────────┴─dispatch─▶ rows ─experts─▶ combine ─▶ + shared
 *
 * Everything is composed from operators, so that training and inference are one code. Rows are grouped by expert: each
 * expert's weights are read once for all tokens that chose it. */
#include "moe/moe.h"

#include <assert.h>

/* Logits are computed in full precision whatever the layer runs in: a rounding there changes not a value but a choice
 * (Fedus et al. 2021, §2.4). */
static struct tensor *gate_logits(struct op_ctx *c, const struct moe_layer *l, struct tensor *x)
{
    enum gemm_precision layer_precision = c->precision;
    c->precision = GEMM_F32;
    struct tensor *logits = op_linear(c, x, &l->gate, l->gate_bias);
    c->precision = layer_precision;
    return logits;
}

/* Show the filter the ids with the weights they would have. These weights are thrown away again: they are computed
 * outside the tape, in memory that the final ones use after them, so a filter changes no plan. */
static void apply_filter(struct op_ctx *c, const struct moe_layer *l, const struct decision_filter *filter,
                         struct routing *r)
{
    size_t mark = arena_mark(c->arena);
    struct op_ctx plain = *c;
    plain.tape = NULL;
    l->router.kind->weigh(&plain, &l->router, r);
    struct decision d = {.layer = l->layer,
                         .n_tok = tensor_rows(r->score),
                         .n_expert = l->router.n_expert,
                         .k = l->router.k,
                         .id = r->id,
                         .weight = r->weight->x};
    filter->decide(filter->self, &d);
    arena_reset(c->arena, mark);
}

static void route(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, const struct decision_filter *filter,
                  struct routing *r)
{
    struct route_in in = {.logits = gate_logits(c, l, x), .bias = l->bias ? l->bias->x : NULL};
    l->router.kind->choose(c, &l->router, &in, r);
    if (filter && !c->dry)
        apply_filter(c, l, filter, r);
    l->router.kind->weigh(c, &l->router, r);
}

/* The experts with rows, from a source that holds their bytes for as long as they compute. */
static struct tensor *run_experts_from(struct op_ctx *c, const struct moe_layer *l, struct tensor *rows,
                                       const int64_t *offset, int32_t *ids, const struct expert_source *source,
                                       cadre_error *err)
{
    assert(!c->tape);
    int n = 0;
    for (int e = 0; e < (int)l->experts.down.n_expert; e++)
        if (offset[e + 1] > offset[e])
            ids[n++] = e;
    struct expert_weights w = l->experts;
    if (source->acquire(source->self, l->layer, ids, n, &w, err) != CADRE_OK)
        return NULL;
    struct tensor *y = l->kind->forward(c, &w, rows, offset);
    source->release(source->self, l->layer, ids, n);
    return y;
}

static struct tensor *run_experts(struct op_ctx *c, const struct moe_layer *l, struct tensor *rows,
                                  const struct dispatch *plan, const struct moe_hooks *hooks, cadre_error *err)
{
    /* Allocated with or without a source, so that a plan made without one holds for both. */
    int32_t *ids = arena_alloc(c->arena, (size_t)l->experts.down.n_expert * sizeof *ids);
    if (c->dry)
        return l->kind->forward(c, &l->experts, rows, plan->offset);
    const struct exchange *exchange = hooks->exchange;
    const int64_t *offset = plan->offset;
    if (exchange)
        rows = exchange->to_experts(exchange->self, c, rows, plan, &offset);
    struct tensor *y = hooks->source ? run_experts_from(c, l, rows, offset, ids, hooks->source, err)
                                     : l->kind->forward(c, &l->experts, rows, offset);
    if (y && exchange)
        y = exchange->from_experts(exchange->self, c, y, plan);
    return y;
}

static struct tensor *add_shared(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, struct tensor *y)
{
    struct tensor *shared = l->kind->forward(c, &l->shared, x, NULL);
    if (l->shared_gate) /* sigmoid(gate · x), one number a token */
        shared = op_mul(c, shared, op_sigmoid(c, op_row_sum(c, op_mul(c, x, l->shared_gate))));
    return op_add(c, y, shared);
}

struct tensor *moe_forward(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, const struct moe_hooks *hooks,
                           struct routing *routing, cadre_error *err)
{
    static const struct moe_hooks none = {0};
    if (!hooks)
        hooks = &none;
    struct routing r = {0};
    route(c, l, x, hooks->filter, &r);
    if (routing)
        *routing = r;

    struct dispatch *plan = op_dispatch_plan(c, r.id, tensor_rows(x), l->router.k, l->router.n_expert);
    struct tensor *rows = op_dispatch(c, x, plan);
    struct tensor *y = run_experts(c, l, rows, plan, hooks, err);
    if (!y)
        return NULL;
    y = op_combine(c, y, r.weight, plan);
    return l->shared.down.n > 0 ? add_shared(c, l, x, y) : y;
}
