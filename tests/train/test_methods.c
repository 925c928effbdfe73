/* The comparison of methods is complete: every row of the tables of routers, kinds of experts and layer schedules is in
 * bench/methods/experiment.ini, and docs/METHODS.md has a line of figures for every variant. */
#include "train_test.h"

#include "base/fileio.h"
#include "model/experts.h"
#include "train/experiment.h"

typedef const void *row_of(const struct spec *s);

static const void *router_of(const struct spec *s)
{
    return s->router.kind;
}

static const void *kind_of(const struct spec *s)
{
    return s->expert_kind;
}

static const void *schedule_of(const struct spec *s)
{
    return s->schedule;
}

static bool compared(const struct experiment *x, row_of *of, const void *row)
{
    for (int i = 0; i < x->n_variants; i++)
        if (x->variants[i].cfg.spec.n_expert > 0 && of(&x->variants[i].cfg.spec) == row)
            return true;
    return false;
}

static void every_row_is_compared(void **state)
{
    (void)state;
    struct experiment x;
    cadre_error e = {0};
    assert_ok(experiment_read(&x, ROOT "/bench/methods/experiment.ini", &e), e);
    for (int i = 0; router_at(i); i++)
        if (!compared(&x, router_of, router_at(i)))
            fail_msg(
                "bench/methods/experiment.ini has no variant with router = %s: add one, run it, and add its line to "
                "docs/METHODS.md",
                router_at(i)->name);
    for (int i = 0; expert_kind_at(i); i++)
        if (!compared(&x, kind_of, expert_kind_at(i)))
            fail_msg("bench/methods/experiment.ini has no variant with expert_kind = %s", expert_kind_at(i)->name);
    for (int i = 1; expert_schedule_at(i); i++) /* the first, uniform, is every other variant's */
        if (!compared(&x, schedule_of, expert_schedule_at(i)))
            fail_msg("bench/methods/experiment.ini has no variant with experts_used_schedule = %s",
                     expert_schedule_at(i)->name);
    experiment_free(&x);
}

static void every_variant_has_its_line(void **state)
{
    (void)state;
    static const char *const experiments[] = {ROOT "/bench/methods/experiment.ini",
                                              ROOT "/bench/dense-moe/experiment.ini"};
    cadre_error e = {0};
    char *text;
    size_t n;
    assert_ok(file_slurp(ROOT "/docs/METHODS.md", 1 << 20, &text, &n, &e), e);
    for (size_t i = 0; i < 2; i++) {
        struct experiment x;
        assert_ok(experiment_read(&x, experiments[i], &e), e);
        for (int v = 0; v < x.n_variants; v++) {
            char line[TRAIN_NAME + 8];
            snprintf(line, sizeof line, "\n| %s | ", x.variants[v].name);
            if (!strstr(text, line))
                fail_msg("docs/METHODS.md: no line for [%s] of %s", x.variants[v].name, experiments[i]);
        }
        experiment_free(&x);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_compared),
        cmocka_unit_test(every_variant_has_its_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
