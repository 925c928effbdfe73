#include <stdio.h>

#include "cli.h"

static int run(const struct verb *v, int argc, char **argv)
{
    bool json = false;
    const struct option_row rows[] = {
        {"--json", 0, OPTION_FLAG, &json, NULL, "figures as one JSON object on standard output", 0, 0}};
    int status = cli_parse(v, rows, 1, NULL, NULL, argc, argv);
    if (status >= 0)
        return status;
    cadre_machine m;
    cadre_error err = {0};
    if (cadre_machine_get(&m, &err))
        return cli_fail(&err);
    const char *model = NULL;
    cadre_model_info info = {0};
    model = cli_default_model();
    bool model_ok = model && cadre_inspect(model, &info, &err) == CADRE_OK;
    if (json)
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:s, s:i, s:I, s:I, s:b, s:b}", "version", cadre_version(),
                                        "processor", m.processor, "isa", m.isa, "features", m.features, "cores",
                                        m.cores, "memory_bytes", (json_int_t)m.memory_bytes, "memory_available_bytes",
                                        (json_int_t)m.memory_available_bytes, "io_uring", m.io_uring, "default_model",
                                        model_ok));
    printf("cadre %s\n", cadre_version());
    printf("  processor      %s, %d cores\n", m.processor, m.cores);
    printf("  kernels        %s (%s)\n", m.isa, m.features[0] ? m.features : "no vector extensions that cadre uses");
    printf("  memory         %s, %s available\n", cli_bytes((double)m.memory_bytes),
           cli_bytes((double)m.memory_available_bytes));
    printf("  io_uring       %s\n", m.io_uring ? "works" : "refused here; files are read with pread");
    printf("  default model  %s%s%s\n",
           model_ok ? info.name : "not usable: ", model_ok ? ", " : (model ? err.text : "not found"),
           model_ok ? cli_count((double)info.parameters) : "");
    printf(
        "  works          run, train, eval, inspect, tokenize, bench, quantize on GGUF models that fit into memory\n");
    printf("  not yet        chat, serve, trace, replay, plan, convert, pack, batch; models larger than memory; MPI\n");
    return EXIT_DONE;
}

const struct verb verb_doctor = {"doctor", "[--json]", "what this machine offers, and what of cadre works on it", run};
