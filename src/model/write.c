/* Models to files, streamed: a tensor is encoded a few pieces at a time, so that writing needs little memory, and
 * rewriting another file that of its largest tensor besides. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/kept.h"

enum {
    PIECE = 1 << 16, /* numbers encoded by one thread at a time; a multiple of every block */
    PIECES = 16      /* encoded together, then written */
};

static const struct {
    enum dtype type;
    uint32_t file_type; /* general.file_type: what most matrices are */
} file_types[] = {{DTYPE_F32, 0},   {DTYPE_F16, 1},   {DTYPE_Q4_0, 2},  {DTYPE_Q4_1, 3},
                  {DTYPE_Q8_0, 7},  {DTYPE_Q5_0, 8},  {DTYPE_Q5_1, 9},  {DTYPE_Q4_K, 15},
                  {DTYPE_Q5_K, 17}, {DTYPE_Q6_K, 18}, {DTYPE_BF16, 32}, {DTYPE_MXFP4, 38}};
enum { N_FILE_TYPES = sizeof file_types / sizeof *file_types };

static enum dtype type_of(void *user, const struct param *p)
{
    enum dtype type = *(const enum dtype *)user;
    if (p->no_quantize)
        return DTYPE_F32;
    return p->dim[p->n_dims - 1] % dtype_info(type)->block == 0 ? type : DTYPE_F16;
}

bool model_has_file_type(enum dtype type)
{
    for (int i = 0; i < N_FILE_TYPES; i++)
        if (file_types[i].type == type)
            return true;
    return false;
}

cadre_err model_put_file_type(struct gguf_writer *w, enum dtype type, cadre_error *err)
{
    for (int i = 0; i < N_FILE_TYPES; i++)
        if (file_types[i].type == type) {
            TRY(gguf_put_u32(w, "general.file_type", file_types[i].file_type, err));
            return gguf_put_u32(w, "general.quantization_version", 2, err);
        }
    return error_set(err, CADRE_E_UNSUPPORTED, "a model cannot be written in type %s", dtype_info(type)->name);
}

/* Under the name that readers of the family look for. */
static void file_name(const struct family *f, const struct param *p, char out[96])
{
    const char *name = f ? family_tensor_name(f, p->def->name) : p->def->name;
    if (strcmp(name, p->def->name) == 0)
        snprintf(out, 96, "%s", p->name);
    else
        snprintf(out, 96, "%.*s%s", (int)(strlen(p->name) - strlen(p->def->name)), p->name, name);
}

static cadre_err put_info(struct gguf_writer *w, const struct family *f, const struct param *p, enum dtype type,
                          cadre_error *err)
{
    char name[96];
    int64_t dim[GGUF_MAX_DIMS] = {1, 1, 1, 1};
    for (int i = 0; i < p->n_dims; i++)
        dim[i] = p->dim[p->n_dims - 1 - i];
    file_name(f, p, name);
    return gguf_put_tensor(w, name, type, p->n_dims, dim, err);
}

/* Numbers of a tensor on their way from one format to another. */
struct change {
    const struct dtype_info *from, *to;
    const unsigned char *src; /* of the whole tensor */
    unsigned char *dst;       /* of PIECES pieces */
    float *numbers;           /* PIECE for every thread */
    int64_t first, total;
};

static void change_piece(void *arg, int64_t item, int worker)
{
    const struct change *c = arg;
    int64_t at = c->first + item * PIECE;
    size_t n = (size_t)min_i64(PIECE, c->total - at);
    const unsigned char *src = c->src + (size_t)at / c->from->block * c->from->bytes;
    unsigned char *dst = c->dst + (size_t)item * (PIECE / c->to->block) * c->to->bytes;
    float *numbers = c->numbers + (size_t)worker * PIECE;
    c->from->decode(src, numbers, n);
    c->to->encode(numbers, dst, n);
}

/* What writing needs besides the tensors. */
struct workshop {
    struct pool *pool;
    unsigned char *pieces;
    float *numbers;
};

static void workshop_close(struct workshop *s)
{
    free(s->pieces);
    free(s->numbers);
}

static cadre_err workshop_open(struct workshop *s, struct pool *pool, cadre_error *err)
{
    *s = (struct workshop){pool, malloc(PIECES * PIECE * sizeof(float)),
                           malloc((size_t)pool_threads(pool) * PIECE * sizeof(float))};
    if (s->pieces && s->numbers)
        return CADRE_OK;
    workshop_close(s);
    return error_set(err, CADRE_E_MEMORY, "no memory to encode tensors");
}

/* All numbers of p, which lie at src in format `from`, to the file. */
static cadre_err write_param(struct gguf_writer *w, struct workshop *s, const struct param *p, const void *src,
                             enum dtype from, enum dtype to, cadre_error *err)
{
    uint64_t bytes = 0;
    int64_t total = tensor_count(&p->t);
    if (from == to) {
        dtype_size(from, (uint64_t)total, &bytes);
        return gguf_write_data(w, src, bytes, err);
    }
    struct change c = {dtype_info(from), dtype_info(to), src, s->pieces, s->numbers, 0, total};
    for (; c.first < total; c.first += PIECES * PIECE) {
        int64_t n = min_i64(PIECES * PIECE, total - c.first);
        pool_run(s->pool, (n + PIECE - 1) / PIECE, change_piece, &c);
        dtype_size(to, (uint64_t)n, &bytes);
        TRY(gguf_write_data(w, s->pieces, bytes, err));
    }
    return CADRE_OK;
}

/* What a file holds: the model's tensors and, where readers of the family insist on it, a tied output matrix once more
 * under its own name. i-th of them; `twin` is memory for the latter. */
static const struct param *file_param(const struct model *m, int64_t i, struct param *twin, int64_t *source)
{
    *source = i;
    if (i < m->n_params)
        return &m->params[i];
    for (int64_t j = 0; j < m->n_params; j++)
        if (&m->params[j].t == m->embedding.param)
            *source = j;
    *twin = m->params[*source];
    snprintf(twin->name, sizeof twin->name, "output.weight");
    return twin;
}

static int64_t file_params(const struct model *m)
{
    const struct family *f = family_find(m->spec.family);
    return m->n_params + (m->spec.tied && f && f->needs_output);
}

/* Everything after the keys and before the data. */
static cadre_err write_head(struct gguf_writer *w, const struct model *m, const struct extras *x,
                            const struct write_options *o, cadre_error *err)
{
    struct param twin;
    int64_t source;
    for (int64_t i = 0; i < file_params(m); i++) {
        const struct param *p = file_param(m, i, &twin, &source);
        TRY(put_info(w, family_find(m->spec.family), p, o->type(o->user, p), err));
    }
    for (int64_t i = 0; i < x->n; i++)
        TRY(put_info(w, NULL, &x->param[i], o->type(o->user, &x->param[i]), err));
    return gguf_write_begin(w, err);
}

cadre_err model_write(struct gguf_writer *w, const struct model *m, enum dtype type, cadre_error *err)
{
    struct write_options o = {.file_type = type, .type = type_of, .user = &type};
    struct workshop s;
    struct param twin;
    int64_t source;
    TRY(model_put_file_type(w, type, err));
    for (int64_t i = 0; i < m->n_params; i++)
        CHECK(err, m->params[i].t.x, CADRE_E_ARG,
              "tensor '%s': a model opened for inference cannot be written; open it with model_open_params",
              m->params[i].name);
    TRY(write_head(w, m, &(struct extras){0}, &o, err));
    TRY(workshop_open(&s, NULL, err));
    cadre_err rc = CADRE_OK;
    for (int64_t i = 0; rc == CADRE_OK && i < file_params(m); i++) {
        const struct param *p = file_param(m, i, &twin, &source);
        rc = write_param(w, &s, p, p->t.x, DTYPE_F32, type_of(&type, p), err);
    }
    workshop_close(&s);
    return rc;
}

/* kept: where it is; NULL: in the file's tensor of its name. */
static cadre_err rewrite_param(struct gguf_writer *w, struct workshop *s, const struct model *m, const struct param *p,
                               const struct kept *kept, const struct gguf *g, enum dtype to, cadre_error *err)
{
    void *raw = malloc(p->file_bytes ? p->file_bytes : 1);
    CHECK(err, raw, CADRE_E_MEMORY, "tensor '%s': no memory to read its %llu bytes", p->name,
          (unsigned long long)p->file_bytes);
    cadre_err rc =
        kept ? kept_read(kept, g, &m->spec, p, raw, err) : gguf_tensor_read(g, gguf_tensor_find(g, p->name), raw, err);
    if (rc == CADRE_OK)
        rc = write_param(w, s, p, raw, p->type, to, err);
    free(raw);
    return rc;
}

cadre_err model_rewrite(struct gguf_writer *w, const struct model *m, const struct kept *kept, const struct extras *x,
                        const struct gguf *g, const struct write_options *o, cadre_error *err)
{
    struct workshop s;
    struct param twin;
    int64_t source = 0, done = 0, total = 0, own = file_params(m);
    for (int64_t i = 0; i < own + x->n; i++)
        total += tensor_count(&(i < own ? file_param(m, i, &twin, &source) : &x->param[i - own])->t);
    TRY(model_put_file_type(w, o->file_type, err));
    TRY(write_head(w, m, x, o, err));
    TRY(workshop_open(&s, o->pool, err));
    cadre_err rc = CADRE_OK;
    for (int64_t i = 0; rc == CADRE_OK && i < own + x->n; i++) {
        const struct param *p = i < own ? file_param(m, i, &twin, &source) : &x->param[i - own];
        rc = rewrite_param(w, &s, m, p, i < own ? &kept[source] : NULL, g, o->type(o->user, p), err);
        done += tensor_count(&p->t);
        if (rc == CADRE_OK && o->progress && !o->progress(o->user, done, total))
            rc = error_set(err, CADRE_E_CANCELLED, "stopped by the caller at tensor '%s'", p->name);
    }
    workshop_close(&s);
    return rc;
}
