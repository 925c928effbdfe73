#include "model/tensors.h"

#include <stdio.h>

#include "base/checked.h"

static bool always(const struct spec *s, int64_t layer)
{
    (void)s, (void)layer;
    return true;
}

static bool untied(const struct spec *s, int64_t layer)
{
    (void)layer;
    return !s->tied;
}

static bool with_freqs(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->rope_freqs;
}

static bool with_qkv_bias(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->qkv_bias;
}

static bool with_o_bias(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->o_bias;
}

static bool with_qk_norm(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->qk_norm != QK_NORM_NONE;
}

static bool dense(const struct spec *s, int64_t layer)
{
    return !spec_layer_is_moe(s, layer);
}

static bool with_router_bias(const struct spec *s, int64_t layer)
{
    return s->router_bias && spec_layer_is_moe(s, layer);
}

static bool with_shared(const struct spec *s, int64_t layer)
{
    return s->shared_ff > 0 && spec_layer_is_moe(s, layer);
}

static bool with_shared_gate(const struct spec *s, int64_t layer)
{
    return s->shared_gated && with_shared(s, layer);
}

#define GLOBAL(f) offsetof(struct model, f)
#define LAYER(f) offsetof(struct layer, f)

static const struct tensor_def globals[] = {
    {"token_embd.weight", always, GLOBAL(embedding), SLOT_WEIGHT, INIT_NORMAL, {SIZE_VOCAB, SIZE_MODEL}, TENSOR_LOOKUP},
    {"output_norm.weight", always, GLOBAL(output_norm), SLOT_VECTOR, INIT_ONE, {SIZE_MODEL}, 0},
    {"output.weight", untied, GLOBAL(output), SLOT_WEIGHT, INIT_NORMAL, {SIZE_VOCAB, SIZE_MODEL}, 0},
    {"rope_freqs.weight", with_freqs, GLOBAL(rope_freqs), SLOT_VECTOR, INIT_ONE, {SIZE_ROPE}, TENSOR_NO_GRADIENT},
};

static const struct tensor_def per_layer[] = {
    {"attn_norm.weight", always, LAYER(attn_norm), SLOT_VECTOR, INIT_ONE, {SIZE_MODEL}, 0},
    {"attn_q.weight", always, LAYER(q), SLOT_WEIGHT, INIT_NORMAL, {SIZE_Q, SIZE_MODEL}, 0},
    {"attn_k.weight", always, LAYER(k), SLOT_WEIGHT, INIT_NORMAL, {SIZE_K, SIZE_MODEL}, 0},
    {"attn_v.weight", always, LAYER(v), SLOT_WEIGHT, INIT_NORMAL, {SIZE_V, SIZE_MODEL}, 0},
    {"attn_q.bias", with_qkv_bias, LAYER(q_bias), SLOT_VECTOR, INIT_ZERO, {SIZE_Q}, 0},
    {"attn_k.bias", with_qkv_bias, LAYER(k_bias), SLOT_VECTOR, INIT_ZERO, {SIZE_K}, 0},
    {"attn_v.bias", with_qkv_bias, LAYER(v_bias), SLOT_VECTOR, INIT_ZERO, {SIZE_V}, 0},
    {"attn_q_norm.weight", with_qk_norm, LAYER(q_norm), SLOT_VECTOR, INIT_ONE, {SIZE_Q_NORM}, 0},
    {"attn_k_norm.weight", with_qk_norm, LAYER(k_norm), SLOT_VECTOR, INIT_ONE, {SIZE_K_NORM}, 0},
    {"attn_output.weight", always, LAYER(o), SLOT_WEIGHT, INIT_RESIDUAL, {SIZE_MODEL, SIZE_O}, 0},
    {"attn_output.bias", with_o_bias, LAYER(o_bias), SLOT_VECTOR, INIT_ZERO, {SIZE_MODEL}, 0},
    {"ffn_norm.weight", always, LAYER(ffn_norm), SLOT_VECTOR, INIT_ONE, {SIZE_MODEL}, 0},
    {"ffn_gate.weight", dense, LAYER(ffn.gate), SLOT_WEIGHT, INIT_NORMAL, {SIZE_DENSE_FF, SIZE_MODEL}, 0},
    {"ffn_up.weight", dense, LAYER(ffn.up), SLOT_WEIGHT, INIT_NORMAL, {SIZE_DENSE_FF, SIZE_MODEL}, 0},
    {"ffn_down.weight", dense, LAYER(ffn.down), SLOT_WEIGHT, INIT_RESIDUAL, {SIZE_MODEL, SIZE_DENSE_FF}, 0},
    {"ffn_gate_inp.weight",
     spec_layer_is_moe,
     LAYER(moe.gate),
     SLOT_WEIGHT,
     INIT_NORMAL,
     {SIZE_EXPERTS, SIZE_MODEL},
     TENSOR_KEEP_F32},
    {"exp_probs_b.bias", with_router_bias, LAYER(moe.bias), SLOT_VECTOR, INIT_ZERO, {SIZE_EXPERTS}, TENSOR_NO_GRADIENT},
    {"ffn_gate_exps.weight",
     spec_layer_is_moe,
     LAYER(moe.experts.gate),
     SLOT_WEIGHT,
     INIT_NORMAL,
     {SIZE_EXPERTS, SIZE_EXPERT_FF, SIZE_MODEL},
     0},
    {"ffn_up_exps.weight",
     spec_layer_is_moe,
     LAYER(moe.experts.up),
     SLOT_WEIGHT,
     INIT_NORMAL,
     {SIZE_EXPERTS, SIZE_EXPERT_FF, SIZE_MODEL},
     0},
    {"ffn_down_exps.weight",
     spec_layer_is_moe,
     LAYER(moe.experts.down),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {SIZE_EXPERTS, SIZE_MODEL, SIZE_EXPERT_FF},
     0},
    {"ffn_gate_inp_shexp.weight", with_shared_gate, LAYER(moe.shared_gate), SLOT_ROW, INIT_NORMAL, {SIZE_MODEL}, 0},
    {"ffn_gate_shexp.weight",
     with_shared,
     LAYER(moe.shared.gate),
     SLOT_WEIGHT,
     INIT_NORMAL,
     {SIZE_SHARED_FF, SIZE_MODEL},
     0},
    {"ffn_up_shexp.weight",
     with_shared,
     LAYER(moe.shared.up),
     SLOT_WEIGHT,
     INIT_NORMAL,
     {SIZE_SHARED_FF, SIZE_MODEL},
     0},
    {"ffn_down_shexp.weight",
     with_shared,
     LAYER(moe.shared.down),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {SIZE_MODEL, SIZE_SHARED_FF},
     0},
};

enum { N_GLOBALS = sizeof globals / sizeof *globals, N_PER_LAYER = sizeof per_layer / sizeof *per_layer };

static int64_t size_of(const struct spec *s, enum tensor_size size)
{
    const int64_t sizes[SIZE_COUNT] = {
        [SIZE_MODEL] = s->d_model,
        [SIZE_VOCAB] = s->n_vocab,
        [SIZE_Q] = s->n_head * s->head_dim,
        [SIZE_K] = s->n_kv_head * s->head_dim,
        [SIZE_V] = s->n_kv_head * s->v_dim,
        [SIZE_O] = s->n_head * s->v_dim,
        [SIZE_Q_NORM] = s->qk_norm == QK_NORM_FULL ? s->n_head * s->head_dim : s->head_dim,
        [SIZE_K_NORM] = s->qk_norm == QK_NORM_FULL ? s->n_kv_head * s->head_dim : s->head_dim,
        [SIZE_DENSE_FF] = s->dense_ff,
        [SIZE_EXPERTS] = s->n_expert,
        [SIZE_EXPERT_FF] = s->expert_ff,
        [SIZE_SHARED_FF] = s->shared_ff,
        [SIZE_ROPE] = s->n_rot / 2,
    };
    return sizes[size];
}

struct tensor_walk tensor_walk(const struct spec *s)
{
    return (struct tensor_walk){.spec = s, .layer = -1, .row = -1};
}

bool tensor_next(struct tensor_walk *w)
{
    do {
        w->row++;
        if (w->row == (w->layer < 0 ? N_GLOBALS : N_PER_LAYER)) {
            w->row = 0;
            w->layer++;
        }
        if (w->layer >= w->spec->n_layer)
            return false;
        w->def = w->layer < 0 ? &globals[w->row] : &per_layer[w->row];
    } while (!w->def->present(w->spec, w->layer));
    for (w->n_dims = 0; w->n_dims < 4 && w->def->size[w->n_dims] != SIZE_END; w->n_dims++)
        w->dim[w->n_dims] = size_of(w->spec, w->def->size[w->n_dims]);
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
