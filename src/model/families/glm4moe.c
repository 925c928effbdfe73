/* GLM-4.5 and its like (2025): leading dense layers, sigmoid with a selection bias, a shared expert; some sizes norm
 * queries and keys per head. What its files call post_attention_norm is the norm before the feed-forward part. */
#include "model/family.h"

static const struct tensor_alias aliases[] = {{"ffn_norm.weight", "post_attention_norm.weight"}, {0}};

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)err;
    s->qk_norm = gguf_tensor_find(g, "blk.0.attn_q_norm.weight") ? QK_NORM_HEAD : QK_NORM_NONE;
    return CADRE_OK;
}

const struct family family_glm4moe = {
    .name = "glm4moe",
    .facts = {.qk_norm = QK_NORM_HEAD, .router_bias = true, .router = {.kind = &router_sigmoid}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_GATING) |
            KEYS(KEY_WEIGHTS_NORM) | KEYS(KEY_WEIGHTS_SCALE),
    .aliases = aliases,
    .read = read,
    .hf = hf_glm4moe,
};
