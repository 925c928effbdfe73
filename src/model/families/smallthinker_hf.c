/* Hugging Face models of the family smallthinker. Lists say for each layer whether it slides and whether it has a
 * rotary embedding; known are two layouts: all see everything and turn, and every fourth, from the first on, sees
 * everything and does not turn while the others slide over 4096 and do. */
#include "model/hf/config.h"

#include <limits.h>

enum { WINDOW = 4096, PERIOD = 4 };

/* Whether the layers of a list are 1 in three of four (true) or all `otherwise`. */
static cadre_err in_period(const struct hf_config *c, const char *key, int otherwise, int64_t layers, bool *period,
                           cadre_error *err)
{
    const json_t *list = json_object_get(c->root, key);
    bool all = true;
    *period = false;
    if (!list || json_is_null(list))
        return CADRE_OK;
    CHECK(err, json_is_array(list) && json_array_size(list) == (size_t)layers, CADRE_E_FORMAT,
          "%s: key '%s': expected a list of %lld numbers, one a layer", c->path, key, (long long)layers);
    *period = true;
    for (size_t i = 0; i < (size_t)layers; i++) {
        const json_t *v = json_array_get(list, i);
        bool known = json_is_integer(v) && (json_integer_value(v) == 0 || json_integer_value(v) == 1);
        CHECK(err, known, CADRE_E_FORMAT, "%s: key '%s': expected 0 or 1 for layer %zu", c->path, key, i);
        all &= json_integer_value(v) == otherwise;
        *period &= json_integer_value(v) == (i % PERIOD != 0);
    }
    CHECK(err, all || *period, CADRE_E_UNSUPPORTED,
          "%s: key '%s': only %d in every layer, or 0 in every fourth from the first on and 1 in the others, is "
          "supported",
          c->path, key, otherwise);
    *period &= !all;
    return CADRE_OK;
}

static cadre_err derive(const struct hf_config *c, struct hf_keys *k, cadre_error *err)
{
    int64_t layers = 0, window = WINDOW;
    bool found, slides, turns, softmax = false;
    TRY(hf_get_int(c, c->root, "num_hidden_layers", 1, INT_MAX, &layers, NULL, err));
    TRY(in_period(c, "sliding_window_layout", 0, layers, &slides, err));
    TRY(in_period(c, "rope_layout", 1, layers, &turns, err));
    CHECK(err, slides == turns, CADRE_E_UNSUPPORTED,
          "%s: keys 'sliding_window_layout' and 'rope_layout': expected the same layers to slide and to turn", c->path);
    TRY(hf_get_int(c, c->root, "sliding_window_size", 0, INT_MAX, &window, &found, err));
    CHECK(err, !slides || window == WINDOW, CADRE_E_UNSUPPORTED,
          "%s: key 'sliding_window_size': only %d is supported, found %lld", c->path, WINDOW, (long long)window);
    if (slides)
        TRY(hf_put_int(k, "attention.sliding_window", WINDOW, err));
    TRY(hf_get_bool(c, c->root, "moe_primary_router_apply_softmax", &softmax, &found, err));
    return hf_put_int(k, "expert_gating_func", softmax ? 1 : 2, err);
}

static cadre_err restore(const struct gguf *g, json_t *root, cadre_error *err)
{
    int64_t layers = 0, window = 0, gating = 1;
    bool found;
    TRY(gguf_get_i64(g, "smallthinker.block_count", &layers, &found, err));
    CHECK(err, layers >= 0 && layers <= MODEL_MAX_LAYERS, CADRE_E_FORMAT,
          "smallthinker.block_count: expected 0 to %d, found %lld", MODEL_MAX_LAYERS, (long long)layers);
    TRY(gguf_get_i64(g, "smallthinker.attention.sliding_window", &window, &found, err));
    TRY(gguf_get_i64(g, "smallthinker.expert_gating_func", &gating, &found, err));
    json_t *slides = json_array(), *turns = json_array();
    int bad = json_object_set_new(root, "sliding_window_layout", slides);
    bad |= json_object_set_new(root, "rope_layout", turns);
    for (int64_t i = 0; i < layers && !bad; i++) {
        bad |= json_array_append_new(slides, json_integer(window > 0 && i % PERIOD != 0));
        bad |= json_array_append_new(turns, json_integer(window == 0 || i % PERIOD != 0));
    }
    bad |= json_object_set_new(root, "sliding_window_size", json_integer(WINDOW));
    bad |= json_object_set_new(root, "moe_primary_router_apply_softmax", json_boolean(gating == 1));
    CHECK(err, !bad, CADRE_E_MEMORY, "config.json: no memory");
    return CADRE_OK;
}

static const struct hf_key keys[] = {
    {"moe_ffn_hidden_size", "feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_ffn_hidden_size", "expert_feed_forward_length", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_num_primary_experts", "expert_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_num_active_primary_experts", "expert_used_count", HF_INT, HF_REQUIRED, 0, NULL},
    {"moe_shared_primary_experts", "", HF_MUST_BE, 0, 0, "0"},
    {"moe_enable_secondary_experts", "", HF_MUST_BE, 0, 0, "false"},
    {"moe_enable_early_router", "", HF_MUST_BE, 0, 0, "true"},
    {"use_qk_norm", "", HF_MUST_BE, 0, 0, "false"},
    {"hidden_act", "", HF_MUST_BE, 0, 0, "\"relu\""},
    {0},
};

#define E "model.layers.*.block_sparse_moe."

static const struct hf_tensor tensors[] = {
    {E "primary_router.weight", "blk.*.ffn_gate_inp.weight", HF_COPY, HF_F32},
    {E "experts.#.gate.weight", "blk.*.ffn_gate_exps.weight", HF_COPY, 0},
    {E "experts.#.up.weight", "blk.*.ffn_up_exps.weight", HF_COPY, 0},
    {E "experts.#.down.weight", "blk.*.ffn_down_exps.weight", HF_COPY, 0},
    {0},
};

static const struct hf_family smallthinker = {
    .model_type = "smallthinker",
    .architecture = "SmallThinkerForCausalLM",
    .keys = keys,
    .tensors = tensors,
    .rope_base = 1000000,
    .head_dim = 128,
    .tied = true,
    .derive = derive,
    .restore = restore,
};

const struct hf_family *const hf_smallthinker[] = {&smallthinker, NULL};
