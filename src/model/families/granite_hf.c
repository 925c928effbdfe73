/* Hugging Face models of the family granitemoe: gate and up of all experts in one stack. */
#include "model/hf/config.h"

static const struct hf_key keys[] = {
    {"num_local_experts", "expert_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 2, NULL},
    {"attention_multiplier", "attention.scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"embedding_multiplier", "embedding_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"residual_multiplier", "residual_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"logits_scaling", "logit_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_key shared_keys[] = {
    {"num_local_experts", "expert_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 2, NULL},
    {"attention_multiplier", "attention.scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"embedding_multiplier", "embedding_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"residual_multiplier", "residual_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"logits_scaling", "logit_scale", HF_REAL, HF_DEFAULT, 1, NULL},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"shared_intermediate_size", "expert_shared_feed_forward_length", HF_INT, HF_DEFAULT, 1024, NULL},
    {0},
};

#define L "model.layers.*."
#define E L "block_sparse_moe."

static const struct hf_tensor tensors[] = {
    {L "self_attn.q_proj.weight", "blk.*.attn_q.weight", HF_PAIRS_Q, 0},
    {L "self_attn.k_proj.weight", "blk.*.attn_k.weight", HF_PAIRS_K, 0},
    {E "router.layer.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "input_linear.weight", "blk.*.ffn_gate_exps.weight", HF_FIRST_HALF, 0},
    {E "input_linear.weight", "blk.*.ffn_up_exps.weight", HF_SECOND_HALF, 0},
    {E "output_linear.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {L "shared_mlp.input_linear.weight", "blk.*.ffn_gate_shexp.weight", HF_FIRST_HALF, 0},
    {L "shared_mlp.input_linear.weight", "blk.*.ffn_up_shexp.weight", HF_SECOND_HALF, 0},
    {L "shared_mlp.output_linear.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family granitemoe = {
    .model_type = "granitemoe",
    .architecture = "GraniteMoeForCausalLM",
    .keys = keys,
    .tensors = tensors,
};

static const struct hf_family granitemoeshared = {
    .model_type = "granitemoeshared",
    .architecture = "GraniteMoeSharedForCausalLM",
    .keys = shared_keys,
    .tensors = tensors,
    .when = "expert_shared_feed_forward_length",
    .at_least = 1,
};

const struct hf_family *const hf_granitemoe[] = {&granitemoeshared, &granitemoe, NULL};
