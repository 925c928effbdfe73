#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "plots.h"

struct view {
    bool json, quiet;
};

static bool show_prepare(void *user, const char *what, int64_t done, int64_t total)
{
    const struct view *v = user;
    cli_progress(v->quiet, what, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static bool show(void *user, const cadre_experiment_progress *p)
{
    const struct view *v = user;
    char what[160];
    snprintf(what, sizeof what, "run %d of %d: %s, seed %lld", p->run, p->n_runs, p->variant, (long long)p->seed);
    if (!v->quiet && isatty(STDERR_FILENO))
        cli_progress(false, what, p->done, 1);
    else if (!v->quiet && (!p->step || p->step->n_domains))
        fprintf(stderr, "%s: %s\n", what, p->step ? "trained" : "was there");
    return !cli_interrupted(NULL);
}

/* ---- the table ----------------------------------------------------------------------------------------- */

struct column {
    const char *title; /* in Markdown; NULL: in the TSV alone */
    const char *key;
    bool spread; /* mean and deviation over runs, else one number */
    int digits;  /* after the point; -1: in bytes, -2: by thousands, -3: in percent, with a sign */
};
static const struct column columns[] = {
    {"bits/byte", "bits_per_byte", true, 4},
    {"against first", "against_first", true, -3},
    {"parameters", "parameters", false, -2},
    {NULL, "active_parameters", false, -2},
    {NULL, "flops_per_token", false, -2},
    {"active FLOPs/token", "active_flops", true, -2},
    {"experts/token", "experts_per_token", true, 2},
    {"load max/mean", "load_max_mean", true, 2},
    {"routing entropy", "router_entropy", true, 2},
    {"tokens/s", "tokens_per_s", true, 0},
    {NULL, "memory_planned", true, -1},
    {"memory peak", "memory_peak", true, -1},
};
enum { N_COLUMNS = sizeof columns / sizeof *columns };

static void cell(char out[96], const json_t *variant, const struct column *c)
{
    const json_t *x = json_object_get(variant, c->key), *mean = c->spread ? json_object_get(x, "mean") : x;
    const json_t *deviation = json_object_get(x, "deviation");
    double m = json_number_value(mean);
    if (!json_is_number(mean))
        snprintf(out, 96, "–");
    else if (c->digits == -3)
        snprintf(out, 96, json_is_number(deviation) ? "%+.2f ± %.2f %%" : "%+.2f %%", m, json_number_value(deviation));
    else if (c->digits < 0)
        snprintf(out, 96, "%s", c->digits == -1 ? cli_bytes(m) : cli_count(m));
    else if (json_is_number(deviation))
        snprintf(out, 96, "%.*f ± %.*f", c->digits, m, c->digits, json_number_value(deviation));
    else
        snprintf(out, 96, "%.*f", c->digits, m);
}

static void print_markdown(FILE *f, const json_t *variants)
{
    fprintf(f, "| variant |");
    for (int i = 0; i < N_COLUMNS; i++)
        if (columns[i].title)
            fprintf(f, " %s |", columns[i].title);
    fprintf(f, "\n|---|");
    for (int i = 0; i < N_COLUMNS; i++)
        if (columns[i].title)
            fprintf(f, "---:|");
    for (size_t v = 0; v < json_array_size(variants); v++) {
        const json_t *variant = json_array_get(variants, v);
        fprintf(f, "\n| %s |", json_string_value(json_object_get(variant, "name")));
        for (int i = 0; i < N_COLUMNS; i++) {
            char text[96];
            if (!columns[i].title)
                continue;
            cell(text, variant, &columns[i]);
            fprintf(f, " %s |", text);
        }
    }
    fputc('\n', f);
}

static void tsv_number(FILE *f, const json_t *x)
{
    if (json_is_number(x))
        fprintf(f, "\t%.10g", json_number_value(x));
    else
        fputc('\t', f);
}

static void print_tsv(FILE *f, const json_t *variants)
{
    fprintf(f, "variant");
    for (int i = 0; i < N_COLUMNS; i++)
        fprintf(f, "\t%s%s%s%s", columns[i].key, columns[i].spread ? "\t" : "", columns[i].spread ? columns[i].key : "",
                columns[i].spread ? "_deviation" : "");
    for (size_t v = 0; v < json_array_size(variants); v++) {
        const json_t *variant = json_array_get(variants, v);
        fprintf(f, "\n%s", json_string_value(json_object_get(variant, "name")));
        for (int i = 0; i < N_COLUMNS; i++) {
            const json_t *x = json_object_get(variant, columns[i].key);
            tsv_number(f, columns[i].spread ? json_object_get(x, "mean") : x);
            if (columns[i].spread)
                tsv_number(f, json_object_get(x, "deviation"));
        }
    }
    fputc('\n', f);
}

static void print_text(FILE *f, const json_t *text)
{
    fputs(json_string_value(text), f);
}

static int write_as(const char *folder, const char *name, void (*print)(FILE *, const json_t *), const json_t *j)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "we");
    if (f)
        print(f, j);
    bool failed = !f || ferror(f);
    if ((f && fclose(f) != 0) || failed) {
        fprintf(stderr, "cadre: %s: %s\n", path, strerror(errno));
        return EXIT_FAILED;
    }
    return EXIT_DONE;
}

static int write_all(const char *folder, const char *json, const struct view *view)
{
    json_t *table = json_loads(json, 0, NULL), *text = json_string(json);
    const json_t *variants = json_object_get(table, "variants");
    int status = write_as(folder, "table.json", print_text, text);
    if (status == EXIT_DONE)
        status = write_as(folder, "table.tsv", print_tsv, variants);
    if (status == EXIT_DONE)
        status = write_as(folder, "table.md", print_markdown, variants);
    if (status == EXIT_DONE)
        status = plot_experiment(folder, table);
    if (status == EXIT_DONE && view->json)
        puts(json);
    else if (status == EXIT_DONE)
        print_markdown(stdout, variants);
    json_decref(table);
    json_decref(text);
    return status;
}

static int run(const struct verb *v, int argc, char **argv)
{
    cadre_experiment_options o = {0};
    struct common c = {0};
    struct texts data = {0};
    const struct option_row rows[] = {
        {"--config", 0, OPTION_TEXT, &o.config, "FILE", "the experiment: base, seeds, a section a variant", 0, 0},
        {"--data", 0, OPTION_TEXTS, &data, "FILE…", "text files, as for training", 0, 0},
        {"--out", 'o', OPTION_TEXT, &o.out, "FOLDER", "runs, tables, plots; finished runs in it are kept", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, NULL, argc, argv);
    if (status >= 0)
        return status;
    if (!o.config || !data.n || !o.out)
        return cli_usage(v, "--config, --data and --out are needed");
    cadre_error err = {0};
    struct view view = {.json = c.json, .quiet = c.quiet};
    char *json = NULL;
    o.data = data.at;
    o.n_data = data.n;
    o.threads = (int)c.threads;
    o.isa = c.isa;
    o.on_progress = show;
    o.on_prepare = show_prepare;
    o.user = &view;
    if (cadre_experiment(&o, &json, &err))
        return cli_fail(&err);
    status = write_all(o.out, json, &view);
    cadre_free(json);
    return status;
}

const struct verb verb_compare = {"compare", "--config FILE --data FILE… --out FOLDER [options]",
                                  "train variants under equal conditions: one table, plots",
                                  HAS_MACHINE | HAS_JSON | HAS_TALK, run};
