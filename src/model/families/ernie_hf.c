/* Hugging Face models of the family ernie4_5-moe. */
#include <limits.h>

#include "model/hf/config.h"

/* The shared experts are one, as wide as all together. */
static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t width = 0, n = 2, end = -1, layers = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "moe_intermediate_size", 1, 1 << 24, &width, NULL, err));
    TRY(hf_get_int(c, c->root, "moe_num_shared_experts", 0, 4096, &n, &found, err));
    TRY(hf_get_int(c, c->root, "num_hidden_layers", 1, INT_MAX, &layers, NULL, err));
    TRY(hf_get_int(c, c->root, "moe_layer_end_index", -1, INT_MAX, &end, &found, err));
    CHECK(err, end == -1 || end >= layers - 1, CADRE_E_UNSUPPORTED,
          "%s: key 'moe_layer_end_index': dense layers behind those with experts are not supported", c->path);
    return hf_put_int(k, "expert_shared_feed_forward_length", n * width, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    int64_t shared = 0, width = 0;
    bool found;
    TRY(gguf_get_i64(g, "ernie4_5-moe.expert_shared_feed_forward_length", &shared, &found, err));
    TRY(gguf_get_i64(g, "ernie4_5-moe.expert_feed_forward_length", &width, &found, err));
    CHECK(err, width > 0 && shared % width == 0, CADRE_E_UNSUPPORTED,
          "ernie4_5-moe: expected a shared width that is a multiple of the experts', to write a directory");
    int bad = json_object_set_new(root, "moe_num_shared_experts", json_integer(shared / width));
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"moe_num_experts", "expert_count", HF_INT, HF_DEFAULT, 64, NULL},
    {"moe_k", "expert_used_count", HF_INT, HF_DEFAULT, 6, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_layer_start_index", "leading_dense_block_count", HF_INT, HF_DEFAULT, 1, NULL},
    {"moe_layer_interval", "interleave_moe_layer_step", HF_INT, HF_DEFAULT, 1, NULL},
    {"use_bias", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

static const struct hf_tensor tensors[] = {
    {"model.layers.*.mlp.moe_statics.e_score_correction_bias", "blk.*.exp_probs_b.bias", HF_COPY, HF_FLAT},
    {0},
};

static const char *const ignored[] = {"model.mtp_", NULL};

static const struct hf_family ernie4_5_moe = {
    .model_type = "ernie4_5_moe",
    .architecture = "Ernie4_5_MoeForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 500000,
    .tied = true,
    .derive = derive,
    .restore = restore,
    .ignored = ignored,
};

const struct hf_family *const hf_ernie[] = {&ernie4_5_moe, NULL};
