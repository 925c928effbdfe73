/* Models from files. The border check: every tensor of the spec is there with its shape and a type that has kernels,
 * and nothing else is; after it nothing but reading can fail. Tensors are read one at a time, so the peak is the model
 * and its largest tensor. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "file/names.h"
#include "model/family.h"
#include "model/source.h"
#include "model/tensors.h"

/* "[64, 288]", contiguous dimension first, as in the file. */
static void shape_text(char out[96], int n_dims, const int64_t *dim)
{
    int n = 0;
    for (int i = 0; i < n_dims; i++)
        n += snprintf(out + n, 96 - (size_t)n, "%s%lld", i ? ", " : "[", (long long)dim[i]);
    snprintf(out + n, 96 - (size_t)n, "]");
}

static cadre_err check_tensor(const struct gguf *g, struct param *p, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(g, p->name);
    CHECK(err, t, CADRE_E_FORMAT, "tensor '%s': expected by the model's description, not found", p->name);
    int64_t want[GGUF_MAX_DIMS] = {1, 1, 1, 1};
    for (int i = 0; i < p->n_dims; i++)
        want[i] = p->dim[p->n_dims - 1 - i];
    if (memcmp(want, t->dim, sizeof want) != 0) { /* trailing ones do not matter */
        char expected[96], found[96];
        shape_text(expected, p->n_dims, want);
        shape_text(found, t->n_dims, t->dim);
        return error_set(err, CADRE_E_FORMAT, "tensor '%s': expected shape %s, found %s", p->name, expected, found);
    }
    CHECK(err, dtype_info(t->type)->weight, CADRE_E_UNSUPPORTED,
          "tensor '%s': type %s is not supported for weights (floats and quantized formats are)", p->name,
          dtype_info(t->type)->name);
    CHECK(err, p->dim[p->n_dims - 1] % dtype_info(t->type)->block == 0, CADRE_E_FORMAT,
          "tensor '%s': expected rows in whole blocks of %u, found %lld numbers", p->name, dtype_info(t->type)->block,
          (long long)p->dim[p->n_dims - 1]);
    p->type = t->type;
    p->file_bytes = t->bytes;
    return CADRE_OK;
}

static const struct param *find_param(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return &m->params[i];
    return NULL;
}

static cadre_err check_tensors(const struct gguf *g, struct model *m, cadre_error *err)
{
    for (int64_t i = 0; i < m->n_params; i++)
        TRY(check_tensor(g, &m->params[i], err));
    if (gguf_tensor_count(g) == m->n_params)
        return CADRE_OK;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const char *name = gguf_tensor_at(g, i)->name;
        CHECK(err, find_param(m, name), CADRE_E_UNSUPPORTED,
              "tensor '%s' is not part of a %s model as its keys describe it", shown(name, strlen(name)).s,
              m->spec.family);
    }
    return CADRE_OK;
}

static cadre_err open_empty(struct model **out, const struct gguf *g, cadre_error *err)
{
    struct spec spec;
    *out = NULL;
    TRY(spec_from_gguf(&spec, g, err));
    TRY(model_new_empty(out, &spec, err));
    cadre_err rc = check_tensors(g, *out, err);
    if (rc != CADRE_OK) {
        model_free(*out);
        *out = NULL;
    }
    return rc;
}

static cadre_err read_raw(const struct gguf *g, const char *name, void **raw, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(g, name);
    *raw = malloc(t->bytes ? t->bytes : 1);
    CHECK(err, *raw, CADRE_E_MEMORY, "tensor '%s': no memory to read its %llu bytes", name,
          (unsigned long long)t->bytes);
    return gguf_tensor_read(g, t, *raw, err);
}

static cadre_err read_f32(const struct gguf *g, const struct param *p, cadre_error *err)
{
    if (p->type == DTYPE_F32)
        return gguf_tensor_read(g, gguf_tensor_find(g, p->name), p->t.x, err);
    void *raw;
    cadre_err rc = read_raw(g, p->name, &raw, err);
    if (rc == CADRE_OK)
        dtype_info(p->type)->decode(raw, p->t.x, (size_t)tensor_count(&p->t));
    free(raw);
    return rc;
}

cadre_err model_open_params(struct model **out, const struct gguf *g, bool with_grad, cadre_error *err)
{
    struct model *m;
    cadre_err rc;
    *out = NULL;
    TRY(open_empty(&m, g, err));
    TRY_OUT(model_reserve_params(m, with_grad, err));
    for (int64_t i = 0; i < m->n_params; i++)
        TRY_OUT(read_f32(g, &m->params[i], err));
    model_finish(m);
    *out = m;
    m = NULL;
out:
    model_free(m);
    return rc;
}

/* ---- packing: work items are pieces of PACK_ROWS rows, whole strips whose packed size keeps 64-byte alignment */

enum { PACK_ROWS = 8 * STRIP };

struct packing {
    enum dtype type;
    int64_t n, k, pieces; /* pieces per matrix */
    size_t row_bytes;
    const unsigned char *raw;
    const struct packed *packed;
};

static void pack_piece(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct packing *p = arg;
    int64_t matrix = item / p->pieces, row = item % p->pieces * PACK_ROWS;
    unsigned char *dst = (unsigned char *)(uintptr_t)p->packed[matrix].data;
    packed_fill(dst + (row ? packed_bytes(p->type, row, p->k) : 0), p->type,
                p->raw + (size_t)(matrix * p->n + row) * p->row_bytes, min_i64(PACK_ROWS, p->n - row), p->k);
}

static void pack(struct pool *pool, const struct param *p, const struct weight *w, const void *raw,
                 const struct packed *packed)
{
    uint64_t row_bytes = 0;
    dtype_size(p->type, (uint64_t)w->k, &row_bytes);
    struct packing job = {
        .type = p->type,
        .n = w->n,
        .k = w->k,
        .pieces = (w->n + PACK_ROWS - 1) / PACK_ROWS,
        .row_bytes = row_bytes,
        .raw = raw,
        .packed = packed,
    };
    pool_run(pool, max_i64(w->n_expert, 1) * job.pieces, pack_piece, &job);
}

/* One struct packed for each matrix of a weight, with the memory behind it. */
static struct packed *take_packed(struct arena *a, const struct param *p, const struct weight *w)
{
    int64_t count = max_i64(w->n_expert, 1);
    struct packed *packed = arena_alloc(a, (size_t)count * sizeof *packed);
    for (int64_t e = 0; e < count; e++) {
        void *data = arena_alloc(a, packed_bytes(p->type, w->n, w->k));
        if (!a->measuring)
            packed[e] = (struct packed){p->type, w->n, w->k, data};
    }
    return packed;
}

/* Where one tensor's values will be. A looked-up table keeps its rows as in the file, and is packed besides when it is
 * the output matrix too. */
struct place {
    void *rows;
    struct packed *packed;
    real *vector;
};

static struct place take_place(struct arena *a, struct model *m, const struct param *p)
{
    const struct weight *w = param_weight(m, p);
    if (!w)
        return (struct place){.vector = arena_alloc(a, (size_t)tensor_count(&p->t) * sizeof(real))};
    bool lookup = p->def->flags & TENSOR_LOOKUP;
    return (struct place){
        .rows = lookup ? arena_alloc(a, p->file_bytes) : NULL,
        .packed = !lookup || m->spec.tied ? take_packed(a, p, w) : NULL,
    };
}

static cadre_err load(const struct gguf *g, struct model *m, struct param *p, struct pool *pool, cadre_error *err)
{
    struct weight *w = param_weight(m, p);
    struct place place = take_place(model_arena(m), m, p);
    if (!w) {
        p->t.x = place.vector;
        return read_f32(g, p, err);
    }
    w->param = NULL;
    w->packed = place.packed;
    w->rows = place.rows;
    w->rows_type = p->type;
    if (place.rows) {
        TRY(gguf_tensor_read(g, gguf_tensor_find(g, p->name), place.rows, err));
        if (place.packed)
            pack(pool, p, w, place.rows, place.packed);
        return CADRE_OK;
    }
    void *raw;
    cadre_err rc = read_raw(g, p->name, &raw, err);
    if (rc == CADRE_OK)
        pack(pool, p, w, raw, place.packed);
    free(raw);
    return rc;
}

static cadre_err load_all(const struct gguf *g, struct model *m, struct pool *pool, cadre_error *err)
{
    struct arena plan;
    arena_init_measuring(&plan);
    for (int64_t i = 0; i < m->n_params; i++)
        take_place(&plan, m, &m->params[i]);
    TRY(model_reserve(m, plan.peak, err));
    for (int64_t i = 0; i < m->n_params; i++)
        TRY(load(g, m, &m->params[i], pool, err));
    model_finish(m);
    return CADRE_OK;
}

static cadre_err load_tokenizer(const struct gguf *g, const struct model *m, struct tokenizer **out, cadre_error *err)
{
    struct gguf_string model;
    bool found = false;
    TRY(gguf_get_string(g, "tokenizer.ggml.model", &model, &found, err));
    if (!found)
        return CADRE_OK;
    TRY(tokenizer_from_gguf(out, g, err));
    int64_t n = tokenizer_size(*out);
    if (n <= m->spec.n_vocab)
        return CADRE_OK;
    tokenizer_free(*out);
    *out = NULL;
    return error_set(err, CADRE_E_FORMAT,
                     "tokenizer.ggml.tokens: expected at most as many as embedding rows (%lld), found %lld",
                     (long long)m->spec.n_vocab, (long long)n);
}

cadre_err model_open(struct model **out, const char *path, struct tokenizer **tokenizer, struct pool *pool,
                     cadre_error *err)
{
    struct gguf *g = NULL;
    struct model *m = NULL;
    cadre_err rc;
    *out = NULL;
    if (tokenizer)
        *tokenizer = NULL;
    TRY(model_source_open(&g, path, err));
    rc = open_empty(&m, g, err);
    if (rc == CADRE_OK && tokenizer)
        rc = load_tokenizer(g, m, tokenizer, err);
    if (rc == CADRE_OK)
        rc = load_all(g, m, pool, err);
    if (rc == CADRE_OK) {
        *out = m;
    } else {
        error_wrap(err, rc, "%s", path);
        model_free(m);
        if (tokenizer) {
            tokenizer_free(*tokenizer);
            *tokenizer = NULL;
        }
    }
    gguf_close(g);
    return rc;
}
