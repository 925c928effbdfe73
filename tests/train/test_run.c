/* Whole runs: they learn, and neither threads nor precision nor the balance rule make two equal runs differ. */
#include "train_test.h"

#include <math.h>

#include "file/gguf.h"
#include "model/model.h"

static void loss_falls(void **state)
{
    struct scratch *s = *state;
    struct run r = {.out = "m.gguf", .threads = 2};
    cadre_error e = {0};
    write_config(s->config, 80, "lr_final = 1e-4\n");
    assert_ok(run_training(s, &r, &e), e);
    /* ln 300 = 5.70 for knowing nothing. The text has one bit a word, and a word is little more than a token. */
    assert_true(fabs(r.first_loss - log(300)) < 0.2);
    assert_true(r.last_loss < 3);
    assert_true(r.last_bits > 0 && r.last_bits < 1.4); /* ln 300 / ln 2 / 4 bytes = 2.1 at the start */

    cadre_model *m; /* the file is a model that runs, with its vocabulary */
    cadre_model_options mo = cadre_model_options_default();
    cadre_generate_options go = cadre_generate_options_default();
    cadre_generation g = {0};
    mo.threads = 1, go.max_tokens = 8;
    assert_ok(cadre_model_open(&m, at(s, "m.gguf", ""), &mo, &e), e);
    assert_ok(cadre_generate(m, "the router", &go, &g, &e), e);
    assert_true(g.n_ids > 0);
    cadre_generation_free(&g);
    cadre_model_close(m);
}

static void threads_change_nothing(void **state)
{
    struct scratch *s = *state;
    static const char *const precisions[] = {"f32", "bf16"}, *const balances[] = {"none", "switch", "global", "bias"};
    static const char *const names[] = {"1.gguf", "2.gguf", "3.gguf"};
    for (int p = 0; p < 2; p++)
        for (int b = 0; b < 4; b++) {
            char more[128];
            snprintf(more, sizeof more, "precision = %s\nbalance = %s\n", precisions[p], balances[b]);
            write_config(s->config, 6, more);
            for (int t = 0; t < 3; t++) {
                struct run r = {.out = names[t], .threads = t + 1};
                cadre_error e = {0};
                remove(at(s, names[t], ".ckpt"));
                assert_ok(run_training(s, &r, &e), e);
                assert_same_file(at(s, names[0], ""), at(s, names[t], ""));
                assert_same_file(at(s, names[0], ".ckpt"), at(s, names[t], ".ckpt"));
                assert_same_log(at(s, names[0], ".log.jsonl"), at(s, names[t], ".log.jsonl"));
            }
        }
}

/* Dropped activations that are computed again give the same model to the byte, in less memory. */
static void recompute_changes_nothing(void **state)
{
    struct scratch *s = *state;
    static const char *const balances[] = {"none", "switch", "global", "bias"};
    for (int i = 0; i < 8; i++) {
        struct run kept = {.out = "kept.gguf"}, dropped = {.out = "dropped.gguf", .threads = 2};
        cadre_error e = {0};
        char more[128];
        snprintf(more, sizeof more, "precision = %s\nbalance = %s\n", i < 4 ? "f32" : "bf16", balances[i % 4]);
        write_config(s->config, 4, more);
        remove(at(s, "kept.gguf", ".ckpt"));
        assert_ok(run_training(s, &kept, &e), e);
        strcat(more, "recompute = true\n");
        write_config(s->config, 4, more);
        remove(at(s, "dropped.gguf", ".ckpt"));
        assert_ok(run_training(s, &dropped, &e), e);
        assert_same_file(at(s, "kept.gguf", ""), at(s, "dropped.gguf", ""));
        assert_same_log(at(s, "kept.gguf", ".log.jsonl"), at(s, "dropped.gguf", ".log.jsonl"));
        assert_true(kept.memory > 0 && dropped.memory < kept.memory);
    }
}

/* Precision and balance act: each gives another model. */
static void knobs_act(void **state)
{
    struct scratch *s = *state;
    static const char *const more[] = {"",
                                       "precision = f32\n",
                                       "balance = none\n",
                                       "balance = switch\n",
                                       "balance = bias\n",
                                       "clip = 0.1\n",
                                       "seed = 2\n",
                                       "weight_decay = 0\n",
                                       "z_weight = 0\n",
                                       "beta1 = 0.5\n",
                                       "init_std = 0.03\n",
                                       "optimizer = muon\n",
                                       "optimizer = muon\nmomentum = 0.5\n",
                                       "schedule = constant\n",
                                       "schedule = wsd\ndecay_share = 0.9\n",
                                       "schedule = wsd\ndecay_share = 0.9\ndecay_shape = linear\n"};
    enum { N = sizeof more / sizeof *more };
    char *file[N];
    size_t size[N];
    for (int i = 0; i < N; i++) {
        struct run r = {.out = "m.gguf"};
        cadre_error e = {0};
        write_config(s->config, 4, more[i]);
        remove(at(s, "m.gguf", ".ckpt"));
        assert_ok(run_training(s, &r, &e), e);
        file[i] = slurp(at(s, "m.gguf", ""), &size[i]);
        for (int j = 0; j < i; j++)
            if (size[i] == size[j] && memcmp(file[i], file[j], size[i]) == 0)
                fail_msg("'%s' and '%s' give the same model", more[i], more[j]);
    }
    for (int i = 0; i < N; i++)
        free(file[i]);
}

static struct model *read_model(const char *path)
{
    struct gguf *g;
    struct model *m;
    cadre_error e = {0};
    assert_ok(gguf_open(&g, path, &e), e);
    assert_ok(model_open_params(&m, g, false, &e), e);
    gguf_close(g);
    return m;
}

/* Two micro-batches, eight, and one of the whole size are the same step, up to rounding. Adam is blind to the
 * gradient's scale, so the comparison would not see a wrong factor: it sees a wrong sum. The factor is seen in
 * grad_norm. */
static void micro_batches_add_up(void **state)
{
    struct scratch *s = *state;
    static const char *const sizes[] = {"micro_tokens = 64\n", "micro_tokens = 16\n", "micro_tokens = 128\n"};
    static const char *const names[] = {"two.gguf", "eight.gguf", "one.gguf"};
    double norm[3];
    struct model *m[3];
    for (int i = 0; i < 3; i++) {
        char text[2048];
        snprintf(text, sizeof text,
                 TINY_MODEL "[train]\nsequence = 16\nbatch_tokens = 128\nlr = 1e-3\neps = 1e-3\nprecision = f32\n"
                            "balance = none\nz_weight = 0\nfile_type = f32\ntokens = 384\n%s",
                 sizes[i]);
        write_text(s->config, text, strlen(text));
        struct run r = {.out = names[i]};
        cadre_error e = {0};
        assert_ok(run_training(s, &r, &e), e);
        norm[i] = r.first_norm;
        m[i] = read_model(at(s, names[i], ""));
    }
    for (int i = 1; i < 3; i++) {
        assert_true(fabs(norm[i] - norm[0]) < 1e-5 * norm[0]);
        for (int64_t p = 0; p < m[0]->n_params; p++) {
            const struct tensor *a = &m[0]->params[p].t, *b = &m[i]->params[p].t;
            double diff = 0, size = 0;
            for (int64_t j = 0; j < tensor_count(a); j++) {
                diff += pow((double)a->x[j] - (double)b->x[j], 2);
                size += pow((double)a->x[j], 2);
            }
            if (sqrt(diff) > 1e-5 * sqrt(size))
                fail_msg("%s: differs by %g of %g", m[0]->params[p].name, sqrt(diff), sqrt(size));
        }
        model_free(m[i]);
    }
    model_free(m[0]);
}

/* With rate 1/8 five steps move every bias by a multiple of it, none above 5/8; an odd number of steps of equal size
 * cannot cancel, so uneven loads leave some moved. */
static void bias_balance_moves_biases_alone(void **state)
{
    struct scratch *s = *state;
    struct run r = {.out = "m.gguf"};
    cadre_error e = {0};
    write_config(s->config, 5, "balance = bias\nbias_rate = 0.125\n");
    assert_ok(run_training(s, &r, &e), e);
    struct model *m = read_model(at(s, "m.gguf", ""));
    int moved = 0;
    for (int64_t l = 0; l < 2; l++) {
        const struct tensor *bias = m->layers[l].moe.bias;
        assert_non_null(bias);
        for (int i = 0; i < 4; i++) {
            assert_true(bias->x[i] * 8 == (real)(int)(bias->x[i] * 8) && fabsf(bias->x[i]) <= 0.625f);
            moved += bias->x[i] != 0;
        }
    }
    assert_true(moved > 0);
    model_free(m);
}

static void shorter_runs_by_option(void **state)
{
    struct scratch *s = *state;
    const char *data[] = {s->prose, s->code};
    cadre_error e = {0};
    char out[PATH_BYTES];
    snprintf(out, sizeof out, "%s/m.gguf", s->dir);
    struct run r = {.out = "m.gguf"};
    write_config(s->config, 50, "");
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data, o.n_data = 2, o.out = out, o.threads = 1, o.tokens = 200;
    o.on_progress = run_progress, o.user = &r;
    assert_ok(cadre_train(&o, &e), e);
    char *log = log_lines(at(s, "m.gguf", ".log.jsonl"));
    assert_non_null(strstr(log, "\"step\":2,\"tokens\":256"));
    assert_null(strstr(log, "\"step\":3"));
    free(log);
    o.threads = 0, o.isa = "sse9";
    assert_int_equal(cadre_train(&o, &e), CADRE_E_ARG);
    o.isa = NULL, o.n_data = 0;
    assert_fails(cadre_train(&o, NULL), CADRE_E_ARG, &e, "");
    o.n_data = 1, o.out = at(s, "other.gguf", "");
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "[data] code: no text file of that domain was given");
}

/* A domain in two files, named by hand, is the domain in one: the cut lies where the tokenizer cuts anyway. */
static void texts_of_a_domain_join(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    char first[PATH_BYTES + 8], second[PATH_BYTES + 8], code[PATH_BYTES + 8];
    size_t n;
    char *text = slurp(s->prose, &n), *cut = strchr(text + n / 3, '\n') + 1;
    write_text(at(s, "a", ".txt"), text, (size_t)(cut - text));
    write_text(at(s, "b", ".txt"), cut, n - (size_t)(cut - text));
    free(text);
    write_config(s->config, 4, "");
    struct run r = {.out = "whole.gguf"};
    assert_ok(run_training(s, &r, &e), e);
    snprintf(first, sizeof first, "prose=%s", at(s, "a", ".txt"));
    snprintf(second, sizeof second, "prose=%s", at(s, "b", ".txt"));
    snprintf(code, sizeof code, "%s", s->code);
    const char *data[] = {first, code, second};
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data, o.n_data = 3, o.out = at(s, "parts.gguf", ""), o.threads = 1;
    assert_ok(cadre_train(&o, &e), e);
    assert_same_file(at(s, "whole.gguf", ""), at(s, "parts.gguf", ""));
    data[1] = "code=";
    o.out = at(s, "none.gguf", "");
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "expected DOMAIN=FILE");
}

/* A run from a model begins where that one ended: its vocabulary, its weights, a fresh optimizer. */
static void starts_from_a_model(void **state)
{
    struct scratch *s = *state;
    cadre_error e = {0};
    const char *data[] = {s->prose, s->code};
    struct run r = {.out = "first.gguf"}, next = {.out = "next.gguf"};
    write_config(s->config, 40, "");
    assert_ok(run_training(s, &r, &e), e);
    write_text(s->prose, "Entirely new text, about owls.\n", 31);
    char *more = make_text(6000, 9);
    write_text(s->code, more, 6000);
    free(more);
    write_config(s->config, 4, "heldout = 0\n");
    char text[4096];
    size_t n;
    char *config = slurp(s->config, &n), *heldout = strstr(config, "heldout = 0.1\nprose = 2\n");
    assert_non_null(heldout);
    snprintf(text, sizeof text, "%.*scode = 1\n%s", (int)(heldout - config), config, strstr(heldout, "[train]"));
    *strstr(text, "heldout = 0\n") = 0;
    free(config);
    write_text(s->config, text, strlen(text));
    char out[PATH_BYTES], init[PATH_BYTES];
    snprintf(out, sizeof out, "%s", at(s, "next.gguf", ""));
    snprintf(init, sizeof init, "%s", at(s, "first.gguf", ""));
    cadre_train_options o = cadre_train_options_default();
    o.config = s->config, o.data = data + 1, o.n_data = 1, o.out = out, o.init = init, o.threads = 1;
    o.on_progress = run_progress, o.user = &next;
    next.stop_at = 2;
    assert_fails(cadre_train(&o, &e), CADRE_E_CANCELLED, &e, "--resume");
    assert_true(next.first_loss < 4); /* not ln 300 = 5.7, although its vocabulary was never trained on this text */
    o.resume = true;
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "leave --init out, or --resume");
    o.init = NULL, next.stop_at = 0;
    assert_ok(cadre_train(&o, &e), e);
    /* In one go, the same. */
    o.resume = false, o.init = init;
    char whole[PATH_BYTES];
    snprintf(whole, sizeof whole, "%s", at(s, "whole.gguf", ""));
    o.out = whole;
    assert_ok(cadre_train(&o, &e), e);
    assert_same_file(whole, out);
    /* Another description. */
    char *ff = strstr(text, "expert_ff = 16");
    memcpy(ff, "expert_ff = 24", 14);
    write_text(s->config, text, strlen(text));
    o.out = at(s, "wrong.gguf", "");
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "another shape than [model] describes");
    memcpy(ff, "expert_ff = 16", 14);
    char *heads = strstr(text, "heads = 2");
    memcpy(heads, "heads = 4", 9);
    write_text(s->config, text, strlen(text));
    remove(at(s, "wrong.gguf", ".ckpt"));
    assert_fails(cadre_train(&o, &e), CADRE_E_ARG, &e, "heads 2, [model] says 4");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(loss_falls, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(threads_change_nothing, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(recompute_changes_nothing, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(knobs_act, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(micro_batches_add_up, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(bias_balance_moves_biases_alone, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(texts_of_a_domain_join, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(starts_from_a_model, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(shorter_runs_by_option, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
