#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

struct totals {
    double nats;
    int64_t tokens, bytes;
};

struct watch {
    const char *file;
    bool quiet;
};

static bool show(void *user, int64_t done, int64_t total)
{
    const struct watch *w = user;
    cli_progress(w->quiet, w->file, (double)done, (double)total);
    return !cli_interrupted(NULL);
}

static double bits_per_byte(double nats, int64_t bytes)
{
    return bytes ? nats / M_LN2 / (double)bytes : NAN;
}

/* max / mean share of the worst layer, and the mean over layers of the entropy as a share of its maximum. */
static void use_figures(const cadre_eval_result *r, double *worst, double *evenness)
{
    int64_t layers = 0;
    *worst = *evenness = 0;
    for (int64_t l = 0; l < r->n_layers; l++) {
        double max = 0, entropy = 0;
        for (int64_t e = 0; e < r->n_experts; e++) {
            double p = r->expert_use[l * r->n_experts + e];
            max = fmax(max, p);
            entropy -= p > 0 ? p * log(p) : 0;
        }
        if (max == 0)
            continue;
        layers++;
        *worst = fmax(*worst, max * (double)r->n_experts);
        *evenness += entropy / log((double)r->n_experts);
    }
    if (layers)
        *evenness /= (double)layers;
}

static json_t *file_json(const char *file, const cadre_eval_result *r)
{
    double worst, evenness;
    json_t *j = json_pack("{s:s, s:o, s:o, s:I, s:I}", "file", file, "bits_per_byte", cli_json_number(r->bits_per_byte),
                          "perplexity", cli_json_number(r->perplexity), "tokens", (json_int_t)r->tokens, "bytes",
                          (json_int_t)r->bytes);
    if (!r->expert_use)
        return j;
    use_figures(r, &worst, &evenness);
    json_t *use = json_array();
    for (int64_t l = 0; l < r->n_layers; l++) {
        json_t *row = json_array();
        for (int64_t e = 0; e < r->n_experts; e++)
            json_array_append_new(row, json_real(r->expert_use[l * r->n_experts + e]));
        json_array_append_new(use, row);
    }
    json_object_set_new(j, "load_max_mean", json_real(worst));
    json_object_set_new(j, "load_evenness", json_real(evenness));
    json_object_set_new(j, "expert_use", use);
    return j;
}

static void print_row(const char *file, const cadre_eval_result *r)
{
    double worst, evenness;
    printf("%-40s %10.4f %12.2f %10lld", file, r->bits_per_byte, r->perplexity, (long long)r->tokens);
    if (r->expert_use) {
        use_figures(r, &worst, &evenness);
        printf(" %10.2f %9.1f %%", worst, 100 * evenness);
    }
    putchar('\n');
}

static int eval_file(cadre_model *m, const char *file, const cadre_eval_options *o, struct totals *sum,
                     cadre_eval_result *r)
{
    cadre_error err = {0};
    size_t n;
    char *text = cli_read_text(file, &n);
    if (!text)
        return EXIT_FAILED;
    cadre_err rc = cadre_eval(m, text, n, o, r, &err);
    free(text);
    if (rc) {
        fprintf(stderr, "cadre: %s: %s\n", file, err.text);
        return EXIT_FAILED;
    }
    sum->nats += r->nats;
    sum->tokens += r->tokens;
    sum->bytes += r->bytes;
    return EXIT_DONE;
}

static int eval_all(cadre_model *m, const struct texts *files, cadre_eval_options *o, const struct common *c)
{
    struct totals sum = {0};
    json_t *list = json_array();
    if (!c->json)
        printf("%-40s %10s %12s %10s %10s %11s\n", "file", "bits/byte", "perplexity", "tokens", "load", "evenness");
    int status = EXIT_DONE;
    for (int i = 0; i < files->n && status == EXIT_DONE; i++) {
        struct watch w = {files->at[i], c->quiet};
        cadre_eval_result r = {0};
        o->progress = show;
        o->user = &w;
        status = eval_file(m, files->at[i], o, &sum, &r);
        if (status == EXIT_DONE && c->json)
            json_array_append_new(list, file_json(files->at[i], &r));
        else if (status == EXIT_DONE)
            print_row(files->at[i], &r);
        cadre_eval_result_free(&r);
    }
    double bits = bits_per_byte(sum.nats, sum.bytes), perplexity = exp(sum.nats / (double)sum.tokens);
    if (status == EXIT_DONE && c->json)
        return cli_print_json(json_pack("{s:o, s:o, s:I, s:o}", "bits_per_byte", cli_json_number(bits), "perplexity",
                                        cli_json_number(perplexity), "tokens", (json_int_t)sum.tokens, "files", list));
    if (status == EXIT_DONE && files->n > 1)
        printf("%-40s %10.4f %12.2f %10lld\n", "all", bits, perplexity, (long long)sum.tokens);
    json_decref(list);
    return status;
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    struct texts files = {0};
    const char *model = NULL;
    cadre_eval_options o = cadre_eval_options_default();
    const struct option_row rows[] = {
        {"--text", 0, OPTION_TEXTS, &files, "FILE…", "text files; each gets a line of its own", 0, 0},
        {"--ctx", 0, OPTION_INT, &o.context, "N", "window in tokens (512, or the model's context if smaller)", 2, 1e9},
        {"--tokens", 0, OPTION_INT, &o.max_tokens, "N", "of each file at most (all)", 2, 1e15},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!files.n)
        return cli_usage(v, "--text FILE… is needed");
    cadre_model *m = NULL;
    status = cli_open_model(&m, model, &c, false);
    if (status)
        return status;
    status = eval_all(m, &files, &o, &c);
    cadre_model_close(m);
    return status;
}

const struct verb verb_eval = {"eval", "[MODEL] --text FILE… [options]", "bits per byte and perplexity on text", run};
