/* Llama and Mixtral: neighbouring rope pairs; with experts, softmax over all, top-k, renormalised. */
#include "model/family.h"

static const struct hf_key llama_keys[] = {
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"mlp_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_key mixtral_keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_local_experts", "expert_count", HF_INT, HF_DEFAULT, 8, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 2, NULL},
    {0},
};

static const struct hf_tensor llama_tensors[] = {
    {"model.layers.*.self_attn.q_proj.weight", "blk.*.attn_q.weight", HF_PAIRS_Q, 0},
    {"model.layers.*.self_attn.k_proj.weight", "blk.*.attn_k.weight", HF_PAIRS_K, 0},
    {"model.layers.*.block_sparse_moe.gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {"model.layers.*.block_sparse_moe.experts.#.w1.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {"model.layers.*.block_sparse_moe.experts.#.w2.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {"model.layers.*.block_sparse_moe.experts.#.w3.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family hf_llama = {
    .model_type = "llama",
    .architecture = "LlamaForCausalLM",
    .keys = llama_keys,
    .tensors = llama_tensors,
};

static const struct hf_family hf_mixtral = {
    .model_type = "mixtral",
    .architecture = "MixtralForCausalLM",
    .keys = mixtral_keys,
    .tensors = llama_tensors,
    .rope_base = 1e6,
    .derive = hf_no_window,
    .when = "expert_count",
    .at_least = 1,
};

const struct family family_llama = {
    .name = "llama",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax, .normalize = true}},
    .experts_in_ff = true,
    .hf = (const struct hf_family *const[]){&hf_mixtral, &hf_llama, NULL},
};
