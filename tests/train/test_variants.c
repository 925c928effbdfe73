/* Every router and structure of experts in training: the same bytes for 1 and 2 threads and after stopping and going
 * on, and a model that opens and does what the row promises. */
#include "train_test.h"

#include <math.h>

#include "cadre.h"

enum { STEPS = 8, STOP = 4 };

static const struct {
    const char *more;
    bool generates;
} variants[] = {
    {"[model]\nrouter = noisy\n", true},
    {"[model]\nrouter = gshard\nrouter_capacity = 1\n", true},
    {"[model]\nrouter = top_p\nrouter_threshold = 0.5\n", true},
    {"[model]\nrouter = threshold\nrouter_threshold = 0.3\n", true},
    {"[model]\nrouter = null\nexperts_zero = 2\n", true},
    {"[model]\nrouter = expert_choice\n", false},
    {"[model]\nrouter = grouped\nrouter_groups = 2\n", true},
    {"[model]\nrouter = dense_to_sparse\nrouter_threshold = 0.05\n", true},
    {"[model]\nrouter = random\nexperts_used_start = 1\nrouter_normalize = true\n", true},
    {"[model]\nrouter_state = 8\n", true},
    {"[model]\nrouter_residual = true\nexperts_zero = 1\nexperts_copy = 1\nexperts_constant = 1\n", true},
    {"[model]\nexpert_slices = 1,2\n", true},
    {"[model]\nexpert_latent = 8\n", true},
    {"[model]\nexpert_heads = 2\n", true},
    {"[model]\nexpert_chain = 2\n", true},
    {"[model]\nexperts_used_schedule = descending\nexperts_used_min = 1\n", true},
    {"[train]\ndiversify_share = 0.5\ndiversify_mask = 0.2\n", true},
};
enum { N_VARIANTS = sizeof variants / sizeof *variants };

static void same_model_and_log(const struct scratch *s, const char *other)
{
    assert_same_file(at(s, "one.gguf", ""), at(s, other, ""));
    assert_same_file(at(s, "one.gguf", ".ckpt"), at(s, other, ".ckpt"));
    assert_same_log(at(s, "one.gguf", ".log.jsonl"), at(s, other, ".log.jsonl"));
}

static void remove_run(const struct scratch *s, const char *name)
{
    remove(at(s, name, ""));
    remove(at(s, name, ".ckpt"));
    remove(at(s, name, ".log.jsonl"));
}

static void train_fresh(const struct scratch *s, const char *name, int threads, int64_t stop_at)
{
    struct run r = {.out = name, .threads = threads, .stop_at = stop_at};
    cadre_error e = {0};
    remove_run(s, name);
    if (stop_at)
        assert_fails(run_training(s, &r, &e), CADRE_E_CANCELLED, &e, "--resume");
    else
        assert_ok(run_training(s, &r, &e), e);
}

static void threads_and_stops_change_nothing(void **state)
{
    const struct scratch *s = *state;
    for (int i = 0; i < N_VARIANTS; i++) {
        write_config(s->config, STEPS, variants[i].more);
        train_fresh(s, "one.gguf", 1, 0);
        train_fresh(s, "two.gguf", 2, 0);
        same_model_and_log(s, "two.gguf");
        train_fresh(s, "parts.gguf", 2, STOP);
        struct run r = {.out = "parts.gguf", .threads = 1, .resume = true};
        cadre_error e = {0};
        assert_ok(run_training(s, &r, &e), e);
        same_model_and_log(s, "parts.gguf");
    }
}

static cadre_err generate(const struct scratch *s, const char *name, cadre_error *e)
{
    cadre_model *m;
    cadre_generation g = {0};
    cadre_model_options mo = cadre_model_options_default();
    cadre_generate_options go = cadre_generate_options_default();
    go.max_tokens = 6;
    go.temperature = 0;
    cadre_err rc = cadre_model_open(&m, at(s, name, ""), &mo, e);
    if (rc)
        return rc;
    rc = cadre_generate(m, "the router", &go, &g, e);
    cadre_generation_free(&g);
    cadre_model_close(m);
    return rc;
}

static void what_can_generate_does(void **state)
{
    const struct scratch *s = *state;
    for (int i = 0; i < N_VARIANTS; i++) {
        cadre_error e = {0};
        write_config(s->config, 2, variants[i].more);
        train_fresh(s, "one.gguf", 2, 0);
        cadre_err rc = generate(s, "one.gguf", &e);
        if (variants[i].generates)
            assert_ok(rc, e);
        else
            assert_fails(rc, CADRE_E_UNSUPPORTED, &e, "for training, not for generation");
    }
}

/* What may stand beside a variant. */
static const char *const others[] = {
    "[model]\nrouter = sigmoid\n",
    "[model]\nrouter = topk_softmax\n",
    "[model]\nrouter = sparse_mixer\nrouter_threshold = 0.1\n",
    "[model]\nexpert_kind = reglu\n",
    "[model]\nexpert_kind = swiglu_clamped\n",
    "[model]\nshared_gated = true\n",
    "[model]\nrouter_normalize = true\n",
    "[model]\nrouter_groups = 2\nrouter_groups_used = 1\n",
    "[model]\ndense_leading = 1\ndense_ff = 32\n",
    "[model]\nqk_norm = head\ntied = false\n",
    "[model]\nexperts_zero = 1\n",
    "[model]\nexperts_used_start = 1\n",
    "[model]\nrouter_scale = 2\n",
    "[train]\nbalance = bias\n",
    "[train]\nbalance = switch\n",
    "[train]\nbalance = none\n",
    "[train]\noptimizer = muon\n",
    "[train]\nprecision = f32\n",
    "[train]\nrecompute = true\n",
    "[train]\ninit_std = 0.1\n",
};
enum { N_OTHERS = sizeof others / sizeof *others };

static const char *part(int i)
{
    return i < N_VARIANTS ? variants[i].more : others[i - N_VARIANTS];
}

/* Two parts of a description together train a model that opens and generates, or are refused before anything is
 * written. */
static void pairs_train_or_are_refused(void **state)
{
    const struct scratch *s = *state;
    int trained = 0, refused = 0;
    for (int i = 0; i < N_VARIANTS + N_OTHERS; i++)
        for (int j = 0; j < i; j++) {
            char more[256];
            struct run r = {.out = "pair.gguf"};
            cadre_error e = {0};
            snprintf(more, sizeof more, "%s%s", part(i), part(j));
            write_config(s->config, 2, more);
            remove_run(s, r.out);
            if (run_training(s, &r, &e) == CADRE_OK) {
                cadre_err rc = generate(s, r.out, &e);
                if (!isfinite(r.last_loss) || (rc && !strstr(e.text, "for training, not for generation")))
                    fail_msg("%s: loss %g, %s", more, r.last_loss, e.text);
                trained++;
                continue;
            }
            if (e.code != CADRE_E_ARG && e.code != CADRE_E_UNSUPPORTED && e.code != CADRE_E_FORMAT)
                fail_msg("%s: %s", more, e.text);
            assert_int_equal(access(at(s, r.out, ""), F_OK), -1);
            refused++;
        }
    print_message("%d trained, %d refused\n", trained, refused);
    assert_true(trained > 500 && refused > 50);
}

static void recompute_changes_no_variant(void **state)
{
    const struct scratch *s = *state;
    int same = 0;
    for (int i = 0; i < N_VARIANTS + N_OTHERS; i++) {
        char more[256];
        struct run r = {.out = "dropped.gguf"};
        cadre_error e = {0};
        snprintf(more, sizeof more, "%s[train]\nrecompute = true\n", part(i));
        write_config(s->config, 3, more);
        remove_run(s, r.out);
        if (run_training(s, &r, &e)) {
            assert_non_null(strstr(e.text, "recompute"));
            continue;
        }
        write_config(s->config, 3, part(i));
        train_fresh(s, "one.gguf", 2, 0);
        assert_same_file(at(s, "one.gguf", ""), at(s, r.out, ""));
        assert_same_log(at(s, "one.gguf", ".log.jsonl"), at(s, r.out, ".log.jsonl"));
        same++;
    }
    assert_true(same > 25);
}

static void wrong_descriptions_are_told(void **state)
{
    const struct scratch *s = *state;
    static const struct {
        const char *more, *says;
    } wrong[] = {
        {"[model]\nrouter = top_p\n", "threshold"},
        {"[model]\nrouter = switch\n", "expected 1"},
        {"[model]\nrouter = null\n", "experts_zero"},
        {"[model]\nexpert_slices = 1,,2\n", "1,1,2"},
        {"[model]\nexperts_used_schedule = upwards\n", "upwards"},
        {"[model]\nexperts_used_schedule = wave\n", "experts_used_min"},
        {"[model]\nexpert_heads = 3\n", "expert_head_count"},
        {"[model]\nrouter_state = 4\n[train]\nrecompute = true\n", "recompute"},
        {"[model]\nexpert_chain = 2\n[train]\nrecompute = true\n", "recompute"},
        {"[model]\nrouter_capacity = 1\n", "router_capacity"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct run r = {.out = "wrong.gguf"};
        cadre_error e = {0};
        write_config(s->config, STEPS, wrong[i].more);
        cadre_err rc = run_training(s, &r, &e);
        if (rc == CADRE_OK || !strstr(e.text, wrong[i].says))
            fail_msg("%s: \"%s\" does not say \"%s\"", wrong[i].more, e.text, wrong[i].says);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(threads_and_stops_change_nothing, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(what_can_generate_does, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(pairs_train_or_are_refused, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(recompute_changes_no_variant, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(wrong_descriptions_are_told, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
