#include "engine_test.h"

#include "engine/runtime.h"
#include "engine/session.h"
#include "file/names.h"
#include "file/safetensors.h"
#include "text/utf8.h"

enum { TOKENS = 40 };

/* What on_text was told, and where each piece ended. */
struct told {
    char text[4096];
    size_t n, ends[512];
    int pieces;
    int stop_after; /* pieces; 0: never */
    int cancel_after;
};

static bool take_text(void *user, const char *text, size_t n)
{
    struct told *t = user;
    assert_true(n > 0 && t->n + n < sizeof t->text && t->pieces < 512);
    memcpy(t->text + t->n, text, n);
    t->n += n;
    t->ends[t->pieces++] = t->n;
    return !t->stop_after || t->pieces < t->stop_after;
}

static bool cancel(void *user)
{
    struct told *t = user;
    return t->cancel_after && --t->cancel_after == 0;
}

static cadre_generate_options greedy(struct told *t)
{
    cadre_generate_options o = cadre_generate_options_default();
    o.max_tokens = TOKENS;
    o.ignore_eos = true;
    o.on_text = take_text;
    o.user = t;
    return o;
}

static cadre_generation generated(cadre_model *m, const cadre_generate_options *o)
{
    cadre_error e = {0};
    cadre_generation g;
    assert_ok(cadre_generate(m, "The router", o, &g, &e), e);
    return g;
}

/* The told pieces are the text, and no piece ends inside a character. */
static void check_told(const struct told *t, const char *text, size_t n)
{
    assert_int_equal(t->n, n);
    assert_memory_equal(t->text, text, n);
    size_t at = 0;
    for (int i = 0; i < t->pieces; i++)
        for (; at < t->ends[i];) {
            int len = utf8_char((const unsigned char *)text + at, n - at);
            at += len > 0 ? (size_t)len : 1;
            if (at > t->ends[i])
                fail_msg("piece %d ends inside a character", i);
        }
}

static void text_is_that_of_the_tokens(void **state)
{
    cadre_error e = {0};
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    for (int seed = 0; seed < 6; seed++) {
        struct told t = {0};
        char *text;
        size_t n;
        cadre_generate_options o = greedy(&t);
        o.temperature = 1 + seed; /* hot: many pieces of characters */
        o.seed = (uint64_t)seed;
        cadre_generation g = generated(m, &o);
        assert_int_equal(g.n_ids, TOKENS);
        assert_string_equal(g.stopped_by, "length");
        assert_ok(cadre_detokenize(m, g.ids, g.n_ids, &text, &n, &e), e);
        assert_int_equal(g.text_bytes, n);
        assert_memory_equal(g.text, text, n + 1);
        check_told(&t, text, n);
        cadre_free(text);
        cadre_generation_free(&g);
    }
    cadre_model_close(m);
}

/* Every piece of the text as the stop text: what is told is what comes before its first occurrence. */
static void stop_texts_cut_exactly(void **state)
{
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    struct told whole = {0};
    cadre_generate_options o = greedy(&whole);
    o.temperature = 1;
    cadre_generation all = generated(m, &o);
    int cut = 0;
    for (size_t at = 0; at < all.text_bytes; at++)
        for (size_t n = 1; n <= 4 && at + n <= all.text_bytes; n += 1 + n / 2) {
            char stop[8] = {0};
            memcpy(stop, all.text + at, n);
            if (strlen(stop) != n || !utf8_ok(stop, n))
                continue;
            struct told t = {0};
            o.stop = stop;
            o.user = &t;
            cadre_generation g = generated(m, &o);
            const char *first = memmem(all.text, all.text_bytes, stop, n);
            assert_string_equal(g.stopped_by, "stop");
            assert_int_equal(g.text_bytes, first - all.text);
            check_told(&t, all.text, g.text_bytes);
            assert_memory_equal(g.ids, all.ids, g.n_ids * sizeof *g.ids);
            cadre_generation_free(&g);
            cut++;
        }
    assert_true(cut > 20);
    /* A stop text whose beginning comes and whose end does not: what was held back is told. */
    char never[8] = {all.text[all.text_bytes - 1], 'q', 'Q', 0};
    struct told t = {0};
    o.stop = never;
    o.user = &t;
    cadre_generation g = generated(m, &o);
    check_told(&t, all.text, all.text_bytes);
    cadre_generation_free(&g);
    cadre_generation_free(&all);
    cadre_model_close(m);
}

static void ends_and_lengths(void **state)
{
    struct told t = {0};
    cadre_generate_options o = greedy(&t);
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    cadre_generation all = generated(m, &o);
    o.max_tokens = 0;
    cadre_generation none = generated(m, &o);
    assert_int_equal(none.n_ids, 0);
    assert_string_equal(none.text, "");
    assert_string_equal(none.stopped_by, "length");
    o.max_tokens = TOKENS;
    o.context = (int64_t)all.n_prompt + 5;
    cadre_generation full = generated(m, &o);
    assert_string_equal(full.stopped_by, "context");
    assert_int_equal(full.n_ids, 6); /* the last one needs no position */
    assert_memory_equal(full.ids, all.ids, 6 * sizeof *all.ids);
    cadre_model_close(m);

    /* The same model whose fourth token is now the end of text. */
    size_t end = 3;
    for (size_t i = 0; i < end; i++)
        if (all.ids[i] == all.ids[end])
            end = i;
    m = tiny_open(*state, (struct tiny_options){.eos = all.ids[end]});
    o = greedy(&t);
    cadre_generation on = generated(m, &o);
    assert_memory_equal(on.ids, all.ids, TOKENS * sizeof *all.ids);
    o.ignore_eos = false;
    cadre_generation ended = generated(m, &o);
    assert_string_equal(ended.stopped_by, "eos");
    assert_int_equal(ended.n_ids, end);
    assert_memory_equal(ended.ids, all.ids, end * sizeof *all.ids);
    cadre_generation *each[] = {&all, &none, &full, &on, &ended};
    for (int i = 0; i < 5; i++)
        cadre_generation_free(each[i]);
    cadre_model_close(m);
}

static void whoever_stops_keeps_what_came(void **state)
{
    cadre_error e = {0};
    struct told whole = {0}, t = {.stop_after = 3}, c = {.cancel_after = 8}, early = {.cancel_after = 1};
    cadre_generate_options o = greedy(&whole);
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    cadre_generation all = generated(m, &o), g;
    o.user = &t;
    g = generated(m, &o);
    assert_string_equal(g.stopped_by, "caller");
    assert_int_equal(t.pieces, 3);
    assert_memory_equal(t.text, all.text, t.n);
    cadre_generation_free(&g);

    o.user = &c;
    o.cancel = cancel;
    assert_fails(cadre_generate(m, "The router", &o, &g, &e), CADRE_E_CANCELLED, &e, "6 of 40 tokens");
    assert_string_equal(g.stopped_by, "cancel");
    assert_int_equal(g.n_ids, 6); /* asked once before the prompt, then before each token */
    assert_memory_equal(g.ids, all.ids, 6 * sizeof *g.ids);
    assert_memory_equal(g.text, all.text, g.text_bytes);
    check_told(&c, g.text, g.text_bytes);
    cadre_generation_free(&g);

    o.user = &early;
    assert_fails(cadre_generate(m, "The router", &o, &g, &e), CADRE_E_CANCELLED, &e, "0 of 40 tokens");
    assert_int_equal(g.n_ids, 0);
    cadre_generation_free(&g);
    cadre_generation_free(&all);
    cadre_model_close(m);
}

/* Logits and routing of a prompt longer than a chunk, against what a session gives. */
static void files_hold_what_was_computed(void **state)
{
    enum { N = SESSION_CHUNK + 9 };
    cadre_error e = {0};
    int32_t ids[N], tokens[N];
    const char *logits_path = in(*state, "logits.st"), *routing_path = in(*state, "routing.st");
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    for (int i = 0; i < N; i++)
        ids[i] = (i * 31 + 1) % TINY_VOCAB;
    cadre_generate_options o = cadre_generate_options_default();
    o.ids = ids, o.n_ids = N, o.max_tokens = 2, o.logits_path = logits_path, o.routing_path = routing_path;
    assert_ok(cadre_generate(m, NULL, &o, NULL, &e), e);

    struct safetensors *f;
    assert_ok(safetensors_open(&f, logits_path, &e), e);
    real *logits = malloc(sizeof *logits * N * TINY_VOCAB);
    assert_ok(safetensors_read(f, safetensors_find(f, "tokens"), tokens, &e), e);
    assert_ok(safetensors_read(f, safetensors_find(f, "logits"), logits, &e), e);
    assert_memory_equal(tokens, ids, sizeof ids);
    safetensors_close(f);
    static int32_t topk[TINY_LAYERS][N][TINY_USED];
    static float weight[TINY_LAYERS][N][TINY_USED];
    assert_ok(safetensors_open(&f, routing_path, &e), e);
    assert_ok(safetensors_read(f, safetensors_find(f, "router_topk"), topk, &e), e);
    assert_ok(safetensors_read(f, safetensors_find(f, "router_weights"), weight, &e), e);
    safetensors_close(f);

    struct session *s;
    struct session_options so = {.n_ctx = N, .kv = DTYPE_F32, .routing = true};
    assert_ok(session_new(&s, m, &so, &e), e);
    for (int i = 0; i < N; i++) {
        struct session_output out;
        assert_ok(session_feed(s, &ids[i], 1, &out, &e), e);
        assert_memory_equal(out.logits, logits + i * TINY_VOCAB, TINY_VOCAB * sizeof *logits);
        for (int l = 0; l < TINY_LAYERS; l++) {
            assert_memory_equal(out.routing[l].id, topk[l][i], sizeof topk[l][i]);
            assert_memory_equal(out.routing[l].weight->x, weight[l][i], sizeof weight[l][i]);
        }
    }
    session_free(s);
    free(logits);
    cadre_model_close(m);
}

static void failures_leave_no_file(void **state)
{
    cadre_error e = {0};
    const char *logits_path = in(*state, "logits.st"), *routing_path = in(*state, "routing.st");
    int32_t ids[] = {1, 2, TINY_VOCAB};
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    cadre_generate_options o = cadre_generate_options_default();
    o.ids = ids, o.n_ids = 3, o.max_tokens = 2, o.logits_path = logits_path, o.routing_path = routing_path;
    assert_fails(cadre_generate(m, NULL, &o, NULL, &e), CADRE_E_ARG, &e, "token 2");
    assert_int_equal(access(logits_path, F_OK), -1);
    assert_int_equal(access(routing_path, F_OK), -1);
    o.n_ids = 2;
    o.logits_path = in(*state, "no/such/folder");
    assert_fails(cadre_generate(m, NULL, &o, NULL, &e), CADRE_E_IO, &e, "no/such/folder");
    assert_int_equal(access(routing_path, F_OK), -1);
    cadre_model_close(m);
    m = open_with(tiny_file(*state, "dense.gguf", (struct tiny_options){.dense = true}), 1, 0);
    o.logits_path = NULL;
    assert_fails(cadre_generate(m, NULL, &o, NULL, &e), CADRE_E_ARG, &e, "no experts");
    assert_int_equal(access(routing_path, F_OK), -1);
    cadre_model_close(m);
}

static void wrong_options_are_named(void **state)
{
    cadre_error e = {0};
    int32_t id = 1;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0}), *bare;
    cadre_generate_options o = cadre_generate_options_default();
    assert_fails(cadre_generate(NULL, "a", &o, NULL, &e), CADRE_E_ARG, &e, "cadre_generate");
    assert_fails(cadre_generate(m, NULL, &o, NULL, &e), CADRE_E_ARG, &e, "prompt");
    assert_fails(cadre_generate(m, "", &o, NULL, &e), CADRE_E_ARG, &e, "empty");
    assert_int_equal(cadre_generate(m, "", &o, NULL, NULL), CADRE_E_ARG);
    o.kv = "q4_k";
    assert_fails(cadre_generate(m, "a", &o, NULL, &e), CADRE_E_ARG, &e, "kv: expected f32, f16, bf16 or q8_0");
    o = cadre_generate_options_default(), o.act = "f64";
    assert_fails(cadre_generate(m, "a", &o, NULL, &e), CADRE_E_ARG, &e, "act: expected f32, auto or int8");
    o = cadre_generate_options_default(), o.max_tokens = -1;
    assert_fails(cadre_generate(m, "a", &o, NULL, &e), CADRE_E_ARG, &e, "found -1");
    o = cadre_generate_options_default(), o.stop = "";
    assert_fails(cadre_generate(m, "a", &o, NULL, &e), CADRE_E_ARG, &e, "stop");
    o = cadre_generate_options_default(), o.context = 1;
    assert_fails(cadre_generate(m, "The router sends", &o, NULL, &e), CADRE_E_ARG, &e,
                 "do not fit into a context of 1");
    o = cadre_generate_options_default();
    bare = open_with(tiny_file(*state, "bare.gguf", (struct tiny_options){.no_tokenizer = true}), 1, 0);
    assert_fails(cadre_generate(bare, "a", &o, NULL, &e), CADRE_E_ARG, &e, "no tokenizer");
    o.ids = &id, o.n_ids = 1, o.max_tokens = 3;
    cadre_generation g;
    assert_ok(cadre_generate(bare, NULL, &o, &g, &e), e);
    assert_int_equal(g.n_ids, 3);
    assert_string_equal(g.text, "");
    cadre_generation_free(&g);
    cadre_model_close(bare);
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(text_is_that_of_the_tokens),
        WITH_FOLDER(stop_texts_cut_exactly),
        WITH_FOLDER(ends_and_lengths),
        WITH_FOLDER(whoever_stops_keeps_what_came),
        WITH_FOLDER(files_hold_what_was_computed),
        WITH_FOLDER(failures_leave_no_file),
        WITH_FOLDER(wrong_options_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
