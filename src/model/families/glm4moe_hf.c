/* Hugging Face models of the family glm4moe. */
#include "model/hf/config.h"

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t groups = 1;
    bool found;
    TRY(hf_get_int(c, c->root, "n_group", 0, 4096, &groups, &found, err));
    if (groups > 1) {
        int64_t used = 1;
        TRY(hf_get_int(c, c->root, "topk_group", 0, 4096, &used, &found, err));
        TRY(hf_put_int(k, "expert_group_count", groups, err));
        TRY(hf_put_int(k, "expert_group_used_count", used, err));
    }
    return hf_put_rotary(c, k, 0.5, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    TRY(hf_copy_int(g, "glm4moe", "expert_group_count", root, "n_group", err));
    TRY(hf_copy_int(g, "glm4moe", "expert_group_used_count", root, "topk_group", err));
    return hf_copy_rotary(g, "glm4moe", root, err);
}

static const struct hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"n_routed_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"n_shared_experts", "expert_shared_count", HF_INT, HF_DEFAULT, 1, NULL},
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 1, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"norm_topk_prob", "expert_weights_norm", HF_BOOL, HF_DEFAULT, 1, NULL},
    {"", "expert_gating_func", HF_FIXED, 0, 2, NULL},
    {0},
};

static const struct hf_tensor tensors[] = {
    {"model.layers.*.post_attention_layernorm.weight", "blk.*.post_attention_norm.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family glm4_moe = {
    .model_type = "glm4_moe",
    .architecture = "Glm4MoeForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_glm4moe[] = {&glm4_moe, NULL};
