/* Hugging Face models of the family minimax-m2. */
#include "model/hf/config.h"

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t rotary = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "rotary_dim", 1, 1 << 16, &rotary, &found, err));
    return found ? hf_put_int(k, "rope.dimension_count", rotary, err) : hf_put_rotary(c, k, 1, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    return hf_copy_int(g, "minimax-m2", "rope.dimension_count", root, "rotary_dim", err);
}

static const struct hf_key keys[] = {
    {"intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"intermediate_size", "feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_local_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"scoring_func", "", HF_MUST_BE, 0, 0, "\"sigmoid\""},
    {"", "expert_gating_func", HF_FIXED, 0, 2, NULL},
    {"use_routing_bias", "", HF_MUST_BE, 0, 0, "true"},
    {"use_qk_norm", "", HF_MUST_BE, 0, 0, "true"},
    {"qk_norm_type", "", HF_MUST_BE, 0, 0, "\"per_layer\""},
    {0},
};

#define L "model.layers.*."
#define E L "block_sparse_moe."

static const struct hf_tensor tensors[] = {
    {E "gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "e_score_correction_bias", "blk.*.exp_probs_b.bias", HF_COPY, 0},
    {E "experts.#.w1.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {E "experts.#.w2.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {E "experts.#.w3.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family minimax_m2 = {
    .model_type = "minimax_m2",
    .architecture = "MiniMaxM2ForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 5e6,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_minimax[] = {&minimax_m2, NULL};
