/* OLMoE (Muennighoff et al. 2024): query and key norms over the full projection, weights not renormalised. */
#include "model/family.h"

static const struct hf_key hf_keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_experts", "expert_count", HF_INT, HF_DEFAULT, 64, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "false"},
    {"clip_qkv", "", HF_MUST_BE, 0, 0, "null"},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_family hf_olmoe = {
    .model_type = "olmoe",
    .architecture = "OlmoeForCausalLM",
    .keys = hf_keys,
};

const struct family family_olmoe = {
    .name = "olmoe",
    .facts = {.qk_norm = QK_NORM_FULL, .router = {.kind = &router_softmax}},
    .experts_in_ff = true,
    .needs_output = true,
    .hf = (const struct hf_family *const[]){&hf_olmoe, NULL},
};
