/* Writing GGUF. The header holds counts and offsets of everything, so key values and tensor infos are collected in
 * memory and written at once; tensor data then streams through. Every tensor, the last one too, is padded to the
 * alignment, as readers of the format expect. What passes here passes `gguf_open`. */
#include <stdlib.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "file/gguf_internal.h"

/* A failed append leaves half an item behind; `failed` keeps it from reaching a file. */
struct bytes {
    unsigned char *p;
    size_t n, room;
    bool failed;
};

struct gguf_writer {
    struct atomic_file file;
    uint64_t alignment;
    struct bytes kv; /* as they will lie in the file */
    int64_t n_kv, n_tensors;
    struct name_index keys, names; /* names are owned: release_names */
    struct gguf_tensor *tensor;
    size_t tensor_room;
    bool begun;
    uint64_t data; /* bytes of all tensors, padded; set with the head */
    int64_t at;    /* the tensor whose data comes next */
    uint64_t done; /* bytes of it that are written */
};

static cadre_err append(struct bytes *b, const void *p, uint64_t n, cadre_error *err)
{
    bool failed = b->failed;
    b->failed = true;
    CHECK(err, !failed, CADRE_E_ARG, "expected nothing more after a failure");
    CHECK(err, n <= GGUF_MAX_METADATA && b->n + n <= GGUF_MAX_METADATA, CADRE_E_ARG,
          "expected at most %d bytes of metadata", GGUF_MAX_METADATA);
    if (b->room - b->n < n) {
        size_t room = 2 * b->room + (size_t)n + 1024;
        unsigned char *wider = realloc(b->p, room);
        CHECK(err, wider, CADRE_E_MEMORY, "no memory for %zu bytes of metadata", room);
        b->p = wider;
        b->room = room;
    }
    if (n > 0)
        memcpy(b->p + b->n, p, (size_t)n);
    b->n += (size_t)n;
    b->failed = false;
    return CADRE_OK;
}

static cadre_err append_u32(struct bytes *b, uint32_t v, cadre_error *err)
{
    return append(b, &v, sizeof v, err);
}

static cadre_err append_u64(struct bytes *b, uint64_t v, cadre_error *err)
{
    return append(b, &v, sizeof v, err);
}

static cadre_err append_string(struct bytes *b, const char *s, uint64_t n, cadre_error *err)
{
    TRY(append_u64(b, n, err));
    return append(b, s, n, err);
}

/* A copy of the name, in the index. */
static cadre_err claim_name(struct name_index *ix, const char *what, const char *name, int64_t item, const char **copy,
                            cadre_error *err)
{
    size_t n = strlen(name);
    struct shown text = shown(name, n);
    CHECK(err, n >= 1 && n <= GGUF_MAX_KEY, CADRE_E_ARG, "%s '%s': expected a name of 1 to %d bytes, found %zu", what,
          text.s, GGUF_MAX_KEY, n);
    char *own = malloc(n + 1);
    CHECK(err, own, CADRE_E_MEMORY, "%s '%s': no memory for its name", what, text.s);
    memcpy(own, name, n + 1);
    bool taken;
    cadre_err rc = name_index_put(ix, own, item, &taken, err);
    if (rc == CADRE_OK && taken)
        rc = error_set(err, CADRE_E_ARG, "%s '%s': expected every name once, found it again", what, text.s);
    if (rc != CADRE_OK)
        free(own);
    else if (copy)
        *copy = own;
    return rc;
}

static void release_names(struct name_index *ix)
{
    for (size_t i = 0; i < ix->n_slots; i++)
        free((char *)ix->slot[i].name);
    name_index_free(ix);
}

static void writer_free(struct gguf_writer *w)
{
    release_names(&w->keys);
    release_names(&w->names);
    free(w->tensor);
    free(w->kv.p);
    free(w);
}

cadre_err gguf_writer_open(struct gguf_writer **out, const char *path, cadre_error *err)
{
    *out = NULL;
    struct gguf_writer *w = calloc(1, sizeof *w);
    CHECK(err, w, CADRE_E_MEMORY, "%s: no memory to write it", path);
    w->alignment = GGUF_DEFAULT_ALIGNMENT;
    cadre_err rc = atomic_file_open(&w->file, path, err);
    if (rc == CADRE_OK)
        *out = w;
    else
        writer_free(w);
    return rc;
}

cadre_err gguf_writer_open_head(struct gguf_writer **out, cadre_error *err)
{
    *out = calloc(1, sizeof **out);
    CHECK(err, *out, CADRE_E_MEMORY, "no memory for the head of a file");
    (*out)->alignment = GGUF_DEFAULT_ALIGNMENT;
    return CADRE_OK;
}

void gguf_writer_abort(struct gguf_writer *w)
{
    if (!w)
        return;
    atomic_file_abort(&w->file);
    writer_free(w);
}

/* Key and type; the value follows. */
static cadre_err put_head(struct gguf_writer *w, const char *key, enum gguf_type type, cadre_error *err)
{
    CHECK(err, !w->begun, CADRE_E_ARG, "key '%s': expected before write_begin", key);
    CHECK(err, w->n_kv < GGUF_MAX_KV, CADRE_E_ARG, "key '%s': expected at most %d keys", key, GGUF_MAX_KV);
    CHECK(err, type == GGUF_U32 || strcmp(key, GGUF_ALIGNMENT_KEY) != 0, CADRE_E_ARG,
          "key '" GGUF_ALIGNMENT_KEY "': expected type u32, found %s", gguf_type_info(type)->name);
    TRY(claim_name(&w->keys, "key", key, w->n_kv, NULL, err));
    w->n_kv++;
    TRY(append_string(&w->kv, key, strlen(key), err));
    return append_u32(&w->kv, type, err);
}

static cadre_err put_scalar(struct gguf_writer *w, const char *key, enum gguf_type type, const void *v,
                            cadre_error *err)
{
    TRY(put_head(w, key, type, err));
    return append(&w->kv, v, gguf_type_info(type)->bytes, err);
}

static cadre_err put_array_head(struct gguf_writer *w, const char *key, enum gguf_type elem, int64_t n,
                                cadre_error *err)
{
    CHECK(err, n >= 0 && n <= GGUF_MAX_ARRAY, CADRE_E_ARG, "key '%s': expected 0 to %d array elements, found %lld", key,
          GGUF_MAX_ARRAY, (long long)n);
    TRY(put_head(w, key, GGUF_ARRAY, err));
    TRY(append_u32(&w->kv, elem, err));
    return append_u64(&w->kv, (uint64_t)n, err);
}

cadre_err gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v, cadre_error *err)
{
    bool aligns = strcmp(key, GGUF_ALIGNMENT_KEY) == 0;
    if (aligns)
        TRY(gguf_check_alignment(v, err));
    TRY(put_scalar(w, key, GGUF_U32, &v, err));
    if (aligns)
        w->alignment = v;
    return CADRE_OK;
}

cadre_err gguf_put_u16(struct gguf_writer *w, const char *key, uint16_t v, cadre_error *err)
{
    return put_scalar(w, key, GGUF_U16, &v, err);
}

cadre_err gguf_put_i32(struct gguf_writer *w, const char *key, int32_t v, cadre_error *err)
{
    return put_scalar(w, key, GGUF_I32, &v, err);
}

cadre_err gguf_put_u64(struct gguf_writer *w, const char *key, uint64_t v, cadre_error *err)
{
    return put_scalar(w, key, GGUF_U64, &v, err);
}

cadre_err gguf_put_f32(struct gguf_writer *w, const char *key, float v, cadre_error *err)
{
    return put_scalar(w, key, GGUF_F32, &v, err);
}

cadre_err gguf_put_bool(struct gguf_writer *w, const char *key, bool v, cadre_error *err)
{
    unsigned char byte = v;
    return put_scalar(w, key, GGUF_BOOL, &byte, err);
}

cadre_err gguf_put_string(struct gguf_writer *w, const char *key, const char *s, size_t n, cadre_error *err)
{
    TRY(put_head(w, key, GGUF_STRING, err));
    return append_string(&w->kv, s, n, err);
}

cadre_err gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_string *s, int64_t n,
                           cadre_error *err)
{
    TRY(put_array_head(w, key, GGUF_STRING, n, err));
    for (int64_t i = 0; i < n; i++)
        TRY(append_string(&w->kv, s[i].p, s[i].n, err));
    return CADRE_OK;
}

cadre_err gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, int64_t n, cadre_error *err)
{
    TRY(put_array_head(w, key, GGUF_I32, n, err));
    return append(&w->kv, v, (uint64_t)n * sizeof *v, err);
}

cadre_err gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, int64_t n, cadre_error *err)
{
    TRY(put_array_head(w, key, GGUF_F32, n, err));
    return append(&w->kv, v, (uint64_t)n * sizeof *v, err);
}

static cadre_err put_copy(struct gguf_writer *w, const struct gguf *g, const struct gguf_kv *kv, cadre_error *err)
{
    const unsigned char *value = g->meta + kv->at;
    if (kv->type == GGUF_STRING)
        return gguf_put_string(w, kv->key.p, kv->string.p, (size_t)kv->string.n, err);
    if (strcmp(kv->key.p, GGUF_ALIGNMENT_KEY) == 0)
        return gguf_put_u32(w, kv->key.p, (uint32_t)g->alignment, err);
    if (kv->type != GGUF_ARRAY)
        return put_scalar(w, kv->key.p, kv->type, value, err);
    if (kv->elem == GGUF_STRING)
        return gguf_put_strings(w, kv->key.p, kv->table, (int64_t)kv->n, err);
    TRY(put_array_head(w, kv->key.p, kv->elem, (int64_t)kv->n, err));
    return append(&w->kv, value, kv->bytes, err);
}

cadre_err gguf_put_all(struct gguf_writer *w, const struct gguf *g, bool (*skip)(const char *key), cadre_error *err)
{
    for (int64_t i = 0; i < g->n_kv; i++)
        if (!skip || !skip(g->kv[i].key.p))
            TRY(put_copy(w, g, &g->kv[i], err));
    return CADRE_OK;
}

cadre_err gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype type, int n_dims, const int64_t *dim,
                          cadre_error *err)
{
    struct gguf_tensor t = {.type = type, .n_dims = n_dims};
    uint64_t n = 1;
    CHECK(err, !w->begun, CADRE_E_ARG, "tensor '%s': expected before write_begin", name);
    CHECK(err, w->n_tensors < GGUF_MAX_TENSORS, CADRE_E_ARG, "tensor '%s': expected at most %d tensors", name,
          GGUF_MAX_TENSORS);
    CHECK(err, type >= 0 && type < DTYPE_COUNT && (dtype_info(type)->gguf >= 0 || !w->file.f), CADRE_E_UNSUPPORTED,
          "tensor '%s': its type has no number in GGUF", name);
    CHECK(err, n_dims >= 1 && n_dims <= GGUF_MAX_DIMS, CADRE_E_ARG,
          "tensor '%s': expected 1 to %d dimensions, found %d", name, GGUF_MAX_DIMS, n_dims);
    for (int d = 0; d < GGUF_MAX_DIMS; d++) {
        t.dim[d] = d < n_dims ? dim[d] : 1;
        CHECK(err, t.dim[d] >= 1 && mul_ok(n, (uint64_t)t.dim[d], &n) && n <= INT64_MAX, CADRE_E_ARG,
              "tensor '%s': dimension %d: expected at least 1 and a product below 2^63, found %lld", name, d,
              (long long)t.dim[d]);
    }
    CHECK(err, t.dim[0] % dtype_info(type)->block == 0 && dtype_size(type, n, &t.bytes), CADRE_E_ARG,
          "tensor '%s': expected rows of a multiple of %u numbers for type %s, found %lld", name,
          dtype_info(type)->block, dtype_info(type)->name, (long long)t.dim[0]);
    if ((size_t)w->n_tensors == w->tensor_room) {
        size_t room = 2 * w->tensor_room + 64;
        struct gguf_tensor *wider = realloc(w->tensor, room * sizeof *wider);
        CHECK(err, wider, CADRE_E_MEMORY, "tensor '%s': no memory for %zu tensors", name, room);
        w->tensor = wider;
        w->tensor_room = room;
    }
    TRY(claim_name(&w->names, "tensor", name, w->n_tensors, &t.name, err));
    w->tensor[w->n_tensors++] = t;
    return CADRE_OK;
}

static cadre_err append_infos(struct gguf_writer *w, struct bytes *out, cadre_error *err)
{
    uint64_t offset = 0;
    for (int64_t i = 0; i < w->n_tensors; i++) {
        struct gguf_tensor *t = &w->tensor[i];
        TRY(append_string(out, t->name, strlen(t->name), err));
        TRY(append_u32(out, (uint32_t)t->n_dims, err));
        for (int d = 0; d < t->n_dims; d++)
            TRY(append_u64(out, (uint64_t)t->dim[d], err));
        int number = dtype_info(t->type)->gguf;
        TRY(append_u32(out, number >= 0 ? (uint32_t)number : GGUF_PRIVATE_TYPE + (uint32_t)t->type, err));
        TRY(append_u64(out, offset, err));
        uint64_t padded;
        CHECK(err, add_ok(t->bytes, w->alignment - 1, &padded) && add_ok(offset, padded & ~(w->alignment - 1), &offset),
              CADRE_E_ARG, "tensor '%s': the sizes of the tensors overflow", t->name);
    }
    w->data = offset;
    return CADRE_OK;
}

uint64_t gguf_padded(const struct gguf_writer *w, uint64_t bytes)
{
    return align_up(bytes, w->alignment);
}

uint64_t gguf_writer_data_size(const struct gguf_writer *w)
{
    return w->data;
}

static cadre_err write_padding(struct gguf_writer *w, uint64_t written, cadre_error *err)
{
    static const char zeros[4096];
    uint64_t n = align_up(written, w->alignment) - written;
    for (uint64_t some; n > 0; n -= some) {
        some = n < sizeof zeros ? n : sizeof zeros;
        TRY(atomic_file_write(&w->file, zeros, (size_t)some, err));
    }
    return CADRE_OK;
}

cadre_err gguf_writer_head(struct gguf_writer *w, unsigned char **out, uint64_t *n, cadre_error *err)
{
    static const char zeros[64];
    cadre_err rc = CADRE_OK;
    struct bytes head = {0};
    *out = NULL;
    CHECK(err, !w->kv.failed, CADRE_E_ARG, "expected a head after puts that succeeded");
    TRY_OUT(append(&head, GGUF_MAGIC, 4, err));
    TRY_OUT(append_u32(&head, GGUF_VERSION, err));
    TRY_OUT(append_u64(&head, (uint64_t)w->n_tensors, err));
    TRY_OUT(append_u64(&head, (uint64_t)w->n_kv, err));
    TRY_OUT(append(&head, w->kv.p, w->kv.n, err));
    TRY_OUT(append_infos(w, &head, err));
    for (uint64_t some, pad = align_up(head.n, w->alignment) - head.n; pad > 0; pad -= some) {
        some = pad < sizeof zeros ? pad : sizeof zeros;
        TRY_OUT(append(&head, zeros, some, err));
    }
    *out = head.p;
    *n = head.n;
    head.p = NULL;
out:
    free(head.p);
    return rc;
}

cadre_err gguf_write_begin(struct gguf_writer *w, cadre_error *err)
{
    CHECK(err, !w->begun && !w->kv.failed, CADRE_E_ARG, "%s: expected one write_begin, after puts that succeeded",
          w->file.path);
    unsigned char *head;
    uint64_t n = 0;
    cadre_err rc = gguf_writer_head(w, &head, &n, err);
    if (rc == CADRE_OK)
        rc = atomic_file_write(&w->file, head, (size_t)n, err);
    w->begun = rc == CADRE_OK;
    w->kv.failed = rc != CADRE_OK;
    free(head);
    return rc;
}

cadre_err gguf_write_data(struct gguf_writer *w, const void *data, uint64_t n, cadre_error *err)
{
    CHECK(err, w->begun, CADRE_E_ARG, "%s: expected write_begin before tensor data", w->file.path);
    if (n == 0)
        return CADRE_OK;
    CHECK(err, w->at < w->n_tensors, CADRE_E_ARG, "%s: expected no more data after the last tensor, found %llu bytes",
          w->file.path, (unsigned long long)n);
    const struct gguf_tensor *t = &w->tensor[w->at];
    CHECK(err, n <= t->bytes - w->done, CADRE_E_ARG, "%s: tensor '%s': expected %llu more bytes, found %llu",
          w->file.path, t->name, (unsigned long long)(t->bytes - w->done), (unsigned long long)n);
    TRY(atomic_file_write(&w->file, data, (size_t)n, err));
    w->done += n;
    if (w->done == t->bytes) {
        TRY(write_padding(w, t->bytes, err));
        w->at++;
        w->done = 0;
    }
    return CADRE_OK;
}

cadre_err gguf_writer_commit(struct gguf_writer *w, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, w->begun, CADRE_E_ARG, "%s: expected write_begin before commit", w->file.path);
    CHECK_OUT(err, w->at == w->n_tensors, CADRE_E_ARG, "%s: tensor '%s': expected %llu more bytes before commit",
              w->file.path, w->tensor[w->at].name, (unsigned long long)(w->tensor[w->at].bytes - w->done));
    rc = atomic_file_commit(&w->file, err);
out:
    gguf_writer_abort(w); /* without effect on a committed file */
    return rc;
}
