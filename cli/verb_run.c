#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static bool print_text(void *user, const char *text, size_t n)
{
    (void)user;
    return fwrite(text, 1, n, stdout) == n && fflush(stdout) == 0;
}

static int print_result(const cadre_generation *g)
{
    json_t *j =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:I, s:s, s:{s:i, s:i, s:i}, s:o*}", "prompt_ids",
                  cli_json_ids(g->prompt_ids, g->n_prompt), "ids", cli_json_ids(g->ids, g->n_ids), "text",
                  cli_json_text(g->text, g->text_bytes), "prompt_tokens_per_s", cli_json_number(g->prompt_tokens_per_s),
                  "tokens_per_s", cli_json_number(g->tokens_per_s), "peak_rss_bytes", (json_int_t)cli_peak_rss(),
                  "stopped_by", g->stopped_by, "store", "hits", 0, "misses", 0, "bytes_read", 0, "draft",
                  cli_json_draft(&g->draft)); /* every expert is resident */
    return cli_print_json(j);
}

static void print_stats(const cadre_generation *g)
{
    fprintf(stderr,
            "prompt: %zu tokens, %.1f tokens/s; generated: %zu tokens, %.1f tokens/s; stopped by %s; peak memory %s\n",
            g->n_prompt, g->prompt_tokens_per_s, g->n_ids, g->tokens_per_s, g->stopped_by,
            cli_bytes((double)cli_peak_rss()));
    cli_print_draft(&g->draft);
}

struct prompt {
    const char *text, *file, *ids;
    char *read;       /* owns what came from a file */
    int32_t *numbers; /* owns --ids */
};

static int read_prompt(const struct verb *v, struct prompt *p, cadre_generate_options *o)
{
    size_t n;
    if (!!p->text + !!p->file + !!p->ids > 1)
        return cli_usage(v, "give one of --prompt, --file and --ids");
    if (p->ids) {
        int status = cli_ids(v, "--ids", p->ids, &p->numbers, &o->n_ids);
        o->ids = p->numbers;
        return status;
    }
    if (p->text)
        return -1;
    if (!p->file && isatty(STDIN_FILENO))
        return cli_usage(v, "what to go on from? --prompt TEXT, --file FILE, --ids or standard input");
    p->text = p->read = cli_read_text(p->file ? p->file : "-", &n);
    if (!p->text)
        return EXIT_FAILED;
    if (strlen(p->text) != n) {
        fprintf(stderr, "cadre: %s: a prompt must not hold 0 bytes\n", p->file ? p->file : "standard input");
        return EXIT_FAILED;
    }
    return -1;
}

static int generate(const char *model_path, const struct common *c, const struct prompt *p, const struct draft_words *d,
                    cadre_generate_options *o, bool echo, bool stats)
{
    cadre_model *m = NULL;
    cadre_error err = {0};
    cadre_generation g = {0};
    int status = cli_open_model(&m, model_path, c, false);
    if (status == 0)
        status = cli_open_draft(o, d, c);
    if (status) {
        cadre_model_close(m);
        return status;
    }
    if (echo)
        print_text(NULL, p->text, strlen(p->text));
    cadre_err rc = cadre_generate(m, p->text, o, &g, &err);
    if (!c->json && (g.n_ids || echo))
        putchar('\n');
    fflush(stdout);
    if (rc)
        status = cli_fail(&err);
    else if (c->json)
        status = print_result(&g);
    if (stats && (rc == CADRE_OK || rc == CADRE_E_CANCELLED))
        print_stats(&g);
    cadre_generation_free(&g);
    cadre_model_close(o->draft_model);
    cadre_model_close(m);
    return status;
}

static int run(const struct verb *v, int argc, char **argv)
{
    cadre_generate_options o = cadre_generate_options_default();
    struct common c = {0};
    struct prompt p = {0};
    struct draft_words draft = {0};
    const char *model = NULL;
    bool echo = false, stats = false;
    int64_t top_k = 0, seed = 0;
    o.temperature = 0.8;
    o.top_p = 0.95;
    const struct option_row rows[] = {
        {"--prompt", 'p', OPTION_TEXT, &p.text, "TEXT", "text to go on from", 0, 0},
        {"--file", 'f', OPTION_TEXT, &p.file, "FILE", "… from a file (- or nothing: standard input)", 0, 0},
        {"--ids", 0, OPTION_TEXT, &p.ids, "1,2,3", "… as token ids", 0, 0},
        {"--n", 'n', OPTION_INT, &o.max_tokens, "N", "tokens to generate at most (128)", 0, 1e9},
        {"--temp", 0, OPTION_REAL, &o.temperature, "T", "temperature; 0 is greedy (0.8)", 0, 1000},
        {"--top-k", 0, OPTION_INT, &top_k, "K", "choose among the K likeliest; 0: off (0)", 0, 1e9},
        {"--top-p", 0, OPTION_REAL, &o.top_p, "P", "… the likeliest that make up P; 1: off (0.95)", 1e-9, 1},
        {"--min-p", 0, OPTION_REAL, &o.min_p, "P", "… those at least P times as likely as the best (0)", 0, 1},
        {"--seed", 0, OPTION_INT, &seed, "N", "the same seed gives the same text (0)", 0, 9e15},
        {"--stop", 0, OPTION_TEXT, &o.stop, "TEXT", "end before this text", 0, 0},
        {"--ignore-eos", 0, OPTION_FLAG, &o.ignore_eos, NULL, "go on after an end-of-text token", 0, 0},
        {"--ctx", 0, OPTION_INT, &o.context, "N", "positions of KV cache (as many as needed)", 1, 1e9},
        {"--kv", 0, OPTION_WORD, &o.kv, "f32|f16|bf16|q8_0", "number format of the KV cache (f32)", 0, 0},
        {"--act", 0, OPTION_WORD, &o.act, "f32|auto|int8", "activations of products with block weights (f32)", 0, 0},
        DRAFT_ROWS(draft),
        {"--logits", 0, OPTION_TEXT, &o.logits_path, "FILE", "write the prompt's logits (safetensors)", 0, 0},
        {"--routing", 0, OPTION_TEXT, &o.routing_path, "FILE", "write the prompt's routing (safetensors)", 0, 0},
        {"--echo", 0, OPTION_FLAG, &echo, NULL, "print the prompt before what follows", 0, 0},
        {"--stats", 0, OPTION_FLAG, &stats, NULL, "speed and memory on standard error", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status < 0 && o.stop && !*o.stop)
        status = cli_usage(v, "--stop: expected a text, found an empty one");
    if (status < 0 && echo && (c.json || p.ids))
        status = cli_usage(v, "--echo: there is no text to print with %s", c.json ? "--json" : "--ids");
    if (status < 0)
        status = cli_check_draft(v, &draft);
    if (status < 0)
        status = read_prompt(v, &p, &o);
    if (status < 0) {
        o.top_k = (int)(top_k < INT32_MAX ? top_k : INT32_MAX);
        o.seed = (uint64_t)seed;
        o.on_text = c.json ? NULL : print_text;
        o.cancel = cli_interrupted;
        status = generate(model, &c, &p, &draft, &o, echo, stats);
    }
    free(p.read);
    free(p.numbers);
    return status;
}

const struct verb verb_run = {"run", "[MODEL] [-p TEXT] [options]", "generate text from a prompt, as it comes",
                              HAS_MACHINE | HAS_MEMORY | HAS_JSON | HAS_TALK, run};
