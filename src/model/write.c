/* Models to files, streamed: a tensor is encoded a piece at a time, so writing needs no memory to speak of. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/family.h"
#include "model/tensors.h"

enum { PIECE = 1 << 16 }; /* numbers encoded at a time; a multiple of every block */

static const struct {
    enum dtype type;
    uint32_t file_type; /* general.file_type: what most matrices are */
} file_types[] = {{DTYPE_F32, 0}, {DTYPE_F16, 1}, {DTYPE_Q8_0, 7}, {DTYPE_BF16, 32}};
enum { N_FILE_TYPES = sizeof file_types / sizeof *file_types };

static enum dtype type_of(const struct param *p, enum dtype type)
{
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
    return error_set(err, CADRE_E_UNSUPPORTED, "cannot write a model in type %s (f32, f16, bf16, q8_0 can)",
                     dtype_info(type)->name);
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
    return gguf_put_tensor(w, name, type_of(p, type), p->n_dims, dim, err);
}

static cadre_err write_param(struct gguf_writer *w, const struct param *p, enum dtype type, void *piece,
                             cadre_error *err)
{
    int64_t total = tensor_count(&p->t);
    if (type == DTYPE_F32)
        return gguf_write_data(w, p->t.x, (uint64_t)total * sizeof *p->t.x, err);
    for (int64_t at = 0; at < total; at += PIECE) {
        uint64_t n = (uint64_t)min_i64(PIECE, total - at), bytes = 0;
        dtype_size(type, n, &bytes);
        dtype_info(type)->encode(p->t.x + at, piece, n);
        TRY(gguf_write_data(w, piece, bytes, err));
    }
    return CADRE_OK;
}

/* What a file holds: the model's tensors and, where readers of the family insist on it, a tied output matrix once more
 * under its own name. i-th of them; `twin` is memory for the latter. */
static const struct param *file_param(const struct model *m, int64_t i, struct param *twin)
{
    if (i < m->n_params)
        return &m->params[i];
    for (int64_t j = 0; j < m->n_params; j++)
        if (&m->params[j].t == m->embedding.param)
            *twin = m->params[j];
    snprintf(twin->name, sizeof twin->name, "output.weight");
    return twin;
}

static int64_t file_params(const struct model *m)
{
    const struct family *f = family_find(m->spec.family);
    return m->n_params + (m->spec.tied && f && f->needs_output);
}

cadre_err model_write(struct gguf_writer *w, const struct model *m, enum dtype type, cadre_error *err)
{
    struct param twin;
    int64_t n = file_params(m);
    TRY(model_put_file_type(w, type, err));
    for (int64_t i = 0; i < n; i++) {
        const struct param *p = file_param(m, i, &twin);
        CHECK(err, p->t.x, CADRE_E_ARG,
              "tensor '%s': a model opened for inference cannot be written; open it with model_open_params", p->name);
        TRY(put_info(w, family_find(m->spec.family), p, type, err));
    }
    TRY(gguf_write_begin(w, err));
    void *piece = malloc(PIECE * sizeof(float));
    CHECK(err, piece, CADRE_E_MEMORY, "no memory to encode tensors");
    cadre_err rc = CADRE_OK;
    for (int64_t i = 0; rc == CADRE_OK && i < n; i++) {
        const struct param *p = file_param(m, i, &twin);
        rc = write_param(w, p, type_of(p, type), piece, err);
    }
    free(piece);
    return rc;
}
