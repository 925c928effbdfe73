/* IBM Granite 3, dense and MoE (2024): multipliers on embeddings, residual stream, scores and logits. Shared experts in
 * some (granitemoeshared). */
#include <stdio.h>

#include "model/family.h"

/* Files of dense models say by this key that nothing is rotated. With experts something always is, and readers take the
 * key as everywhere: without meaning. */
static const char *const own_keys[] = {"rope.scaling.finetuned", NULL};

static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    bool finetuned = true, found;
    char key[64];
    snprintf(key, sizeof key, "%s.rope.scaling.finetuned", s->family);
    TRY(gguf_get_bool(g, key, &finetuned, &found, err));
    s->no_rope = !finetuned;
    return CADRE_OK;
}

const struct family family_granite = {
    .name = "granite",
    .facts = {.rope_pairs = true},
    .keys = KEYS(KEY_SCALES) | KEYS(KEY_ATTENTION_SCALE),
    .own_keys = own_keys,
    .read = read,
};

const struct family family_granitemoe = {
    .name = "granitemoe",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_SCALES) | KEYS(KEY_ATTENTION_SCALE) | KEYS(KEY_SHARED_FF),
    .experts_in_ff = true,
    .hf = hf_granitemoe,
};
