/* Every family's tiny model in sessions: a prompt at once, in pieces and token by token gives the same bytes, on any
 * number of threads and on every kernel level, with weights, activations and caches in each of their formats; and its
 * Hugging Face directory is the same model. */
#include "model/random_model.h"
#include "model/spec_changes.h"
#include "model/tiny_specs.h"
#include "test.h"

#include <ftw.h>
#include <math.h>
#include <unistd.h>

#include "cadre.h"
#include "engine/session.h"
#include "model/family.h"

enum { N = 37, VOCAB = 50 };

static char folder[] = "/tmp/cadre-families-XXXXXX", file[64], directory[64];

static void write_model(const struct spec *s, enum dtype type)
{
    struct model *m = random_model(s, 11, false);
    struct gguf_writer *w;
    cadre_error e = {0};
    assert_ok(gguf_writer_open(&w, file, &e), e);
    assert_ok(spec_to_gguf(w, &m->spec, &e), e);
    assert_ok(model_write(w, m, type, &e), e);
    assert_ok(gguf_writer_commit(w, &e), e);
    model_free(m);
}

static cadre_model *open_on(const char *path, int threads, const char *isa)
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
            struct spec s = tiny_spec(i);
            struct session_options o = {.n_ctx = N, .all_logits = true};
            o.kv = caches[(i + w) % 4]; /* each pairing in some families */
            o.act = (enum act)((i / 4 + w) % ACT_COUNT);
            char what[128];
            snprintf(what, sizeof what, "model %d (%s), weights %s, cache %s, %s", i, tiny_specs[i].family,
                     dtype_info(weights[w])->name, dtype_info(o.kv)->name, act_names[o.act]);
            write_model(&s, weights[w]);
            real *want = NULL;
            for (int t = 0; t < N_WAYS; t++) {
                cadre_model *m = open_on(file, ways[t].threads, ways[t].isa);
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

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

/* A file and the directory that it becomes are one model. Where that stores logarithms (of the decay of a state),
 * numbers may differ in their last places. */
static void same_in_directory(const struct spec *s, const char *what)
{
    struct session_options o = {.n_ctx = N, .kv = DTYPE_F32, .all_logits = true};
    cadre_model *m[2] = {open_on(file, 1, NULL), open_on(directory, 1, NULL)};
    real *x = read_in(m[0], o, N), *y = read_in(m[1], o, N);
    double most = s->recurrent == &attention_delta_net ? 1e-4 : 0;
    for (int i = 0; i < N * VOCAB; i++)
        if (!(fabs((double)x[i] - (double)y[i]) <= most))
            fail_msg("%s with %s changed: logit %d of token %d is %g in the directory, %g in the file", s->family, what,
                     i % VOCAB, i / VOCAB, (double)y[i], (double)x[i]);
    for (int i = 0; i < 2; i++)
        cadre_model_close(m[i]);
    free(x);
    free(y);
}

static void directories_hold_the_model_or_are_refused(void **state)
{
    (void)state;
    int written = 0, refused = 0;
    for (int i = 0; i < N_TINY; i++)
        for (int a = 0; a < N_SPEC_CHANGES && strcmp(tiny_specs[i].family, "cadre") != 0; a++) {
            struct spec s = tiny_specs[i];
            cadre_error e = {0};
            cadre_convert_options o = cadre_convert_options_default();
            spec_changes[a].fn(&s);
            spec_defaults(&s);
            if (spec_can_write(&s, &e))
                continue;
            write_model(&s, DTYPE_F32);
            nftw(directory, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
            cadre_err rc = cadre_convert(file, directory, &o, NULL, NULL, NULL, &e);
            if (rc == CADRE_OK)
                same_in_directory(&s, spec_changes[a].name);
            else if (rc != CADRE_E_UNSUPPORTED || access(directory, F_OK) == 0)
                fail_msg("%s with %s changed: %s", s.family, spec_changes[a].name, e.text);
            *(rc ? &refused : &written) += 1;
        }
    print_message("%d written, %d refused\n", written, refused);
    assert_true(written > 150 && refused > 100);
}

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(file, sizeof file, "%s/model.gguf", folder);
    snprintf(directory, sizeof directory, "%s/hf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    return nftw(folder, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_threads_and_levels_change_no_byte),
        cmocka_unit_test(directories_hold_the_model_or_are_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
