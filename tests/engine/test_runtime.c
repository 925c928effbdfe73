#include "engine_test.h"

#include "engine/runtime.h"
#include "engine/session.h"

/* Whether a generation runs within a budget; e says why not. */
static bool runs_within(const char *path, uint64_t memory, cadre_error *e)
{
    cadre_model *m;
    cadre_model_options mo = cadre_model_options_default();
    cadre_generate_options o = cadre_generate_options_default();
    int32_t ids[] = {1, 2, 3};
    mo.threads = 1, mo.memory = memory;
    o.ids = ids, o.n_ids = 3, o.max_tokens = 4, o.context = TINY_CTX;
    cadre_err rc = cadre_model_open(&m, path, &mo, e);
    if (rc == CADRE_OK)
        rc = cadre_generate(m, NULL, &o, NULL, e);
    cadre_model_close(m);
    assert_true(rc == CADRE_OK || rc == CADRE_E_MEMORY);
    return rc == CADRE_OK;
}

/* There is a least budget; it holds at least weights and cache, and one byte less is refused with the figures. */
static void budgets_are_kept_to_the_byte(void **state)
{
    cadre_error e = {0};
    const char *path = tiny_file(*state, "tiny.gguf", (struct tiny_options){0});
    uint64_t low = 1, high = (uint64_t)1 << 30;
    assert_true(runs_within(path, high, &e) && !runs_within(path, low, &e));
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        *(runs_within(path, middle, &e) ? &high : &low) = middle;
    }
    assert_false(runs_within(path, high - 1, &e));
    assert_non_null(strstr(e.text, "budget"));
    assert_non_null(strstr(e.text, "MiB"));
    cadre_model *m = open_with(path, 1, 0);
    uint64_t kv = 2ull * TINY_LAYERS * TINY_CTX * 32 * sizeof(float);
    assert_true(high > m->model->bytes + kv);
    assert_true(high < m->model->bytes + kv + (16 << 20));
    cadre_model_close(m);
}

static void opening_names_what_is_wrong(void **state)
{
    cadre_error e = {0};
    cadre_model *m = NULL;
    cadre_model_options o = cadre_model_options_default();
    const char *missing = in(*state, "missing.gguf");
    assert_fails(cadre_model_open(NULL, "a", &o, &e), CADRE_E_ARG, &e, "out");
    assert_fails(cadre_model_open(&m, NULL, &o, &e), CADRE_E_ARG, &e, "path");
    assert_fails(cadre_model_open(&m, "a", NULL, &e), CADRE_E_ARG, &e, "options");
    assert_fails(cadre_model_open(&m, missing, &o, &e), CADRE_E_IO, &e, "missing.gguf");
    assert_int_equal(cadre_model_open(&m, missing, &o, NULL), CADRE_E_IO);
    o.isa = "sse9";
    assert_fails(cadre_model_open(&m, missing, &o, &e), CADRE_E_ARG, &e, "sse9");
    o.isa = NULL, o.threads = -1;
    assert_fails(cadre_model_open(&m, missing, &o, &e), CADRE_E_ARG, &e, "threads");
    o = cadre_model_options_default();
    o.mla = "small";
    assert_fails(cadre_model_open(&m, missing, &o, &e), CADRE_E_ARG, &e, "absorbed or plain");
    assert_null(m);
    cadre_model_close(NULL);
}

/* What a q8_0 model computes is what its weights, decoded to f32, compute: dot products take the float d·q. */
static void quantized_weights_are_their_decoded_twins(void **state)
{
    cadre_error e = {0};
    int32_t token[30];
    struct session_output out[2];
    const char *f32 = tiny_file(*state, "tiny.gguf", (struct tiny_options){0});
    const char *q8 = in(*state, "q8.gguf"), *twin = in(*state, "twin.gguf"), *bad = in(*state, "bad.gguf");
    assert_ok(cadre_quantize(f32, q8, &(cadre_quantize_options){.type = "q8_0"}, NULL, &e), e);
    assert_ok(cadre_quantize(q8, twin, &(cadre_quantize_options){.type = "f32"}, NULL, &e), e);
    cadre_model *m[2] = {open_with(q8, 2, 0), open_with(twin, 2, 0)};
    struct session *s[2];
    for (int i = 0; i < 30; i++)
        token[i] = 3 * i + 1;
    for (int i = 0; i < 2; i++) {
        struct session_options so = {.n_ctx = 30, .kv = DTYPE_F32, .all_logits = true};
        assert_ok(session_new(&s[i], m[i], &so, &e), e);
        assert_ok(session_feed(s[i], token, 30, &out[i], &e), e);
    }
    assert_memory_equal(out[0].logits, out[1].logits, 30 * TINY_VOCAB * sizeof(real));
    for (int i = 0; i < 2; i++) {
        session_free(s[i]);
        cadre_model_close(m[i]);
    }
    cadre_model_info a, b;
    assert_ok(cadre_inspect(f32, &a, &e), e);
    assert_ok(cadre_inspect(q8, &b, &e), e);
    assert_string_equal(a.name, b.name);
    assert_string_equal(a.tokenizer, b.tokenizer);
    assert_int_equal(a.parameters, b.parameters);
    assert_true(b.bytes < a.bytes / 2);
    assert_fails(cadre_quantize(f32, bad, &(cadre_quantize_options){.type = "q9"}, NULL, &e), CADRE_E_ARG, &e,
                 "found 'q9'");
    assert_fails(cadre_quantize(bad, bad, &(cadre_quantize_options){.type = "f32"}, NULL, &e), CADRE_E_IO, &e,
                 "bad.gguf");
    assert_int_equal(access(bad, F_OK), -1);
}

static void text_needs_a_tokenizer_and_known_ids(void **state)
{
    cadre_error e = {0};
    int32_t ids[] = {5, TINY_VOCAB}, *out;
    size_t n;
    char *text;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    assert_fails(cadre_detokenize(m, ids, 2, &text, &n, &e), CADRE_E_ARG, &e, "token 1: expected an id from 0 to 299");
    assert_null(text);
    assert_ok(cadre_detokenize(m, NULL, 0, &text, &n, &e), e);
    assert_string_equal(text, "");
    cadre_free(text);
    assert_fails(cadre_tokenize(NULL, "a", 1, false, &out, &n, &e), CADRE_E_ARG, &e, "cadre_tokenize");
    cadre_model_close(m);
    m = open_with(tiny_file(*state, "bare.gguf", (struct tiny_options){.no_tokenizer = true}), 1, 0);
    assert_fails(cadre_tokenize(m, "a", 1, false, &out, &n, &e), CADRE_E_ARG, &e, "no tokenizer");
    assert_fails(cadre_detokenize(m, ids, 1, &text, &n, &e), CADRE_E_ARG, &e, "no tokenizer");
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(budgets_are_kept_to_the_byte),
        WITH_FOLDER(opening_names_what_is_wrong),
        WITH_FOLDER(quantized_weights_are_their_decoded_twins),
        WITH_FOLDER(text_needs_a_tokenizer_and_known_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
