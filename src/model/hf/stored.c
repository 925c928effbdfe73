#include "model/hf/stored.h"

#include <stdlib.h>
#include <string.h>

#include "file/names.h"

struct hf_stored {
    struct st_set *set;
    struct hf_matrix *matrix;
    int64_t n;
};

/* Weights that a quantization describes must not be taken for plain ones. */
static cadre_err check_plain(const struct hf_config *c, cadre_error *err)
{
    const json_t *q = json_object_get(c->root, "quantization_config");
    const char *method = "?";
    bool found;
    if (!q || json_is_null(q))
        return CADRE_OK;
    CHECK(err, json_is_object(q), CADRE_E_FORMAT, "%s: key 'quantization_config': expected an object", c->path);
    TRY(hf_get_text(c, q, "quant_method", &method, &found, err));
    return error_set(err, CADRE_E_UNSUPPORTED, "%s: key 'quantization_config': unsupported quant_method '%s'", c->path,
                     shown(method, strlen(method)).s);
}

static cadre_err fill(struct hf_stored *s, cadre_error *err)
{
    int64_t n = st_set_count(s->set);
    s->matrix = calloc((size_t)n + 1, sizeof *s->matrix);
    CHECK(err, s->matrix, CADRE_E_MEMORY, "no memory for %lld tensors", (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const struct st_tensor *t = st_set_at(s->set, i);
        struct hf_matrix *m = &s->matrix[s->n++];
        *m = (struct hf_matrix){.name = t->name, .type = t->type, .n_dims = t->n_dims};
        memcpy(m->dim, t->dim, sizeof m->dim);
    }
    return CADRE_OK;
}

cadre_err hf_stored_open(struct hf_stored **out, const char *dir, const struct hf_config *c, cadre_error *err)
{
    *out = NULL;
    TRY(check_plain(c, err));
    struct hf_stored *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "%s: no memory to open it", dir);
    cadre_err rc = st_set_open(&s->set, dir, err);
    if (rc == CADRE_OK)
        rc = fill(s, err);
    if (rc == CADRE_OK)
        *out = s;
    else
        hf_stored_close(s);
    return rc;
}

void hf_stored_close(struct hf_stored *s)
{
    if (!s)
        return;
    st_set_close(s->set);
    free(s->matrix);
    free(s);
}

int64_t hf_stored_count(const struct hf_stored *s)
{
    return s->n;
}

const struct hf_matrix *hf_stored_at(const struct hf_stored *s, int64_t i)
{
    return &s->matrix[i];
}

int64_t hf_stored_find(const struct hf_stored *s, const char *name)
{
    return st_set_find(s->set, name);
}

cadre_err hf_stored_read(const struct hf_stored *s, int64_t i, int64_t from, int64_t n, void *dst, cadre_error *err)
{
    uint64_t bytes = dtype_info(s->matrix[i].type)->bytes;
    return st_set_read(s->set, i, (uint64_t)from * bytes, dst, (size_t)((uint64_t)n * bytes), err);
}
