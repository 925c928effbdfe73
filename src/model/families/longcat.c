/* LongCat-Flash (Meituan 2025): experts connected by a shortcut over two blocks, of which a token may choose some that
 * return their input; latent attention with scales (attention/mla.c); softmax over all choices with a selection bias,
 * weights not normalised. A name of this project's: others have no GGUF of it. A layer of the paper is two blocks. */
#include "model/family.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>

#include "model/hf/config.h"

/* Latent attention has as many keys and values as heads, whatever a file says is cached. */
static const char *const own_keys[] = {"attention.head_count_kv", NULL};

static const struct hf_key hf_keys[] = {
    {"num_layers", "block_count", HF_LAYERS, HF_REQUIRED, 0, NULL},
    {"num_key_value_heads", "attention.head_count_kv", HF_FIXED, 0, 1, NULL},
    {"q_lora_rank", "attention.q_lora_rank", HF_INT, HF_REQUIRED, 0, NULL},
    {"kv_lora_rank", "attention.kv_lora_rank", HF_INT, HF_REQUIRED, 0, NULL},
    {"v_head_dim", "attention.value_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"qk_rope_head_dim", "rope.dimension_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"rms_norm_eps", "attention.layer_norm_rms_epsilon", HF_REAL, HF_DEFAULT, 1e-5, NULL},
    {"ffn_hidden_size", "feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"n_routed_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"zero_expert_num", "expert_copy_count", HF_INT, HF_DEFAULT, 0, NULL},
    {"moe_topk", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"expert_ffn_hidden_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"routed_scaling_factor", "expert_weights_scale", HF_REAL, HF_DEFAULT, 6, NULL},
    {"zero_expert_type", "", HF_MUST_BE, 0, 0, "\"identity\""},
    {"attention_method", "", HF_MUST_BE, 0, 0, "\"MLA\""},
    {"attention_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"router_bias", "", HF_MUST_BE, 0, 0, "false"},
    {"norm_topk_prob", "", HF_MUST_BE, 0, 0, "false"},
    {0},
};

/* A scale of the paper's §2.3.1: √(width / rank), as variances of W x grow with the width of x. */
static const struct scale {
    const char *flag, *hf_rank, *rank, *scale; /* in config.json; in GGUF */
} scales[] = {
    {"mla_scale_q_lora", "q_lora_rank", "attention.q_lora_rank", "attention.q_lora_scale"},
    {"mla_scale_kv_lora", "kv_lora_rank", "attention.kv_lora_rank", "attention.kv_lora_scale"},
};
enum { N_SCALES = sizeof scales / sizeof *scales };

static double scale_of(int64_t width, int64_t rank)
{
    return sqrt((double)width / (double)rank);
}

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t nope = 0, rope = 0, width = 0, rank = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "qk_nope_head_dim", 1, 1 << 16, &nope, NULL, err));
    TRY(hf_get_int(c, c->root, "qk_rope_head_dim", 1, 1 << 16, &rope, NULL, err));
    TRY(hf_put_int(k, "attention.key_length", nope + rope, err));
    TRY(hf_get_int(c, c->root, "hidden_size", 1, INT_MAX, &width, NULL, err));
    for (int i = 0; i < N_SCALES; i++) {
        bool on = true;
        TRY(hf_get_bool(c, c->root, scales[i].flag, &on, &found, err));
        TRY(hf_get_int(c, c->root, scales[i].hf_rank, 1, INT_MAX, &rank, NULL, err));
        TRY(hf_put_real(k, scales[i].scale, on ? scale_of(width, rank) : 1, err));
    }
    return CADRE_OK;
}

#define NAME "longcat-flash"

static cadre_err get_int(const struct gguf *g, const char *key, int64_t *out, cadre_error *err)
{
    bool found;
    *out = 0;
    TRY(gguf_get_i64(g, key, out, &found, err));
    CHECK(err, *out > 0, CADRE_E_FORMAT, "%s: expected above 0, found %lld", key, (long long)*out);
    return CADRE_OK;
}

/* A config can only say that a scale is the paper's or 1. */
static cadre_err restore_scale(const struct gguf *g, const struct scale *s, int64_t width, json_t *root,
                               cadre_error *err)
{
    char key[128];
    int64_t rank;
    double x = 1;
    bool found;
    snprintf(key, sizeof key, NAME ".%s", s->rank);
    TRY(get_int(g, key, &rank, err));
    snprintf(key, sizeof key, NAME ".%s", s->scale);
    TRY(gguf_get_f64(g, key, &x, &found, err));
    CHECK(err, x == 1 || (float)x == (float)scale_of(width, rank), CADRE_E_UNSUPPORTED,
          "%s: expected 1 or %g to write a directory, found %g", key, scale_of(width, rank), x);
    CHECK(err, json_object_set_new(root, s->flag, json_boolean(x != 1)) == 0, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    int64_t key, rope, width;
    TRY(get_int(g, NAME ".attention.key_length", &key, err));
    TRY(get_int(g, NAME ".rope.dimension_count", &rope, err));
    TRY(get_int(g, NAME ".embedding_length", &width, err));
    CHECK(err, json_object_set_new(root, "qk_nope_head_dim", json_integer(key - rope)) == 0, CADRE_E_MEMORY,
          "config.json: no memory");
    for (int i = 0; i < N_SCALES; i++)
        TRY(restore_scale(g, &scales[i], width, root, err));
    return CADRE_OK;
}

#define L "model.layers.*."
#define ATTN L "self_attn.%."

static const struct hf_tensor hf_tensors[] = {
    {L "input_layernorm.%.weight", "blk.*.attn_norm.weight", HF_COPY, 0},
    {ATTN "q_a_proj.weight", "blk.*.attn_q_a.weight", HF_COPY, 0},
    {ATTN "q_a_layernorm.weight", "blk.*.attn_q_a_norm.weight", HF_COPY, 0},
    {ATTN "q_b_proj.weight", "blk.*.attn_q_b.weight", HF_COPY, 0},
    {ATTN "kv_a_proj_with_mqa.weight", "blk.*.attn_kv_a_mqa.weight", HF_COPY, 0},
    {ATTN "kv_a_layernorm.weight", "blk.*.attn_kv_a_norm.weight", HF_COPY, 0},
    {ATTN "kv_b_proj.weight", "blk.*.attn_k_b.weight", HF_K_B, 0},
    {ATTN "kv_b_proj.weight", "blk.*.attn_v_b.weight", HF_V_B, 0},
    {ATTN "o_proj.weight", "blk.*.attn_output.weight", HF_COPY, 0},
    {L "post_attention_layernorm.%.weight", "blk.*.ffn_norm.weight", HF_COPY, 0},
    {L "mlps.%.gate_proj.weight", "blk.*.ffn_gate.weight", HF_COPY, 0},
    {L "mlps.%.up_proj.weight", "blk.*.ffn_up.weight", HF_COPY, 0},
    {L "mlps.%.down_proj.weight", "blk.*.ffn_down.weight", HF_COPY, 0},
    {L "mlp.router.classifier.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {L "mlp.router.e_score_correction_bias", "blk.*.exp_probs_b.bias", HF_COPY, 0},
    {0},
};

/* Predictors of further tokens. */
static const char *const ignored[] = {"model.mtp.", NULL};

static const struct hf_family hf_longcat = {
    .model_type = "longcat_flash",
    .architecture = "LongcatFlashForCausalLM",
    .keys = hf_keys,
    .tensors = hf_tensors,
    .rope_base = 1e7,
    .own_heads = true,
    .blocks = 2,
    .derive = derive,
    .restore = restore,
    .ignored = ignored,
};

const struct family family_longcat_flash = {
    .name = NAME,
    .facts = {.attention = &attention_mla,
              .rope_pairs = true,
              .moe_side = MOE_SHORTCUT,
              .router = {.kind = &router_softmax}},
    .keys =
        KEYS(KEY_LATENT) | KEYS(KEY_LATENT_SCALES) | KEYS(KEY_EXPERT_FF) | KEYS(KEY_WEIGHTS_SCALE) | KEYS(KEY_LIGHT),
    .own_keys = own_keys,
    .hf = (const struct hf_family *const[]){&hf_longcat, NULL},
};
