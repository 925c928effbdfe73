/* Hugging Face models of the families lfm2 and lfm2moe. Layers that convolve are those without kv heads here. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "file/names.h"
#include "model/hf/config.h"
#include "model/spec.h"

static bool lists(const json_t *indices, int64_t layer)
{
    for (size_t i = 0; i < json_array_size(indices); i++)
        if (json_is_integer(json_array_get(indices, i)) && json_integer_value(json_array_get(indices, i)) == layer)
            return true;
    return false;
}

/* layer_types, or full_attn_idxs, or every layer attends. */
static cadre_err attends(const struct hf_config *c, int64_t layer, int64_t n, bool *out, cadre_error *err)
{
    const json_t *types = json_object_get(c->root, "layer_types"), *full = json_object_get(c->root, "full_attn_idxs");
    *out = !json_is_array(full) || lists(full, layer);
    if (!types || json_is_null(types))
        return CADRE_OK;
    CHECK(err, json_is_array(types) && json_array_size(types) == (size_t)n, CADRE_E_FORMAT,
          "%s: key 'layer_types': expected an array of %lld texts", c->path, (long long)n);
    const char *type = json_string_value(json_array_get(types, (size_t)layer));
    *out = type && strcmp(type, "full_attention") == 0;
    CHECK(err, *out || (type && strcmp(type, "conv") == 0), CADRE_E_UNSUPPORTED,
          "%s: key 'layer_types': only conv and full_attention are supported, found '%s'", c->path,
          type ? shown(type, strlen(type)).s : "not a text");
    return CADRE_OK;
}

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t n = 0, heads = 8;
    int32_t at[MODEL_MAX_LAYERS];
    bool found, is, tied = true;
    char key[96];
    TRY(hf_get_int(c, c->root, "num_hidden_layers", 1, MODEL_MAX_LAYERS, &n, NULL, err));
    TRY(hf_get_int(c, c->root, "num_key_value_heads", 1, 1 << 14, &heads, &found, err));
    for (int64_t i = 0; i < n; i++) {
        TRY(attends(c, i, n, &is, err));
        at[i] = is ? (int32_t)heads : 0;
    }
    TRY(hf_get_bool(c, c->root, "tie_embedding", &tied, &found, err)); /* what the first of them say instead */
    CHECK(err, tied, CADRE_E_UNSUPPORTED, "%s: key 'tie_embedding': only true is supported, found false", c->path);
    snprintf(key, sizeof key, "%s.attention.head_count_kv", k->architecture);
    return gguf_put_i32s(k->w, key, at, n, err);
}

/* Two thirds of the width, times a factor, up to a multiple. */
static cadre_err put_ff(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t ff = 12288, multiple = 256;
    double factor = 1;
    bool found, adjust = true;
    TRY(hf_get_int(c, c->root, "intermediate_size", 1, INT_MAX, &ff, &found, err));
    TRY(hf_get_int(c, c->root, "block_ff_dim", 1, INT_MAX, &ff, &found, err));
    TRY(hf_get_bool(c, c->root, "block_auto_adjust_ff_dim", &adjust, &found, err));
    TRY(hf_get_int(c, c->root, "block_multiple_of", 1, INT_MAX, &multiple, &found, err));
    TRY(hf_get_real(c, c->root, "block_ffn_dim_multiplier", &factor, &found, err));
    CHECK(err, factor > 0 && factor <= 1024, CADRE_E_FORMAT,
          "%s: key 'block_ffn_dim_multiplier': expected above 0, at most 1024, found %g", c->path, factor);
    if (adjust) {
        ff = (int64_t)(factor * (double)(2 * ff / 3));
        ff = (ff + multiple - 1) / multiple * multiple;
    }
    return hf_put_int(k, "feed_forward_length", ff, err);
}

static cadre_err derive_dense(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    TRY(derive(c, k, err));
    return put_ff(c, k, err);
}

static cadre_err restore(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err)
{
    char key[96];
    const int64_t *at = NULL;
    int64_t n = 0, heads = 0;
    bool found = false;
    snprintf(key, sizeof key, "%s.attention.head_count_kv", architecture);
    CHECK(err, gguf_is_array(g, key), CADRE_E_FORMAT, "%s: expected a number for each layer", key);
    TRY(gguf_get_i64s(g, key, &at, &n, &found, err));
    json_t *types = json_array();
    int bad = json_object_set_new(root, "layer_types", types);
    for (int64_t i = 0; i < n && !bad; i++) {
        CHECK(err, at[i] == 0 || heads == 0 || at[i] == heads, CADRE_E_UNSUPPORTED,
              "%s: expected one number of kv heads in all layers that attend, to write a directory", key);
        heads = at[i] > 0 ? at[i] : heads;
        bad = json_array_append_new(types, json_string(at[i] > 0 ? "full_attention" : "conv"));
    }
    bad |= json_object_set_new(root, "num_key_value_heads", json_integer(heads));
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static cadre_err restore_dense(const struct gguf *g, json_t *root, cadre_error *err)
{
    int bad = json_object_set_new(root, "block_auto_adjust_ff_dim", json_false());
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    TRY(hf_copy_int(g, "lfm2", "feed_forward_length", root, "intermediate_size", err));
    return restore(g, "lfm2", root, err);
}

static cadre_err restore_moe(const struct gguf *g, json_t *root, cadre_error *err)
{
    return restore(g, "lfm2moe", root, err);
}

#define COMMON_KEYS                                                                                                    \
    {"norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},                                 \
        {"num_key_value_heads", "attention.head_count_kv", HF_NO_KEY, 0, 0, NULL},                                     \
        {"conv_L_cache", "shortconv.l_cache", HF_INT, HF_DEFAULT, 3, NULL},                                            \
    {                                                                                                                  \
        "conv_bias", "", HF_MUST_BE, 0, 0, "false"                                                                     \
    }

static const struct hf_key dense_keys[] = {
    COMMON_KEYS,
    {"intermediate_size", "feed_forward_length", HF_NO_KEY, 0, 0, NULL},
    {0},
};

static const struct hf_key moe_keys[] = {
    COMMON_KEYS,
    {"intermediate_size", "feed_forward_length", HF_INT, HF_DEFAULT, 7168, NULL},
    {"num_experts", "expert_count", HF_INT, HF_DEFAULT, 32, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 4, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_DEFAULT, 1792, NULL},
    {"num_dense_layers", "leading_dense_block_count", HF_INT, HF_DEFAULT, 2, NULL},
    {"", "expert_gating_func", HF_FIXED, 0, 2, NULL},
    {"use_expert_bias", "", HF_MUST_BE, 0, 0, "true"},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "true"},
    {"routed_scaling_factor", "", HF_MUST_BE, 0, 0, "1.0"},
    {0},
};

#define L "model.layers.*."
#define FF L "feed_forward."

#define COMMON_TENSORS                                                                                                 \
    {"model.embedding_norm.weight", "token_embd_norm.weight", HF_COPY, 0},                                             \
        {L "operator_norm.weight", "blk.*.attn_norm.weight", HF_COPY, 0},                                              \
        {L "ffn_norm.weight", "blk.*.ffn_norm.weight", HF_COPY, 0},                                                    \
        {L "self_attn.out_proj.weight", "blk.*.attn_output.weight", HF_COPY, 0},                                       \
        {L "self_attn.q_layernorm.weight", "blk.*.attn_q_norm.weight", HF_COPY, 0},                                    \
        {L "self_attn.k_layernorm.weight", "blk.*.attn_k_norm.weight", HF_COPY, 0},                                    \
        {L "conv.in_proj.weight", "blk.*.shortconv.in_proj.weight", HF_COPY, 0},                                       \
        {L "conv.conv.weight", "blk.*.shortconv.conv.weight", HF_COPY, HF_FLAT | HF_F32},                              \
        {L "conv.out_proj.weight", "blk.*.shortconv.out_proj.weight", HF_COPY, 0},                                     \
        {FF "w1.weight", "blk.*.ffn_gate.weight", HF_COPY, 0}, {FF "w3.weight", "blk.*.ffn_up.weight", HF_COPY, 0},    \
    {                                                                                                                  \
        FF "w2.weight", "blk.*.ffn_down.weight", HF_COPY, 0                                                            \
    }

static const struct hf_tensor dense_tensors[] = {COMMON_TENSORS, {0}};

static const struct hf_tensor moe_tensors[] = {
    COMMON_TENSORS,
    {FF "gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {FF "expert_bias", "blk.*.exp_probs_b.bias", HF_COPY, 0},
    {FF "experts.#.w1.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {FF "experts.#.w3.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {FF "experts.#.w2.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {FF "experts.gate_up_proj", "blk.*.ffn_gate_exps.weight", HF_FIRST_HALF, HF_ONLY_READ},
    {FF "experts.gate_up_proj", "blk.*.ffn_up_exps.weight", HF_SECOND_HALF, HF_ONLY_READ},
    {FF "experts.down_proj", "blk.*.ffn_down_exps.weight", HF_COPY, HF_ONLY_READ},
    {0},
};

static const struct hf_family lfm2 = {
    .model_type = "lfm2",
    .architecture = "Lfm2ForCausalLM",
    .keys = dense_keys,
    .tensors = dense_tensors,
    .rope_base = 1e6,
    .tied = true,
    .derive = derive_dense,
    .restore = restore_dense,
};

static const struct hf_family lfm2_moe = {
    .model_type = "lfm2_moe",
    .architecture = "Lfm2MoeForCausalLM",
    .keys = moe_keys,
    .tensors = moe_tensors,
    .rope_base = 1e6,
    .tied = true,
    .derive = derive,
    .restore = restore_moe,
};

const struct hf_family *const hf_lfm2[] = {&lfm2, NULL};
const struct hf_family *const hf_lfm2moe[] = {&lfm2_moe, NULL};
