/* Packed files, written, and what was packed into them written again. gguf_packed.c shows how they are built. */
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/fileio.h"
#include "base/pool.h"
#include "file/gguf_packed.h"

enum { COPY_BYTES = 1 << 22, PIECE_ROWS = 16 * STRIP };

bool gguf_can_pack(enum dtype type, int64_t k)
{
    struct strip_map *m = dtype_info(type)->gguf >= 0 ? strip_map_new(type, k) : NULL;
    free(m);
    return m != NULL;
}

/* What one slice of a tensor takes in its record. */
struct share {
    int32_t record; /* -1: none */
    uint64_t bytes, room;
};

struct record {
    char name[128];
    int64_t slices;
    uint64_t bytes; /* of one, whole pages */
    const char *group;
};

struct job {
    const struct gguf *g;
    const struct gguf_pack_options *o;
    struct gguf_writer *w;
    struct share *share; /* [tensors] */
    struct record *record;
    int32_t n_records;
    int64_t done, total; /* bytes */
    unsigned char *rows, *strips;
    cadre_error *error; /* [threads] */
};

static void job_close(struct job *j)
{
    free(j->share);
    free(j->record);
    free(j->rows);
    free(j->strips);
    free(j->error);
}

static uint64_t slice_bytes(const struct gguf_tensor *t)
{
    return t->bytes / (uint64_t)gguf_slices(t);
}

static cadre_err advance(struct job *j, uint64_t bytes, const struct gguf_tensor *t, cadre_error *err)
{
    j->done += (int64_t)bytes;
    CHECK(err, !j->o->progress || j->o->progress(j->o->user, j->done, j->total), CADRE_E_CANCELLED,
          "stopped by the caller at tensor '%s'", shown(t->name, strlen(t->name)).s);
    return CADRE_OK;
}

/* ---- the plan */

static int32_t record_for(struct job *j, const struct gguf_tensor *t, const char *group)
{
    for (int32_t r = 0; group && r < j->n_records; r++)
        if (j->record[r].group && strcmp(j->record[r].group, group) == 0 && j->record[r].slices == gguf_slices(t))
            return r;
    struct record *r = &j->record[j->n_records];
    *r = (struct record){.slices = gguf_slices(t), .group = group};
    snprintf(r->name, sizeof r->name, "%.100s.strips", group ? group : t->name);
    return j->n_records++;
}

static cadre_err plan(struct job *j, cadre_error *err)
{
    size_t n = (size_t)gguf_tensor_count(j->g) + 1;
    uint64_t rows = 1, strips = 1;
    j->share = calloc(n, sizeof *j->share);
    j->record = calloc(n, sizeof *j->record);
    CHECK(err, j->share && j->record, CADRE_E_MEMORY, "no memory to plan %zu tensors", n);
    for (int64_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        struct share *s = &j->share[i];
        s->record = -1;
        j->total += (int64_t)((j->o->tensor[i].rows + j->o->tensor[i].strips) * t->bytes);
        if (!j->o->tensor[i].strips)
            continue;
        s->record = record_for(j, t, j->o->tensor[i].group);
        s->bytes = packed_bytes(t->type, t->dim[1], t->dim[0]);
        s->room = align_up(s->bytes, PACKED_ALIGN);
        j->record[s->record].bytes += s->room;
        rows = slice_bytes(t) > rows ? slice_bytes(t) : rows;
        strips = s->bytes > strips ? s->bytes : strips;
    }
    for (int32_t r = 0; r < j->n_records; r++)
        j->record[r].bytes = align_up(j->record[r].bytes, PACKED_PAGE);
    rows = rows < COPY_BYTES ? COPY_BYTES : rows;
    j->rows = malloc(rows);
    j->strips = malloc(strips);
    CHECK(err, j->rows && j->strips, CADRE_E_MEMORY, "no memory for a matrix of %llu bytes", (unsigned long long)rows);
    return CADRE_OK;
}

/* ---- the head */

static cadre_err put_layouts(const struct job *j, cadre_error *err)
{
    bool used[DTYPE_COUNT] = {false};
    char text[DTYPE_COUNT][48];
    struct gguf_string s[DTYPE_COUNT];
    int64_t n = 0;
    for (int64_t i = 0; i < gguf_tensor_count(j->g); i++)
        if (j->share[i].record >= 0)
            used[gguf_tensor_at(j->g, i)->type] = true;
    for (int type = 0; type < DTYPE_COUNT; type++)
        if (used[type]) {
            char stamp[PACKED_STAMP];
            packed_stamp_text((enum dtype)type, stamp);
            int length = snprintf(text[n], sizeof text[n], "%s %s", dtype_info((enum dtype)type)->name, stamp);
            s[n] = (struct gguf_string){text[n], (uint64_t)length};
            n++;
        }
    return gguf_put_strings(j->w, PACKED_LAYOUTS, s, n, err);
}

static cadre_err put_places(const struct job *j, int32_t n_rows, cadre_error *err)
{
    int64_t n = gguf_tensor_count(j->g);
    int32_t *place = malloc(((size_t)n + 1) * sizeof *place);
    CHECK(err, place, CADRE_E_MEMORY, "no memory for the places of %lld tensors", (long long)n);
    for (int64_t i = 0; i < n; i++)
        place[i] = j->share[i].record < 0 ? -1 : 1 + n_rows + j->share[i].record;
    cadre_err rc = gguf_put_i32s(j->w, PACKED_TENSORS, place, n, err);
    free(place);
    return rc;
}

static cadre_err put_keys(const struct job *j, int32_t n_rows, cadre_error *err)
{
    struct gguf_string name;
    bool found;
    TRY(gguf_put_string(j->w, "general.architecture", PACKED_ARCHITECTURE, strlen(PACKED_ARCHITECTURE), err));
    TRY(gguf_put_u32(j->w, GGUF_ALIGNMENT_KEY, PACKED_PAGE, err));
    TRY(gguf_get_string(j->g, "general.name", &name, &found, err));
    if (found)
        TRY(gguf_put_string(j->w, "general.name", name.p, (size_t)name.n, err));
    TRY(gguf_put_u32(j->w, GGUF_PACKED_VERSION, PACKED_VERSION, err));
    TRY(gguf_put_u64(j->w, PACKED_SIZE, j->g->size, err));
    TRY(put_layouts(j, err));
    return put_places(j, n_rows, err);
}

static cadre_err put_head(const struct job *j, cadre_error *err)
{
    int32_t n_rows = 0;
    const int64_t head[1] = {(int64_t)j->g->data};
    for (int64_t i = 0; i < gguf_tensor_count(j->g); i++)
        n_rows += j->o->tensor[i].rows;
    TRY(put_keys(j, n_rows, err));
    TRY(gguf_put_tensor(j->w, PACKED_HEAD, DTYPE_I8, 1, head, err));
    for (int64_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        if (j->o->tensor[i].rows)
            TRY(gguf_put_tensor(j->w, t->name, t->type, t->n_dims, t->dim, err));
    }
    for (int32_t r = 0; r < j->n_records; r++) {
        const int64_t dim[2] = {(int64_t)j->record[r].bytes, j->record[r].slices};
        TRY(gguf_put_tensor(j->w, j->record[r].name, DTYPE_I8, 2, dim, err));
    }
    return gguf_write_begin(j->w, err);
}

/* ---- the data */

static cadre_err copy_bytes(struct job *j, uint64_t from, uint64_t n, cadre_error *err)
{
    for (uint64_t some; n > 0; n -= some, from += some) {
        some = n < COPY_BYTES ? n : COPY_BYTES;
        TRY(file_read_at(j->g->fd, j->g->path, from, j->rows, (size_t)some, err));
        TRY(gguf_write_data(j->w, j->rows, some, err));
    }
    return CADRE_OK;
}

struct fill {
    const struct job *j;
    const struct gguf_tensor *t;
};

static void fill_piece(void *arg, int64_t item, int worker)
{
    const struct fill *f = arg;
    const struct gguf_tensor *t = f->t;
    int64_t row = item * PIECE_ROWS, n = min_i64(PIECE_ROWS, t->dim[1] - row);
    uint64_t row_bytes = slice_bytes(t) / (uint64_t)t->dim[1];
    packed_fill(f->j->o->ks, f->j->strips + (row ? packed_bytes(t->type, row, t->dim[0]) : 0), t->type,
                f->j->rows + (uint64_t)row * row_bytes, n, t->dim[0]);
    (void)worker;
}

static cadre_err write_zeros(struct job *j, uint64_t n, cadre_error *err)
{
    static const char zeros[PACKED_PAGE];
    for (uint64_t some; n > 0; n -= some) {
        some = n < sizeof zeros ? n : sizeof zeros;
        TRY(gguf_write_data(j->w, zeros, some, err));
    }
    return CADRE_OK;
}

static cadre_err write_slice(struct job *j, int64_t tensor, int64_t slice, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_at(j->g, tensor);
    struct fill f = {j, t};
    TRY(gguf_slice_read(j->g, t, slice, j->rows, err));
    pool_run(j->o->pool, (t->dim[1] + PIECE_ROWS - 1) / PIECE_ROWS, fill_piece, &f);
    TRY(gguf_write_data(j->w, j->strips, j->share[tensor].bytes, err));
    TRY(write_zeros(j, j->share[tensor].room - j->share[tensor].bytes, err));
    return advance(j, slice_bytes(t), t, err);
}

static cadre_err write_record(struct job *j, int32_t record, cadre_error *err)
{
    const struct record *r = &j->record[record];
    for (int64_t slice = 0; slice < r->slices; slice++) {
        uint64_t used = 0;
        for (int64_t i = 0; i < gguf_tensor_count(j->g); i++)
            if (j->share[i].record == record) {
                TRY(write_slice(j, i, slice, err));
                used += j->share[i].room;
            }
        TRY(write_zeros(j, r->bytes - used, err));
    }
    return CADRE_OK;
}

static cadre_err write_all(struct job *j, cadre_error *err)
{
    TRY(put_head(j, err));
    TRY(copy_bytes(j, 0, j->g->data, err));
    for (int64_t i = 0; i < gguf_tensor_count(j->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(j->g, i);
        if (!j->o->tensor[i].rows)
            continue;
        TRY(copy_bytes(j, t->offset, t->bytes, err));
        TRY(advance(j, t->bytes, t, err));
    }
    for (int32_t r = 0; r < j->n_records; r++)
        TRY(write_record(j, r, err));
    return CADRE_OK;
}

cadre_err gguf_pack(const char *path, const struct gguf *g, const struct gguf_pack_options *o, cadre_error *err)
{
    CHECK(err, !g->source.read, CADRE_E_UNSUPPORTED,
          "%s: expected one GGUF file, not packed yet; 'cadre convert' makes "
          "one of a split model or a directory",
          g->path);
    CHECK(err, gguf_size_fits(g), CADRE_E_FORMAT, "%s: expected nothing but tensors and padding after the head",
          g->path);
    struct job j = {.g = g, .o = o};
    cadre_err rc = plan(&j, err);
    if (rc == CADRE_OK)
        rc = gguf_writer_open(&j.w, path, err);
    if (rc == CADRE_OK) {
        rc = write_all(&j, err);
        if (rc == CADRE_OK)
            rc = gguf_writer_commit(j.w, err);
        else
            gguf_writer_abort(j.w);
    }
    job_close(&j);
    return rc;
}

/* ---- and back */

struct back {
    struct job j;
    struct atomic_file file;
    uint64_t at; /* bytes written */
    const struct gguf_tensor *t;
    int64_t first; /* slice in rows[0 …] */
};

static cadre_err put(struct back *b, const void *p, uint64_t n, cadre_error *err)
{
    b->at += n;
    return atomic_file_write(&b->file, p, (size_t)n, err);
}

static cadre_err fill_up(struct back *b, uint64_t to, cadre_error *err)
{
    static const char zeros[PACKED_PAGE];
    while (b->at < to)
        TRY(put(b, zeros, to - b->at < sizeof zeros ? to - b->at : sizeof zeros, err));
    return CADRE_OK;
}

static void read_slice(void *arg, int64_t item, int worker)
{
    struct back *b = arg;
    cadre_error *e = &b->j.error[worker];
    if (e->code == CADRE_OK)
        gguf_slice_read(b->j.g, b->t, b->first + item, b->j.rows + (uint64_t)item * slice_bytes(b->t), e);
}

static cadre_err put_tensor(struct back *b, const struct gguf_tensor *t, cadre_error *err)
{
    int threads = pool_threads(b->j.o->pool);
    uint64_t bytes = slice_bytes(t);
    b->t = t;
    TRY(fill_up(b, t->offset, err));
    unsigned char *wider = realloc(b->j.rows, (size_t)threads * bytes + 1);
    CHECK(err, wider, CADRE_E_MEMORY, "no memory for %d matrices of %llu bytes", threads, (unsigned long long)bytes);
    b->j.rows = wider;
    for (b->first = 0; b->first < gguf_slices(t); b->first += threads) {
        int64_t n = min_i64(threads, gguf_slices(t) - b->first);
        pool_run(b->j.o->pool, n, read_slice, b);
        for (int i = 0; i < threads; i++)
            if (b->j.error[i].code != CADRE_OK) {
                if (err)
                    *err = b->j.error[i];
                return b->j.error[i].code;
            }
        TRY(put(b, b->j.rows, (uint64_t)n * bytes, err));
        TRY(advance(&b->j, (uint64_t)n * bytes, t, err));
    }
    return CADRE_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static cadre_err put_file(struct back *b, const struct gguf_tensor **order, cadre_error *err)
{
    const struct gguf *g = b->j.g, *outer = gguf_packed_outer(g);
    const struct gguf_tensor *head = gguf_tensor_find(outer, PACKED_HEAD);
    b->j.rows = malloc(head->bytes);
    CHECK(err, b->j.rows, CADRE_E_MEMORY, "no memory for %llu bytes", (unsigned long long)head->bytes);
    TRY(gguf_tensor_read(outer, head, b->j.rows, err));
    TRY(put(b, b->j.rows, head->bytes, err));
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        order[i] = gguf_tensor_at(g, i);
        b->j.total += (int64_t)order[i]->bytes;
    }
    qsort(order, (size_t)gguf_tensor_count(g), sizeof *order, by_offset);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        TRY(put_tensor(b, order[i], err));
    return fill_up(b, g->size, err);
}

cadre_err gguf_unpack(const char *path, const struct gguf *g, const struct gguf_pack_options *o, cadre_error *err)
{
    CHECK(err, gguf_is_packed(g), CADRE_E_ARG, "%s: expected a packed file", g->path);
    struct back b = {.j = {.g = g, .o = o}};
    const struct gguf_tensor **order = malloc(((size_t)gguf_tensor_count(g) + 1) * sizeof(const struct gguf_tensor *));
    b.j.error = calloc((size_t)pool_threads(o->pool), sizeof *b.j.error);
    cadre_err rc = order && b.j.error ? atomic_file_open(&b.file, path, err)
                                      : error_set(err, CADRE_E_MEMORY, "no memory to order the tensors");
    if (rc == CADRE_OK) {
        rc = put_file(&b, order, err);
        if (rc == CADRE_OK)
            rc = atomic_file_commit(&b.file, err);
        else
            atomic_file_abort(&b.file);
    }
    free(order);
    job_close(&b.j);
    return rc;
}
