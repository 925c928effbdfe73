/* Llama and Mixtral: neighbouring rope pairs; with experts, softmax over all, top-k, renormalised. */
#include "model/family.h"

const struct family family_llama = {
    .name = "llama",
    .facts = {.rope_pairs = true, .router = {.kind = &router_softmax, .normalize = true}},
    .experts_in_ff = true,
};
