#include <stdio.h>
#include <string.h>

#include "cli.h"

#define TYPES "f32|f16|bf16|q8_0|q4_0|q4_1|q5_0|q5_1|q4_k|q5_k|q6_k|mxfp4"

/* What is shown while it runs, and kept for the report. */
struct watch {
    const char *what;
    const struct common *c;
    json_t *warnings, *types;
};

static bool show(void *user, int64_t done, int64_t total)
{
    const struct watch *w = user;
    cli_progress(w->c->quiet, w->what, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static void on_warning(void *user, const char *text)
{
    const struct watch *w = user;
    json_array_append_new(w->warnings, json_string(text));
    if (!w->c->quiet)
        fprintf(stderr, "warning: %s\n", text);
}

static void on_tensor(void *user, const char *name, const char *from, const char *to, uint64_t bytes)
{
    const struct watch *w = user;
    json_t *n = json_object_get(w->types, to);
    json_object_set_new(w->types, to, json_integer(n ? json_integer_value(n) + 1 : 1));
    if (w->c->verbose)
        fprintf(stderr, "%-36s %-9s to %-6s %s\n", name, from, to, cli_bytes((double)bytes));
}

static int report(const struct watch *w, const cadre_quantize_result *r, const char *out)
{
    if (w->c->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:O, s:O}", "file", out, "tensors",
                                        (json_int_t)r->tensors, "bytes_in", (json_int_t)r->bytes_in, "bytes_out",
                                        (json_int_t)r->bytes_out, "types", w->types, "warnings", w->warnings));
    if (!w->c->quiet)
        fprintf(stderr, "%s: %s, was %s\n", out, cli_bytes((double)r->bytes_out), cli_bytes((double)r->bytes_in));
    return EXIT_DONE;
}

static int run(const struct verb *v, int argc, char **argv)
{
    const char *model = NULL, *out = NULL;
    struct texts tensors = {0};
    struct common c = {0};
    cadre_quantize_options o = {0};
    int64_t threads = 0;
    const struct option_row rows[] = {
        {"--type", 0, OPTION_WORD, &o.type, TYPES, "number format of the matrices", 0, 0},
        {"--experts", 0, OPTION_WORD, &o.experts, TYPES, "of the experts' matrices (as --type)", 0, 0},
        {"--tensor", 0, OPTION_TEXTS, &tensors, "PATTERN=TYPE", "of tensors by name, 'attn_v=q6_k'", 0, 0},
        {"--out", 'o', OPTION_TEXT, &out, "FILE", "the file to write", 0, 0},
        {"--threads", 't', OPTION_INT, &threads, "N", "threads (physical cores)", 1, 1024},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!o.type || !out)
        return cli_usage(v, "--type and --out are needed");
    model = cli_model_path(model);
    if (!model)
        return EXIT_FAILED;
    struct watch w = {model, &c, json_array(), json_object()};
    cadre_error err = {0};
    cadre_quantize_result result;
    o.tensors = tensors.at;
    o.n_tensors = tensors.n;
    o.threads = (int)threads;
    o.progress = show;
    o.on_warning = on_warning;
    o.on_tensor = on_tensor;
    o.user = &w;
    status = cadre_quantize(model, out, &o, &result, &err) ? cli_fail(&err) : report(&w, &result, out);
    json_decref(w.warnings);
    json_decref(w.types);
    return status;
}

const struct verb verb_quantize = {"quantize", "[MODEL] --type TYPE -o FILE",
                                   "rewrite a model in another number format", HAS_JSON | HAS_TALK, run};
