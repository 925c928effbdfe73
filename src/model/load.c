/* Models from files. The border check: every tensor of the spec is there with its shape and a type that has kernels,
 * and nothing else is; after it nothing but reading can fail. Matrices that lie in the file as they are needed are
 * read and packed in pieces, by all threads; others whole, one at a time. So the peak is the model and, for the latter,
 * its largest tensor. Of a packed file the strips are used where they are, mapped. */
#include <stdlib.h>

#include "base/checked.h"
#include "model/kept.h"
#include "model/source.h"

cadre_err model_open_empty(struct model **out, struct kept **kept, const struct gguf *g, enum mla_form mla,
                           cadre_error *err)
{
    struct spec *spec = calloc(1, sizeof *spec);
    struct model *m = NULL;
    cadre_err rc;
    *out = NULL;
    *kept = NULL;
    CHECK(err, spec, CADRE_E_MEMORY, "no memory for a model's description");
    TRY_OUT(spec_from_gguf(spec, g, err));
    TRY_OUT(model_new_empty(&m, spec, mla, err));
    *kept = calloc((size_t)m->n_params, sizeof **kept);
    CHECK_OUT(err, *kept, CADRE_E_MEMORY, "no memory for %lld tensors", (long long)m->n_params);
    for (int64_t i = 0; i < m->n_params; i++) {
        TRY_OUT(kept_find(&(*kept)[i], g, spec, &m->params[i], err));
        m->params[i].type = (*kept)[i].type;
        dtype_size(m->params[i].type, (uint64_t)tensor_count(&m->params[i].t), &m->params[i].file_bytes);
    }
    TRY_OUT(kept_all(g, m, *kept, err));
    *out = m;
    m = NULL;
out:
    free(spec);
    model_free(m);
    if (rc != CADRE_OK) {
        free(*kept);
        *kept = NULL;
    }
    return rc;
}

static cadre_err read_f32(const struct gguf *g, const struct spec *s, const struct param *p, const struct kept *src,
                          cadre_error *err)
{
    if (p->type == DTYPE_F32)
        return kept_read(src, g, s, p, p->t.x, err);
    void *raw = malloc(p->file_bytes ? p->file_bytes : 1);
    CHECK(err, raw, CADRE_E_MEMORY, "tensor '%s': no memory to read its %llu bytes", p->name,
          (unsigned long long)p->file_bytes);
    cadre_err rc = kept_read(src, g, s, p, raw, err);
    if (rc == CADRE_OK)
        dtype_info(p->type)->decode(raw, p->t.x, (size_t)tensor_count(&p->t));
    free(raw);
    return rc;
}

cadre_err model_open_params(struct model **out, const struct gguf *g, bool with_grad, cadre_error *err)
{
    struct model *m;
    struct kept *kept;
    cadre_err rc;
    *out = NULL;
    TRY(model_open_empty(&m, &kept, g, MLA_PLAIN, err));
    TRY_OUT(model_reserve_params(m, with_grad, err));
    for (int64_t i = 0; i < m->n_params; i++)
        TRY_OUT(read_f32(g, &m->spec, &m->params[i], &kept[i], err));
    model_finish(m);
    *out = m;
    m = NULL;
out:
    free(kept);
    model_free(m);
    return rc;
}

struct loader {
    const struct gguf *g;
    const struct kernels *ks; /* NULL: plain C packs */
    struct pool *pool;
};

/* ---- packing: work items are pieces of PACK_ROWS rows, whole strips whose packed size keeps 64-byte alignment */

enum { PACK_ROWS = 16 * STRIP };

/* Where rows come from: memory, or a file that each worker reads into its buffer. */
struct packing {
    const struct kernels *ks;
    enum dtype type;
    int64_t n, k, pieces; /* pieces per matrix */
    size_t row_bytes;
    const unsigned char *raw; /* NULL: */
    const struct gguf *g;
    const struct gguf_tensor *t;
    unsigned char *buffer; /* [workers][PACK_ROWS rows] */
    cadre_error *error;    /* [workers] */
    const struct packed *packed;
};

static const unsigned char *piece_rows(const struct packing *p, int64_t row, int64_t n, int worker)
{
    if (p->raw)
        return p->raw + (size_t)row * p->row_bytes;
    unsigned char *buffer = p->buffer + (size_t)worker * PACK_ROWS * p->row_bytes;
    cadre_error *e = &p->error[worker];
    if (e->code != CADRE_OK ||
        gguf_piece_read(p->g, p->t, (uint64_t)row * p->row_bytes, buffer, (size_t)n * p->row_bytes, e) != CADRE_OK)
        return NULL;
    return buffer;
}

static void pack_piece(void *arg, int64_t item, int worker)
{
    const struct packing *p = arg;
    int64_t matrix = item / p->pieces, row = item % p->pieces * PACK_ROWS, n = min_i64(PACK_ROWS, p->n - row);
    unsigned char *dst = (unsigned char *)(uintptr_t)p->packed[matrix].data;
    const unsigned char *rows = piece_rows(p, matrix * p->n + row, n, worker);
    if (rows)
        packed_fill(p->ks, dst + (row ? packed_bytes(p->type, row, p->k) : 0), p->type, rows, n, p->k);
}

/* Matrices that multiply the other way round are decoded, turned and packed as f32. */
static enum dtype packed_type(const struct param *p, const struct weight *w)
{
    return w->transposed ? DTYPE_F32 : p->type;
}

/* raw, which holds [k, n] matrices of a weight, as f32 [n, k]; malloc'd. */
static float *turn(const struct param *p, const struct weight *w, const void *raw)
{
    int64_t n = w->n, k = w->k, count = max_i64(w->n_expert, 1);
    float *out = malloc((size_t)tensor_count(&p->t) * sizeof *out), *line = malloc((size_t)n * sizeof *line);
    uint64_t row = 0;
    dtype_size(p->type, (uint64_t)n, &row);
    for (int64_t i = 0; out && line && i < count * k; i++) {
        dtype_info(p->type)->decode((const unsigned char *)raw + (uint64_t)i * row, line, (size_t)n);
        for (int64_t j = 0; j < n; j++)
            out[(i / k * n + j) * k + i % k] = line[j];
    }
    if (!line) {
        free(out);
        out = NULL;
    }
    free(line);
    return out;
}

static struct packing packing_of(const struct loader *l, const struct param *p, const struct weight *w,
                                 const struct packed *packed)
{
    uint64_t row_bytes = 0;
    dtype_size(packed_type(p, w), (uint64_t)w->k, &row_bytes);
    return (struct packing){
        .ks = l->ks,
        .type = packed_type(p, w),
        .n = w->n,
        .k = w->k,
        .pieces = (w->n + PACK_ROWS - 1) / PACK_ROWS,
        .row_bytes = row_bytes,
        .packed = packed,
    };
}

static void pack(const struct loader *l, const struct param *p, const struct weight *w, const void *raw,
                 const struct packed *packed)
{
    struct packing job = packing_of(l, p, w, packed);
    job.raw = raw;
    pool_run(l->pool, max_i64(w->n_expert, 1) * job.pieces, pack_piece, &job);
}

/* The same straight from the file. */
static cadre_err read_and_pack(const struct loader *l, const struct param *p, const struct weight *w,
                               const struct kept *src, const struct packed *packed, cadre_error *err)
{
    struct packing job = packing_of(l, p, w, packed);
    size_t threads = (size_t)pool_threads(l->pool);
    cadre_err rc = CADRE_OK;
    job.g = l->g;
    job.t = src->t;
    job.buffer = malloc(threads * PACK_ROWS * job.row_bytes);
    job.error = calloc(threads, sizeof *job.error);
    CHECK_OUT(err, job.buffer && job.error, CADRE_E_MEMORY, "tensor '%s': no memory to read it in pieces", p->name);
    pool_run(l->pool, max_i64(w->n_expert, 1) * job.pieces, pack_piece, &job);
    for (size_t i = 0; i < threads && rc == CADRE_OK; i++)
        if (job.error[i].code != CADRE_OK) {
            *err = job.error[i];
            rc = err->code;
        }
out:
    free(job.buffer);
    free(job.error);
    return rc;
}

/* Whether all matrices of a weight lie in a packed file as kernels want them. */
static bool lies_packed(const struct gguf *g, const struct model *m, const struct param *p, const struct weight *w,
                        const struct kept *src)
{
    uint64_t at;
    for (int64_t e = 0; e < max_i64(w->n_expert, 1); e++)
        if (w->transposed || !kept_strips(src, g, &m->spec, p, e, &at))
            return false;
    return true;
}

static struct packed *take_mapped(struct arena *a, const struct gguf *g, struct model *m, const struct param *p,
                                  const struct weight *w, const struct kept *src)
{
    int64_t count = max_i64(w->n_expert, 1);
    struct packed *packed = arena_alloc(a, (size_t)count * sizeof *packed);
    for (int64_t e = 0; !a->measuring && e < count; e++) {
        uint64_t at = 0;
        kept_strips(src, g, &m->spec, p, e, &at);
        packed[e] = (struct packed){p->type, w->n, w->k, m->file.p + at};
        m->bytes += packed_bytes(p->type, w->n, w->k);
    }
    return packed;
}

/* One struct packed for each matrix of a weight, with the memory behind it. */
static struct packed *take_packed(struct arena *a, const struct param *p, const struct weight *w)
{
    int64_t count = max_i64(w->n_expert, 1);
    struct packed *packed = arena_alloc(a, (size_t)count * sizeof *packed);
    for (int64_t e = 0; e < count; e++) {
        void *data = arena_alloc(a, packed_bytes(packed_type(p, w), w->n, w->k));
        if (!a->measuring)
            packed[e] = (struct packed){packed_type(p, w), w->n, w->k, data};
    }
    return packed;
}

/* Where one tensor's values will be. A looked-up table keeps its rows as in the file, and is packed besides when it is
 * the output matrix too. What a packed file has is where it is. */
struct place {
    const void *rows;
    struct packed *packed;
    real *vector;
    bool rows_there, packed_there;
};

static struct place take_place(struct arena *a, const struct gguf *g, struct model *m, const struct param *p,
                               const struct kept *src)
{
    const struct weight *w = param_weight(m, p);
    if (!w)
        return (struct place){.vector = arena_alloc(a, (size_t)tensor_count(&p->t) * sizeof(real))};
    struct place place = {0};
    uint64_t at = 0;
    bool lookup = p->def->flags & TENSOR_LOOKUP;
    place.rows_there = lookup && !src->form && gguf_rows(g, src->t, &at);
    if (place.rows_there && !a->measuring)
        m->bytes += p->file_bytes;
    if (lookup)
        place.rows = place.rows_there ? m->file.p + at : arena_alloc(a, p->file_bytes);
    if (!lookup || m->spec.tied) {
        place.packed_there = lies_packed(g, m, p, w, src);
        place.packed = place.packed_there ? take_mapped(a, g, m, p, w, src) : take_packed(a, p, w);
    }
    return place;
}

/* A matrix that must be read whole first. */
static cadre_err read_whole_and_pack(const struct loader *l, struct model *m, struct param *p, struct weight *w,
                                     const struct kept *src, const struct packed *packed, cadre_error *err)
{
    void *raw = malloc(p->file_bytes ? p->file_bytes : 1);
    CHECK(err, raw, CADRE_E_MEMORY, "tensor '%s': no memory to read its %llu bytes", p->name,
          (unsigned long long)p->file_bytes);
    cadre_err rc = kept_read(src, l->g, &m->spec, p, raw, err);
    float *turned = NULL;
    if (rc == CADRE_OK && w->transposed) {
        turned = turn(p, w, raw);
        if (!turned)
            rc = error_set(err, CADRE_E_MEMORY, "tensor '%s': no memory to turn it round", p->name);
    }
    if (rc == CADRE_OK)
        pack(l, p, w, turned ? (const void *)turned : raw, packed);
    free(turned);
    free(raw);
    return rc;
}

static cadre_err load(const struct loader *l, struct model *m, struct param *p, const struct kept *src,
                      cadre_error *err)
{
    const struct gguf *g = l->g;
    struct weight *w = param_weight(m, p);
    struct place place = take_place(model_arena(m), g, m, p, src);
    if (!w) {
        p->t.x = place.vector;
        return read_f32(g, &m->spec, p, src, err);
    }
    w->param = NULL;
    w->packed = place.packed;
    w->rows = place.rows;
    w->rows_type = p->type;
    if (place.rows && !place.rows_there)
        TRY(kept_read(src, g, &m->spec, p, (void *)(uintptr_t)place.rows, err));
    if (place.packed && !place.packed_there) {
        if (place.rows)
            pack(l, p, w, place.rows, place.packed);
        else if (!w->transposed && kept_as_is(src, g))
            TRY(read_and_pack(l, p, w, src, place.packed, err));
        else
            TRY(read_whole_and_pack(l, m, p, w, src, place.packed, err));
    }
    w->transposed = false;
    return CADRE_OK;
}

static cadre_err load_all(const struct loader *l, struct model *m, const struct kept *kept, cadre_error *err)
{
    struct arena plan;
    arena_init_measuring(&plan);
    if (gguf_is_packed(l->g))
        TRY(gguf_map(l->g, &m->file, err));
    for (int64_t i = 0; i < m->n_params; i++)
        take_place(&plan, l->g, m, &m->params[i], &kept[i]);
    TRY(model_reserve(m, plan.peak, err));
    for (int64_t i = 0; i < m->n_params; i++) {
        if (i + 1 < m->n_params)
            gguf_will_read(l->g, kept[i + 1].t);
        TRY(load(l, m, &m->params[i], &kept[i], err));
    }
    model_finish(m);
    return CADRE_OK;
}

cadre_err model_open(struct model **out, const char *path, enum mla_form mla, struct tokenizer **tokenizer,
                     const struct kernels *ks, struct pool *pool, cadre_error *err)
{
    struct gguf *g = NULL;
    struct model *m = NULL;
    struct kept *kept = NULL;
    cadre_err rc;
    *out = NULL;
    if (tokenizer)
        *tokenizer = NULL;
    TRY(model_source_open(&g, path, err));
    rc = model_open_empty(&m, &kept, g, mla, err);
    if (rc == CADRE_OK && tokenizer)
        rc = model_source_tokenizer(tokenizer, g, path, m->spec.n_vocab, err);
    if (rc == CADRE_OK)
        rc = load_all(&(struct loader){g, ks, pool}, m, kept, err);
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
    free(kept);
    gguf_close(g);
    return rc;
}
