#include <stdio.h>

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

static int report(const char *out, const cadre_pack_result *r, const struct common *c, bool undo)
{
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:s}", "out", out, "tensors", (json_int_t)r->tensors,
                                        "packed", (json_int_t)r->packed, "bytes", (json_int_t)r->bytes, "layout",
                                        undo ? "rows" : "packed"));
    if (!c->quiet)
        printf("%s: %lld tensors, %s; %lld of them %s\n", out, (long long)r->tensors, cli_bytes((double)r->bytes),
               (long long)r->packed, undo ? "were in strips" : "in strips");
    return EXIT_DONE;
}

static int run(const struct verb *v, int argc, char **argv)
{
    const char *model = NULL, *out = NULL;
    struct common c = {0};
    cadre_pack_options o = {0};
    int64_t threads = 0;
    const struct option_row rows[] = {
        {"--out", 'o', OPTION_TEXT, &out, "FILE", "the file to write", 0, 0},
        {"--undo", 0, OPTION_FLAG, &o.undo, NULL, "write the file that was packed again, byte for byte", 0, 0},
        {"--threads", 't', OPTION_INT, &threads, "N", "threads (physical cores)", 1, 1024},
    };
    int status = cli_parse_rewrite(v, rows, sizeof rows / sizeof *rows, &c, &model, &out, argc, argv);
    if (status >= 0)
        return status;
    struct watch w = {model, c.quiet};
    cadre_pack_result r;
    cadre_error err = {0};
    o.threads = (int)threads;
    o.progress = show;
    o.user = &w;
    return cadre_pack(model, out, &o, &r, &err) ? cli_fail(&err) : report(out, &r, &c, o.undo);
}

const struct verb verb_pack = {"pack", "[MODEL] -o FILE", "rewrite a model as kernels read it: it opens at once",
                               HAS_JSON | HAS_TALK, run};
