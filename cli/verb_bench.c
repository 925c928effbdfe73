#include <stdio.h>

#include "cli.h"

static json_t *spread_json(const cadre_spread *s)
{
    return json_pack("{s:o, s:o, s:o}", "median", cli_json_number(s->median), "min", cli_json_number(s->min), "max",
                     cli_json_number(s->max));
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    const char *model = NULL;
    cadre_bench_options o = cadre_bench_options_default();
    int64_t prompt = o.prompt, generate = o.generate, repeats = o.repeats;
    const struct option_row rows[] = {
        {"--prompt-tokens", 'p', OPTION_INT, &prompt, "N", "prompt tokens (512)", 1, 1e6},
        {"--n", 'n', OPTION_INT, &generate, "N", "generated tokens (64)", 1, 1e6},
        {"--repeats", 'r', OPTION_INT, &repeats, "N", "interleaved repeats (5)", 1, 100},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    cadre_model *m = NULL;
    cadre_bench_result r;
    cadre_error err = {0};
    status = cli_open_model(&m, model, &c, false);
    if (status)
        return status;
    o.prompt = (int)prompt;
    o.generate = (int)generate;
    o.repeats = (int)repeats;
    o.cancel = cli_interrupted;
    cadre_err rc = cadre_bench(m, &o, &r, &err);
    cadre_model_close(m);
    if (rc)
        return cli_fail(&err);
    if (c.json)
        return cli_print_json(
            json_pack("{s:o, s:o, s:f, s:f, s:f, s:f, s:I}", "prompt_tokens_per_s", spread_json(&r.prompt_tokens_per_s),
                      "tokens_per_s", spread_json(&r.tokens_per_s), "bandwidth_share", r.bandwidth_share,
                      "read_bandwidth", r.read_bandwidth, "compute_share", r.compute_share, "compute_roof",
                      r.compute_roof, "bytes_per_token", (json_int_t)r.bytes_per_token));
    printf("prompt      %d tokens: %.1f tokens/s (%.1f to %.1f)\n", o.prompt, r.prompt_tokens_per_s.median,
           r.prompt_tokens_per_s.min, r.prompt_tokens_per_s.max);
    printf("            %.0f %% of the compute roof, %.0f GFLOP/s\n", 100 * r.compute_share, 1e-9 * r.compute_roof);
    printf("generation  %d tokens: %.1f tokens/s (%.1f to %.1f)\n", o.generate, r.tokens_per_s.median,
           r.tokens_per_s.min, r.tokens_per_s.max);
    printf("            %.0f %% of the read roof, %.1f GB/s, with %s of weights a token\n", 100 * r.bandwidth_share,
           1e-9 * r.read_bandwidth, cli_bytes((double)r.bytes_per_token));
    return EXIT_DONE;
}

const struct verb verb_bench = {"bench", "[MODEL] [-p 512] [-n 64] [-r 5]",
                                "speed of prompt and generation beside this machine's measured roofs",
                                HAS_MACHINE | HAS_MEMORY | HAS_JSON | HAS_TALK, run};
