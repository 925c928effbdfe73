#include "model/tensors.h"

#include <stdio.h>

#include "base/checked.h"
#include "model/attention.h"
#include "model/experts.h"

int64_t size_model(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->d_model;
}

int64_t size_n_expert(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->n_expert;
}

static int64_t size_vocab(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->n_vocab;
}

static int64_t size_rope(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->n_rot / 2;
}

static int64_t size_dense_ff(const struct spec *s, int64_t layer)
{
    return spec_layer(s, layer).dense_ff;
}

static int64_t size_expert_ff(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->expert_ff;
}

static int64_t size_shared_ff(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->shared_ff;
}

static bool untied(const struct spec *s, int64_t layer)
{
    (void)layer;
    return !s->tied;
}

static bool with_moe_norm(const struct spec *s, int64_t layer)
{
    return s->moe_side == MOE_BESIDE && spec_layer_is_moe(s, layer);
}

static bool with_shared(const struct spec *s, int64_t layer)
{
    return s->shared_ff > 0 && spec_layer_is_moe(s, layer);
}

static bool with_shared_gate(const struct spec *s, int64_t layer)
{
    return s->shared_gated && with_shared(s, layer);
}

static const struct tensor_def globals[] = {
    {.name = "token_embd.weight", .field = GLOBAL(embedding), .size = {size_vocab, size_model}, .flags = TENSOR_LOOKUP},
    {.name = "output_norm.weight", .field = GLOBAL(output_norm), SLOT_VECTOR, INIT_ONE, {size_model}},
    {.name = "output_norm.bias",
     .field = GLOBAL(output_norm_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_model},
     .option = OPTION(norm_bias)},
    {.name = "output.weight", .field = GLOBAL(output), .size = {size_vocab, size_model}, .when = untied},
    {.name = "output.bias",
     .field = GLOBAL(output_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_vocab},
     .option = OPTION(output_bias)},
    {.name = "rope_freqs.weight",
     .field = GLOBAL(rope_divisors[0]),
     SLOT_VECTOR,
     INIT_ONE,
     {size_rope},
     TENSOR_NO_GRADIENT,
     .option = OPTION(rope_freqs)},
    {.name = "rope_factors_short.weight",
     .field = GLOBAL(rope_divisors[0]),
     SLOT_VECTOR,
     INIT_ONE,
     {size_rope},
     TENSOR_NO_GRADIENT,
     .option = OPTION(rope_factors)},
    {.name = "rope_factors_long.weight",
     .field = GLOBAL(rope_divisors[1]),
     SLOT_VECTOR,
     INIT_ONE,
     {size_rope},
     TENSOR_NO_GRADIENT,
     .option = OPTION(rope_factors)},
};

static const struct tensor_def before_attention[] = {
    {.name = "attn_norm.weight", .field = LAYER(attn_norm), SLOT_VECTOR, INIT_ONE, {size_model}},
    {.name = "attn_norm.bias",
     .field = LAYER(attn_norm_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_model},
     .option = OPTION(norm_bias)},
};

static const struct tensor_def feed_forward[] = {
    {.name = "ffn_norm.weight", .field = LAYER(ffn_norm), SLOT_VECTOR, INIT_ONE, {size_model}},
    {.name = "ffn_norm.bias",
     .field = LAYER(ffn_norm_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_model},
     .option = OPTION(norm_bias)},
    {.name = "ffn_gate.weight",
     .field = LAYER(ffn.gate),
     .size = {size_dense_ff, size_model},
     .when = spec_layer_is_dense},
    {.name = "ffn_up.weight", .field = LAYER(ffn.up), .size = {size_dense_ff, size_model}, .when = spec_layer_is_dense},
    {.name = "ffn_down.weight",
     .field = LAYER(ffn.down),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {size_model, size_dense_ff},
     .when = spec_layer_is_dense},
    {.name = "ffn_norm_exps.weight",
     .field = LAYER(moe_norm),
     SLOT_VECTOR,
     INIT_ONE,
     {size_model},
     .when = with_moe_norm},
    {.name = "ffn_gate_inp.weight",
     .field = LAYER(moe.gate),
     .init = INIT_UNIT,
     .size = {size_choices, size_gate_in},
     .flags = TENSOR_KEEP_F32 | TENSOR_GATE | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe},
    {.name = "ffn_gate_inp.bias",
     .field = LAYER(moe.gate_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_choices},
     .when = spec_layer_is_moe,
     .option = OPTION(gate_bias)},
    {.name = "exp_probs_b.bias",
     .field = LAYER(moe.bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_choices},
     TENSOR_NO_GRADIENT,
     .when = spec_layer_is_moe,
     .option = OPTION(router_bias)},
    {.name = "exp_scale.weight",
     .field = LAYER(moe.weight_scale),
     SLOT_ROW,
     INIT_ONE,
     {size_choices},
     .when = spec_layer_is_moe,
     .option = OPTION(expert_scaled)},
    {.name = "ffn_gate_exps.weight",
     .field = LAYER(moe.experts.gate),
     .size = {size_slices, size_expert_ff, size_expert_in},
     .flags = TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe},
    {.name = "ffn_up_exps.weight",
     .field = LAYER(moe.experts.up),
     .size = {size_slices, size_expert_ff, size_expert_in},
     .flags = TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe},
    {.name = "ffn_down_exps.weight",
     .field = LAYER(moe.experts.down),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {size_slices, size_expert_in, size_expert_ff},
     TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe},
    {.name = "ffn_gate_exps.bias",
     .field = LAYER(moe.experts.gate_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_n_expert, size_expert_ff},
     TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe,
     .option = OPTION(expert_bias)},
    {.name = "ffn_up_exps.bias",
     .field = LAYER(moe.experts.up_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_n_expert, size_expert_ff},
     TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe,
     .option = OPTION(expert_bias)},
    {.name = "ffn_down_exps.bias",
     .field = LAYER(moe.experts.down_bias),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_n_expert, size_expert_in},
     TENSOR_BY_EXPERT | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = spec_layer_is_moe,
     .option = OPTION(expert_bias)},
    {.name = "ffn_gate_inp_shexp.weight",
     .field = LAYER(moe.shared_gate),
     SLOT_ROW,
     INIT_NORMAL,
     {size_model},
     .when = with_shared_gate},
    {.name = "ffn_gate_shexp.weight",
     .field = LAYER(moe.shared.gate),
     .size = {size_shared_ff, size_model},
     .when = with_shared},
    {.name = "ffn_up_shexp.weight",
     .field = LAYER(moe.shared.up),
     .size = {size_shared_ff, size_model},
     .when = with_shared},
    {.name = "ffn_down_shexp.weight",
     .field = LAYER(moe.shared.down),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {size_model, size_shared_ff},
     .when = with_shared},
};

#define ROWS(t)                                                                                                        \
    (struct tensor_rows)                                                                                               \
    {                                                                                                                  \
        t, sizeof(t) / sizeof *(t)                                                                                     \
    }

enum { N_PARTS = 4 };

/* Part `part` of a layer; -1 is what comes before the layers. */
static struct tensor_rows rows_of(const struct spec *s, int64_t layer, int part)
{
    if (layer < 0)
        return part == 0 ? ROWS(globals) : part == 1 ? experts_global_rows : (struct tensor_rows){0};
    if (part == 3)
        return experts_rows;
    if (part == 1)
        return spec_layer(s, layer).attention->tensors;
    return part == 0 ? ROWS(before_attention) : ROWS(feed_forward);
}

struct tensor_walk tensor_walk(const struct spec *s)
{
    return (struct tensor_walk){.spec = s, .layer = -1, .row = -1};
}

/* The next row, there or not. */
static bool step(struct tensor_walk *w)
{
    w->row++;
    while (w->layer < w->spec->n_layer) {
        struct tensor_rows rows = rows_of(w->spec, w->layer, w->part);
        if (w->row < rows.n) {
            w->def = &rows.def[w->row];
            return true;
        }
        w->row = 0;
        if (++w->part == N_PARTS) {
            w->part = 0;
            w->layer++;
        }
    }
    return false;
}

static bool present(const struct tensor_walk *w)
{
    const struct tensor_def *d = w->def;
    if (d->when && !d->when(w->spec, w->layer))
        return false;
    return w->all || !d->option || *(const bool *)((const char *)w->spec + d->option);
}

bool tensor_next(struct tensor_walk *w)
{
    do
        if (!step(w))
            return false;
    while (!present(w));
    for (w->n_dims = 0; w->n_dims < 3 && w->def->size[w->n_dims]; w->n_dims++)
        w->dim[w->n_dims] = w->def->size[w->n_dims](w->spec, w->layer);
    return true;
}

void tensor_name(const struct tensor_walk *w, char name[64])
{
    if (w->layer < 0)
        snprintf(name, 64, "%s", w->def->name);
    else
        snprintf(name, 64, "blk.%lld.%s", (long long)w->layer, w->def->name);
}

bool tensor_size_ok(const struct tensor_walk *w, uint64_t *n)
{
    *n = 1;
    for (int i = 0; i < w->n_dims; i++)
        if (w->dim[i] < 0 || !mul_ok(*n, (uint64_t)w->dim[i], n))
            return false;
    return true;
}
