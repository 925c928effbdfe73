/* Opening a safetensors file. The header's length is checked against the file before it is read, its JSON by jansson
 * (duplicate names refused), every number after that. The tensors must cover the data exactly: sorted by offset, each
 * begins where the one before ends, the last ends with the file. Names and metadata live in the parsed header. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "file/json.h"
#include "file/names.h"
#include "file/safetensors.h"
#include "file/safetensors_internal.h"

struct safetensors {
    char *path;
    int fd;
    uint64_t size, data; /* of the file; where the data begins */
    json_t *header;
    struct st_tensor *tensor; /* sorted by offset */
    int64_t n;
    struct name_index names;
};

static cadre_err read_header(struct safetensors *s, cadre_error *err)
{
    uint64_t n;
    CHECK(err, s->size >= ST_LENGTH_BYTES + 2, CADRE_E_FORMAT,
          "%s: expected a header length of %d bytes and a JSON header, found a file of %llu bytes", s->path,
          ST_LENGTH_BYTES, (unsigned long long)s->size);
    TRY(file_read_at(s->fd, s->path, 0, &n, ST_LENGTH_BYTES, err));
    CHECK(err, n <= ST_MAX_HEADER && n <= s->size - ST_LENGTH_BYTES, CADRE_E_FORMAT,
          "%s: header at byte 0: expected a length of at most %d and within the file of %llu bytes, found %llu",
          s->path, ST_MAX_HEADER, (unsigned long long)s->size, (unsigned long long)n);
    s->data = ST_LENGTH_BYTES + n;
    char *text = malloc((size_t)n + 1);
    CHECK(err, text, CADRE_E_MEMORY, "%s: no memory for a header of %llu bytes", s->path, (unsigned long long)n);
    cadre_err rc = CADRE_OK;
    TRY_OUT(file_read_at(s->fd, s->path, ST_LENGTH_BYTES, text, (size_t)n, err));
    CHECK_OUT(err, n > 0 && text[0] == '{', CADRE_E_FORMAT,
              "%s: header at byte %d: expected JSON beginning with '{'; this is no safetensors file", s->path,
              ST_LENGTH_BYTES);
    rc = json_parse_object(&s->header, s->path, ST_LENGTH_BYTES, text, (size_t)n, JSON_MAX_VALUES, err);
out:
    free(text);
    return rc;
}

/* A JSON integer that is not negative. */
static bool get_u64(const json_t *v, uint64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return false;
    *out = (uint64_t)json_integer_value(v);
    return true;
}

/* Dimensions; *n, 1 at first, becomes the number of elements they make. 0 is a dimension, [] the shape of a scalar. */
static cadre_err read_shape(const struct safetensors *s, const char *name, const json_t *shape, struct st_tensor *t,
                            uint64_t *n, cadre_error *err)
{
    CHECK(err, json_is_array(shape) && json_array_size(shape) <= ST_MAX_DIMS, CADRE_E_FORMAT,
          "%s: tensor '%s': shape: expected an array of at most %d numbers", s->path, name, ST_MAX_DIMS);
    t->n_dims = (int)json_array_size(shape);
    for (int d = 0; d < t->n_dims; d++) {
        uint64_t dim;
        CHECK(err, get_u64(json_array_get(shape, (size_t)d), &dim) && mul_ok(*n, dim, n), CADRE_E_FORMAT,
              "%s: tensor '%s': shape: dimension %d: expected a whole number and a product below 2^64", s->path, name,
              d);
        t->dim[d] = (int64_t)dim;
    }
    return CADRE_OK;
}

static cadre_err read_tensor(const struct safetensors *s, const char *key, const json_t *v, struct st_tensor *t,
                             cadre_error *err)
{
    struct shown name = shown(key, strlen(key));
    uint64_t n = 1, begin = 0, end = 0, available = s->size - s->data;
    t->name = key;
    CHECK(err, json_is_object(v), CADRE_E_FORMAT, "%s: tensor '%s': expected an object with dtype, shape, data_offsets",
          s->path, name.s);
    const char *type = json_string_value(json_object_get(v, "dtype"));
    CHECK(err, type, CADRE_E_FORMAT, "%s: tensor '%s': expected a string 'dtype'", s->path, name.s);
    t->type = dtype_by_safetensors(type);
    CHECK(err, t->type != DTYPE_NONE, CADRE_E_UNSUPPORTED,
          "%s: tensor '%s': unsupported type: dtype '%s' is not known here", s->path, name.s,
          shown(type, strlen(type)).s);
    TRY(read_shape(s, name.s, json_object_get(v, "shape"), t, &n, err));
    const json_t *range = json_object_get(v, "data_offsets");
    CHECK(err,
          json_array_size(range) == 2 && get_u64(json_array_get(range, 0), &begin) &&
              get_u64(json_array_get(range, 1), &end),
          CADRE_E_FORMAT, "%s: tensor '%s': data_offsets: expected two whole numbers", s->path, name.s);
    CHECK(err, begin <= end && end <= available, CADRE_E_FORMAT,
          "%s: tensor '%s': data_offsets: expected a range within %llu bytes of data, found %llu to %llu", s->path,
          name.s, (unsigned long long)available, (unsigned long long)begin, (unsigned long long)end);
    CHECK(err, dtype_size(t->type, n, &t->bytes) && t->bytes == end - begin, CADRE_E_FORMAT,
          "%s: tensor '%s': data_offsets: expected %llu numbers of type %s, found %llu bytes", s->path, name.s,
          (unsigned long long)n, type, (unsigned long long)(end - begin));
    t->offset = s->data + begin;
    return CADRE_OK;
}

static cadre_err read_metadata(const struct safetensors *s, json_t *v, cadre_error *err)
{
    const char *key;
    json_t *value;
    CHECK(err, json_is_object(v), CADRE_E_FORMAT, "%s: " ST_METADATA ": expected an object", s->path);
    json_object_foreach(v, key, value)
        CHECK(err, json_is_string(value), CADRE_E_FORMAT, "%s: " ST_METADATA ": '%s': expected a string", s->path,
              shown(key, strlen(key)).s);
    return CADRE_OK;
}

/* Tensors without bytes share an offset with the next one and come before it. */
static int by_range(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static cadre_err check_cover(const struct safetensors *s, cadre_error *err)
{
    uint64_t at = s->data;
    for (int64_t i = 0; i < s->n; i++) {
        const struct st_tensor *t = &s->tensor[i];
        CHECK(err, t->offset == at, CADRE_E_FORMAT,
              "%s: tensor '%s': expected its data to begin at byte %llu, where the one before ends, found %llu",
              s->path, shown(t->name, strlen(t->name)).s, (unsigned long long)at, (unsigned long long)t->offset);
        at += t->bytes;
    }
    CHECK(err, at == s->size, CADRE_E_FORMAT,
          "%s: expected the file to end with its last tensor at byte %llu, found %llu", s->path, (unsigned long long)at,
          (unsigned long long)s->size);
    return CADRE_OK;
}

static cadre_err read_tensors(struct safetensors *s, cadre_error *err)
{
    const char *key;
    json_t *value;
    size_t most = json_object_size(s->header);
    s->tensor = calloc(most + 1, sizeof *s->tensor);
    CHECK(err, s->tensor, CADRE_E_MEMORY, "%s: no memory for %zu tensors", s->path, most);
    json_object_foreach(s->header, key, value)
    {
        if (strcmp(key, ST_METADATA) == 0)
            TRY(read_metadata(s, value, err));
        else
            TRY(read_tensor(s, key, value, &s->tensor[s->n++], err));
    }
    qsort(s->tensor, (size_t)s->n, sizeof *s->tensor, by_range);
    TRY(check_cover(s, err));
    for (int64_t i = 0; i < s->n; i++) {
        bool taken; /* never: the parser refuses duplicates */
        TRY(name_index_put(&s->names, s->tensor[i].name, i, &taken, err));
    }
    return CADRE_OK;
}

cadre_err safetensors_open_fd(struct safetensors **out, const char *path, int fd, uint64_t size, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    struct safetensors *s = calloc(1, sizeof *s);
    *out = NULL;
    if (!s) {
        file_close(fd);
        return error_set(err, CADRE_E_MEMORY, "%s: no memory to open it", path);
    }
    s->fd = fd;
    s->size = size;
    s->path = strdup(path);
    CHECK_OUT(err, s->path, CADRE_E_MEMORY, "%s: no memory to open it", path);
    TRY_OUT(read_header(s, err));
    TRY_OUT(read_tensors(s, err));
    *out = s;
    s = NULL;
out:
    safetensors_close(s);
    return rc;
}

cadre_err safetensors_open(struct safetensors **out, const char *path, cadre_error *err)
{
    int fd;
    uint64_t size;
    *out = NULL;
    TRY(file_open(path, &fd, &size, err));
    return safetensors_open_fd(out, path, fd, size, err);
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    file_close(s->fd);
    name_index_free(&s->names);
    free(s->tensor);
    json_decref(s->header);
    free(s->path);
    free(s);
}

int64_t safetensors_count(const struct safetensors *s)
{
    return s->n;
}

const struct st_tensor *safetensors_at(const struct safetensors *s, int64_t i)
{
    return &s->tensor[i];
}

const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    int64_t i = name_index_get(&s->names, name);
    return i >= 0 ? &s->tensor[i] : NULL;
}

cadre_err safetensors_read_at(const struct safetensors *s, const struct st_tensor *t, uint64_t from, void *dst,
                              size_t n, cadre_error *err)
{
    cadre_err rc = file_read_at(s->fd, s->path, t->offset + from, dst, n, err);
    return rc == CADRE_OK ? rc : error_wrap(err, rc, "tensor '%s'", shown(t->name, strlen(t->name)).s);
}

cadre_err safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *dst, cadre_error *err)
{
    return safetensors_read_at(s, t, 0, dst, (size_t)t->bytes, err);
}

uint64_t safetensors_stamp(const struct safetensors *s)
{
    return file_stamp(s->fd);
}

const char *safetensors_metadata(const struct safetensors *s, const char *key)
{
    return json_string_value(json_object_get(json_object_get(s->header, ST_METADATA), key));
}
