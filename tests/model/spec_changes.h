/* Changes of a spec, each well-formed for some families: what may be asked of a family besides its tiny model. */
#ifndef CADRE_TESTS_SPEC_CHANGES_H
#define CADRE_TESTS_SPEC_CHANGES_H

#include "model/spec.h"

#define SPEC_CHANGES(X)                                                                                                \
    X(tied, s->tied = !s->tied)                                                                                        \
    X(qkv_bias, s->qkv_bias = !s->qkv_bias)                                                                            \
    X(o_bias, s->o_bias = !s->o_bias)                                                                                  \
    X(qk_norm, s->qk_norm = s->qk_norm == QK_NORM_HEAD ? QK_NORM_NONE : QK_NORM_HEAD)                                  \
    X(qk_norm_full, s->qk_norm = QK_NORM_FULL)                                                                         \
    X(qk_norm_after_rope, s->qk_norm_after_rope = !s->qk_norm_after_rope)                                              \
    X(norm, s->norm = s->norm == NORM_RMS ? NORM_LAYER : NORM_RMS)                                                     \
    X(norm_bias, s->norm_bias = !s->norm_bias)                                                                         \
    X(output_bias, s->output_bias = !s->output_bias)                                                                   \
    X(sinks, s->sinks = !s->sinks)                                                                                     \
    X(attention_gate, s->attention_gate = !s->attention_gate)                                                          \
    X(rope_pairs, s->rope_pairs = !s->rope_pairs)                                                                      \
    X(no_rope, s->no_rope = !s->no_rope)                                                                               \
    X(n_rot, s->n_rot = 4)                                                                                             \
    X(linear, s->rope_linear = 2)                                                                                      \
    X(yarn, (s->yarn_factor = 4, s->yarn_ctx = 32))                                                                    \
    X(window, s->window = 20)                                                                                          \
    X(scales, (s->embedding_scale = 3, s->residual_scale = (real)0.5))                                                 \
    X(softcap, s->logit_softcap = 30)                                                                                  \
    X(dense, s->n_expert = 0)                                                                                          \
    X(leading, (s->n_dense_leading = s->n_dense_leading > 0 ? 0 : 1, s->dense_ff = 64))                                \
    X(kind, s->expert_kind = expert_kind_find("reglu"))                                                                \
    X(router, s->router.kind = s->router.kind == &router_softmax ? &router_sigmoid : &router_softmax)                  \
    X(router_bias, s->router_bias = !s->router_bias)                                                                   \
    X(gate_bias, s->gate_bias = !s->gate_bias)                                                                         \
    X(gate_early, s->gate_early = !s->gate_early)                                                                      \
    X(expert_bias, s->expert_bias = !s->expert_bias)                                                                   \
    X(expert_scaled, s->expert_scaled = !s->expert_scaled)                                                             \
    X(normalize, s->router.normalize = !s->router.normalize)                                                           \
    X(scale, s->router.scale = (real)1.5)                                                                              \
    X(groups, (s->router.groups.n = 2, s->router.groups.used = 1))                                                     \
    X(shared, s->shared_ff = s->shared_ff > 0 ? 0 : 32)                                                                \
    X(shared_gated, s->shared_gated = !s->shared_gated)                                                                \
    X(light, (s->n_zero = 1, s->n_copy = 2))

#define CHANGE(name, change)                                                                                           \
    static void change_##name(struct spec *s)                                                                          \
    {                                                                                                                  \
        change;                                                                                                        \
    }
SPEC_CHANGES(CHANGE)
#undef CHANGE
static const struct {
    const char *name;
    void (*fn)(struct spec *s);
} spec_changes[] = {
#define CHANGE(name, change) {#name, change_##name},
    SPEC_CHANGES(CHANGE)
#undef CHANGE
};
enum { N_SPEC_CHANGES = sizeof spec_changes / sizeof *spec_changes };

#endif
