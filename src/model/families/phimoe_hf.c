/* Hugging Face models of the family phimoe-mixer. */
#include "model/hf/config.h"

/* Which biases there are is said by the tensors, here; a config that speaks of others is of another model. */
static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t chosen = 2;
    bool found;
    TRY(hf_get_int(c, c->root, "num_experts_per_tok", 0, 4096, &chosen, &found, err));
    CHECK(err, chosen == 2, CADRE_E_UNSUPPORTED,
          "%s: key 'num_experts_per_tok': only 2 is supported in a phimoe model, found %lld", c->path,
          (long long)chosen);
    return hf_no_window(c, k, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    bool attention = gguf_tensor_find(g, "blk.0.attn_q.bias"), output = gguf_tensor_find(g, "output.bias");
    int bad = json_object_set_new(root, "attention_bias", json_boolean(attention));
    bad |= json_object_set_new(root, "lm_head_bias", json_boolean(output));
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"", "attention.layer_norm_rms_epsilon", HF_NO_KEY, 0, 0, NULL},
    {"rms_norm_eps", "attention.layer_norm_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_local_experts", "expert_count", HF_INT, HF_DEFAULT, 16, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 2, NULL},
    {"router_jitter_noise", "expert_threshold", HF_REAL, HF_DEFAULT, 0.01, NULL},
    {0},
};

#define L "model.layers.*."
#define E L "block_sparse_moe."

static const struct hf_tensor tensors[] = {
    {"model.norm.bias", "output_norm.bias", HF_COPY, 0},
    {"lm_head.bias", "output.bias", HF_COPY, 0},
    {L "input_layernorm.bias", "blk.*.attn_norm.bias", HF_COPY, 0},
    {L "post_attention_layernorm.bias", "blk.*.ffn_norm.bias", HF_COPY, 0},
    {E "gate.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "experts.#.w1.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {E "experts.#.w3.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {E "experts.#.w2.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family phimoe = {
    .model_type = "phimoe",
    .architecture = "PhimoeForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 1000000,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_phimoe[] = {&phimoe, NULL};
