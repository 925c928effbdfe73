/* Hugging Face models of the family gpt-oss. Experts as [in, out] with gate and up in turn, or as MXFP4 blocks. */
#include <string.h>

#include "model/hf/config.h"

/* Layers 0, 2, … slide. */
static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    const json_t *types = json_object_get(c->root, "layer_types");
    (void)k;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        CHECK(err, type && strcmp(type, i % 2 ? "full_attention" : "sliding_attention") == 0, CADRE_E_UNSUPPORTED,
              "%s: key 'layer_types': only sliding_attention and full_attention in turn are supported", c->path);
    }
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"intermediate_size", "feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_local_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_DEFAULT, 4, NULL},
    {"sliding_window", "attention.sliding_window", HF_INT, HF_DEFAULT, 128, NULL},
    {"swiglu_limit", "", HF_MUST_BE, 0, 0, "7.0"},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "true"},
    {0},
};

#define L "model.layers.*."
#define E L "mlp.experts."

static const struct hf_tensor tensors[] = {
    {L "self_attn.sinks", "blk.*.attn_sinks.weight", HF_COPY, 0},
    {L "post_attention_layernorm.weight", "blk.*.post_attention_norm.weight", HF_COPY, 0},
    {L "mlp.router.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {L "mlp.router.bias", "blk.*.ffn_gate_inp.bias", HF_COPY, 0},
    {E "gate_up_proj_blocks", "blk.*.ffn_gate_exps.weight", HF_EVEN, HF_ONLY_READ},
    {E "gate_up_proj_blocks", "blk.*.ffn_up_exps.weight", HF_ODD, HF_ONLY_READ},
    {E "down_proj_blocks", "blk.*.ffn_down_exps.weight", HF_COPY, HF_ONLY_READ},
    {E "gate_up_proj", "blk.*.ffn_gate_exps.weight", HF_EVEN, HF_STORED_T},
    {E "gate_up_proj", "blk.*.ffn_up_exps.weight", HF_ODD, HF_STORED_T},
    {E "down_proj", "blk.*.ffn_down_exps.weight", HF_COPY, HF_STORED_T},
    {E "gate_up_proj_bias", "blk.*.ffn_gate_exps.bias", HF_EVEN, HF_VECTORS},
    {E "gate_up_proj_bias", "blk.*.ffn_up_exps.bias", HF_ODD, HF_VECTORS},
    {E "down_proj_bias", "blk.*.ffn_down_exps.bias", HF_COPY, HF_VECTORS},
    {0},
};

static const struct hf_family gpt_oss = {
    .model_type = "gpt_oss",
    .architecture = "GptOssForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 150000,
    .head_dim = 64,
    .derive = derive,
};

const struct hf_family *const hf_gpt_oss[] = {&gpt_oss, NULL};
