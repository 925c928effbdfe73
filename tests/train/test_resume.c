/* A run that stops, is killed or fails goes on as if nothing had happened, or says why it cannot. */
#include "train_test.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { STEPS = 30 };

/* The run that nothing disturbs, under the name whole.gguf. */
static void run_whole(const struct scratch *s, const char *more)
{
    struct run r = {.out = "whole.gguf", .threads = 2};
    cadre_error e = {0};
    write_config(s->config, STEPS, more);
    assert_ok(run_training(s, &r, &e), e);
}

static void assert_same_run(const struct scratch *s, const char *name)
{
    assert_same_file(at(s, "whole.gguf", ""), at(s, name, ""));
    assert_same_file(at(s, "whole.gguf", ".ckpt"), at(s, name, ".ckpt"));
    assert_same_log(at(s, "whole.gguf", ".log.jsonl"), at(s, name, ".log.jsonl"));
}

static void stop_and_resume(const struct scratch *s, const char *more)
{
    run_whole(s, more);
    /* Steps with a log line: 10 has an evaluation after it that the stop cuts off, 30 is the last. */
    struct run r = {.out = "parts.gguf", .threads = 1};
    for (int64_t stop = 2; stop <= STEPS; stop += stop == 2 ? 8 : stop == 10 ? 4 : 16) {
        cadre_error e = {0};
        r.stop_at = stop;
        assert_fails(run_training(s, &r, &e), CADRE_E_CANCELLED, &e, "--resume");
        assert_int_not_equal(access(at(s, "parts.gguf", ""), F_OK), 0);
        r.resume = true;
        r.threads = 3 - r.threads;
    }
    cadre_error e = {0};
    r.stop_at = 0;
    assert_ok(run_training(s, &r, &e), e);
    assert_same_run(s, "parts.gguf");
    assert_ok(run_training(s, &r, &e), e); /* a finished run has nothing more to do, and does no harm */
    assert_same_run(s, "parts.gguf");
}

static void stopped_and_resumed(void **state)
{
    stop_and_resume(*state, "balance = bias\n");
}

static void muon_stopped_and_resumed(void **state)
{
    stop_and_resume(*state, "optimizer = muon\nschedule = wsd\nrecompute = true\n");
}

static void start_and_resume_are_told_apart(void **state)
{
    struct scratch *s = *state;
    struct run r = {.out = "m.gguf", .resume = true};
    cadre_error e = {0};
    write_config(s->config, 4, "");
    assert_fails(run_training(s, &r, &e), CADRE_E_IO, &e, "no checkpoint to resume from");
    r.resume = false;
    assert_ok(run_training(s, &r, &e), e);
    assert_fails(run_training(s, &r, &e), CADRE_E_ARG, &e, "go on from it with --resume, or delete it");
}

static void sleep_us(int64_t us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
}

/* Start the run in a process of its own and kill it after a while; true if it was finished before. */
static bool run_and_kill(const struct scratch *s, struct run r, int64_t us)
{
    fflush(stdout);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        cadre_error e = {0};
        _exit(run_training(s, &r, &e) == CADRE_OK ? 0 : 1);
    }
    sleep_us(us);
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(!WIFEXITED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

/* With a checkpoint after every step, most of a run is spent in writing them. */
static void killed_and_resumed(void **state)
{
    struct scratch *s = *state;
    struct rng rng;
    int kills = 0;
    rng_seed(&rng, (uint64_t)getpid());
    run_whole(s, "checkpoint_minutes = 0\n");
    for (int turn = 0; turn < 3; turn++) {
        const char *names[] = {"a.gguf", "b.gguf", "c.gguf"};
        struct run r = {.out = names[turn], .threads = 2};
        bool done = false;
        while (!done && kills < 40) {
            r.resume = access(at(s, r.out, ".ckpt"), F_OK) == 0;
            done = run_and_kill(s, r, 5000 + (int64_t)rng_below(&rng, 150000) * (kills % 4 == 3 ? 4 : 1));
            kills += !done;
        }
        if (!done) { /* on a slow machine: to the end in one go */
            cadre_error e = {0};
            r.resume = access(at(s, r.out, ".ckpt"), F_OK) == 0;
            assert_ok(run_training(s, &r, &e), e);
        }
        assert_same_run(s, names[turn]);
    }
    assert_true(kills > 0);
}

/* ---- checkpoints that cannot be used ---- */

static void stop_early(const struct scratch *s, int64_t step)
{
    struct run r = {.out = "m.gguf", .stop_at = step};
    cadre_error e = {0};
    assert_fails(run_training(s, &r, &e), CADRE_E_CANCELLED, &e, "");
}

static void assert_resume_fails(const struct scratch *s, cadre_err want, const char *text)
{
    struct run r = {.out = "m.gguf", .resume = true};
    cadre_error e = {0};
    assert_fails(run_training(s, &r, &e), want, &e, text);
}

static void foreign_checkpoints_are_refused(void **state)
{
    struct scratch *s = *state;
    write_config(s->config, 8, "");
    stop_early(s, 4);
    write_config(s->config, 8, "lr_final = 1e-5\n");
    assert_resume_fails(s, CADRE_E_ARG, "made by another training description");
    write_config(s->config, 8, "");
    FILE *f = fopen(s->code, "r+"); /* same length, so the same number of tokens is possible */
    fputs("Q", f);
    fclose(f);
    assert_resume_fails(s, CADRE_E_ARG, "made from another text or vocabulary of domain");
}

static void damaged_checkpoints_are_refused(void **state)
{
    struct scratch *s = *state;
    write_config(s->config, 8, "");
    stop_early(s, 4);
    size_t n;
    char path[PATH_BYTES], *good;
    strcpy(path, at(s, "m.gguf", ".ckpt"));
    good = slurp(path, &n);
    /* A bit of every kind of content: header length, header, counters, weights, optimizer, the last byte. */
    char *step = strstr(good + 8, "\"run\":\"");
    assert_non_null(step);
    size_t offsets[] = {0, 9, (size_t)(step - good) + 7, n / 3, n / 2, n - 2};
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
        good[offsets[i]] ^= 1;
        write_text(path, good, n);
        good[offsets[i]] ^= 1;
        assert_resume_fails(s, CADRE_E_FORMAT, "m.gguf.ckpt");
    }
    write_text(path, good, n / 2);
    assert_resume_fails(s, CADRE_E_FORMAT, "m.gguf.ckpt");
    write_text(path, good, 0);
    assert_resume_fails(s, CADRE_E_FORMAT, "m.gguf.ckpt");
    size_t n_model;
    write_text(path, good, n);
    struct run r = {.out = "m.gguf", .resume = true};
    cadre_error e = {0};
    assert_ok(run_training(s, &r, &e), e);
    char *model = slurp(at(s, "m.gguf", ""), &n_model);
    write_text(path, model, n_model); /* a file of another kind */
    assert_resume_fails(s, CADRE_E_FORMAT, "m.gguf.ckpt");
    free(model);
    free(good);
}

static void damaged_logs_are_cut(void **state)
{
    struct scratch *s = *state;
    run_whole(s, "");
    struct run r = {.out = "parts.gguf", .stop_at = 12};
    cadre_error e = {0};
    assert_fails(run_training(s, &r, &e), CADRE_E_CANCELLED, &e, "");
    FILE *f = fopen(at(s, "parts.gguf", ".log.jsonl"), "a"); /* what a killed run left after its checkpoint */
    fputs("{\"event\":\"step\",\"step\":14,\"tokens\":1792}\nnot json\n{\"event\":\"st", f);
    fclose(f);
    r.resume = true, r.stop_at = 0;
    assert_ok(run_training(s, &r, &e), e);
    assert_same_run(s, "parts.gguf");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(stopped_and_resumed, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(muon_stopped_and_resumed, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(start_and_resume_are_told_apart, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(killed_and_resumed, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(foreign_checkpoints_are_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(damaged_checkpoints_are_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(damaged_logs_are_cut, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
