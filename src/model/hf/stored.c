/* One row of `schemes` for each way to keep a weight in several tensors: which tensors make one, what it then is, and
 * how its numbers come together. Values are exact: the rows have the formats of tensor/assemble.h. */
#include "model/hf/stored.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "file/names.h"
#include "tensor/assemble.h"

enum { MAX_PARTS = 4 };

struct scheme;

struct stored {
    struct hf_matrix m;
    char *own_name; /* NULL: borrowed */
    const struct scheme *scheme;
    int64_t part[MAX_PARTS]; /* indices into the set; -1: not there */
    struct part g_idx;       /* of int4 weights, kept: it decides the format */
};

struct quantization {
    int64_t group;            /* int4 */
    enum int4_kind kind;      /* int4 */
    int64_t block_n, block_k; /* fp8: numbers of a scale; 0: of all, or of a row */
};

struct hf_stored {
    struct st_set *set;
    struct quantization q;
    const struct scheme *scheme; /* of the config; NULL: none */
    struct stored *t;
    int64_t n;
    struct name_index names;
};

struct scheme {
    const char *method; /* quant_method */
    /* The end of the name of the tensor that stands for the weight, what stands in its place in the weight's name, and
     * the ends of the others' names; "?" before one: it may be missing. */
    const char *lead, *name, *others[MAX_PARTS - 1];
    cadre_err (*configure)(struct hf_stored *s, const struct hf_config *c, const json_t *q, cadre_error *err);
    bool (*applies)(const struct st_tensor *lead); /* NULL: always */
    /* Shape and type, all parts checked. */
    cadre_err (*describe)(struct hf_stored *s, struct stored *t, cadre_error *err);
    /* One matrix of it. */
    cadre_err (*assemble)(const struct hf_stored *s, const struct stored *t, const struct part part[MAX_PARTS],
                          void *dst, uint64_t bytes, cadre_error *err);
};

static const struct st_tensor *part_of(const struct hf_stored *s, const struct stored *t, int i)
{
    return t->part[i] < 0 ? NULL : st_set_at(s->set, t->part[i]);
}

static cadre_err need(const struct stored *t, bool ok, const char *what, cadre_error *err)
{
    CHECK(err, ok, CADRE_E_FORMAT, "tensor '%s': expected %s", shown(t->m.name, strlen(t->m.name)).s, what);
    return CADRE_OK;
}

/* ---- FP8: X.weight with X.weight_scale_inv (or X.weight_scale) ------------------------------------------------- */

static cadre_err fp8_configure(struct hf_stored *s, const struct hf_config *c, const json_t *q, cadre_error *err)
{
    const json_t *block = json_object_get(q, "weight_block_size");
    if (!block || json_is_null(block))
        return CADRE_OK;
    const json_t *n = json_array_get(block, 0), *k = json_array_get(block, 1);
    CHECK(err,
          json_array_size(block) == 2 && json_is_integer(n) && json_is_integer(k) && json_integer_value(n) >= 1 &&
              json_integer_value(k) >= 1 && json_integer_value(n) <= 1 << 20 && json_integer_value(k) <= 1 << 20,
          CADRE_E_FORMAT, "%s: key 'weight_block_size': expected two whole numbers of at least 1", c->path);
    s->q.block_n = json_integer_value(n);
    s->q.block_k = json_integer_value(k);
    return CADRE_OK;
}

static bool is_fp8(const struct st_tensor *t)
{
    return t->type == DTYPE_F8_E4M3 || t->type == DTYPE_F8_E5M2;
}

/* The scales there are: a grid, one a row, or one. */
static cadre_err fp8_parts(const struct hf_stored *s, const struct stored *t, struct fp8_parts *p, cadre_error *err)
{
    const struct st_tensor *w = part_of(s, t, 0), *scale = part_of(s, t, 1) ? part_of(s, t, 1) : part_of(s, t, 2);
    TRY(need(t, w->n_dims == 2 && w->dim[0] > 0 && w->dim[1] > 0 && scale != NULL,
             "a matrix with weight_scale_inv or weight_scale", err));
    *p = (struct fp8_parts){.element = w->type, .n = w->dim[0], .k = w->dim[1]};
    int64_t numbers = 1;
    for (int i = 0; i < scale->n_dims; i++)
        TRY(need(t, mul_ok((uint64_t)numbers, (uint64_t)scale->dim[i], (uint64_t *)&numbers), "a grid of scales", err));
    bool grid = s->q.block_n > 0 && scale->n_dims == 2 && scale->dim[0] == (p->n + s->q.block_n - 1) / s->q.block_n &&
                scale->dim[1] == (p->k + s->q.block_k - 1) / s->q.block_k;
    TRY(need(t, grid || numbers == 1 || numbers == p->n, "scales for blocks, rows, or all", err));
    p->scale_n = grid ? s->q.block_n : numbers == 1 ? p->n : 1;
    p->scale_k = grid ? s->q.block_k : p->k;
    p->weight.bytes = w->bytes;
    p->scale.bytes = (uint64_t)numbers * sizeof(float);
    return need(t, scale->type == DTYPE_F32 || scale->type == DTYPE_BF16 || scale->type == DTYPE_F16,
                "scales in F32, BF16 or F16", err);
}

static cadre_err fp8_describe(struct hf_stored *s, struct stored *t, cadre_error *err)
{
    struct fp8_parts p;
    TRY(fp8_parts(s, t, &p, err));
    t->m.type = fp8_type(&p);
    t->m.n_dims = 2;
    t->m.dim[0] = p.n;
    t->m.dim[1] = p.k;
    return CADRE_OK;
}

static cadre_err fp8_rows(const struct hf_stored *s, const struct stored *t, const struct part part[MAX_PARTS],
                          void *dst, uint64_t bytes, cadre_error *err)
{
    struct fp8_parts p;
    TRY(fp8_parts(s, t, &p, err));
    int at = part_of(s, t, 1) ? 1 : 2;
    float *scale = malloc((size_t)p.scale.bytes);
    CHECK(err, scale, CADRE_E_MEMORY, "tensor '%s': no memory for its scales", t->m.name);
    dtype_info(part_of(s, t, at)->type)->decode(part[at].data, scale, (size_t)p.scale.bytes / sizeof *scale);
    p.weight = part[0];
    p.scale.data = scale;
    cadre_err rc = fp8_assemble(dst, bytes, &p, err);
    free(scale);
    return rc;
}

/* ---- GPTQ and AWQ: X.qweight, X.qzeros, X.scales, X.g_idx ------------------------------------------------------- */

static cadre_err int4_config(struct hf_stored *s, const struct hf_config *c, const json_t *q, const char *bits_name,
                             const char *group_name, cadre_error *err)
{
    int64_t bits = 4;
    bool found;
    s->q.group = 128;
    TRY(hf_get_int(c, q, "bits", 1, 64, &bits, &found, err));
    if (!found)
        TRY(hf_get_int(c, q, bits_name, 1, 64, &bits, &found, err));
    CHECK(err, bits == 4, CADRE_E_UNSUPPORTED, "%s: key 'quantization_config': only 4 bits are supported, found %lld",
          c->path, (long long)bits);
    TRY(hf_get_int(c, q, "group_size", -1, 1 << 20, &s->q.group, &found, err));
    if (!found)
        TRY(hf_get_int(c, q, group_name, -1, 1 << 20, &s->q.group, &found, err));
    CHECK(err, s->q.group != 0, CADRE_E_FORMAT, "%s: key 'group_size': expected -1 or at least 1, found 0", c->path);
    return CADRE_OK;
}

static cadre_err gptq_configure(struct hf_stored *s, const struct hf_config *c, const json_t *q, cadre_error *err)
{
    const char *format = "gptq";
    bool found;
    TRY(int4_config(s, c, q, "bits", "group_size", err));
    TRY(hf_get_text(c, q, "checkpoint_format", &format, &found, err));
    bool second = strcmp(format, "gptq_v2") == 0;
    CHECK(err, second || strcmp(format, "gptq") == 0, CADRE_E_UNSUPPORTED,
          "%s: key 'checkpoint_format': only gptq and gptq_v2 are supported, found '%s'", c->path,
          shown(format, strlen(format)).s);
    s->q.kind = second ? INT4_GPTQ_V2 : INT4_GPTQ;
    return CADRE_OK;
}

static cadre_err awq_configure(struct hf_stored *s, const struct hf_config *c, const json_t *q, cadre_error *err)
{
    const char *version = "gemm";
    bool found, zero = true;
    TRY(int4_config(s, c, q, "w_bit", "q_group_size", err));
    TRY(hf_get_text(c, q, "version", &version, &found, err));
    TRY(hf_get_bool(c, q, "zero_point", &zero, &found, err));
    CHECK(err, zero && (strcmp(version, "gemm") == 0 || strcmp(version, "GEMM") == 0), CADRE_E_UNSUPPORTED,
          "%s: key 'quantization_config': of AWQ only version gemm with zero_point is supported, found '%s'%s", c->path,
          shown(version, strlen(version)).s, zero ? "" : " without");
    s->q.kind = INT4_AWQ;
    return CADRE_OK;
}

/* All but the data. */
static cadre_err int4_parts(const struct hf_stored *s, const struct stored *t, struct int4_parts *p, cadre_error *err)
{
    const struct st_tensor *w = part_of(s, t, 0), *zeros = part_of(s, t, 1), *scales = part_of(s, t, 2);
    bool awq = s->q.kind == INT4_AWQ;
    TRY(need(t, w->n_dims == 2 && w->type == DTYPE_I32 && zeros->type == DTYPE_I32 && scales->type == DTYPE_F16,
             "qweight and qzeros in I32, scales in F16", err));
    TRY(need(t, w->dim[0] > 0 && w->dim[1] > 0 && w->dim[0] < INT32_MAX && w->dim[1] < INT32_MAX, "a matrix", err));
    *p = (struct int4_parts){.kind = s->q.kind,
                             .n = awq ? 8 * w->dim[1] : w->dim[1],
                             .k = awq ? w->dim[0] : 8 * w->dim[0],
                             .group = s->q.group,
                             .g_idx = t->g_idx};
    p->qweight.bytes = w->bytes;
    p->qzeros.bytes = zeros->bytes;
    p->scales.bytes = scales->bytes;
    return CADRE_OK;
}

static cadre_err int4_describe(struct hf_stored *s, struct stored *t, cadre_error *err)
{
    struct int4_parts p;
    const struct st_tensor *g = part_of(s, t, 3);
    if (g && g->bytes > 0) {
        TRY(need(t, g->type == DTYPE_I32 && s->q.kind != INT4_AWQ, "g_idx in I32, of GPTQ", err));
        void *data = malloc((size_t)g->bytes);
        CHECK(err, data, CADRE_E_MEMORY, "tensor '%s': no memory for its g_idx", t->m.name);
        t->g_idx = (struct part){data, g->bytes};
        TRY(st_set_read(s->set, t->part[3], 0, data, (size_t)g->bytes, err));
    }
    TRY(int4_parts(s, t, &p, err));
    TRY(int4_type(&t->m.type, &p, err));
    t->m.n_dims = 2;
    t->m.dim[0] = p.n;
    t->m.dim[1] = p.k;
    return CADRE_OK;
}

static cadre_err int4_rows(const struct hf_stored *s, const struct stored *t, const struct part part[MAX_PARTS],
                           void *dst, uint64_t bytes, cadre_error *err)
{
    struct int4_parts p;
    TRY(int4_parts(s, t, &p, err));
    p.qweight = part[0];
    p.qzeros = part[1];
    p.scales = part[2];
    return int4_assemble(dst, bytes, &p, err);
}

/* ---- MXFP4: X_blocks [E, rows, k / 32, 16], X_scales [E, rows, k / 32] ------------------------------------------ */

static cadre_err mxfp4_describe(struct hf_stored *s, struct stored *t, cadre_error *err)
{
    const struct st_tensor *b = part_of(s, t, 0), *scale = part_of(s, t, 1);
    bool ok = b->type == DTYPE_U8 && scale->type == DTYPE_U8 && b->n_dims == 4 && scale->n_dims == 3 && b->dim[3] == 16;
    for (int i = 0; ok && i < 3; i++)
        ok = b->dim[i] > 0 && b->dim[i] < INT32_MAX && b->dim[i] == scale->dim[i];
    TRY(need(t, ok, "blocks U8 [experts, rows, columns / 32, 16] and scales U8 [experts, rows, columns / 32]", err));
    t->m.type = DTYPE_MXFP4;
    t->m.n_dims = 3;
    t->m.dim[0] = b->dim[0];
    t->m.dim[1] = b->dim[1];
    t->m.dim[2] = 32 * b->dim[2];
    return CADRE_OK;
}

static cadre_err mxfp4_rows(const struct hf_stored *s, const struct stored *t, const struct part part[MAX_PARTS],
                            void *dst, uint64_t bytes, cadre_error *err)
{
    (void)s, (void)bytes;
    const struct mxfp4_parts p = {
        .n = t->m.dim[1], .k = t->m.dim[2], .rows = t->m.dim[1], .step = 1, .blocks = part[0], .scales = part[1]};
    return mxfp4_assemble(dst, bytes, &p, err);
}

static const struct scheme schemes[] = {
    {"fp8",
     ".weight",
     ".weight",
     {"?.weight_scale_inv", "?.weight_scale", NULL},
     fp8_configure,
     is_fp8,
     fp8_describe,
     fp8_rows},
    {"gptq", ".qweight", ".weight", {".qzeros", ".scales", "?.g_idx"}, gptq_configure, NULL, int4_describe, int4_rows},
    {"awq", ".qweight", ".weight", {".qzeros", ".scales", NULL}, awq_configure, NULL, int4_describe, int4_rows},
    {"mxfp4", "_blocks", "_blocks", {"_scales", NULL, NULL}, NULL, NULL, mxfp4_describe, mxfp4_rows},
};
enum { N_SCHEMES = sizeof schemes / sizeof *schemes };

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static cadre_err configure(struct hf_stored *s, const struct hf_config *c, cadre_error *err)
{
    const json_t *q = json_object_get(c->root, "quantization_config");
    const char *method = "";
    bool found;
    if (!q || json_is_null(q))
        return CADRE_OK;
    CHECK(err, json_is_object(q), CADRE_E_FORMAT, "%s: key 'quantization_config': expected an object", c->path);
    TRY(hf_get_text(c, q, "quant_method", &method, &found, err));
    for (int i = 0; i < N_SCHEMES; i++)
        if (strcmp(schemes[i].method, method) == 0)
            s->scheme = &schemes[i];
    CHECK(err, s->scheme, CADRE_E_UNSUPPORTED,
          "%s: key 'quantization_config': quant_method '%s' is not supported (fp8, gptq, awq, mxfp4 are)", c->path,
          shown(method, strlen(method)).s);
    return s->scheme->configure ? s->scheme->configure(s, c, q, err) : CADRE_OK;
}

/* `name` with another end; NULL without memory. */
static char *with_end(const char *name, const char *end, const char *other)
{
    char *out;
    int n = (int)(strlen(name) - strlen(end));
    return asprintf(&out, "%.*s%s", n, name, other) >= 0 ? out : NULL;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n > k && strcmp(s + n - k, end) == 0;
}

/* The parts of the weight that tensor `lead` stands for; they are marked as taken. */
static cadre_err gather(struct hf_stored *s, struct stored *t, int64_t lead, bool *taken, cadre_error *err)
{
    const struct scheme *q = s->scheme;
    const char *name = st_set_at(s->set, lead)->name;
    t->own_name = with_end(name, q->lead, q->name);
    CHECK(err, t->own_name, CADRE_E_MEMORY, "tensor '%s': no memory for its name", name);
    t->m.name = t->own_name;
    t->scheme = q;
    for (int i = 0; i < MAX_PARTS; i++)
        t->part[i] = -1;
    t->part[0] = lead;
    for (int i = 0; i < MAX_PARTS - 1 && q->others[i]; i++) {
        bool optional = q->others[i][0] == '?';
        char *other = with_end(name, q->lead, q->others[i] + optional);
        CHECK(err, other, CADRE_E_MEMORY, "tensor '%s': no memory for its name", name);
        int64_t at = t->part[i + 1] = st_set_find(s->set, other);
        cadre_err rc = CADRE_OK;
        if (at < 0 && !optional)
            rc = error_set(err, CADRE_E_FORMAT, "tensor '%s': expected beside '%s', not found",
                           shown(other, strlen(other)).s, shown(name, strlen(name)).s);
        free(other);
        TRY(rc);
        if (at >= 0)
            taken[at] = true;
    }
    taken[lead] = true;
    return q->describe(s, t, err);
}

static cadre_err fill(struct hf_stored *s, bool *taken, cadre_error *err)
{
    const struct scheme *q = s->scheme;
    int64_t n = st_set_count(s->set);
    bool twice;
    for (int64_t i = 0; q && i < n; i++) {
        const struct st_tensor *t = st_set_at(s->set, i);
        if (ends_with(t->name, q->lead) && (!q->applies || q->applies(t)))
            TRY(gather(s, &s->t[s->n++], i, taken, err));
    }
    for (int64_t i = 0; i < n; i++) {
        const struct st_tensor *t = st_set_at(s->set, i);
        if (taken[i])
            continue;
        struct stored *p = &s->t[s->n++];
        p->m = (struct hf_matrix){.name = t->name, .type = t->type, .n_dims = t->n_dims};
        memcpy(p->m.dim, t->dim, sizeof p->m.dim);
        p->part[0] = i;
    }
    for (int64_t i = 0; i < s->n; i++) {
        TRY(name_index_put(&s->names, s->t[i].m.name, i, &twice, err));
        CHECK(err, !twice, CADRE_E_FORMAT, "tensor '%s': expected once, found plain and quantized",
              shown(s->t[i].m.name, strlen(s->t[i].m.name)).s);
    }
    return CADRE_OK;
}

cadre_err hf_stored_open(struct hf_stored **out, const char *dir, const struct hf_config *c, cadre_error *err)
{
    bool *taken = NULL;
    cadre_err rc = CADRE_OK;
    *out = NULL;
    struct hf_stored *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "%s: no memory to open it", dir);
    TRY_OUT(configure(s, c, err));
    TRY_OUT(st_set_open(&s->set, dir, err));
    size_t n = (size_t)st_set_count(s->set) + 1;
    s->t = calloc(n, sizeof *s->t);
    taken = calloc(n, sizeof *taken);
    CHECK_OUT(err, s->t && taken, CADRE_E_MEMORY, "%s: no memory for %zu tensors", dir, n);
    TRY_OUT(fill(s, taken, err));
    *out = s;
    s = NULL;
out:
    free(taken);
    hf_stored_close(s);
    return rc;
}

void hf_stored_close(struct hf_stored *s)
{
    if (!s)
        return;
    for (int64_t i = 0; i < s->n; i++) {
        free(s->t[i].own_name);
        free((void *)(uintptr_t)s->t[i].g_idx.data);
    }
    name_index_free(&s->names);
    st_set_close(s->set);
    free(s->t);
    free(s);
}

int64_t hf_stored_count(const struct hf_stored *s)
{
    return s->n;
}

const struct hf_matrix *hf_stored_at(const struct hf_stored *s, int64_t i)
{
    return &s->t[i].m;
}

int64_t hf_stored_find(const struct hf_stored *s, const char *name)
{
    return name_index_get(&s->names, name);
}

/* ---- reading ----------------------------------------------------------------------------------------------------- */

/* The share of each part that belongs to matrix `which` of `count`. */
static cadre_err read_parts(const struct hf_stored *s, const struct stored *t, uint64_t which, uint64_t count,
                            struct part part[MAX_PARTS], cadre_error *err)
{
    for (int i = 0; i < MAX_PARTS; i++) {
        const struct st_tensor *p = part_of(s, t, i);
        if (!p || (i == 3 && t->g_idx.data))
            continue;
        uint64_t bytes = p->bytes / count;
        void *data = malloc(bytes ? (size_t)bytes : 1);
        part[i] = (struct part){data, bytes};
        CHECK(err, data, CADRE_E_MEMORY, "tensor '%s': no memory for %llu bytes", t->m.name, (unsigned long long)bytes);
        TRY(st_set_read(s->set, t->part[i], which * bytes, data, (size_t)bytes, err));
    }
    return CADRE_OK;
}

/* A matrix is put together whole; of it the n numbers from `from` on are taken. */
static cadre_err read_assembled(const struct hf_stored *s, const struct stored *t, uint64_t which, uint64_t from,
                                uint64_t n, void *dst, cadre_error *err)
{
    struct part part[MAX_PARTS] = {{0}};
    const struct hf_matrix *m = &t->m;
    uint64_t count = m->n_dims == 3 ? (uint64_t)m->dim[0] : 1, bytes = 0, skip = 0, want = 0;
    unsigned char *whole = NULL;
    cadre_err rc = CADRE_OK;
    dtype_size(m->type, (uint64_t)(m->dim[m->n_dims - 2] * m->dim[m->n_dims - 1]), &bytes);
    dtype_size(m->type, from, &skip);
    dtype_size(m->type, n, &want);
    whole = want < bytes ? malloc((size_t)bytes) : dst;
    CHECK_OUT(err, whole, CADRE_E_MEMORY, "tensor '%s': no memory for %llu bytes", m->name, (unsigned long long)bytes);
    TRY_OUT(read_parts(s, t, which, count, part, err));
    TRY_OUT(t->scheme->assemble(s, t, part, whole, bytes, err));
    if (whole != dst)
        memcpy(dst, whole + skip, (size_t)want);
out:
    for (int i = 0; i < MAX_PARTS; i++)
        free((void *)(uintptr_t)part[i].data);
    if (whole != dst)
        free(whole);
    return rc ? error_wrap(err, rc, "tensor '%s'", shown(m->name, strlen(m->name)).s) : CADRE_OK;
}

cadre_err hf_stored_read(const struct hf_stored *s, int64_t i, int64_t from, int64_t n, void *dst, cadre_error *err)
{
    const struct stored *t = &s->t[i];
    if (t->scheme) {
        int64_t size = t->m.dim[t->m.n_dims - 2] * t->m.dim[t->m.n_dims - 1];
        return read_assembled(s, t, (uint64_t)(from / size), (uint64_t)(from % size), (uint64_t)n, dst, err);
    }
    uint64_t bytes = dtype_info(t->m.type)->bytes;
    return st_set_read(s->set, t->part[0], (uint64_t)from * bytes, dst, (size_t)((uint64_t)n * bytes), err);
}

uint64_t hf_stored_stamp(const struct hf_stored *s)
{
    return st_set_stamp(s->set);
}
