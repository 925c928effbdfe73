#include "model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/rng.h"
#include "model/attention.h"
#include "model/experts.h"

struct weight *param_weight(const struct model *m, const struct param *p)
{
    if (p->def->slot != SLOT_WEIGHT)
        return NULL;
    const char *base = p->layer < 0 ? (const char *)m : (const char *)&m->layers[p->layer];
    return (struct weight *)(uintptr_t)(base + p->def->field);
}

static void bind(struct model *m, struct param *p)
{
    struct weight *w = param_weight(m, p);
    if (!w) {
        char *base = p->layer < 0 ? (char *)m : (char *)&m->layers[p->layer];
        *(struct tensor **)(void *)(base + p->def->field) = &p->t;
        return;
    }
    w->n_expert = p->n_dims == 3 ? p->dim[0] : 0;
    w->n = p->dim[p->n_dims - 2];
    w->k = p->dim[p->n_dims - 1];
    w->param = &p->t;
    if (m->mla == MLA_PLAIN && (p->def->flags & TENSOR_TURNS)) {
        w->transposed = true;
        w->n = p->dim[p->n_dims - 1];
        w->k = p->dim[p->n_dims - 2];
    }
}

static void describe(struct param *p, const struct tensor_walk *w)
{
    *p = (struct param){.n_dims = w->n_dims, .layer = w->layer, .def = w->def, .type = DTYPE_F32};
    tensor_name(w, p->name);
    memcpy(p->dim, w->dim, sizeof p->dim);
    p->matrix = w->def->slot == SLOT_WEIGHT;
    bool fixed = (w->def->flags & TENSOR_GATE) && w->spec->router.kind && w->spec->router.kind->fixed_gate;
    p->by_gradient = !(w->def->flags & TENSOR_NO_GRADIENT) && !fixed;
    p->no_quantize = (w->def->flags & TENSOR_KEEP_F32) || !p->matrix;
    /* Operators see matrices: the experts of a layer lie one below the other. */
    p->t.dim[0] = 1;
    for (int i = 0; i + 1 < w->n_dims; i++)
        p->t.dim[0] *= w->dim[i];
    p->t.dim[1] = w->dim[w->n_dims - 1];
    p->t.n_dims = 2;
    if (w->def->slot == SLOT_VECTOR && w->n_dims == 1) {
        p->t.n_dims = 1;
        p->t.dim[0] = p->t.dim[1];
    }
}

cadre_err model_new_empty(struct model **out, const struct spec *spec, enum mla_form mla, cadre_error *err)
{
    *out = NULL;
    TRY(spec_check(spec, err));
    int64_t n = 0;
    for (struct tensor_walk w = tensor_walk(spec); tensor_next(&w);)
        n++;
    struct model *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a model");
    m->spec = *spec;
    m->mla = mla;
    m->layers = calloc((size_t)spec->n_layer, sizeof *m->layers);
    m->params = calloc((size_t)n, sizeof *m->params);
    m->inv_freq = calloc((size_t)spec->n_rot, sizeof *m->inv_freq);
    m->memory = calloc(1, sizeof(struct arena));
    if (!m->layers || !m->params || !m->inv_freq || !m->memory) {
        model_free(m);
        return error_set(err, CADRE_E_MEMORY, "no memory for %lld layers", (long long)spec->n_layer);
    }
    for (struct tensor_walk w = tensor_walk(spec); tensor_next(&w);) {
        struct param *p = &m->params[m->n_params++];
        describe(p, &w);
        bind(m, p);
    }
    for (int64_t i = 0; i < spec->n_layer; i++) {
        model_set_experts(m, i);
    }
    *out = m;
    return CADRE_OK;
}

struct arena *model_arena(struct model *m)
{
    return m->memory;
}

cadre_err model_reserve(struct model *m, size_t plan, cadre_error *err)
{
    TRY(arena_init(m->memory, plan, err));
    m->bytes = plan;
    return CADRE_OK;
}

static void take_params(struct model *m, struct arena *a, bool with_grad)
{
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        size_t bytes = (size_t)tensor_count(&p->t) * sizeof(real);
        real *x = arena_alloc(a, bytes), *g = with_grad && p->by_gradient ? arena_alloc(a, bytes) : NULL;
        if (a->measuring)
            continue;
        p->t.x = x;
        p->t.g = g;
        p->t.track = g != NULL;
        if (g)
            memset(g, 0, bytes);
    }
}

cadre_err model_reserve_params(struct model *m, bool with_grad, cadre_error *err)
{
    struct arena plan;
    arena_init_measuring(&plan);
    take_params(m, &plan, with_grad);
    TRY(model_reserve(m, plan.peak, err));
    take_params(m, m->memory, with_grad);
    return CADRE_OK;
}

void model_finish(struct model *m)
{
    const struct spec *s = &m->spec;
    for (int i = 0; i < 2; i++) {
        const struct tensor *divisors = m->rope_divisors[s->rope_factors ? i : 0];
        real *inv_freq = m->inv_freq + i * (s->n_rot / 2);
        m->rope[i] = (struct rope){.n_rot = s->n_rot, .pairs = s->rope_pairs, .inv_freq = inv_freq};
        m->rope[i].scale = spec_rope(s, divisors ? divisors->x : NULL, inv_freq);
        if (i == 1 && s->rope_factors && s->rope_long_factor != 0)
            m->rope[i].scale = s->rope_long_factor;
    }
    if (m->spec.tied)
        m->output = m->embedding;
}

static double first_value(struct rng *rng, const struct param *p, const struct spec *s, double std)
{
    switch (p->def->init) {
    case INIT_ONE:
        return 1;
    case INIT_ZERO:
        return 0;
    case INIT_RESIDUAL:
        return std / sqrt(2.0 * (double)s->n_layer) * rng_normal(rng);
    case INIT_UNIT:
        return rng_normal(rng) / sqrt((double)tensor_cols(&p->t));
    case INIT_DECAY:
        return -1 - 15 * rng_uniform(rng);
    default:
        return std * rng_normal(rng);
    }
}

cadre_err model_new(struct model **out, const struct spec *spec, uint64_t seed, real init_std, bool with_grad,
                    cadre_error *err)
{
    struct model *m;
    *out = NULL;
    TRY(model_new_empty(&m, spec, MLA_PLAIN, err));
    cadre_err rc = model_reserve_params(m, with_grad, err);
    if (rc != CADRE_OK) {
        model_free(m);
        return rc;
    }
    struct rng rng;
    rng_seed(&rng, seed);
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *p = &m->params[i];
        for (int64_t j = 0, n = tensor_count(&p->t); j < n; j++)
            p->t.x[j] = (real)first_value(&rng, p, spec, (double)init_std);
    }
    model_finish(m);
    *out = m;
    return CADRE_OK;
}

struct kv_layout model_kv_layout(const struct model *m, struct kv_width *width, int64_t n_seq, int64_t n_ctx,
                                 enum dtype type)
{
    const struct spec *s = &m->spec;
    for (int64_t i = 0; i < s->n_layer; i++) {
        struct layer_spec l = spec_layer(s, i);
        width[i] = l.attention->cache(s, &l, m->mla);
    }
    return (struct kv_layout){.n_layer = s->n_layer, .n_seq = n_seq, .n_ctx = n_ctx, .width = width, .type = type};
}

void model_free(struct model *m)
{
    if (!m)
        return;
    if (m->memory)
        arena_destroy(m->memory);
    free(m->memory);
    file_map_close(&m->file);
    free(m->inv_freq);
    free(m->params);
    free(m->layers);
    free(m);
}
