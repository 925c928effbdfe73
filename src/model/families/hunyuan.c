/* Hunyuan-A13B (Tencent 2025): per-head query and key norms after rope; a shared expert in every layer. */
#include "model/family.h"

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)g, (void)err;
    if (s->shared_ff == 0)
        s->shared_ff = s->dense_ff;
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0 && s->shared_ff > 0, CADRE_E_UNSUPPORTED,
          "hunyuan-moe: expected a model with experts and a shared one; save as cadre");
    return CADRE_OK;
}

const struct family family_hunyuan_moe = {
    .name = "hunyuan-moe",
    .facts = {.qk_norm = QK_NORM_HEAD,
              .qk_norm_after_rope = true,
              .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_WEIGHTS_SCALE),
    .experts_in_ff = true,
    .read = read,
    .can_write = can_write,
    .hf = hf_hunyuan,
};
