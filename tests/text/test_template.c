/* Chat templates by themselves: what must be refused and how, limits, memory that runs out. What correct templates give
 * is held against other engines by tests/jinja and the golden suite. */
#include "test.h"

#include <jansson.h>

#include "alloc_fail.h"
#include "text/template/template.h"

static struct template_limits limits;

static cadre_err run(const char *source, const char *variables, char **text, cadre_error *err)
{
    struct template *t;
    size_t n = 0;
    *text = NULL;
    cadre_err rc = template_parse(&t, source, strlen(source), &limits, err);
    if (rc)
        return rc;
    json_t *v = json_loads(variables, JSON_ALLOW_NUL, NULL);
    assert_non_null(v);
    rc = template_render(t, v, 0, &limits, text, &n, err);
    if (rc == CADRE_OK)
        assert_int_equal(strlen(*text), n);
    else
        assert_null(*text);
    json_decref(v);
    template_free(t);
    return rc;
}

static int fresh_limits(void **state)
{
    (void)state;
    limits = template_limits_default();
    return 0;
}

static void gives(const char *source, const char *expected)
{
    cadre_error err = {0};
    char *text;
    assert_ok(run(source, "{\"x\": 1, \"s\": \"é\", \"m\": [{\"role\": \"user\"}]}", &text, &err), err);
    assert_string_equal(text, expected);
    free(text);
}

static void refuses(const char *source, cadre_err code, const char *what)
{
    cadre_error err = {0};
    char *text;
    cadre_err rc = run(source, "{\"x\": 1, \"s\": \"é\", \"m\": [{\"role\": \"user\"}]}", &text, &err);
    if (rc != code || !strstr(err.text, what))
        fail_msg("%s: expected error %d naming '%s', found %d: %s", source, code, what, rc, err.text);
    free(text);
}

static void errors_name_line_expected_and_found(void **state)
{
    (void)state;
    refuses("a\n\n{{ 1 + }}", CADRE_E_FORMAT, "line 3: expected an expression, found '}}'");
    refuses("{% if x %}\n\na", CADRE_E_FORMAT, "line 3: expected '{% endif %}', found the end");
    refuses("\n{{ q.y }}", CADRE_E_FORMAT, "line 2: 'q' is undefined");
    refuses("{{ m[0].y.z }}", CADRE_E_FORMAT, "a dict has no 'y'");
    refuses("{{ x | nofilter }}", CADRE_E_FORMAT, "there is no filter 'nofilter'");
    refuses("{{ 'a' + 1 }}", CADRE_E_FORMAT, "a str and a int cannot be joined with '+'");
    refuses("{{ x | replace('a') }}", CADRE_E_FORMAT, "filter replace: expected an argument 'new', found none");
    refuses("{{ x | upper(1) }}", CADRE_E_FORMAT, "filter upper: expected at most 0 arguments, found 1");
    refuses("{{ x | int(bogus=1) }}", CADRE_E_FORMAT, "it has no argument 'bogus'");
    refuses("\n{{ raise_exception('roles must alternate') }}", CADRE_E_ARG,
            "line 2: the template refuses: roles must alternate");
    refuses("{% include 'a' %}", CADRE_E_UNSUPPORTED, "'include'");
    refuses("\xff", CADRE_E_FORMAT, "not UTF-8");
    refuses("{{ 9223372036854775807 + 1 }}", CADRE_E_FORMAT, "64 bits");
    refuses("{{ -9223372036854775807 - 2 }}", CADRE_E_FORMAT, "64 bits");
    refuses("{{ (-9223372036854775807 - 1) // -1 }}", CADRE_E_FORMAT, "64 bits");
}

static void limits_hold(void **state)
{
    (void)state;
    refuses("{{ range(10**12) }}", CADRE_E_MEMORY, "range");
    refuses("{{ 'a' * 10**9 }}", CADRE_E_MEMORY, "more than the limit");
    refuses("{{ [1] * 10**15 }}", CADRE_E_MEMORY, "memory limit");
    refuses("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", CADRE_E_MEMORY, "levels deep");
    refuses("{{ 'x' | indent(10**12, true) }}", CADRE_E_MEMORY, "limit");
    refuses("{{ '%9999999999d' % 1 }}", CADRE_E_MEMORY, "wider");
    refuses("{{ '{:9999999999}'.format(1) }}", CADRE_E_MEMORY, "wider");
    refuses("{{ 'a'.center(10**12) }}", CADRE_E_MEMORY, "limit");
    refuses("{% set a = [] %}{% set b = a.append(a) %}{{ a }}", CADRE_E_MEMORY, "levels deep");
    refuses("{% set a = [] %}{% set b = a.append(a) %}{{ a == [a] or a == [[a]] }}{{ a | tojson }}", CADRE_E_MEMORY,
            "levels deep");
    limits.steps = 200000;
    refuses("{{ ('a' * 400000).rfind('b' ~ 'a' * 200000) }}{{ ('a' * 400000).rfind('a' * 200000 ~ 'b') }}",
            CADRE_E_MEMORY, "steps");
    refuses("{{ ('a' * 100000).strip('b' * 100000 ~ 'a') }}", CADRE_E_MEMORY, "steps");
    refuses("{{ range(0, 9223372036854775807, 4611686018427387904)[0:] | list }}", CADRE_E_FORMAT, "64 bits");
    limits.steps = 100000;
    refuses("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}", CADRE_E_MEMORY, "steps");
    refuses("{% set ns = namespace(a=[1]) %}{% for i in range(60) %}{% set ns.a = [ns.a, ns.a] %}{% endfor %}"
            "{{ ns.a == [ns.a[0], ns.a[1]] }}",
            CADRE_E_MEMORY, "");
    limits.output = 1000;
    refuses("{% for a in range(1000) %}ab{% endfor %}", CADRE_E_MEMORY, "longer than the limit of 1000 bytes");
    limits = template_limits_default();
    limits.memory = 1 << 20;
    refuses(
        "{% set ns = namespace(s='0123456789') %}{% for a in range(1000) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        CADRE_E_MEMORY, "memory");
}

/* Brackets, signs, blocks: whatever nests, ends with an error and not with the stack. */
static void deep_nesting_is_refused(void **state)
{
    static const char *const openings[] = {"(", "[", "{1:", "not ", "-", "x if ", "x[", "f(", "1 if 1 else "};
    static char source[200000];
    (void)state;
    for (size_t i = 0; i < sizeof openings / sizeof *openings; i++) {
        size_t n = (size_t)sprintf(source, "{{ ");
        while (n < 100000)
            n += (size_t)sprintf(source + n, "%s", openings[i]);
        cadre_error err = {0};
        char *text;
        assert_int_not_equal(run(source, "{}", &text, &err), CADRE_OK);
    }
    size_t n = 0;
    while (n < 100000)
        n += (size_t)sprintf(source + n, "{%% if 1 %%}");
    refuses(source, CADRE_E_MEMORY, "levels deep");
    n = (size_t)sprintf(source, "{{ 1 ");
    while (n < 100000)
        n += (size_t)sprintf(source + n, "+ 1 ");
    sprintf(source + n, "}}");
    refuses(source, CADRE_E_MEMORY, "levels deep");
}

/* What is easily wrong and that other engines' tests do not pin down. */
static void own_rules(void **state)
{
    (void)state;
    gives("{% set l = [] %}{% set _ = l.append(1) %}{% set _ = l.extend([2, 3]) %}{{ l.pop(0) }}{{ l }}", "1[2, 3]");
    gives("{% set d = {} %}{% set _ = d.update({'a': 1}, b=2) %}{{ d.pop('a') }}{{ d }}{{ d.pop('q', 0) }}",
          "1{'b': 2}0");
    gives("{% set l = [3, 1] %}{% set _ = l.insert(1, 2) %}{% set _ = l.remove(3) %}{% set _ = l.reverse() %}{{ l }}",
          "[1, 2]");
    gives(
        "{{ 'a'.center(-9223372036854775807 - 1) }}{{ 'abcabc'.rfind('bc') }}{{ 'abc'.rfind('') }}{{ ''.rfind('a') }}",
        "a43-1");
    gives("{{ m | map(attribute='role') | tojson }}", "[\"user\"]");
    gives("{{ s | length }}{{ s | upper }}{{ strftime_now('%Y-%m-%d') }}", "1É1970-01-01");
    gives("{% set n = namespace(d={}) %}{% for i in range(100) %}{% set _ = n.d.update({i: i * i}) %}{% endfor %}"
          "{{ n.d[99] }} {{ n.d | length }} {{ 100 in n.d }} {% set _ = n.d.pop(5) %}{{ 5 in n.d }} {{ n.d | length }}",
          "9801 100 False False 99");
}

/* Every allocation fails once: a clear error, nothing lost. */
static void memory_that_runs_out(void **state)
{
    static const char text[] = "{% set d = {'a': [1, 2]} %}{% for k, v in d.items() %}{{ k }}{{ v | map('string') | "
                               "join(',') }}{% endfor %}{{ 'é'.upper() * 100000 }}{{ d | tojson(indent=2) }}";
    (void)state;
    for (int n = 0;; n++) {
        struct template *t = NULL;
        char *out = NULL;
        size_t size;
        cadre_error err = {0};
        json_t *v = json_pack("{s:i}", "x", 1);
        fail_at = n;
        cadre_err rc = template_parse(&t, text, sizeof text - 1, &limits, &err);
        if (rc == CADRE_OK)
            rc = template_render(t, v, 0, &limits, &out, &size, &err);
        bool reached = fail_at < 0;
        fail_at = -1;
        template_free(t);
        json_decref(v);
        free(out);
        if (!reached) {
            assert_int_equal(rc, CADRE_OK);
            assert_true(n > 4);
            return;
        }
        assert_int_equal(rc, CADRE_E_MEMORY);
        assert_non_null(strstr(err.text, "no memory"));
    }
}

static void presets_hold_conversations(void **state)
{
    static const char variables[] = "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", "
                                    "\"content\": \"Q\"}, {\"role\": \"assistant\", \"content\": \"A\"}, {\"role\": "
                                    "\"user\", \"content\": \"R\"}], \"bos_token\": \"<s>\", \"eos_token\": \"</s>\", "
                                    "\"add_generation_prompt\": true}";
    static const char *const expected[][2] = {
        {"plain", "S\n\nUser: Q\nAssistant: A\nUser: R\nAssistant:"},
        {"chatml",
         "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n"
         "<|im_start|>user\nR<|im_end|>\n<|im_start|>assistant\n"},
        {"llama3",
         "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
         "Q<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|><|start_header_id|>user"
         "<|end_header_id|>\n\nR<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
        {"mistral", "[INST] S\n\nQ [/INST]A</s>[INST] R [/INST]"},
        {"gemma",
         "<start_of_turn>user\nS\n\nQ<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n<start_of_turn>user\n"
         "R<end_of_turn>\n<start_of_turn>model\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        cadre_error err = {0};
        char *text;
        assert_non_null(template_builtin(expected[i][0]));
        assert_non_null(strstr(template_builtin_names(), expected[i][0]));
        assert_ok(run(template_builtin(expected[i][0]), variables, &text, &err), err);
        assert_string_equal(text, expected[i][1]);
        free(text);
    }
    assert_null(template_builtin("nothing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(errors_name_line_expected_and_found, fresh_limits),
        cmocka_unit_test_setup(limits_hold, fresh_limits),
        cmocka_unit_test_setup(deep_nesting_is_refused, fresh_limits),
        cmocka_unit_test_setup(own_rules, fresh_limits),
        cmocka_unit_test_setup(memory_that_runs_out, fresh_limits),
        cmocka_unit_test_setup(presets_hold_conversations, fresh_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
