/* Descriptions: defaults, and every way to be wrong, each with an error that names the place. */
#include "train_test.h"

#include "model/family.h"
#include "train/config.h"

#define GOOD TINY_MODEL TINY_TRAIN "tokens = 1000\n"

static void good_one_is_read(void **state)
{
    (void)state;
    struct train_config c;
    cadre_error e = {0};
    assert_ok(train_config_parse(&c, "t.ini", GOOD, &e), e);
    assert_int_equal(c.spec.n_layer, 2);
    assert_int_equal(c.spec.n_kv_head, 2); /* as many as heads */
    assert_int_equal(c.spec.head_dim, 16); /* width / heads */
    assert_int_equal(c.spec.router.k, 2);
    assert_int_equal(c.spec.n_vocab, 300);
    assert_int_equal(c.n_domains, 2);
    assert_string_equal(c.domains[1].name, "code");
    assert_true(c.domains[0].weight == 2 && c.domains[1].weight == 1);
    assert_true(c.lr == 3e-3 && c.beta2 == 0.95);
    assert_string_equal(c.precision, "bf16");
    struct train_config other;
    assert_ok(train_config_parse(&other, "t.ini", GOOD "seed = 7\n", &e), e);
    assert_true(other.hash != c.hash);
}

/* What a description does not say must not be taken for structure that other projects' architectures cannot save. */
static void models_of_other_families_can_be_saved(void **state)
{
    (void)state;
    static const char *const families[] = {
        "family = qwen2moe\nqkv_bias = true\nshared_ff = 16\nshared_gated = true\n",
        "family = olmoe\nqk_norm = full\n",
        "family = qwen3moe\nqk_norm = head\nrouter_normalize = true\n",
        "family = llama\nrope_pairs = true\nrouter_normalize = true\n",
    };
    struct train_config c;
    cadre_error e = {0};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        char text[1024];
        snprintf(text, sizeof text,
                 "[model]\n%slayers = 2\nwidth = 32\nheads = 2\ncontext = 32\nexperts = 4\nexperts_used = 2\n"
                 "expert_ff = 16\n" TINY_TRAIN "tokens = 1000\n",
                 families[i]);
        assert_ok(train_config_parse(&c, "t.ini", text, &e), e);
        assert_ok(spec_can_write(&c.spec, &e), e);
    }
    assert_ok(train_config_read(&c, ROOT "/models/cadre-default.ini", &e), e);
    assert_ok(spec_can_write(&c.spec, &e), e);
}

static void wrong_ones_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *named;
    } rows[] = {
        {"[model]\nlayers = 2\nwidht = 3\n", "t.ini: line 3: [model] widht: unknown key"},
        {"[modle]\nlayers = 2\n", "t.ini: line 2: [modle] layers: unknown key"},
        {"layers = 2\n", "t.ini: line 1: [] layers: unknown key"},
        {"[model\nlayers = 2\n", "line 1"},
        {"[model]\nno value here\n", "line 2: expected [section] or key = value"},
        {"[model]\nlayers = 0\n", "t.ini: line 2: [model] layers: expected a whole number from 1 to"},
        {"[model]\nlayers = 2.5\n", "found '2.5'"},
        {"[model]\nlayers = 99999999999999999999\n", "layers: expected a whole number"},
        {"[model]\nlayers =\n", "layers: expected a whole number"},
        {"[model]\ntied = yes\n", "tied: expected true or false, found 'yes'"},
        {"[train]\nlr = nan\n", "lr: expected a number from 0 to 10, found 'nan'"},
        {"[train]\nlr = 1e10\n", "lr: expected a number"},
        {"[train]\nlr = 1x\n", "found '1x'"},
        {"[train]\noptimizer = 0123456789012345678901234567890123456789012345678901234567890123\n",
         "a name of 1 to 63"},
        {"[train]\nlr = 1\nlr = 2\nclip = 1\n", "t.ini: line 3: [train] lr: given twice"},
        {"[data]\nprose = 1\nprose = 2\n", "t.ini: line 3: [data] prose: given twice"},
        {"[data]\nprose = -1\n", "[data] prose: expected a weight of at least 0"},
        {"[model]\nwidth = 32\nheads = 2\ncontext = 32\n", "[model] layers is missing"},
        {TINY_MODEL TINY_TRAIN, "[train] tokens is missing"},
        {GOOD "[model]\nrouter = best\n", "router: there is no router 'best'"},
        {GOOD "[model]\nexpert_kind = best\n", "expert_kind: there is no kind 'best'"},
        {GOOD "[model]\nqk_norm = some\n", "qk_norm: expected none, head or full"},
        {GOOD "[model]\nkv_heads = 3\n", "t.ini: [model]: "},
        {GOOD "precision = f64\n", "precision: expected bf16 or f32, found 'f64'"},
        {GOOD "[train]\nbalance = bias\n[model]\n", NULL}, /* right: the tiny model has the bias */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct train_config c;
        cadre_error e = {0};
        cadre_err rc = train_config_parse(&c, "t.ini", rows[i].text, &e);
        if (!rows[i].named)
            assert_ok(rc, e);
        else if (rc == CADRE_OK || e.code != rc || !strstr(e.text, rows[i].named))
            fail_msg("row %zu: expected '%s', found %d: %s", i, rows[i].named, rc, e.text);
    }
}

/* The good description with one line changed. */
static cadre_err parse_with(const char *from, const char *to, cadre_error *e)
{
    char text[2048];
    const char *hit = strstr(GOOD, from);
    assert_non_null(hit);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(hit - GOOD), GOOD, to, hit + strlen(from));
    struct train_config c;
    return train_config_parse(&c, "t.ini", text, e);
}

static void inconsistent_numbers_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *named;
    } rows[] = {
        {"sequence = 16", "sequence = 64", "sequence 64 is longer than [model] context 32"},
        {"sequence = 16", "sequence = 24", "micro_tokens (64) must be a multiple of sequence (24)"},
        {"batch_tokens = 128", "batch_tokens = 100", "batch_tokens (100)"},
        {"experts_used = 2", "experts_used = 5", "expert_used_count"},
        {"experts = 4", "experts = 0", "t.ini: [model]"},
        {"file_type = f32", "file_type = q3_k",
         "file_type: expected a format that can be written (f32, bf16, q8_0, q4_k, …), found 'q3_k'"},
        {"router_bias = true", "router_bias = true\nrouter_groups = 3\nrouter_groups_used = 1", "t.ini: [model]"},
        {"tokens = 1000", "tokens = 1000\nbalance = bias", NULL},
        {"vocab = 300", "vocab = 100", "[tokenizer] vocab: expected a whole number from 257"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_error e = {0};
        cadre_err rc = parse_with(rows[i].from, rows[i].to, &e);
        if (!rows[i].named)
            assert_ok(rc, e);
        else if (rc == CADRE_OK || !strstr(e.text, rows[i].named))
            fail_msg("row %zu: expected '%s', found %d: %s", i, rows[i].named, rc, e.text);
    }
    cadre_error e = {0};
    char text[2048];
    const char *hit = strstr(GOOD, "router_bias = true\n");
    snprintf(text, sizeof text, "%.*s%sbalance = bias\n", (int)(hit - GOOD), GOOD,
             hit + strlen("router_bias = true\n"));
    struct train_config c;
    assert_fails(train_config_parse(&c, "t.ini", text, &e), CADRE_E_ARG, &e, "set [model] router_bias = true");
}

static void files_are_checked(void **state)
{
    struct scratch *s = *state;
    struct train_config c;
    cadre_error e = {0};
    assert_fails(train_config_read(&c, "/nowhere/t.ini", &e), CADRE_E_IO, &e, "/nowhere/t.ini");
    write_text(s->config, "[model]\0x", 9);
    assert_fails(train_config_read(&c, s->config, &e), CADRE_E_FORMAT, &e, "found a 0 byte");
    assert_fails(train_config_read(&c, s->dir, &e), CADRE_E_IO, &e, s->dir);
}

static void runs_refuse_what_cannot_act(void **state)
{
    struct scratch *s = *state;
    static const struct {
        const char *more, *named;
    } rows[] = {
        {"balance = fair\n", "balance: expected none, switch, global or bias, found 'fair'"},
        {"optimizer = sgd\n", "optimizer: expected adamw or muon, found 'sgd'"},
        {"momentum = 0.9\n", "momentum acts with optimizer = muon only"},
        {"schedule = cubic\n", "schedule: expected cosine, wsd or constant, found 'cubic'"},
        {"decay_share = 0.5\n", "decay_share acts with schedule = wsd only"},
        {"schedule = constant\nlr_final = 1e-5\n", "lr_final acts with a schedule that decays only"},
        {"schedule = wsd\ndecay_shape = cubic\n", "decay_shape: expected sqrt or linear, found 'cubic'"},
        {"[data]\nverse = 1\n", "[data] verse: no text file of that domain was given"},
        {"[model]\nfamily = gpt\n", "unsupported architecture 'gpt'"},
        {"[model]\nfamily = llama\n", "[model]"},
        {"[tokenizer]\npre = none\n", "none"},
        {"[tokenizer]\nspecials = <a> <b> <a>\n", "[tokenizer] specials: <a> is given twice"},
        {"[tokenizer]\nspecials = <|endoftext|>\n", "<|endoftext|> is in every vocabulary"},
        {"[tokenizer]\ntrain_bytes = 100\n", "give more text, or ask for fewer"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct run r = {.out = "m.gguf"};
        cadre_error e = {0};
        write_config(s->config, 2, rows[i].more);
        cadre_err rc = run_training(s, &r, &e);
        if (rc == CADRE_OK || !strstr(e.text, rows[i].named))
            fail_msg("row %zu: expected '%s', found %d: %s", i, rows[i].named, rc, e.text);
        assert_int_not_equal(access(at(s, "m.gguf", ""), F_OK), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_one_is_read),
        cmocka_unit_test(models_of_other_families_can_be_saved),
        cmocka_unit_test(wrong_ones_are_named),
        cmocka_unit_test(inconsistent_numbers_are_named),
        cmocka_unit_test_setup_teardown(files_are_checked, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(runs_refuse_what_cannot_act, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
