/* Hugging Face models of the family dbrx. The experts' matrices lie below each other, those of the way down as [in,
 * out]. The norms are PyTorch's, with its epsilon. */
#include "model/hf/config.h"

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    const json_t *power = json_object_get(json_object_get(c->root, "ffn_config"), "moe_normalize_expert_weights");
    CHECK(err, !json_is_null(power), CADRE_E_UNSUPPORTED,
          "%s: key 'ffn_config.moe_normalize_expert_weights': only 1 is supported in a dbrx model, found null",
          c->path);
    return hf_put_real(k, "attention.layer_norm_epsilon", 1e-5, err);
}

/* Clamped to 0 would be another thing than not clamped. */
static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    double clamp = 0;
    bool found;
    TRY(gguf_get_f64(g, "dbrx.attention.clamp_kqv", &clamp, &found, err));
    json_t *attention = json_object_get(root, "attn_config");
    CHECK(err, clamp != 0 || !attention || json_object_set_new(attention, "clip_qkv", json_null()) == 0, CADRE_E_MEMORY,
          "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"max_seq_len", "context_length", HF_INT, HF_DEFAULT, 2048, NULL},
    {"d_model", "embedding_length", HF_INT, HF_DEFAULT, 2048, NULL},
    {"n_layers", "block_count", HF_INT, HF_DEFAULT, 24, NULL},
    {"n_heads", "attention.head_count", HF_INT, HF_DEFAULT, 16, NULL},
    {"attn_config.kv_n_heads", "attention.head_count_kv", HF_INT, HF_DEFAULT, 1, NULL},
    {"attn_config.clip_qkv", "attention.clamp_kqv", HF_REAL, HF_DEFAULT, 0, NULL}, /* readers want the key */
    {"attn_config.rope_theta", "rope.freq_base", HF_REAL, HF_DEFAULT, 10000, NULL},
    {"ffn_config.ffn_hidden_size", "feed_forward_length", HF_INT, HF_DEFAULT, 3584, NULL},
    {"ffn_config.moe_num_experts", "expert_count", HF_INT, HF_DEFAULT, 4, NULL},
    {"ffn_config.moe_top_k", "expert_used_count", HF_INT, HF_DEFAULT, 1, NULL},
    {"ffn_config.moe_normalize_expert_weights", "", HF_MUST_BE, 0, 0, "1"},
    {"ffn_config.ffn_act_fn", "", HF_MUST_BE, 0, 0, "{\"name\": \"silu\"}"},
    {"", "attention.layer_norm_rms_epsilon", HF_NO_KEY, 0, 0, NULL},
    {0},
};

#define L "transformer.blocks.*."
#define A L "norm_attn_norm."
#define E L "ffn.experts.mlp."

static const struct hf_tensor tensors[] = {
    {"transformer.wte.weight", "token_embd.weight", HF_COPY, 0},
    {"transformer.norm_f.weight", "output_norm.weight", HF_COPY, 0},
    {A "norm_1.weight", "blk.*.attn_norm.weight", HF_COPY, 0},
    {A "attn.Wqkv.weight", "blk.*.attn_qkv.weight", HF_COPY, 0},
    {A "attn.out_proj.weight", "blk.*.attn_output.weight", HF_COPY, 0},
    {A "norm_2.weight", "blk.*.attn_output_norm.weight", HF_COPY, 0},
    {L "ffn.router.layer.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "w1", "blk.*.ffn_gate_exps.weight", HF_STACKED, 0},
    {E "v1", "blk.*.ffn_up_exps.weight", HF_STACKED, 0},
    {E "w2", "blk.*.ffn_down_exps.weight", HF_STACKED_T, 0},
    {0},
};

static const struct hf_family dbrx = {
    .model_type = "dbrx",
    .architecture = "DbrxForCausalLM",
    .own_heads = true,
    .keys = keys,
    .tensors = tensors,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_dbrx[] = {&dbrx, NULL};
