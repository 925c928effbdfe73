#include "model/hf/config.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/names.h"

/* ---- values ------------------------------------------------------------------------------------------------- */

/* What a value is, for error texts. */
static const char *kind_of(const json_t *v)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array",
        [JSON_STRING] = "a text",    [JSON_INTEGER] = "a whole number",
        [JSON_REAL] = "a number",    [JSON_TRUE] = "true",
        [JSON_FALSE] = "false",      [JSON_NULL] = "null",
    };
    return names[json_typeof(v)];
}

static cadre_err look_up(const struct hf_config *c, const json_t *where, const char *key, const json_t **v, bool *found,
                         cadre_error *err)
{
    *v = json_object_get(where, key);
    bool there = *v && !json_is_null(*v);
    if (!there)
        *v = NULL;
    CHECK(err, there || found, CADRE_E_FORMAT, "%s: key '%s': expected in a %s model, not found", c->path, key,
          c->hf ? c->hf->model_type : "Hugging Face");
    if (found)
        *found = there;
    return CADRE_OK;
}

static cadre_err wrong(const struct hf_config *c, const char *key, const char *expected, const json_t *v,
                       cadre_error *err)
{
    return error_set(err, CADRE_E_FORMAT, "%s: key '%s': expected %s, found %s", c->path, key, expected, kind_of(v));
}

cadre_err hf_get_int(const struct hf_config *c, const json_t *where, const char *key, int64_t min, int64_t max,
                     int64_t *out, bool *found, cadre_error *err)
{
    const json_t *v;
    TRY(look_up(c, where, key, &v, found, err));
    if (!v)
        return CADRE_OK;
    if (!json_is_integer(v))
        return wrong(c, key, "a whole number", v, err);
    int64_t n = json_integer_value(v);
    CHECK(err, n >= min && n <= max, CADRE_E_FORMAT, "%s: key '%s': expected %lld to %lld, found %lld", c->path, key,
          (long long)min, (long long)max, (long long)n);
    *out = n;
    return CADRE_OK;
}

static cadre_err check_real(const struct hf_config *c, const char *key, const json_t *v, double *out, cadre_error *err)
{
    if (!json_is_number(v))
        return wrong(c, key, "a number", v, err);
    double x = json_number_value(v);
    CHECK(err, fabs(x) <= (double)FLT_MAX, CADRE_E_FORMAT,
          "%s: key '%s': expected a number that f32 can hold, found %g", c->path, key, x);
    *out = x;
    return CADRE_OK;
}

cadre_err hf_get_real(const struct hf_config *c, const json_t *where, const char *key, double *out, bool *found,
                      cadre_error *err)
{
    const json_t *v;
    TRY(look_up(c, where, key, &v, found, err));
    return v ? check_real(c, key, v, out, err) : CADRE_OK;
}

cadre_err hf_get_bool(const struct hf_config *c, const json_t *where, const char *key, bool *out, bool *found,
                      cadre_error *err)
{
    const json_t *v;
    TRY(look_up(c, where, key, &v, found, err));
    if (!v)
        return CADRE_OK;
    if (!json_is_boolean(v))
        return wrong(c, key, "true or false", v, err);
    *out = json_is_true(v);
    return CADRE_OK;
}

cadre_err hf_get_text(const struct hf_config *c, const json_t *where, const char *key, const char **out, bool *found,
                      cadre_error *err)
{
    const json_t *v;
    TRY(look_up(c, where, key, &v, found, err));
    if (!v)
        return CADRE_OK;
    if (!json_is_string(v))
        return wrong(c, key, "a text", v, err);
    *out = json_string_value(v);
    return CADRE_OK;
}

cadre_err hf_get_reals(const struct hf_config *c, const json_t *where, const char *key, int64_t n, float *out,
                       cadre_error *err)
{
    const json_t *v;
    TRY(look_up(c, where, key, &v, NULL, err));
    if (!json_is_array(v))
        return wrong(c, key, "an array of numbers", v, err);
    CHECK(err, json_array_size(v) == (size_t)n, CADRE_E_FORMAT, "%s: key '%s': expected %lld numbers, found %zu",
          c->path, key, (long long)n, json_array_size(v));
    for (int64_t i = 0; i < n; i++) {
        double x = 0;
        TRY(check_real(c, key, json_array_get(v, (size_t)i), &x, err));
        out[i] = (float)x;
    }
    return CADRE_OK;
}

enum { KEY_NAME = 128 };

static void full_name(const struct hf_keys *k, const char *name, char out[KEY_NAME])
{
    snprintf(out, KEY_NAME, "%s.%s", k->architecture, name);
}

cadre_err hf_put_int(struct hf_keys *k, const char *name, int64_t v, cadre_error *err)
{
    char key[KEY_NAME];
    full_name(k, name, key);
    CHECK(err, v >= 0 && v <= INT_MAX, CADRE_E_FORMAT, "%s: expected 0 to %d, found %lld", key, INT_MAX, (long long)v);
    return gguf_put_u32(k->w, key, (uint32_t)v, err);
}

cadre_err hf_put_real(struct hf_keys *k, const char *name, double v, cadre_error *err)
{
    char key[KEY_NAME];
    full_name(k, name, key);
    CHECK(err, fabs(v) <= (double)FLT_MAX, CADRE_E_FORMAT, "%s: expected a number that f32 can hold, found %g", key, v);
    return gguf_put_f32(k->w, key, (float)v, err);
}

cadre_err hf_put_bool(struct hf_keys *k, const char *name, bool v, cadre_error *err)
{
    char key[KEY_NAME];
    full_name(k, name, key);
    return gguf_put_bool(k->w, key, v, err);
}

/* ---- rows --------------------------------------------------------------------------------------------------- */

/* In every config of a decoder. */
const struct hf_key hf_common_keys[] = {
    {"vocab_size", "vocab_size", HF_INT, HF_REQUIRED, 0, NULL},
    {"max_position_embeddings", "context_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"hidden_size", "embedding_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_hidden_layers", "block_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"intermediate_size", "feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_attention_heads", "attention.head_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_key_value_heads", "attention.head_count_kv", HF_INT, 0, 0, NULL},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-6, NULL},
    {"hidden_act", "", HF_MUST_BE, 0, 0, "\"silu\""},
    {0},
};

bool hf_key_replaced(const struct hf_family *f, const struct hf_key *common)
{
    for (const struct hf_key *k = f->keys; k && k->hf; k++)
        if (strcmp(*common->gguf ? k->gguf : k->hf, *common->gguf ? common->gguf : common->hf) == 0)
            return true;
    return false;
}

bool hf_key_own(const struct hf_family *f, const char *gguf)
{
    for (const struct hf_key *k = f->keys; k && k->hf; k++)
        if (strcmp(k->gguf, gguf) == 0)
            return true;
    return false;
}

static cadre_err must_be(const struct hf_config *c, const struct hf_key *row, const json_t *where, const char *name,
                         cadre_error *err)
{
    const json_t *v = json_object_get(where, name);
    if (!v || (json_is_null(v) && !(row->flags & HF_REQUIRED))) {
        CHECK(err, !(row->flags & HF_REQUIRED), CADRE_E_UNSUPPORTED,
              "%s: key '%s': only %s is supported in a %s model, not found", c->path, row->hf, row->is,
              c->hf->model_type);
        return CADRE_OK;
    }
    json_error_t unused;
    json_t *wanted = json_loads(row->is, JSON_DECODE_ANY, &unused);
    CHECK(err, wanted, CADRE_E_MEMORY, "%s: key '%s': no memory", c->path, row->hf);
    bool same = json_equal(v, wanted) ||
                (json_is_number(v) && json_is_number(wanted) && json_number_value(v) == json_number_value(wanted));
    json_decref(wanted);
    char found[80] = "";
    if (json_is_string(v) || json_is_number(v)) {
        char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
        snprintf(found, sizeof found, "%s", text ? shown(text, strlen(text)).s : "");
        free(text);
    }
    CHECK(err, same, CADRE_E_UNSUPPORTED, "%s: key '%s': only %s is supported in a %s model, found %s", c->path,
          row->hf, row->is, c->hf->model_type, *found ? found : kind_of(v));
    return CADRE_OK;
}

/* Where a row's value is, and its name there: "a.b" is b of the object a. */
static cadre_err find_object(const struct hf_config *c, const struct hf_key *row, const json_t **where,
                             const char **name, cadre_error *err)
{
    const char *dot = strchr(row->hf, '.');
    *where = c->root;
    *name = dot ? dot + 1 : row->hf;
    if (!dot)
        return CADRE_OK;
    *where = json_object_getn(c->root, row->hf, (size_t)(dot - row->hf));
    CHECK(err, !*where || json_is_null(*where) || json_is_object(*where), CADRE_E_FORMAT,
          "%s: key '%.*s': expected an object, found %s", c->path, (int)(dot - row->hf), row->hf, kind_of(*where));
    return CADRE_OK;
}

static cadre_err put_row(const struct hf_config *c, const struct hf_key *row, struct hf_keys *k, cadre_error *err)
{
    bool found = true, *absent_ok = row->flags & HF_REQUIRED ? NULL : &found;
    const json_t *where;
    const char *name;
    TRY(find_object(c, row, &where, &name, err));
    int64_t n = (int64_t)row->def;
    double x = row->def;
    bool b = row->def != 0;
    switch (row->kind) {
    case HF_INT:
        TRY(hf_get_int(c, where, name, 0, INT_MAX, &n, absent_ok, err));
        break;
    case HF_LAYERS:
        TRY(hf_get_int(c, c->root, row->hf, 0, INT_MAX, &n, absent_ok, err));
        n *= hf_blocks(c->hf);
        break;
    case HF_REAL:
        TRY(hf_get_real(c, where, name, &x, absent_ok, err));
        break;
    case HF_BOOL:
        TRY(hf_get_bool(c, where, name, &b, absent_ok, err));
        break;
    case HF_MUST_BE:
        return must_be(c, row, where, name, err);
    case HF_NO_KEY:
        return CADRE_OK;
    case HF_FIXED:
        return hf_put_int(k, row->gguf, n, err);
    }
    if (!found && !(row->flags & HF_DEFAULT))
        return CADRE_OK;
    return row->kind == HF_REAL   ? hf_put_real(k, row->gguf, x, err)
           : row->kind == HF_BOOL ? hf_put_bool(k, row->gguf, b, err)
                                  : hf_put_int(k, row->gguf, n, err);
}

/* The size of a head, where it is not the width divided by the heads. */
static cadre_err put_head_dim(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t head = 0, width = 0, heads = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "head_dim", 1, 1 << 16, &head, &found, err));
    if (!found)
        head = c->hf->head_dim;
    if (head == 0)
        return CADRE_OK;
    TRY(hf_get_int(c, c->root, "hidden_size", 1, INT_MAX, &width, NULL, err));
    TRY(hf_get_int(c, c->root, "num_attention_heads", 1, INT_MAX, &heads, NULL, err));
    if (head * heads == width)
        return CADRE_OK;
    TRY(hf_put_int(k, "attention.key_length", head, err));
    return hf_put_int(k, "attention.value_length", head, err);
}

cadre_err hf_config_keys(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    for (const struct hf_key *row = hf_common_keys; row->hf; row++)
        if (!hf_key_replaced(c->hf, row))
            TRY(put_row(c, row, k, err));
    for (const struct hf_key *row = c->hf->keys; row && row->hf; row++)
        TRY(put_row(c, row, k, err));
    if (!c->hf->own_heads)
        TRY(put_head_dim(c, k, err));
    TRY(hf_rope_keys(c, k, err));
    return c->hf->derive ? c->hf->derive(c, k, err) : CADRE_OK;
}

cadre_err hf_rotary(const struct hf_config *c, double factor, int64_t *n_rot, cadre_error *err)
{
    int64_t head = c->hf->head_dim, width = 0, heads = 0;
    bool found, has_head;
    TRY(hf_get_int(c, c->root, "hidden_size", 1, INT_MAX, &width, NULL, err));
    TRY(hf_get_int(c, c->root, "num_attention_heads", 1, INT_MAX, &heads, NULL, err));
    TRY(hf_get_int(c, c->root, "head_dim", 1, 1 << 16, &head, &has_head, err));
    TRY(hf_get_real(c, c->root, "partial_rotary_factor", &factor, &found, err));
    if (!found && json_is_object(json_object_get(c->root, "rope_parameters")))
        TRY(hf_get_real(c, json_object_get(c->root, "rope_parameters"), "partial_rotary_factor", &factor, &found, err));
    CHECK(err, factor > 0 && factor <= 1, CADRE_E_FORMAT,
          "%s: key 'partial_rotary_factor': expected above 0, at most 1, found %g", c->path, factor);
    if (head == 0)
        head = width / heads;
    *n_rot = (int64_t)((double)head * factor);
    return CADRE_OK;
}

cadre_err hf_put_rotary(const struct hf_config *c, struct hf_keys *k, double factor, cadre_error *err)
{
    int64_t n_rot = 0;
    TRY(hf_rotary(c, factor, &n_rot, err));
    return hf_put_int(k, "rope.dimension_count", n_rot, err);
}

cadre_err hf_no_window(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    bool found, use = true;
    int64_t window = INT_MAX, context = 0;
    (void)k;
    TRY(hf_get_bool(c, c->root, "use_sliding_window", &use, &found, err));
    TRY(hf_get_int(c, c->root, "sliding_window", 0, INT_MAX, &window, &found, err));
    TRY(hf_get_int(c, c->root, "max_position_embeddings", 0, INT_MAX, &context, NULL, err));
    CHECK(err, !use || window >= context, CADRE_E_UNSUPPORTED,
          "%s: key 'sliding_window': a window shorter than the context is not supported in a %s model, found %lld",
          c->path, c->hf->model_type, (long long)window);
    return CADRE_OK;
}

cadre_err hf_config_tied(const struct hf_config *c, bool *tied, cadre_error *err)
{
    bool found;
    *tied = c->hf->tied;
    return hf_get_bool(c, c->root, "tie_word_embeddings", tied, &found, err);
}

cadre_err hf_config_unfold(const struct hf_config *c, json_t *root, cadre_error *err)
{
    if (!c->hf->inside)
        return CADRE_OK;
    const json_t *v;
    TRY(look_up(c, root, c->hf->inside, &v, NULL, err));
    if (!json_is_object(v))
        return wrong(c, c->hf->inside, "an object", v, err);
    json_t *own = json_deep_copy(v);
    bool done = own && json_object_update(root, own) == 0;
    json_decref(own);
    CHECK(err, done, CADRE_E_MEMORY, "%s: no memory", c->path);
    return CADRE_OK;
}

cadre_err hf_config_family(struct hf_config *c, cadre_error *err)
{
    const char *type = NULL;
    char known[512] = "";
    int n = 0;
    TRY(hf_get_text(c, c->root, "model_type", &type, NULL, err));
    for (int i = 0; family_at(i); i++)
        for (const struct hf_family *const *f = family_at(i)->hf; f && *f; f++) {
            if (strcmp((*f)->model_type, type) == 0) {
                c->family = family_at(i);
                c->hf = *f;
                return CADRE_OK;
            }
            if (n < (int)sizeof known)
                n += snprintf(known + n, sizeof known - (size_t)n, "%s%s", n ? ", " : "", (*f)->model_type);
        }
    return error_set(err, CADRE_E_UNSUPPORTED, "%s: key 'model_type': unsupported model '%s' (known: %s)", c->path,
                     shown(type, strlen(type)).s, known);
}
