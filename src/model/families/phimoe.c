/* Phi-3.5-MoE (Microsoft 2024) as its GGUF files are run: RMS norms with a bias, softmax, renormalised, LongRoPE. */
#include "model/family.h"

const struct family family_phimoe = {
    .name = "phimoe",
    .facts = {.norm_bias = true,
              .qkv_bias = true,
              .o_bias = true,
              .output_bias = true,
              .router = {.kind = &router_softmax, .normalize = true}},
    .keys = KEYS(KEY_WINDOW),
    .experts_in_ff = true,
    .needs_output = true,
};
