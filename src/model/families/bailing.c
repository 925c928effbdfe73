/* Ling (inclusionAI, 2025). The first generation: neighbouring rope pairs, softmax. The second: per-head query and key
 * norms, sigmoid with a selection bias in groups of experts; its files keep q, k and v in one matrix. */
#include "model/family.h"

/* Files of the first generation may leave the width of a head to the number of rotated values. */
static cadre_err read_head(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)g, (void)err;
    if (s->head_dim == 0)
        s->head_dim = s->v_dim = s->n_rot;
    return CADRE_OK;
}

const struct family family_bailingmoe = {
    .name = "bailingmoe",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_WEIGHTS_NORM) |
            KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .read = read_head,
};

const struct family family_bailingmoe2 = {
    .name = "bailingmoe2",
    .facts = {.qk_norm = QK_NORM_HEAD, .router = {.kind = &router_sigmoid}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_SHARED_COUNT) | KEYS(KEY_LEADING_DENSE) |
            KEYS(KEY_GATING) | KEYS(KEY_WEIGHTS_NORM) | KEYS(KEY_WEIGHTS_SCALE),
    .needs_output = true,
    .hf = hf_bailing,
};
