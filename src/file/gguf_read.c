/* Opening a GGUF file. A hostile file must cost neither more memory than a small multiple of its metadata nor a
 * crash, so opening has two passes:
 *
 *   scan  walks the metadata front to back. Nothing is read, allocated or skipped for a number that does not fit into
 *         what is left of the file. The bytes walked over are kept in `meta`, which grows by reading on.
 *   bind  runs when `meta` no longer moves: strings get their final 0, arrays become tables of gguf_string, int64_t
 *         or double, names are indexed, tensor ranges are checked against the file and each other.
 *
 * A string's final 0 costs no copy of the string: it moves down by one byte, over the last byte of its length, which
 * has been read by then. A vocabulary of 150,000 tokens thus is one table of (pointer, length) and no allocation more.
 */
#include <stdarg.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "file/gguf_internal.h"

enum { FIRST_READ = 1 << 18 };

struct reader {
    struct gguf *g;
    uint64_t pos;    /* next byte to look at */
    uint64_t filled; /* bytes of the file in g->meta, which is as large */
    char part[160];  /* what is being read, for error texts */
    cadre_error *err;
};

__attribute__((format(printf, 4, 5))) static cadre_err bad(const struct reader *r, uint64_t at, cadre_err code,
                                                           const char *fmt, ...)
{
    if (r->err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(r->err->text, sizeof r->err->text, fmt, ap);
        va_end(ap);
    }
    return error_wrap(r->err, code, "%s: %s at byte %llu", r->g->path, r->part, (unsigned long long)at);
}

static cadre_err read_on(struct reader *r, uint64_t end)
{
    if (r->g->fd < 0)
        return bad(r, r->pos, CADRE_E_FORMAT, "the head of the file that was packed ends here");
    uint64_t want = max_i64((int64_t)end, max_i64(FIRST_READ, 2 * (int64_t)r->filled));
    want = want < r->g->size ? want : r->g->size;
    unsigned char *p = realloc(r->g->meta, (size_t)want);
    if (!p)
        return bad(r, r->pos, CADRE_E_MEMORY, "no memory for %llu bytes of metadata", (unsigned long long)want);
    r->g->meta = p;
    TRY(file_read_at(r->g->fd, r->g->path, r->filled, p + r->filled, (size_t)(want - r->filled), r->err));
    r->filled = want;
    return CADRE_OK;
}

/* Make sure that the next n bytes exist and are in memory. */
static cadre_err need(struct reader *r, uint64_t n)
{
    uint64_t end;
    if (!add_ok(r->pos, n, &end) || end > r->g->size)
        return bad(r, r->pos, CADRE_E_FORMAT, "expected %llu more bytes, the file has %llu left", (unsigned long long)n,
                   (unsigned long long)(r->g->size - r->pos));
    if (end > GGUF_MAX_METADATA)
        return bad(r, r->pos, CADRE_E_FORMAT, "expected at most %d bytes of metadata, found %llu", GGUF_MAX_METADATA,
                   (unsigned long long)end);
    return end <= r->filled ? CADRE_OK : read_on(r, end);
}

static cadre_err read_u32(struct reader *r, uint32_t *out)
{
    TRY(need(r, sizeof *out));
    *out = gguf_u32(r->g->meta + r->pos);
    r->pos += sizeof *out;
    return CADRE_OK;
}

static cadre_err read_u64(struct reader *r, uint64_t *out)
{
    TRY(need(r, sizeof *out));
    *out = gguf_u64(r->g->meta + r->pos);
    r->pos += sizeof *out;
    return CADRE_OK;
}

/* A count of items that take at least `least` bytes each. */
static cadre_err read_count(struct reader *r, const char *what, uint64_t least, uint64_t max, uint64_t *out)
{
    uint64_t at = r->pos;
    TRY(read_u64(r, out));
    uint64_t room = (r->g->size - r->pos) / least;
    if (*out > room || *out > max)
        return bad(r, at, CADRE_E_FORMAT, "expected at most %llu %s%s, found %llu",
                   (unsigned long long)(room < max ? room : max), what,
                   room < max ? " in what is left of the file" : "", (unsigned long long)*out);
    return CADRE_OK;
}

static cadre_err scan_string(struct reader *r, uint64_t *at, uint64_t *n)
{
    TRY(read_count(r, "bytes in a string", 1, GGUF_MAX_METADATA, n));
    TRY(need(r, *n));
    *at = r->pos;
    r->pos += *n;
    return CADRE_OK;
}

/* A key or tensor name. From here on error texts call the part "<what> '<name>'". */
static cadre_err scan_name(struct reader *r, const char *what, uint64_t *at, uint64_t *n)
{
    TRY(scan_string(r, at, n));
    const char *s = (const char *)r->g->meta + *at;
    if (*n == 0 || *n > GGUF_MAX_KEY)
        return bad(r, *at, CADRE_E_FORMAT, "expected a name of 1 to %d bytes, found %llu", GGUF_MAX_KEY,
                   (unsigned long long)*n);
    if (memchr(s, 0, (size_t)*n))
        return bad(r, *at, CADRE_E_FORMAT, "expected a name without 0 bytes, found '%s'", shown(s, (size_t)*n).s);
    snprintf(r->part, sizeof r->part, "%s '%s'", what, shown(s, (size_t)*n).s);
    return CADRE_OK;
}

static cadre_err scan_type(struct reader *r, uint32_t *type)
{
    uint64_t at = r->pos;
    TRY(read_u32(r, type));
    if (*type >= GGUF_TYPE_COUNT)
        return bad(r, at, CADRE_E_FORMAT, "expected a value type below %d, found %u", GGUF_TYPE_COUNT, *type);
    return CADRE_OK;
}

static cadre_err scan_elements(struct reader *r, uint32_t type, uint64_t n, int depth);

static cadre_err scan_array(struct reader *r, uint32_t *elem, uint64_t *n, int depth)
{
    if (depth > GGUF_MAX_DEPTH)
        return bad(r, r->pos, CADRE_E_FORMAT, "expected arrays nested at most %d deep", GGUF_MAX_DEPTH);
    TRY(scan_type(r, elem));
    const struct gguf_type_info *t = gguf_type_info(*elem);
    uint64_t least = t->kind == GGUF_KIND_STRING ? 8 : t->kind == GGUF_KIND_ARRAY ? 4 + 8 : t->bytes;
    TRY(read_count(r, "array elements", least, GGUF_MAX_ARRAY, n));
    return CADRE_OK;
}

static cadre_err scan_elements(struct reader *r, uint32_t type, uint64_t n, int depth)
{
    const struct gguf_type_info *t = gguf_type_info(type);
    if (t->kind == GGUF_KIND_STRING) {
        for (uint64_t i = 0, at, len; i < n; i++)
            TRY(scan_string(r, &at, &len));
    } else if (t->kind == GGUF_KIND_ARRAY) {
        for (uint64_t i = 0; i < n; i++) {
            uint32_t elem;
            uint64_t count;
            TRY(scan_array(r, &elem, &count, depth + 1));
            TRY(scan_elements(r, elem, count, depth + 1));
        }
    } else {
        TRY(need(r, n * t->bytes)); /* n is at most GGUF_MAX_ARRAY */
        for (uint64_t i = 0; t->kind == GGUF_KIND_BOOL && i < n; i++)
            if (r->g->meta[r->pos + i] > 1)
                return bad(r, r->pos + i, CADRE_E_FORMAT, "expected a bool of 0 or 1, found %u",
                           r->g->meta[r->pos + i]);
        r->pos += n * t->bytes;
    }
    return CADRE_OK;
}

static cadre_err scan_kv(struct reader *r, struct gguf_kv *kv)
{
    TRY(scan_name(r, "key", &kv->key_at, &kv->key.n));
    TRY(scan_type(r, &kv->type));
    switch (gguf_type_info(kv->type)->kind) {
    case GGUF_KIND_STRING:
        TRY(scan_string(r, &kv->at, &kv->string.n));
        break;
    case GGUF_KIND_ARRAY:
        TRY(scan_array(r, &kv->elem, &kv->n, 1));
        kv->at = r->pos;
        TRY(scan_elements(r, kv->elem, kv->n, 1));
        break;
    default:
        kv->at = r->pos;
        TRY(scan_elements(r, kv->type, 1, 1));
    }
    kv->bytes = r->pos - kv->at;
    return CADRE_OK;
}

/* Everything about a tensor that can be said without the alignment; t.offset is still relative to the data. */
static cadre_err scan_info(struct reader *r, struct gguf_row *row)
{
    struct gguf_tensor *t = &row->t;
    TRY(scan_name(r, "tensor", &row->name_at, &row->name_n));
    uint32_t n_dims, type;
    uint64_t at = r->pos, n = 1;
    TRY(read_u32(r, &n_dims));
    if (n_dims < 1 || n_dims > GGUF_MAX_DIMS)
        return bad(r, at, CADRE_E_FORMAT, "expected 1 to %d dimensions, found %u", GGUF_MAX_DIMS, n_dims);
    t->n_dims = (int)n_dims;
    for (int d = 0; d < GGUF_MAX_DIMS; d++) {
        uint64_t dim = 1;
        at = r->pos;
        if (d < t->n_dims)
            TRY(read_u64(r, &dim));
        if (dim == 0 || !mul_ok(n, dim, &n) || n > INT64_MAX)
            return bad(r, at, CADRE_E_FORMAT, "dimension %d: expected at least 1 and a product below 2^63, found %llu",
                       d, (unsigned long long)dim);
        t->dim[d] = (int64_t)dim;
    }
    at = r->pos;
    TRY(read_u32(r, &type));
    bool is_private = r->g->own_types && type >= GGUF_PRIVATE_TYPE;
    t->type = is_private ? (enum dtype)(type - GGUF_PRIVATE_TYPE) : dtype_by_gguf(type);
    if (t->type == DTYPE_NONE)
        return bad(r, at, CADRE_E_UNSUPPORTED, "unsupported type: tensor type number %u is not known here", type);
    const struct dtype_info *format = dtype_info(t->type);
    if (t->dim[0] % format->block != 0)
        return bad(r, at, CADRE_E_FORMAT, "expected rows of a multiple of %u numbers for type %s, found %lld",
                   format->block, format->name, (long long)t->dim[0]);
    if (!dtype_size(t->type, n, &t->bytes))
        return bad(r, at, CADRE_E_FORMAT, "its size overflows");
    return read_u64(r, &t->offset);
}

static cadre_err scan(struct reader *r)
{
    struct gguf *g = r->g;
    uint64_t n_tensors, n_kv;
    strcpy(r->part, "header");
    TRY(need(r, GGUF_HEADER_BYTES));
    if (memcmp(g->meta, GGUF_MAGIC, 4) != 0)
        return bad(r, 0, CADRE_E_FORMAT, "expected the letters " GGUF_MAGIC ", found '%s'; this is no GGUF file",
                   shown((const char *)g->meta, 4).s);
    r->pos = 4;
    TRY(read_u32(r, &g->version));
    if (g->version < GGUF_MIN_VERSION || g->version > GGUF_VERSION)
        return bad(r, 4, CADRE_E_UNSUPPORTED, "expected version %d or %d, found %u%s", GGUF_MIN_VERSION, GGUF_VERSION,
                   g->version, g->version > 0xffff ? " (a big-endian file?)" : "");
    TRY(read_count(r, "tensors", GGUF_MIN_INFO_BYTES, GGUF_MAX_TENSORS, &n_tensors));
    TRY(read_count(r, "key values", GGUF_MIN_KV_BYTES, GGUF_MAX_KV, &n_kv));
    g->kv = calloc(n_kv ? n_kv : 1, sizeof *g->kv);
    g->tensor = calloc(n_tensors ? n_tensors : 1, sizeof *g->tensor);
    if (!g->kv || !g->tensor)
        return bad(r, 8, CADRE_E_MEMORY, "no memory for %llu tensors and %llu key values",
                   (unsigned long long)n_tensors, (unsigned long long)n_kv);
    g->n_kv = (int64_t)n_kv;
    g->n_tensors = (int64_t)n_tensors;
    for (int64_t i = 0; i < g->n_kv; i++) {
        snprintf(r->part, sizeof r->part, "key value %lld of %lld", (long long)i, (long long)g->n_kv);
        TRY(scan_kv(r, &g->kv[i]));
    }
    for (int64_t i = 0; i < g->n_tensors; i++) {
        snprintf(r->part, sizeof r->part, "tensor info %lld of %lld", (long long)i, (long long)g->n_tensors);
        TRY(scan_info(r, &g->tensor[i]));
    }
    return CADRE_OK;
}

/* Put a 0 behind the n bytes at `at`, which a length of 8 bytes precedes. */
static const char *terminated(struct gguf *g, uint64_t at, uint64_t n)
{
    char *s = (char *)g->meta + at - 1;
    memmove(s, s + 1, (size_t)n);
    s[n] = 0;
    return s;
}

static uint64_t table_bytes(const struct gguf_kv *kv)
{
    if (kv->type != GGUF_ARRAY || gguf_type_info(kv->elem)->kind == GGUF_KIND_ARRAY)
        return 0;
    return kv->n * (kv->elem == GGUF_STRING ? sizeof(struct gguf_string) : sizeof(int64_t));
}

static void fill_table(struct gguf *g, struct gguf_kv *kv, void *table)
{
    const struct gguf_type_info *t = gguf_type_info(kv->elem);
    struct gguf_string *strings = table;
    int64_t *integers = table;
    double *floats = table;
    kv->table = table;
    uint64_t at = kv->at;
    for (uint64_t i = 0; i < kv->n; i++) {
        if (t->kind == GGUF_KIND_STRING) {
            uint64_t n = gguf_u64(g->meta + at);
            strings[i] = (struct gguf_string){terminated(g, at + 8, n), n};
            at += 8 + n;
        } else {
            if (t->kind == GGUF_KIND_FLOAT)
                floats[i] = gguf_load_f64(kv->elem, g->meta + at);
            else if (!gguf_load_i64(kv->elem, g->meta + at, &integers[i]))
                kv->beyond_i64 = true;
            at += t->bytes;
        }
    }
}

static cadre_err bind_kvs(struct reader *r)
{
    struct gguf *g = r->g;
    uint64_t total = 0; /* at most 2^16 keys of 2^24 elements of 16 bytes; in truth 8 times the metadata */
    for (int64_t i = 0; i < g->n_kv; i++)
        total += table_bytes(&g->kv[i]);
    g->tables = malloc(total ? (size_t)total : 1);
    if (!g->tables)
        return bad(r, GGUF_HEADER_BYTES, CADRE_E_MEMORY, "no memory for %llu bytes of arrays",
                   (unsigned long long)total);
    char *table = g->tables;
    for (int64_t i = 0; i < g->n_kv; i++) {
        struct gguf_kv *kv = &g->kv[i];
        bool taken;
        kv->key.p = terminated(g, kv->key_at, kv->key.n);
        TRY(name_index_put(&g->keys, kv->key.p, i, &taken, r->err));
        snprintf(r->part, sizeof r->part, "key '%s'", shown(kv->key.p, (size_t)kv->key.n).s);
        if (taken)
            return bad(r, kv->key_at, CADRE_E_FORMAT, "expected every key once, found it again");
        if (kv->type == GGUF_STRING)
            kv->string.p = terminated(g, kv->at, kv->string.n);
        if (table_bytes(kv) > 0)
            fill_table(g, kv, table);
        table += table_bytes(kv);
    }
    return CADRE_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static cadre_err check_overlap(struct reader *r)
{
    struct gguf *g = r->g;
    const struct gguf_tensor **order = malloc((size_t)(g->n_tensors + 1) * sizeof *order);
    if (!order)
        return bad(r, 0, CADRE_E_MEMORY, "no memory to sort %lld tensors", (long long)g->n_tensors);
    for (int64_t i = 0; i < g->n_tensors; i++)
        order[i] = &g->tensor[i].t;
    qsort(order, (size_t)g->n_tensors, sizeof *order, by_offset);
    cadre_err rc = CADRE_OK;
    for (int64_t i = 1; i < g->n_tensors && rc == CADRE_OK; i++) {
        const struct gguf_tensor *a = order[i - 1], *b = order[i];
        if (a->offset + a->bytes > b->offset)
            rc =
                bad(r, b->offset, CADRE_E_FORMAT, "expected tensors apart, found '%s' inside the %llu bytes of '%s'",
                    shown(b->name, strlen(b->name)).s, (unsigned long long)a->bytes, shown(a->name, strlen(a->name)).s);
    }
    free(order);
    return rc;
}

static cadre_err bind_tensors(struct reader *r)
{
    struct gguf *g = r->g;
    uint64_t data = g->data = align_up(r->pos, g->alignment);
    for (int64_t i = 0; i < g->n_tensors; i++) {
        struct gguf_row *row = &g->tensor[i];
        struct gguf_tensor *t = &row->t;
        bool taken;
        t->name = terminated(g, row->name_at, row->name_n);
        snprintf(r->part, sizeof r->part, "tensor '%s'", shown(t->name, (size_t)row->name_n).s);
        TRY(name_index_put(&g->names, t->name, i, &taken, r->err));
        if (taken)
            return bad(r, row->name_at, CADRE_E_FORMAT, "expected every tensor name once, found it again");
        if (t->offset % g->alignment != 0)
            return bad(r, row->name_at, CADRE_E_FORMAT, "expected an offset that is a multiple of %llu, found %llu",
                       (unsigned long long)g->alignment, (unsigned long long)t->offset);
        uint64_t end;
        if (!add_ok(t->offset, data, &t->offset) || !add_ok(t->offset, t->bytes, &end) || end > g->size)
            return bad(r, row->name_at, CADRE_E_FORMAT,
                       "expected %llu bytes of data at byte %llu, the file has %llu bytes; is it cut short?",
                       (unsigned long long)t->bytes, (unsigned long long)t->offset, (unsigned long long)g->size);
    }
    strcpy(r->part, "tensor data");
    return check_overlap(r);
}

static cadre_err bind_alignment(struct reader *r)
{
    struct gguf *g = r->g;
    int64_t alignment = GGUF_DEFAULT_ALIGNMENT;
    bool found;
    TRY(gguf_get_i64(g, GGUF_ALIGNMENT_KEY, &alignment, &found, r->err));
    cadre_err rc = gguf_check_alignment(alignment, r->err);
    if (rc != CADRE_OK)
        return error_wrap(r->err, rc, "%s", g->path);
    g->alignment = (uint64_t)alignment;
    return CADRE_OK;
}

static cadre_err new_gguf(struct gguf **out, const char *path, cadre_error *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    *out = g;
    CHECK(err, g, CADRE_E_MEMORY, "%s: no memory to open it", path);
    g->fd = -1;
    g->path = strdup(path);
    CHECK(err, g->path, CADRE_E_MEMORY, "%s: no memory to open it", path);
    return CADRE_OK;
}

static cadre_err scan_and_bind(struct reader *r)
{
    TRY(scan(r));
    TRY(bind_kvs(r));
    TRY(bind_alignment(r));
    return bind_tensors(r);
}

cadre_err gguf_open_part(struct gguf **out, const char *path, cadre_error *err)
{
    struct gguf *g;
    cadre_err rc;
    *out = NULL;
    TRY_OUT(new_gguf(&g, path, err));
    TRY_OUT(file_open(path, &g->fd, &g->size, err));
    TRY_OUT(scan_and_bind(&(struct reader){.g = g, .err = err}));
    *out = g;
    g = NULL;
out:
    gguf_close(g);
    return rc;
}

cadre_err gguf_open(struct gguf **out, const char *path, cadre_error *err)
{
    struct gguf *g;
    int64_t parts = 1;
    bool found;
    *out = NULL;
    TRY(gguf_open_part(&g, path, err));
    cadre_err rc = gguf_get_i64(g, GGUF_SPLIT_COUNT, &parts, &found, err);
    if (rc == CADRE_OK && parts != 1)
        return gguf_join(out, g, err);
    if (rc == CADRE_OK && gguf_has(g, GGUF_PACKED_VERSION))
        return gguf_unwrap(out, g, err);
    if (rc == CADRE_OK)
        *out = g;
    else
        gguf_close(g);
    return rc;
}

/* The end of the data as a file would have it. */
static cadre_err virtual_size(struct gguf_writer *w, uint64_t head, uint64_t *size, cadre_error *err)
{
    CHECK(err, add_ok(head, gguf_writer_data_size(w), size), CADRE_E_FORMAT, "the sizes of the tensors overflow");
    return CADRE_OK;
}

cadre_err gguf_open_virtual(struct gguf **out, struct gguf_writer *w, const char *name, struct gguf_source source,
                            cadre_error *err)
{
    struct gguf *g;
    uint64_t head;
    cadre_err rc;
    *out = NULL;
    TRY_OUT(new_gguf(&g, name, err));
    TRY_OUT(gguf_writer_head(w, &g->meta, &head, err));
    TRY_OUT(virtual_size(w, head, &g->size, err));
    g->source = source;
    g->own_types = true;
    TRY_OUT(scan_and_bind(&(struct reader){.g = g, .filled = head, .err = err}));
    *out = g;
    g = NULL;
out:
    if (rc != CADRE_OK && source.close && !(g && g->source.close))
        source.close(source.ctx);
    gguf_close(g);
    gguf_writer_abort(w);
    return rc;
}

cadre_err gguf_open_head(struct gguf **out, unsigned char *head, uint64_t n, uint64_t size, const char *name,
                         cadre_error *err)
{
    struct gguf *g;
    *out = NULL;
    cadre_err rc = new_gguf(&g, name, err);
    if (rc == CADRE_OK) {
        g->meta = head;
        g->size = size;
        rc = scan_and_bind(&(struct reader){.g = g, .filled = n, .err = err});
    } else {
        free(head);
    }
    if (rc == CADRE_OK)
        *out = g;
    else
        gguf_close(g);
    return rc;
}

uint64_t gguf_stamp(const struct gguf *g)
{
    return g->source.read ? g->source.stamp : file_stamp(g->fd);
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    if (g->source.close)
        g->source.close(g->source.ctx);
    file_close(g->fd);
    name_index_free(&g->keys);
    name_index_free(&g->names);
    free(g->tables);
    free(g->kv);
    free(g->tensor);
    free(g->meta);
    free(g->path);
    free(g);
}

int64_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int64_t i)
{
    return &g->tensor[i].t;
}

int64_t gguf_tensor_index(const struct gguf *g, const struct gguf_tensor *t)
{
    return (int64_t)((const struct gguf_row *)(const void *)t - g->tensor); /* t is the row's first member */
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    int64_t i = name_index_get(&g->names, name);
    return i >= 0 ? &g->tensor[i].t : NULL;
}

int64_t gguf_slices(const struct gguf_tensor *t)
{
    return t->dim[2] * t->dim[3];
}

static cadre_err read_slices(const struct gguf *g, const struct gguf_tensor *t, int64_t first, int64_t n, void *dst,
                             cadre_error *err)
{
    uint64_t bytes = t->bytes / (uint64_t)gguf_slices(t);
    if (!g->source.read)
        return file_read_at(g->fd, g->path, t->offset + (uint64_t)first * bytes, dst, (size_t)((uint64_t)n * bytes),
                            err);
    int64_t i = gguf_tensor_index(g, t);
    for (int64_t s = 0; s < n; s++)
        TRY(g->source.read(g->source.ctx, i, first + s, (unsigned char *)dst + (uint64_t)s * bytes, err));
    return CADRE_OK;
}

static cadre_err name_failed(const struct gguf_tensor *t, cadre_err rc, cadre_error *err)
{
    return rc == CADRE_OK ? rc : error_wrap(err, rc, "tensor '%s'", shown(t->name, strlen(t->name)).s);
}

cadre_err gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *t, void *dst, cadre_error *err)
{
    return name_failed(t, read_slices(g, t, 0, gguf_slices(t), dst, err), err);
}

cadre_err gguf_slice_read(const struct gguf *g, const struct gguf_tensor *t, int64_t slice, void *dst, cadre_error *err)
{
    return name_failed(t, read_slices(g, t, slice, 1, dst, err), err);
}

void gguf_will_read(const struct gguf *g, const struct gguf_tensor *t)
{
    if (!g->source.read)
        file_will_read(g->fd, t->offset, t->bytes);
}

bool gguf_has_pieces(const struct gguf *g)
{
    return !g->source.read;
}

cadre_err gguf_piece_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n,
                          cadre_error *err)
{
    return name_failed(t, file_read_at(g->fd, g->path, t->offset + from, dst, n, err), err);
}
