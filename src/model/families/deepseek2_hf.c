/* Hugging Face models of the family deepseek2. */
#include <limits.h>
#include <string.h>

#include "file/names.h"
#include "model/hf/config.h"

#define ATTN "model.layers.*.self_attn."

/* Heads: per head nope numbers and those with rope; cached are kv_lora_rank and one set with rope. */
static cadre_err put_heads(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t rank = 0, nope = 0, rope = 0, v = 0;
    TRY(hf_get_int(c, c->root, "kv_lora_rank", 1, 1 << 20, &rank, NULL, err));
    TRY(hf_get_int(c, c->root, "qk_nope_head_dim", 1, 1 << 16, &nope, NULL, err));
    TRY(hf_get_int(c, c->root, "qk_rope_head_dim", 1, 1 << 16, &rope, NULL, err));
    TRY(hf_get_int(c, c->root, "v_head_dim", 1, 1 << 16, &v, NULL, err));
    TRY(hf_put_int(k, "attention.kv_lora_rank", rank, err));
    TRY(hf_put_int(k, "attention.key_length", rank + rope, err));
    TRY(hf_put_int(k, "attention.value_length", rank, err));
    TRY(hf_put_int(k, "attention.key_length_mla", nope + rope, err));
    TRY(hf_put_int(k, "attention.value_length_mla", v, err));
    return hf_put_int(k, "rope.dimension_count", rope, err);
}

/* greedy does not look at groups; noaux_tc ranks them by their two best scores, group_limited_greedy by the best. */
static cadre_err put_groups(const struct hf_config *c, struct hf_keys *k, const char *method, cadre_error *err)
{
    int64_t n = 1, used = 1;
    bool found;
    TRY(hf_get_text(c, c->root, "topk_method", &method, &found, err));
    TRY(hf_get_int(c, c->root, "n_group", 0, 4096, &n, &found, err));
    TRY(hf_get_int(c, c->root, "topk_group", 0, 4096, &used, &found, err));
    if (n <= 1 || strcmp(method, "greedy") == 0)
        return CADRE_OK;
    bool by_best = strcmp(method, "group_limited_greedy") == 0;
    CHECK(err, by_best || strcmp(method, "noaux_tc") == 0, CADRE_E_UNSUPPORTED,
          "%s: key 'topk_method': only greedy, group_limited_greedy and noaux_tc are supported, found '%s'", c->path,
          shown(method, strlen(method)).s);
    TRY(hf_put_int(k, "expert_group_count", n, err));
    TRY(hf_put_int(k, "expert_group_used_count", used, err));
    return by_best ? hf_put_int(k, "expert_group_best_count", 1, err) : CADRE_OK;
}

static cadre_err put_scoring(const struct hf_config *c, struct hf_keys *k, const char *scoring, cadre_error *err)
{
    bool found;
    TRY(hf_get_text(c, c->root, "scoring_func", &scoring, &found, err));
    bool sigmoid = strcmp(scoring, "sigmoid") == 0;
    CHECK(err, sigmoid || strcmp(scoring, "softmax") == 0, CADRE_E_UNSUPPORTED,
          "%s: key 'scoring_func': only softmax and sigmoid are supported, found '%s'", c->path,
          shown(scoring, strlen(scoring)).s);
    return hf_put_int(k, "expert_gating_func", sigmoid ? 2 : 1, err);
}

static cadre_err derive_v2(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    TRY(put_heads(c, k, err));
    TRY(put_groups(c, k, "greedy", err));
    return put_scoring(c, k, "softmax", err);
}

static cadre_err derive_v3(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    TRY(put_heads(c, k, err));
    TRY(put_groups(c, k, "noaux_tc", err));
    return put_scoring(c, k, "sigmoid", err);
}

/* The sizes of a head and the rules of routing as a config has them. */
static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    int64_t key = 0, rope = 0, heads = 0, gating = 1, groups = 0, best = 2;
    bool found;
    TRY(gguf_get_i64(g, "deepseek2.attention.key_length_mla", &key, &found, err));
    CHECK(err, found, CADRE_E_UNSUPPORTED, "deepseek2.attention.key_length_mla: expected to write a directory");
    TRY(gguf_get_i64(g, "deepseek2.rope.dimension_count", &rope, &found, err));
    TRY(gguf_get_i64(g, "deepseek2.attention.head_count", &heads, &found, err));
    TRY(gguf_get_i64(g, "deepseek2.expert_gating_func", &gating, &found, err));
    TRY(gguf_get_i64(g, "deepseek2.expert_group_count", &groups, &found, err));
    TRY(gguf_get_i64(g, "deepseek2.expert_group_best_count", &best, &found, err));
    const char *method = groups > 1 && best == 1 ? "group_limited_greedy" : gating == 2 ? "noaux_tc" : "greedy";
    TRY(hf_copy_int(g, "deepseek2", "attention.kv_lora_rank", root, "kv_lora_rank", err));
    TRY(hf_copy_int(g, "deepseek2", "attention.value_length_mla", root, "v_head_dim", err));
    TRY(hf_copy_int(g, "deepseek2", "expert_group_count", root, "n_group", err));
    TRY(hf_copy_int(g, "deepseek2", "expert_group_used_count", root, "topk_group", err));
    int bad = json_object_set_new(root, "qk_rope_head_dim", json_integer(rope));
    bad |= json_object_set_new(root, "qk_nope_head_dim", json_integer(key - rope));
    bad |= json_object_set_new(root, "num_key_value_heads", json_integer(heads));
    bad |= json_object_set_new(root, "scoring_func", json_string(gating == 2 ? "sigmoid" : "softmax"));
    bad |= json_object_set_new(root, "topk_method", json_string(method));
    if (json_integer_value(json_object_get(root, "q_lora_rank")) == 0)
        bad |= json_object_set_new(root, "q_lora_rank", json_null());
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

#define COMMON_KEYS                                                                                                    \
    {"num_key_value_heads", "attention.head_count_kv", HF_FIXED, 0, 1, NULL},                                          \
        {"q_lora_rank", "attention.q_lora_rank", HF_INT, HF_DEFAULT, 0, NULL},                                         \
        {"n_routed_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},                                            \
        {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},                                    \
        {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},                         \
        {"n_shared_experts", "expert_shared_count", HF_INT, HF_DEFAULT, 0, NULL},                                      \
        {"moe_layer_freq", "", HF_MUST_BE, 0, 0, "1"}, {"rope_interleave", "", HF_MUST_BE, 0, 0, "true"},              \
    {                                                                                                                  \
        "attention_bias", "", HF_MUST_BE, 0, 0, "false"                                                                \
    }

static const struct hf_key v2_keys[] = {
    COMMON_KEYS,
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"norm_topk_prob", "expert_weights_norm", HF_BOOL, HF_DEFAULT, 0, NULL},
    {0},
};

static const struct hf_key v3_keys[] = {
    COMMON_KEYS,
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 3, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 2.5, NULL},
    {"norm_topk_prob", "expert_weights_norm", HF_BOOL, HF_DEFAULT, 1, NULL},
    {0},
};

static const struct hf_tensor tensors[] = {
    {ATTN "q_a_proj.weight", "blk.*.attn_q_a.weight", HF_COPY, 0},
    {ATTN "q_a_layernorm.weight", "blk.*.attn_q_a_norm.weight", HF_COPY, 0},
    {ATTN "q_b_proj.weight", "blk.*.attn_q_b.weight", HF_COPY, 0},
    {ATTN "kv_a_proj_with_mqa.weight", "blk.*.attn_kv_a_mqa.weight", HF_COPY, 0},
    {ATTN "kv_a_layernorm.weight", "blk.*.attn_kv_a_norm.weight", HF_COPY, 0},
    {ATTN "kv_b_proj.weight", "blk.*.attn_k_b.weight", HF_K_B, 0},
    {ATTN "kv_b_proj.weight", "blk.*.attn_v_b.weight", HF_V_B, 0},
    {0},
};

#define MODEL(type, class_name, rows, function)                                                                        \
    .model_type = type, .architecture = class_name, .keys = rows, .tensors = tensors, .own_heads = true,               \
    .derive = function, .restore = restore

static const struct hf_family v3 = {
    MODEL("deepseek_v3", "DeepseekV3ForCausalLM", v3_keys, derive_v3),
    .when = "expert_gating_func",
    .at_least = 2,
};
static const struct hf_family v2 = {MODEL("deepseek_v2", "DeepseekV2ForCausalLM", v2_keys, derive_v2)};
static const struct hf_family k2 = {MODEL("kimi_k2", "DeepseekV3ForCausalLM", v3_keys, derive_v3)};

const struct hf_family *const hf_deepseek2[] = {&v3, &v2, &k2, NULL};
