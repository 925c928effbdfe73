/* Optimizers: one row each. State arrays are as large as the parameter and are held by the trainer. */
#ifndef CADRE_TRAIN_OPTIMIZER_H
#define CADRE_TRAIN_OPTIMIZER_H

#include "base/pool.h"
#include "kernel/kernel.h"
#include "model/model.h"
#include "train/config.h"

enum { OPTIMIZER_MAX_STATES = 2 };

struct optimizer_step {
    const struct train_config *cfg;
    int64_t step; /* 1 for the first */
    real lr;
    real grad_scale; /* gradients are multiplied by it: clipping */
};

struct optimizer {
    const char *name;
    int n_states;
    const char *state_names[OPTIMIZER_MAX_STATES];
    /* elements [from, from + n) of one parameter */
    void (*step)(const struct kernels *k, const struct optimizer_step *s, struct param *p, real *const *state,
                 int64_t from, int64_t n);
};

const struct optimizer *optimizer_find(const char *name);

/* Over all parameters, in slices bounded by shape, on all threads. state[i * n_states + j]: state j of parameter i. */
void optimizer_run(const struct optimizer *o, const struct kernels *k, struct pool *pool,
                   const struct optimizer_step *s, struct model *m, real *const *state);

/* √Σ g² over all parameters, in slices of fixed size summed in order: the same for every number of threads. */
double gradient_norm(const struct kernels *k, struct pool *pool, struct model *m);

#endif
