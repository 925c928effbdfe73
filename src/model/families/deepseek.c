/* DeepSeekMoE (Dai et al. 2024): leading dense layers, always-on shared experts, weights not renormalised. */
#include "model/family.h"

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "deepseek: expected a model with experts; save as llama");
    return CADRE_OK;
}

static const struct hf_key hf_keys[] = {
    {"n_routed_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"n_shared_experts", "expert_shared_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"first_k_dense_replace", "leading_dense_block_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"moe_layer_freq", "", HF_MUST_BE, 0, 0, "1"},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "false"},
    {"scoring_func", "", HF_MUST_BE, 0, 0, "\"softmax\""},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_tensor hf_tensors[] = {
    {"model.layers.*.self_attn.q_proj.weight", "blk.*.attn_q.weight", HF_PAIRS_Q, 0},
    {"model.layers.*.self_attn.k_proj.weight", "blk.*.attn_k.weight", HF_PAIRS_K, 0},
    {0},
};

static const struct hf_family hf_deepseek = {
    .model_type = "deepseek",
    .architecture = "DeepseekForCausalLM",
    .keys = hf_keys,
    .tensors = hf_tensors,
};

const struct family family_deepseek = {
    .name = "deepseek",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .can_write = can_write,
    .hf = (const struct hf_family *const[]){&hf_deepseek, NULL},
};
