/* This project's own architecture: nothing is implied by the name, every field of a spec is a key. Any router, norm
 * or bias of the tables can be trained, saved and run under it. */
#include "model/family.h"

const struct family family_cadre = {
    .name = "cadre",
    .keys = KEYS(KEY_EXPERT_FF) | KEYS(KEY_SHARED_FF) | KEYS(KEY_LEADING_DENSE) | KEYS(KEY_GATING) |
            KEYS(KEY_WEIGHTS_NORM) | KEYS(KEY_WEIGHTS_SCALE) | KEYS(KEY_GROUPS) | KEYS(KEY_ATTENTION_SCALE) |
            KEYS(KEY_OWN),
};
