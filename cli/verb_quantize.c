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
    struct common c = {0};
    const struct option_row rows[] = {
        {"--type", 0, OPTION_WORD, &type, "f32|f16|bf16|q8_0", "number format of the matrices", 0, 0},
        {"--out", 'o', OPTION_TEXT, &out, "FILE", "the file to write", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!type || !out)
        return cli_usage(v, "--type and --out are needed");
    model = cli_model_path(model);
    if (!model)
        return EXIT_FAILED;
    if (c.verbose)
        fprintf(stderr, "%s to %s as %s\n", model, out, type);
    struct watch w = {model, c.quiet};
    cadre_error err = {0};
    return cadre_quantize(model, out, type, show, &w, &err) ? cli_fail(&err) : EXIT_DONE;
}

const struct verb verb_quantize = {"quantize", "[MODEL] --type TYPE -o FILE",
                                   "rewrite a model in another number format", HAS_TALK, run};
