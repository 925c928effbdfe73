#include "model/hf/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "file/names.h"
#include "model/hf/bind.h"
#include "model/kept.h"
#include "model/spec.h"

enum { MAX_SOURCES = 3 };

/* A tensor here that gives rows of one there. */
struct source {
    const struct gguf_tensor *t;
    const struct hf_tensor *rule;
    int64_t rows, units; /* of a matrix there; matrices here of one there */
};

struct made {
    struct hf_export_tensor t;
    struct source source[MAX_SOURCES];
    int n_sources;
    int64_t rows, cols, matrices; /* there, as [out, in] */
    int64_t expert;               /* -1: all of them, or none */
};

struct hf_export {
    const struct gguf *g;
    const struct hf_family *hf;
    struct hf_dims d;
    enum dtype type;
    struct made *made;
    int64_t n, room;
    bool *used; /* [tensors of g] */
};

cadre_err hf_export_family(const struct gguf *g, const struct family **family, const struct hf_family **hf,
                           cadre_error *err)
{
    struct gguf_string name;
    bool found;
    TRY(gguf_get_string(g, "general.architecture", &name, &found, err));
    CHECK(err, found, CADRE_E_FORMAT, "general.architecture: expected in every model, not found");
    *family = family_find(name.p);
    *hf = NULL;
    for (const struct hf_family *const *f = *family ? (*family)->hf : NULL; f && *f && !*hf; f++) {
        char key[128];
        int64_t v = 0;
        snprintf(key, sizeof key, "%s.%s", name.p, (*f)->when ? (*f)->when : "");
        if ((*f)->when)
            TRY(gguf_get_i64(g, key, &v, &found, err));
        if (!(*f)->when || v >= (*f)->at_least)
            *hf = *f;
    }
    CHECK(err, *hf, CADRE_E_UNSUPPORTED, "a model of architecture '%s' cannot be written as a Hugging Face directory",
          shown(name.p, name.n).s);
    return CADRE_OK;
}

/* ---- which tensors there are ------------------------------------------------------------------------------------ */

static enum dtype type_there(const struct hf_export *e, const struct gguf_tensor *t, bool matrix)
{
    bool plain = t->type == DTYPE_F32 || t->type == DTYPE_F16 || t->type == DTYPE_BF16;
    if (matrix && e->type != DTYPE_NONE)
        return e->type;
    return plain ? t->type : DTYPE_BF16;
}

/* Rows here of one matrix, and how many matrices of this tensor make one there. */
static void measure(const struct hf_export *e, struct source *s, bool vectors)
{
    struct hf_map m;
    const struct gguf_tensor *t = s->t;
    enum hf_form form = s->rule->form;
    bool latent = form == HF_K_B || form == HF_V_B;
    s->rows = vectors || t->n_dims == 1 ? t->dim[0] : t->dim[1];
    s->units = 1;
    if (form == HF_STACKED || form == HF_STACKED_T) {
        s->rows = form == HF_STACKED ? t->dim[1] : t->dim[0];
        s->units = e->d.experts;
    }
    if (latent && hf_map_of(form, &e->d, e->d.heads * (e->d.nope + e->d.v), t->dim[0], &m)) {
        s->rows = m.count;
        s->units = m.units;
    }
}

static cadre_err add(struct hf_export *e, struct made **out, cadre_error *err)
{
    if (e->n == e->room) {
        int64_t room = 2 * e->room + 64;
        struct made *wider = realloc(e->made, (size_t)room * sizeof *wider);
        CHECK(err, wider, CADRE_E_MEMORY, "no memory for %lld tensors", (long long)room);
        e->made = wider;
        e->room = room;
    }
    *out = &e->made[e->n++];
    **out = (struct made){.expert = -1};
    return CADRE_OK;
}

/* The tensors here that rules with this name there make. */
static cadre_err find_sources(struct hf_export *e, const char *hf, int64_t layer, struct made *m, cadre_error *err)
{
    const struct hf_tensor *r;
    for (int i = 0; (r = hf_rule_at(e->hf, i)) != NULL; i++) {
        char name[256];
        if (strcmp(r->hf, hf) != 0 || !hf_name_here(name, r, layer))
            continue;
        const struct gguf_tensor *t = gguf_tensor_find(e->g, name);
        if (!t)
            continue;
        CHECK(err, m->n_sources < MAX_SOURCES && dtype_info(t->type)->decode, CADRE_E_UNSUPPORTED,
              "tensor '%s': cannot be written to a Hugging Face directory", name);
        m->source[m->n_sources++] = (struct source){.t = t, .rule = r};
        e->used[gguf_tensor_index(e->g, t)] = true;
    }
    return CADRE_OK;
}

static cadre_err set_shape(const struct hf_export *e, struct made *m, bool stack, cadre_error *err)
{
    const struct source *first = &m->source[0];
    const struct gguf_tensor *t = first->t;
    unsigned flags = first->rule->flags;
    bool vectors = flags & HF_VECTORS, vector = vectors || t->n_dims == 1;
    struct hf_map map;
    m->rows = 0;
    for (int i = 0; i < m->n_sources; i++) {
        measure(e, &m->source[i], vectors);
        m->rows += m->source[i].rows * m->source[i].units;
    }
    for (int i = 0; i < m->n_sources; i++)
        CHECK(err,
              hf_map_of(m->source[i].rule->form, &e->d, m->rows, t->dim[0], &map) && map.count == m->source[i].rows &&
                  map.units == m->source[i].units,
              CADRE_E_UNSUPPORTED, "tensor '%s': its shape does not fit a Hugging Face directory",
              m->source[i].t->name);
    hf_map_of(first->rule->form, &e->d, m->rows, t->dim[0], &map);
    m->cols = vector ? 1 : map.transposed ? t->dim[1] : t->dim[0];
    m->matrices = vectors ? t->dim[1] : vector ? 1 : gguf_slices(t) / first->units;
    int n = 0;
    if (!stack && m->matrices > 1)
        m->t.dim[n++] = m->matrices;
    if ((flags & HF_FLAT) && vector)
        m->t.dim[n++] = 1;
    m->t.dim[n++] = flags & HF_STORED_T ? m->cols : m->rows;
    if ((flags & HF_FLAT) && !vector)
        m->t.dim[n++] = 1;
    if (!vector)
        m->t.dim[n++] = flags & HF_STORED_T ? m->rows : m->cols;
    m->t.n_dims = n;
    m->t.type = type_there(e, t, !vector && !(flags & HF_F32));
    for (int i = 1; i < m->n_sources; i++)
        if (type_there(e, m->source[i].t, !vector && !(flags & HF_F32)) != m->t.type)
            m->t.type = DTYPE_F32;
    dtype_size(m->t.type, (uint64_t)(m->rows * m->cols * (stack ? 1 : m->matrices)), &m->t.bytes);
    return CADRE_OK;
}

static cadre_err make(struct hf_export *e, const struct hf_tensor *rule, int64_t layer, cadre_error *err)
{
    struct made one = {.expert = -1}, *m = NULL;
    bool stack = strchr(rule->hf, '#') != NULL;
    TRY(find_sources(e, rule->hf, layer, &one, err));
    if (one.n_sources == 0)
        return CADRE_OK;
    TRY(set_shape(e, &one, stack, err));
    for (int64_t x = 0; x < (stack ? one.matrices : 1); x++) {
        TRY(add(e, &m, err));
        *m = one;
        m->expert = stack ? x : -1;
        hf_name_there(m->t.name, e->hf, rule, layer, x);
    }
    return CADRE_OK;
}

/* Rules that only read other forms of a tensor, and those whose name came before, make nothing more. */
static bool is_first(const struct hf_family *f, int at)
{
    const struct hf_tensor *r = hf_rule_at(f, at);
    for (int i = 0; i < at; i++)
        if (strcmp(hf_rule_at(f, i)->hf, r->hf) == 0)
            return false;
    return !(r->flags & HF_ONLY_READ);
}

static cadre_err make_all(struct hf_export *e, cadre_error *err)
{
    const struct hf_tensor *r;
    for (int64_t layer = -1; layer < e->d.layers; layer++)
        for (int i = 0; (r = hf_rule_at(e->hf, i)) != NULL; i++)
            if (hf_rule_is_of(e->hf, r, layer) && is_first(e->hf, i))
                TRY(make(e, r, layer, err));
    for (int64_t i = 0; i < gguf_tensor_count(e->g); i++) {
        const char *name = gguf_tensor_at(e->g, i)->name;
        bool in_config = strncmp(name, "rope_factors_", sizeof "rope_factors_" - 1) == 0;
        CHECK(err, e->used[i] || in_config || kept_left_out(e->d.layers, e->d.nextn, name), CADRE_E_UNSUPPORTED,
              "tensor '%s': has no place in a Hugging Face directory of %s", name, e->hf->model_type);
    }
    return CADRE_OK;
}

cadre_err hf_export_new(struct hf_export **out, const struct gguf *g, enum dtype type, cadre_error *err)
{
    const struct family *family;
    cadre_err rc = CADRE_OK;
    *out = NULL;
    struct hf_export *e = calloc(1, sizeof *e);
    CHECK(err, e, CADRE_E_MEMORY, "no memory to write a directory");
    e->g = g;
    e->type = type;
    TRY_OUT(hf_export_family(g, &family, &e->hf, err));
    TRY_OUT(hf_dims_from_gguf(&e->d, g, family->name, err));
    e->used = calloc((size_t)gguf_tensor_count(g) + 1, sizeof *e->used);
    CHECK_OUT(err, e->used, CADRE_E_MEMORY, "no memory to write a directory");
    TRY_OUT(make_all(e, err));
    *out = e;
    e = NULL;
out:
    hf_export_free(e);
    return rc;
}

void hf_export_free(struct hf_export *e)
{
    if (!e)
        return;
    free(e->made);
    free(e->used);
    free(e);
}

int64_t hf_export_count(const struct hf_export *e)
{
    return e->n;
}

const struct hf_export_tensor *hf_export_at(const struct hf_export *e, int64_t i)
{
    return &e->made[i].t;
}

/* ---- numbers ---------------------------------------------------------------------------------------------------- */

/* Memory for one matrix: as in the file, as f32, put together. */
struct work {
    unsigned char *raw;
    float *here, *there;
};

/* One matrix here, as [rows, cols] of f32 in w->here. */
static cadre_err load(const struct hf_export *e, const struct source *s, int64_t slice, bool vectors, struct work *w,
                      cadre_error *err)
{
    const struct gguf_tensor *t = s->t;
    int64_t n = vectors ? t->dim[0] : t->n_dims == 1 ? t->dim[0] : t->dim[0] * t->dim[1];
    uint64_t bytes = t->bytes / (uint64_t)(vectors ? 1 : gguf_slices(t)), skip = 0;
    w->raw = realloc(w->raw, (size_t)bytes);
    w->here = realloc(w->here, (size_t)n * sizeof *w->here);
    CHECK(err, w->raw && w->here, CADRE_E_MEMORY, "tensor '%s': no memory for a matrix", t->name);
    TRY(gguf_slice_read(e->g, t, vectors ? 0 : slice, w->raw, err));
    if (vectors)
        dtype_size(t->type, (uint64_t)(slice * n), &skip);
    dtype_info(t->type)->decode(w->raw + skip, w->here, (size_t)n);
    return CADRE_OK;
}

/* The rows of source s of matrix `matrix` go to their places. */
static cadre_err place(const struct hf_export *e, const struct made *m, const struct source *s, int64_t matrix,
                       struct work *w, cadre_error *err)
{
    struct hf_map map;
    hf_map_of(s->rule->form, &e->d, m->rows, s->t->dim[0], &map);
    for (int64_t u = 0; u < map.units; u++) {
        TRY(load(e, s, matrix * map.units + u, s->rule->flags & HF_VECTORS, w, err));
        for (int64_t r = 0; r < map.count; r++)
            for (int64_t c = 0; c < m->cols; c++) {
                float x = w->here[map.transposed ? c * map.count + r : r * m->cols + c];
                int64_t row = hf_map_row(&map, u, r), col = hf_turned(&map.inputs, c);
                x -= s->rule->flags & HF_PLUS_ONE ? 1 : 0;
                x = s->rule->flags & HF_MINUS_EXP ? (float)log(-(double)x) : x;
                w->there[s->rule->flags & HF_STORED_T ? col * m->rows + row : row * m->cols + col] = x;
            }
    }
    return CADRE_OK;
}

cadre_err hf_export_read(const struct hf_export *e, int64_t i, void *dst, cadre_error *err)
{
    const struct made *m = &e->made[i];
    int64_t first = m->expert < 0 ? 0 : m->expert, n = m->expert < 0 ? m->matrices : 1, numbers = m->rows * m->cols;
    struct work w = {.there = malloc((size_t)numbers * sizeof *w.there)};
    cadre_err rc = CADRE_OK;
    uint64_t bytes = 0;
    CHECK_OUT(err, w.there, CADRE_E_MEMORY, "tensor '%s': no memory for a matrix", m->t.name);
    dtype_size(m->t.type, (uint64_t)numbers, &bytes);
    for (int64_t x = 0; x < n; x++) {
        for (int k = 0; k < m->n_sources; k++)
            TRY_OUT(place(e, m, &m->source[k], first + x, &w, err));
        dtype_info(m->t.type)->encode(w.there, (unsigned char *)dst + (uint64_t)x * bytes, (size_t)numbers);
    }
out:
    free(w.raw);
    free(w.here);
    free(w.there);
    return rc;
}
