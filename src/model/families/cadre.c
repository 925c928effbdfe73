/* This project's own architecture: nothing is implied by the name, every field of a spec is a key. Any router, norm
 * or bias of the tables can be trained, saved and run under it. */
#include "model/family.h"

const struct family family_cadre = {
    .name = "cadre",
    .keys = ~KEYS(KEY_SHARED_COUNT),
};
