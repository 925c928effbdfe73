/* Models to files and back, and files that are wrong. */
#include "model_test.h"

#include <unistd.h>

#include "file/alloc.h"
#include "model/family.h"
#include "model/tensors.h"
#include "random_model.h"
#include "spec_changes.h"
#include "tiny_specs.h"

static char dir[] = "/tmp/cadre-model-XXXXXX", path[64];

enum { N_TOK = 9 };
static const int32_t token[N_TOK] = {3, 1, 4, 1, 5, 9, 2, 6, 49};

static struct model *tiny_model(int i)
{
    struct spec s = tiny_spec(i);
    return random_model(&s, 11, false);
}

static void save(const struct model *m, enum dtype type)
{
    struct gguf_writer *w;
    cadre_error err = {0};
    assert_ok(gguf_writer_open(&w, path, &err), err);
    assert_ok(spec_to_gguf(w, &m->spec, &err), err);
    assert_ok(model_write(w, m, type, &err), err);
    assert_ok(gguf_writer_commit(w, &err), err);
}

static struct model *open_packed(struct pool *pool)
{
    struct model *m;
    cadre_error err = {0};
    assert_ok(model_open(&m, path, MLA_PLAIN, NULL, NULL, pool, &err), err);
    return m;
}

static struct model *open_decoded(void)
{
    struct gguf *g;
    struct model *m;
    cadre_error err = {0};
    assert_ok(gguf_open(&g, path, &err), err);
    assert_ok(model_open_params(&m, g, false, &err), err);
    gguf_close(g);
    return m;
}

/* Matrices that decide, whose bytes are not worth a rounding. */
static bool decides(const char *name)
{
    return strstr(name, "ffn_gate_inp") || strstr(name, "router_gru") || strstr(name, "ffn_constant");
}

static void same_logits(struct model *a, struct model *b, const char *what)
{
    real *x = logits_of(a, token, N_TOK, 0, NULL, NULL), *y = logits_of(b, token, N_TOK, 0, NULL, NULL);
    if (memcmp(x, y, N_TOK * 50 * sizeof *x) != 0)
        fail_msg("%s, %s: logits are not the same bytes", a->spec.family, what);
    free(x);
    free(y);
}

static void same_field(const struct spec *s, bool same, const char *field)
{
    if (!same)
        fail_msg("%s: %s changed", s->family, field);
}

static void same_spec(const struct spec *a, const struct spec *b)
{
#define SAME(field) same_field(a, a->field == b->field, #field)
    assert_string_equal(a->family, b->family);
    SAME(n_layer), SAME(d_model), SAME(n_vocab), SAME(n_ctx), SAME(norm_eps), SAME(tied);
    SAME(n_head), SAME(n_kv_head), SAME(head_dim), SAME(v_dim), SAME(qkv_bias), SAME(o_bias), SAME(qk_norm);
    SAME(q_rank), SAME(kv_rank), SAME(q_latent_scale), SAME(kv_latent_scale);
    SAME(attention_scale), SAME(n_rot), SAME(rope_pairs), SAME(rope_base), SAME(rope_linear), SAME(yarn_factor);
    SAME(yarn_ctx), SAME(yarn_beta_fast), SAME(yarn_beta_slow), SAME(rope_attention_factor), SAME(rope_freqs);
    SAME(n_expert), SAME(attention), SAME(norm), SAME(norm_bias), SAME(output_bias), SAME(sinks), SAME(window);
    SAME(window_period), SAME(qk_norm_after_rope), SAME(no_rope), SAME(q_rank), SAME(kv_rank), SAME(rope_factors);
    SAME(yarn_log_multiplier), SAME(embedding_scale), SAME(residual_scale), SAME(logit_divisor), SAME(logit_softcap);
    for (int64_t l = 0; l < a->n_layer; l++) {
        struct layer_spec x = spec_layer(a, l), y = spec_layer(b, l);
        same_field(a,
                   x.n_head == y.n_head && x.n_kv_head == y.n_kv_head && x.window == y.window && x.moe == y.moe &&
                       (x.moe || x.dense_ff == y.dense_ff),
                   "a layer");
    }
    SAME(qkv_clamp), SAME(rope_sliding_only), SAME(window_full_first);
    if (a->n_expert == 0 || a->n_dense_leading > 0)
        SAME(dense_ff);
    if (a->n_expert == 0)
        return;
    SAME(moe_side), SAME(gate_early), SAME(expert_scaled);
    SAME(n_dense_leading), SAME(expert_ff), SAME(shared_ff), SAME(shared_gated), SAME(router_bias);
    SAME(router.kind), SAME(router.n_expert), SAME(router.k), SAME(router.groups.n), SAME(router.groups.used);
    SAME(router.groups.best), SAME(router.normalize), SAME(router.scale), SAME(expert_kind);
    SAME(router.threshold), SAME(n_zero), SAME(n_copy), SAME(n_constant), SAME(latent), SAME(moe_heads), SAME(chain);
    SAME(router_state), SAME(gate_residual), SAME(schedule), SAME(k_min), SAME(slices.n);
    same_field(a, memcmp(&a->slices, &b->slices, sizeof a->slices) == 0, "slices");
#undef SAME
}

static void saved_and_opened_is_the_same_model(void **state)
{
    (void)state;
    cadre_error err = {0};
    struct pool *pool;
    assert_ok(pool_new(&pool, 3, &err), err);
    for (int i = 0; i < N_TINY; i++) {
        struct model *m = tiny_model(i);
        save(m, DTYPE_F32);
        struct model *packed = open_packed(pool), *decoded = open_decoded();
        same_spec(&m->spec, &packed->spec);
        same_logits(m, packed, "f32 packed");
        same_logits(m, decoded, "f32 decoded");
        assert_int_equal(spec_count(&m->spec).parameters, spec_count(&packed->spec).parameters);
        model_free(packed);
        model_free(decoded);
        model_free(m);
    }
    pool_free(pool);
}

/* Packed weights of a format compute with exactly the numbers that the format decodes to. */
static void packed_weights_are_their_decoded_twins(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    for (int i = 0; i < N_TINY; i++)
        for (int t = 0; t < 3; t++) {
            struct model *m = tiny_model(i);
            save(m, types[t]);
            struct model *packed = open_packed(NULL), *decoded = open_decoded();
            for (int64_t p = 0; p < packed->n_params; p++) {
                const struct param *q = &packed->params[p];
                assert_int_equal(q->type, q->no_quantize ? DTYPE_F32 : types[t]);
                assert_int_equal(q->no_quantize, !q->matrix || decides(q->name));
            }
            same_logits(packed, decoded, dtype_info(types[t])->name);
            model_free(packed);
            model_free(decoded);
            model_free(m);
        }
}

static void rows_that_do_not_fit_a_block_become_f16(void **state)
{
    (void)state;
    struct spec s = tiny_spec(0);
    struct model *m;
    cadre_error err = {0};
    s.dense_ff = 40;
    assert_ok(model_new(&m, &s, 1, (real)0.1, false, &err), err);
    save(m, DTYPE_Q8_0);
    model_free(m);
    m = open_packed(NULL);
    for (int64_t p = 0; p < m->n_params; p++)
        if (m->params[p].matrix)
            assert_int_equal(m->params[p].type, strstr(m->params[p].name, "ffn_down") ? DTYPE_F16 : DTYPE_Q8_0);
    struct gguf_writer *w;
    assert_ok(gguf_writer_open(&w, path, &err), err);
    assert_int_equal(model_write(w, m, DTYPE_F32, &err), CADRE_E_ARG); /* its values are packed away */
    gguf_writer_abort(w);
    assert_ok(gguf_writer_open(&w, path, &err), err);
    assert_int_equal(model_write(w, m, DTYPE_I8, &err), CADRE_E_UNSUPPORTED);
    gguf_writer_abort(w);
    model_free(m);
}

static void gradients_are_zero_and_only_where_asked(void **state)
{
    (void)state;
    struct model *m = tiny_model(7), *trained;
    struct gguf *g;
    cadre_error err = {0};
    save(m, DTYPE_F32);
    assert_ok(gguf_open(&g, path, &err), err);
    assert_ok(model_open_params(&trained, g, true, &err), err);
    for (int64_t i = 0; i < trained->n_params; i++) {
        const struct param *p = &trained->params[i];
        assert_true((p->t.g != NULL) == p->by_gradient && p->t.track == p->by_gradient);
        assert_null(m->params[i].t.g);
        assert_memory_equal(p->t.x, m->params[i].t.x, (size_t)tensor_count(&p->t) * sizeof(real));
        for (int64_t j = 0; p->t.g && j < tensor_count(&p->t); j++)
            assert_true(p->t.g[j] == 0);
    }
    gguf_close(g);
    model_free(trained);
    model_free(m);
}

/* ---- what a family cannot say */

static void families_refuse_what_they_cannot_express(void **state)
{
    (void)state;
    cadre_error err = {0};
    struct spec everything = tiny_spec(7);
    for (int i = 0; family_at(i); i++) {
        struct spec s = everything;
        snprintf(s.family, sizeof s.family, "%s", family_at(i)->name);
        bool own = family_at(i) == &family_cadre;
        assert_int_equal(spec_can_write(&s, &err), own ? CADRE_OK : CADRE_E_UNSUPPORTED);
    }
    assert_null(family_at(-1));
    struct spec s = tiny_spec(1);
    s.router.normalize = false;
    assert_int_equal(spec_can_write(&s, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "expert_weights_norm"));
    s = tiny_spec(0);
    s.router.normalize = false; /* nothing to normalise in a dense model */
    assert_ok(spec_can_write(&s, &err), err);
    s.qk_norm = QK_NORM_HEAD;
    assert_int_equal(spec_can_write(&s, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "qk_norm"));
    s = tiny_spec(2);
    s.qkv_bias = false; /* its readers want the tensors */
    assert_int_equal(spec_can_write(&s, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "attention.qkv_bias"));
    s = tiny_spec(1);
    s.qkv_bias = true; /* tensors say it, where readers do not imply it */
    assert_ok(spec_can_write(&s, &err), err);
    s = tiny_spec(6);
    s.shared_ff = 33;
    assert_int_equal(spec_can_write(&s, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "multiple"));
    snprintf(s.family, sizeof s.family, "unheard-of");
    assert_int_equal(spec_can_write(&s, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "unsupported architecture 'unheard-of' (known: llama, "));
}

/* False when the family refuses to write such a model. */
static bool comes_back(const struct spec *s, const char *one, const char *other)
{
    struct model *back;
    cadre_error err = {0};
    if (spec_can_write(s, &err))
        return false;
    struct model *m = random_model(s, 11, false);
    save(m, DTYPE_F32);
    if (model_open(&back, path, MLA_PLAIN, NULL, NULL, NULL, &err))
        fail_msg("%s with %s and %s changed is written and cannot be read: %s", s->family, one, other, err.text);
    if (family_find(s->family)->needs_output)
        back->spec.tied = s->tied; /* the matrix is in the file twice */
    same_spec(&m->spec, &back->spec);
    same_logits(m, back, one);
    model_free(back);
    model_free(m);
    return true;
}

static void what_a_family_writes_it_reads(void **state)
{
    (void)state;
    int written = 0, refused = 0;
    for (int i = 0; i < N_TINY; i++)
        for (int a = 0; a < N_SPEC_CHANGES; a++)
            for (int b = 0; b <= a; b++) { /* b = a: that change alone; of the pairs some */
                if (b < a && (a * N_SPEC_CHANGES + b + i) % 128)
                    continue;
                struct spec s = tiny_specs[i];
                spec_changes[a].fn(&s);
                if (b < a)
                    spec_changes[b].fn(&s);
                spec_defaults(&s);
                *(comes_back(&s, spec_changes[a].name, spec_changes[b].name) ? &written : &refused) += 1;
            }
    print_message("%d written, %d refused\n", written, refused);
    assert_true(written > 800 && refused > 500);
}

/* ---- files that are wrong: a good one, rewritten with one change */

struct change {
    const char *drop_key;                         /* left out */
    void (*put)(struct gguf_writer *w);           /* put besides */
    const char *drop_tensor, *rename_to, *retype; /* by name */
    const char *reshape;                          /* its first two dimensions exchanged */
};
static const struct change *current;

static bool is_dropped(const char *key)
{
    return strcmp(key, "general.alignment") == 0 || (current->drop_key && strcmp(key, current->drop_key) == 0);
}

static bool is_named(const char *name, const char *want)
{
    return want && strcmp(name, want) == 0;
}

static void rewrite(const struct change *change, const char *from)
{
    struct gguf *g;
    struct gguf_writer *w;
    cadre_error err = {0};
    current = change;
    assert_ok(gguf_open(&g, from, &err), err);
    assert_ok(gguf_writer_open(&w, path, &err), err);
    assert_ok(gguf_put_all(w, g, is_dropped, &err), err);
    if (change->put)
        change->put(w);
    uint64_t bytes[256];
    int64_t n = 0;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        struct gguf_tensor t = *gguf_tensor_at(g, i);
        if (is_named(t.name, change->drop_tensor) && !change->rename_to)
            continue;
        if (is_named(t.name, change->retype))
            t.type = DTYPE_I32;
        if (is_named(t.name, change->reshape)) {
            int64_t d = t.dim[0];
            t.dim[0] = t.dim[1], t.dim[1] = d;
        }
        const char *name = is_named(t.name, change->drop_tensor) ? change->rename_to : t.name;
        assert_ok(gguf_put_tensor(w, name, t.type, t.n_dims, t.dim, &err), err);
        bytes[n++] = t.bytes;
    }
    assert_ok(gguf_write_begin(w, &err), err);
    for (int64_t i = 0; i < n; i++) {
        void *zeros = calloc(1, bytes[i]);
        assert_ok(gguf_write_data(w, zeros, bytes[i], &err), err);
        free(zeros);
    }
    assert_ok(gguf_writer_commit(w, &err), err);
    gguf_close(g);
}

#define PUT(function, call)                                                                                            \
    static void function(struct gguf_writer *w)                                                                        \
    {                                                                                                                  \
        cadre_error err = {0};                                                                                         \
        assert_ok(call, err);                                                                                          \
    }
PUT(no_heads, gguf_put_u32(w, "llama.attention.head_count", 0, &err))
PUT(absurd_heads, gguf_put_u64(w, "llama.attention.head_count", 1ull << 62, &err))
PUT(beyond_heads, gguf_put_u64(w, "llama.attention.head_count", UINT64_MAX, &err))
PUT(text_heads, gguf_put_string(w, "llama.attention.head_count", "four", 4, &err))
PUT(more_layers, gguf_put_u32(w, "llama.block_count", 4, &err))
PUT(absurd_layers, gguf_put_u32(w, "llama.block_count", UINT32_MAX, &err))
PUT(absurd_experts, gguf_put_u32(w, "llama.expert_count", UINT32_MAX, &err))
PUT(negative_eps, gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", -1, &err))
PUT(wide_heads, gguf_put_u64(w, "llama.attention.key_length", 1ull << 40, &err))
PUT(dynamic, gguf_put_string(w, "llama.rope.scaling.type", "dynamic", 7, &err))
PUT(sliding, gguf_put_u32(w, "llama.attention.sliding_window", 4096, &err))
PUT(architecture, gguf_put_string(w, "general.architecture", "mamba\x1b[2J", 9, &err))

static void wrong_files_are_named_errors(void **state)
{
    (void)state;
    static const struct {
        struct change change;
        const char *named;
    } cases[] = {
        {{.drop_tensor = "blk.1.attn_k.weight"}, "tensor 'blk.1.attn_k.weight': expected by"},
        {{.drop_tensor = "blk.1.ffn_up_exps.weight", .rename_to = "blk.1.ffn_up.weight"}, "blk.1.ffn_up_exps.weight"},
        {{.drop_tensor = "token_embd.weight"}, "token_embd.weight"},
        {{.drop_tensor = "output_norm.weight"}, "output_norm.weight"},
        {{.reshape = "blk.0.attn_k.weight"}, "expected shape [32, 16], found [16, 32]"},
        {{.reshape = "blk.2.ffn_gate_inp.weight"}, "tensor 'blk.2.ffn_gate_inp.weight': expected shape"},
        {{.retype = "blk.0.attn_q.weight"}, "tensor 'blk.0.attn_q.weight': type i32 is not supported"},
        {{.retype = "output_norm.weight"}, "tensor 'output_norm.weight': type i32"},
        {{.drop_key = "llama.attention.head_count"}, "key 'llama.attention.head_count': expected"},
        {{.drop_key = "llama.attention.head_count", .put = no_heads}, "attention.head_count"},
        {{.drop_key = "llama.attention.head_count", .put = absurd_heads}, "attention.head_count"},
        {{.drop_key = "llama.attention.head_count", .put = beyond_heads}, "llama.attention.head_count"},
        {{.drop_key = "llama.attention.head_count", .put = text_heads}, "llama.attention.head_count"},
        {{.drop_key = "llama.block_count", .put = more_layers}, "blk.3.attn_norm.weight"},
        {{.drop_key = "llama.block_count", .put = absurd_layers}, "block_count"},
        {{.drop_key = "llama.expert_count", .put = absurd_experts}, "llama.expert_count"},
        {{.drop_key = "llama.expert_count"}, "ffn_gate"},
        {{.drop_key = "llama.attention.layer_norm_rms_epsilon", .put = negative_eps}, "epsilon"},
        {{.drop_key = "llama.attention.key_length", .put = wide_heads}, "attention.key_length"},
        {{.drop_key = "llama.rope.scaling.type", .put = dynamic}, "'dynamic'"},
        {{.put = sliding}, "key 'llama.attention.sliding_window' is not supported"},
        {{.drop_key = "general.architecture", .put = architecture}, "unsupported architecture 'mamba"},
        {{.drop_key = "general.architecture"}, "general.architecture"},
    };
    struct model *m = tiny_model(1), *opened;
    char good[64];
    cadre_error err = {0};
    save(m, DTYPE_F32);
    snprintf(good, sizeof good, "%s/good", dir);
    assert_int_equal(rename(path, good), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        rewrite(&cases[i].change, good);
        err = (cadre_error){0};
        cadre_err rc = model_open(&opened, path, MLA_ABSORBED, NULL, NULL, NULL, &err);
        if (rc == CADRE_OK || opened || !strstr(err.text, cases[i].named))
            fail_msg("expected '%s', found '%s'", cases[i].named, err.text);
        assert_true(rc == CADRE_E_FORMAT || rc == CADRE_E_UNSUPPORTED);
        assert_non_null(strstr(err.text, path));
        assert_null(strchr(err.text, '\x1b'));
    }
    rewrite(&(struct change){0}, good); /* the unchanged copy is a model */
    assert_ok(model_open(&opened, path, MLA_ABSORBED, NULL, NULL, NULL, &err), err);
    model_free(opened);
    struct gguf *g;
    static const struct change missing = {.drop_tensor = "blk.1.attn_k.weight"};
    rewrite(&missing, good);
    assert_ok(gguf_open(&g, path, &err), err);
    assert_int_equal(model_open_params(&opened, g, true, &err), CADRE_E_FORMAT);
    assert_null(opened);
    gguf_close(g);
    unlink(good);
    model_free(m);
}

/* A file cut in its tensor data after the border check would have passed: reading says where it ends. */
static void cut_files_are_errors(void **state)
{
    (void)state;
    struct model *m = tiny_model(2), *opened;
    cadre_error err = {0};
    save(m, DTYPE_F32);
    struct gguf *g;
    assert_ok(gguf_open(&g, path, &err), err);
    assert_int_equal(truncate(path, 60000), 0);
    assert_true(model_open_params(&opened, g, false, &err) == CADRE_E_IO);
    assert_null(opened);
    assert_true(model_open(&opened, path, MLA_ABSORBED, NULL, NULL, NULL, &err) != CADRE_OK);
    assert_null(opened);
    gguf_close(g);
    model_free(m);
}

/* Every allocation fails once, in opening for inference, opening for training, and writing. */
static void failing_memory_is_an_error_and_leaks_nothing(void **state)
{
    (void)state;
    struct model *m = tiny_model(7), *opened;
    struct gguf *g;
    struct gguf_writer *w;
    cadre_error err = {0};
    char other[80];
    save(m, DTYPE_Q8_0);
    snprintf(other, sizeof other, "%s.copy", path);
    assert_ok(gguf_open(&g, path, &err), err);
    for (int what = 0; what < 3; what++) {
        cadre_err rc = CADRE_E_MEMORY;
        int64_t failed;
        for (failed = 0; rc != CADRE_OK; failed++) {
            size_t live = alloc_live();
            alloc_state.countdown = failed + 1;
            opened = NULL;
            if (what == 0) {
                rc = model_open(&opened, path, MLA_ABSORBED, NULL, NULL, NULL, &err);
            } else if (what == 1) {
                rc = model_open_params(&opened, g, true, &err);
            } else {
                w = NULL;
                rc = gguf_writer_open(&w, other, &err);
                rc = rc ? rc : spec_to_gguf(w, &m->spec, &err);
                rc = rc ? rc : model_write(w, m, DTYPE_Q8_0, &err);
                gguf_writer_abort(w);
            }
            alloc_state.countdown = 0;
            assert_true((rc == CADRE_OK && what < 2) == (opened != NULL));
            assert_true(rc == CADRE_OK || rc == CADRE_E_MEMORY);
            model_free(opened);
            assert_int_equal(alloc_live(), live);
        }
        assert_true(failed > 5);
    }
    gguf_close(g);
    model_free(m);
}

/* ---- tokenizer */

static void put_vocabulary(struct gguf_writer *w, const struct tokenizer_tables *t)
{
    cadre_error err = {0};
    assert_ok(tokenizer_to_gguf(w, t, &err), err);
}

/* The 256 bytes in the alphabet of GPT-2, " th" by two merges, one control token; more tokens than `room` are refused.
 */
static void vocabularies_come_back(void **state)
{
    (void)state;
    char text[260][4];
    struct text_span tokens[260];
    int n = 0, beyond = 0;
    for (int c = 0; c < 256; c++) {
        bool printable = (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174;
        int u = printable ? c : 256 + beyond++;
        if (u < 128)
            snprintf(text[n], 4, "%c", u);
        else
            snprintf(text[n], 4, "%c%c", 0xc0 | u >> 6, 0x80 | (u & 63));
        tokens[n] = (struct text_span){text[n], strlen(text[n])};
        n++;
    }
    tokens[n++] = (struct text_span){"th", 2};
    tokens[n++] = (struct text_span){"\xc4\xa0th", 4};
    tokens[n++] = (struct text_span){"<end>", 5};
    struct text_span merges[] = {{"t h", 3}, {"\xc4\xa0 th", 5}};
    int32_t kinds[260];
    for (int i = 0; i < n; i++)
        kinds[i] = i == n - 1 ? TOKEN_CONTROL : TOKEN_NORMAL;
    struct tokenizer_tables tables = {.model = "gpt2",
                                      .pre = "gpt-2",
                                      .tokens = tokens,
                                      .kinds = kinds,
                                      .n_tokens = n,
                                      .merges = merges,
                                      .n_merges = 2,
                                      .bos = n - 1,
                                      .eos = n - 1,
                                      .eot = -1,
                                      .eom = -1,
                                      .sep = -1,
                                      .mask = -1,
                                      .unk = -1,
                                      .pad = -1,
                                      .add_bos = true};
    for (int64_t room = n - 1; room <= n; room++) {
        struct spec s = tiny_spec(0);
        struct model *m, *opened;
        struct tokenizer *tok;
        struct gguf_writer *w;
        cadre_error err = {0};
        s.n_vocab = room;
        assert_ok(model_new(&m, &s, 1, (real)0.1, false, &err), err);
        assert_ok(gguf_writer_open(&w, path, &err), err);
        assert_ok(spec_to_gguf(w, &s, &err), err);
        put_vocabulary(w, &tables);
        assert_ok(model_write(w, m, DTYPE_F16, &err), err);
        assert_ok(gguf_writer_commit(w, &err), err);
        model_free(m);
        cadre_err rc = model_open(&opened, path, MLA_ABSORBED, &tok, NULL, NULL, &err);
        if (room < n) {
            assert_int_equal(rc, CADRE_E_FORMAT);
            assert_non_null(strstr(err.text, "tokenizer.ggml.tokens"));
            assert_true(!opened && !tok);
            continue;
        }
        assert_ok(rc, err);
        int32_t *ids;
        size_t n_ids;
        assert_ok(tokenizer_encode(tok, "a th<end>", 9, TOKENIZE_SPECIAL | TOKENIZE_ADD, &ids, &n_ids, &err), err);
        assert_int_equal(n_ids, 4);
        const int32_t want[] = {n - 1, 'a', n - 2, n - 1};
        assert_memory_equal(ids, want, sizeof want);
        assert_true(tokenizer_is_end(tok, n - 1) && !tokenizer_is_end(tok, 'a'));
        free(ids);
        tokenizer_free(tok);
        model_free(opened);
    }
    struct tokenizer *tok;
    struct model *m = tiny_model(0), *opened;
    cadre_error err = {0};
    save(m, DTYPE_F32); /* without one: it can still be fed ids */
    assert_ok(model_open(&opened, path, MLA_ABSORBED, &tok, NULL, NULL, &err), err);
    assert_true(opened && !tok);
    model_free(opened);
    model_free(m);
}

static int make_dir(void **state)
{
    (void)state;
    if (!mkdtemp(dir))
        return -1;
    snprintf(path, sizeof path, "%s/model.gguf", dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(saved_and_opened_is_the_same_model),
        cmocka_unit_test(packed_weights_are_their_decoded_twins),
        cmocka_unit_test(rows_that_do_not_fit_a_block_become_f16),
        cmocka_unit_test(gradients_are_zero_and_only_where_asked),
        cmocka_unit_test(families_refuse_what_they_cannot_express),
        cmocka_unit_test(what_a_family_writes_it_reads),
        cmocka_unit_test(wrong_files_are_named_errors),
        cmocka_unit_test(cut_files_are_errors),
        cmocka_unit_test(failing_memory_is_an_error_and_leaks_nothing),
        cmocka_unit_test(vocabularies_come_back),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
