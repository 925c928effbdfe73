/* Everything a forward pass needs to know about a model, as plain numbers. A family (families/) only fills this in;
 * the forward pass never asks which family it was. */
#ifndef CADRE_MODEL_SPEC_H
#define CADRE_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "moe/moe.h"

enum { MODEL_MAX_LAYERS = 1024, MODEL_MAX_EXPERTS = 4096 };

enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD /* per head, before rope */, QK_NORM_FULL /* over the whole projection */ };

struct spec {
    char family[32]; /* general.architecture in GGUF */
    int64_t n_layer, d_model, n_vocab, n_ctx;
    real norm_eps;
    bool tied; /* the output matrix is the embedding */

    /* attention */
    int64_t n_head, n_kv_head, head_dim, v_dim;
    bool qkv_bias, o_bias;
    enum qk_norm qk_norm;
    real attention_scale; /* 0: 1 / √head_dim */

    /* position: rotary embedding, stretched for contexts beyond those of pre-training */
    int64_t n_rot;
    bool rope_pairs;
    real rope_base, rope_linear;         /* linear scaling: positions divided by it; 1 = none */
    real yarn_factor;                    /* YaRN (Peng et al. 2023); 0 or 1 = none; excludes linear */
    int64_t yarn_ctx;                    /* with YaRN: context of pre-training that the factor stretches */
    real yarn_beta_fast, yarn_beta_slow; /* turns within yarn_ctx above / below which a pair is kept / stretched */
    real rope_attention_factor;          /* cos and sin are multiplied by it (besides YaRN's own); 0 or 1 = none */
    bool rope_freqs;                     /* a tensor of divisors of the frequencies exists (Llama 3.1) */

    /* feed-forward: layers below n_dense_leading, or all when n_expert = 0, are dense */
    int64_t n_dense_leading, dense_ff;
    int n_expert;
    int64_t expert_ff;
    int64_t shared_ff; /* 0: no shared expert */
    bool shared_gated;
    bool router_bias; /* selection bias exists */
    struct router_config router;
    const struct expert_kind *expert_kind;
};

static inline bool spec_has_yarn(const struct spec *s)
{
    return s->yarn_factor != 0 && s->yarn_factor != 1;
}

static inline bool spec_layer_is_moe(const struct spec *s, int64_t layer)
{
    return s->n_expert > 0 && layer >= s->n_dense_leading;
}

/* Fill in what a zero leaves open: kv heads as many as heads, head_dim = d_model / n_head, n_rot = head_dim, rope base
 * 10000, no scaling, YaRN's usual constants, softmax router, SwiGLU experts; and bring what means the same to one form:
 * no groups, no scaling; the router's number of experts is the model's. */
void spec_defaults(struct spec *s);

/* Every number in range and consistent (heads divide, k <= experts, …); names the field and what is wrong. */
cadre_err spec_check(const struct spec *s, cadre_error *err);

struct spec_counts {
    int64_t parameters,
        active_parameters; /* per token; active counts the output matrix, not the embedding lookup unless tied */
};
struct spec_counts spec_count(const struct spec *s);

/* Radians per position of each rotated pair, [n_rot / 2]; freqs: the divisors or NULL. Returns the factor of cos and
 * sin. */
real spec_rope(const struct spec *s, const real *freqs, real *inv_freq);

#endif
