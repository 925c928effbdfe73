/* config.json from GGUF keys. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/hf/export.h"
#include "model/hf/map.h"
#include "model/hf/open.h"
#include "model/keys.h"

struct out {
    const struct gguf *g;
    const struct hf_family *hf;
    const char *architecture;
    json_t *root;
};

static void full_name(const struct out *o, const char *name, char key[128])
{
    snprintf(key, 128, "%s.%s", o->architecture, name);
}

static cadre_err set(json_t *object, const char *key, json_t *value, cadre_error *err)
{
    CHECK(err, json_object_set_new(object, key, value) == 0, CADRE_E_MEMORY, "config.json: no memory for '%s'", key);
    return CADRE_OK;
}

/* The shortest decimal that is the same f32. */
static json_t *real_json(double x)
{
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, x);
        if (strtof(text, NULL) == (float)x)
            break;
    }
    return json_real(strtod(text, NULL));
}

cadre_err hf_copy_int(const struct gguf *g, const char *architecture, const char *name, json_t *root, const char *hf,
                      cadre_error *err)
{
    char key[128];
    int64_t v;
    bool found;
    snprintf(key, sizeof key, "%s.%s", architecture, name);
    TRY(gguf_get_i64(g, key, &v, &found, err));
    return found ? set(root, hf, json_integer(v), err) : CADRE_OK;
}

cadre_err hf_copy_rotary(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err)
{
    struct hf_dims d;
    TRY(hf_dims_from_gguf(&d, g, architecture, err));
    CHECK(err, d.head_dim > 0, CADRE_E_FORMAT, "%s.attention.key_length: expected above 0", architecture);
    return set(root, "partial_rotary_factor", json_real((double)d.n_rot / (double)d.head_dim), err);
}

/* The object that a row's value goes to, made where it is not there. */
static cadre_err object_of(const struct out *o, const struct hf_key *row, json_t **where, const char **name,
                           cadre_error *err)
{
    const char *dot = strchr(row->hf, '.');
    *where = o->root;
    *name = dot ? dot + 1 : row->hf;
    if (!dot)
        return CADRE_OK;
    size_t n = (size_t)(dot - row->hf);
    *where = json_object_getn(o->root, row->hf, n);
    if (*where)
        return CADRE_OK;
    *where = json_object();
    CHECK(err, json_object_setn_new(o->root, row->hf, n, *where) == 0, CADRE_E_MEMORY,
          "config.json: no memory for '%s'", row->hf);
    return CADRE_OK;
}

/* Without those that are left out. */
static cadre_err put_layers(const struct out *o, json_t *where, const char *name, cadre_error *err)
{
    struct hf_dims d;
    TRY(hf_dims_from_gguf(&d, o->g, o->architecture, err));
    return set(where, name, json_integer(d.layers), err);
}

static cadre_err put_row(const struct out *o, const struct hf_key *row, cadre_error *err)
{
    char key[128];
    double x = 0;
    int64_t n = 0;
    bool found = false, b = false;
    json_t *where;
    const char *name;
    if (row->kind == HF_FIXED || row->kind == HF_NO_KEY)
        return CADRE_OK; /* says nothing there */
    full_name(o, row->gguf, key);
    TRY(object_of(o, row, &where, &name, err));
    json_error_t unused;
    switch (row->kind) {
    case HF_MUST_BE:
        return set(where, name, json_loads(row->is, JSON_DECODE_ANY, &unused), err);
    case HF_INT:
        if (strcmp(row->gguf, "block_count") == 0)
            return put_layers(o, where, name, err);
        return hf_copy_int(o->g, o->architecture, row->gguf, where, name, err);
    case HF_LAYERS:
        TRY(gguf_get_i64(o->g, key, &n, &found, err));
        CHECK(err, n % hf_blocks(o->hf) == 0, CADRE_E_FORMAT, "%s: expected a multiple of %lld, found %lld", key,
              (long long)hf_blocks(o->hf), (long long)n);
        return found ? set(where, name, json_integer(n / hf_blocks(o->hf)), err) : CADRE_OK;
    case HF_REAL:
        TRY(gguf_get_f64(o->g, key, &x, &found, err));
        return found ? set(where, name, real_json(x), err) : CADRE_OK;
    case HF_BOOL:
        TRY(gguf_get_bool(o->g, key, &b, &found, err));
        return found ? set(where, name, json_boolean(b), err) : CADRE_OK;
    case HF_FIXED:
    case HF_NO_KEY:
        break;
    }
    return CADRE_OK;
}

static cadre_err get_real(const struct out *o, const char *name, double *x, bool *found, cadre_error *err)
{
    char key[128];
    full_name(o, name, key);
    return gguf_get_f64(o->g, key, x, found, err);
}

static cadre_err put_scaling(const struct out *o, const char *type, cadre_error *err)
{
    double x;
    bool found;
    json_t *r = json_object();
    TRY(set(o->root, "rope_scaling", r, err));
    TRY(set(r, "rope_type", json_string(type), err));
    TRY(set(r, "type", json_string(type), err));
    TRY(get_real(o, "rope.scaling.factor", &x, &found, err));
    if (found)
        TRY(set(r, "factor", real_json(x), err));
    if (strcmp(type, "yarn") != 0)
        return CADRE_OK;
    TRY(hf_copy_int(o->g, o->architecture, "rope.scaling.original_context_length", r,
                    "original_max_position_embeddings", err));
    double factor = x, fast = 32, slow = 1;
    TRY(get_real(o, "rope.scaling.yarn_beta_fast", &fast, &found, err));
    TRY(get_real(o, "rope.scaling.yarn_beta_slow", &slow, &found, err));
    TRY(set(r, "beta_fast", real_json(fast), err));
    TRY(set(r, "beta_slow", real_json(slow), err));
    TRY(get_real(o, "rope.scaling.yarn_log_multiplier", &x, &found, err));
    if (found) { /* the way back of put_yarn_attention in rope.c */
        double turned = 1, ln = factor > 1 ? log(factor) : 0;
        TRY(get_real(o, "rope.scaling.attn_factor", &turned, &found, err));
        double all = turned * (1 + x * ln);
        bool apart = turned != 1 && ln > 0;
        TRY(set(r, "mscale", real_json((double)(float)(apart ? 10 * (turned * all - 1) / ln : 10 * x)), err));
        return set(r, "mscale_all_dim", real_json((double)(float)(apart ? 10 * (all - 1) / ln : 10 * x)), err);
    }
    TRY(get_real(o, "rope.scaling.attn_factor", &x, &found, err));
    if (found && x != 1)
        TRY(set(r, "attention_factor", json_real(x * (factor > 1 ? 0.1 * log(factor) + 1 : 1)), err));
    return CADRE_OK;
}

static cadre_err put_factors(const struct out *o, json_t *r, const char *key, const char *tensor, cadre_error *err)
{
    const struct gguf_tensor *t = gguf_tensor_find(o->g, tensor);
    CHECK(err, t && t->n_dims == 1 && t->type == DTYPE_F32, CADRE_E_FORMAT,
          "tensor '%s': expected a vector of f32 with rope.scaling.type longrope", tensor);
    float *x = malloc((size_t)t->bytes);
    json_t *list = json_array();
    cadre_err rc = x && list ? gguf_slice_read(o->g, t, 0, x, err)
                             : error_set(err, CADRE_E_MEMORY, "config.json: no memory for '%s'", key);
    for (int64_t i = 0; rc == CADRE_OK && i < t->dim[0]; i++)
        if (!isfinite(x[i]) || json_array_append_new(list, real_json((double)x[i])) != 0)
            rc = error_set(err, CADRE_E_FORMAT, "tensor '%s': cannot be written to a config.json", tensor);
    free(x);
    if (rc == CADRE_OK)
        return set(r, key, list, err);
    json_decref(list);
    return rc;
}

static cadre_err put_longrope(const struct out *o, cadre_error *err)
{
    double of_short = 1, of_long = 1;
    bool found;
    json_t *r = json_object();
    TRY(set(o->root, "rope_scaling", r, err));
    TRY(set(r, "rope_type", json_string("longrope"), err));
    TRY(set(r, "type", json_string("longrope"), err));
    TRY(hf_copy_int(o->g, o->architecture, "rope.scaling.original_context_length", r,
                    "original_max_position_embeddings", err));
    TRY(get_real(o, "rope.scaling.attn_factor", &of_short, &found, err));
    of_long = of_short;
    TRY(get_real(o, "rope.scaling.attn_factor_long", &of_long, &found, err));
    TRY(set(r, "short_mscale", real_json(of_short), err));
    TRY(set(r, "long_mscale", real_json(of_long), err));
    TRY(put_factors(o, r, "short_factor", "rope_factors_short.weight", err));
    return put_factors(o, r, "long_factor", "rope_factors_long.weight", err);
}

static cadre_err put_rope(const struct out *o, cadre_error *err)
{
    char key[128];
    double base;
    bool found;
    struct gguf_string type;
    TRY(get_real(o, "rope.freq_base", &base, &found, err));
    if (found && !hf_key_own(o->hf, "rope.freq_base"))
        TRY(set(o->root, "rope_theta", real_json(base), err));
    full_name(o, "rope.scaling.type", key);
    TRY(gguf_get_string(o->g, key, &type, &found, err));
    if (!found || strcmp(type.p, "none") == 0)
        return CADRE_OK;
    if (strcmp(type.p, "longrope") == 0)
        return put_longrope(o, err);
    CHECK(err, strcmp(type.p, "yarn") == 0 || strcmp(type.p, "linear") == 0, CADRE_E_UNSUPPORTED,
          "%s: only linear, yarn and longrope can be written to a config.json", key);
    return put_scaling(o, type.p, err);
}

/* What every class has besides the rows. */
static cadre_err put_general(const struct out *o, cadre_error *err)
{
    int64_t id;
    bool found;
    TRY(set(o->root, "architectures", json_pack("[s]", o->hf->architecture), err));
    TRY(set(o->root, "model_type", json_string(o->hf->model_type), err));
    TRY(set(o->root, "tie_word_embeddings", json_boolean(!gguf_tensor_find(o->g, "output.weight")), err));
    static const char *const ids[][2] = {{"bos_token_id", "tokenizer.ggml.bos_token_id"},
                                         {"eos_token_id", "tokenizer.ggml.eos_token_id"},
                                         {"pad_token_id", "tokenizer.ggml.padding_token_id"}};
    for (int i = 0; i < 3; i++) {
        TRY(gguf_get_i64(o->g, ids[i][1], &id, &found, err));
        if (found)
            TRY(set(o->root, ids[i][0], json_integer(id), err));
    }
    const struct gguf_tensor *embedding = gguf_tensor_find(o->g, "token_embd.weight");
    if (embedding)
        TRY(set(o->root, "vocab_size", json_integer(embedding->dim[1]), err));
    return o->hf->own_heads ? CADRE_OK
                            : hf_copy_int(o->g, o->architecture, "attention.key_length", o->root, "head_dim", err);
}

static cadre_err fill(const struct out *o, cadre_error *err)
{
    TRY(put_general(o, err));
    for (const struct hf_key *row = hf_common_keys; row->hf; row++)
        if (!hf_key_replaced(o->hf, row) && strcmp(row->gguf, "vocab_size") != 0)
            TRY(put_row(o, row, err));
    for (const struct hf_key *row = o->hf->keys; row && row->hf; row++)
        TRY(put_row(o, row, err));
    TRY(put_rope(o, err));
    return o->hf->restore ? o->hf->restore(o->g, o->root, err) : CADRE_OK;
}

/* The model that a reader finds in the config, with the file's tensors. */
static cadre_err read_back(const struct out *o, json_t *root, struct spec *said, cadre_error *err)
{
    struct hf_config c = {.path = "config.json", .root = root};
    struct gguf *g;
    TRY(hf_config_family(&c, err));
    TRY(hf_config_unfold(&c, root, err));
    TRY(hf_open_keys(&g, &c, "", o->g, err));
    cadre_err rc = spec_from_gguf(said, g, err);
    gguf_close(g);
    return rc;
}

/* Not every class has a key for all that a family of files can say. */
static cadre_err check_said(const struct out *o, cadre_error *err)
{
    struct spec is, said;
    TRY(spec_from_gguf(&is, o->g, err));
    json_t *root = json_deep_copy(o->root);
    CHECK(err, root, CADRE_E_MEMORY, "no memory for a config.json");
    cadre_error why = {0};
    cadre_err rc = read_back(o, root, &said, &why);
    json_decref(root);
    CHECK(err, rc == CADRE_OK, rc == CADRE_E_MEMORY ? rc : CADRE_E_UNSUPPORTED,
          "a %s cannot be this model, keep the GGUF file: %s", o->hf->architecture, why.text);
    const char *other = keys_other(&is, &said);
    CHECK(err, !other, CADRE_E_UNSUPPORTED,
          "%s: the config.json of a %s has no way to say it, and this model differs from what that class implies; keep "
          "the GGUF file",
          other, o->hf->architecture);
    return CADRE_OK;
}

cadre_err hf_export_config(const struct gguf *g, char **text, cadre_error *err)
{
    const struct family *family;
    struct out o = {.g = g};
    *text = NULL;
    TRY(hf_export_family(g, &family, &o.hf, err));
    o.architecture = family->name;
    o.root = json_object();
    CHECK(err, o.root, CADRE_E_MEMORY, "no memory for a config.json");
    cadre_err rc = fill(&o, err);
    if (rc == CADRE_OK)
        rc = check_said(&o, err);
    if (rc == CADRE_OK) {
        *text = json_dumps(o.root, JSON_INDENT(2));
        if (!*text)
            rc = error_set(err, CADRE_E_MEMORY, "no memory for a config.json");
    }
    json_decref(o.root);
    return rc;
}
