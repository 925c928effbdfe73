/* Everything a forward pass needs to know about a model, as plain numbers. A family (families/) only fills this in;
 * the forward pass never asks which family it was. What differs between layers is asked for with spec_layer. */
#ifndef CADRE_MODEL_SPEC_H
#define CADRE_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "moe/moe.h"

enum { MODEL_MAX_LAYERS = 512, MODEL_MAX_EXPERTS = 4096 };

enum qk_norm { QK_NORM_NONE, QK_NORM_HEAD /* per head */, QK_NORM_FULL /* over the whole projection */ };
enum norm_kind { NORM_RMS, NORM_LAYER };

/* Where the experts of a layer are. */
enum moe_side {
    MOE_INSTEAD, /* in place of its dense feed-forward part */
    MOE_BESIDE,  /* beside it; they read the layer's input under a norm of their own (Arctic) */
    MOE_SHORTCUT /* beside that of the first of two layers, reading what it reads, and their output is added at the end
                  * of the second (shortcut-connected, LongCat-Flash) */
};

struct attention_kind; /* model/attention.h */

/* One number a layer, for files that list them; not given: the same number everywhere. */
struct layer_list {
    bool given;
    int32_t at[MODEL_MAX_LAYERS];
};

/* Gated DeltaNet (attention/delta_net.c) */
struct delta_spec {
    int64_t k_heads, v_heads;        /* v heads a multiple: several read one k head */
    int64_t k_dim, inner;            /* width of a k head; of all v heads together */
    int64_t taps;                    /* rows that the convolution sees, the row itself included */
    bool tiled;                      /* v head h goes with k head h mod k_heads; else with h / (v_heads / k_heads) */
    bool joined_input, joined_gates; /* how files cut the input matrices */
};

/* How many slices the experts of a layer have in turn, the pattern repeated over all; n = 0: each is one. */
enum { SLICE_PATTERN = 32, MAX_SLICES = 64, SLICE_PATTERN_TEXT = 3 * SLICE_PATTERN };
struct slice_pattern {
    int n;
    uint8_t of[SLICE_PATTERN];
};

struct expert_schedule; /* model/experts.h */

struct spec {
    char family[32]; /* general.architecture in GGUF */
    int64_t n_layer, d_model, n_vocab, n_ctx;
    int64_t n_nextn;  /* further layers in a file, which predict tokens beyond the next one: left out */
    bool tied;        /* the output matrix is the embedding */
    bool output_bias; /* tensor output.bias exists; so for every …_bias below */

    /* numbers on the residual stream; 0 stands for 1 */
    real embedding_scale; /* embeddings times it */
    real residual_scale;  /* what a layer adds, times it */
    real logit_divisor;   /* logits divided by it */
    real logit_softcap;   /* then cap · tanh(logit / cap); 0: none */

    /* norms */
    enum norm_kind norm;
    bool norm_bias;
    real norm_eps;

    /* attention */
    const struct attention_kind *attention;
    int64_t n_head, n_kv_head, head_dim, v_dim;
    struct layer_list n_head_at, n_kv_head_at;
    bool qkv_bias, o_bias;
    bool attention_gate; /* attn_q gives for every head a query and a gate: the head's output times sigmoid(gate) */
    bool sinks;          /* a learned score per head that takes weight and gives nothing (Xiao et al. 2023) */
    real qkv_clamp;      /* queries, keys and values between -it and it; 0: as they are */
    enum qk_norm qk_norm;
    bool qk_norm_after_rope;
    real attention_scale;     /* 0: 1 / √head_dim */
    int64_t window;           /* 0: none; else a key is visible when q - k < window, in the layers that slide: */
    int64_t window_period;    /* of each `period` layers one, the last, sees everything; 0: all slide */
    bool window_full_first;   /* not the last of each period but the first */
    struct layer_list slides; /* or listed: 1 slides, 0 sees everything */
    /* layers that carry a state from row to row instead of keys and values */
    const struct attention_kind *recurrent; /* their kind; NULL: there are none */
    int64_t recurrent_period;               /* of each `period` layers the last attends, the others are recurrent */
    struct layer_list recurrent_at;         /* or listed: 1 is recurrent, 0 attends */
    int64_t conv_taps;                      /* short convolutions: rows seen, the row itself included */
    struct delta_spec delta;
    int64_t q_rank, kv_rank; /* multi-head latent attention: ranks of the query (0: full) and of keys and values */
    real q_latent_scale, kv_latent_scale; /* their norms' outputs times it; 0 stands for 1 */

    /* position: rotary embedding, stretched for contexts beyond those of pre-training */
    int64_t n_rot;
    bool no_rope; /* nothing turns: order comes from the causal mask alone */
    bool rope_pairs;
    bool rope_sliding_only;              /* layers that see everything have no rotary embedding */
    real rope_base, rope_linear;         /* linear scaling: positions divided by it; 1 = none */
    real yarn_factor;                    /* YaRN (Peng et al. 2023); 0 or 1 = none; excludes linear */
    int64_t yarn_ctx;                    /* context of pre-training that YaRN or the long factors stretch */
    real yarn_beta_fast, yarn_beta_slow; /* turns within yarn_ctx above / below which a pair is kept / stretched */
    real yarn_log_multiplier;            /* 0.1 · mscale_all_dim (DeepSeek-V2): scales scores instead of cos and sin */
    real rope_attention_factor;          /* cos and sin are multiplied by it (besides YaRN's own); 0 or 1 = none */
    real rope_long_factor;               /* with rope_factors, instead of that beyond yarn_ctx; 0: the same */
    int32_t
        rope_sections[4]; /* pairs that follow time, height, width, others (interleaved M-RoPE); zeros: plain rope */
    bool rope_freqs;      /* a tensor of divisors of the frequencies exists (Llama 3.1) */
    bool
        rope_factors; /* two such tensors exist: for contexts up to yarn_ctx, and longer (LongRoPE, Ding et al. 2024) */

    /* feed-forward: dense are the layers below n_dense_leading, of the others those that are not the last of
     * moe_period, and all when n_expert = 0 */
    int64_t n_dense_leading, moe_period, dense_ff;
    struct layer_list dense_ff_at;
    int n_expert;
    enum moe_side moe_side;
    bool gate_early; /* gates read the layer's input, before attention and norm */
    int64_t expert_ff;
    int64_t shared_ff; /* 0: no shared expert */
    bool shared_gated;
    bool router_bias;            /* selection bias exists */
    bool gate_bias;              /* the gate that makes the logits has a bias */
    bool expert_bias;            /* experts' matrices have biases */
    bool expert_scaled;          /* an expert's weights are multiplied by a learned number */
    struct router_config router; /* its n_expert counts the light experts, too */
    /* Structure beyond a row of equal FFNs (moe/moe.h); 0: none. expert_ff is then the width of a slice. */
    int n_zero, n_copy, n_constant; /* light experts of a layer, besides n_expert */
    struct slice_pattern slices;
    int64_t latent; /* width at which FFN experts work */
    int moe_heads, chain;
    int64_t router_state; /* of the recurrent router */
    bool gate_residual;
    const struct expert_schedule *schedule; /* NULL, or with k_min: layers use k_min … router.k experts */
    int k_min;
    const struct expert_kind *expert_kind; /* of routed, shared and dense feed-forward layers */
};

static inline bool spec_has_yarn(const struct spec *s)
{
    return s->yarn_factor != 0 && s->yarn_factor != 1;
}

/* What one layer is; every number filled in. */
struct layer_spec {
    const struct attention_kind *attention;
    int64_t n_head, n_kv_head;
    int64_t window; /* 0: sees everything */
    bool rope;      /* queries and keys are turned by their position */
    bool moe, dense;
    int64_t dense_ff;
};
struct layer_spec spec_layer(const struct spec *s, int64_t layer);
bool spec_layer_is_moe(const struct spec *s, int64_t layer);
bool spec_layer_is_dense(const struct spec *s, int64_t layer);

/* Fill in what a zero leaves open: grouped-query attention, kv heads as many as heads, head_dim = d_model / n_head,
 * n_rot = head_dim, rope base 10000, no scaling, YaRN's usual constants, softmax router, SwiGLU experts; and bring what
 * means the same to one form: no groups, no scaling, lists of equal numbers; the router's number of experts is the
 * model's. */
void spec_defaults(struct spec *s);

/* Every number in range and consistent (heads divide, k <= experts, …); names the field and what is wrong. */
cadre_err spec_check(const struct spec *s, cadre_error *err);

struct spec_counts {
    int64_t parameters, active_parameters; /* those that a token multiplies with, as often as it does (chains); counts
                                              the output matrix, not the embedding lookup unless tied */
};
struct spec_counts spec_count(const struct spec *s);

/* Radians per position of each rotated pair, [n_rot / 2]; freqs: the divisors or NULL. Returns the factor of cos and
 * sin. */
real spec_rope(const struct spec *s, const real *freqs, real *inv_freq);
/* The factor of attention scores, √head_dim and YaRN's part in it included. */
real spec_attention_scale(const struct spec *s);

#endif
