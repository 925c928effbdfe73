/* Hugging Face models of the family bailingmoe2 (Ling, Ring). */
#include "model/hf/config.h"

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    return hf_put_rotary(c, k, 1, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    return hf_copy_rotary(g, "bailingmoe2", root, err);
}

static const struct hf_key keys[] = {
    {"num_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_shared_experts", "expert_shared_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"moe_shared_expert_intermediate_size", "expert_shared_feed_forward_length", HF_INT, 0, 0, NULL},
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"norm_topk_prob", "expert_weights_norm", HF_BOOL, HF_DEFAULT, 1, NULL},
    {"n_group", "expert_group_count", HF_INT, 0, 0, NULL},
    {"topk_group", "expert_group_used_count", HF_INT, 0, 0, NULL},
    {"score_function", "", HF_MUST_BE, 0, 0, "\"sigmoid\""},
    {"", "expert_gating_func", HF_FIXED, 0, 2, NULL},
    {"use_qk_norm", "", HF_MUST_BE, 0, 0, "true"},
    {"use_qkv_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"use_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

#define L "model.layers.*."

static const struct hf_tensor tensors[] = {
    {"model.word_embeddings.weight", "token_embd.weight", HF_COPY, 0},
    {L "attention.query_key_value.weight", "blk.*.attn_qkv.weight", HF_COPY, 0},
    {L "attention.dense.weight", "blk.*.attn_output.weight", HF_COPY, 0},
    {L "attention.query_layernorm.weight", "blk.*.attn_q_norm.weight", HF_COPY, 0},
    {L "attention.key_layernorm.weight", "blk.*.attn_k_norm.weight", HF_COPY, 0},
    {L "mlp.gate.expert_bias", "blk.*.exp_probs_b.bias", HF_COPY, 0},
    {0},
};

static const struct hf_family bailing_moe_v2 = {
    .model_type = "bailing_moe_v2",
    .architecture = "BailingMoeV2ForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_bailing[] = {&bailing_moe_v2, NULL};
