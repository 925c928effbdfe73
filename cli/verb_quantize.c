#include <stdio.h>
#include <string.h>

#include "cli.h"

struct watch {
    const char *what;
    bool quiet;
};

static bool show(void *user, int64_t done, int64_t total)
{
    const struct watch *w = user;
    cli_progress(w->quiet, w->what, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static int run(const struct verb *v, int argc, char **argv)
{
    const char *model = NULL, *type = NULL, *out = NULL;
    bool quiet = false;
    const struct option_row rows[] = {
        {"--type", 0, OPTION_TEXT, &type, "TYPE", "number format of the matrices: f32, f16, bf16 or q8_0", 0, 0},
        {"--out", 'o', OPTION_TEXT, &out, "FILE", "the file to write", 0, 0},
        {"--quiet", 'q', OPTION_FLAG, &quiet, NULL, "no progress", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, NULL, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!type || !out)
        return cli_usage(v, "--type and --out are needed");
    model = model ? model : cli_default_model();
    if (!model)
        return EXIT_FAILED;
    struct watch w = {model, quiet};
    cadre_error err = {0};
    return cadre_quantize(model, out, type, show, &w, &err) ? cli_fail(&err) : EXIT_DONE;
}

const struct verb verb_quantize = {"quantize", "[MODEL] --type TYPE -o FILE",
                                   "rewrite a model in another number format", run};
