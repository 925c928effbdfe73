/* What the tests of training share: a scratch folder, a learnable text, a tiny description, a run of it. */
#ifndef CADRE_TESTS_TRAIN_TEST_H
#define CADRE_TESTS_TRAIN_TEST_H

#include "test.h"

#include <ftw.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/fileio.h"
#include "base/rng.h"
#include "train/trainer.h"

enum { PATH_BYTES = 256 };

struct scratch {
    char dir[PATH_BYTES / 4];
    char config[PATH_BYTES], prose[PATH_BYTES], code[PATH_BYTES];
};

static inline void write_text(const char *path, const char *text, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Lines of words drawn by a small Markov chain: what follows a word is one of two, so a model can learn it. */
static inline char *make_text(size_t bytes, uint64_t seed)
{
    static const char *const words[] = {"the", "router", "sends", "tokens", "to",  "an", "expert", "and",
                                        "its", "weight", "tells", "how",    "far", "it", "counts", "here"};
    struct rng rng;
    rng_seed(&rng, seed);
    char *text = malloc(bytes + 32);
    assert_non_null(text);
    size_t n = 0;
    for (unsigned at = 0, i = 1; n < bytes; i++) {
        at = (at * 5 + 1 + (unsigned)rng_below(&rng, 2) * 6) % 16;
        n += (size_t)sprintf(text + n, "%s%c", words[at], i % 12 ? ' ' : '\n');
    }
    text[bytes] = 0;
    return text;
}

static inline void write_random_text(const char *path, size_t bytes, uint64_t seed)
{
    char *text = make_text(bytes, seed);
    write_text(path, text, bytes);
    free(text);
}

#define TINY_MODEL                                                                                                     \
    "[model]\nlayers = 2\nwidth = 32\nheads = 2\ncontext = 32\nexperts = 4\nexperts_used = 2\nexpert_ff = 16\n"        \
    "shared_ff = 16\nrouter_bias = true\n[tokenizer]\nvocab = 300\n[data]\nheldout = 0.1\nprose = 2\ncode = 1\n"
#define TINY_TRAIN                                                                                                     \
    "[train]\nsequence = 16\nbatch_tokens = 128\nmicro_tokens = 64\nlr = 3e-3\nwarmup_tokens = 256\n"                  \
    "log_steps = 2\neval_steps = 5\neval_tokens = 64\nfile_type = f32\n"

static inline void write_config(const char *path, int steps, const char *more)
{
    char text[2048];
    int n = snprintf(text, sizeof text, TINY_MODEL TINY_TRAIN "tokens = %d\n%s", steps * 128, more);
    write_text(path, text, (size_t)n);
}

static inline int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

static inline int scratch_open(void **state)
{
    struct scratch *s = calloc(1, sizeof *s);
    strcpy(s->dir, "/tmp/cadre-train-XXXXXX");
    if (!mkdtemp(s->dir))
        return -1;
    snprintf(s->config, PATH_BYTES, "%s/tiny.ini", s->dir);
    snprintf(s->prose, PATH_BYTES, "%s/prose.txt", s->dir);
    snprintf(s->code, PATH_BYTES, "%s/code.txt", s->dir);
    write_random_text(s->prose, 24000, 1);
    write_random_text(s->code, 12000, 2);
    *state = s;
    return 0;
}

static inline int scratch_close(void **state)
{
    struct scratch *s = *state;
    nftw(s->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(s);
    return 0;
}

/* A path below the scratch folder, in one of a few buffers that take turns. */
static inline const char *at(const struct scratch *s, const char *name, const char *suffix)
{
    static char path[8][PATH_BYTES];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, PATH_BYTES, "%s/%s%s", s->dir, name, suffix);
    return p;
}

struct run {
    const char *out; /* a name in the scratch folder */
    int threads;
    bool resume;
    int64_t stop_at; /* > 0: the callback stops the run at that step's line */
    double first_loss, first_norm, last_loss, last_bits;
    uint64_t memory; /* planned */
};

static inline bool run_progress(void *user, const cadre_train_progress *p)
{
    struct run *r = user;
    r->memory = p->memory;
    if (p->n_domains) {
        r->last_bits = p->domain_bits[0];
        return true;
    }
    r->first_loss = r->first_loss == 0 ? p->loss : r->first_loss;
    r->first_norm = r->first_norm == 0 ? p->grad_norm : r->first_norm;
    r->last_loss = p->loss;
    return r->stop_at == 0 || p->step < r->stop_at;
}

static inline cadre_err run_training(const struct scratch *s, struct run *r, cadre_error *err)
{
    const char *data[] = {s->prose, s->code};
    char out[PATH_BYTES];
    snprintf(out, sizeof out, "%s/%s", s->dir, r->out);
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data, o.n_data = 2, o.out = out;
    o.resume = r->resume, o.threads = r->threads ? r->threads : 1;
    o.on_progress = run_progress, o.user = r;
    return cadre_train(&o, err);
}

/* Not inlined: gcc 12 takes what file_slurp stores for the address of p and warns of it. */
__attribute__((noinline, unused)) static char *slurp(const char *path, size_t *n)
{
    cadre_error e = {0};
    char *p = NULL;
    assert_ok(file_slurp(path, (size_t)1 << 30, &p, n, &e), e);
    return p;
}

static inline void assert_same_file(const char *a, const char *b)
{
    size_t na, nb;
    char *pa = slurp(a, &na), *pb = slurp(b, &nb);
    if (na != nb || memcmp(pa, pb, na) != 0)
        fail_msg("%s and %s differ", a, b);
    free(pa);
    free(pb);
}

/* Lines of a log without their speed, which alone may differ. */
static inline char *log_lines(const char *path)
{
    size_t n;
    char *text = slurp(path, &n), *to = text;
    for (char *from = text; *from;) {
        static const char key[] = ",\"tokens_per_s\":";
        if (strncmp(from, key, sizeof key - 1) == 0)
            from += strcspn(from, "}");
        *to++ = *from++;
    }
    *to = 0;
    return text;
}

static inline void assert_same_log(const char *a, const char *b)
{
    char *la = log_lines(a), *lb = log_lines(b);
    assert_string_equal(la, lb);
    free(la);
    free(lb);
}

static inline void assert_fails(cadre_err rc, cadre_err want, const cadre_error *e, const char *text)
{
    if (rc != want || !strstr(e->text, text))
        fail_msg("expected error %d naming '%s', found %d: %s", want, text, rc, e->text);
}

#endif
