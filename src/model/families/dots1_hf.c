/* Hugging Face models of the family dots1. */
#include "model/hf/config.h"

#include <limits.h>
#include <string.h>

/* The layers from max_window_layers on slide, or those that layer_types names. */
static cadre_err no_sliding_layer(const struct hf_config *c, cadre_error *err)
{
    int64_t window = 0, from = INT_MAX, layers = 0, context = 0;
    bool found, has_window;
    TRY(hf_get_int(c, c->root, "sliding_window", 0, INT_MAX, &window, &has_window, err));
    TRY(hf_get_int(c, c->root, "max_window_layers", 0, INT_MAX, &from, &found, err));
    TRY(hf_get_int(c, c->root, "num_hidden_layers", 0, INT_MAX, &layers, NULL, err));
    TRY(hf_get_int(c, c->root, "max_position_embeddings", 0, INT_MAX, &context, NULL, err));
    const json_t *types = json_object_get(c->root, "layer_types");
    bool slides = !json_is_array(types) && from < layers;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        slides |= !type || strcmp(type, "full_attention") != 0;
    }
    CHECK(err, !slides || !has_window || window >= context, CADRE_E_UNSUPPORTED,
          "%s: key 'sliding_window': layers that slide are not supported in a dots1 model, found a window of %lld",
          c->path, (long long)window);
    return CADRE_OK;
}

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t groups = 1, used = 1;
    bool found;
    TRY(no_sliding_layer(c, err));
    TRY(hf_get_int(c, c->root, "n_group", 0, 4096, &groups, &found, err));
    TRY(hf_get_int(c, c->root, "topk_group", 0, 4096, &used, &found, err));
    if (groups <= 1)
        return CADRE_OK;
    TRY(hf_put_int(k, "expert_group_count", groups, err));
    return hf_put_int(k, "expert_group_used_count", used, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    TRY(hf_copy_int(g, "dots1", "expert_group_count", root, "n_group", err));
    TRY(hf_copy_int(g, "dots1", "expert_group_used_count", root, "topk_group", err));
    CHECK(err, json_object_set_new(root, "sliding_window", json_null()) == 0, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"n_routed_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"n_shared_experts", "expert_shared_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"norm_topk_prob", "expert_weights_norm", HF_BOOL, HF_DEFAULT, 0, NULL},
    {"", "expert_gating_func", HF_FIXED, 0, 2, NULL},
    {"moe_layer_freq", "", HF_MUST_BE, 0, 0, "1"},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_family dots1 = {
    .model_type = "dots1",
    .architecture = "Dots1ForCausalLM",
    .keys = keys,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_dots1[] = {&dots1, NULL};
