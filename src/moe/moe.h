/* The MoE layer: router → decision → dispatch → experts → combine, plus shared experts. Who keeps the experts' bytes,
 * who records or changes decisions, and where other ranks come in are hooks that higher rooms implement. */
#ifndef CADRE_MOE_MOE_H
#define CADRE_MOE_MOE_H

#include "moe/expert.h"
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

struct moe_layer {
    int layer;
    struct router_config router;
    struct weight gate;       /* [n_expert, d] */
    struct tensor *gate_bias; /* [n_expert] or NULL: part of the logits */
    struct tensor *bias;      /* [n_expert] selection bias or NULL; not trained by gradients */
    const struct expert_kind *kind;
    struct expert_weights experts;
    /* Shared experts (DeepSeekMoE, 2024): one FFN of the same kind that every token passes; shared.down.n = 0: none. */
    struct expert_weights shared;
    struct tensor *shared_gate; /* [1, d] or NULL: output times sigmoid(gate · x) (Qwen2-MoE) */
};

/* x [n, d] → [n, d] (without the residual). Dropless: every chosen expert computes every token that chose it. The sum
 * of a token has one order, whatever the batch: its slots ascending, then the shared expert. routing receives what
 * balance losses need; may be NULL. A failing expert_source puts its error in err and returns NULL. A dry run calls no
 * hook and plans for n * k rows. */
struct tensor *moe_forward(struct op_ctx *c, const struct moe_layer *l, struct tensor *x, const struct moe_hooks *hooks,
                           struct routing *routing, cadre_error *err);

#endif
