/* Chats: a kept KV cache changes no byte, templates are found in the file, what does not fit is refused. */
#include "engine_test.h"

#include "engine/runtime.h"
#include "model/source.h"

static const char chatml[] = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}"
                             "{% if add_generation_prompt %}<|assistant|>{% endif %}";

/* The tiny model with chat templates in its file. */
static const char *with_templates(struct folder *f, const char *usual, const char *tools)
{
    const char *in_path = tiny_file(f, "tiny.gguf", (struct tiny_options){.seed = 3}), *path = in(f, "chat.gguf");
    struct gguf *g;
    struct gguf_writer *w;
    cadre_error e = {0};
    assert_ok(model_source_open(&g, in_path, &e), e);
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_ok(gguf_put_all(w, g, NULL, &e), e);
    if (usual)
        assert_ok(gguf_put_string(w, "tokenizer.chat_template", usual, strlen(usual), &e), e);
    if (tools)
        assert_ok(gguf_put_string(w, "tokenizer.chat_template.tool_use", tools, strlen(tools), &e), e);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        assert_ok(gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, &e), e);
    }
    assert_ok(gguf_write_begin(w, &e), e);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        void *p = malloc(t->bytes);
        assert_ok(gguf_tensor_read(g, t, p, &e), e);
        assert_ok(gguf_write_data(w, p, t->bytes, &e), e);
        free(p);
    }
    assert_ok(gguf_writer_commit(w, &e), e);
    gguf_close(g);
    return path;
}

static void renders(cadre_model *m, const char *messages, const char *tools, const cadre_chat_options *o,
                    const char *expected)
{
    cadre_error e = {0};
    char *text;
    size_t n;
    assert_ok(cadre_chat_render(m, messages, tools, o, &text, &n, &e), e);
    assert_string_equal(text, expected);
    assert_int_equal(n, strlen(expected));
    cadre_free(text);
}

static const char hello[] = "[{\"role\": \"user\", \"content\": \"hi\"}]";

static void templates_come_from_the_file(void **state)
{
    struct folder *f = *state;
    cadre_model *m = open_with(with_templates(f, chatml, "{{ tools | length }} tools"), 1, 0);
    cadre_chat_options o = cadre_chat_options_default();
    renders(m, hello, NULL, &o, "<|user|>hi\n<|assistant|>");
    renders(m, hello, "[{}, {}]", &o, "2 tools");
    o.add_generation_prompt = false;
    renders(m, hello, NULL, &o, "<|user|>hi\n");
    o.name = "tool_use";
    renders(m, hello, "[{}]", &o, "1 tools");
    o.name = "plain";
    renders(m, hello, NULL, &o, "User: hi\n");
    o.jinja = "{{ bos_token }}|{{ eos_token }}|{{ extra }}|{{ strftime_now('%Y') }}|{{ tools is none }}";
    o.extra = "{\"extra\": [1]}";
    o.now = 0;
    renders(m, hello, NULL, &o, "|<|endoftext|>|[1]|1970|True");
    o.bos = "<s>", o.eos = "</s>";
    renders(NULL, hello, NULL, &o, "<s>|</s>|[1]|1970|True");
    assert_true(cadre_chat_has_template(m, NULL));
    assert_false(cadre_chat_has_template(m, "other"));
    cadre_model_close(m);
}

static void wrong_input_is_named(void **state)
{
    struct folder *f = *state;
    cadre_model *m = tiny_open(f, (struct tiny_options){.seed = 3});
    cadre_chat_options o = cadre_chat_options_default();
    cadre_error e = {0};
    char *text;
    size_t n;
    assert_false(cadre_chat_has_template(m, NULL));
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_UNSUPPORTED, &e, "no chat template");
    o.name = "nothing";
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_ARG, &e, "plain, chatml");
    o.name = "plain";
    assert_fails(cadre_chat_render(m, "{}", NULL, &o, &text, &n, &e), CADRE_E_FORMAT, &e,
                 "messages: expected a JSON array");
    assert_fails(cadre_chat_render(m, "[", NULL, &o, &text, &n, &e), CADRE_E_FORMAT, &e, "messages: expected JSON");
    assert_fails(cadre_chat_render(m, hello, "1", &o, &text, &n, &e), CADRE_E_FORMAT, &e, "tools");
    o.extra = "[]";
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_FORMAT, &e, "extra variables");
    o.extra = NULL;
    o.max_bytes = 5;
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_MEMORY, &e, "limit");
    o = cadre_chat_options_default();
    o.jinja = "{{ raise_exception('no system') }}";
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_ARG, &e, "no system");
    cadre_model_close(m);
    m = open_with(with_templates(f, "{{ broken", NULL), 1, 0);
    o = cadre_chat_options_default();
    assert_true(cadre_chat_has_template(m, NULL)); /* using it says what is wrong */
    assert_fails(cadre_chat_render(m, hello, NULL, &o, &text, &n, &e), CADRE_E_FORMAT, &e, "tokenizer.chat_template");
    cadre_model_close(m);
}

static cadre_generate_options choices(void)
{
    cadre_generate_options g = cadre_generate_options_default();
    g.max_tokens = 12;
    g.temperature = 0.9;
    g.seed = 5;
    g.ignore_eos = true;
    return g;
}

/* Conversations that grow, shrink and change in the middle. */
static const char *const conversations[] = {
    "[{\"role\": \"user\", \"content\": \"The router sends\"}]",
    ("[{\"role\": \"user\", \"content\": \"The router sends\"}, {\"role\": \"assistant\", \"content\": \"each "
     "token\"}, "
     "{\"role\": \"user\", \"content\": \"and the experts answer\"}]"),
    "[{\"role\": \"user\", \"content\": \"The router sends\"}]",
    "[{\"role\": \"system\", \"content\": \"experts\"}, {\"role\": \"user\", \"content\": \"The router sends\"}]",
    "[{\"role\": \"system\", \"content\": \"experts\"}, {\"role\": \"user\", \"content\": \"The router\"}]",
};

static void kept_tokens_change_no_byte(void **state)
{
    static const char *const kv[] = {"f32", "q8_0"};
    struct folder *f = *state;
    cadre_model *m = open_with(with_templates(f, chatml, NULL), 2, 0);
    cadre_chat_options o = cadre_chat_options_default();
    cadre_generate_options g = choices();
    for (size_t k = 0; k < 2; k++) {
        cadre_chat *kept, *fresh;
        cadre_error e = {0};
        size_t reused = 0;
        g.kv = kv[k];
        assert_ok(cadre_chat_open(&kept, m, &g, &e), e);
        assert_int_equal(cadre_chat_context(kept), TINY_CTX);
        for (size_t i = 0; i < sizeof conversations / sizeof *conversations; i++) {
            cadre_generation a, b;
            assert_ok(cadre_chat_reply(kept, conversations[i], NULL, &o, &g, &a, &e), e);
            assert_ok(cadre_chat_open(&fresh, m, &g, &e), e);
            assert_ok(cadre_chat_reply(fresh, conversations[i], NULL, &o, &g, &b, &e), e);
            assert_int_equal(b.n_reused, 0);
            assert_true(a.n_reused < a.n_prompt);
            reused += a.n_reused;
            assert_int_equal(a.n_ids, 12);
            assert_memory_equal(a.ids, b.ids, a.n_ids * sizeof *a.ids);
            assert_string_equal(a.text, b.text);
            cadre_generation_free(&a);
            cadre_generation_free(&b);
            cadre_chat_close(fresh);
        }
        assert_true(reused > 20);
        cadre_chat_close(kept);
    }
    cadre_model_close(m);
}

static bool after_three(void *user)
{
    return ++*(int *)user > 3;
}

static void what_fails_leaves_the_chat_usable(void **state)
{
    struct folder *f = *state;
    cadre_model *m = open_with(with_templates(f, chatml, NULL), 1, 0);
    cadre_chat_options o = cadre_chat_options_default();
    cadre_generate_options g = choices(), wrong = choices();
    cadre_generation a, b;
    cadre_error e = {0};
    cadre_chat *chat;
    int64_t n;
    int asked = 0;
    assert_ok(cadre_chat_open(&chat, m, &g, &e), e);
    assert_ok(cadre_chat_reply(chat, conversations[1], NULL, &o, &g, &a, &e), e);
    wrong.temperature = -1; /* refused before anything is fed */
    assert_fails(cadre_chat_reply(chat, conversations[3], NULL, &o, &wrong, NULL, &e), CADRE_E_ARG, &e, "temperature");
    wrong = choices();
    wrong.cancel = after_three;
    wrong.user = &asked;
    assert_int_equal(cadre_chat_reply(chat, conversations[3], NULL, &o, &wrong, &b, &e), CADRE_E_CANCELLED);
    assert_string_equal(b.stopped_by, "cancel");
    cadre_generation_free(&b);
    assert_ok(cadre_chat_reply(chat, conversations[1], NULL, &o, &g, &b, &e), e);
    assert_string_equal(a.text, b.text);
    assert_ok(cadre_chat_tokens(chat, conversations[1], NULL, &o, &n, &e), e);
    assert_int_equal(n, b.n_prompt);
    cadre_generation_free(&a);
    cadre_generation_free(&b);
    cadre_chat_close(chat);
    g.context = 20;
    assert_ok(cadre_chat_open(&chat, m, &g, &e), e);
    assert_fails(cadre_chat_reply(chat, conversations[1], NULL, &o, &g, NULL, &e), CADRE_E_MEMORY, &e,
                 "of the 20 there is room for");
    cadre_chat_close(chat);
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(templates_come_from_the_file),
        WITH_FOLDER(wrong_input_is_named),
        WITH_FOLDER(kept_tokens_change_no_byte),
        WITH_FOLDER(what_fails_leaves_the_chat_usable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
