/* Hugging Face models of the families qwen3next, qwen35 and qwen35moe. Norms store w - 1 but for the gated one. Where
 * Qwen3-Next joins the inputs of Gated DeltaNet by k head, as ssm_in and ssm_ba have them, Qwen3.5 has them apart, v
 * heads in the order of their k heads. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "file/names.h"
#include "model/hf/config.h"
#include "model/spec.h"

/* ---- which layers attend ---- */

static cadre_err read_types(const struct hf_config *c, const json_t *types, int64_t n, int32_t *recurrent,
                            cadre_error *err)
{
    CHECK(err, json_is_array(types) && json_array_size(types) == (size_t)n, CADRE_E_FORMAT,
          "%s: key 'layer_types': expected an array of %lld texts", c->path, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        recurrent[i] = type && strcmp(type, "linear_attention") == 0;
        CHECK(err, recurrent[i] || (type && strcmp(type, "full_attention") == 0), CADRE_E_UNSUPPORTED,
              "%s: key 'layer_types': only linear_attention and full_attention are supported, found '%s'", c->path,
              type ? shown(type, strlen(type)).s : "not a text");
    }
    return CADRE_OK;
}

/* Of each so many layers the last attends; 0: no such number. */
static int64_t interval_of(const int32_t *recurrent, int64_t n)
{
    int64_t interval = 1;
    while (interval <= n && recurrent[interval - 1])
        interval++;
    for (int64_t i = 0; i < n; i++)
        if (recurrent[i] != ((i + 1) % interval != 0))
            return 0;
    return interval;
}

static cadre_err put_layers(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    const json_t *types = json_object_get(c->root, "layer_types");
    int64_t n = 0, interval = 4;
    int32_t recurrent[MODEL_MAX_LAYERS];
    bool found;
    char key[96];
    TRY(hf_get_int(c, c->root, "num_hidden_layers", 1, MODEL_MAX_LAYERS, &n, NULL, err));
    TRY(hf_get_int(c, c->root, "full_attention_interval", 1, MODEL_MAX_LAYERS, &interval, &found, err));
    if (types && !json_is_null(types)) {
        TRY(read_types(c, types, n, recurrent, err));
        interval = interval_of(recurrent, n);
    }
    if (interval > 0)
        return hf_put_int(k, "full_attention_interval", interval, err);
    snprintf(key, sizeof key, "%s.attention.recurrent_layers", k->architecture);
    return gguf_put_i32s(k->w, key, recurrent, n, err);
}

static cadre_err restore_layers(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err)
{
    char key[96];
    const int64_t *recurrent = NULL;
    int64_t n = json_integer_value(json_object_get(root, "num_hidden_layers")), listed = 0, interval = 4;
    bool found = false;
    snprintf(key, sizeof key, "%s.full_attention_interval", architecture);
    TRY(gguf_get_i64(g, key, &interval, &found, err));
    snprintf(key, sizeof key, "%s.attention.recurrent_layers", architecture);
    if (gguf_is_array(g, key))
        TRY(gguf_get_i64s(g, key, &recurrent, &listed, &found, err));
    CHECK(err, interval > 0 && (!recurrent || listed >= n), CADRE_E_FORMAT, "%s: expected a number for each layer",
          key);
    json_t *types = json_array();
    int bad = json_object_set_new(root, "layer_types", types);
    for (int64_t i = 0; i < n && !bad; i++) {
        bool is = recurrent ? recurrent[i] != 0 : (i + 1) % interval != 0;
        bad = json_array_append_new(types, json_string(is ? "linear_attention" : "full_attention"));
    }
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

/* ---- keys ---- */

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t heads = 32, width = 128;
    bool found;
    TRY(hf_get_int(c, c->root, "linear_num_value_heads", 1, 1 << 12, &heads, &found, err));
    TRY(hf_get_int(c, c->root, "linear_value_head_dim", 1, 1 << 12, &width, &found, err));
    TRY(hf_put_int(k, "ssm.inner_size", heads * width, err));
    TRY(put_layers(c, k, err));
    return hf_put_rotary(c, k, 0.25, err);
}

static cadre_err restore_delta(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err)
{
    char key[96];
    int64_t heads = 0, inner = 0;
    bool found;
    snprintf(key, sizeof key, "%s.ssm.time_step_rank", architecture);
    TRY(gguf_get_i64(g, key, &heads, &found, err));
    snprintf(key, sizeof key, "%s.ssm.inner_size", architecture);
    TRY(gguf_get_i64(g, key, &inner, &found, err));
    CHECK(err, heads > 0 && inner % heads == 0, CADRE_E_FORMAT, "%s: expected a multiple of the v heads", key);
    CHECK(err, json_object_set_new(root, "linear_value_head_dim", json_integer(inner / heads)) == 0, CADRE_E_MEMORY,
          "config.json: no memory");
    TRY(restore_layers(g, architecture, root, err));
    return hf_copy_rotary(g, architecture, root, err);
}

static cadre_err restore_next(const struct gguf *g, json_t *root, cadre_error *err)
{
    return restore_delta(g, "qwen3next", root, err);
}

/* Pairs follow time, height, width in turn; all three are the position in a text. A pair of none would not turn here.
 */
static cadre_err put_sections(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    float given[3] = {11, 11, 10};
    int32_t n[4] = {0};
    int64_t sum = 0, n_rot = 0;
    TRY(hf_rotary(c, 0.25, &n_rot, err));
    const json_t *r = json_object_get(c->root, "rope_parameters");
    if (!json_is_object(r))
        r = json_object_get(c->root, "rope_scaling");
    if (json_is_array(json_object_get(r, "mrope_section")))
        TRY(hf_get_reals(c, r, "mrope_section", 3, given, err));
    for (int i = 0; i < 3; i++) {
        CHECK(err, given[i] >= 0 && given[i] <= 1 << 16, CADRE_E_FORMAT,
              "%s: key 'mrope_section': expected 0 to %d, found %g", c->path, 1 << 16, (double)given[i]);
        sum += n[i] = (int32_t)given[i];
    }
    for (int i = 0; i < sum; i++)
        CHECK(err, i < 3 * n[i % 3], CADRE_E_UNSUPPORTED,
              "%s: key 'mrope_section': only sections that share pairs in turn are supported, found %d, %d, %d",
              c->path, n[0], n[1], n[2]);
    for (int i = 0; sum > n_rot / 2 && i < 3; i++)
        n[i] = (int32_t)((n_rot / 2 + 2 - i) / 3);
    char key[96];
    snprintf(key, sizeof key, "%s.rope.dimension_sections", k->architecture);
    return gguf_put_i32s(k->w, key, n, 4, err);
}

static cadre_err derive_35(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    TRY(derive(c, k, err));
    return put_sections(c, k, err);
}

static cadre_err restore_sections(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err)
{
    char key[96];
    const int64_t *n = NULL;
    int64_t count = 0;
    bool found = false;
    snprintf(key, sizeof key, "%s.rope.dimension_sections", architecture);
    TRY(gguf_get_i64s(g, key, &n, &count, &found, err));
    if (!found)
        return CADRE_OK;
    CHECK(err, count >= 3, CADRE_E_FORMAT, "%s: expected 3 numbers or more", key);
    json_t *r = json_object_get(root, "rope_scaling");
    if (r) { /* of another kind than the default */
        CHECK(err, json_object_set_new(r, "mrope_section", json_pack("[iii]", (int)n[0], (int)n[1], (int)n[2])) == 0,
              CADRE_E_MEMORY, "config.json: no memory");
        return CADRE_OK;
    }
    r = json_pack("{s:s, s:b, s:[iii], s:O*, s:O*}", "rope_type", "default", "mrope_interleaved", 1, "mrope_section",
                  (int)n[0], (int)n[1], (int)n[2], "rope_theta", json_object_get(root, "rope_theta"),
                  "partial_rotary_factor", json_object_get(root, "partial_rotary_factor"));
    CHECK(err, r && json_object_set_new(root, "rope_parameters", r) == 0, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static cadre_err restore_35(const struct gguf *g, json_t *root, cadre_error *err)
{
    TRY(restore_delta(g, "qwen35", root, err));
    return restore_sections(g, "qwen35", root, err);
}

static cadre_err restore_35moe(const struct gguf *g, json_t *root, cadre_error *err)
{
    TRY(restore_delta(g, "qwen35moe", root, err));
    return restore_sections(g, "qwen35moe", root, err);
}

#define KV_HEADS(n)                                                                                                    \
    {                                                                                                                  \
        "num_key_value_heads", "attention.head_count_kv", HF_INT, HF_DEFAULT, n, NULL                                  \
    }
#define DELTA_KEYS                                                                                                     \
    {"linear_conv_kernel_dim", "ssm.conv_kernel", HF_INT, HF_DEFAULT, 4, NULL},                                        \
        {"linear_key_head_dim", "ssm.state_size", HF_INT, HF_DEFAULT, 128, NULL},                                      \
        {"linear_num_key_heads", "ssm.group_count", HF_INT, HF_DEFAULT, 16, NULL},                                     \
        {"linear_num_value_heads", "ssm.time_step_rank", HF_INT, HF_DEFAULT, 32, NULL},                                \
    {                                                                                                                  \
        "attention_bias", "", HF_MUST_BE, 0, 0, "false"                                                                \
    }
#define EXPERT_KEYS(n, k)                                                                                              \
    {"num_experts", "expert_count", HF_INT, HF_DEFAULT, n, NULL},                                                      \
        {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, k, NULL},                                     \
        {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_DEFAULT, 512, NULL},                        \
    {                                                                                                                  \
        "shared_expert_intermediate_size", "expert_shared_feed_forward_length", HF_INT, HF_DEFAULT, 512, NULL          \
    }

static const struct hf_key next_keys[] = {
    KV_HEADS(2),
    DELTA_KEYS,
    EXPERT_KEYS(512, 10),
    {"intermediate_size", "feed_forward_length", HF_INT, HF_DEFAULT, 5632, NULL},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "true"},
    {"decoder_sparse_step", "", HF_MUST_BE, 0, 0, "1"},
    {"mlp_only_layers", "", HF_MUST_BE, 0, 0, "[]"},
    {0},
};

static const struct hf_key moe_35_keys[] = {
    KV_HEADS(2),
    DELTA_KEYS,
    {"moe_intermediate_size", "feed_forward_length", HF_INT, HF_DEFAULT, 512, NULL}, /* no layer is dense */
    EXPERT_KEYS(256, 8),
    {"attn_output_gate", "", HF_MUST_BE, 0, 0, "true"},
    {0},
};

static const struct hf_key dense_35_keys[] = {
    KV_HEADS(4),
    DELTA_KEYS,
    {"attn_output_gate", "", HF_MUST_BE, 0, 0, "true"},
    {0},
};

/* ---- tensors ---- */

#define L "model.layers.*."
#define DELTA L "linear_attn."
#define MLP L "mlp."

#define NORMS                                                                                                          \
    {"model.norm.weight", "output_norm.weight", HF_COPY, HF_PLUS_ONE},                                                 \
        {L "input_layernorm.weight", "blk.*.attn_norm.weight", HF_COPY, HF_PLUS_ONE},                                  \
        {L "post_attention_layernorm.weight", "blk.*.post_attention_norm.weight", HF_COPY, HF_PLUS_ONE},               \
        {L "self_attn.q_norm.weight", "blk.*.attn_q_norm.weight", HF_COPY, HF_PLUS_ONE},                               \
        {L "self_attn.k_norm.weight", "blk.*.attn_k_norm.weight", HF_COPY, HF_PLUS_ONE},                               \
    {                                                                                                                  \
        DELTA "norm.weight", "blk.*.ssm_norm.weight", HF_COPY, 0                                                       \
    }

#define BY_EXPERT(flags)                                                                                               \
    {MLP "experts.#.gate_proj.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, flags},                                  \
        {MLP "experts.#.up_proj.weight", "blk.*.ffn_up_exps.weight", HF_COPY, flags},                                  \
    {                                                                                                                  \
        MLP "experts.#.down_proj.weight", "blk.*.ffn_down_exps.weight", HF_COPY, flags                                 \
    }
#define STACKED(flags)                                                                                                 \
    {MLP "experts.gate_up_proj", "blk.*.ffn_gate_exps.weight", HF_FIRST_HALF, flags},                                  \
        {MLP "experts.gate_up_proj", "blk.*.ffn_up_exps.weight", HF_SECOND_HALF, flags},                               \
    {                                                                                                                  \
        MLP "experts.down_proj", "blk.*.ffn_down_exps.weight", HF_COPY, flags                                          \
    }
#define SHARED                                                                                                         \
    {MLP "shared_expert_gate.weight", "blk.*.ffn_gate_inp_shexp.weight", HF_COPY, HF_FLAT},                            \
        {MLP "shared_expert.gate_proj.weight", "blk.*.ffn_gate_shexp.weight", HF_COPY, 0},                             \
        {MLP "shared_expert.up_proj.weight", "blk.*.ffn_up_shexp.weight", HF_COPY, 0},                                 \
    {                                                                                                                  \
        MLP "shared_expert.down_proj.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0                                \
    }

static const struct hf_tensor next_tensors[] = {
    NORMS,
    {DELTA "in_proj_qkvz.weight", "blk.*.ssm_in.weight", HF_COPY, 0},
    {DELTA "in_proj_ba.weight", "blk.*.ssm_ba.weight", HF_COPY, 0},
    {DELTA "conv1d.weight", "blk.*.ssm_conv1d.weight", HF_COPY, HF_FLAT | HF_F32},
    {DELTA "dt_bias", "blk.*.ssm_dt.bias", HF_COPY, 0},
    {DELTA "A_log", "blk.*.ssm_a", HF_COPY, HF_MINUS_EXP},
    {DELTA "out_proj.weight", "blk.*.ssm_out.weight", HF_COPY, 0},
    BY_EXPERT(0),
    STACKED(HF_ONLY_READ),
    SHARED,
    {0},
};

#define DELTA_35                                                                                                       \
    {DELTA "in_proj_qkv.weight", "blk.*.attn_qkv.weight", HF_DELTA_QKV, 0},                                            \
        {DELTA "in_proj_z.weight", "blk.*.attn_gate.weight", HF_DELTA_V, 0},                                           \
        {DELTA "in_proj_b.weight", "blk.*.ssm_beta.weight", HF_DELTA_V, 0},                                            \
        {DELTA "in_proj_a.weight", "blk.*.ssm_alpha.weight", HF_DELTA_V, 0},                                           \
        {DELTA "conv1d.weight", "blk.*.ssm_conv1d.weight", HF_DELTA_QKV, HF_FLAT | HF_F32},                            \
        {DELTA "dt_bias", "blk.*.ssm_dt.bias", HF_DELTA_V, 0},                                                         \
        {DELTA "A_log", "blk.*.ssm_a", HF_DELTA_V, HF_MINUS_EXP},                                                      \
    {                                                                                                                  \
        DELTA "out_proj.weight", "blk.*.ssm_out.weight", HF_DELTA_OUT, 0                                               \
    }

static const struct hf_tensor moe_35_tensors[] = {
    NORMS, DELTA_35, STACKED(0), BY_EXPERT(HF_ONLY_READ), SHARED, {0},
};

static const struct hf_tensor dense_35_tensors[] = {NORMS, DELTA_35, {0}};

/* Predictors of further tokens; what sees. */
static const char *const ignored[] = {"mtp.", "model.visual.", NULL};

static const struct hf_family qwen3_next = {
    .model_type = "qwen3_next",
    .architecture = "Qwen3NextForCausalLM",
    .keys = next_keys,
    .tensors = next_tensors,
    .head_dim = 256,
    .derive = derive,
    .restore = restore_next,
    .ignored = ignored,
};

#define MODEL_35(type, class_name, key_rows, tensor_rows, back)                                                        \
    .model_type = type, .architecture = class_name, .keys = key_rows, .tensors = tensor_rows, .head_dim = 256,         \
    .derive = derive_35, .restore = back, .ignored = ignored
#define SEEING .inside = "text_config", .prefix = "model.language_model."

static const struct hf_family moe_35_text = {
    MODEL_35("qwen3_5_moe_text", "Qwen3_5MoeForCausalLM", moe_35_keys, moe_35_tensors, restore_35moe)};
static const struct hf_family moe_35 = {
    MODEL_35("qwen3_5_moe", "Qwen3_5MoeForConditionalGeneration", moe_35_keys, moe_35_tensors, restore_35moe), SEEING};
static const struct hf_family dense_35_text = {
    MODEL_35("qwen3_5_text", "Qwen3_5ForCausalLM", dense_35_keys, dense_35_tensors, restore_35)};
static const struct hf_family dense_35 = {
    MODEL_35("qwen3_5", "Qwen3_5ForConditionalGeneration", dense_35_keys, dense_35_tensors, restore_35), SEEING};

const struct hf_family *const hf_qwen3next[] = {&qwen3_next, NULL};
const struct hf_family *const hf_qwen35moe[] = {&moe_35_text, &moe_35, NULL};
const struct hf_family *const hf_qwen35[] = {&dense_35_text, &dense_35, NULL};
