/* Special tokens, end of turn and chat template: from the description into the model, also into one that a run starts
 * from and that lacks them. */
#include "train_test.h"

#include <math.h>

#include "model/model.h"
#include "text/template/template.h"

#define TURNS                                                                                                          \
    "[tokenizer]\nspecials = <|im_start|> <|im_end|>\nend_of_turn = <|im_end|>\nchat_template = chatml\n[train]\n"

static struct gguf *open_model(const struct scratch *s, const char *name)
{
    struct gguf *g;
    cadre_error e = {0};
    assert_ok(gguf_open(&g, at(s, name, ""), &e), e);
    return g;
}

static int64_t number(const struct gguf *g, const char *key)
{
    int64_t v = -1;
    bool found;
    cadre_error e = {0};
    assert_ok(gguf_get_i64(g, key, &v, &found, &e), e);
    return v;
}

static const struct gguf_string *tokens_of(const struct gguf *g, int64_t *n)
{
    const struct gguf_string *s;
    bool found;
    cadre_error e = {0};
    assert_ok(gguf_get_strings(g, "tokenizer.ggml.tokens", &s, n, &found, &e), e);
    assert_true(found);
    return s;
}

static void assert_has_template(const struct gguf *g, const char *source)
{
    struct gguf_string s;
    bool found;
    cadre_error e = {0};
    assert_ok(gguf_get_string(g, "tokenizer.chat_template", &s, &found, &e), e);
    assert_true(found && s.n == strlen(source) && memcmp(s.p, source, s.n) == 0);
}

/* The text of a turn is the ids that are expected, and its end is one that generation stops at. */
static void assert_reads_turns(const struct gguf *g, int32_t start, int32_t end)
{
    struct tokenizer *t;
    cadre_error e = {0};
    int32_t *ids;
    size_t n;
    const char text[] = "<|im_start|>the<|im_end|>";
    assert_ok(tokenizer_from_gguf(&t, g, &e), e);
    assert_ok(tokenizer_encode(t, text, sizeof text - 1, TOKENIZE_SPECIAL, &ids, &n, &e), e);
    assert_true(n >= 3 && ids[0] == start && ids[n - 1] == end);
    assert_true(tokenizer_is_end(t, end) && !tokenizer_is_end(t, start));
    assert_int_equal(tokenizer_eos(t), 0);
    free(ids);
    tokenizer_free(t);
}

static int64_t kind_of(const struct gguf *g, int64_t id)
{
    const int64_t *kinds;
    int64_t n;
    bool found;
    cadre_error e = {0};
    assert_ok(gguf_get_i64s(g, "tokenizer.ggml.token_type", &kinds, &n, &found, &e), e);
    assert_true(found && id < n);
    return kinds[id];
}

static void new_vocabularies_have_them_first(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    struct run r = {.out = "new.gguf"};
    write_config(s->config, 1, TURNS);
    assert_ok(run_training(s, &r, &e), e);
    struct gguf *g = open_model(s, r.out);
    assert_int_equal(number(g, "tokenizer.ggml.eot_token_id"), 2);
    assert_int_equal(kind_of(g, 1), TOKEN_CONTROL);
    assert_int_equal(kind_of(g, 2), TOKEN_CONTROL);
    assert_reads_turns(g, 1, 2);
    assert_has_template(g, template_builtin("chatml"));
    gguf_close(g);
}

static cadre_err train_from(const struct scratch *s, const char *init, const char *out, cadre_error *e)
{
    const char *data[] = {s->prose, s->code};
    char from[PATH_BYTES], to[PATH_BYTES];
    snprintf(from, sizeof from, "%s/%s", s->dir, init);
    snprintf(to, sizeof to, "%s/%s", s->dir, out);
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data, o.n_data = 2, o.out = to, o.init = from, o.threads = 1;
    return cadre_train(&o, e);
}

/* The last two merges give their ids; everything else keeps its id, and texts still come back whole. */
static void models_without_give_their_last_merges(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    struct run r = {.out = "base.gguf"};
    int64_t n, m;
    write_config(s->config, 1, "");
    assert_ok(run_training(s, &r, &e), e);
    struct gguf *base = open_model(s, "base.gguf");
    assert_int_equal(number(base, "tokenizer.ggml.eot_token_id"), -1);
    write_config(s->config, 1, TURNS);
    assert_ok(train_from(s, "base.gguf", "turns.gguf", &e), e);
    struct gguf *g = open_model(s, "turns.gguf");
    const struct gguf_string *before = tokens_of(base, &n), *after = tokens_of(g, &m);
    assert_true(n == 300 && m == 300);
    for (int64_t i = 0; i < n - 2; i++)
        assert_true(before[i].n == after[i].n && memcmp(before[i].p, after[i].p, before[i].n) == 0);
    assert_string_equal(after[299].p, "<|im_start|>");
    assert_string_equal(after[298].p, "<|im_end|>");
    assert_int_equal(kind_of(g, 299), TOKEN_CONTROL);
    assert_int_equal(kind_of(g, 297), TOKEN_NORMAL);
    assert_int_equal(number(g, "tokenizer.ggml.eot_token_id"), 298);
    assert_reads_turns(g, 299, 298);
    assert_has_template(g, template_builtin("chatml"));

    struct tokenizer *t;
    int32_t *ids;
    size_t n_ids, bytes;
    char *back, lost[64];
    snprintf(lost, sizeof lost, "%.*s", (int)before[299].n, before[299].p);
    assert_ok(tokenizer_from_gguf(&t, g, &e), e);
    assert_ok(tokenizer_encode(t, "the experts", 11, TOKENIZE_SPECIAL, &ids, &n_ids, &e), e);
    assert_ok(tokenizer_decode(t, ids, n_ids, true, &back, &bytes, &e), e);
    assert_string_equal(back, "the experts");
    free(back);
    free(ids);
    if (!strstr(lost, "Ġ") && !strstr(lost, "Ċ")) { /* what was one token is two */
        assert_ok(tokenizer_encode(t, lost, strlen(lost), TOKENIZE_SPECIAL, &ids, &n_ids, &e), e);
        assert_true(n_ids >= 2);
        free(ids);
    }
    tokenizer_free(t);
    gguf_close(g);
    gguf_close(base);

    /* The next stage finds them there, needs no description of them, and passes them on. */
    write_config(s->config, 1, "");
    assert_ok(train_from(s, "turns.gguf", "later.gguf", &e), e);
    g = open_model(s, "later.gguf");
    assert_reads_turns(g, 299, 298);
    assert_has_template(g, template_builtin("chatml"));
    gguf_close(g);
}

static const struct param *param_of(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return &m->params[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

/* With a learning rate of 0 the model stays what it was, but for the rows of the new tokens: the mean of all. */
static void new_tokens_begin_as_the_mean(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    struct run r = {.out = "base.gguf"};
    write_config(s->config, 1, "");
    assert_ok(run_training(s, &r, &e), e);
    char text[2048];
    size_t n;
    write_config(s->config, 1, TURNS);
    char *config = slurp(s->config, &n), *lr = strstr(config, "lr = 3e-3");
    assert_non_null(lr);
    snprintf(text, sizeof text, "%.*slr = 0\n%s", (int)(lr - config), config, lr + strlen("lr = 3e-3\n"));
    free(config);
    write_text(s->config, text, strlen(text));
    assert_ok(train_from(s, "base.gguf", "turns.gguf", &e), e);
    struct gguf *before = open_model(s, "base.gguf"), *after = open_model(s, "turns.gguf");
    struct model *a, *b;
    assert_ok(model_open_params(&a, before, false, &e), e);
    assert_ok(model_open_params(&b, after, false, &e), e);
    const struct tensor *x = &param_of(a, "token_embd.weight")->t, *y = &param_of(b, "token_embd.weight")->t;
    int64_t d = tensor_cols(x);
    assert_memory_equal(x->x, y->x, (size_t)(298 * d) * sizeof(real));
    for (int64_t j = 0; j < d; j++) {
        double mean = 0;
        for (int64_t i = 0; i < 300; i++)
            mean += (double)x->x[i * d + j] / 300;
        for (int64_t i = 298; i < 300; i++)
            assert_true(fabs((double)y->x[i * d + j] - mean) < 1e-6);
    }
    model_free(a);
    model_free(b);
    gguf_close(before);
    gguf_close(after);
}

/* qwen2moe files hold the output matrix of a tied model once more: that is no difference. Another one is. */
static void tied_models_of_other_families_go_on(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    struct run r = {.out = "base.gguf"};
    char text[2048];
    static const char *const tied[] = {"true", "false"};
    for (int i = 1; i >= 0; i--) {
        snprintf(text, sizeof text,
                 "[model]\nfamily = qwen2moe\nlayers = 1\nwidth = 32\nheads = 2\ncontext = 32\nexperts = 4\n"
                 "experts_used = 2\nexpert_ff = 16\nshared_ff = 16\nshared_gated = true\nqkv_bias = true\ntied = %s\n"
                 "[tokenizer]\nvocab = 300\n" TINY_TRAIN "tokens = 128\n",
                 tied[i]);
        write_text(s->config, text, strlen(text));
        r.out = i ? "untied.gguf" : "base.gguf";
        assert_ok(run_training(s, &r, &e), e);
    }
    assert_ok(train_from(s, "base.gguf", "next.gguf", &e), e);
    assert_fails(train_from(s, "untied.gguf", "wrong.gguf", &e), CADRE_E_ARG, &e,
                 "has 'output.weight', which [model] does not describe");
}

static void templates_come_from_files(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    struct run r = {.out = "file.gguf"};
    static const char source[] = "{% for m in messages %}{{ m.content }}!{% endfor %}";
    write_text(at(s, "shout", ".jinja"), source, sizeof source - 1);
    write_config(s->config, 1, "[tokenizer]\nchat_template = shout.jinja\n"); /* beside the description */
    assert_ok(run_training(s, &r, &e), e);
    struct gguf *g = open_model(s, r.out);
    assert_has_template(g, source);
    gguf_close(g);
}

static void wrong_ones_are_named(void **state)
{
    struct scratch *s = *state;
    static const struct {
        const char *more, *named;
    } rows[] = {
        {"[tokenizer]\nchat_template = chatmk\n",
         "[tokenizer] chat_template: expected a file, or one of plain, chatml"},
        {"[tokenizer]\nchat_template = none.jinja\n", "none.jinja"},
        {"[tokenizer]\nchat_template = broken.jinja\n", "broken.jinja: chat template: line 1"},
        {"[tokenizer]\nend_of_turn = <|im_end|>\n", "has no token '<|im_end|>'; name it among specials"},
        {"[tokenizer]\nspecials = <a> <b> <a>\n", "specials: <a> is given twice"},
        {"[tokenizer]\nspecials = <|endoftext|>\n", "is in every vocabulary; leave it out"},
        {"[tokenizer]\nspecials =\n", "[tokenizer] specials: expected a text of 1 to"},
        {"[tokenizer]\nspecials = 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n", "at most 16 tokens"},
    };
    write_text(at(s, "broken", ".jinja"), "{% for %}", 9);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_error e = {0};
        struct run r = {.out = "wrong.gguf"};
        write_config(s->config, 1, rows[i].more);
        cadre_err rc = run_training(s, &r, &e);
        if (rc == CADRE_OK || !strstr(e.text, rows[i].named))
            fail_msg("row %zu: expected '%s', found %d: %s", i, rows[i].named, rc, e.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(new_vocabularies_have_them_first, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(models_without_give_their_last_merges, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(new_tokens_begin_as_the_mean, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(tied_models_of_other_families_go_on, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(templates_come_from_files, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(wrong_ones_are_named, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
