/* Routers: a policy is one file in router/ and one row in the table. A router turns the gate's logits into a
 * decision (which experts) and weights (how much of each); choosing and weighing are separate: a biased score may
 * choose while the unbiased one weighs. Routers are composed from operators, so their backward comes by itself. */
#ifndef CADRE_MOE_ROUTER_H
#define CADRE_MOE_ROUTER_H

#include <stdbool.h>

#include "base/error.h"
#include "op/op.h"

struct router;

/* 2^-14, the smallest normal number of f16: where every chosen score is about 0, dividing by it leaves them so. */
#define ROUTER_MIN_SUM ((real)6.103515625e-5)

struct router_config {
    const struct router *kind;
    int n_expert, k;
    struct topk_groups groups; /* groups.n = 0: none */
    bool normalize;            /* divide the chosen weights by max(their sum, ROUTER_MIN_SUM) */
    real scale;                /* then multiply; 1 = none */
};

struct route_in {
    struct tensor *logits; /* [n, n_expert] gate outputs */
    const real *bias;      /* [n_expert] selection bias or NULL; never enters the weights */
};

struct routing {
    int32_t *id;           /* [n, k] in order of falling selection score; -1 = none */
    struct tensor *weight; /* [n, k] */
    struct tensor *score;  /* [n, n_expert]: unbiased scores that the weights come from; balance losses read them */
    struct tensor *logits; /* [n, n_expert] */
};

struct router {
    const char *name;
    bool train_only;     /* the rule must not be used for generation (it drops tokens by their neighbours) */
    bool whole_sequence; /* the rule looks at other tokens of the sequence */
    cadre_err (*check)(const struct router_config *cfg, cadre_error *err); /* may be NULL */
    /* Fills out->logits, score and id. */
    void (*choose)(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out);
    /* Fills out->weight from score and id: a step of its own, because a decision filter may have changed the ids. */
    void (*weigh)(struct op_ctx *c, const struct router_config *cfg, struct routing *out);
};

const struct router *router_find(const char *name); /* NULL if unknown */
const struct router *router_at(int i);              /* NULL past the end */
cadre_err router_config_check(const struct router_config *cfg, cadre_error *err);

/* The weigh of routers whose weights are the scores of the chosen: weight[t, j] = score[t, id[t, j]] (0 for id -1),
 * normalised over the k final ids if cfg says so, then scaled. Gradients reach the scores, never the choice. */
void router_weigh_scores(struct op_ctx *c, const struct router_config *cfg, struct routing *out);

/* For layers that are computed again in the backward (model/forward.c). A routing of undefined values whose tensors
 * want gradients; a copy of the values of another; and what its tensors' gradients are, handed to the tensors of `to`,
 * which was computed from the same numbers. */
struct routing routing_new(struct op_ctx *c, const struct router_config *cfg, int64_t n);
void routing_copy(struct routing *to, const struct routing *from);
void routing_pass_gradients(struct routing *to, const struct routing *from);

extern const struct router router_softmax; /* router/softmax.c: softmax over all, then top-k (Shazeer et al. 2017) */
extern const struct router router_sigmoid; /* router/sigmoid.c: sigmoid, bias, groups (DeepSeek-V3, 2024, §2.1.2) */

#endif
