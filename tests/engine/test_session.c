#include "engine_test.h"

#include <math.h>

#include "engine/generate.h"
#include "engine/session.h"

/* Linked with --wrap: allocations of the library are counted. */
static int allocations;
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    allocations++;
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    allocations++;
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    allocations++;
    return __real_realloc(p, n);
}

enum { N = SESSION_CHUNK + 20 }; /* more than one chunk */

static void fill(int32_t *token, int n)
{
    for (int i = 0; i < n; i++)
        token[i] = (i * 37 + 5) % TINY_VOCAB;
}

static struct session *new_session(cadre_model *m, struct session_options o)
{
    cadre_error e = {0};
    struct session *s;
    assert_ok(session_new(&s, m, &o, &e), e);
    return s;
}

/* Logits of N tokens fed `chunk` at a time, malloc'd [N, n_vocab]. */
static real *read_in(struct session *s, const int32_t *token, int64_t chunk)
{
    cadre_error e = {0};
    struct session_output out;
    real *logits = malloc(sizeof *logits * N * TINY_VOCAB);
    for (int64_t at = 0; at < N; at += chunk) {
        int64_t n = chunk < N - at ? chunk : N - at;
        assert_int_equal(session_position(s), at);
        assert_ok(session_feed(s, token + at, n, &out, &e), e);
        assert_int_equal(out.first, at);
        assert_int_equal(out.n, n);
        memcpy(logits + at * TINY_VOCAB, out.logits, sizeof *logits * (size_t)n * TINY_VOCAB);
    }
    return logits;
}

static void chunks_and_threads_change_no_byte(void **state)
{
    int32_t token[N];
    fill(token, N);
    static const struct tiny_options models[] = {{.type = DTYPE_F32}, {.type = DTYPE_Q8_0}, {.recurrent = true}};
    for (int i_model = 0; i_model < 3; i_model++) {
        const char *path = tiny_file(*state, "tiny.gguf", models[i_model]);
        real *want = NULL;
        for (int threads = 1; threads <= 3; threads++) {
            cadre_model *m = open_with(path, threads, 0);
            struct session *s =
                new_session(m, (struct session_options){.n_ctx = N, .kv = DTYPE_F32, .all_logits = true});
            static const int64_t chunks[] = {SESSION_CHUNK, 1, 7, 100};
            for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
                real *got = read_in(s, token, chunks[i]);
                if (want)
                    assert_memory_equal(want, got, sizeof *got * N * TINY_VOCAB);
                if (want)
                    free(got);
                else
                    want = got;
                session_rewind(s, 0);
            }
            session_free(s);
            cadre_model_close(m);
        }
        free(want);
    }
}

/* After going back to a position the sequence goes on as if the rest had never been read. */
static void rewinding_forgets_what_came_after(void **state)
{
    cadre_error e = {0};
    int32_t token[N], other[20];
    struct session_output out;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    struct session *s = new_session(m, (struct session_options){.n_ctx = 40, .kv = DTYPE_F32});
    fill(token, N);
    for (int i = 0; i < 20; i++)
        other[i] = 299 - i;
    assert_ok(session_feed(s, token, 20, &out, &e), e);
    real want[TINY_VOCAB];
    memcpy(want, out.logits, sizeof want);
    for (int64_t at = 0; at < 20; at += 5) {
        session_rewind(s, at);
        assert_int_equal(session_position(s), at);
        assert_ok(session_feed(s, other, 20, &out, &e), e);
        assert_true(memcmp(want, out.logits, sizeof want) != 0);
        session_rewind(s, at);
        assert_ok(session_feed(s, token + at, 20 - at, &out, &e), e);
        assert_memory_equal(want, out.logits, sizeof want);
        if (at) {
            session_rewind(s, 0);
            assert_ok(session_feed(s, token, 20, &out, &e), e);
        }
    }
    session_free(s);
    cadre_model_close(m);
}

/* A state cannot be gone back over: from zeros, from the mark, or on from where it is. */
static void recurrent_sessions_go_back_to_the_mark(void **state)
{
    cadre_error e = {0};
    int32_t token[N], other[20];
    struct session_output out;
    cadre_model *m = tiny_open(*state, (struct tiny_options){.recurrent = true});
    struct session *s = new_session(m, (struct session_options){.n_ctx = 60, .kv = DTYPE_F16, .marks = 1});
    fill(token, N);
    for (int i = 0; i < 20; i++)
        other[i] = 299 - i;
    assert_ok(session_feed(s, token, 20, &out, &e), e);
    real want[TINY_VOCAB];
    memcpy(want, out.logits, sizeof want);
    assert_int_equal(session_rewind(s, 20), 20);
    assert_int_equal(session_rewind(s, 19), 0);
    assert_int_equal(session_position(s), 0);
    assert_ok(session_feed(s, token, 7, &out, &e), e);
    session_mark(s, SESSION_MARK_PROMPT);
    for (int turn = 0; turn < 3; turn++) {
        assert_ok(session_feed(s, other, 20, &out, &e), e);
        assert_true(memcmp(want, out.logits, sizeof want) != 0);
        assert_int_equal(session_rewind(s, 7 + 6 * turn), 7);
        assert_ok(session_feed(s, token + 7, 13, &out, &e), e);
        assert_memory_equal(want, out.logits, sizeof want);
        assert_int_equal(session_rewind(s, 7), 7);
    }
    assert_int_equal(session_rewind(s, 6), 0);
    assert_ok(session_feed(s, token, 20, &out, &e), e);
    assert_memory_equal(want, out.logits, sizeof want);
    session_free(s);
    cadre_model_close(m);
}

/* A generation over a kept session is the one over a fresh session, whatever it could keep. */
static void kept_sessions_generate_the_same(void **state)
{
    cadre_error e = {0};
    int32_t first[30], second[40];
    cadre_model *m = tiny_open(*state, (struct tiny_options){.recurrent = true});
    struct session *s = new_session(m, (struct session_options){.n_ctx = 80, .kv = DTYPE_F32, .marks = 1});
    fill(second, 40);
    memcpy(first, second, sizeof first);
    cadre_generate_options o = cadre_generate_options_default();
    o.temperature = 0;
    o.max_tokens = 6;
    o.ignore_eos = true;
    for (int turn = 0; turn < 3; turn++) {
        static const size_t n[] = {30, 40, 25}, kept[] = {0, 30, 20}, goes_on_from[] = {0, 30, 0};
        cadre_generation fresh, over;
        o.ids = turn == 0 ? first : second;
        o.n_ids = n[turn];
        assert_ok(cadre_generate(m, NULL, &o, &fresh, &e), e);
        assert_ok(generate_over(s, NULL, kept[turn], m, NULL, &o, &over, &e), e);
        assert_int_equal(over.n_reused, goes_on_from[turn]);
        assert_int_equal(over.n_ids, fresh.n_ids);
        assert_memory_equal(over.ids, fresh.ids, fresh.n_ids * sizeof *fresh.ids);
        cadre_generation_free(&fresh);
        cadre_generation_free(&over);
    }
    session_free(s);
    cadre_model_close(m);
}

/* Root mean square difference of the logits' last row, as a share of their deviation. */
static double distance(const real *a, const real *b)
{
    double d = 0, v = 0;
    for (int i = 0; i < TINY_VOCAB; i++) {
        d += pow((double)(a[i] - b[i]), 2);
        v += pow((double)a[i], 2);
    }
    return sqrt(d / v);
}

static void cache_formats_differ_little(void **state)
{
    static const struct {
        enum dtype type;
        double most;
    } formats[] = {{DTYPE_F32, 0}, {DTYPE_F16, 0.01}, {DTYPE_BF16, 0.05}, {DTYPE_Q8_0, 0.1}};
    int32_t token[N];
    real *want = NULL;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    fill(token, N);
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        struct session *s =
            new_session(m, (struct session_options){.n_ctx = N, .kv = formats[i].type, .all_logits = true});
        real *got = read_in(s, token, SESSION_CHUNK);
        if (i == 0) {
            want = got;
        } else {
            double d = distance(want + (N - 1) * TINY_VOCAB, got + (N - 1) * TINY_VOCAB);
            if (d == 0 || d > formats[i].most)
                fail_msg("%s: distance %g", dtype_info(formats[i].type)->name, d);
            free(got);
        }
        session_free(s);
    }
    free(want);
    cadre_model_close(m);
}

static void wrong_tokens_and_lengths_are_refused(void **state)
{
    cadre_error e = {0};
    struct session *s;
    struct session_output out;
    int32_t token[SESSION_CHUNK] = {0};
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    struct session_options o = {.n_ctx = TINY_CTX + 1, .kv = DTYPE_F32};
    assert_fails(session_new(&s, m, &o, &e), CADRE_E_ARG, &e, "1 to 320");
    assert_null(s);
    o.n_ctx = 0;
    assert_fails(session_new(&s, m, &o, &e), CADRE_E_ARG, &e, "found 0");
    o.n_ctx = 10;
    s = new_session(m, o);
    assert_fails(session_feed(s, token, 11, &out, &e), CADRE_E_ARG, &e, "11 tokens at position 0");
    assert_ok(session_feed(s, token, 8, &out, &e), e);
    assert_fails(session_feed(s, token, 3, &out, &e), CADRE_E_ARG, &e, "3 tokens at position 8");
    token[1] = TINY_VOCAB;
    assert_fails(session_feed(s, token, 2, &out, &e), CADRE_E_ARG, &e,
                 "token 9: expected an id from 0 to 299, found 300");
    token[1] = -1;
    assert_fails(session_feed(s, token, 2, &out, &e), CADRE_E_ARG, &e, "found -1");
    token[1] = 0;
    assert_int_equal(session_position(s), 8); /* failures move nothing */
    assert_ok(session_feed(s, token, 2, &out, &e), e);
    session_free(s);
    cadre_model_close(m);
}

static void feeding_allocates_nothing(void **state)
{
    cadre_error e = {0};
    int32_t token[N];
    struct session_output out;
    fill(token, N);
    for (int type = 0; type < 2; type++) {
        const char *path = tiny_file(*state, "tiny.gguf", (struct tiny_options){.type = type ? DTYPE_Q8_0 : DTYPE_F32});
        cadre_model *m = open_with(path, 2, 0);
        struct session *s =
            new_session(m, (struct session_options){.n_ctx = TINY_CTX, .kv = DTYPE_Q8_0, .routing = true});
        int before = allocations;
        assert_true(before > 0);
        assert_ok(session_feed(s, token, SESSION_CHUNK, &out, &e), e);
        for (int i = SESSION_CHUNK; i < N; i++)
            assert_ok(session_feed(s, token + i, 1, &out, &e), e);
        assert_int_equal(allocations, before);
        session_free(s);
        cadre_model_close(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(chunks_and_threads_change_no_byte),
        WITH_FOLDER(rewinding_forgets_what_came_after),
        WITH_FOLDER(recurrent_sessions_go_back_to_the_mark),
        WITH_FOLDER(kept_sessions_generate_the_same),
        WITH_FOLDER(cache_formats_differ_little),
        WITH_FOLDER(wrong_tokens_and_lengths_are_refused),
        WITH_FOLDER(feeding_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
