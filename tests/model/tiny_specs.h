/* A tiny model of every family, and of everything that only the project's own architecture can say. Widths of matrices
 * fit blocks of 32. */
#ifndef CADRE_TESTS_TINY_SPECS_H
#define CADRE_TESTS_TINY_SPECS_H

#include "model/spec.h"

#define TINY .n_layer = 3, .d_model = 32, .n_vocab = 50, .n_ctx = 200, .norm_eps = (real)1e-5, .n_head = 4

static const struct spec tiny_specs[] = {
    {.family = "llama", TINY, .n_kv_head = 1, .rope_pairs = true, .dense_ff = 64, .tied = true},
    {.family = "llama",
     TINY,
     .n_kv_head = 2,
     .rope_pairs = true,
     .rope_linear = 2,
     .n_expert = 5,
     .expert_ff = 32,
     .router = {.k = 2, .normalize = true}},
    {.family = "qwen2moe",
     TINY,
     .qkv_bias = true,
     .shared_gated = true,
     .n_expert = 4,
     .expert_ff = 32,
     .shared_ff = 64,
     .router = {.k = 2}},
    {.family = "qwen3", TINY, .head_dim = 16, .v_dim = 16, .qk_norm = QK_NORM_HEAD, .dense_ff = 32},
    {.family = "qwen3moe",
     TINY,
     .n_kv_head = 2,
     .head_dim = 16,
     .v_dim = 16,
     .qk_norm = QK_NORM_HEAD,
     .yarn_factor = 4,
     .yarn_ctx = 32,
     .n_expert = 6,
     .expert_ff = 32,
     .router = {.k = 3, .normalize = true}},
    {.family = "olmoe", TINY, .qk_norm = QK_NORM_FULL, .n_expert = 4, .expert_ff = 32, .router = {.k = 3}},
    {.family = "deepseek",
     TINY,
     .rope_pairs = true,
     .n_dense_leading = 1,
     .dense_ff = 96,
     .n_expert = 6,
     .expert_ff = 32,
     .shared_ff = 64,
     .router = {.k = 2, .scale = (real)1.5}},
    {.family = "cadre",
     TINY,
     .n_kv_head = 2,
     .head_dim = 8,
     .v_dim = 16,
     .n_rot = 4,
     .tied = true,
     .qkv_bias = true,
     .o_bias = true,
     .qk_norm = QK_NORM_FULL,
     .attention_scale = (real)0.3,
     .rope_pairs = true,
     .rope_freqs = true,
     .rope_base = 5000,
     .yarn_factor = 2,
     .yarn_ctx = 100,
     .yarn_beta_fast = 16,
     .yarn_beta_slow = 2,
     .rope_attention_factor = (real)1.25,
     .n_dense_leading = 2,
     .dense_ff = 64,
     .n_expert = 8,
     .expert_ff = 32,
     .shared_ff = 32,
     .shared_gated = true,
     .router_bias = true,
     .router = {.kind = &router_sigmoid,
                .k = 3,
                .groups = {.n = 4, .used = 2, .best = 1},
                .normalize = true,
                .scale = (real)2.5}},
/* every router that can generate, every structure of experts */
#define PLAIN .family = "cadre", TINY, .tied = true, .n_expert = 6, .expert_ff = 32
    {PLAIN, .router = {.kind = &router_noisy, .k = 2}},
    {PLAIN, .router = {.kind = &router_switch, .k = 1}},
    {PLAIN, .router = {.kind = &router_gshard, .k = 2}},
    {PLAIN, .router = {.kind = &router_top_p, .k = 5, .threshold = (real)0.4}},
    {PLAIN, .router = {.kind = &router_threshold, .k = 5, .threshold = (real)0.4}},
    {PLAIN, .n_zero = 3, .router = {.kind = &router_null, .k = 3}},
    {PLAIN, .router = {.kind = &router_grouped, .k = 4, .groups = {.n = 2, .used = 2, .best = 1}}},
    {PLAIN, .router = {.kind = &router_dense_to_sparse, .k = 2, .threshold = (real)0.05, .temperature = 2}},
    {PLAIN, .router = {.kind = &router_random, .k = 3, .start_k = 1, .normalize = true}},
    {PLAIN, .n_zero = 1, .n_copy = 1, .n_constant = 2, .gate_residual = true, .router = {.k = 3}},
    {PLAIN, .slices = {.n = 3, .of = {1, 2, 3}}, .shared_ff = 32, .router = {.k = 2}},
    {PLAIN, .latent = 64, .router = {.k = 2}},
    {.family = "cadre",
     .n_layer = 3,
     .d_model = 64,
     .n_vocab = 50,
     .n_ctx = 200,
     .norm_eps = (real)1e-5,
     .n_head = 4,
     .tied = true,
     .n_expert = 6,
     .expert_ff = 32,
     .moe_heads = 2,
     .router = {.k = 2}},
    {PLAIN, .chain = 3, .router = {.k = 2}},
    {PLAIN, .router_state = 8, .router = {.k = 2, .normalize = true}},
#undef PLAIN
};
enum { N_TINY = sizeof tiny_specs / sizeof *tiny_specs };

static inline struct spec tiny_spec(int i)
{
    struct spec s = tiny_specs[i];
    spec_defaults(&s);
    return s;
}

#endif
