/* SmallThinker (Song et al. 2025): the router reads the layer's input, so that experts can be fetched while attention
 * computes; ReLU-gated experts. With a window every fourth layer, from the first on, sees everything and has no rotary
 * embedding. */
#include "model/family.h"

enum { WINDOW = 4096, PERIOD = 4 };

/* Readers of this name take the window as 4096, whatever the key says but 0. */
static cadre_err read(const struct gguf *g, struct spec *s, cadre_error *err)
{
    (void)g;
    if (s->window <= 0)
        return CADRE_OK;
    s->window = WINDOW;
    if (s->window_period == 0 && !s->slides.given)
        s->window_period = PERIOD;
    CHECK(err, !s->slides.given && s->window_period == PERIOD, CADRE_E_UNSUPPORTED,
          "smallthinker.attention.sliding_window_pattern: only %d is supported, found %lld", PERIOD,
          (long long)s->window_period);
    return CADRE_OK;
}

static cadre_err can_write(const struct spec *s, cadre_error *err)
{
    CHECK(err, s->n_expert > 0, CADRE_E_UNSUPPORTED, "smallthinker: expected a model with experts; save as cadre");
    CHECK(err, s->window == 0 || (s->window == WINDOW && s->window_period == PERIOD), CADRE_E_UNSUPPORTED,
          "smallthinker: expected no window, or one of %d in three of four layers, found %lld; save as cadre", WINDOW,
          (long long)s->window);
    return CADRE_OK;
}

const struct family family_smallthinker = {
    .name = "smallthinker",
    .facts = {.window_full_first = true,
              .rope_sliding_only = true,
              .gate_early = true,
              .expert_kind = &expert_reglu,
              .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_GATING) | KEYS(KEY_WINDOW),
    .read = read,
    .can_write = can_write,
    .hf = hf_smallthinker,
};
