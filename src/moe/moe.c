/* The MoE layer: y = Σ_j weight[t, j] · E_id[t, j](x) + g(x) · E_shared(x).
 *
 *     x ─gate─▶ logits ─choose─▶ ids ─filter─▶ ids ─weigh─▶ weights ──────────┐
 *     └────────────────────────────────────────┴─dispatch─▶ rows ─experts─▶ combine ─▶ + light ─▶ + shared
 *
 * Everything is composed from operators, so that training and inference are one code. Rows are grouped by expert: each
 * expert's weights are read once for all tokens that chose it. */
#include "moe/moe.h"

#include <assert.h>

/* ---- routing */

static struct tensor *filled(struct op_ctx *c, int64_t rows, int64_t cols, real value)
{
    struct tensor *t = op_new2(c, rows, cols);
    for (int64_t i = 0; !c->dry && i < rows * cols; i++)
        t->x[i] = value;
    return t;
}

/* What the gate reads: x, the input that the pass says, or the recurrent router's state after it. */
static struct tensor *gate_input(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, struct moe_pass *pass)
{
    if (pass->gate_x)
        x = pass->gate_x;
    if (l->gate_project.n == 0)
        return x;
    struct tensor *seen = op_linear(c, x, &l->gate_project, NULL);
    struct tensor *before = pass->state ? pass->state : filled(c, tensor_rows(x), tensor_cols(seen), 0);
    pass->state = op_gru_cell(c, seen, before, &l->gru->input, &l->gru->hidden, l->gru->b_input, l->gru->b_hidden);
    return pass->state;
}

static void weigh(struct op_ctx *c, const struct moe_layer *l, struct routing *r)
{
    l->router.kind->weigh(c, &l->router, r);
    if (!l->weight_scale)
        return;
    struct tensor *scale = op_mul(c, filled(c, tensor_rows(r->score), l->router.n_expert, 1), l->weight_scale);
    r->weight = op_mul(c, r->weight, op_gather_cols(c, scale, r->id, r->k));
}

/* Show the filter the ids with the weights they would have. These weights are thrown away again: they are computed
 * outside the tape, in memory that the final ones use after them, so a filter changes no plan. */
static void apply_filter(struct op_ctx *c, const struct moe_layer *l, const struct decision_filter *filter,
                         struct routing *r)
{
    size_t mark = arena_mark(c->arena);
    struct op_ctx plain = *c;
    plain.tape = NULL;
    weigh(&plain, l, r);
    struct decision d = {.layer = l->layer,
                         .n_tok = tensor_rows(r->score),
                         .n_expert = l->router.n_expert,
                         .k = r->k,
                         .id = r->id,
                         .weight = r->weight->x};
    filter->decide(filter->self, &d);
    arena_reset(c->arena, mark);
}

/* Routing is computed in full precision whatever the layer runs in: a rounding there changes not a value but a choice
 * (Fedus et al. 2021, §2.4). */
static void route(struct op_ctx *c, const struct moe_layer *l, const struct weight *gate, struct tensor *x,
                  struct moe_pass *pass, struct routing *r)
{
    enum gemm_precision layer_precision = c->precision;
    c->precision = GEMM_F32;
    struct route_in in = {.bias = l->bias ? l->bias->x : NULL, .training = pass->training, .layer = l->layer};
    in.logits = op_linear(c, gate_input(c, l, x, pass), gate, l->gate_bias);
    if (l->gate_residual.n > 0 && pass->logits)
        in.logits = op_add(c, in.logits, op_linear(c, pass->logits, &l->gate_residual, NULL));
    if (l->noise_gate.n > 0 && pass->training)
        in.noise = op_linear(c, x, &l->noise_gate, NULL);
    c->precision = layer_precision;
    pass->logits = in.logits;
    router_choose(c, &l->router, &in, r);
    if (pass->hooks && pass->hooks->filter && !c->dry)
        apply_filter(c, l, pass->hooks->filter, r);
    weigh(c, l, r);
}

/* The decision while one_expert holds: expert 0 with weight 1, and nothing for a gate to learn. */
static void route_to_first(struct op_ctx *c, const struct moe_layer *l, int64_t n, const struct route_training *t,
                           struct routing *r)
{
    int k = router_slots(&l->router, t != NULL);
    *r = (struct routing){.k = k,
                          .id = op_struct(c, (size_t)(n * k) * sizeof *r->id),
                          .weight = filled(c, n, k, 0),
                          .score = filled(c, n, l->router.n_expert, 0)};
    r->wanted = r->id;
    r->logits = r->score;
    for (int64_t i = 0; !c->dry && i < n * k; i++) {
        r->id[i] = i % k ? -1 : 0;
        r->weight->x[i] = i % k ? 0 : 1;
    }
}

/* ---- FFN experts */

static int n_ffn(const struct moe_layer *l)
{
    return l->router.n_expert - light_count(&l->light);
}

/* The decision in slices: the slots of an expert's slices carry its weight. With one slice an expert and no light ones
 * it is the decision itself. */
static void to_slices(struct op_ctx *c, const struct moe_layer *l, const struct routing *r, struct routing *out)
{
    *out = *r;
    int ffn = n_ffn(l), each = l->slice_start ? l->max_slices : 1;
    if (ffn == l->router.n_expert && !l->slice_start)
        return;
    int64_t slots = tensor_rows(r->score) * r->k;
    out->k = r->k * each;
    out->id = arena_alloc(c->arena, (size_t)(slots * each) * sizeof *out->id);
    int32_t *from = arena_alloc(c->arena, (size_t)(slots * each) * sizeof *from); /* the slot each one's weight is of */
    for (int64_t i = 0; !c->dry && i < slots * each; i++) {
        int32_t e = r->id[i / each], s = (int32_t)(i % each);
        int32_t first = e >= 0 && e < ffn && l->slice_start ? l->slice_start[e] : e;
        int32_t end = e < 0 || e >= ffn ? first : l->slice_start ? l->slice_start[e + 1] : e + 1;
        out->id[i] = first + s < end ? first + s : -1;
        from[i] = (int32_t)(i / each % r->k);
    }
    out->weight = op_gather_cols(c, r->weight, from, out->k);
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
    static const struct moe_hooks none = {0};
    hooks = hooks ? hooks : &none;
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

/* Σ over the FFN experts of a decision */
static struct tensor *ffn_experts(struct op_ctx *c, const struct moe_layer *l, struct tensor *x,
                                  const struct routing *r, const struct moe_pass *pass, cadre_error *err)
{
    struct routing slices;
    to_slices(c, l, r, &slices);
    if (l->latent_in.n > 0)
        x = op_linear(c, x, &l->latent_in, NULL);
    struct dispatch *plan = op_dispatch_plan(c, slices.id, tensor_rows(x), slices.k, (int64_t)l->experts.down.n_expert);
    struct tensor *y = run_experts(c, l, op_dispatch(c, x, plan), plan, pass->hooks, err);
    if (!y)
        return NULL;
    y = op_combine(c, y, slices.weight, plan);
    return l->latent_out.n > 0 ? op_linear(c, y, &l->latent_out, NULL) : y;
}

/* ---- the layer */

/* One decision and what its experts give. */
static struct tensor *turn(struct op_ctx *c, const struct moe_layer *l, const struct weight *gate, struct tensor *x,
                           struct moe_pass *pass, struct routing *r, cadre_error *err)
{
    int64_t n = tensor_rows(x), d = tensor_cols(x), heads = l->heads > 1 ? l->heads : 1;
    if (heads > 1)
        x = op_reshape(c, op_linear(c, x, &l->head_in, NULL), 2, (int64_t[]){n * heads, d / heads});
    if (pass->training && pass->training->one_expert)
        route_to_first(c, l, tensor_rows(x), pass->training, r);
    else
        route(c, l, gate, x, pass, r);
    struct tensor *y = ffn_experts(c, l, x, r, pass, err);
    if (!y)
        return NULL;
    if (light_count(&l->light))
        y = light_forward(c, &l->light, n_ffn(l), x, r, y);
    if (heads > 1)
        y = op_linear(c, op_reshape(c, y, 2, (int64_t[]){n, d}), &l->head_out, NULL);
    return y;
}

/* The gate of a chain's turn i: a matrix of the stack. Packed matrices are an array, values lie one below the other. */
static struct weight gate_of_turn(struct op_ctx *c, const struct moe_layer *l, int i)
{
    if (i == 0)
        return l->gate;
    struct weight w = l->chain_gate;
    w.n_expert = 0;
    if (w.packed)
        w.packed += i - 1;
    if (w.param) {
        int64_t skip = (int64_t)(i - 1) * w.n * w.k;
        struct tensor *part = op_struct(c, sizeof *part);
        *part = *w.param;
        part->dim[0] = w.n;
        part->x = w.param->x ? w.param->x + skip : NULL;
        part->g = w.param->g ? w.param->g + skip : NULL;
        w.param = part;
    }
    return w;
}

static struct tensor *add_shared(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, struct tensor *y)
{
    struct tensor *shared = l->kind->forward(c, &l->shared, x, NULL);
    if (l->shared_gate) /* sigmoid(gate · x), one number a token */
        shared = op_mul(c, shared, op_sigmoid(c, op_row_sum(c, op_mul(c, x, l->shared_gate))));
    return op_add(c, y, shared);
}

struct tensor *moe_forward(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, struct moe_pass *pass,
                           struct routing *routing, cadre_error *err)
{
    struct moe_pass alone = {0};
    struct tensor *y = NULL, *in = x;
    pass = pass ? pass : &alone;
    struct routing unused = {0}, *r = routing ? routing : &unused;
    for (int i = 0, turns = l->chain > 1 ? l->chain : 1; i < turns; i++) {
        struct weight *gate = op_struct(c, sizeof *gate); /* the backward reads it */
        *gate = gate_of_turn(c, l, i);
        struct tensor *out = turn(c, l, gate, in, pass, r, err);
        if (!out)
            return NULL;
        y = y ? op_add(c, y, out) : out;
        if (i + 1 == turns)
            break;
        in = op_add(c, x, y);
        struct routing *next = op_struct(c, sizeof *next);
        r->next = next;
        r = next;
    }
    return l->shared.down.n > 0 ? add_shared(c, l, x, y) : y;
}
