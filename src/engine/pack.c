/* A model file with its matrices as kernels read them, and back: which tensors become strips. */
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "kernel/kernel.h"
#include "model/kept.h"
#include "model/source.h"

struct source {
    struct gguf *g;
    struct model *m;
    struct kept *kept;
    struct gguf_pack_tensor *tensor; /* [tensors of g] */
    char (*group)[32];               /* [layers]: names of groups */
};

static void source_close(struct source *s)
{
    free(s->group);
    free(s->tensor);
    free(s->kept);
    model_free(s->m);
    gguf_close(s->g);
}

/* Asking is work, and models have few pairs of a format and a length of rows. */
struct answers {
    struct {
        enum dtype type;
        int64_t k;
        bool yes;
    } at[64];
    int n;
};

static bool can_pack(struct answers *a, enum dtype type, int64_t k)
{
    for (int i = 0; i < a->n; i++)
        if (a->at[i].type == type && a->at[i].k == k)
            return a->at[i].yes;
    bool yes = gguf_can_pack(type, k);
    if (a->n < 64) {
        a->at[a->n].type = type;
        a->at[a->n].k = k;
        a->at[a->n++].yes = yes;
    }
    return yes;
}

/* Tables that are looked up keep their rows, and so does what is turned round when it is read. */
static void choose(struct source *s, struct answers *a, const struct param *p, const struct kept *kept)
{
    const struct weight *w = param_weight(s->m, p);
    bool lookup = p->def->flags & TENSOR_LOOKUP;
    if (!w || (lookup && !s->m->spec.tied) || kept_turned(kept))
        return;
    for (int64_t e = 0; e < max_i64(w->n_expert, 1); e++) {
        const struct gguf_tensor *t = kept_tensor(kept, s->g, p, e);
        struct gguf_pack_tensor *to = &s->tensor[gguf_tensor_index(s->g, t)];
        to->strips = can_pack(a, t->type, t->dim[0]);
        to->rows = lookup || !to->strips;
        if (p->def->flags & TENSOR_BY_EXPERT && gguf_slices(t) > 1)
            to->group = s->group[p->layer];
    }
}

static cadre_err choose_all(struct source *s, cadre_error *err)
{
    int64_t n = gguf_tensor_count(s->g);
    struct answers answers = {.n = 0};
    s->tensor = calloc((size_t)n + 1, sizeof *s->tensor);
    s->group = calloc((size_t)s->m->spec.n_layer, sizeof *s->group);
    CHECK(err, s->tensor && s->group, CADRE_E_MEMORY, "no memory to plan %lld tensors", (long long)n);
    for (int64_t i = 0; i < s->m->spec.n_layer; i++)
        snprintf(s->group[i], sizeof *s->group, "blk.%lld.experts", (long long)i);
    for (int64_t i = 0; i < n; i++)
        s->tensor[i].rows = true;
    for (int64_t i = 0; i < s->m->n_params; i++)
        choose(s, &answers, &s->m->params[i], &s->kept[i]);
    for (int64_t i = 0; i < s->m->n_params; i++)
        if (kept_turned(&s->kept[i]))
            s->tensor[gguf_tensor_index(s->g, s->kept[i].t)] = (struct gguf_pack_tensor){.rows = true};
    return CADRE_OK;
}

static void count(const struct source *s, bool undo, cadre_pack_result *out)
{
    uint64_t at, stride;
    for (int64_t i = 0; i < gguf_tensor_count(s->g); i++) {
        out->tensors++;
        out->bytes += gguf_tensor_at(s->g, i)->bytes;
        out->packed += undo ? gguf_strips(s->g, gguf_tensor_at(s->g, i), &at, &stride) : s->tensor[i].strips;
    }
}

static cadre_err do_pack(struct source *s, const char *out, struct gguf_pack_options *o, cadre_error *err)
{
    TRY(model_open_empty(&s->m, &s->kept, s->g, MLA_ABSORBED, err));
    TRY(choose_all(s, err));
    o->tensor = s->tensor;
    return gguf_pack(out, s->g, o, err);
}

cadre_err cadre_pack(const char *in, const char *out, const cadre_pack_options *options, cadre_pack_result *result,
                     cadre_error *err)
{
    CHECK(err, in && out && options, CADRE_E_ARG, "cadre_pack: in, out and options must be given");
    struct source s = {0};
    struct kernels ks;
    struct cpu cpu;
    enum isa isa;
    struct gguf_pack_options o = {.ks = &ks, .progress = options->progress, .user = options->user};
    cadre_pack_result counts = {0};
    cadre_err rc;
    cpu_detect(&cpu);
    TRY(isa_choose(NULL, &cpu, &isa, err));
    kernels_init(&ks, &cpu, isa);
    TRY_OUT(model_source_open(&s.g, in, err));
    TRY_OUT(pool_new(&o.pool, options->threads > 0 ? options->threads : cpu.cores, err));
    rc = options->undo ? gguf_unpack(out, s.g, &o, err) : do_pack(&s, out, &o, err);
    TRY_OUT(rc);
    count(&s, options->undo, &counts);
    if (result)
        *result = counts;
out:
    pool_free(o.pool);
    source_close(&s);
    return rc;
}
