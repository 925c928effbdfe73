/* The forward pass in both builds: batches, caches and threads never change a byte, memory is what was planned, and the
 * numbers of a spec mean what they say. */
#include "model_test.h"

#include <math.h>

#include "base/checked.h"
#include "base/rng.h"
#include "file/alloc.h"
#include "model/tensors.h"
#include "random_model.h"
#include "tiny_specs.h"

enum { N_TOK = 75 }; /* more than one block of keys */

static struct model *tiny_model(int i, bool with_grad)
{
    struct spec s = tiny_spec(i);
    return random_model(&s, 7, with_grad);
}

static void random_tokens(int32_t *token, int64_t n)
{
    struct rng rng;
    rng_seed(&rng, 3);
    for (int64_t i = 0; i < n; i++)
        token[i] = (int32_t)rng_below(&rng, 50);
}

static void same_row(const real *a, const real *b, int64_t n, const char *what)
{
    if (memcmp(a, b, (size_t)n * sizeof *a) != 0)
        fail_msg("%s: logits are not the same bytes", what);
}

static void tokens_one_by_one_and_together_are_the_same_bytes(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    int32_t token[N_TOK];
    random_tokens(token, N_TOK);
    cadre_error err = {0};
    struct pool *pool;
    assert_ok(pool_new(&pool, 3, &err), err);
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i, false);
        real *whole = logits_of(m, token, N_TOK, 0, NULL, NULL);
        real *threads = logits_of(m, token, N_TOK, 0, NULL, pool);
        same_row(threads, whole, N_TOK * 50, m->spec.family);
        free(threads);
        for (int t = 0; t < 4; t++) {
            struct kv_cache *one = test_kv(m, 1, N_TOK, types[t]), *all = test_kv(m, 1, N_TOK, types[t]);
            real *prompt = logits_of(m, token, N_TOK, 0, all, pool);
            if (types[t] == DTYPE_F32)
                same_row(prompt, whole, N_TOK * 50, m->spec.family);
            for (int32_t p = 0; p < N_TOK; p++) {
                real *row = logits_of(m, token + p, 1, p, one, NULL);
                same_row(row, prompt + p * 50, 50, dtype_info(types[t])->name);
                free(row);
            }
            free(prompt);
            kv_free(one);
            kv_free(all);
        }
        free(whole);
        model_free(m);
    }
    pool_free(pool);
}

/* Latent attention with the up-projections absorbed, in place. */
static void absorb(struct model *m)
{
    m->mla = MLA_ABSORBED;
    for (int64_t l = 0; l < m->spec.n_layer; l++) {
        struct weight *w = &m->layers[l].k_b;
        int64_t n = w->n;
        w->transposed = false;
        w->n = w->k;
        w->k = n;
    }
}

static void latent_attention_has_two_forms(void **state)
{
    (void)state;
    int32_t token[N_TOK];
    random_tokens(token, N_TOK);
    int tried = 0;
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i, false);
        if (m->spec.attention == &attention_mla) {
            real *plain = logits_of(m, token, N_TOK, 0, NULL, NULL);
            absorb(m);
            real *absorbed = logits_of(m, token, N_TOK, 0, NULL, NULL);
            double d = 0;
            for (int64_t j = 0; j < N_TOK * 50; j++)
                d = fmax(d, fabs((double)plain[j] - (double)absorbed[j]));
            assert_true(d > 0 && d < (sizeof(real) == 8 ? 1e-11 : 2e-4));
            for (int t = 0; t < 2; t++) { /* through the small cache, whose values are keys */
                struct kv_cache *kv = test_kv(m, 1, N_TOK, t ? DTYPE_Q8_0 : DTYPE_F32);
                size_t positions = align_up(N_TOK, KV_BLOCK);
                assert_true(kv_bytes(kv) <= (size_t)(m->spec.n_layer * 40) * positions * sizeof(real) + 512);
                for (int32_t p = 0; p < N_TOK; p++) {
                    real *row = logits_of(m, token + p, 1, p, kv, NULL);
                    if (t == 0)
                        same_row(row, absorbed + p * 50, 50, "absorbed");
                    free(row);
                }
                kv_free(kv);
            }
            free(plain);
            free(absorbed);
            tried++;
        }
        model_free(m);
    }
    assert_true(tried >= 2);
}

/* Three sequences in one batch: one whole, one decoding its last token, one in the middle of its prompt. */
static void ragged_batches_are_the_same_bytes(void **state)
{
    (void)state;
    static const int32_t slot[] = {2, 0, 1};
    static const int64_t first[] = {0, 40, 9}, count[] = {70, 1, 23};
    int32_t token[3][N_TOK];
    random_tokens(token[0], N_TOK * 3);
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i, false);
        struct kv_cache *kv = test_kv(m, 3, N_TOK, DTYPE_F32);
        int32_t flat[N_TOK * 3], position[N_TOK * 3], want[6], n_want = 0;
        int64_t row_start[4] = {0}, n = 0;
        for (int s = 0; s < 3; s++) {
            if (first[s] > 0) { /* what came before, through a batch of its own */
                int64_t rows[2] = {0, first[s]};
                int32_t before[N_TOK];
                for (int32_t p = 0; p < N_TOK; p++)
                    before[p] = p;
                struct batch b = {.n_tok = first[s],
                                  .n_seq = 1,
                                  .token = token[s],
                                  .position = before,
                                  .row_start = rows,
                                  .kv = kv,
                                  .slot = &slot[s]};
                struct pass p;
                pass_run(&p, m, &b, NULL);
                pass_end(&p);
            }
            for (int64_t j = 0; j < count[s]; j++, n++) {
                flat[n] = token[s][first[s] + j];
                position[n] = (int32_t)(first[s] + j);
            }
            row_start[s + 1] = n;
            want[n_want++] = (int32_t)row_start[s]; /* first and last row of each */
            want[n_want++] = (int32_t)n - 1;
        }
        struct batch b = {.n_tok = n,
                          .n_seq = 3,
                          .token = flat,
                          .position = position,
                          .row_start = row_start,
                          .kv = kv,
                          .slot = slot,
                          .want = want,
                          .n_want = n_want};
        struct pass p;
        pass_run(&p, m, &b, NULL);
        assert_int_equal(tensor_rows(p.logits), n_want);
        for (int s = 0; s < 3; s++) {
            real *alone = logits_of(m, token[s], first[s] + count[s], 0, NULL, NULL);
            same_row(p.logits->x + 2 * s * 50, alone + first[s] * 50, 50, m->spec.family);
            same_row(p.logits->x + (2 * s + 1) * 50, alone + (first[s] + count[s] - 1) * 50, 50, m->spec.family);
            free(alone);
        }
        pass_end(&p);
        kv_free(kv);
        model_free(m);
    }
}

/* Forward and backward with a tape: the dry run plans exactly what is used, the loss is that of the plain pass, and
 * every parameter that gradients train gets one. */
static void training_uses_what_was_planned(void **state)
{
    (void)state;
    enum { N = 40 };
    int32_t token[N], target[N], position[N];
    int64_t row_start[3] = {0, 18, N};
    random_tokens(token, N);
    for (int32_t i = 0; i < N; i++) {
        target[i] = (token[i] * 7 + 1) % 50;
        position[i] = i < 18 ? i : i - 18;
    }
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i, true);
        struct routing routing[4];
        assert_true(m->spec.n_layer <= 4);
        struct batch b = {
            .n_tok = N, .n_seq = 2, .token = token, .position = position, .row_start = row_start, .routing = routing};
        struct arena arenas[2]; /* measuring, real */
        cadre_error err = {0};
        arena_init_measuring(&arenas[0]);
        real loss = 0;
        for (int turn = 0; turn < 2; turn++) {
            if (turn == 1)
                assert_ok(arena_init(&arenas[1], arenas[0].peak, &err), err);
            struct tape tape = {0};
            struct op_ctx c = {.k = test_kernels(ISA_AMX),
                               .arena = &arenas[turn],
                               .plan = test_plan(),
                               .tape = &tape,
                               .dry = turn == 0};
            struct tensor *l = op_cross_entropy(&c, model_forward(&c, m, &b, &err), target);
            if (turn == 1)
                loss = l->x[0];
            tape_backward(&c, l, 1);
        }
        if (tokens_have_equally_many_experts(&m->spec)) {
            assert_int_equal(arenas[1].used, arenas[0].used);
            assert_int_equal(arenas[1].peak, arenas[0].peak);
        }
        assert_true(arenas[1].peak <= arenas[0].peak);
        for (int64_t l = 0; l < m->spec.n_layer; l++)
            assert_true((routing[l].id != NULL) == spec_layer_is_moe(&m->spec, l));
        for (int64_t p = 0; p < m->n_params; p++) {
            const struct tensor *t = &m->params[p].t;
            bool moved = false;
            for (int64_t j = 0; t->g && j < tensor_count(t); j++) {
                assert_true(isfinite(t->g[j]));
                moved |= t->g[j] != 0;
            }
            bool noise = strstr(m->params[p].name, "noise"); /* moves with noise, which only training has */
            if (moved != (m->params[p].by_gradient && !noise))
                fail_msg("%s, %s: %s", m->spec.family, m->params[p].name, moved ? "has a gradient" : "has none");
        }
        struct pass pass;
        pass_run(&pass, m, &b, NULL);
        assert_memory_equal(
            op_cross_entropy(&(struct op_ctx){.k = pass.c.k, .arena = &arenas[1]}, pass.logits, target)->x, &loss,
            sizeof loss);
        pass_end(&pass);
        arena_destroy(&arenas[1]);
        model_free(m);
    }
}

/* A decode step takes everything from its arena: with the cache long or short, on one thread or three. */
static void decoding_allocates_nothing(void **state)
{
    (void)state;
    int32_t token[N_TOK];
    random_tokens(token, N_TOK);
    cadre_error err = {0};
    struct pool *pool;
    assert_ok(pool_new(&pool, 3, &err), err);
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i, false);
        struct kv_cache *kv = test_kv(m, 1, N_TOK, DTYPE_F16);
        int32_t position = 0, slot = 0;
        int64_t row_start[2] = {0, 1};
        struct batch b = {.n_tok = 1,
                          .n_seq = 1,
                          .token = token,
                          .position = &position,
                          .row_start = row_start,
                          .kv = kv,
                          .slot = &slot};
        struct pass p;
        pass_run(&p, m, &b, pool); /* plans; the same arena then serves every step */
        alloc_state.bytes = 0;
        for (position = 1; position < N_TOK; position++) {
            arena_reset(&p.arena, 0);
            b.token = token + position;
            assert_non_null(model_forward(&p.c, m, &b, &err));
        }
        assert_int_equal(alloc_state.bytes, 0);
        assert_true(p.arena.peak <= p.measure.peak);
        pass_end(&p);
        kv_free(kv);
        model_free(m);
    }
    pool_free(pool);
}

static cadre_err refuse(void *self, int layer, const int32_t *ids, int n, struct expert_weights *w, cadre_error *err)
{
    (void)self, (void)ids, (void)n, (void)w;
    return error_set(err, CADRE_E_IO, "no experts of layer %d", layer);
}

static void a_failing_source_of_experts_is_an_error(void **state)
{
    (void)state;
    struct model *m = tiny_model(7, false); /* two dense layers first */
    struct expert_source source = {.acquire = refuse};
    struct moe_hooks hooks = {.source = &source};
    int32_t token[2] = {1, 2}, position[2] = {0, 1};
    int64_t row_start[2] = {0, 2};
    struct batch b = {
        .n_tok = 2, .n_seq = 1, .token = token, .position = position, .row_start = row_start, .hooks = &hooks};
    struct arena a;
    cadre_error err = {0};
    assert_ok(arena_init(&a, 1 << 22, &err), err);
    struct op_ctx c = {.k = test_kernels(ISA_AMX), .arena = &a};
    assert_null(model_forward(&c, m, &b, &err));
    assert_int_equal(err.code, CADRE_E_IO);
    assert_string_equal(err.text, "no experts of layer 2");
    arena_destroy(&a);
    model_free(m);
}

/* The counts that the models' authors publish. */
static void counts_are_the_published_ones(void **state)
{
    (void)state;
    struct spec mixtral = {.family = "llama",
                           .n_layer = 32,
                           .d_model = 4096,
                           .n_vocab = 32000,
                           .n_ctx = 32768,
                           .norm_eps = (real)1e-5,
                           .n_head = 32,
                           .n_kv_head = 8,
                           .rope_pairs = true,
                           .n_expert = 8,
                           .expert_ff = 14336,
                           .router = {.k = 2, .normalize = true}};
    struct spec olmoe = {.family = "olmoe",
                         .n_layer = 16,
                         .d_model = 2048,
                         .n_vocab = 50304,
                         .n_ctx = 4096,
                         .norm_eps = (real)1e-5,
                         .n_head = 16,
                         .qk_norm = QK_NORM_FULL,
                         .n_expert = 64,
                         .expert_ff = 1024,
                         .router = {.k = 8}};
    cadre_error err = {0};
    spec_defaults(&mixtral);
    spec_defaults(&olmoe);
    assert_ok(spec_check(&mixtral, &err), err);
    assert_ok(spec_check(&olmoe, &err), err);
    struct spec_counts c = spec_count(&mixtral);
    assert_true(c.parameters == 46702792704);                       /* "47B" */
    assert_true(c.active_parameters == 12879925248 - 4096 * 32000); /* "13B", less the looked-up embedding */
    c = spec_count(&olmoe);
    assert_true(c.parameters == 6919161856); /* "7B" */
    int64_t idle = (int64_t)16 * (64 - 8) * 3 * 1024 * 2048;
    assert_true(c.active_parameters == 6919161856 - idle - 2048 * 50304); /* "1B" */
    olmoe.tied = true;
    assert_true(spec_count(&olmoe).parameters == 6919161856 - 2048 * 50304);
    assert_true(spec_count(&olmoe).active_parameters == 6919161856 - idle - 2048 * 50304);
}

/* "560 billion, 18.6 to 31.3 billion active, 27 billion on average" (LongCat-Flash Technical Report): of 12 choices
 * from 512 experts and 256 that cost nothing, 8 are experts when all are chosen alike. */
static void light_experts_cost_nothing(void **state)
{
    (void)state;
    struct spec s = {.family = "longcat-flash",
                     .n_layer = 56,
                     .d_model = 6144,
                     .n_vocab = 131072,
                     .n_ctx = 131072,
                     .norm_eps = (real)1e-5,
                     .attention = &attention_mla,
                     .n_head = 64,
                     .head_dim = 192,
                     .v_dim = 128,
                     .n_rot = 64,
                     .q_rank = 1536,
                     .kv_rank = 512,
                     .q_latent_scale = 2,
                     .dense_ff = 12288,
                     .n_expert = 512,
                     .n_copy = 256,
                     .moe_side = MOE_SHORTCUT,
                     .expert_ff = 2048,
                     .router_bias = true,
                     .router = {.k = 12, .scale = 6}};
    cadre_error err = {0};
    spec_defaults(&s);
    assert_ok(spec_check(&s, &err), err);
    struct spec_counts c = spec_count(&s);
    assert_true(c.parameters == 560664980480);
    assert_true(c.active_parameters == 27149511680);
}

static void a_wrong_number_is_named(void **state)
{
    (void)state;
    struct spec good = tiny_spec(7), s;
    cadre_error err = {0};
    assert_ok(spec_check(&good, &err), err);
#define WRONG(assignment, named)                                                                                       \
    do {                                                                                                               \
        s = good;                                                                                                      \
        assignment;                                                                                                    \
        assert_int_equal(spec_check(&s, &err), CADRE_E_FORMAT);                                                        \
        if (!strstr(err.text, named))                                                                                  \
            fail_msg("expected '%s' in '%s'", named, err.text);                                                        \
    } while (0)
    WRONG(s.n_layer = 0, "block_count");
    WRONG(s.n_layer = MODEL_MAX_LAYERS + 1, "block_count");
    WRONG(s.d_model = INT64_MAX, "embedding_length");
    WRONG(s.n_vocab = -5, "vocab_size");
    WRONG(s.n_head = 0, "attention.head_count");
    WRONG(s.n_head = INT64_MAX, "attention.head_count");
    WRONG(s.n_kv_head = 3, "head_count_kv");
    WRONG(s.head_dim = 1ll << 40, "attention.key_length");
    WRONG(s.n_rot = 3, "rope.dimension_count");
    WRONG(s.n_rot = 10, "rope.dimension_count");
    WRONG(s.norm_eps = 0, "epsilon");
    WRONG(s.norm_eps = (real)NAN, "epsilon");
    WRONG(s.rope_base = (real)INFINITY, "rope.freq_base");
    WRONG(s.rope_linear = 3, "rope.scaling");
    WRONG(s.yarn_ctx = 0, "original_context_length");
    WRONG(s.router.k = 9, "expert_used_count");
    WRONG(s.n_expert = 1 << 20, "expert_count");
    WRONG(s.n_expert = 9, "expert_count");
    WRONG(s.expert_ff = 0, "expert_feed_forward_length");
    WRONG(s.dense_ff = 0, "feed_forward_length");
    WRONG(s.n_dense_leading = 3, "leading_dense_block_count");
    WRONG(s.shared_ff = 0, "expert_shared_feed_forward_length");
    WRONG((s.d_model = 1 << 24, s.n_vocab = 1 << 26, s.n_layer = MODEL_MAX_LAYERS), "parameters");
#undef WRONG
    struct model *m;
    s = good;
    s.n_head = 0;
    assert_int_equal(model_new(&m, &s, 1, 1, false, &err), CADRE_E_FORMAT);
    assert_null(m);
}

/* YaRN leaves pairs that turn often within the old context as they are and slows the others by the factor. */
static void yarn_keeps_fast_pairs_and_stretches_slow_ones(void **state)
{
    (void)state;
    struct spec s = {.n_rot = 64, .rope_base = 10000, .rope_linear = 1}, y;
    real plain[32], yarn[32], divided[32], freqs[32];
    assert_true(spec_rope(&s, NULL, plain) == 1);
    assert_true(plain[0] == 1);
    assert_true(fabs((double)plain[16] - 0.01) < 1e-9);
    y = s;
    y.yarn_factor = 4, y.yarn_ctx = 2048, y.yarn_beta_fast = 32, y.yarn_beta_slow = 1;
    double scale = (double)spec_rope(&y, NULL, yarn);
    assert_true(fabs(scale - (0.1 * 1.3862943611198906 + 1)) < 1e-6);
    int kept = 0, stretched = 0;
    for (int i = 0; i < 32; i++) {
        double turns = 2048 * (double)plain[i] / 6.283185307179586, ratio = (double)plain[i] / (double)yarn[i];
        assert_true(ratio > 0.9999 && ratio < 4.0001);
        if (turns > 45) /* a pair or so beyond the bounds, which are rounded to whole pairs */
            assert_true(fabs(ratio - 1) < 1e-6), kept++;
        if (turns < 0.7)
            assert_true(fabs(ratio - 4) < 1e-6), stretched++;
    }
    assert_true(kept > 5 && stretched > 5);
    for (int i = 0; i < 32; i++)
        freqs[i] = (real)(i + 1);
    s.rope_linear = 2;
    spec_rope(&s, freqs, divided);
    for (int i = 0; i < 32; i++)
        assert_true(fabs((double)divided[i] * 2 * (i + 1) / (double)plain[i] - 1) < 1e-6);
}

static void random_weights_have_the_asked_spread(void **state)
{
    (void)state;
    struct spec s = tiny_spec(6);
    struct model *a, *b, *other;
    int n_gates = 0;
    cadre_error err = {0};
    assert_ok(model_new(&a, &s, 5, (real)0.02, false, &err), err);
    assert_ok(model_new(&b, &s, 5, (real)0.02, false, &err), err);
    assert_ok(model_new(&other, &s, 6, (real)0.02, false, &err), err);
    for (int64_t i = 0; i < a->n_params; i++) {
        const struct param *p = &a->params[i];
        size_t n = (size_t)tensor_count(&p->t);
        assert_memory_equal(p->t.x, b->params[i].t.x, n * sizeof(real));
        double square = 0;
        for (size_t j = 0; j < n; j++)
            square += (double)p->t.x[j] * (double)p->t.x[j];
        double rms = sqrt(square / (double)n);
        bool residual = strstr(p->name, "attn_output") || strstr(p->name, "ffn_down");
        if (p->matrix) {
            assert_memory_not_equal(p->t.x, other->params[i].t.x, n * sizeof(real));
            /* A gate's logits have deviation 1 at every width (inputs are normalised): with a deviation of the weights
             * that does not know the width, those of a narrow model are so near each other that a single step of the
             * optimizer makes one expert the best of all tokens. */
            bool gate = strstr(p->name, "ffn_gate_inp");
            double want = gate ? 1 / sqrt((double)tensor_cols(&p->t)) : residual ? 0.02 / sqrt(6) : 0.02;
            n_gates += gate;
            assert_true(fabs(rms / want - 1) < 0.25);
        } else {
            assert_true(rms == 1);
        }
    }
    assert_int_equal(n_gates, 2);
    model_free(a);
    model_free(b);
    model_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_one_by_one_and_together_are_the_same_bytes),
        cmocka_unit_test(latent_attention_has_two_forms),
        cmocka_unit_test(ragged_batches_are_the_same_bytes),
        cmocka_unit_test(training_uses_what_was_planned),
        cmocka_unit_test(decoding_allocates_nothing),
        cmocka_unit_test(a_failing_source_of_experts_is_an_error),
        cmocka_unit_test(counts_are_the_published_ones),
        cmocka_unit_test(light_experts_cost_nothing),
        cmocka_unit_test(a_wrong_number_is_named),
        cmocka_unit_test(yarn_keeps_fast_pairs_and_stretches_slow_ones),
        cmocka_unit_test(random_weights_have_the_asked_spread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
