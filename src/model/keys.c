#include "model/keys.h"

#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "file/names.h"

enum kind {
    KIND_I64,
    KIND_INT,
    KIND_REAL,
    KIND_BOOL,
    KIND_GATING, /* a router by its number in GGUF */
    KIND_ROUTER, /* a router by its name: those without a number */
    KIND_EXPERT, /* an expert kind by its name */
    KIND_QK_NORM,
};

enum { REQUIRED = 1, DENSE_TOO = 2 /* the field means something in models without experts */ };

struct key {
    const char *name; /* after "family." */
    enum spec_key group;
    enum kind kind;
    size_t field;
    unsigned flags;
};

#define F(f) offsetof(struct spec, f)

static const struct key keys[] = {
    {"context_length", KEY_COMMON, KIND_I64, F(n_ctx), REQUIRED},
    {"embedding_length", KEY_COMMON, KIND_I64, F(d_model), REQUIRED},
    {"block_count", KEY_COMMON, KIND_I64, F(n_layer), REQUIRED},
    {"feed_forward_length", KEY_COMMON, KIND_I64, F(dense_ff), 0},
    {"attention.head_count", KEY_COMMON, KIND_I64, F(n_head), REQUIRED},
    {"attention.head_count_kv", KEY_COMMON, KIND_I64, F(n_kv_head), 0},
    {"attention.key_length", KEY_COMMON, KIND_I64, F(head_dim), 0},
    {"attention.value_length", KEY_COMMON, KIND_I64, F(v_dim), 0},
    {"attention.layer_norm_rms_epsilon", KEY_COMMON, KIND_REAL, F(norm_eps), REQUIRED},
    {"attention.scale", KEY_ATTENTION_SCALE, KIND_REAL, F(attention_scale), DENSE_TOO},
    {"attention.qk_norm", KEY_OWN, KIND_QK_NORM, F(qk_norm), DENSE_TOO},
    {"attention.qkv_bias", KEY_OWN, KIND_BOOL, F(qkv_bias), DENSE_TOO},
    {"attention.output_bias", KEY_OWN, KIND_BOOL, F(o_bias), DENSE_TOO},
    {"rope.dimension_count", KEY_COMMON, KIND_I64, F(n_rot), 0},
    {"rope.freq_base", KEY_COMMON, KIND_REAL, F(rope_base), 0},
    {"rope.pairs", KEY_OWN, KIND_BOOL, F(rope_pairs), DENSE_TOO},
    {"rope.scaling.original_context_length", KEY_COMMON, KIND_I64, F(yarn_ctx), 0},
    {"rope.scaling.yarn_beta_fast", KEY_COMMON, KIND_REAL, F(yarn_beta_fast), 0},
    {"rope.scaling.yarn_beta_slow", KEY_COMMON, KIND_REAL, F(yarn_beta_slow), 0},
    {"rope.scaling.attn_factor", KEY_COMMON, KIND_REAL, F(rope_attention_factor), 0},
    {"expert_count", KEY_COMMON, KIND_INT, F(n_expert), 0},
    {"expert_used_count", KEY_COMMON, KIND_INT, F(router.k), 0},
    {"expert_feed_forward_length", KEY_EXPERT_FF, KIND_I64, F(expert_ff), 0},
    {"expert_shared_feed_forward_length", KEY_SHARED_FF, KIND_I64, F(shared_ff), 0},
    {"expert_shared_gated", KEY_OWN, KIND_BOOL, F(shared_gated), 0},
    {"leading_dense_block_count", KEY_LEADING_DENSE, KIND_I64, F(n_dense_leading), 0},
    {"expert_gating_func", KEY_GATING, KIND_GATING, F(router.kind), 0},
    {"expert_router", KEY_OWN, KIND_ROUTER, F(router.kind), 0},
    {"expert_selection_bias", KEY_OWN, KIND_BOOL, F(router_bias), 0},
    {"expert_weights_norm", KEY_WEIGHTS_NORM, KIND_BOOL, F(router.normalize), 0},
    {"expert_weights_scale", KEY_WEIGHTS_SCALE, KIND_REAL, F(router.scale), 0},
    {"expert_group_count", KEY_GROUPS, KIND_INT, F(router.groups.n), 0},
    {"expert_group_used_count", KEY_GROUPS, KIND_INT, F(router.groups.used), 0},
    {"expert_group_best_count", KEY_OWN, KIND_INT, F(router.groups.best), 0},
    {"expert_kind", KEY_OWN, KIND_EXPERT, F(expert_kind), 0},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

/* Scaling of rope is one field each of the two ways, told apart by a name: read and written by hand below. */
static const char scaling_type[] = "rope.scaling.type", scaling_factor[] = "rope.scaling.factor";

/* In files of others, and without effect on what a model computes. */
static const char *const harmless[] = {"vocab_size", "rope.scaling.finetuned", "tensor_data_layout", NULL};

static const struct {
    int64_t number;
    const struct router *router;
} gatings[] = {{1, &router_softmax}, {2, &router_sigmoid}};
enum { N_GATINGS = sizeof gatings / sizeof *gatings };

static const char *const qk_norms[] = {[QK_NORM_NONE] = "none", [QK_NORM_HEAD] = "head", [QK_NORM_FULL] = "full"};
enum { N_QK_NORMS = sizeof qk_norms / sizeof *qk_norms };

static bool has_key(const struct family *f, const struct key *k)
{
    return k->group == KEY_COMMON || (f->keys & KEYS(k->group));
}

static bool in_list(const char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static bool known(const struct family *f, const char *name)
{
    for (int i = 0; i < N_KEYS; i++)
        if (has_key(f, &keys[i]) && strcmp(keys[i].name, name) == 0)
            return true;
    return strcmp(name, scaling_type) == 0 || strcmp(name, scaling_factor) == 0 || in_list(harmless, name) ||
           in_list(f->own_keys, name);
}

cadre_err keys_all_known(const struct family *f, const struct gguf *g, cadre_error *err)
{
    size_t n = strlen(f->name);
    for (int64_t i = 0; i < gguf_kv_count(g); i++) {
        const char *key = gguf_kv_key(g, i);
        if (strncmp(key, f->name, n) == 0 && key[n] == '.')
            CHECK(err, known(f, key + n + 1), CADRE_E_UNSUPPORTED,
                  "key '%s' is not supported for this architecture: ignoring it could change results",
                  shown(key, strlen(key)).s);
    }
    return CADRE_OK;
}

enum { KEY_NAME = 128 };

static void full_name(const struct family *f, const char *name, char out[KEY_NAME])
{
    snprintf(out, KEY_NAME, "%s.%s", f->name, name);
}

static cadre_err read_name(const struct gguf *g, const char *key, void *field, enum kind kind, bool *found,
                           cadre_error *err)
{
    struct gguf_string s;
    TRY(gguf_get_string(g, key, &s, found, err));
    if (!*found)
        return CADRE_OK;
    const void *value = NULL;
    if (kind == KIND_ROUTER)
        value = *(const struct router **)field = router_find(s.p);
    else if (kind == KIND_EXPERT)
        value = *(const struct expert_kind **)field = expert_kind_find(s.p);
    else
        for (int i = 0; i < N_QK_NORMS; i++)
            if (strcmp(qk_norms[i], s.p) == 0) {
                *(enum qk_norm *)field = (enum qk_norm)i;
                value = qk_norms[i];
            }
    CHECK(err, value, CADRE_E_UNSUPPORTED, "%s: '%s' is not known here", key, shown(s.p, s.n).s);
    return CADRE_OK;
}

static cadre_err read_number(const struct gguf *g, const char *key, void *field, enum kind kind, bool *found,
                             cadre_error *err)
{
    int64_t n = 0;
    TRY(gguf_get_i64(g, key, &n, found, err));
    if (!*found)
        return CADRE_OK;
    if (kind == KIND_I64) {
        *(int64_t *)field = n;
        return CADRE_OK;
    }
    if (kind == KIND_INT) {
        CHECK(err, n >= 0 && n <= INT_MAX, CADRE_E_FORMAT, "%s: expected 0 to %d, found %lld", key, INT_MAX,
              (long long)n);
        *(int *)field = (int)n;
        return CADRE_OK;
    }
    for (int i = 0; i < N_GATINGS; i++)
        if (gatings[i].number == n) {
            *(const struct router **)field = gatings[i].router;
            return CADRE_OK;
        }
    return error_set(err, CADRE_E_UNSUPPORTED, "%s: expected 1 (softmax) or 2 (sigmoid), found %lld", key,
                     (long long)n);
}

static cadre_err read_key(const struct gguf *g, const char *key, void *field, enum kind kind, bool *found,
                          cadre_error *err)
{
    double x = 0;
    switch (kind) {
    case KIND_REAL:
        TRY(gguf_get_f64(g, key, &x, found, err));
        if (*found)
            *(real *)field = (real)x;
        return CADRE_OK;
    case KIND_BOOL:
        return gguf_get_bool(g, key, field, found, err);
    case KIND_I64:
    case KIND_INT:
    case KIND_GATING:
        return read_number(g, key, field, kind, found, err);
    default:
        return read_name(g, key, field, kind, found, err);
    }
}

/* "linear" when a factor stands alone, as other readers of the format have it. */
static cadre_err read_scaling(const struct family *f, struct spec *s, const struct gguf *g, cadre_error *err)
{
    char key[KEY_NAME];
    struct gguf_string type = {"linear", 6};
    double factor = 1;
    bool found, has_factor;
    full_name(f, scaling_factor, key);
    TRY(gguf_get_f64(g, key, &factor, &has_factor, err));
    full_name(f, scaling_type, key);
    TRY(gguf_get_string(g, key, &type, &found, err));
    if (strcmp(type.p, "none") == 0)
        return CADRE_OK;
    real *field = strcmp(type.p, "linear") == 0 ? &s->rope_linear
                  : strcmp(type.p, "yarn") == 0 ? &s->yarn_factor
                                                : NULL;
    CHECK(err, field, CADRE_E_UNSUPPORTED, "%s: expected none, linear or yarn, found '%s'", key,
          shown(type.p, type.n).s);
    *field = (real)factor;
    return CADRE_OK;
}

cadre_err keys_read(const struct family *f, struct spec *s, const struct gguf *g, cadre_error *err)
{
    char name[KEY_NAME];
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];
        bool found;
        if (!has_key(f, k))
            continue;
        full_name(f, k->name, name);
        TRY(read_key(g, name, (char *)s + k->field, k->kind, &found, err));
        CHECK(err, found || !(k->flags & REQUIRED), CADRE_E_FORMAT, "key '%s': expected in every %s model, not found",
              name, f->name);
    }
    return read_scaling(f, s, g, err);
}

static bool has_number(const struct router *r, int64_t *number)
{
    for (int i = 0; i < N_GATINGS; i++)
        if (gatings[i].router == r) {
            *number = gatings[i].number;
            return true;
        }
    return false;
}

static cadre_err write_key(struct gguf_writer *w, const char *key, const void *field, enum kind kind, cadre_error *err)
{
    int64_t number;
    const char *text;
    switch (kind) {
    case KIND_I64:
        return gguf_put_u32(w, key, (uint32_t) * (const int64_t *)field, err);
    case KIND_INT:
        return gguf_put_u32(w, key, (uint32_t) * (const int *)field, err);
    case KIND_REAL:
        return gguf_put_f32(w, key, (float)*(const real *)field, err);
    case KIND_BOOL:
        return gguf_put_bool(w, key, *(const bool *)field, err);
    case KIND_GATING:
        if (!has_number(*(const struct router *const *)field, &number))
            return CADRE_OK;
        return gguf_put_u32(w, key, (uint32_t)number, err);
    case KIND_ROUTER:
        text = (*(const struct router *const *)field)->name;
        break;
    case KIND_EXPERT:
        text = (*(const struct expert_kind *const *)field)->name;
        break;
    default:
        text = qk_norms[*(const enum qk_norm *)field];
    }
    return gguf_put_string(w, key, text, strlen(text), err);
}

static cadre_err write_scaling(const struct family *f, const struct spec *s, struct gguf_writer *w, cadre_error *err)
{
    char key[KEY_NAME];
    bool yarn = spec_has_yarn(s);
    if (!yarn && s->rope_linear == 1)
        return CADRE_OK;
    full_name(f, scaling_type, key);
    TRY(gguf_put_string(w, key, yarn ? "yarn" : "linear", yarn ? 4 : 6, err));
    full_name(f, scaling_factor, key);
    return gguf_put_f32(w, key, (float)(yarn ? s->yarn_factor : s->rope_linear), err);
}

/* Experts' keys say nothing about a dense model, YaRN's nothing without it: readers of others refuse some of them. */
static bool says_something(const struct key *k, const struct spec *s)
{
    if (strncmp(k->name, "expert_", 7) == 0 || k->group == KEY_LEADING_DENSE)
        return s->n_expert > 0;
    if (strncmp(k->name, "rope.scaling.", 13) == 0)
        return spec_has_yarn(s) || s->rope_attention_factor != 1;
    return true;
}

cadre_err keys_write(const struct family *f, const struct spec *s, struct gguf_writer *w, cadre_error *err)
{
    char name[KEY_NAME];
    struct spec out = *s;
    spec_defaults(&out);
    if (s->n_expert > 0 && (f->experts_in_ff || s->dense_ff == 0))
        out.dense_ff = s->expert_ff; /* readers want the key even when no layer is dense */
    full_name(f, "vocab_size", name);
    TRY(gguf_put_u32(w, name, (uint32_t)s->n_vocab, err));
    for (int i = 0; i < N_KEYS; i++) {
        if (!has_key(f, &keys[i]) || !says_something(&keys[i], &out))
            continue;
        full_name(f, keys[i].name, name);
        TRY(write_key(w, name, (const char *)&out + keys[i].field, keys[i].kind, err));
    }
    return write_scaling(f, s, w, err);
}

static bool equal(const struct spec *a, const struct spec *b, const struct key *k)
{
    const char *x = (const char *)a + k->field, *y = (const char *)b + k->field;
    switch (k->kind) {
    case KIND_I64:
        return *(const int64_t *)x == *(const int64_t *)y;
    case KIND_INT:
        return *(const int *)x == *(const int *)y;
    case KIND_REAL:
        return *(const real *)x == *(const real *)y;
    case KIND_BOOL:
        return *(const bool *)x == *(const bool *)y;
    case KIND_QK_NORM:
        return *(const enum qk_norm *)x == *(const enum qk_norm *)y;
    default:
        return *(const void *const *)x == *(const void *const *)y;
    }
}

cadre_err keys_express(const struct family *f, const struct spec *s, cadre_error *err)
{
    struct spec own = *s,
                facts = f->facts; /* facts with the fields that other code reads from elsewhere taken from s */
    facts.n_expert = s->n_expert;
    facts.expert_ff = f->experts_in_ff ? s->expert_ff : 0;
    facts.shared_ff = f->own_keys ? s->shared_ff : 0;
    spec_defaults(&facts);
    spec_defaults(&own);
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];
        if (has_key(f, k) || (s->n_expert == 0 && !(k->flags & DENSE_TOO)))
            continue;
        CHECK(err, equal(&own, &facts, k), CADRE_E_UNSUPPORTED,
              "a %s file has no key for '%s', and this model differs from what the architecture implies; save it as "
              "cadre",
              f->name, k->name);
    }
    return CADRE_OK;
}
