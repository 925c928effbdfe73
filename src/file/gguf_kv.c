/* Key values of an open GGUF file, and the table of value types. */
#include <stdlib.h>

#include "file/gguf_internal.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "GGUF fields are copied as they lie in the file");

static const struct gguf_type_info types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"u8", GGUF_KIND_INT, 1},
    [GGUF_I8] = {"i8", GGUF_KIND_INT, 1},
    [GGUF_U16] = {"u16", GGUF_KIND_INT, 2},
    [GGUF_I16] = {"i16", GGUF_KIND_INT, 2},
    [GGUF_U32] = {"u32", GGUF_KIND_INT, 4},
    [GGUF_I32] = {"i32", GGUF_KIND_INT, 4},
    [GGUF_F32] = {"f32", GGUF_KIND_FLOAT, 4},
    [GGUF_BOOL] = {"bool", GGUF_KIND_BOOL, 1},
    [GGUF_STRING] = {"string", GGUF_KIND_STRING, 0},
    [GGUF_ARRAY] = {"array", GGUF_KIND_ARRAY, 0},
    [GGUF_U64] = {"u64", GGUF_KIND_INT, 8},
    [GGUF_I64] = {"i64", GGUF_KIND_INT, 8},
    [GGUF_F64] = {"f64", GGUF_KIND_FLOAT, 8},
};

const struct gguf_type_info *gguf_type_info(uint32_t type)
{
    return &types[type];
}

bool gguf_load_i64(uint32_t type, const unsigned char *p, int64_t *out)
{
    uint64_t u = 0;
    memcpy(&u, p, types[type].bytes);
    switch (type) {
    case GGUF_I8:
        *out = (int8_t)u;
        return true;
    case GGUF_I16:
        *out = (int16_t)u;
        return true;
    case GGUF_I32:
        *out = (int32_t)u;
        return true;
    case GGUF_I64:
        *out = (int64_t)u;
        return true;
    default: /* unsigned and bool */
        *out = (int64_t)u;
        return u <= INT64_MAX;
    }
}

double gguf_load_f64(uint32_t type, const unsigned char *p)
{
    float f;
    double d;
    if (type == GGUF_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    memcpy(&f, p, sizeof f);
    return (double)f;
}

cadre_err gguf_check_alignment(int64_t a, cadre_error *err)
{
    CHECK(err, a > 0 && a <= GGUF_MAX_ALIGNMENT && (a & (a - 1)) == 0, CADRE_E_FORMAT,
          "key '" GGUF_ALIGNMENT_KEY "': expected a power of two up to %d, found %lld", GGUF_MAX_ALIGNMENT,
          (long long)a);
    return CADRE_OK;
}

int64_t gguf_kv_count(const struct gguf *g)
{
    return g->n_kv;
}

const char *gguf_kv_key(const struct gguf *g, int64_t i)
{
    return g->kv[i].key.p;
}

bool gguf_has(const struct gguf *g, const char *key)
{
    return name_index_get(&g->keys, key) >= 0;
}

bool gguf_is_array(const struct gguf *g, const char *key)
{
    int64_t i = name_index_get(&g->keys, key);
    return i >= 0 && g->kv[i].type == GGUF_ARRAY;
}

/* NULL and *found = false if the key is absent. */
static const struct gguf_kv *look_up(const struct gguf *g, const char *key, bool *found)
{
    int64_t i = name_index_get(&g->keys, key);
    *found = i >= 0;
    return *found ? &g->kv[i] : NULL;
}

static cadre_err wrong_type(const struct gguf *g, const struct gguf_kv *kv, const char *expected, cadre_error *err)
{
    struct shown key = shown(kv->key.p, (size_t)kv->key.n);
    if (kv->type == GGUF_ARRAY)
        return error_set(err, CADRE_E_FORMAT, "%s: key '%s' at byte %llu: expected %s, found an array of %llu %s",
                         g->path, key.s, (unsigned long long)kv->key_at, expected, (unsigned long long)kv->n,
                         types[kv->elem].name);
    return error_set(err, CADRE_E_FORMAT, "%s: key '%s' at byte %llu: expected %s, found type %s", g->path, key.s,
                     (unsigned long long)kv->key_at, expected, types[kv->type].name);
}

static cadre_err too_large(const struct gguf *g, const struct gguf_kv *kv, cadre_error *err)
{
    return error_set(err, CADRE_E_FORMAT, "%s: key '%s' at byte %llu: expected integers up to %lld, found a larger one",
                     g->path, shown(kv->key.p, (size_t)kv->key.n).s, (unsigned long long)kv->key_at,
                     (long long)INT64_MAX);
}

cadre_err gguf_get_i64(const struct gguf *g, const char *key, int64_t *out, bool *found, cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (types[kv->type].kind != GGUF_KIND_INT)
        return wrong_type(g, kv, "an integer", err);
    int64_t v;
    if (!gguf_load_i64(kv->type, g->meta + kv->at, &v))
        return too_large(g, kv, err);
    *out = v;
    return CADRE_OK;
}

cadre_err gguf_get_f64(const struct gguf *g, const char *key, double *out, bool *found, cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (types[kv->type].kind == GGUF_KIND_FLOAT) {
        *out = gguf_load_f64(kv->type, g->meta + kv->at);
        return CADRE_OK;
    }
    if (types[kv->type].kind != GGUF_KIND_INT)
        return wrong_type(g, kv, "a number", err);
    int64_t v;
    if (!gguf_load_i64(kv->type, g->meta + kv->at, &v))
        return too_large(g, kv, err);
    *out = (double)v;
    return CADRE_OK;
}

cadre_err gguf_get_bool(const struct gguf *g, const char *key, bool *out, bool *found, cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (kv->type != GGUF_BOOL)
        return wrong_type(g, kv, "a bool", err);
    *out = g->meta[kv->at] != 0;
    return CADRE_OK;
}

cadre_err gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out, bool *found, cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (kv->type != GGUF_STRING)
        return wrong_type(g, kv, "a string", err);
    *out = kv->string;
    return CADRE_OK;
}

static bool is_array_of(const struct gguf_kv *kv, enum gguf_kind kind)
{
    return kv->type == GGUF_ARRAY && types[kv->elem].kind == kind;
}

cadre_err gguf_get_strings(const struct gguf *g, const char *key, const struct gguf_string **out, int64_t *n,
                           bool *found, cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (!is_array_of(kv, GGUF_KIND_STRING))
        return wrong_type(g, kv, "an array of strings", err);
    *out = kv->table;
    *n = (int64_t)kv->n;
    return CADRE_OK;
}

cadre_err gguf_get_i64s(const struct gguf *g, const char *key, const int64_t **out, int64_t *n, bool *found,
                        cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (!is_array_of(kv, GGUF_KIND_INT) && !is_array_of(kv, GGUF_KIND_BOOL))
        return wrong_type(g, kv, "an array of integers", err);
    if (kv->beyond_i64)
        return too_large(g, kv, err);
    *out = kv->table;
    *n = (int64_t)kv->n;
    return CADRE_OK;
}

cadre_err gguf_get_f64s(const struct gguf *g, const char *key, const double **out, int64_t *n, bool *found,
                        cadre_error *err)
{
    const struct gguf_kv *kv = look_up(g, key, found);
    if (!kv)
        return CADRE_OK;
    if (!is_array_of(kv, GGUF_KIND_FLOAT))
        return wrong_type(g, kv, "an array of floats", err);
    *out = kv->table;
    *n = (int64_t)kv->n;
    return CADRE_OK;
}
