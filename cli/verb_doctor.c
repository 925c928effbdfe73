#include <stdio.h>
#include <string.h>

#include "cli.h"

/* The default model in a line: what it is, or what is wrong with it. */
static void print_default_model(const char *path, const cadre_model_info *info, const cadre_error *err)
{
    printf("  default model  ");
    if (!path)
        printf("not installed; every verb takes a MODEL\n");
    else if (err->code)
        printf("not usable: %s\n", err->text);
    else
        printf("%s, %s parameters, %s\n", info->name[0] ? info->name : path, cli_count((double)info->parameters),
               cli_bytes((double)info->bytes));
}

static void print_verbs(void)
{
    printf("  works         ");
    for (int i = 0, column = 16; cli_verb_at(i); i++) {
        int n = (int)strlen(cli_verb_at(i)->name) + 2;
        if (column + n > 80) {
            printf("\n                ");
            column = 16;
        }
        printf(" %s%s", cli_verb_at(i)->name, cli_verb_at(i + 1) ? "," : "\n");
        column += n;
    }
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    int status = cli_parse(v, NULL, 0, &c, NULL, argc, argv);
    if (status >= 0)
        return status;
    cadre_machine m;
    cadre_model_info info = {0};
    cadre_error err = {0};
    if (cadre_machine_get(&m, &err))
        return cli_fail(&err);
    const char *model = cli_default_model();
    if (model)
        cadre_inspect(model, &info, &err); /* err.code tells */
    if (c.json)
        return cli_print_json(json_pack(
            "{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:b, s:b, s:o}", "version", cadre_version(), "processor", m.processor,
            "isa", m.isa, "features", m.features, "cores", m.cores, "memory_bytes", (json_int_t)m.memory_bytes,
            "memory_available_bytes", (json_int_t)m.memory_available_bytes, "io_uring", m.io_uring, "default_model",
            model && !err.code, "default_model_name", cli_json_text(info.name, strlen(info.name))));
    printf("cadre %s\n", cadre_version());
    printf("  processor      %s, %d cores\n", m.processor, m.cores);
    printf("  kernels        %s (%s)\n", m.isa, m.features[0] ? m.features : "no vector extensions that cadre uses");
    printf("  memory         %s, %s available\n", cli_bytes((double)m.memory_bytes),
           cli_bytes((double)m.memory_available_bytes));
    printf("  io_uring       %s\n", m.io_uring ? "works" : "refused here; files are read with pread");
    print_default_model(model, &info, &err);
    print_verbs();
    printf("                 on GGUF files and Hugging Face directories that fit into memory\n");
    printf("  not yet        serve, trace, replay, plan, batch; models larger than memory; MPI\n");
    return EXIT_DONE;
}

const struct verb verb_doctor = {"doctor", "[--json]", "what this machine offers, and what of cadre works on it",
                                 HAS_JSON, run};
