#include "model/keys.h"

#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "file/names.h"
#include "model/attention.h"
#include "model/experts.h"

enum kind {
    KIND_I64,
    KIND_INT,
    KIND_REAL,
    KIND_BOOL,
    KIND_GATING,    /* a router by its number in GGUF */
    KIND_ROUTER,    /* a router by its name: those without a number */
    KIND_EXPERT,    /* an expert kind by its name */
    KIND_ATTENTION, /* an attention kind by its name */
    KIND_QK_NORM,
    KIND_NORM,
    KIND_SIDE,
    KIND_LAYERS,   /* only listed, a number for each layer */
    KIND_SECTIONS, /* up to four numbers */
    KIND_SCHEDULE, /* of the number of active experts, by its name */
    KIND_SLICES,   /* "1,1,2" */
};

enum {
    REQUIRED = 1,
    DENSE_TOO = 2, /* the field means something in models without experts */
    OF_LAYERS = 4, /* one of several ways to say what each layer is: spec_layer has what comes of them */
};

struct key {
    const char *name; /* after "family." */
    enum spec_key group;
    enum kind kind;
    size_t field;
    unsigned flags;
    size_t list; /* 0, or where the numbers go if there is one for each layer */
};

#define F(f) offsetof(struct spec, f)

static const struct key keys[] = {
    {"context_length", KEY_COMMON, KIND_I64, F(n_ctx), REQUIRED, 0},
    {"embedding_length", KEY_COMMON, KIND_I64, F(d_model), REQUIRED, 0},
    {"block_count", KEY_COMMON, KIND_I64, F(n_layer), REQUIRED, 0},
    {"nextn_predict_layers", KEY_COMMON, KIND_I64, F(n_nextn), 0, 0},
    {"embedding_scale", KEY_SCALES, KIND_REAL, F(embedding_scale), DENSE_TOO, 0},
    {"residual_scale", KEY_SCALES, KIND_REAL, F(residual_scale), DENSE_TOO, 0},
    {"logit_scale", KEY_SCALES, KIND_REAL, F(logit_divisor), DENSE_TOO, 0},
    {"final_logit_softcapping", KEY_SOFTCAP, KIND_REAL, F(logit_softcap), DENSE_TOO, 0},
    {"output_bias", KEY_OWN, KIND_BOOL, F(output_bias), DENSE_TOO, 0},
    {"norm", KEY_OWN, KIND_NORM, F(norm), DENSE_TOO, 0},
    {"norm_bias", KEY_OWN, KIND_BOOL, F(norm_bias), DENSE_TOO, 0},
    {"attention.kind", KEY_OWN, KIND_ATTENTION, F(attention), DENSE_TOO, 0},
    {"attention.head_count", KEY_COMMON, KIND_I64, F(n_head), REQUIRED | OF_LAYERS, F(n_head_at)},
    {"attention.head_count_kv", KEY_COMMON, KIND_I64, F(n_kv_head), OF_LAYERS, F(n_kv_head_at)},
    {"attention.key_length", KEY_COMMON, KIND_I64, F(head_dim), 0, 0},
    {"attention.value_length", KEY_COMMON, KIND_I64, F(v_dim), 0, 0},
    {"attention.layer_norm_rms_epsilon", KEY_RMS_EPS, KIND_REAL, F(norm_eps), REQUIRED, 0},
    {"attention.layer_norm_epsilon", KEY_LAYER_EPS, KIND_REAL, F(norm_eps), REQUIRED, 0},
    {"attention.scale", KEY_ATTENTION_SCALE, KIND_REAL, F(attention_scale), DENSE_TOO, 0},
    {"attention.sliding_window", KEY_WINDOW, KIND_I64, F(window), DENSE_TOO | OF_LAYERS, 0},
    {"attention.sliding_window_pattern", KEY_WINDOW, KIND_I64, F(window_period), DENSE_TOO | OF_LAYERS, F(slides)},
    {"attention.sliding_window_full_first", KEY_OWN, KIND_BOOL, F(window_full_first), DENSE_TOO | OF_LAYERS, 0},
    {"attention.gate", KEY_OWN, KIND_BOOL, F(attention_gate), DENSE_TOO, 0},
    {"attention.recurrent_kind", KEY_OWN, KIND_ATTENTION, F(recurrent), DENSE_TOO | OF_LAYERS, 0},
    {"attention.recurrent_layers", KEY_DELTA, KIND_LAYERS, F(recurrent_at), DENSE_TOO | OF_LAYERS, F(recurrent_at)},
    {"full_attention_interval", KEY_DELTA, KIND_I64, F(recurrent_period), DENSE_TOO | OF_LAYERS, 0},
    {"ssm.conv_kernel", KEY_DELTA, KIND_I64, F(delta.taps), DENSE_TOO, 0},
    {"ssm.state_size", KEY_DELTA, KIND_I64, F(delta.k_dim), DENSE_TOO, 0},
    {"ssm.group_count", KEY_DELTA, KIND_I64, F(delta.k_heads), DENSE_TOO, 0},
    {"ssm.time_step_rank", KEY_DELTA, KIND_I64, F(delta.v_heads), DENSE_TOO, 0},
    {"ssm.inner_size", KEY_DELTA, KIND_I64, F(delta.inner), DENSE_TOO, 0},
    {"ssm.tiled", KEY_OWN, KIND_BOOL, F(delta.tiled), DENSE_TOO, 0},
    {"ssm.joined_gates", KEY_OWN, KIND_BOOL, F(delta.joined_gates), DENSE_TOO, 0},
    {"shortconv.l_cache", KEY_SHORT_CONV, KIND_I64, F(conv_taps), DENSE_TOO, 0},
    {"attention.q_lora_rank", KEY_LATENT, KIND_I64, F(q_rank), DENSE_TOO, 0},
    {"attention.kv_lora_rank", KEY_LATENT, KIND_I64, F(kv_rank), DENSE_TOO, 0},
    {"attention.q_lora_scale", KEY_LATENT_SCALES, KIND_REAL, F(q_latent_scale), DENSE_TOO, 0},
    {"attention.kv_lora_scale", KEY_LATENT_SCALES, KIND_REAL, F(kv_latent_scale), DENSE_TOO, 0},
    {"attention.clamp_kqv", KEY_CLAMP, KIND_REAL, F(qkv_clamp), DENSE_TOO, 0},
    {"attention.qk_norm", KEY_OWN, KIND_QK_NORM, F(qk_norm), DENSE_TOO, 0},
    {"attention.qk_norm_after_rope", KEY_OWN, KIND_BOOL, F(qk_norm_after_rope), DENSE_TOO, 0},
    {"attention.qkv_bias", KEY_OWN, KIND_BOOL, F(qkv_bias), DENSE_TOO, 0},
    {"attention.output_bias", KEY_OWN, KIND_BOOL, F(o_bias), DENSE_TOO, 0},
    {"attention.sinks", KEY_OWN, KIND_BOOL, F(sinks), DENSE_TOO, 0},
    {"rope.dimension_count", KEY_COMMON, KIND_I64, F(n_rot), 0, 0},
    {"rope.dimension_sections", KEY_SECTIONS, KIND_SECTIONS, F(rope_sections), DENSE_TOO, 0},
    {"rope.freq_base", KEY_COMMON, KIND_REAL, F(rope_base), 0, 0},
    {"rope.none", KEY_OWN, KIND_BOOL, F(no_rope), DENSE_TOO, 0},
    {"rope.pairs", KEY_OWN, KIND_BOOL, F(rope_pairs), DENSE_TOO, 0},
    {"rope.sliding_only", KEY_OWN, KIND_BOOL, F(rope_sliding_only), DENSE_TOO, 0},
    {"rope.scaling.original_context_length", KEY_COMMON, KIND_I64, F(yarn_ctx), 0, 0},
    {"rope.scaling.yarn_beta_fast", KEY_COMMON, KIND_REAL, F(yarn_beta_fast), 0, 0},
    {"rope.scaling.yarn_beta_slow", KEY_COMMON, KIND_REAL, F(yarn_beta_slow), 0, 0},
    {"rope.scaling.yarn_log_multiplier", KEY_LATENT, KIND_REAL, F(yarn_log_multiplier), DENSE_TOO, 0},
    {"rope.scaling.attn_factor", KEY_COMMON, KIND_REAL, F(rope_attention_factor), 0, 0},
    {"rope.scaling.attn_factor_long", KEY_LONG_FACTOR, KIND_REAL, F(rope_long_factor), DENSE_TOO, 0},
    {"leading_dense_block_count", KEY_LEADING_DENSE, KIND_I64, F(n_dense_leading), OF_LAYERS, 0},
    {"interleave_moe_layer_step", KEY_MOE_PERIOD, KIND_I64, F(moe_period), OF_LAYERS, 0},
    {"feed_forward_length", KEY_COMMON, KIND_I64, F(dense_ff), OF_LAYERS, F(dense_ff_at)},
    {"expert_count", KEY_COMMON, KIND_INT, F(n_expert), 0, 0},
    {"expert_zero_count", KEY_LIGHT, KIND_INT, F(n_zero), 0, 0},
    {"expert_copy_count", KEY_LIGHT, KIND_INT, F(n_copy), 0, 0},
    {"expert_constant_count", KEY_LIGHT, KIND_INT, F(n_constant), 0, 0},
    {"expert_used_count", KEY_COMMON, KIND_INT, F(router.k), 0, 0},
    {"expert_feed_forward_length", KEY_EXPERT_FF, KIND_I64, F(expert_ff), 0, 0},
    {"expert_shared_feed_forward_length", KEY_SHARED_FF, KIND_I64, F(shared_ff), 0, 0},
    {"expert_shared_gated", KEY_OWN, KIND_BOOL, F(shared_gated), 0, 0},
    {"expert_gating_func", KEY_GATING, KIND_GATING, F(router.kind), 0, 0},
    {"expert_router", KEY_OWN, KIND_ROUTER, F(router.kind), 0, 0},
    {"expert_side", KEY_OWN, KIND_SIDE, F(moe_side), 0, 0},
    {"expert_gate_early", KEY_OWN, KIND_BOOL, F(gate_early), 0, 0},
    {"expert_scaled", KEY_OWN, KIND_BOOL, F(expert_scaled), 0, 0},
    {"expert_gate_bias", KEY_OWN, KIND_BOOL, F(gate_bias), 0, 0},
    {"expert_bias", KEY_OWN, KIND_BOOL, F(expert_bias), 0, 0},
    {"expert_selection_bias", KEY_OWN, KIND_BOOL, F(router_bias), 0, 0},
    {"expert_weights_norm", KEY_WEIGHTS_NORM, KIND_BOOL, F(router.normalize), 0, 0},
    {"expert_weights_scale", KEY_WEIGHTS_SCALE, KIND_REAL, F(router.scale), 0, 0},
    {"expert_group_count", KEY_COMMON, KIND_INT, F(router.groups.n), 0, 0},
    {"expert_group_used_count", KEY_COMMON, KIND_INT, F(router.groups.used), 0, 0},
    {"expert_group_best_count", KEY_GROUP_BEST, KIND_INT, F(router.groups.best), 0, 0},
    {"expert_threshold", KEY_THRESHOLD, KIND_REAL, F(router.threshold), 0, 0},
    {"expert_used_schedule", KEY_OWN, KIND_SCHEDULE, F(schedule), 0, 0},
    {"expert_used_min_count", KEY_OWN, KIND_INT, F(k_min), 0, 0},
    {"expert_slices", KEY_OWN, KIND_SLICES, F(slices), 0, 0},
    {"expert_latent_length", KEY_OWN, KIND_I64, F(latent), 0, 0},
    {"expert_head_count", KEY_OWN, KIND_INT, F(moe_heads), 0, 0},
    {"expert_chain_count", KEY_OWN, KIND_INT, F(chain), 0, 0},
    {"expert_router_state_length", KEY_OWN, KIND_I64, F(router_state), 0, 0},
    {"expert_gate_residual", KEY_OWN, KIND_BOOL, F(gate_residual), 0, 0},
    {"expert_kind", KEY_OWN, KIND_EXPERT, F(expert_kind), DENSE_TOO, 0},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

/* Scaling of rope is one field each of the two ways, told apart by a name: read and written by hand below. */
static const char scaling_type[] = "rope.scaling.type", scaling_factor[] = "rope.scaling.factor";

/* In files of others, and without effect on what a model computes. */
static const char *const harmless[] = {"vocab_size",
                                       "rope.scaling.finetuned",
                                       "tensor_data_layout",
                                       "attention.layer_norm_epsilon",
                                       "attention.layer_norm_rms_epsilon",
                                       NULL};

/* How many shared experts there are of the width of a routed one, or of that which the file says: one number in the
 * spec, the width of all. */
static const char shared_count[] = "expert_shared_count";

static const struct {
    int64_t number;
    const struct router *router;
} gatings[] = {{1, &router_softmax}, {2, &router_sigmoid}, {3, &router_topk_softmax}};
enum { N_GATINGS = sizeof gatings / sizeof *gatings };

/* Enums by name. */
static const char *const qk_norms[] = {[QK_NORM_NONE] = "none", [QK_NORM_HEAD] = "head", [QK_NORM_FULL] = "full", NULL};
static const char *const norms[] = {[NORM_RMS] = "rms", [NORM_LAYER] = "layer", NULL};
static const char *const sides[] = {
    [MOE_INSTEAD] = "instead", [MOE_BESIDE] = "beside", [MOE_SHORTCUT] = "shortcut", NULL};

static const char *const *names_of(enum kind kind)
{
    return kind == KIND_NORM ? norms : kind == KIND_SIDE ? sides : qk_norms;
}

static bool in_list(const char *const *list, const char *name)
{
    for (; list && *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

static bool has_group(const struct family *f, enum spec_key group)
{
    switch (group) {
    case KEY_COMMON:
        return true;
    case KEY_RMS_EPS:
        return f->facts.norm == NORM_RMS;
    case KEY_LAYER_EPS:
        return f->facts.norm == NORM_LAYER;
    default:
        return f->keys & KEYS(group);
    }
}

/* Whether the table reads and writes it; a family's own functions come before the table. */
static bool has_key(const struct family *f, const struct key *k)
{
    return has_group(f, k->group) && !in_list(f->own_keys, k->name);
}

static bool known(const struct family *f, const char *name)
{
    for (int i = 0; i < N_KEYS; i++)
        if ((keys[i].group != KEY_OWN || has_key(f, &keys[i])) && strcmp(keys[i].name, name) == 0)
            return true; /* not the family's: see keys_implied */
    if (strcmp(name, shared_count) == 0)
        return true; /* elsewhere a width says it, and the tensors have that width or are refused */
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

static const char *read_enum(const char *const *names, const char *name, void *field)
{
    for (int i = 0; names[i]; i++)
        if (strcmp(names[i], name) == 0) {
            *(int *)field = i;
            return names[i];
        }
    return NULL;
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
    else if (kind == KIND_SCHEDULE)
        value = *(const struct expert_schedule **)field = expert_schedule_find(s.p);
    else if (kind == KIND_SLICES)
        value = slice_pattern_parse(field, s.p) ? field : NULL;
    else if (kind == KIND_ATTENTION)
        value = *(const struct attention_kind **)field = attention_kind_find(s.p);
    else
        value = read_enum(names_of(kind), s.p, field);
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
    if (n == 0) /* not said */
        return CADRE_OK;
    return error_set(err, CADRE_E_UNSUPPORTED,
                     "%s: expected 1 (softmax), 2 (sigmoid) or 3 (top-k, then softmax), found %lld", key, (long long)n);
}

/* Missing ones are zeros. */
static cadre_err read_sections(const struct gguf *g, const char *key, int32_t *field, bool *found, cadre_error *err)
{
    const int64_t *values;
    int64_t n;
    TRY(gguf_get_i64s(g, key, &values, &n, found, err));
    CHECK(err, !*found || n <= 4, CADRE_E_FORMAT, "%s: expected at most 4 numbers, found %lld", key, (long long)n);
    for (int64_t i = 0; *found && i < n; i++) {
        CHECK(err, values[i] >= 0 && values[i] <= INT32_MAX, CADRE_E_FORMAT, "%s[%lld]: expected 0 to %d, found %lld",
              key, (long long)i, INT32_MAX, (long long)values[i]);
        field[i] = (int32_t)values[i];
    }
    return CADRE_OK;
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
    case KIND_SECTIONS:
        return read_sections(g, key, field, found, err);
    case KIND_LAYERS: /* arrays are read before */
        *found = false;
        CHECK(err, !gguf_has(g, key), CADRE_E_FORMAT, "%s: expected a number for each layer, found a single value",
              key);
        return CADRE_OK;
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
    if (strcmp(type.p, "longrope") == 0) { /* its factors are tensors */
        s->rope_factors = true;
        return CADRE_OK;
    }
    real *field = strcmp(type.p, "linear") == 0 ? &s->rope_linear
                  : strcmp(type.p, "yarn") == 0 ? &s->yarn_factor
                                                : NULL;
    CHECK(err, field, CADRE_E_UNSUPPORTED, "%s: expected none, linear, yarn or longrope, found '%s'", key,
          shown(type.p, type.n).s);
    *field = (real)factor;
    return CADRE_OK;
}

/* One number for every layer, in the spec's list. */
static cadre_err read_list(const struct gguf *g, const char *key, struct layer_list *list, int64_t n_layer, bool *found,
                           cadre_error *err)
{
    const int64_t *values;
    int64_t n;
    TRY(gguf_get_i64s(g, key, &values, &n, found, err));
    CHECK(err, n >= n_layer && n_layer <= MODEL_MAX_LAYERS, CADRE_E_FORMAT,
          "%s: expected a number for each of %lld layers, found %lld", key, (long long)n_layer, (long long)n);
    list->given = true;
    for (int64_t i = 0; i < n_layer; i++) {
        CHECK(err, values[i] >= 0 && values[i] <= INT32_MAX, CADRE_E_FORMAT, "%s[%lld]: expected 0 to %d, found %lld",
              key, (long long)i, INT32_MAX, (long long)values[i]);
        list->at[i] = (int32_t)values[i];
    }
    return CADRE_OK;
}

static cadre_err read_shared_count(const struct family *f, struct spec *s, const struct gguf *g, cadre_error *err)
{
    char key[KEY_NAME];
    int64_t n = 0, one = s->shared_ff ? s->shared_ff : s->expert_ff;
    bool found;
    full_name(f, shared_count, key);
    TRY(gguf_get_i64(g, key, &n, &found, err));
    CHECK(err, n >= 0 && n <= MODEL_MAX_EXPERTS, CADRE_E_FORMAT, "%s: expected 0 to %d, found %lld", key,
          MODEL_MAX_EXPERTS, (long long)n);
    CHECK(err, one >= 0 && one <= INT32_MAX, CADRE_E_FORMAT,
          "%s.expert_feed_forward_length: expected a width, found %lld", f->name, (long long)one);
    s->shared_ff = n * one;
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
        if (k->list && gguf_is_array(g, name))
            TRY(read_list(g, name, (struct layer_list *)(void *)((char *)s + k->list), s->n_layer, &found, err));
        else
            TRY(read_key(g, name, (char *)s + k->field, k->kind, &found, err));
        CHECK(err, found || !(k->flags & REQUIRED), CADRE_E_FORMAT, "key '%s': expected in every %s model, not found",
              name, f->name);
    }
    if (has_group(f, KEY_SHARED_COUNT))
        TRY(read_shared_count(f, s, g, err));
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
    char slices[SLICE_PATTERN_TEXT];
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
    case KIND_SECTIONS:
        return gguf_put_i32s(w, key, field, 4, err);
    case KIND_LAYERS: /* written as a list, or says nothing */
        return CADRE_OK;
    case KIND_ROUTER:
        text = (*(const struct router *const *)field)->name;
        break;
    case KIND_EXPERT:
        text = (*(const struct expert_kind *const *)field)->name;
        break;
    case KIND_ATTENTION:
        text = (*(const struct attention_kind *const *)field)->name;
        break;
    case KIND_SCHEDULE:
        if (!*(const struct expert_schedule *const *)field)
            return CADRE_OK;
        text = (*(const struct expert_schedule *const *)field)->name;
        break;
    case KIND_SLICES:
        slice_pattern_text(field, slices);
        text = slices;
        break;
    default:
        text = names_of(kind)[*(const int *)field];
    }
    return gguf_put_string(w, key, text, strlen(text), err);
}

static cadre_err write_scaling(const struct family *f, const struct spec *s, struct gguf_writer *w, cadre_error *err)
{
    char key[KEY_NAME];
    bool yarn = spec_has_yarn(s);
    if (s->rope_factors) {
        full_name(f, scaling_type, key);
        return gguf_put_string(w, key, "longrope", 8, err);
    }
    if (!yarn && s->rope_linear == 1)
        return CADRE_OK;
    full_name(f, scaling_type, key);
    TRY(gguf_put_string(w, key, yarn ? "yarn" : "linear", yarn ? 4 : 6, err));
    full_name(f, scaling_factor, key);
    return gguf_put_f32(w, key, (float)(yarn ? s->yarn_factor : s->rope_linear), err);
}

static bool starts_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* Experts' keys say nothing about a dense model, YaRN's nothing without it: readers of others refuse some of them. */
static bool says_something(const struct key *k, const struct spec *s)
{
    if (k->field == F(n_nextn))
        return false; /* they were left out */
    if (k->field == F(router.groups.best))
        return s->router.groups.n > 0 && s->router.groups.best != 2; /* what a file without it means */
    if (k->field == F(rope_long_factor))
        return s->rope_long_factor != 0;
    if (starts_with(k->name, "expert_group_"))
        return s->router.groups.n > 0;
    if (k->field != F(expert_kind) &&
        (starts_with(k->name, "expert_") || k->group == KEY_LEADING_DENSE || k->group == KEY_MOE_PERIOD))
        return s->n_expert > 0;
    if (starts_with(k->name, "attention.sliding_window"))
        return s->window > 0 && (k->field != F(window_period) || s->window_period > 0 || s->slides.given);
    if (k->group == KEY_SHORT_CONV)
        return s->recurrent == &attention_short_conv;
    if (starts_with(k->name, "ssm."))
        return s->recurrent == &attention_delta_net;
    if (k->field == F(recurrent) || k->field == F(recurrent_at))
        return s->recurrent;
    if (k->field == F(recurrent_period))
        return s->recurrent_period > 0;
    if (k->kind == KIND_SECTIONS)
        return s->rope_sections[0] || s->rope_sections[1] || s->rope_sections[2] || s->rope_sections[3];
    if (k->field == F(logit_softcap))
        return s->logit_softcap != 0;
    if (starts_with(k->name, "rope.scaling."))
        return spec_has_yarn(s) || s->rope_factors || s->rope_attention_factor != 1;
    return true;
}

static cadre_err write_shared_count(const struct family *f, const struct spec *s, struct gguf_writer *w,
                                    cadre_error *err)
{
    char key[KEY_NAME];
    full_name(f, shared_count, key);
    return gguf_put_u32(w, key,
                        has_group(f, KEY_SHARED_FF) ? s->shared_ff > 0 : (uint32_t)(s->shared_ff / s->expert_ff), err);
}

cadre_err keys_write(const struct family *f, const struct spec *s, struct gguf_writer *w, cadre_error *err)
{
    char name[KEY_NAME];
    struct spec out = *s;
    spec_defaults(&out);
    if (s->n_expert > 0 && (f->experts_in_ff || (s->dense_ff == 0 && !s->dense_ff_at.given)))
        out.dense_ff = s->expert_ff; /* readers want the key even when no layer is dense */
    full_name(f, "vocab_size", name);
    TRY(gguf_put_u32(w, name, (uint32_t)s->n_vocab, err));
    for (int i = 0; i < N_KEYS; i++) {
        if (!has_key(f, &keys[i]) || !says_something(&keys[i], &out))
            continue;
        full_name(f, keys[i].name, name);
        const struct layer_list *list =
            keys[i].list ? (const struct layer_list *)(const void *)((const char *)&out + keys[i].list) : NULL;
        if (list && list->given)
            TRY(gguf_put_i32s(w, name, list->at, s->n_layer, err));
        else
            TRY(write_key(w, name, (const char *)&out + keys[i].field, keys[i].kind, err));
    }
    if (has_group(f, KEY_SHARED_COUNT) && s->n_expert > 0)
        TRY(write_shared_count(f, s, w, err));
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
    case KIND_NORM:
    case KIND_SIDE:
        return *(const int *)x == *(const int *)y;
    case KIND_SECTIONS:
        return memcmp(x, y, sizeof a->rope_sections) == 0;
    case KIND_LAYERS:
        return !a->recurrent_at.given && !b->recurrent_at.given;
    case KIND_SLICES:
        return memcmp(x, y, sizeof(struct slice_pattern)) == 0;
    default:
        return *(const void *const *)x == *(const void *const *)y;
    }
}

static bool nearly(real a, real b)
{
    return a == b || fabs((double)a - (double)b) <= 1e-6 * fabs((double)b);
}

static const char *other_layer(const struct spec *a, const struct spec *b)
{
    for (int64_t i = 0; i < a->n_layer; i++) {
        struct layer_spec x = spec_layer(a, i), y = spec_layer(b, i);
        if (x.attention != y.attention)
            return "attention of a layer";
        if (x.n_head != y.n_head || x.n_kv_head != y.n_kv_head)
            return "heads of a layer";
        if (x.window != y.window)
            return "window of a layer";
        if (x.rope != y.rope)
            return "rope of a layer";
        if (x.moe != y.moe || x.dense != y.dense || (x.dense && x.dense_ff != y.dense_ff))
            return "feed-forward of a layer";
    }
    return NULL;
}

const char *keys_other(const struct spec *a, const struct spec *b)
{
    if (a->n_layer != b->n_layer)
        return "block_count";
    if (!nearly(a->rope_linear, b->rope_linear) || !nearly(a->yarn_factor, b->yarn_factor))
        return scaling_factor;
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];
        if (k->flags & OF_LAYERS || (!says_something(k, a) && !says_something(k, b)))
            continue;
        bool same = k->kind == KIND_REAL ? nearly(*(const real *)(const void *)((const char *)a + k->field),
                                                  *(const real *)(const void *)((const char *)b + k->field))
                                         : equal(a, b, k);
        if (!same)
            return k->name;
    }
    return other_layer(a, b);
}

/* A bool that a file says by having a tensor. One that the family implies cannot be said to be false. */
static bool said_by_tensor(const struct spec *s, const struct spec *facts, const struct key *k)
{
    if (k->kind == KIND_BOOL && *(const bool *)((const char *)facts + k->field))
        return false;
    struct tensor_walk w = tensor_walk(s);
    for (w.all = true; tensor_next(&w);)
        if (w.def->option == k->field && w.def->option)
            return true;
    return false;
}

/* Whether the spec's router has a number, and the family a key for that. */
static bool said_by_gating(const struct family *f, const struct spec *s, const struct key *k)
{
    int64_t number;
    return k->kind == KIND_ROUTER && has_group(f, KEY_GATING) && has_number(s->router.kind, &number);
}

cadre_err keys_express(const struct family *f, const struct spec *s, cadre_error *err)
{
    struct spec own = *s,
                facts = f->facts; /* facts with the fields that other code reads from elsewhere taken from s */
    bool counted = has_group(f, KEY_SHARED_COUNT);
    facts.n_expert = s->n_expert;
    facts.n_layer = s->n_layer;
    facts.window = has_group(f, KEY_WINDOW) ? s->window : f->facts.window;
    facts.expert_ff = f->experts_in_ff ? s->expert_ff : 0;
    facts.shared_ff = counted ? s->shared_ff : 0;
    facts.router.groups.n = s->router.groups.n; /* the number that ranks them is what the default makes of it */
    facts.router.groups.used = s->router.groups.used;
    spec_defaults(&facts);
    spec_defaults(&own);
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];
        if (has_key(f, k) || in_list(f->own_keys, k->name) || k->group == KEY_RMS_EPS || k->group == KEY_LAYER_EPS ||
            (s->n_expert == 0 && !(k->flags & DENSE_TOO)) || said_by_tensor(s, &facts, k) || said_by_gating(f, s, k))
            continue;
        CHECK(err, equal(&own, &facts, k), CADRE_E_UNSUPPORTED,
              "a %s file has no key for '%s', and this model differs from what the architecture implies; save it as "
              "cadre",
              f->name, k->name);
    }
    counted &= !has_group(f, KEY_SHARED_FF);
    CHECK(err, !counted || s->n_expert == 0 || s->shared_ff % s->expert_ff == 0, CADRE_E_UNSUPPORTED,
          "%s: expected a shared width that is a multiple of the experts' (%lld), found %lld; save as cadre", f->name,
          (long long)s->expert_ff, (long long)s->shared_ff);
    return CADRE_OK;
}

cadre_err keys_implied(const struct family *f, const struct spec *s, const struct gguf *g, cadre_error *err)
{
    char name[KEY_NAME];
    struct spec said;
    for (int i = 0; i < N_KEYS; i++) {
        const struct key *k = &keys[i];
        bool found;
        full_name(f, k->name, name);
        if (has_key(f, k) || in_list(f->own_keys, k->name) || k->group == KEY_OWN || k->group == KEY_RMS_EPS ||
            k->group == KEY_LAYER_EPS || !gguf_has(g, name))
            continue;
        said = *s;
        TRY(read_key(g, name, (char *)&said + k->field, k->kind, &found, err));
        spec_defaults(&said);
        CHECK(err, equal(s, &said, k), CADRE_E_UNSUPPORTED,
              "key '%s' is not supported for this architecture, which implies another value: ignoring it could change "
              "results",
              name);
    }
    return CADRE_OK;
}
