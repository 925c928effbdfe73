/* Qwen3, dense and MoE: per-head query and key norms before rope; weights renormalised. */
#include "model/family.h"

static const struct hf_key dense_keys[] = {
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_key moe_keys[] = {
    {"num_experts", "expert_count", HF_INT, HF_DEFAULT, 128, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_DEFAULT, 768, NULL},
    {"norm_topk_prob", "", HF_MUST_BE, HF_REQUIRED, 0, "true"}, /* the class has false, no model does */
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"decoder_sparse_step", "", HF_MUST_BE, 0, 0, "1"},
    {"mlp_only_layers", "", HF_MUST_BE, 0, 0, "[]"},
    {0},
};

static const struct hf_family hf_qwen3 = {
    .model_type = "qwen3",
    .architecture = "Qwen3ForCausalLM",
    .keys = dense_keys,
    .head_dim = 128,
    .derive = hf_no_window,
};

static const struct hf_family hf_qwen3_moe = {
    .model_type = "qwen3_moe",
    .architecture = "Qwen3MoeForCausalLM",
    .keys = moe_keys,
    .derive = hf_no_window,
};

const struct family family_qwen3 = {
    .name = "qwen3",
    .facts = {.qk_norm = QK_NORM_HEAD},
    .hf = (const struct hf_family *const[]){&hf_qwen3, NULL},
};

const struct family family_qwen3moe = {
    .name = "qwen3moe",
    .facts = {.qk_norm = QK_NORM_HEAD, .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF),
    .widths_from_ff = true,
    .hf = (const struct hf_family *const[]){&hf_qwen3_moe, NULL},
};
