/* A model in which no tensor is without effect: vectors, which begin as zeros or ones, are random as well. */
#ifndef CADRE_TESTS_RANDOM_MODEL_H
#define CADRE_TESTS_RANDOM_MODEL_H

#include "test.h"

#include "base/rng.h"
#include "model/model.h"
#include "model/tensors.h"

static inline struct model *random_model(const struct spec *s, uint64_t seed, bool with_grad)
{
    struct model *m;
    cadre_error err = {0};
    assert_ok(model_new(&m, s, seed, (real)0.2, with_grad, &err), err);
    struct rng rng;
    rng_seed(&rng, seed + 1);
    for (int64_t p = 0; p < m->n_params; p++)
        if (!m->params[p].matrix)
            for (int64_t j = 0; j < tensor_count(&m->params[p].t); j++)
                m->params[p].t.x[j] += (real)(0.1 * rng_uniform(&rng));
    model_finish(m);
    return m;
}

#endif
