/* Writing safetensors. A tensor's offsets are known as soon as it is declared, so the header is complete before the
 * first byte of data and the data streams through. The header is padded with blanks to a multiple of 8, which keeps
 * the data aligned. What passes here passes `safetensors_open`. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "file/names.h"
#include "file/safetensors.h"
#include "file/safetensors_internal.h"

struct safetensors_writer {
    struct atomic_file file;
    json_t *header, *metadata; /* metadata belongs to header */
    uint64_t *end;             /* [n] where the data of each tensor ends */
    size_t n, room;
    bool begun, failed;
    size_t at;     /* the tensor whose data comes next */
    uint64_t done; /* bytes of data that are written */
};

static void writer_free(struct safetensors_writer *w)
{
    json_decref(w->header);
    free(w->end);
    free(w);
}

cadre_err safetensors_writer_open(struct safetensors_writer **out, const char *path, cadre_error *err)
{
    *out = NULL;
    struct safetensors_writer *w = calloc(1, sizeof *w);
    CHECK(err, w, CADRE_E_MEMORY, "%s: no memory to write it", path);
    cadre_err rc = CADRE_OK;
    w->header = json_object();
    CHECK_OUT(err, w->header, CADRE_E_MEMORY, "%s: no memory to write it", path);
    TRY_OUT(atomic_file_open(&w->file, path, err));
    *out = w;
    w = NULL;
out:
    if (w)
        writer_free(w);
    return rc;
}

void safetensors_writer_abort(struct safetensors_writer *w)
{
    if (!w)
        return;
    atomic_file_abort(&w->file);
    writer_free(w);
}

static cadre_err check_text(const char *what, const char *s, cadre_error *err)
{
    CHECK(err, utf8_ok(s, strlen(s)), CADRE_E_ARG, "%s '%s': expected UTF-8", what, shown(s, strlen(s)).s);
    return CADRE_OK;
}

cadre_err safetensors_put_metadata(struct safetensors_writer *w, const char *key, const char *value, cadre_error *err)
{
    CHECK(err, !w->begun, CADRE_E_ARG, "metadata '%s': expected before write_begin", key);
    TRY(check_text("metadata", key, err));
    TRY(check_text("metadata", value, err));
    if (!w->metadata) {
        json_t *object = json_object();
        CHECK(err, object && json_object_set_new_nocheck(w->header, ST_METADATA, object) == 0, CADRE_E_MEMORY,
              "metadata '%s': no memory", key);
        w->metadata = object;
    }
    CHECK(err, !json_object_get(w->metadata, key), CADRE_E_ARG, "metadata '%s': expected every key once", key);
    CHECK(err, json_object_set_new_nocheck(w->metadata, key, json_string_nocheck(value)) == 0, CADRE_E_MEMORY,
          "metadata '%s': no memory", key);
    return CADRE_OK;
}

/* {"dtype": …, "shape": […], "data_offsets": [begin, end]}, or NULL without memory. */
static json_t *describe(enum dtype type, int n_dims, const int64_t *dim, uint64_t begin, uint64_t end)
{
    json_t *t = json_object(), *shape = json_array(), *range = json_array();
    int bad = json_object_set_new_nocheck(t, "dtype", json_string_nocheck(dtype_info(type)->safetensors));
    for (int d = 0; d < n_dims; d++)
        bad |= json_array_append_new(shape, json_integer(dim[d]));
    bad |= json_object_set_new_nocheck(t, "shape", shape);
    bad |= json_array_append_new(range, json_integer((json_int_t)begin));
    bad |= json_array_append_new(range, json_integer((json_int_t)end));
    bad |= json_object_set_new_nocheck(t, "data_offsets", range);
    if (bad) {
        json_decref(t);
        t = NULL;
    }
    return t;
}

cadre_err safetensors_put(struct safetensors_writer *w, const char *name, enum dtype type, int n_dims,
                          const int64_t *dim, cadre_error *err)
{
    uint64_t begin = w->n ? w->end[w->n - 1] : 0, end, n = 1, bytes;
    CHECK(err, !w->begun, CADRE_E_ARG, "tensor '%s': expected before write_begin", name);
    CHECK(err, strcmp(name, ST_METADATA) != 0, CADRE_E_ARG, "tensor '%s': expected another name", name);
    TRY(check_text("tensor", name, err));
    CHECK(err, !json_object_get(w->header, name), CADRE_E_ARG, "tensor '%s': expected every name once", name);
    CHECK(err, type >= 0 && type < DTYPE_COUNT && dtype_info(type)->safetensors, CADRE_E_UNSUPPORTED,
          "tensor '%s': its type has no name in safetensors", name);
    CHECK(err, n_dims >= 0 && n_dims <= ST_MAX_DIMS, CADRE_E_ARG,
          "tensor '%s': expected at most %d dimensions, found %d", name, ST_MAX_DIMS, n_dims);
    for (int d = 0; d < n_dims; d++)
        CHECK(err, dim[d] >= 0 && mul_ok(n, (uint64_t)dim[d], &n), CADRE_E_ARG,
              "tensor '%s': dimension %d: expected at least 0 and a product below 2^64, found %lld", name, d,
              (long long)dim[d]);
    CHECK(err, dtype_size(type, n, &bytes) && add_ok(begin, bytes, &end) && end <= INT64_MAX, CADRE_E_ARG,
          "tensor '%s': the sizes of the tensors overflow", name);
    if (w->n == w->room) {
        size_t room = 2 * w->room + 64;
        uint64_t *wider = realloc(w->end, room * sizeof *wider);
        CHECK(err, wider, CADRE_E_MEMORY, "tensor '%s': no memory for %zu tensors", name, room);
        w->end = wider;
        w->room = room;
    }
    json_t *t = describe(type, n_dims, dim, begin, end);
    CHECK(err, t && json_object_set_new_nocheck(w->header, name, t) == 0, CADRE_E_MEMORY, "tensor '%s': no memory",
          name);
    w->end[w->n++] = end;
    return CADRE_OK;
}

/* Tensors without bytes are complete before any data comes. */
static void pass_complete(struct safetensors_writer *w)
{
    while (w->at < w->n && w->done == w->end[w->at])
        w->at++;
}

cadre_err safetensors_writer_open_head(struct safetensors_writer **out, cadre_error *err)
{
    *out = calloc(1, sizeof **out);
    CHECK(err, *out, CADRE_E_MEMORY, "no memory for the head of a file");
    (*out)->header = json_object();
    if ((*out)->header)
        return CADRE_OK;
    writer_free(*out);
    *out = NULL;
    return error_set(err, CADRE_E_MEMORY, "no memory for the head of a file");
}

cadre_err safetensors_writer_head(struct safetensors_writer *w, unsigned char **out, uint64_t *size, cadre_error *err)
{
    char *text = json_dumps(w->header, JSON_COMPACT);
    cadre_err rc = CADRE_OK;
    *out = NULL;
    CHECK(err, text, CADRE_E_MEMORY, "no memory for the header");
    size_t n = strlen(text);
    uint64_t padded = align_up(n, ST_HEADER_ALIGNMENT);
    CHECK_OUT(err, padded <= ST_MAX_HEADER, CADRE_E_ARG, "expected a header of at most %d bytes, found %zu",
              ST_MAX_HEADER, n);
    unsigned char *head = malloc(ST_LENGTH_BYTES + (size_t)padded);
    CHECK_OUT(err, head, CADRE_E_MEMORY, "no memory for a header of %zu bytes", n);
    memcpy(head, &padded, ST_LENGTH_BYTES);
    memcpy(head + ST_LENGTH_BYTES, text, n);
    memset(head + ST_LENGTH_BYTES + n, ' ', (size_t)padded - n);
    *out = head;
    *size = ST_LENGTH_BYTES + padded;
out:
    free(text);
    return rc;
}

cadre_err safetensors_write_begin(struct safetensors_writer *w, cadre_error *err)
{
    unsigned char *head;
    uint64_t n = 0;
    CHECK(err, !w->begun, CADRE_E_ARG, "%s: expected one write_begin, found a second", w->file.path);
    w->begun = true;
    cadre_err rc = safetensors_writer_head(w, &head, &n, err);
    if (rc == CADRE_OK)
        rc = atomic_file_write(&w->file, head, (size_t)n, err);
    if (rc == CADRE_OK)
        pass_complete(w);
    else
        error_wrap(err, rc, "%s", w->file.path);
    w->failed = rc != CADRE_OK;
    free(head);
    return rc;
}

cadre_err safetensors_write(struct safetensors_writer *w, const void *data, uint64_t n, cadre_error *err)
{
    CHECK(err, w->begun, CADRE_E_ARG, "%s: expected write_begin before tensor data", w->file.path);
    if (n == 0)
        return CADRE_OK;
    uint64_t left = w->at < w->n ? w->end[w->at] - w->done : 0;
    CHECK(err, n <= left, CADRE_E_ARG, "%s: tensor %zu of %zu: expected %llu more bytes, found %llu", w->file.path,
          w->at, w->n, (unsigned long long)left, (unsigned long long)n);
    TRY(atomic_file_write(&w->file, data, (size_t)n, err));
    w->done += n;
    pass_complete(w);
    return CADRE_OK;
}

cadre_err safetensors_writer_commit(struct safetensors_writer *w, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, w->begun && !w->failed, CADRE_E_ARG, "%s: expected write_begin before commit", w->file.path);
    CHECK_OUT(err, w->at == w->n, CADRE_E_ARG, "%s: tensor %zu of %zu: expected %llu more bytes before commit",
              w->file.path, w->at, w->n, (unsigned long long)(w->end[w->at] - w->done));
    rc = atomic_file_commit(&w->file, err);
out:
    safetensors_writer_abort(w); /* without effect on a committed file */
    return rc;
}
