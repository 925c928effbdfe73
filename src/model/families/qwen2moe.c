/* Qwen1.5-MoE and Qwen2-MoE: q, k, v biases, a gated shared expert, weights not renormalised. */
#include "model/family.h"

static const struct hf_key hf_keys[] = {
    {"num_experts", "expert_count", HF_INT, HF_DEFAULT, 60, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 4, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_DEFAULT, 1408, NULL},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", HF_INT, HF_DEFAULT, 5632, NULL},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "false"},
    {"qkv_bias", "", HF_MUST_BE, 0, 0, "true"},
    {"decoder_sparse_step", "", HF_MUST_BE, 0, 0, "1"},
    {"mlp_only_layers", "", HF_MUST_BE, 0, 0, "[]"},
    {0},
};

#define MLP "model.layers.*.mlp."

static const struct hf_tensor hf_tensors[] = {
    {MLP "shared_expert_gate.weight", "blk.*.ffn_gate_inp_shexp.weight", HF_COPY, HF_FLAT},
    {MLP "shared_expert.gate_proj.weight", "blk.*.ffn_gate_shexp.weight", HF_COPY, 0},
    {MLP "shared_expert.up_proj.weight", "blk.*.ffn_up_shexp.weight", HF_COPY, 0},
    {MLP "shared_expert.down_proj.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family hf_qwen2_moe = {
    .model_type = "qwen2_moe",
    .architecture = "Qwen2MoeForCausalLM",
    .keys = hf_keys,
    .tensors = hf_tensors,
    .derive = hf_no_window,
};

const struct family family_qwen2moe = {
    .name = "qwen2moe",
    .facts = {.qkv_bias = true, .shared_gated = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF),
    .widths_from_ff = true,
    .needs_output = true,
    .hf = (const struct hf_family *const[]){&hf_qwen2_moe, NULL},
};
