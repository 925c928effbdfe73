/* Every family's tiny model in sessions: a prompt at once, in pieces and token by token gives the same bytes, on any
 * number of threads and on every kernel level, with weights, activations and caches in each of their formats. */
#include "model/tiny_specs.h"
#include "test.h"

#include <unistd.h>

#include "cadre.h"
#include "engine/session.h"
#include "model/family.h"

enum { N = 37, VOCAB = 50 };

static char path[] = "/tmp/cadre-families-XXXXXX";

static void write_model(int i, enum dtype type)
{
    struct spec s = tiny_spec(i);
    struct model *m;
    struct gguf_writer *w;
    cadre_error e = {0};
    assert_ok(model_new(&m, &s, 11, (real)0.2, false, &e), e);
    model_finish(m);
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_ok(spec_to_gguf(w, &m->spec, &e), e);
    assert_ok(model_write(w, m, type, &e), e);
    assert_ok(gguf_writer_commit(w, &e), e);
    model_free(m);
}

static cadre_model *open_on(int threads, const char *isa)
{
    cadre_model_options o = cadre_model_options_default();
    cadre_model *m;
    cadre_error e = {0};
    o.threads = threads;
    o.isa = isa;
    assert_ok(cadre_model_open(&m, path, &o, &e), e);
    return m;
}

static real *read_in(cadre_model *m, struct session_options o, int64_t piece)
{
    struct session *s;
    struct session_output out;
    cadre_error e = {0};
    int32_t token[N];
    real *logits = malloc(sizeof *logits * N * VOCAB);
    for (int i = 0; i < N; i++)
        token[i] = (i * 37 + 5) % VOCAB;
    assert_non_null(logits);
    assert_ok(session_new(&s, m, &o, &e), e);
    for (int64_t at = 0; at < N; at += piece) {
        int64_t n = piece < N - at ? piece : N - at;
        assert_ok(session_feed(s, token + at, n, &out, &e), e);
        memcpy(logits + at * VOCAB, out.logits, sizeof *logits * (size_t)n * VOCAB);
    }
    session_free(s);
    return logits;
}

/* What the first way gives, the others must. */
static const struct way {
    int threads;
    const char *isa;
    int64_t piece;
} ways[] = {{1, NULL, N}, {1, NULL, 1}, {3, NULL, 7}, {2, "generic", N}, {2, "avx2", 5}};
enum { N_WAYS = sizeof ways / sizeof *ways };

static void same_bytes(const real *want, const real *got, const char *what, const struct way *way)
{
    for (int i = 0; i < N * VOCAB; i++)
        if (memcmp(&want[i], &got[i], sizeof *got) != 0)
            fail_msg("%s, %d threads, %s, pieces of %d: logit %d of token %d is %g, not %g", what, way->threads,
                     way->isa ? way->isa : "best level", (int)way->piece, i % VOCAB, i / VOCAB, (double)got[i],
                     (double)want[i]);
}

static void pieces_threads_and_levels_change_no_byte(void **state)
{
    (void)state;
    static const enum dtype weights[] = {DTYPE_F32, DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0};
    static const enum dtype caches[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    for (int i = 0; i < N_TINY; i++)
        for (int w = 0; w < 4; w++) {
            struct session_options o = {.n_ctx = N, .all_logits = true};
            o.kv = caches[(i + w) % 4]; /* each pairing in some families */
            o.block_activations = (i / 4 + w) % 2;
            char what[128];
            snprintf(what, sizeof what, "model %d (%s), weights %s, cache %s, %s", i, tiny_specs[i].family,
                     dtype_info(weights[w])->name, dtype_info(o.kv)->name, o.block_activations ? "grid" : "f32");
            write_model(i, weights[w]);
            real *want = NULL;
            for (int t = 0; t < N_WAYS; t++) {
                cadre_model *m = open_on(ways[t].threads, ways[t].isa);
                real *got = read_in(m, o, ways[t].piece);
                cadre_model_close(m);
                if (t == 0) {
                    want = got;
                    continue;
                }
                same_bytes(want, got, what, &ways[t]);
                free(got);
            }
            free(want);
        }
}

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(pieces_threads_and_levels_change_no_byte)};
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
