/* Optimizers: one row each. A row says which rule moves hidden matrices and which everything else; a rule moves
 * elements one by one (a slice of a parameter at a time) or whole matrices. State arrays are as large as the parameter
 * and are held by the trainer. */
#ifndef CADRE_TRAIN_OPTIMIZER_H
#define CADRE_TRAIN_OPTIMIZER_H

#include "model/model.h"
#include "op/tape.h"
#include "train/config.h"

enum { OPTIMIZER_MAX_STATES = 2 };

struct optimizer_step {
    const struct train_config *cfg;
    int64_t step; /* 1 for the first */
    real lr;
    real grad_scale; /* gradients are multiplied by it: clipping */
};

struct optimizer_rule {
    int n_states;
    const char *state_names[OPTIMIZER_MAX_STATES];
    /* One of the two. slice: elements [from, from + n), on any thread. matrices: the whole parameter, a matrix or a
     * stack of them, on all threads; a dry run only takes its scratch, which it gives back. */
    void (*slice)(const struct kernels *k, const struct optimizer_step *s, struct param *p, real *const *state,
                  int64_t from, int64_t n);
    void (*matrices)(struct op_ctx *c, const struct optimizer_step *s, struct param *p, real *const *state);
};

struct optimizer {
    const char *name;
    const struct optimizer_rule *hidden; /* matrices inside layers, without routers' gates */
    const struct optimizer_rule *other;  /* embeddings, output, vectors, gates */
    bool momentum;                       /* [train] momentum acts */
};

const struct optimizer *optimizer_find(const char *name);
const char *optimizer_names(void); /* for messages */
/* What moves p; NULL if gradients do not train it. */
const struct optimizer_rule *optimizer_rule_of(const struct optimizer *o, const struct param *p);

extern const struct optimizer_rule rule_adamw, rule_muon; /* optimizer.c, muon.c */

/* Over all parameters, in work items bounded by shape, on all threads: the same bytes for every number of them.
 * state[i * OPTIMIZER_MAX_STATES + j]: state j of parameter i. c: kernels, pool, scratch; dry: plans the scratch. */
void optimizer_run(const struct optimizer *o, struct op_ctx *c, const struct optimizer_step *s, struct model *m,
                   real *const *state);

/* √Σ g² over all parameters, in slices of fixed size summed in order: the same for every number of threads. */
double gradient_norm(const struct kernels *k, struct pool *pool, struct model *m);

#endif
