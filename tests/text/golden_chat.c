/* golden_chat FOLDER: every case of the golden suite's chat templates, to the letter; where the expected result is a
 * refusal, the template itself must have refused. */
#include "test.h"

#include <jansson.h>

#include "text/template/template.h"

static const char *folder;

static const char *member(const json_t *j, const char *key)
{
    return json_string_value(json_object_get(j, key));
}

/* 2025-01-31 12:00 UTC: the clock of the suite. */
enum { NOW = 1738324800 };

static cadre_err render(const json_t *item, char **text, cadre_error *err)
{
    char path[4096];
    size_t n;
    struct template *t;
    const struct template_limits limits = template_limits_default();
    snprintf(path, sizeof path, "%s/%s", folder, member(item, "template"));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    static char source[1 << 20];
    size_t size = fread(source, 1, sizeof source, f);
    fclose(f);
    assert_ok(template_parse(&t, source, size, &limits, err), *err);
    json_t *v = json_pack("{s:O, s:O, s:O, s:O, s:O}", "messages", json_object_get(item, "messages"), "tools",
                          json_object_get(item, "tools"), "add_generation_prompt",
                          json_object_get(item, "add_generation_prompt"), "bos_token",
                          json_object_get(item, "bos_token"), "eos_token", json_object_get(item, "eos_token"));
    assert_non_null(v);
    cadre_err rc = template_render(t, v, NOW, &limits, text, &n, err);
    json_decref(v);
    template_free(t);
    return rc;
}

static void run_file(const char *name, int expected_cases)
{
    char path[4096], *line = NULL;
    size_t room = 0;
    int cases = 0, wrong = 0;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    for (; getline(&line, &room, f) > 0; cases++) {
        json_t *item = json_loads(line, 0, NULL);
        const char *expected = member(item, "expected");
        cadre_error err = {0};
        char *text = NULL;
        assert_non_null(item);
        cadre_err rc = render(item, &text, &err);
        if (expected ? rc != CADRE_OK || strcmp(text, expected) != 0
                     : rc != CADRE_E_ARG || !strstr(err.text, "the template refuses")) {
            wrong++;
            print_error("%s, %s: %s\n--- found\n%s\n--- expected\n%s\n", member(item, "template"),
                        member(item, "conversation"), err.text, text ? text : "(refused)",
                        expected ? expected : "a refusal");
        }
        free(text);
        json_decref(item);
    }
    free(line);
    fclose(f);
    assert_int_equal(wrong, 0);
    assert_true(cases >= expected_cases);
}

static void two_engines_agree(void **state)
{
    (void)state;
    run_file("cases.jsonl", 224);
}

static void one_engine_only(void **state)
{
    (void)state;
    run_file("one_engine.jsonl", 22);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(two_engines_agree), cmocka_unit_test(one_engine_only)};
    if (argc != 2)
        return 1;
    folder = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
