/* Pangu Pro MoE (Tang et al. 2025): as many experts from each of equal groups; every expert's weights are multiplied by
 * a learned number; biases in attention. A name of this project's: others have no GGUF of it. */
#include "model/family.h"

#include <limits.h>

#include "model/hf/config.h"

/* All groups give, so how many do and by which scores they are ranked is not said. */
static const char *const own_keys[] = {"expert_group_used_count", "expert_group_best_count", NULL};

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)g;
    CHECK(err, s->router.groups.n > 1, CADRE_E_UNSUPPORTED,
          "pangu-moe.expert_group_count: expected at least 2 groups, found %d", s->router.groups.n);
    s->router.groups.used = s->router.groups.n;
    s->router.groups.best = 1;
    return CADRE_OK;
}

static const struct hf_key hf_keys[] = {
    {"intermediate_size", "feed_forward_length", HF_INT, 0, 0, NULL},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"num_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"num_experts_per_tok", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_intermediate_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"shared_expert_intermediate_size", "expert_shared_feed_forward_length", HF_INT, HF_DEFAULT, 0, NULL},
    {"mlp_only_layers", "", HF_MUST_BE, 0, 0, "[]"},
    {0},
};

/* The released config has no key for the groups: each gives one expert. */
static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t groups = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "num_experts_per_tok", 1, INT_MAX, &groups, NULL, err));
    TRY(hf_get_int(c, c->root, "num_expert_groups", 1, INT_MAX, &groups, &found, err));
    TRY(hf_put_int(k, "expert_group_count", groups, err));
    return hf_no_window(c, k, err);
}

#define MLP "model.layers.*.mlp."

static const struct hf_tensor hf_tensors[] = {
    {MLP "router_scale", "blk.*.exp_scale.weight", HF_COPY, HF_FLAT},
    {MLP "shared_expert.gate_proj.weight", "blk.*.ffn_gate_shexp.weight", HF_COPY, 0},
    {MLP "shared_expert.up_proj.weight", "blk.*.ffn_up_shexp.weight", HF_COPY, 0},
    {MLP "shared_expert.down_proj.weight", "blk.*.ffn_down_shexp.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family hf_pangu = {
    .model_type = "PanguProMoE",
    .architecture = "PanguProMoEForCausalLM",
    .keys = hf_keys,
    .tensors = hf_tensors,
    .derive = derive,
};

const struct family family_pangu_moe = {
    .name = "pangu-moe",
    .facts = {.qkv_bias = true, .o_bias = true, .expert_scaled = true, .router = {.kind = &router_grouped}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF),
    .own_keys = own_keys,
    .read = read,
    .hf = (const struct hf_family *const[]){&hf_pangu, NULL},
};
