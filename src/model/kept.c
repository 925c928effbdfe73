#include "model/kept.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "file/names.h"
#include "kernel/packed.h"

/* Rows of a matrix of theirs that make one of ours: from `before` on, of `total`. */
typedef void part_fn(const struct spec *s, int64_t layer, int64_t *before, int64_t *total);

struct form {
    const char *name; /* ours, as in tensors.c */
    const char *from; /* theirs; with %d a tensor for each expert */
    part_fn *part;    /* NULL: all rows */
    bool below;       /* what is a stack of matrices here are rows below each other there */
    bool turned;      /* each matrix there is the transpose of ours; read as f32 */
};

static void whole_qkv(const struct spec *s, int64_t layer, int64_t size[3])
{
    struct layer_spec l = spec_layer(s, layer);
    size[0] = l.n_head * s->head_dim;
    size[1] = l.n_kv_head * s->head_dim;
    size[2] = l.n_kv_head * s->v_dim;
}

static void part_q(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    int64_t size[3];
    whole_qkv(s, layer, size);
    *before = 0;
    *total = size[0] + size[1] + size[2];
}

static void part_k(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    int64_t size[3];
    whole_qkv(s, layer, size);
    *before = size[0];
    *total = size[0] + size[1] + size[2];
}

static void part_v(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    int64_t size[3];
    whole_qkv(s, layer, size);
    *before = size[0] + size[1];
    *total = size[0] + size[1] + size[2];
}

static void part_gate(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    (void)layer;
    *before = 0;
    *total = 2 * s->expert_ff;
}

static void part_up(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    (void)layer;
    *before = s->expert_ff;
    *total = 2 * s->expert_ff;
}

/* Per head the rows that make its keys, then those that make its values. */
static void part_k_b(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    (void)layer;
    *before = 0;
    *total = s->head_dim - s->n_rot + s->v_dim;
}

static void part_v_b(const struct spec *s, int64_t layer, int64_t *before, int64_t *total)
{
    (void)layer;
    *before = s->head_dim - s->n_rot;
    *total = s->head_dim - s->n_rot + s->v_dim;
}

static const struct form forms[] = {
    {"attn_q.weight", "attn_qkv.weight", part_q, false, false},
    {"attn_k.weight", "attn_qkv.weight", part_k, false, false},
    {"attn_v.weight", "attn_qkv.weight", part_v, false, false},
    {"attn_q.bias", "attn_qkv.bias", part_q, false, false},
    {"attn_k.bias", "attn_qkv.bias", part_k, false, false},
    {"attn_v.bias", "attn_qkv.bias", part_v, false, false},
    {"ffn_gate_exps.weight", "ffn_gate_up_exps.weight", part_gate, false, false},
    {"ffn_up_exps.weight", "ffn_gate_up_exps.weight", part_up, false, false},
    {"ffn_gate_exps.bias", "ffn_gate_up_exps.bias", part_gate, false, false},
    {"ffn_up_exps.bias", "ffn_gate_up_exps.bias", part_up, false, false},
    {"attn_k_b.weight", "attn_kv_b.weight", part_k_b, true, true}, /* DeepSeek-V2 before April 2025 */
    {"attn_v_b.weight", "attn_kv_b.weight", part_v_b, true, false},
    {"ffn_gate_exps.weight", "ffn_gate.%d.weight", NULL, false, false}, /* Mixtral before April 2024 */
    {"ffn_up_exps.weight", "ffn_up.%d.weight", NULL, false, false},
    {"ffn_down_exps.weight", "ffn_down.%d.weight", NULL, false, false},
    {"exp_probs_b.bias", "exp_probs_b", NULL, false, false},
};
enum { N_FORMS = sizeof forms / sizeof *forms };

enum { NAME = 96 };

static void full_name(int64_t layer, const char *name, char out[NAME])
{
    if (layer < 0)
        snprintf(out, NAME, "%s", name);
    else
        snprintf(out, NAME, "blk.%lld.%s", (long long)layer, name);
}

static bool by_expert(const struct form *form)
{
    return form && strchr(form->from, '%');
}

/* "ffn_gate.3.weight" */
static void expert_name(const struct form *form, int64_t layer, int64_t expert, char out[NAME])
{
    const char *mark = strchr(form->from, '%');
    char name[NAME];
    snprintf(name, NAME, "%.*s%lld%s", (int)(mark - form->from), form->from, (long long)expert, mark + 2);
    full_name(layer, name, out);
}

static const struct gguf_tensor *find_form(const struct gguf *g, int64_t layer, const struct form *form)
{
    char name[NAME];
    if (by_expert(form))
        expert_name(form, layer, 0, name);
    else
        full_name(layer, form->from, name);
    return gguf_tensor_find(g, name);
}

/* The tensor under its own name or in another form. */
static const struct gguf_tensor *find(const struct gguf *g, const struct family *f, int64_t layer, const char *name,
                                      const struct form **form)
{
    char full[NAME];
    *form = NULL;
    full_name(layer, family_tensor_name(f, name), full);
    const struct gguf_tensor *t = gguf_tensor_find(g, full);
    for (int i = 0; !t && i < N_FORMS; i++)
        if (strcmp(forms[i].name, name) == 0 && (t = find_form(g, layer, &forms[i])))
            *form = &forms[i];
    return t;
}

bool kept_exists(const struct gguf *g, const struct family *f, const struct tensor_walk *w)
{
    const struct form *form;
    return find(g, f, w->layer, w->def->name, &form);
}

/* "[64, 288]", contiguous dimension first, as in the file. */
static void shape_text(char out[96], int n_dims, const int64_t *dim)
{
    int n = 0;
    for (int i = 0; i < n_dims; i++)
        n += snprintf(out + n, 96 - (size_t)n, "%s%lld", i ? ", " : "[", (long long)dim[i]);
    snprintf(out + n, 96 - (size_t)n, "]");
}

/* A param as `count` matrices of n rows of k numbers. */
struct stack {
    int64_t count, n, k;
};

static struct stack stack_of(const struct param *p)
{
    if (p->matrix)
        return (struct stack){p->n_dims == 3 ? p->dim[0] : 1, p->dim[p->n_dims - 2], p->dim[p->n_dims - 1]};
    return (struct stack){p->n_dims == 2 ? p->dim[0] : 1, p->dim[p->n_dims - 1], 1};
}

/* What the file's tensor has to look like, in its order. */
static int expected_shape(const struct spec *s, const struct param *p, const struct form *form,
                          int64_t want[GGUF_MAX_DIMS])
{
    int n_dims = by_expert(form) ? p->n_dims - 1 : p->n_dims;
    for (int i = 0; i < GGUF_MAX_DIMS; i++)
        want[i] = i < n_dims ? p->dim[p->n_dims - 1 - i] : 1;
    if (!form || !form->part)
        return n_dims;
    int64_t before, total;
    form->part(s, p->layer, &before, &total);
    if (form->turned)
        want[0] = want[1];
    want[p->matrix ? 1 : 0] = total;
    if (form->below) {
        want[1] *= want[2];
        want[2] = 1;
    }
    return form->below ? 2 : n_dims;
}

static cadre_err check_shape(const struct gguf_tensor *t, const struct spec *s, const struct param *p,
                             const struct form *form, cadre_error *err)
{
    int64_t want[GGUF_MAX_DIMS];
    int n_dims = expected_shape(s, p, form, want);
    if (memcmp(want, t->dim, sizeof want) == 0) /* trailing ones do not matter */
        return CADRE_OK;
    char expected[96], found[96];
    shape_text(expected, n_dims, want);
    shape_text(found, t->n_dims, t->dim);
    return error_set(err, CADRE_E_FORMAT, "tensor '%s': expected shape %s, found %s", t->name, expected, found);
}

static cadre_err check_type(const struct gguf_tensor *t, cadre_error *err)
{
    CHECK(err, dtype_info(t->type)->weight, CADRE_E_UNSUPPORTED,
          "tensor '%s': type %s is not supported for weights (floats and quantized formats are)", t->name,
          dtype_info(t->type)->name);
    CHECK(err, t->dim[0] % dtype_info(t->type)->block == 0, CADRE_E_FORMAT,
          "tensor '%s': expected rows in whole blocks of %u, found %lld numbers", t->name, dtype_info(t->type)->block,
          (long long)t->dim[0]);
    return CADRE_OK;
}

static cadre_err check_experts(const struct gguf *g, const struct spec *s, const struct param *p,
                               const struct kept *src, cadre_error *err)
{
    char name[NAME];
    for (int64_t e = 1; e < p->dim[0]; e++) {
        expert_name(src->form, p->layer, e, name);
        const struct gguf_tensor *t = gguf_tensor_find(g, name);
        CHECK(err, t, CADRE_E_FORMAT, "tensor '%s': expected beside '%s', not found", name, src->t->name);
        TRY(check_shape(t, s, p, src->form, err));
        CHECK(err, t->type == src->t->type, CADRE_E_UNSUPPORTED, "tensor '%s': expected type %s as '%s' has, found %s",
              name, dtype_info(src->t->type)->name, src->t->name, dtype_info(t->type)->name);
    }
    return CADRE_OK;
}

cadre_err kept_find(struct kept *out, const struct gguf *g, const struct spec *s, const struct param *p,
                    cadre_error *err)
{
    *out = (struct kept){0};
    out->t = find(g, family_find(s->family), p->layer, p->def->name, &out->form);
    CHECK(err, out->t, CADRE_E_FORMAT, "tensor '%s': expected by the model's description, not found", p->name);
    TRY(check_shape(out->t, s, p, out->form, err));
    TRY(check_type(out->t, err));
    out->type = out->form && out->form->turned ? DTYPE_F32 : out->t->type;
    CHECK(err, p->matrix || !out->form || !out->form->part || dtype_info(out->type)->block == 1, CADRE_E_UNSUPPORTED,
          "tensor '%s': type %s is not supported for a vector of several parts", out->t->name,
          dtype_info(out->type)->name);
    return by_expert(out->form) ? check_experts(g, s, p, out, err) : CADRE_OK;
}

/* ---- reading */

static cadre_err read_raw(const struct gguf *g, const struct gguf_tensor *t, unsigned char **raw, cadre_error *err)
{
    *raw = malloc(t->bytes ? t->bytes : 1);
    CHECK(err, *raw, CADRE_E_MEMORY, "tensor '%s': no memory to read its %llu bytes", t->name,
          (unsigned long long)t->bytes);
    cadre_err rc = gguf_tensor_read(g, t, *raw, err);
    if (rc != CADRE_OK)
        free(*raw);
    return rc;
}

static cadre_err read_experts(const struct kept *src, const struct gguf *g, const struct param *p, unsigned char *dst,
                              cadre_error *err)
{
    char name[NAME];
    for (int64_t e = 0; e < p->dim[0]; e++) {
        expert_name(src->form, p->layer, e, name);
        const struct gguf_tensor *t = gguf_tensor_find(g, name);
        TRY(gguf_tensor_read(g, t, dst, err));
        dst += t->bytes;
    }
    return CADRE_OK;
}

/* ours[e] = theirs[e][before … before + n) */
static void take_rows(const struct kept *src, const struct stack *ours, int64_t before, int64_t total,
                      const unsigned char *raw, unsigned char *dst)
{
    uint64_t row = 0;
    dtype_size(src->t->type, (uint64_t)ours->k, &row);
    for (int64_t e = 0; e < ours->count; e++)
        memcpy(dst + (uint64_t)(e * ours->n) * row, raw + (uint64_t)(e * total + before) * row,
               (uint64_t)ours->n * row);
}

/* ours[e][j][i] = theirs[e][before + i][j], with a row of theirs as scratch */
static void turn_rows(const struct kept *src, const struct stack *ours, int64_t before, int64_t total,
                      const unsigned char *raw, float *dst, float *line)
{
    uint64_t row = 0;
    dtype_size(src->t->type, (uint64_t)ours->n, &row);
    for (int64_t e = 0; e < ours->count; e++)
        for (int64_t i = 0; i < ours->k; i++) {
            dtype_info(src->t->type)->decode(raw + (uint64_t)(e * total + before + i) * row, line, (size_t)ours->n);
            for (int64_t j = 0; j < ours->n; j++)
                dst[(e * ours->n + j) * ours->k + i] = line[j];
        }
}

bool kept_as_is(const struct kept *src, const struct gguf *g)
{
    return gguf_has_pieces(g) && (!src->form || (!src->form->part && !by_expert(src->form)));
}

const struct gguf_tensor *kept_tensor(const struct kept *src, const struct gguf *g, const struct param *p, int64_t e)
{
    char name[NAME];
    if (!by_expert(src->form))
        return src->t;
    expert_name(src->form, p->layer, e, name);
    return gguf_tensor_find(g, name);
}

bool kept_turned(const struct kept *src)
{
    return src->form && src->form->turned;
}

bool kept_strips(const struct kept *src, const struct gguf *g, const struct spec *s, const struct param *p, int64_t e,
                 uint64_t *offset)
{
    if (!gguf_is_packed(g) || kept_turned(src))
        return false;
    const struct gguf_tensor *t = kept_tensor(src, g, p, e);
    struct stack ours = stack_of(p);
    int64_t row = 0, before, total;
    uint64_t stride;
    if (by_expert(src->form)) {
        e = 0;
    } else if (src->form && src->form->part) {
        src->form->part(s, p->layer, &before, &total);
        row = before + (src->form->below ? e * total : 0);
        e = src->form->below ? 0 : e;
    }
    if (row % STRIP || (ours.n % STRIP && row + ours.n != t->dim[1]) || !gguf_strips(g, t, offset, &stride))
        return false;
    *offset += (uint64_t)e * stride + (uint64_t)(row / STRIP) * packed_strip_bytes(t->type, t->dim[0]);
    return true;
}

cadre_err kept_read(const struct kept *src, const struct gguf *g, const struct spec *s, const struct param *p,
                    void *dst, cadre_error *err)
{
    if (!src->form || (!src->form->part && !by_expert(src->form)))
        return gguf_tensor_read(g, src->t, dst, err);
    if (by_expert(src->form))
        return read_experts(src, g, p, dst, err);
    unsigned char *raw;
    int64_t before, total;
    struct stack ours = stack_of(p);
    src->form->part(s, p->layer, &before, &total);
    float *line = src->form->turned ? malloc((size_t)ours.n * sizeof *line) : NULL;
    CHECK(err, line || !src->form->turned, CADRE_E_MEMORY, "tensor '%s': no memory for one of its rows", src->t->name);
    cadre_err rc = read_raw(g, src->t, &raw, err);
    if (rc == CADRE_OK) {
        if (src->form->turned)
            turn_rows(src, &ours, before, total, raw, dst, line);
        else
            take_rows(src, &ours, before, total, raw, dst);
        free(raw);
    }
    free(line);
    return rc;
}

/* ---- nothing else in the file */

static int by_address(const void *a, const void *b)
{
    const struct gguf_tensor *const *x = a, *const *y = b;
    return *x < *y ? -1 : *x > *y;
}

bool kept_left_out(int64_t n_layer, int64_t n_nextn, const char *name)
{
    long long layer;
    int end = 0;
    return sscanf(name, "blk.%lld.%n", &layer, &end) == 1 && end > 0 && layer >= n_layer && layer < n_layer + n_nextn;
}

static bool is_expert_of(const struct model *m, const struct kept *kept, const char *name)
{
    char full[NAME];
    for (int64_t i = 0; i < m->n_params; i++)
        for (int64_t e = 1; by_expert(kept[i].form) && e < m->params[i].dim[0]; e++) {
            expert_name(kept[i].form, m->params[i].layer, e, full);
            if (strcmp(full, name) == 0)
                return true;
        }
    return false;
}

static cadre_err check_used(const struct gguf *g, const struct model *m, const struct kept *kept,
                            const struct gguf_tensor **used, cadre_error *err)
{
    for (int64_t i = 0; i < m->n_params; i++)
        used[i] = kept[i].t;
    qsort(used, (size_t)m->n_params, sizeof(const struct gguf_tensor *), by_address);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (bsearch(&t, used, (size_t)m->n_params, sizeof(const struct gguf_tensor *), by_address) ||
            kept_left_out(m->spec.n_layer, m->spec.n_nextn, t->name))
            continue;
        CHECK(err, is_expert_of(m, kept, t->name), CADRE_E_UNSUPPORTED,
              "tensor '%s' is not part of a %s model as its keys describe it", shown(t->name, strlen(t->name)).s,
              m->spec.family);
    }
    return CADRE_OK;
}

cadre_err kept_all(const struct gguf *g, const struct model *m, const struct kept *kept, cadre_error *err)
{
    const struct gguf_tensor **used = malloc((size_t)m->n_params * sizeof(const struct gguf_tensor *));
    CHECK(err, used, CADRE_E_MEMORY, "no memory for the names of %lld tensors", (long long)m->n_params);
    cadre_err rc = check_used(g, m, kept, used, err);
    free(used);
    return rc;
}
