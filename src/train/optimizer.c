#include "train/optimizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

static void adamw_step(const struct kernels *k, const struct optimizer_step *s, struct param *p, real *const *state,
                       int64_t from, int64_t n)
{
    const struct train_config *c = s->cfg;
    double c1 = 1 - pow(c->beta1, (double)s->step), c2 = 1 - pow(c->beta2, (double)s->step);
    k->adamw(p->t.x + from, state[0] + from, state[1] + from, p->t.g + from, n, s->grad_scale, s->lr, (real)c->beta1,
             (real)c->beta2, (real)c->eps, p->matrix ? (real)c->weight_decay : 0, (real)c1, (real)c2);
}

const struct optimizer_rule rule_adamw = {2, {"m", "v"}, adamw_step, NULL};

static const struct optimizer rows[] = {
    {"adamw", &rule_adamw, &rule_adamw, false},
    {"muon", &rule_muon, &rule_adamw, true},
};

const struct optimizer *optimizer_find(const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    return NULL;
}

const char *optimizer_names(void)
{
    return "adamw or muon";
}

const struct optimizer_rule *optimizer_rule_of(const struct optimizer *o, const struct param *p)
{
    if (!p->by_gradient)
        return NULL;
    return p->layer >= 0 && p->matrix && !p->no_quantize ? o->hidden : o->other;
}

enum { SLICE = 1 << 16 };

/* Parameters that gradients train (with an optimizer: those that it moves by elements), as one row of slices. */
struct slices {
    const struct optimizer *o; /* NULL: all */
    const struct kernels *k;
    const struct optimizer_step *s;
    struct model *m;
    real *const *state;
    double *square; /* [n_slices] */
};

static int64_t slices_of(const struct slices *a, const struct param *p)
{
    if (!p->by_gradient || (a->o && !optimizer_rule_of(a->o, p)->slice))
        return 0;
    return (tensor_count(&p->t) + SLICE - 1) / SLICE;
}

static int64_t count_slices(const struct slices *a)
{
    int64_t n = 0;
    for (int64_t i = 0; i < a->m->n_params; i++)
        n += slices_of(a, &a->m->params[i]);
    return n;
}

static int64_t find_slice(const struct slices *a, int64_t item, int64_t *from, int64_t *n)
{
    int64_t i = 0;
    for (; item >= slices_of(a, &a->m->params[i]); i++)
        item -= slices_of(a, &a->m->params[i]);
    *from = item * SLICE;
    *n = min_i64(SLICE, tensor_count(&a->m->params[i].t) - *from);
    return i;
}

static void step_slice(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct slices *a = arg;
    int64_t from, n, i = find_slice(a, item, &from, &n);
    struct param *p = &a->m->params[i];
    optimizer_rule_of(a->o, p)->slice(a->k, a->s, p, a->state + i * OPTIMIZER_MAX_STATES, from, n);
}

void optimizer_run(const struct optimizer *o, struct op_ctx *c, const struct optimizer_step *s, struct model *m,
                   real *const *state)
{
    struct slices a = {.o = o, .k = c->k, .s = s, .m = m, .state = state};
    if (!c->dry)
        pool_run(c->pool, count_slices(&a), step_slice, &a);
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct optimizer_rule *rule = optimizer_rule_of(o, &m->params[i]);
        if (rule && rule->matrices)
            rule->matrices(c, s, &m->params[i], state + i * OPTIMIZER_MAX_STATES);
    }
}

static void square_slice(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct slices *a = arg;
    int64_t from, n, i = find_slice(a, item, &from, &n);
    const real *g = a->m->params[i].t.g + from;
    a->square[item] = (double)a->k->dot(g, g, n);
}

double gradient_norm(const struct kernels *k, struct pool *pool, struct model *m)
{
    struct slices a = {.k = k, .m = m};
    int64_t n = count_slices(&a);
    a.square = malloc((size_t)n * sizeof(double));
    if (!a.square)
        return NAN; /* the trainer stops on it as on any gradient that is not a number */
    pool_run(pool, n, square_slice, &a);
    double sum = 0;
    for (int64_t i = 0; i < n; i++)
        sum += a.square[i];
    free(a.square);
    return sqrt(sum);
}
