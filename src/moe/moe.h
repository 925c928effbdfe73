/* The MoE layer: router → decision → dispatch → experts → combine, plus light and shared experts. Who keeps the
 * experts' bytes, who records or changes decisions, and where other ranks come in are hooks that higher rooms
 * implement. */
#ifndef CADRE_MOE_MOE_H
#define CADRE_MOE_MOE_H

#include "moe/expert.h"
#include "moe/light.h"
#include "moe/router.h"
#include "trace/decision.h"

/* The only way to expert bytes when they are not all resident (implemented by store). acquire pins the experts `ids`
 * (ascending, distinct; those with rows to compute, so n may be 0) of a layer and points w's packed matrices of those
 * experts at them until release. Inference only: a backward would read the weights after their release. */
struct expert_source {
    void *self;
    cadre_err (*acquire)(void *self, int layer, const int32_t *ids, int n, struct expert_weights *w, cadre_error *err);
    void (*release)(void *self, int layer, const int32_t *ids, int n);
};

/* Sees every decision before it is used; may change ids (to others or -1). Recording, steering, cache-aware rules.
 * The weights that it sees belong to the ids as it got them; those of changed ids are gathered, and normalised over the
 * final ids, after it. */
struct decision_filter {
    void *self;
    void (*decide)(void *self, struct decision *d);
};

/* Moves dispatched rows to the ranks that hold the experts and back; NULL = all experts are here. to_experts also gives
 * the offsets of the moved rows by the experts that are here; they live as long as the rows. */
struct exchange {
    void *self;
    struct tensor *(*to_experts)(void *self, struct op_ctx *c, struct tensor *rows, const struct dispatch *plan,
                                 const int64_t **offset);
    struct tensor *(*from_experts)(void *self, struct op_ctx *c, struct tensor *rows, const struct dispatch *plan);
};

struct moe_hooks {
    const struct expert_source *source;
    const struct decision_filter *filter; /* the last word on ids; weights are gathered after it */
    const struct exchange *exchange;
};

/* What the MoE layers of one forward pass share; zeroed before the first of them but for hooks and training. */
struct moe_pass {
    const struct moe_hooks *hooks;         /* NULL: none */
    const struct route_training *training; /* NULL: not training */
    struct tensor *gate_x; /* [n, d] what a layer's gate reads instead of its x; NULL: x. SmallThinker routes by the
                            * layer's input, so that experts can be fetched while attention computes */
    struct tensor *late;   /* what the experts of a layer gave that is added at the end of the next (LongCat-Flash) */
    struct tensor *logits; /* of the MoE layer before, NULL in the first: gating residuals read them */
    struct tensor *state;  /* [n, state] of the recurrent router, NULL in the first */
};

/* A router that remembers (RMoE, Qiu et al. 2024): h_l = GRU(W_l x, h_{l-1}), and the gate reads h_l instead of x. The
 * GRU is one for all layers, the projection W_l each layer's own. */
struct router_gru {
    struct weight input, hidden;       /* [3 state, state] */
    struct tensor *b_input, *b_hidden; /* [3 state] */
};

struct moe_layer {
    int layer;
    struct router_config router;
    struct weight gate;          /* [n_expert, d]; with a recurrent router [n_expert, state] */
    struct tensor *gate_bias;    /* [n_expert] or NULL: part of the logits */
    struct tensor *bias;         /* [n_expert] selection bias or NULL; not trained by gradients */
    struct tensor *weight_scale; /* [1, n_expert] or NULL: an expert's weights times a learned number (Pangu Pro MoE) */
    struct weight noise_gate;    /* [n_expert, d] of routers with noise; n = 0: none */
    struct weight
        gate_residual; /* [n_expert, n_expert] logits += W · those of the layer before (MoE++, eq. 9); or n = 0 */
    struct weight gate_project;   /* [state, d] the recurrent router's W_l; n = 0: the gate reads x */
    const struct router_gru *gru; /* the model's; only read when gate_project.n > 0 */

    const struct expert_kind *kind;
    struct expert_weights experts; /* of all slices */
    /* Experts of different widths: expert e is the slices slice_start[e] … slice_start[e + 1] of `experts`, an FFN
     * whose hidden units are all of theirs; [n_ffn + 1], or NULL: each is one slice. max_slices: of the widest. */
    const int32_t *slice_start;
    int max_slices;
    struct light_experts light;
    /* Latent experts (MoLE, Liu et al. 2025): FFN experts work on z = latent_in x, and latent_out brings their weighted
     * sum back. n = 0: they work on x. */
    struct weight latent_in, latent_out; /* [latent, d], [d, latent] */
    /* Multi-head MoE (Wu et al. 2024): head_in x is cut into `heads` sub-tokens of width d / heads that are routed and
     * computed each by itself; head_out merges them. 0 or 1: whole tokens. */
    int heads;
    struct weight head_in, head_out; /* [d, d] */
    /* Chain of experts (Wang et al. 2025): `chain` times through the layer with a gate of its own each time, the input
     * of each turn being x plus the outputs so far. 0 or 1: once. */
    int chain;
    struct weight chain_gate; /* [chain - 1][n_expert, d]: of the turns after the first */

    /* Shared experts (DeepSeekMoE, 2024): one FFN of the same kind that every token passes; shared.down.n = 0: none. */
    struct expert_weights shared;
    struct tensor *shared_gate; /* [1, d] or NULL: output times sigmoid(gate · x) (Qwen2-MoE) */
};

/* x [n, d] → [n, d] (without the residual). Dropless but for rules that drop in training: every chosen expert computes
 * every token that chose it. The sum of a token has one order, whatever the batch: its slots ascending, then the light,
 * then the shared experts. `routing` receives what balance losses need; may be NULL, as may `pass`. A failing
 * expert_source puts its error in err and returns NULL. A dry run calls no hook and plans for all slots. */
struct tensor *moe_forward(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, struct moe_pass *pass,
                           struct routing *routing, cadre_error *err);

#endif
