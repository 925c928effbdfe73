#include <stdio.h>

#include "cli.h"

static json_t *spread_json(const cadre_spread *s)
{
    return json_pack("{s:o, s:o, s:o}", "median", cli_json_number(s->median), "min", cli_json_number(s->min), "max",
                     cli_json_number(s->max));
}

static int bench_training(const char *config, int64_t steps, const struct common *c)
{
    cadre_train_bench_options o = cadre_train_bench_options_default();
    cadre_train_bench_result r;
    cadre_error err = {0};
    o.config = config;
    o.repeats = (int)steps;
    o.threads = (int)c->threads;
    o.isa = c->isa;
    o.cancel = cli_interrupted;
    if (cadre_train_bench(&o, &r, &err))
        return cli_fail(&err);
    if (c->json)
        return cli_print_json(json_pack(
            "{s:o, s:f, s:f, s:f, s:b, s:b, s:f, s:s, s:I, s:I}", "tokens_per_s", spread_json(&r.tokens_per_s),
            "flops_per_token", r.flops_per_token, "roof_f32", r.roof_f32, "roof_bf16", r.roof_bf16, "bf16", r.bf16,
            "bf16_native", r.bf16_native, "utilisation", r.utilisation, "kernels", r.kernels, "memory_planned",
            (json_int_t)r.memory_planned, "memory_resident", (json_int_t)r.memory_resident));
    printf("training    %.1f tokens/s (%.1f to %.1f), %s FLOPs a token\n", r.tokens_per_s.median, r.tokens_per_s.min,
           r.tokens_per_s.max, cli_count(r.flops_per_token));
    printf("            %.1f GFLOP/s: %.0f %% of the %s roof\n", 1e-9 * r.tokens_per_s.median * r.flops_per_token,
           100 * r.utilisation, r.bf16 ? "bf16" : "f32");
    printf("roofs       %s kernels: f32 %.0f, bf16 %.0f GFLOP/s%s\n", r.kernels, 1e-9 * r.roof_f32, 1e-9 * r.roof_bf16,
           r.bf16_native ? "" : " (bf16 without instructions for it)");
    printf("memory      %s planned, %s resident\n", cli_bytes((double)r.memory_planned),
           cli_bytes((double)r.memory_resident));
    return EXIT_DONE;
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    const char *model = NULL, *training = NULL;
    cadre_bench_options o = cadre_bench_options_default();
    int64_t prompt = o.prompt, generate = o.generate, repeats = o.repeats;
    const struct option_row rows[] = {
        {"--prompt-tokens", 'p', OPTION_INT, &prompt, "N", "prompt tokens (512)", 1, 1e6},
        {"--n", 'n', OPTION_INT, &generate, "N", "generated tokens (64)", 1, 1e6},
        {"--repeats", 'r', OPTION_INT, &repeats, "N", "interleaved repeats, or training steps (5)", 1, 100},
        {"--kv", 0, OPTION_WORD, &o.kv, "f32|f16|bf16|q8_0", "number format of the KV cache (f32)", 0, 0},
        {"--act", 0, OPTION_WORD, &o.act, "f32|auto|int8", "activations of products with block weights (f32)", 0, 0},
        {"--train", 0, OPTION_TEXT, &training, "FILE", "speed of training as FILE describes, no MODEL", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (training) {
        cadre_bench_options d = cadre_bench_options_default();
        if (model || prompt != d.prompt || generate != d.generate || o.kv != d.kv || o.act != d.act || c.memory)
            return cli_usage(v, "--train measures a description: MODEL, -p, -n, --kv, --act and --memory cannot act");
        return bench_training(training, repeats, &c);
    }
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
            json_pack("{s:o, s:o, s:f, s:f, s:I, s:f, s:f, s:f, s:s, s:I, s:I}", "prompt_tokens_per_s",
                      spread_json(&r.prompt_tokens_per_s), "tokens_per_s", spread_json(&r.tokens_per_s),
                      "bandwidth_share", r.bandwidth_share, "read_bandwidth", r.read_bandwidth, "read_bytes",
                      (json_int_t)r.read_bytes, "compute_share", r.compute_share, "compute_roof", r.compute_roof,
                      "f32_roof", r.f32_roof, "format", r.format, "bytes_per_token", (json_int_t)r.bytes_per_token,
                      "kv_bytes_per_token", (json_int_t)r.kv_bytes_per_token));
    printf("prompt      %d tokens: %.1f tokens/s (%.1f to %.1f)\n", o.prompt, r.prompt_tokens_per_s.median,
           r.prompt_tokens_per_s.min, r.prompt_tokens_per_s.max);
    printf("            %.0f %% of what %s products reach in cache, %.0f GFLOP/s (the f32 kernel: %.0f)\n",
           100 * r.compute_share, r.format, 1e-9 * r.compute_roof, 1e-9 * r.f32_roof);
    printf("generation  %d tokens: %.1f tokens/s (%.1f to %.1f)\n", o.generate, r.tokens_per_s.median,
           r.tokens_per_s.min, r.tokens_per_s.max);
    printf("            %.0f %% of the read roof, %.1f GB/s over %s, with %s of weights", 100 * r.bandwidth_share,
           1e-9 * r.read_bandwidth, cli_bytes((double)r.read_bytes), cli_bytes((double)r.bytes_per_token));
    printf(" and %s of keys and values a token\n", cli_bytes((double)r.kv_bytes_per_token));
    return EXIT_DONE;
}

const struct verb verb_bench = {"bench", "[MODEL] [-p 512] [-n 64] [-r 5] | --train FILE",
                                "speed of prompt and generation, or training, beside measured roofs",
                                HAS_MACHINE | HAS_MEMORY | HAS_JSON | HAS_TALK, run};
