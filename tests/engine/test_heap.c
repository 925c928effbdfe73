/* Decoding makes no call of the heap: nothing is allocated or freed from one token to the next, by the session, the
 * thread pool, the sampler or the text. */
#include "heap.h"

#include "engine_test.h"

#include "engine/session.h"

enum { STEPS = 60 };

static void counting_counts(void **state)
{
    (void)state;
    long before = heap_calls;
    char *volatile p = malloc(10);
    p = realloc(p, 20);
    free(p);
    p = calloc(1, 2);
    free(p);
    p = aligned_alloc(64, 128);
    free(p);
    p = strdup("by the C library itself");
    free(p);
    assert_int_equal(heap_calls - before, 9);
    p = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_int_equal(munmap(p, 4096), 0);
    assert_int_equal(heap_calls - before, 11);
}

static void sessions_feed_without(const char *path, struct session_options o)
{
    cadre_error e = {0};
    struct session *s;
    struct session_output out;
    int32_t token[SESSION_CHUNK] = {0};
    for (int threads = 1; threads <= 3; threads++) {
        cadre_model *m = open_with(path, threads, 0);
        o.n_ctx = TINY_CTX;
        assert_ok(session_new(&s, m, &o, &e), e);
        assert_ok(session_feed(s, token, 1, &out, &e), e);
        long before = heap_calls;
        assert_ok(session_feed(s, token, SESSION_CHUNK, &out, &e), e);
        for (int32_t i = 0; i < STEPS; i++)
            assert_ok(session_feed(s, &i, 1, &out, &e), e);
        session_rewind(s, 100);
        assert_ok(session_feed(s, token, 7, &out, &e), e);
        if (heap_calls != before)
            fail_msg("%d threads: %ld calls of the heap", threads, heap_calls - before);
        session_free(s);
        cadre_model_close(m);
    }
}

static void sessions_call_no_heap(void **state)
{
    static const char *const types[] = {"f16", "q4_0"};
    cadre_error e = {0};
    const char *f32 = tiny_file(*state, "f32.gguf", (struct tiny_options){0});
    const char *q8_0 = tiny_file(*state, "q8_0.gguf", (struct tiny_options){.type = DTYPE_Q8_0});
    sessions_feed_without(f32, (struct session_options){.kv = DTYPE_F32});
    sessions_feed_without(f32, (struct session_options){.kv = DTYPE_F16, .routing = true, .all_logits = true});
    sessions_feed_without(q8_0, (struct session_options){.kv = DTYPE_Q8_0, .act = ACT_GRID});
    for (int i = 0; i < 2; i++) {
        const char *path = in(*state, types[i]);
        assert_ok(cadre_quantize(f32, path, &(cadre_quantize_options){.type = types[i]}, NULL, &e), e);
        sessions_feed_without(path, (struct session_options){.kv = DTYPE_BF16});
    }
    sessions_feed_without(tiny_file(*state, "dense.gguf", (struct tiny_options){.dense = true}),
                          (struct session_options){.kv = DTYPE_F32});
    sessions_feed_without(tiny_file(*state, "recurrent.gguf", (struct tiny_options){.recurrent = true}),
                          (struct session_options){.kv = DTYPE_F32, .marks = 1});
}

struct told {
    int n; /* calls */
    long first, last;
};

static bool on_text(void *user, const char *text, size_t n)
{
    struct told *t = user;
    (void)text, (void)n;
    t->last = heap_calls;
    if (t->n++ == 0)
        t->first = heap_calls;
    return true;
}

/* Whole steps: draw, text, callback, forward pass. */
static void generation_calls_no_heap(void **state)
{
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    static const struct {
        const char *name;
        double temperature, top_p, min_p;
        int top_k;
        const char *stop, *draft;
    } rows[] = {
        {"greedy", 0, 1, 0, 0, NULL, NULL},
        {"plain", 1.5, 1, 0, 0, NULL, NULL},
        {"top-p", 1.5, 0.9, 0, 0, NULL, NULL},
        {"top-k", 1.5, 1, 0, 40, NULL, NULL},
        {"min-p", 1.5, 1, 0.01, 0, NULL, NULL},
        {"all", 1.5, 0.95, 0.001, 200, NULL, NULL},
        {"stop", 1.5, 1, 0, 0, "never so", NULL},
        {"drafts by ngram", 0, 1, 0, 0, NULL, "ngram"},
        {"drafts by a model", 1.5, 0.95, 0, 0, NULL, "model"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_error e = {0};
        struct told told = {0};
        cadre_generate_options o = cadre_generate_options_default();
        cadre_generation g;
        o.max_tokens = STEPS, o.ignore_eos = true;
        o.temperature = rows[i].temperature, o.top_p = rows[i].top_p, o.min_p = rows[i].min_p, o.top_k = rows[i].top_k;
        o.stop = rows[i].stop;
        o.draft = rows[i].draft;
        o.draft_model = o.draft && strcmp(o.draft, "model") == 0 ? m : NULL;
        o.draft_min = o.draft ? 3 : 0;
        o.on_text = on_text, o.user = &told;
        assert_ok(cadre_generate(m, "The router", &o, &g, &e), e);
        assert_int_equal(g.n_ids, STEPS);
        assert_true(told.n > STEPS / 4); /* bytes of unfinished characters are held back */
        if (told.last != told.first)
            fail_msg("%s: %ld calls of the heap in %d steps", rows[i].name, told.last - told.first, STEPS);
        cadre_generation_free(&g);
    }
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counting_counts),
        WITH_FOLDER(sessions_call_no_heap),
        WITH_FOLDER(generation_calls_no_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
