/* To GGUF: keys are copied, tensors as they are or in another number format, into one file or several. A tensor is
 * read, converted and written matrix by matrix, so that the memory it takes is a few of the largest. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/checked.h"
#include "engine/convert.h"
#include "file/names.h"
#include "model/family.h"
#include "model/tensors.h"

enum { PIECE = 1 << 14 }; /* numbers converted at a time; a multiple of every block */

/* One file to write: some of the source's tensors behind a head. */
struct part {
    int64_t first, n; /* tensors */
    unsigned char *head;
    uint64_t head_bytes;
    char *path;
};

struct plan {
    struct conversion *c;
    enum dtype *type;      /* [tensors] in the file */
    enum dtype most, want; /* of the matrices; as the options say, or NONE */
    struct part *part;
    int n_parts;
    uint64_t alignment;
};

/* ---- what the tensors become ------------------------------------------------------------------------------------ */

/* A matrix in the type that was asked for, or as it is; bf16 where GGUF has no such type. */
static enum dtype type_for(const struct plan *p, const struct gguf_tensor *t, bool matrix)
{
    enum dtype type = matrix && p->want != DTYPE_NONE ? p->want : t->type;
    if (dtype_info(type)->gguf < 0)
        type = DTYPE_BF16;
    return t->dim[0] % dtype_info(type)->block == 0 ? type : DTYPE_F16;
}

static cadre_err check_types(const struct plan *p, const struct gguf_tensor *t, enum dtype type, cadre_error *err)
{
    CHECK(err, type == t->type || (dtype_info(t->type)->decode && dtype_info(type)->encode), CADRE_E_UNSUPPORTED,
          "%s: tensor '%s': cannot be converted from %s to %s", p->c->out, t->name, dtype_info(t->type)->name,
          dtype_info(type)->name);
    return CADRE_OK;
}

/* The bytes of each type among the matrices say what the file is called by. */
static cadre_err choose_types(struct plan *p, cadre_error *err)
{
    struct spec s;
    const struct gguf *g = p->c->g;
    int64_t n = gguf_tensor_count(g);
    uint64_t bytes[DTYPE_COUNT] = {0};
    TRY(spec_from_gguf(&s, g, err));
    p->type = calloc((size_t)n + 1, sizeof *p->type);
    CHECK(err, p->type, CADRE_E_MEMORY, "%s: no memory for %lld tensors", p->c->out, (long long)n);
    for (int64_t i = 0; i < n; i++)
        p->type[i] = type_for(p, gguf_tensor_at(g, i), false);
    for (struct tensor_walk w = tensor_walk(&s); tensor_next(&w);) {
        char name[64];
        tensor_name(&w, name);
        const struct gguf_tensor *t = gguf_tensor_find(g, name);
        if (!t || w.def->slot != SLOT_WEIGHT || (w.def->flags & TENSOR_KEEP_F32))
            continue;
        int64_t i = gguf_tensor_index(g, t);
        p->type[i] = type_for(p, t, true);
        bytes[p->type[i]] += t->bytes;
    }
    for (int64_t i = 0; i < n; i++)
        TRY(check_types(p, gguf_tensor_at(g, i), p->type[i], err));
    p->most = DTYPE_F32;
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (bytes[t] > bytes[p->most])
            p->most = (enum dtype)t;
    return CADRE_OK;
}

static uint64_t bytes_of(const struct plan *p, int64_t i)
{
    const struct gguf_tensor *t = gguf_tensor_at(p->c->g, i);
    uint64_t bytes = 0;
    dtype_size(p->type[i], (uint64_t)(t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3]), &bytes);
    return bytes;
}

/* ---- which file they are in ------------------------------------------------------------------------------------- */

static cadre_err cut(struct plan *p, cadre_error *err)
{
    int64_t n = gguf_tensor_count(p->c->g);
    uint64_t limit = p->c->options->split, size = 0;
    p->part = calloc((size_t)n + 1, sizeof *p->part);
    CHECK(err, p->part, CADRE_E_MEMORY, "%s: no memory for its parts", p->c->out);
    p->n_parts = 1;
    for (int64_t i = 0; i < n; i++) {
        struct part *part = &p->part[p->n_parts - 1];
        uint64_t bytes = bytes_of(p, i);
        if (limit > 0 && part->n > 0 && size + bytes > limit) {
            part[1].first = i;
            p->n_parts++;
            part++;
            size = 0;
        }
        part->n++;
        size += bytes;
        p->c->total += bytes;
    }
    CHECK(err, p->n_parts <= GGUF_MAX_PARTS, CADRE_E_ARG, "%s: expected at most %d files, found %d; give a larger size",
          p->c->out, GGUF_MAX_PARTS, p->n_parts);
    return CADRE_OK;
}

static cadre_err name_parts(struct plan *p, cadre_error *err)
{
    int stem = (int)(strlen(p->c->out) - strlen(".gguf"));
    for (int i = 0; i < p->n_parts; i++) {
        int made = p->c->options->split > 0
                       ? asprintf(&p->part[i].path, "%.*s-%05d-of-%05d.gguf", stem, p->c->out, i + 1, p->n_parts)
                       : asprintf(&p->part[i].path, "%s", p->c->out);
        CHECK(err, made >= 0, CADRE_E_MEMORY, "%s: no memory for its name", p->c->out);
    }
    return CADRE_OK;
}

/* ---- heads ------------------------------------------------------------------------------------------------------ */

static bool is_file_type(const char *key)
{
    return strcmp(key, "general.file_type") == 0 || strcmp(key, "general.quantization_version") == 0;
}

static cadre_err put_split(const struct plan *p, struct gguf_writer *w, int i, cadre_error *err)
{
    TRY(gguf_put_u16(w, "split.no", (uint16_t)i, err));
    TRY(gguf_put_u16(w, "split.count", (uint16_t)p->n_parts, err));
    return gguf_put_i32(w, "split.tensors.count", (int32_t)gguf_tensor_count(p->c->g), err);
}

static cadre_err put_head(const struct plan *p, struct gguf_writer *w, int i, cadre_error *err)
{
    const struct gguf *g = p->c->g;
    if (i == 0) {
        bool keep = p->want == DTYPE_NONE && gguf_has(g, "general.file_type");
        TRY(gguf_put_all(w, g, keep ? NULL : is_file_type, err));
        if (!keep && model_has_file_type(p->most))
            TRY(model_put_file_type(w, p->most, err));
    }
    if (p->c->options->split > 0)
        TRY(put_split(p, w, i, err));
    for (int64_t k = p->part[i].first; k < p->part[i].first + p->part[i].n; k++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, k);
        TRY(gguf_put_tensor(w, t->name, p->type[k], t->n_dims, t->dim, err));
    }
    return CADRE_OK;
}

static cadre_err make_heads(struct plan *p, uint64_t *stamp, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    for (int i = 0; i < p->n_parts && rc == CADRE_OK; i++) {
        struct gguf_writer *w;
        TRY(gguf_writer_open_head(&w, err));
        rc = put_head(p, w, i, err);
        if (rc == CADRE_OK)
            rc = gguf_writer_head(w, &p->part[i].head, &p->part[i].head_bytes, err);
        if (rc == CADRE_OK && i == 0)
            p->alignment = gguf_padded(w, 1);
        gguf_writer_abort(w);
        if (rc == CADRE_OK)
            *stamp = XXH3_64bits_withSeed(p->part[i].head, (size_t)p->part[i].head_bytes, *stamp);
    }
    return rc;
}

/* ---- data ------------------------------------------------------------------------------------------------------- */

/* One matrix that was read: as it is, or decoded and encoded in pieces. */
static cadre_err write_slice(struct plan *p, const struct gguf_tensor *t, enum dtype type, const unsigned char *raw,
                             float *numbers, unsigned char *piece, cadre_error *err)
{
    uint64_t n = (uint64_t)(t->dim[0] * t->dim[1]), size = 0, at = 0;
    if (type == t->type)
        return staged_write(p->c->staged, raw, t->bytes / (uint64_t)gguf_slices(t), err);
    for (uint64_t done = 0, some; done < n; done += some) {
        some = n - done < PIECE ? n - done : PIECE;
        dtype_size(t->type, some, &size);
        dtype_info(t->type)->decode(raw + at, numbers, (size_t)some);
        at += size;
        dtype_info(type)->encode(numbers, piece, (size_t)some);
        dtype_size(type, some, &size);
        TRY(staged_write(p->c->staged, piece, size, err));
    }
    return CADRE_OK;
}

static cadre_err write_slices(struct plan *p, int64_t i, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_at(p->c->g, i);
    uint64_t all = bytes_of(p, i), slices = (uint64_t)gguf_slices(t);
    cadre_err rc = CADRE_OK;
    unsigned char *raw = malloc((size_t)(t->bytes / slices)), *piece = malloc(PIECE * sizeof(float));
    float *numbers = malloc(PIECE * sizeof *numbers);
    CHECK_OUT(err, raw && numbers && piece, CADRE_E_MEMORY, "tensor '%s': no memory for a matrix of %llu bytes",
              t->name, (unsigned long long)(t->bytes / slices));
    for (uint64_t s = 0; s < slices; s++) {
        TRY_OUT(gguf_slice_read(p->c->g, t, (int64_t)s, raw, err));
        TRY_OUT(write_slice(p, t, p->type[i], raw, numbers, piece, err));
        TRY_OUT(conversion_advance(p->c, s + 1 < slices ? all / slices : all - all / slices * (slices - 1), err));
    }
out:
    free(raw);
    free(numbers);
    free(piece);
    return rc;
}

/* A tensor and the padding behind it are a piece: what an interrupted run has of it is written again. */
static cadre_err write_tensor(struct plan *p, int64_t i, cadre_error *err)
{
    static const char zeros[4096];
    uint64_t bytes = bytes_of(p, i), padded = (bytes + p->alignment - 1) / p->alignment * p->alignment;
    bool needed;
    TRY(staged_piece(p->c->staged, padded, &needed, err));
    if (!needed)
        return conversion_advance(p->c, bytes, err);
    TRY(write_slices(p, i, err));
    for (uint64_t pad = padded - bytes, some; pad > 0; pad -= some) {
        some = pad < sizeof zeros ? pad : sizeof zeros;
        TRY(staged_write(p->c->staged, zeros, some, err));
    }
    return CADRE_OK;
}

static cadre_err write_part(struct plan *p, const struct part *part, cadre_error *err)
{
    bool needed;
    TRY(staged_file(p->c->staged, part->path, err));
    TRY(staged_piece(p->c->staged, part->head_bytes, &needed, err));
    if (needed)
        TRY(staged_write(p->c->staged, part->head, part->head_bytes, err));
    for (int64_t i = part->first; i < part->first + part->n; i++)
        TRY(write_tensor(p, i, err));
    return CADRE_OK;
}

static cadre_err write_all(struct plan *p, uint64_t stamp, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    TRY(staged_open(&p->c->staged, p->c->out, false, stamp, err));
    for (int i = 0; i < p->n_parts && rc == CADRE_OK; i++)
        rc = write_part(p, &p->part[i], err);
    if (rc != CADRE_OK) {
        staged_stop(p->c->staged);
        return rc;
    }
    *p->c->result = (cadre_convert_result){.files = p->n_parts,
                                           .tensors = gguf_tensor_count(p->c->g),
                                           .bytes = p->c->total,
                                           .resumed = staged_resumed(p->c->staged) > 0};
    return staged_commit(p->c->staged, err);
}

cadre_err convert_to_gguf(struct conversion *c, cadre_error *err)
{
    struct plan p = {.c = c, .want = DTYPE_NONE};
    uint64_t stamp = gguf_stamp(c->g);
    cadre_err rc = CADRE_OK;
    const char *type = c->options->type;
    if (type)
        p.want = dtype_by_name(type);
    CHECK_OUT(err, !type || (p.want != DTYPE_NONE && dtype_info(p.want)->encode && dtype_info(p.want)->gguf >= 0),
              CADRE_E_ARG, "type: '%s' cannot be written", type);
    TRY_OUT(choose_types(&p, err));
    TRY_OUT(cut(&p, err));
    TRY_OUT(name_parts(&p, err));
    TRY_OUT(make_heads(&p, &stamp, err));
    rc = write_all(&p, stamp, err);
out:
    for (int i = 0; i < p.n_parts; i++) {
        free(p.part[i].head);
        free(p.part[i].path);
    }
    free(p.part);
    free(p.type);
    return rc;
}
