#include "model/hf/bind.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "file/names.h"
#include "model/spec.h"

/* A tensor here and where its numbers come from: `n_source` matrices there (one an expert), or one with all of them. */
struct bound {
    char name[64];
    unsigned flags;
    enum dtype from, type; /* as stored; here */
    int64_t *source;       /* [n_source] indices into the stored tensors; NULL: made */
    int64_t n_source;
    int64_t rows, cols; /* of a matrix there, as [out, in] */
    int64_t units;      /* matrices here */
    struct hf_map map;
    int n_dims;
    int64_t dim[GGUF_MAX_DIMS]; /* as in GGUF */
    float *made;
};

struct hf_binding {
    struct hf_stored *stored;
    struct bound *bound;
    int64_t n, room;
    bool *used; /* [stored] */
};

/* ---- shapes ------------------------------------------------------------------------------------------------- */

static cadre_err wrong_shape(const struct hf_config *c, const struct hf_matrix *m, const char *expected,
                             cadre_error *err)
{
    char found[128] = "";
    int n = 0;
    for (int i = 0; i < m->n_dims; i++)
        n += snprintf(found + n, sizeof found - (size_t)n, "%s%lld", i ? ", " : "", (long long)m->dim[i]);
    return error_set(err, CADRE_E_FORMAT, "%.*s: tensor '%s': expected %s, found shape [%s]",
                     (int)(strlen(c->path) - strlen("/config.json")), c->path, shown(m->name, strlen(m->name)).s,
                     expected, found);
}

/* Dimensions of 1 left out of a flat one; at least one stays. */
static struct hf_matrix flatten(const struct hf_matrix *m, unsigned flags)
{
    struct hf_matrix flat = *m;
    if (!(flags & HF_FLAT))
        return flat;
    flat.n_dims = 0;
    for (int i = 0; i < m->n_dims; i++)
        if (m->dim[i] != 1)
            flat.dim[flat.n_dims++] = m->dim[i];
    if (flat.n_dims == 0)
        flat.dim[flat.n_dims++] = 1;
    return flat;
}

/* The shape here of a tensor whose (first) matrix there is m. */
static cadre_err shape(const struct hf_config *c, const struct hf_dims *d, enum hf_form form, bool stack,
                       const struct hf_matrix *stored, struct bound *b, cadre_error *err)
{
    struct hf_matrix m = flatten(stored, b->flags);
    bool vectors = b->flags & HF_VECTORS;
    int most = stack ? 2 : 3, least = vectors && !stack ? 2 : 1, own = m.n_dims;
    if (m.n_dims < least || m.n_dims > most || (vectors && m.n_dims > least))
        return wrong_shape(c, stored, stack ? "a vector or a matrix an expert" : "a vector, a matrix or a stack", err);
    for (int i = 0; i < own; i++)
        if (m.dim[i] < 1)
            return wrong_shape(c, stored, "dimensions of at least 1", err);
    bool lead = !stack && own == least + (vectors ? 0 : 2); /* the first dimension counts matrices */
    int at = lead ? 1 : 0;
    bool vector = own - at == 1;
    b->units = stack ? b->n_source : lead ? m.dim[0] : 1;
    b->rows = m.dim[at];
    b->cols = vector ? 1 : m.dim[at + 1];
    if (b->flags & HF_STORED_T) {
        b->rows = m.dim[at + 1];
        b->cols = m.dim[at];
        if (vector)
            return wrong_shape(c, stored, "a matrix", err);
    }
    if (!hf_map_of(form, d, b->rows, b->cols, &b->map) || (b->map.units > 1 && b->units > 1))
        return wrong_shape(c, stored, "as many rows as the config's heads and sizes make", err);
    b->units *= b->map.units;
    b->n_dims = 0;
    if (!vector)
        b->dim[b->n_dims++] = b->map.transposed ? b->map.count : b->cols;
    b->dim[b->n_dims++] = b->map.transposed ? b->cols : b->map.count;
    if (stack || lead || b->map.units > 1)
        b->dim[b->n_dims++] = b->units;
    return CADRE_OK;
}

/* Vectors and what says so are f32 here; so is a block format whose rows do not stay rows. */
static enum dtype type_here(const struct bound *b)
{
    const struct dtype_info *from = dtype_info(b->from);
    const struct hf_turn *inputs = &b->map.inputs;
    bool turned = from->block > 1 && (b->map.transposed || (inputs->a > 0 && inputs->size % from->block != 0));
    bool wanted = b->n_dims == 1 || (b->flags & (HF_F32 | HF_VECTORS)) || turned;
    return from->decode && wanted ? DTYPE_F32 : b->from;
}

/* ---- binding ------------------------------------------------------------------------------------------------ */

struct binder {
    struct hf_binding *b;
    const struct hf_config *c;
    const struct hf_dims *d;
    cadre_error *err;
};

static cadre_err new_bound(struct hf_binding *b, struct bound **out, cadre_error *err)
{
    if (b->n == b->room) {
        int64_t room = 2 * b->room + 64;
        struct bound *wider = realloc(b->bound, (size_t)room * sizeof *wider);
        CHECK(err, wider, CADRE_E_MEMORY, "no memory for %lld tensors", (long long)room);
        b->bound = wider;
        b->room = room;
    }
    *out = &b->bound[b->n];
    **out = (struct bound){0};
    b->n++;
    return CADRE_OK;
}

static bool same_shape(const struct hf_matrix *a, const struct hf_matrix *b)
{
    return a->n_dims == b->n_dims && memcmp(a->dim, b->dim, (size_t)a->n_dims * sizeof *a->dim) == 0;
}

/* Matrices of one tensor have one shape, and one type or else f32 here. */
static cadre_err add_source(struct binder *r, struct bound *b, int64_t at, int64_t index)
{
    const struct hf_matrix *first = hf_stored_at(r->b->stored, b->source[0]);
    const struct hf_matrix *m = hf_stored_at(r->b->stored, index);
    if (at > 0 && !same_shape(m, first))
        return wrong_shape(r->c, m, "the shape of the first expert's", r->err);
    if (at > 0 && m->type != first->type)
        b->flags |= HF_F32;
    b->source[at] = index;
    r->b->used[index] = true;
    return CADRE_OK;
}

static cadre_err bind_one(struct binder *r, const struct hf_tensor *rule, int64_t layer)
{
    char name[256];
    bool stack = strchr(rule->hf, '#') != NULL;
    CHECK(r->err, hf_name_there(name, r->c->hf, rule, layer, 0), CADRE_E_FORMAT, "tensor '%s': name too long",
          rule->hf);
    int64_t index = hf_stored_find(r->b->stored, name);
    if (index < 0)
        return CADRE_OK;
    struct bound *b = NULL;
    TRY(new_bound(r->b, &b, r->err));
    char own[256];
    hf_name_here(own, rule, layer);
    snprintf(b->name, sizeof b->name, "%s", own);
    b->flags = rule->flags;
    b->n_source = stack ? r->d->experts : 1;
    CHECK(r->err, b->n_source > 0, CADRE_E_FORMAT, "%s: expected a number of experts, as there is a tensor '%s'",
          r->c->path, name);
    b->source = calloc((size_t)b->n_source, sizeof *b->source);
    CHECK(r->err, b->source, CADRE_E_MEMORY, "tensor '%s': no memory", name);
    b->source[0] = index;
    for (int64_t e = 0; e < b->n_source; e++) {
        if (e > 0) {
            hf_name_there(name, r->c->hf, rule, layer, e);
            index = hf_stored_find(r->b->stored, name);
            CHECK(r->err, index >= 0, CADRE_E_FORMAT,
                  "%.*s: tensor '%s': expected, as the config has %lld experts, not found",
                  (int)(strlen(r->c->path) - strlen("/config.json")), r->c->path, name, (long long)r->d->experts);
        }
        TRY(add_source(r, b, e, index));
    }
    const struct hf_matrix *m = hf_stored_at(r->b->stored, b->source[0]);
    b->from = m->type;
    TRY(shape(r->c, r->d, rule->form, stack, m, b, r->err));
    CHECK(r->err, dtype_info(b->from)->block == 1 || !(b->flags & HF_STORED_T), CADRE_E_UNSUPPORTED,
          "tensor '%s': type %s is not supported for a matrix stored as [in, out]", name, dtype_info(b->from)->name);
    b->type = type_here(b);
    CHECK(r->err, stack || (rule->flags & HF_VECTORS) || b->n_dims < 3 || b->map.units > 1 || b->units == r->d->experts,
          CADRE_E_FORMAT, "%s: tensor '%s': expected %lld experts, found %lld", r->c->path, name,
          (long long)r->d->experts, (long long)b->units);
    return CADRE_OK;
}

static cadre_err bind_made(struct binder *r, const struct hf_made *made)
{
    struct bound *b = NULL;
    TRY(new_bound(r->b, &b, r->err));
    snprintf(b->name, sizeof b->name, "%s", made->gguf);
    b->type = b->from = DTYPE_F32;
    b->made = made->value;
    b->n_dims = 1;
    b->dim[0] = made->n;
    b->units = 1;
    return CADRE_OK;
}

static cadre_err bind_layer(struct binder *r, int64_t layer, bool tied)
{
    const struct hf_tensor *rule;
    for (int i = 0; (rule = hf_rule_at(r->c->hf, i)) != NULL; i++)
        if (hf_rule_is_of(r->c->hf, rule, layer) && !(tied && (rule->flags & HF_OUTPUT)))
            TRY(bind_one(r, rule, layer));
    return CADRE_OK;
}

/* Not part of any model: buffers that old checkpoints carry, layers beyond the last (predictors of further tokens), the
 * output matrix of a tied one. */
static bool ignored(const struct binder *r, const char *name, bool tied)
{
    static const char inv_freq[] = ".rotary_emb.inv_freq", layers[] = "model.layers.";
    size_t n = strlen(name), end = sizeof inv_freq - 1;
    if (n > end && strcmp(name + n - end, inv_freq) == 0)
        return true;
    if (tied && strcmp(name, "lm_head.weight") == 0)
        return true;
    if (strncmp(name, layers, sizeof layers - 1) == 0 && json_object_get(r->c->root, "num_nextn_predict_layers"))
        return strtoll(name + sizeof layers - 1, NULL, 10) >= r->d->layers / hf_blocks(r->c->hf);
    for (const char *const *p = r->c->hf->ignored; p && *p; p++)
        if (strncmp(name, *p, strlen(*p)) == 0)
            return true;
    return false;
}

static cadre_err check_all_used(const struct binder *r, bool tied)
{
    for (int64_t i = 0; i < hf_stored_count(r->b->stored); i++) {
        const char *name = hf_stored_at(r->b->stored, i)->name;
        CHECK(r->err, r->b->used[i] || ignored(r, name, tied), CADRE_E_UNSUPPORTED,
              "%.*s: tensor '%s' is not part of a %s model as config.json describes it",
              (int)(strlen(r->c->path) - strlen("/config.json")), r->c->path, shown(name, strlen(name)).s,
              r->c->hf->model_type);
    }
    return CADRE_OK;
}

cadre_err hf_bind(struct hf_binding **out, struct hf_stored *stored, const struct hf_config *c, const struct hf_dims *d,
                  struct hf_made *made, int n_made, cadre_error *err)
{
    bool tied;
    cadre_err rc = CADRE_OK;
    struct hf_binding *b = calloc(1, sizeof *b);
    struct binder r = {b, c, d, err};
    *out = NULL;
    if (!b)
        hf_stored_close(stored);
    CHECK_OUT(err, b, CADRE_E_MEMORY, "%s: no memory to open it", c->path);
    b->stored = stored;
    b->used = calloc((size_t)hf_stored_count(stored) + 1, sizeof *b->used);
    CHECK_OUT(err, b->used, CADRE_E_MEMORY, "%s: no memory to open it", c->path);
    TRY_OUT(hf_config_tied(c, &tied, err));
    for (int64_t layer = -1; layer < d->layers; layer++)
        TRY_OUT(bind_layer(&r, layer, tied));
    for (int i = 0; i < n_made; i++) {
        TRY_OUT(bind_made(&r, &made[i]));
        made[i].value = NULL;
    }
    TRY_OUT(check_all_used(&r, tied));
    *out = b;
    b = NULL;
out:
    for (int i = 0; i < n_made; i++)
        free(made[i].value);
    hf_binding_close(b);
    return rc;
}

void hf_binding_close(void *ctx)
{
    struct hf_binding *b = ctx;
    if (!b)
        return;
    for (int64_t i = 0; i < b->n; i++) {
        free(b->bound[i].source);
        free(b->bound[i].made);
    }
    hf_stored_close(b->stored);
    free(b->bound);
    free(b->used);
    free(b);
}

cadre_err hf_binding_put(const struct hf_binding *b, struct gguf_writer *w, cadre_error *err)
{
    for (int64_t i = 0; i < b->n; i++) {
        const struct bound *t = &b->bound[i];
        TRY(gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, err));
    }
    return CADRE_OK;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* Row-major [rows, cols] of elements of `size` bytes to [cols, rows]. */
static void transpose(const unsigned char *src, unsigned char *dst, int64_t rows, int64_t cols, size_t size)
{
    enum { TILE = 32 }; /* keeps both sides in cache */
    for (int64_t r0 = 0; r0 < rows; r0 += TILE)
        for (int64_t c0 = 0; c0 < cols; c0 += TILE)
            for (int64_t r = r0; r < min_i64(rows, r0 + TILE); r++)
                for (int64_t c = c0; c < min_i64(cols, c0 + TILE); c++)
                    memcpy(dst + (size_t)(c * rows + r) * size, src + (size_t)(r * cols + c) * size, size);
}

static uint64_t size_of(enum dtype type, int64_t n)
{
    uint64_t bytes = 0;
    dtype_size(type, (uint64_t)n, &bytes); /* whole rows: cannot fail */
    return bytes;
}

static void convert(const struct bound *b, const unsigned char *src, void *dst, int64_t n)
{
    enum { PIECE = 1024 }; /* a multiple of every block */
    const struct dtype_info *from = dtype_info(b->from), *to = dtype_info(b->type);
    if (b->from == b->type && !(b->flags & (HF_PLUS_ONE | HF_MINUS_EXP))) {
        memcpy(dst, src, (size_t)size_of(b->type, n));
        return;
    }
    float piece[PIECE];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t some = min_i64(PIECE, n - at);
        from->decode(src + size_of(b->from, at), piece, (size_t)some);
        for (int64_t i = 0; (b->flags & HF_PLUS_ONE) && i < some; i++)
            piece[i] += 1;
        for (int64_t i = 0; (b->flags & HF_MINUS_EXP) && i < some; i++)
            piece[i] = -(float)exp((double)piece[i]);
        to->encode(piece, (unsigned char *)dst + size_of(b->type, at), (size_t)some);
    }
}

/* Where the rows of one matrix are, and memory to put them in order. */
struct unit {
    int64_t index, from;  /* stored tensor; its first number */
    int64_t which;        /* of the matrices that one there becomes */
    unsigned char *a, *b; /* as much as the matrix takes, as stored or as f32 */
};

/* Pieces of each row change places; they are whole blocks. */
static void turn_columns(const struct bound *b, const unsigned char *src, unsigned char *dst)
{
    const struct hf_turn *t = &b->map.inputs;
    size_t row = (size_t)size_of(b->type, b->cols), piece = (size_t)size_of(b->type, t->size);
    for (int64_t r = 0; r < b->map.count; r++, src += row, dst += row)
        for (int64_t i = 0; i < b->cols; i += t->size)
            memcpy(dst + (size_t)(i / t->size) * piece, src + (size_t)(hf_turned(t, i) / t->size) * piece, piece);
}

/* Whether the rows that a matrix here takes lie together there. */
static bool together(const struct bound *b)
{
    return b->map.step == 1 && b->map.turn.a == 0 && !(b->flags & HF_STORED_T);
}

static int64_t rows_read(const struct bound *b)
{
    return together(b) ? b->map.count : b->rows;
}

static cadre_err read_rows(const struct hf_binding *h, const struct bound *b, const struct unit *u, void *dst,
                           cadre_error *err)
{
    const struct hf_map *m = &b->map;
    size_t row = (size_t)size_of(b->from, b->cols);
    unsigned char *rows = u->a, *order = u->b;
    int64_t first = together(b) ? hf_map_row(m, u->which, 0) : 0;
    TRY(hf_stored_read(h->stored, u->index, u->from + first * b->cols, rows_read(b) * b->cols, rows, err));
    if (b->flags & HF_STORED_T) {
        transpose(u->a, u->b, b->cols, b->rows, dtype_info(b->from)->bytes);
        rows = u->b;
        order = u->a;
    }
    for (int64_t r = 0; r < m->count; r++)
        memcpy(order + (size_t)r * row, rows + (size_t)(hf_map_row(m, u->which, r) - first) * row, row);
    if (!m->transposed && m->inputs.a == 0) {
        convert(b, order, dst, m->count * b->cols);
        return CADRE_OK;
    }
    convert(b, order, rows, m->count * b->cols);
    if (!m->transposed)
        turn_columns(b, rows, dst);
    else
        transpose(rows, dst, m->count, b->cols, dtype_info(b->type)->bytes);
    return CADRE_OK;
}

/* Rows that lie as they are wanted need no detour. */
static bool straight(const struct bound *b)
{
    return together(b) && b->from == b->type && !(b->flags & (HF_PLUS_ONE | HF_MINUS_EXP)) && b->map.inputs.a == 0 &&
           !b->map.transposed;
}

static cadre_err read_unit(const struct hf_binding *h, const struct bound *b, int64_t unit, void *dst, cadre_error *err)
{
    int64_t matrix = unit / b->map.units;
    struct unit u = {.which = unit % b->map.units};
    u.index = b->source[b->n_source > 1 ? matrix : 0];
    u.from = b->n_source > 1 ? 0 : matrix * b->rows * b->cols;
    if (straight(b))
        return hf_stored_read(h->stored, u.index, u.from + hf_map_row(&b->map, u.which, 0) * b->cols,
                              b->map.count * b->cols, dst, err);
    int64_t n = rows_read(b) * b->cols;
    size_t bytes = (size_t)max_i64((int64_t)size_of(b->from, n), n * (int64_t)sizeof(float));
    u.a = malloc(bytes);
    u.b = malloc(bytes);
    cadre_err rc = u.a && u.b ? read_rows(h, b, &u, dst, err)
                              : error_set(err, CADRE_E_MEMORY, "no memory to rearrange %zu bytes", bytes);
    free(u.a);
    free(u.b);
    return rc;
}

cadre_err hf_binding_read(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err)
{
    const struct hf_binding *h = ctx;
    const struct bound *b = &h->bound[tensor];
    if (b->made) {
        memcpy(dst, b->made, (size_t)b->dim[0] * sizeof *b->made);
        return CADRE_OK;
    }
    if (b->n_dims == 3 || b->units == 1)
        return read_unit(h, b, slice, dst, err);
    size_t bytes = (size_t)b->dim[0] * dtype_info(b->type)->bytes; /* a vector an expert: all in one slice */
    for (int64_t u = 0; u < b->units; u++)
        TRY(read_unit(h, b, u, (unsigned char *)dst + (size_t)u * bytes, err));
    return CADRE_OK;
}
