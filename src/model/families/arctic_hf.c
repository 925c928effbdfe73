/* Hugging Face models of the family arctic. */
#include "model/hf/config.h"

static const struct hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_local_experts", "expert_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 1, NULL},
    {"moe_layer_frequency", "", HF_MUST_BE, HF_REQUIRED, 0, "1"},
    {"parallel_attn_mlp_res", "", HF_MUST_BE, HF_REQUIRED, 0, "true"},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

#define L "model.layers.*."
#define E L "block_sparse_moe."

static const struct hf_tensor tensors[] = {
    {L "self_attn.q_proj.weight", "blk.*.attn_q.weight", HF_PAIRS_Q, 0},
    {L "self_attn.k_proj.weight", "blk.*.attn_k.weight", HF_PAIRS_K, 0},
    {L "residual_layernorm.weight", "blk.*.ffn_norm.weight", HF_COPY, 0},
    {L "post_attention_layernorm.weight", "blk.*.ffn_norm_exps.weight", HF_COPY, 0},
    {L "residual_mlp.w1.weight", "blk.*.ffn_gate.weight", HF_COPY, 0},
    {L "residual_mlp.w3.weight", "blk.*.ffn_up.weight", HF_COPY, 0},
    {L "residual_mlp.w2.weight", "blk.*.ffn_down.weight", HF_COPY, 0},
    {E "gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "experts.#.w1.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {E "experts.#.w3.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {E "experts.#.w2.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family arctic = {
    .model_type = "arctic",
    .architecture = "ArcticForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 1000000,
    .derive = hf_no_window,
};

const struct hf_family *const hf_arctic[] = {&arctic, NULL};
