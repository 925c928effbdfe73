/* Checkpoints as files: exact round trips, and what stays on disk when a run or a write fails. */
#include "train_test.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "train/checkpoint.h"

/* Everything that a checkpoint of the tiny run belongs to, and its arrays. */
struct held {
    struct train_config cfg;
    struct domain domains[2];
    struct sampler sampler;
    struct model *m;
    const struct optimizer *o;
    real **state;
    struct run_state run;
};

static void held_open(struct held *h, const struct scratch *s, uint64_t seed)
{
    static const char *const names[] = {"prose", "code"};
    cadre_error e = {0};
    *h = (struct held){.o = optimizer_find("adamw")};
    assert_ok(train_config_read(&h->cfg, s->config, &e), e);
    for (int i = 0; i < 2; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/m.gguf.tokens/%s.tokens", s->dir, names[i]);
        strcpy(h->domains[i].name, names[i]);
        h->domains[i].weight = 0.5;
        assert_ok(token_file_open(&h->domains[i].file, path, h->cfg.vocab, &e), e);
    }
    assert_ok(sampler_init(&h->sampler, h->domains, 2, h->cfg.sequence, h->cfg.heldout, seed, &e), e);
    assert_ok(model_new(&h->m, &h->cfg.spec, seed, (real)0.02, true, &e), e);
    h->state = calloc((size_t)(h->m->n_params * OPTIMIZER_MAX_STATES), sizeof *h->state);
    for (int64_t i = 0; i < h->m->n_params * OPTIMIZER_MAX_STATES; i++)
        h->state[i] = calloc((size_t)tensor_count(&h->m->params[i / OPTIMIZER_MAX_STATES].t), sizeof(real));
}

static void held_close(struct held *h)
{
    for (int64_t i = 0; i < h->m->n_params * OPTIMIZER_MAX_STATES; i++)
        free(h->state[i]);
    free(h->state);
    model_free(h->m);
    for (int i = 0; i < 2; i++)
        token_file_close(&h->domains[i].file);
}

static cadre_err held_read(struct held *h, const char *path, cadre_error *e)
{
    return checkpoint_read(path, &h->cfg, h->m, h->o, h->state, &h->sampler, &h->run, e);
}

static cadre_err held_write(struct held *h, const char *path, cadre_error *e)
{
    return checkpoint_write(path, &h->cfg, h->m, h->o, h->state, &h->sampler, &h->run, e);
}

static void stop_at_step_4(const struct scratch *s, const char *more)
{
    struct run r = {.out = "m.gguf", .stop_at = 4};
    cadre_error e = {0};
    write_config(s->config, 40, more);
    assert_fails(run_training(s, &r, &e), CADRE_E_CANCELLED, &e, "stopped after step 4");
}

static void round_trip_is_exact(void **state)
{
    struct scratch *s = *state;
    struct held h;
    cadre_error e = {0};
    stop_at_step_4(s, "");
    held_open(&h, s, 99);
    assert_ok(held_read(&h, at(s, "m.gguf", ".ckpt"), &e), e);
    assert_int_equal(h.run.step, 4);
    assert_int_equal(h.run.tokens, 4 * 128);
    assert_int_equal(h.sampler.taken[0] + h.sampler.taken[1], 4 * 128 / 16);
    assert_ok(held_write(&h, at(s, "again.ckpt", ""), &e), e);
    assert_same_file(at(s, "m.gguf", ".ckpt"), at(s, "again.ckpt", ""));
    /* Numbers that decimal text would lose. */
    h.run.loss_mean = nextafter(1.0 / 3, 1), h.run.step = INT64_MAX, h.sampler.rng.s[3] = UINT64_MAX;
    h.m->params[0].t.x[0] = (real)1e-41; /* subnormal */
    assert_ok(held_write(&h, at(s, "odd.ckpt", ""), &e), e);
    struct held back;
    held_open(&back, s, 100);
    assert_ok(held_read(&back, at(s, "odd.ckpt", ""), &e), e);
    assert_memory_equal(&back.run, &h.run, sizeof h.run);
    assert_memory_equal(back.sampler.rng.s, h.sampler.rng.s, sizeof h.sampler.rng.s);
    assert_memory_equal(back.m->params[0].t.x, h.m->params[0].t.x, sizeof(real));
    held_close(&back);
    held_close(&h);
}

static void another_model_is_refused(void **state)
{
    struct scratch *s = *state;
    struct held h, other;
    cadre_error e = {0};
    stop_at_step_4(s, "");
    held_open(&h, s, 1);
    uint64_t hash = h.cfg.hash;
    char text[2048];
    snprintf(text, sizeof text, "%s",
             "[model]\nlayers = 2\nwidth = 48\nheads = 2\ncontext = 32\nexperts = 4\nexperts_used = 2\nexpert_ff = 16\n"
             "shared_ff = 16\nrouter_bias = true\n[tokenizer]\nvocab = 300\n[data]\nheldout = 0.1\n" TINY_TRAIN
             "tokens = 1000\n");
    write_text(s->config, text, strlen(text));
    held_open(&other, s, 1);
    other.cfg.hash = hash;
    assert_fails(held_read(&other, at(s, "m.gguf", ".ckpt"), &e), CADRE_E_FORMAT, &e, "another shape or type");
    held_close(&other);
    held_close(&h);
}

static cadre_err resume(const struct scratch *s, const char *out, cadre_error *e)
{
    struct run r = {.out = out, .resume = true};
    return run_training(s, &r, e);
}

/* A weight that is no number makes the first loss none: the run stops and touches nothing. */
static void poisoned_weights_stop_the_run(void **state)
{
    struct scratch *s = *state;
    struct held h;
    cadre_error e = {0};
    size_t n, m;
    stop_at_step_4(s, "checkpoint_minutes = 0\n");
    held_open(&h, s, 1);
    assert_ok(held_read(&h, at(s, "m.gguf", ".ckpt"), &e), e);
    h.m->params[3].t.x[5] = NAN;
    assert_ok(held_write(&h, at(s, "m.gguf", ".ckpt"), &e), e);
    held_close(&h);
    char *before = slurp(at(s, "m.gguf", ".ckpt"), &n);
    assert_fails(resume(s, "m.gguf", &e), CADRE_E_DIVERGED, &e, "step 5: loss nan");
    char *after = slurp(at(s, "m.gguf", ".ckpt"), &m);
    assert_true(n == m && memcmp(before, after, n) == 0);
    assert_int_not_equal(access(at(s, "m.gguf", ""), F_OK), 0);
    free(before);
    free(after);
}

/* Huge steps: the loss rises without becoming NaN. What is kept is a checkpoint from which the same happens again. */
static void rising_loss_stops_the_run(void **state)
{
    struct scratch *s = *state;
    struct run r = {.out = "wild.gguf"};
    cadre_error e = {0}, again = {0};
    char text[2048];
    snprintf(text, sizeof text, "%s",
             TINY_MODEL "[train]\nsequence = 16\nbatch_tokens = 128\nmicro_tokens = 64\nlr = 10\nclip = 0\n"
                        "tokens = 128000\ncheckpoint_minutes = 0\nprecision = f32\n");
    write_text(s->config, text, strlen(text));
    assert_fails(run_training(s, &r, &e), CADRE_E_DIVERGED, &e, "training diverged");
    assert_non_null(strstr(e.text, "wild.gguf.ckpt"));
    assert_fails(resume(s, "wild.gguf", &again), CADRE_E_DIVERGED, &again, "training diverged");
    assert_string_equal(e.text, again.text);
    assert_int_not_equal(access(at(s, "wild.gguf", ""), F_OK), 0);
}

/* Run f in a process whose files may not grow beyond `bytes`: as on a full disk, a write fails half way. */
static void with_full_disk(const struct scratch *s, rlim_t bytes, void (*f)(const struct scratch *s))
{
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct rlimit limit = {bytes, bytes};
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
            _exit(2);
        f(s);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void resume_on_full_disk(const struct scratch *s)
{
    cadre_error e = {0};
    if (resume(s, "m.gguf", &e) != CADRE_E_IO || !strstr(e.text, "m.gguf.ckpt"))
        _exit(3);
}

static void start_on_full_disk(const struct scratch *s)
{
    struct run r = {.out = "new.gguf"};
    cadre_error e = {0};
    if (run_training(s, &r, &e) != CADRE_E_IO || !strstr(e.text, "new.gguf"))
        _exit(3);
}

static int count_files(const struct scratch *s)
{
    int n = 0;
    char command[PATH_BYTES];
    snprintf(command, sizeof command, "ls -A %s", s->dir);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    for (int c; (c = fgetc(f)) != EOF;)
        n += c == '\n';
    pclose(f);
    return n;
}

static void full_disk_keeps_the_old_checkpoint(void **state)
{
    struct scratch *s = *state;
    size_t n, m;
    cadre_error e = {0};
    stop_at_step_4(s, "checkpoint_minutes = 0\n");
    char *before = slurp(at(s, "m.gguf", ".ckpt"), &n);
    int files = count_files(s);
    for (size_t part = 1; part <= 4; part++) { /* in the header, in the weights, in the optimizer, at the last byte */
        rlim_t limits[] = {3000, n / 4, n / 2, n - 1};
        with_full_disk(s, limits[part - 1], resume_on_full_disk);
        char *after = slurp(at(s, "m.gguf", ".ckpt"), &m);
        assert_true(n == m && memcmp(before, after, n) == 0);
        assert_int_equal(count_files(s), files); /* nothing half written stays */
        free(after);
    }
    with_full_disk(s, 2000, start_on_full_disk);
    assert_ok(resume(s, "m.gguf", &e), e);
    free(before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(round_trip_is_exact, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(another_model_is_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(poisoned_weights_stop_the_run, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(rising_loss_stops_the_run, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(full_disk_keeps_the_old_checkpoint, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
