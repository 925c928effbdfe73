#include "train/diversify.h"

#include "base/rng.h"

static void diversify_stack(struct weight *w, double mask, struct rng *rng)
{
    int64_t size = w->n * w->k;
    real *first = w->param->x;
    for (int64_t e = w->n_expert - 1; e >= 0; e--) /* expert 0 last: the others are copied from it */
        for (int64_t i = 0; i < size; i++)
            first[e * size + i] = rng_uniform(rng) < mask ? 0 : first[i];
}

void diversify_experts(struct model *m, double mask, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    for (int64_t l = 0; l < m->spec.n_layer; l++) {
        struct expert_weights *w = &m->layers[l].moe.experts;
        struct weight *stacks[] = {&w->gate, &w->up, &w->down};
        for (int i = 0; i < 3; i++)
            if (stacks[i]->n_expert > 1)
                diversify_stack(stacks[i], mask, &rng);
    }
}
