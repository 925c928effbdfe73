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
    int n_expert;              /* all that can be chosen: FFN experts, then the light ones (moe/light.h) */
    int n_light;               /* how many of them are light */
    int k;                     /* experts a token gets at most */
    int active;                /* 1 … k: of a token's k best this layer uses so many; 0: k (a layer's schedule) */
    struct topk_groups groups; /* groups.n = 0: none */
    bool normalize;            /* divide the chosen weights by max(their sum, ROUTER_MIN_SUM) */
    real scale;                /* then multiply; 1 = none */
    real threshold;            /* of rows that have one: probability mass, or a score, in (0, 1] */
    /* Training only. */
    int start_k;       /* experts a token gets at the start, growing to k (Chen et al. 2023); 0: k throughout */
    real capacity;     /* rows that drop: an expert takes at most capacity · n · k / n_expert tokens; 0: all */
    real light_weight; /* of light experts in the balance loss; 0: 1 */
    real temperature;  /* rows that cool: of the softmax at the start */
};

/* What a forward pass of training tells its routers; generation and evaluation have none. */
struct route_training {
    double progress; /* share of the training that is done, 0 … 1 */
    uint64_t seed;   /* noise is a function of it, the layer, the token and the expert */
    bool one_expert; /* no gate is asked: every token goes through expert 0 with weight 1 (EvoMoE's first phase) */
};

struct route_in {
    struct tensor *logits;                 /* [n, n_expert] gate outputs */
    struct tensor *noise;                  /* [n, n_expert] or NULL: outputs of the noise gate of rows that have one */
    const real *bias;                      /* [n_expert] selection bias or NULL; never enters the weights */
    const struct route_training *training; /* or NULL */
    int layer;
};

struct routing {
    int32_t *id;            /* [n, k] in order of falling selection score; -1 = none, those last */
    int32_t *wanted;        /* [n, k] the ids before any was dropped for want of capacity: what balance counts */
    int k;                  /* slots of a token: router_slots() */
    struct tensor *weight;  /* [n, k] */
    struct tensor *score;   /* [n, n_expert]: unbiased scores that the weights come from; balance losses read them */
    struct tensor *logits;  /* [n, n_expert]: without noise */
    struct tensor *chances; /* [n, n_expert] or NULL: probability that an expert is chosen, of rows with noise */
    const struct routing *next; /* the same layer's next decision (chains of experts), or NULL */
};

/* Numbers of a router_config that only some rows read. */
enum { ROUTER_THRESHOLD = 1, ROUTER_CAPACITY = 2, ROUTER_TEMPERATURE = 4 };

struct router {
    const char *name;
    unsigned takes;      /* ROUTER_… */
    bool train_only;     /* the rule must not be used for generation (it drops tokens by their neighbours) */
    bool whole_sequence; /* the rule looks at other tokens of the sequence */
    bool noise_gate;     /* the layer has a second gate, for the noise */
    bool fixed_gate;     /* the gate keeps its random start: no gradient reaches it */
    cadre_err (*check)(const struct router_config *cfg, cadre_error *err); /* may be NULL */
    /* Slots of a token; NULL: k. In generation it must be k. */
    int (*slots)(const struct router_config *cfg, bool training);
    /* Fills out->logits, score and id (and wanted, chances where they differ from what they are by default). */
    void (*choose)(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out);
    /* Fills out->weight from score and id: a step of its own, because a decision filter may have changed the ids. */
    void (*weigh)(struct op_ctx *c, const struct router_config *cfg, struct routing *out);
    /* A loss of the rule's own, [1, 1], to be weighted and added to the training loss; NULL: none. */
    struct tensor *(*loss)(struct op_ctx *c, const struct router_config *cfg, const struct routing *r);
};

const struct router *router_find(const char *name); /* NULL if unknown */
const struct router *router_at(int i);              /* NULL past the end */
cadre_err router_config_check(const struct router_config *cfg, cadre_error *err);
int router_slots(const struct router_config *cfg, bool training);

/* The whole decision but its weights: choose, then what holds for every row (the layer's number of active experts, the
 * growth of k in training). */
void router_choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out);

/* ---- for those who write rows */

/* The weigh of routers whose weights are the scores of the chosen: weight[t, j] = score[t, id[t, j]] (0 for id -1),
 * normalised over the final ids if cfg says so, then scaled. Gradients reach the scores, never the choice. */
void router_weigh_scores(struct op_ctx *c, const struct router_config *cfg, struct routing *out);

/* Keep a token's best experts until their scores add up to `mass` (at least one): the others become -1. id [n, k] in
 * falling order of score. Nothing in a dry run. */
void router_cut_at_mass(struct op_ctx *c, const struct tensor *score, int32_t *id, int k, real mass);

/* An expert that more than ceil(capacity · n · k / n_expert) slots chose keeps the first: slot 0 of all tokens in
 * order, then slot 1 (GShard, Lepikhin et al. 2020). A copy of what was wanted goes to out->wanted. */
void router_drop_over_capacity(struct op_ctx *c, const struct router_config *cfg, int64_t n_tok, struct routing *out);

/* [n, n_expert] 0 or 1: who was chosen. */
struct tensor *router_mask(struct op_ctx *c, const int32_t *id, int64_t n_tok, int k, int n_expert);

/* For layers that are computed again in the backward (model/forward.c). A routing of undefined values whose tensors
 * want gradients; a copy of the values of another; and what its tensors' gradients are, handed to the tensors of `to`,
 * which was computed from the same numbers. */
struct routing routing_new(struct op_ctx *c, const struct router_config *cfg, int64_t n, bool training);
void routing_copy(struct routing *to, const struct routing *from);
void routing_pass_gradients(struct routing *to, const struct routing *from);

extern const struct router router_softmax; /* router/softmax.c: softmax over all, then top-k (Shazeer et al. 2017) */
extern const struct router
    router_topk_softmax;                     /* router/topk_softmax.c: top-k, then softmax over the chosen (gpt-oss) */
extern const struct router router_sigmoid;   /* router/sigmoid.c: sigmoid, bias, groups (DeepSeek-V3, 2024, §2.1.2) */
extern const struct router router_noisy;     /* router/noisy.c: noise before the choice (Shazeer et al. 2017, §2.1) */
extern const struct router router_switch;    /* router/capacity.c: top-1 (Fedus et al. 2021) */
extern const struct router router_gshard;    /* router/capacity.c: top-2, the second by chance (Lepikhin et al. 2020) */
extern const struct router router_top_p;     /* router/mass.c: as many as confidence asks (Huang et al. 2024) */
extern const struct router router_threshold; /* router/mass.c: small experts up to a threshold (Yang et al. 2024) */
extern const struct router router_null;      /* router/null.c: null experts take slots (Zeng et al. 2024) */
extern const struct router router_expert_choice; /* router/expert_choice.c: experts choose tokens (Zhou et al. 2022) */
extern const struct router router_sparse_mixer;  /* router/sparse_mixer.c: each best by its rivals (Liu et al. 2024) */
extern const struct router router_grouped; /* router/grouped.c: as many in every group (Pangu Pro, Tang et al. 2025) */
extern const struct router
    router_dense_to_sparse;               /* router/dense_to_sparse.c: all, then few (EvoMoE, Nie et al. 2021) */
extern const struct router router_random; /* router/random.c: a fixed random gate (SMoE-Dropout, Chen et al. 2023) */

#endif
