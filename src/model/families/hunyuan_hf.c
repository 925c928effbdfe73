/* Hugging Face models of the family hunyuan-moe. */
#include <limits.h>
#include <math.h>
#include <string.h>

#include "model/hf/config.h"

/* A number, or a list with that number for each layer. */
static cadre_err same_everywhere(const struct hf_config *c, const char *key, int64_t *out, cadre_error *err)
{
    const json_t *v = json_object_get(c->root, key);
    bool found;
    if (!json_is_array(v))
        return hf_get_int(c, c->root, key, 0, 1 << 24, out, &found, err);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *x = json_array_get(v, i);
        CHECK(err, json_is_integer(x) && json_integer_value(x) >= 0 && json_integer_value(x) <= 1 << 24, CADRE_E_FORMAT,
              "%s: key '%s': expected whole numbers from 0 on", c->path, key);
        CHECK(err, json_equal(x, json_array_get(v, 0)), CADRE_E_UNSUPPORTED,
              "%s: key '%s': only one number for all layers is supported", c->path, key);
        *out = json_integer_value(x);
    }
    return CADRE_OK;
}

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t used = 1, shared = 1, ff = 0, moe = 0;
    TRY(same_everywhere(c, "moe_topk", &used, err));
    TRY(same_everywhere(c, "num_shared_expert", &shared, err));
    TRY(hf_get_int(c, c->root, "intermediate_size", 1, 1 << 24, &ff, NULL, err));
    moe = ff;
    TRY(same_everywhere(c, "moe_intermediate_size", &moe, err));
    TRY(hf_put_int(k, "expert_used_count", used, err));
    TRY(hf_put_int(k, "expert_feed_forward_length", moe, err));
    return hf_put_int(k, "expert_shared_feed_forward_length", shared * ff, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    int64_t shared = 0, ff = 0;
    bool found;
    TRY(gguf_get_i64(g, "hunyuan-moe.expert_shared_feed_forward_length", &shared, &found, err));
    TRY(gguf_get_i64(g, "hunyuan-moe.feed_forward_length", &ff, &found, err));
    CHECK(err, ff > 0 && shared % ff == 0, CADRE_E_UNSUPPORTED,
          "hunyuan-moe: expected a shared width that is a multiple of the experts', to write a directory");
    TRY(hf_copy_int(g, "hunyuan-moe", "expert_used_count", root, "moe_topk", err));
    TRY(hf_copy_int(g, "hunyuan-moe", "expert_feed_forward_length", root, "moe_intermediate_size", err));
    int bad = json_object_set_new(root, "num_shared_expert", json_integer(shared / ff));
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"use_qk_norm", "", HF_MUST_BE, 0, 0, "true"},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "true"},
    {"use_cla", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

#define L "model.layers.*."

static const struct hf_tensor tensors[] = {
    {L "self_attn.query_layernorm.weight", "blk.*.attn_q_norm.weight", HF_COPY, 0},
    {L "self_attn.key_layernorm.weight", "blk.*.attn_k_norm.weight", HF_COPY, 0},
    {L "mlp.gate.wg.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {L "mlp.shared_mlp.gate_proj.weight", "blk.*.ffn_gate_shexp.weight", HF_COPY, 0},
    {L "mlp.shared_mlp.up_proj.weight", "blk.*.ffn_up_shexp.weight", HF_COPY, 0},
    {L "mlp.shared_mlp.down_proj.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family hunyuan_v1_moe = {
    .model_type = "hunyuan_v1_moe",
    .architecture = "HunYuanMoEV1ForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_hunyuan[] = {&hunyuan_v1_moe, NULL};
