#include <stdio.h>
#include <string.h>

#include "cli.h"

struct watch {
    const char *what;
    bool quiet;
    json_t *warnings;
};

static bool show(void *user, int64_t done, int64_t total)
{
    const struct watch *w = user;
    cli_progress(w->quiet, w->what, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static void on_warning(void *user, const char *text)
{
    const struct watch *w = user;
    json_array_append_new(w->warnings, json_string(text));
    if (!w->quiet)
        fprintf(stderr, "warning: %s\n", text);
}

static int report(const char *out, const cadre_convert_result *r, const struct common *c, json_t *warnings)
{
    if (!c->json) {
        if (!c->quiet)
            printf("%s: %lld tensors, %s, in %lld file%s%s\n", out, (long long)r->tensors, cli_bytes((double)r->bytes),
                   (long long)r->files, r->files == 1 ? "" : "s", r->resumed ? " (resumed)" : "");
        return EXIT_DONE;
    }
    return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:b, s:O}", "out", out, "tensors", (json_int_t)r->tensors,
                                    "bytes", (json_int_t)r->bytes, "files", (json_int_t)r->files, "resumed",
                                    (int)r->resumed, "warnings", warnings));
}

static int run(const struct verb *v, int argc, char **argv)
{
    const char *model = NULL, *out = NULL;
    struct common c = {0};
    cadre_convert_options o = cadre_convert_options_default();
    const struct option_row rows[] = {
        {"--out", 'o', OPTION_TEXT, &out, "OUT", "X.gguf, or a directory to write", 0, 0},
        {"--type", 0, OPTION_WORD, &o.type, "f32|f16|bf16|q8_0", "of the matrices (default: as they are, or else bf16)",
         0, 0},
        {"--split", 0, OPTION_SIZE, &o.split, "SIZE", "several files of at most SIZE (default: one)", 0, 0},
    };
    int status = cli_parse_rewrite(v, rows, sizeof rows / sizeof *rows, &c, &model, &out, argc, argv);
    if (status >= 0)
        return status;
    struct watch w = {model, c.quiet, json_array()};
    cadre_convert_result r;
    cadre_error err = {0};
    o.on_warning = on_warning;
    status = cadre_convert(model, out, &o, show, &w, &r, &err) ? cli_fail(&err) : report(out, &r, &c, w.warnings);
    json_decref(w.warnings);
    return status;
}

const struct verb verb_convert = {
    "convert", "[MODEL] -o OUT", "GGUF file to Hugging Face directory and back; split, join", HAS_JSON | HAS_TALK, run};
