/* Packed files, read: a GGUF file around the file that was packed. docs/FORMATS.md has the keys.
 *
 *     tensor `cadre.head`      the head of the file that was packed, byte for byte: its keys and tensor infos
 *     tensors NAME             rows as they were
 *     tensors NAME.strips      i8 [record, slices]: of each slice (an expert, or the only matrix) the strips of one or
 *                              several tensors, each from a multiple of 64 bytes on, the record a multiple of pages
 *
 * It opens as the file that was packed, whose rows are put together again from the strips when somebody reads them; a
 * model takes the strips where they are. */
#include "file/gguf_packed.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/fileio.h"

struct way_back {
    enum dtype type;
    int64_t k;
    struct strip_map *map;
    struct way_back *next;
};

struct in_strips {
    int32_t outer; /* tensor of the outer file; -1: none */
    uint64_t offset, stride;
};

struct packed_file {
    struct gguf *outer, *inner; /* inner owns this */
    struct in_strips *strips;   /* [inner tensors] */
    pthread_mutex_t lock;       /* of `ways` */
    struct way_back *ways;
};

static void packed_close(void *ctx)
{
    struct packed_file *f = ctx;
    for (struct way_back *w = f->ways, *next; w; w = next) {
        next = w->next;
        free(w->map);
        free(w);
    }
    pthread_mutex_destroy(&f->lock);
    free(f->strips);
    gguf_close(f->outer);
    free(f);
}

/* ---- rows out of strips */

static const struct strip_map *way_back(struct packed_file *f, enum dtype type, int64_t k)
{
    pthread_mutex_lock(&f->lock);
    struct way_back *w = f->ways;
    while (w && (w->type != type || w->k != k))
        w = w->next;
    if (!w && (w = malloc(sizeof *w))) {
        *w = (struct way_back){type, k, strip_map_new(type, k), f->ways};
        f->ways = w;
    }
    pthread_mutex_unlock(&f->lock);
    return w ? w->map : NULL;
}

static cadre_err read_strips(struct packed_file *f, const struct gguf_tensor *t, uint64_t at, unsigned char *dst,
                             cadre_error *err)
{
    size_t strip = packed_strip_bytes(t->type, t->dim[0]),
           row = (size_t)(t->bytes / (uint64_t)gguf_slices(t)) / (size_t)t->dim[1];
    const struct strip_map *map = way_back(f, t->type, t->dim[0]);
    unsigned char *from = malloc(strip + STRIP_SLACK), *rows = malloc(STRIP * row + STRIP_SLACK);
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, map && from && rows, CADRE_E_MEMORY, "no memory to put rows of %zu bytes together again", row);
    memset(from + strip, 0, STRIP_SLACK);
    for (int64_t i = 0; i < t->dim[1]; i += STRIP, at += strip, dst += STRIP * row) {
        int64_t n = min_i64(STRIP, t->dim[1] - i);
        TRY_OUT(file_read_at(f->outer->fd, f->outer->path, at, from, strip, err));
        strip_map_rows(map, rows, from, n);
        memcpy(dst, rows, (size_t)n * row);
    }
out:
    free(from);
    free(rows);
    return rc;
}

static cadre_err packed_read(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err)
{
    struct packed_file *f = ctx;
    const struct gguf_tensor *t = &f->inner->tensor[tensor].t;
    uint64_t bytes = t->bytes / (uint64_t)gguf_slices(t), at;
    if (gguf_rows(f->inner, t, &at))
        return file_read_at(f->outer->fd, f->outer->path, at + (uint64_t)slice * bytes, dst, (size_t)bytes, err);
    const struct in_strips *s = &f->strips[tensor];
    return read_strips(f, t, s->offset + (uint64_t)slice * s->stride, dst, err);
}

/* ---- checks */

static cadre_err wrong(const struct gguf *g, cadre_error *err, const char *what)
{
    return error_set(err, CADRE_E_FORMAT, "%s: packed file: %s", g->path, what);
}

static cadre_err check_version(const struct gguf *g, cadre_error *err)
{
    int64_t version = 0;
    bool found;
    TRY(gguf_get_i64(g, GGUF_PACKED_VERSION, &version, &found, err));
    CHECK(err, version == PACKED_VERSION, CADRE_E_UNSUPPORTED,
          "%s: packed file: expected version %d, found %lld; pack the original again with this cadre", g->path,
          PACKED_VERSION, (long long)version);
    return CADRE_OK;
}

/* Every format in strips has the layout that kernels here expect. */
static cadre_err check_layouts(const struct gguf *g, bool known[DTYPE_COUNT], cadre_error *err)
{
    const struct gguf_string *s = NULL;
    int64_t n = 0;
    bool found;
    TRY(gguf_get_strings(g, PACKED_LAYOUTS, &s, &n, &found, err));
    CHECK(err, n <= DTYPE_COUNT, CADRE_E_FORMAT, "%s: key '" PACKED_LAYOUTS "': expected at most %d, found %lld",
          g->path, DTYPE_COUNT, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        char name[32], stamp[32];
        CHECK(err, s[i].n < sizeof name && sscanf(s[i].p, "%31[^ ] %31s", name, stamp) == 2, CADRE_E_FORMAT,
              "%s: key '" PACKED_LAYOUTS "': expected FORMAT STAMP, found '%s'", g->path,
              shown(s[i].p, (size_t)s[i].n).s);
        enum dtype type = dtype_by_name(name);
        CHECK(err, type != DTYPE_NONE && dtype_info(type)->weight, CADRE_E_UNSUPPORTED,
              "%s: packed file: format '%s' is not known here", g->path, name);
        char own[PACKED_STAMP];
        packed_stamp_text(type, own);
        CHECK(err, strcmp(stamp, own) == 0, CADRE_E_UNSUPPORTED,
              "%s: packed file: expected layout %s of %s, found %s; pack the original again with this cadre", g->path,
              own, name, stamp);
        known[type] = true;
    }
    return CADRE_OK;
}

bool gguf_size_fits(const struct gguf *g)
{
    uint64_t most = g->data;
    for (int64_t i = 0; i < g->n_tensors; i++)
        most += align_up(g->tensor[i].t.bytes, g->alignment); /* apart and inside the file: no overflow */
    return g->size >= g->data && g->size <= most;
}

static cadre_err open_inner(struct packed_file *f, cadre_error *err)
{
    const struct gguf *g = f->outer;
    const struct gguf_tensor *t = gguf_tensor_find(g, PACKED_HEAD);
    int64_t size = 0;
    bool found;
    CHECK(err, t && t->type == DTYPE_I8 && t->n_dims == 1 && t->bytes <= GGUF_MAX_METADATA, CADRE_E_FORMAT,
          "%s: packed file: expected a tensor '" PACKED_HEAD "' of type i8", g->path);
    TRY(gguf_get_i64(g, PACKED_SIZE, &size, &found, err));
    CHECK(err, size >= (int64_t)t->bytes, CADRE_E_FORMAT, "%s: key '" PACKED_SIZE "': expected at least %llu", g->path,
          (unsigned long long)t->bytes);
    unsigned char *head = malloc(t->bytes);
    CHECK(err, head, CADRE_E_MEMORY, "%s: no memory for %llu bytes", g->path, (unsigned long long)t->bytes);
    cadre_err rc = gguf_tensor_read(g, t, head, err);
    if (rc != CADRE_OK) {
        free(head);
        return rc;
    }
    TRY(gguf_open_head(&f->inner, head, t->bytes, (uint64_t)size, g->path, err));
    CHECK(err, !gguf_has(f->inner, GGUF_SPLIT_COUNT) && !gguf_has(f->inner, GGUF_PACKED_VERSION), CADRE_E_FORMAT,
          "%s: packed file: expected the head of a whole, unpacked file", g->path);
    CHECK(err, gguf_size_fits(f->inner), CADRE_E_FORMAT,
          "%s: key '" PACKED_SIZE "': expected what head and tensors take, found %lld", g->path, (long long)size);
    return CADRE_OK;
}

/* Strips of tensor i in record `outer`, of which `used` bytes are taken. Sizes are compared by division, as the file
 * may say anything. */
static cadre_err bind_strips(struct packed_file *f, int64_t i, int64_t outer, uint64_t *used, cadre_error *err)
{
    const struct gguf *g = f->outer;
    const struct gguf_tensor *t = &f->inner->tensor[i].t, *o = &g->tensor[outer].t;
    uint64_t record = (uint64_t)o->dim[0], row = t->bytes / ((uint64_t)gguf_slices(t) * (uint64_t)t->dim[1]);
    if (o->type != DTYPE_I8 || o->n_dims != 2 || o->dim[1] != gguf_slices(t) || record % PACKED_PAGE ||
        !dtype_info(t->type)->weight || row > record / STRIP)
        return wrong(g, err, "a record has not the type, the slices or the size of its tensor");
    uint64_t strip = packed_strip_bytes(t->type, t->dim[0]), n = ((uint64_t)t->dim[1] - 1) / STRIP + 1;
    if (strip == 0 || *used > record || n > (record - *used) / strip)
        return wrong(g, err, "a record is too small for its tensors");
    f->strips[i] = (struct in_strips){(int32_t)outer, o->offset + *used, record};
    *used = align_up(*used + n * strip, PACKED_ALIGN);
    return CADRE_OK;
}

static cadre_err check_rows(const struct gguf *g, const struct gguf_tensor *t, cadre_error *err)
{
    const struct gguf_tensor *o = gguf_tensor_find(g, t->name);
    CHECK(err, o && o->type == t->type && memcmp(o->dim, t->dim, sizeof t->dim) == 0, CADRE_E_FORMAT,
          "%s: packed file: tensor '%s': expected in strips, or with the type and shape that its head says", g->path,
          shown(t->name, strlen(t->name)).s);
    return CADRE_OK;
}

static cadre_err bind(struct packed_file *f, const bool known[DTYPE_COUNT], uint64_t *used, cadre_error *err)
{
    const struct gguf *g = f->outer;
    const int64_t *place = NULL;
    int64_t n = 0, rows = 0, records = 0;
    bool found;
    TRY(gguf_get_i64s(g, PACKED_TENSORS, &place, &n, &found, err));
    CHECK(err, n == f->inner->n_tensors, CADRE_E_FORMAT, "%s: key '" PACKED_TENSORS "': expected %lld, found %lld",
          g->path, (long long)f->inner->n_tensors, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = &f->inner->tensor[i].t;
        rows += gguf_tensor_find(g, t->name) != NULL;
        f->strips[i].outer = -1;
        if (place[i] < 0 || gguf_tensor_find(g, t->name))
            TRY(check_rows(g, t, err));
        if (place[i] < 0)
            continue;
        if (place[i] >= g->n_tensors || !known[t->type])
            return wrong(g, err, "expected strips in one of its tensors, with a layout that it names");
        records += used[place[i]] == 0;
        TRY(bind_strips(f, i, place[i], &used[place[i]], err));
    }
    for (int64_t i = 0; i < g->n_tensors; i++)
        if (used[i] && align_up(used[i], PACKED_PAGE) != (uint64_t)g->tensor[i].t.dim[0])
            return wrong(g, err, "a record is larger than its tensors");
    if (g->alignment % PACKED_PAGE || rows + records + 1 != g->n_tensors)
        return wrong(g, err, "expected whole pages, and no tensors besides");
    return CADRE_OK;
}

static cadre_err check_all(struct packed_file *f, cadre_error *err)
{
    bool known[DTYPE_COUNT] = {false};
    TRY(check_version(f->outer, err));
    TRY(check_layouts(f->outer, known, err));
    TRY(open_inner(f, err));
    f->strips = calloc((size_t)f->inner->n_tensors + 1, sizeof *f->strips);
    uint64_t *used = calloc((size_t)f->outer->n_tensors + 1, sizeof *used);
    cadre_err rc = f->strips && used ? bind(f, known, used, err)
                                     : error_set(err, CADRE_E_MEMORY, "%s: no memory for its tensors", f->outer->path);
    free(used);
    return rc;
}

cadre_err gguf_unwrap(struct gguf **out, struct gguf *g, cadre_error *err)
{
    struct packed_file *f = calloc(1, sizeof *f);
    *out = NULL;
    if (!f) {
        gguf_close(g);
        return error_set(err, CADRE_E_MEMORY, "no memory for a packed model");
    }
    f->outer = g;
    pthread_mutex_init(&f->lock, NULL);
    cadre_err rc = check_all(f, err);
    if (rc != CADRE_OK) {
        struct gguf *inner = f->inner;
        packed_close(f);
        gguf_close(inner);
        return rc;
    }
    f->inner->source = (struct gguf_source){f, packed_read, packed_close, gguf_stamp(g)};
    f->inner->packed = f;
    *out = f->inner;
    return CADRE_OK;
}

/* ---- what a model asks */

const struct gguf *gguf_packed_outer(const struct gguf *g)
{
    return g->packed->outer;
}

bool gguf_is_packed(const struct gguf *g)
{
    return g->packed != NULL;
}

bool gguf_strips(const struct gguf *g, const struct gguf_tensor *t, uint64_t *offset, uint64_t *stride)
{
    const struct in_strips *s = g->packed ? &g->packed->strips[gguf_tensor_index(g, t)] : NULL;
    if (!s || s->outer < 0)
        return false;
    *offset = s->offset;
    *stride = s->stride;
    return true;
}

bool gguf_rows(const struct gguf *g, const struct gguf_tensor *t, uint64_t *offset)
{
    const struct gguf_tensor *o = g->packed ? gguf_tensor_find(g->packed->outer, t->name) : NULL;
    if (o)
        *offset = o->offset;
    return o != NULL;
}

cadre_err gguf_map(const struct gguf *g, struct file_map *out, cadre_error *err)
{
    const struct gguf *o = g->packed ? g->packed->outer : g;
    return file_map_open(out, o->fd, o->path, o->size, err);
}
