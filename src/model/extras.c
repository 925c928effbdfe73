#include "model/extras.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/family.h"
#include "model/kept.h"

/* "blk.46.attn_q.weight" → "attn_q.weight" */
static const char *kind(const char *name)
{
    return strchr(name + strlen("blk."), '.') + 1;
}

/* A tensor of that kind in a layer of the model: what holds for it, holds for the extra one. */
static const struct param *twin(const struct model *m, const char *name)
{
    const struct family *f = family_find(m->spec.family);
    for (int64_t i = 0; i < m->n_params; i++)
        if (m->params[i].layer >= 0 && strcmp(family_tensor_name(f, m->params[i].def->name), kind(name)) == 0)
            return &m->params[i];
    return NULL;
}

static cadre_err describe(const struct model *m, const struct gguf_tensor *t, struct param *p, struct tensor_def *def,
                          cadre_error *err)
{
    const struct param *like = twin(m, t->name);
    CHECK(err, strlen(t->name) < sizeof p->name, CADRE_E_FORMAT, "tensor '%s': expected a name of at most %zu bytes",
          t->name, sizeof p->name - 1);
    snprintf(p->name, sizeof p->name, "%s", t->name);
    p->n_dims = p->t.n_dims = t->n_dims;
    for (int i = 0; i < t->n_dims; i++)
        p->dim[i] = p->t.dim[i] = t->dim[t->n_dims - 1 - i];
    p->matrix = like ? like->matrix : t->n_dims > 1;
    p->no_quantize = like ? like->no_quantize : !p->matrix;
    p->type = t->type;
    p->file_bytes = t->bytes;
    p->layer = m->spec.n_layer;
    if (like)
        *def = *like->def;
    else if (p->matrix && p->dim[0] == m->spec.n_vocab)
        def->flags = TENSOR_LOOKUP; /* an embedding or an output matrix of its own */
    def->name = kind(t->name);
    p->def = def;
    return CADRE_OK;
}

cadre_err extras_find(struct extras *out, const struct gguf *g, const struct model *m, cadre_error *err)
{
    int64_t n = gguf_tensor_count(g);
    *out = (struct extras){0};
    if (m->spec.n_nextn == 0)
        return CADRE_OK;
    out->param = calloc((size_t)n + 1, sizeof *out->param);
    out->def = calloc((size_t)n + 1, sizeof *out->def);
    CHECK(err, out->param && out->def, CADRE_E_MEMORY, "no memory for %lld tensors", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (!kept_left_out(m->spec.n_layer, m->spec.n_nextn, t->name))
            continue;
        TRY(describe(m, t, &out->param[out->n], &out->def[out->n], err));
        out->n++;
    }
    return CADRE_OK;
}

void extras_free(struct extras *x)
{
    free(x->param);
    free(x->def);
    *x = (struct extras){0};
}
