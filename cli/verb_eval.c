#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "expert_map.h"

struct totals {
    double nats;
    int64_t tokens, bytes;
};

struct watch {
    const char *file;
    bool quiet;
    struct expert_map *map; /* NULL: none wanted */
};

static void add_use(void *user, const int64_t *count, int64_t layers, int64_t experts)
{
    const struct watch *w = user;
    if (w->map)
        expert_map_add(w->map, count, layers, experts);
}

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
    json_t *j = json_pack("{s:o, s:o, s:o, s:I, s:I}", "file", cli_json_text(file, strlen(file)), "bits_per_byte",
                          cli_json_number(r->bits_per_byte), "perplexity", cli_json_number(r->perplexity), "tokens",
                          (json_int_t)r->tokens, "bytes", (json_int_t)r->bytes);
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
    printf("%-32s %9.4f %10.2f %9lld", file, r->bits_per_byte, r->perplexity, (long long)r->tokens);
    if (r->expert_use) {
        use_figures(r, &worst, &evenness);
        printf(" %6.2f %6.1f %%", worst, 100 * evenness);
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
    if (rc)
        return cli_fail_at(file, &err);
    sum->nats += r->nats;
    sum->tokens += r->tokens;
    sum->bytes += r->bytes;
    return EXIT_DONE;
}

static int eval_all(cadre_model *m, const struct texts *files, cadre_eval_options *o, const struct common *c,
                    struct expert_map *map, json_t *out)
{
    struct totals sum = {0};
    json_t *list = json_array();
    int status = EXIT_DONE;
    for (int i = 0; i < files->n && status == EXIT_DONE; i++) {
        struct watch w = {files->at[i], c->quiet, map};
        cadre_eval_result r = {0};
        if (map)
            map->text = i;
        o->progress = show;
        o->on_use = add_use;
        o->user = &w;
        status = eval_file(m, files->at[i], o, &sum, &r);
        if (status == EXIT_DONE && c->json)
            json_array_append_new(list, file_json(files->at[i], &r));
        else if (status == EXIT_DONE) {
            if (i == 0)
                printf("%-32s %9s %10s %9s %6s %8s\n", "file", "bits/byte", "perplexity", "tokens", "load", "even");
            print_row(files->at[i], &r);
        }
        cadre_eval_result_free(&r);
    }
    double bits = bits_per_byte(sum.nats, sum.bytes), perplexity = exp(sum.nats / (double)sum.tokens);
    json_object_set_new(out, "bits_per_byte", cli_json_number(bits));
    json_object_set_new(out, "perplexity", cli_json_number(perplexity));
    json_object_set_new(out, "tokens", json_integer((json_int_t)sum.tokens));
    json_object_set_new(out, "files", list);
    if (status == EXIT_DONE && files->n > 1 && !c->json)
        printf("%-32s %9.4f %10.2f %9lld\n", "all", bits, perplexity, (long long)sum.tokens);
    return status;
}

/* ---- against a reference ------------------------------------------------------------------------------- */

static int compare_all(cadre_model *m, const char *path, const struct texts *files, cadre_eval_options *o,
                       const struct common *c, json_t *out)
{
    cadre_model *reference = NULL;
    cadre_compare_result sum = {0};
    int status = cli_open_model(&reference, path, c, false);
    for (int i = 0; i < files->n && status == EXIT_DONE; i++) {
        struct watch w = {files->at[i], c->quiet, NULL};
        cadre_compare_result r;
        cadre_error err = {0};
        size_t n;
        char *text = cli_read_text(files->at[i], &n);
        o->progress = show;
        o->user = &w;
        if (!text)
            status = EXIT_FAILED;
        else if (cadre_compare(m, reference, text, n, o, &r, &err))
            status = cli_fail_at(files->at[i], &err);
        free(text);
        if (status)
            break;
        sum.kl += r.kl * (double)r.tokens;
        sum.kl_max = fmax(sum.kl_max, r.kl_max);
        sum.top1_agreement += r.top1_agreement * (double)r.tokens;
        sum.tokens += r.tokens;
    }
    cadre_model_close(reference);
    if (status)
        return status;
    sum.kl /= (double)sum.tokens;
    sum.top1_agreement /= (double)sum.tokens;
    json_object_set_new(out, "kl", cli_json_number(sum.kl));
    json_object_set_new(out, "kl_max", cli_json_number(sum.kl_max));
    json_object_set_new(out, "top1_agreement", cli_json_number(sum.top1_agreement));
    if (!c->json)
        printf("against %s: KL %.6f nats a token, at most %.4f; same first choice %.2f %%\n", path, sum.kl, sum.kl_max,
               100 * sum.top1_agreement);
    return EXIT_DONE;
}

/* ---- multiple choice ----------------------------------------------------------------------------------- */

enum { MAX_CHOICES = 64 };

struct choices_sum {
    int64_t questions, right, right_normalized;
};

static int wrong_line(const char *file, int64_t line, const char *what)
{
    fprintf(stderr, "cadre: %s:%lld: %s\n", file, (long long)line, what);
    return EXIT_FAILED;
}

/* {"prompt": "…", "choices": ["…", …], "answer": index}. Normalised: log-probability by byte of the choice. */
static int ask(cadre_model *m, const char *file, int64_t line, const json_t *q, struct choices_sum *sum)
{
    const char *prompt = json_string_value(json_object_get(q, "prompt")), *text[MAX_CHOICES];
    const json_t *choices = json_object_get(q, "choices"), *answer = json_object_get(q, "answer");
    cadre_choice_score score[MAX_CHOICES];
    cadre_error err = {0};
    size_t n = json_array_size(choices), best = 0, best_normalized = 0;
    if (!prompt || n < 2 || n > MAX_CHOICES || !json_is_integer(answer) || json_integer_value(answer) < 0 ||
        json_integer_value(answer) >= (json_int_t)n)
        return wrong_line(file, line,
                          "expected {\"prompt\": text, \"choices\": [2 to 64 texts], \"answer\": index of one}");
    for (size_t i = 0; i < n; i++) {
        text[i] = json_string_value(json_array_get(choices, i));
        if (!text[i])
            return wrong_line(file, line, "choices: expected texts");
    }
    if (cadre_choose(m, prompt, text, (int)n, score, &err)) {
        fprintf(stderr, "cadre: %s:%lld: %s\n", file, (long long)line, err.text);
        return EXIT_FAILED;
    }
    for (size_t i = 1; i < n; i++) {
        if (score[i].log_probability > score[best].log_probability)
            best = i;
        if (score[i].log_probability / (double)score[i].bytes >
            score[best_normalized].log_probability / (double)score[best_normalized].bytes)
            best_normalized = i;
    }
    sum->questions++;
    sum->right += (json_int_t)best == json_integer_value(answer);
    sum->right_normalized += (json_int_t)best_normalized == json_integer_value(answer);
    return EXIT_DONE;
}

/* One line at a time; empty lines are passed over. */
static int ask_all(cadre_model *m, const char *file, const char *text, size_t n, bool quiet, struct choices_sum *sum)
{
    int64_t line = 0;
    for (size_t at = 0; at < n;) {
        const char *end = memchr(text + at, '\n', n - at);
        size_t len = end ? (size_t)(end - text) - at : n - at;
        line++;
        if (strspn(text + at, " \t\r") < len) {
            json_error_t e;
            json_t *q = json_loadb(text + at, len, 0, &e);
            int status = q ? ask(m, file, line, q, sum) : wrong_line(file, line, e.text);
            json_decref(q);
            if (status)
                return status;
            cli_progress(quiet, file, (double)(at + len), (double)n);
            if (cli_interrupted(NULL))
                return wrong_line(file, line, "interrupted");
        }
        at += len + 1;
    }
    return sum->questions ? EXIT_DONE : wrong_line(file, line, "expected a question a line, found none");
}

static int choose_all(cadre_model *m, const char *file, const struct common *c, json_t *out)
{
    struct choices_sum sum = {0};
    size_t n;
    char *text = cli_read_text(file, &n);
    int status = text ? ask_all(m, file, text, n, c->quiet, &sum) : EXIT_FAILED;
    free(text);
    if (status)
        return status;
    double right = (double)sum.right / (double)sum.questions,
           normalized = (double)sum.right_normalized / (double)sum.questions;
    json_object_set_new(out, "questions", json_integer((json_int_t)sum.questions));
    json_object_set_new(out, "accuracy", cli_json_number(right));
    json_object_set_new(out, "accuracy_normalized", cli_json_number(normalized));
    if (!c->json)
        printf("%s: %lld questions, right %.1f %%; normalised by bytes %.1f %%\n", file, (long long)sum.questions,
               100 * right, 100 * normalized);
    return EXIT_DONE;
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    struct texts files = {0};
    const char *model = NULL, *reference = NULL, *choices = NULL, *map_path = NULL;
    struct expert_map map = {0};
    cadre_eval_options o = cadre_eval_options_default();
    const struct option_row rows[] = {
        {"--text", 0, OPTION_TEXTS, &files, "FILE…", "text files; each gets a line of its own", 0, 0},
        {"--reference", 0, OPTION_TEXT, &reference, "MODEL", "KL and agreement with this model on --text", 0, 0},
        {"--map", 0, OPTION_TEXT, &map_path, "OUT.svg", "chart of expert use by text, with a test", 0, 0},
        {"--choices", 0, OPTION_TEXT, &choices, "FILE", "multiple choice: a question a line (JSONL)", 0, 0},
        {"--ctx", 0, OPTION_INT, &o.context, "N", "window in tokens (the model's, at most 512)", 2, 1e9},
        {"--act", 0, OPTION_WORD, &o.act, "f32|auto|int8", "activations on --text, not the reference's (f32)", 0, 0},
        {"--tokens", 0, OPTION_INT, &o.max_tokens, "N", "predict at most N of each file (all)", 1, 1e15},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!files.n && !choices)
        return cli_usage(v, "--text FILE… or --choices FILE is needed");
    if (!files.n && (reference || o.context || o.act || o.max_tokens))
        return cli_usage(v, "%s acts on texts: --text FILE… is needed",
                         reference   ? "--reference"
                         : o.context ? "--ctx"
                         : o.act     ? "--act"
                                     : "--tokens");
    if (map_path && files.n < 2)
        return cli_usage(v, "--map compares texts: two or more after --text are needed");
    cadre_model *m = NULL;
    status = cli_open_model(&m, model, &c, false);
    if (status)
        return status;
    json_t *out = json_object();
    if (files.n)
        status = eval_all(m, &files, &o, &c, map_path ? &map : NULL, out);
    if (status == EXIT_DONE && map_path)
        status = expert_map_finish(&map, &files, map_path, c.json, out);
    expert_map_free(&map);
    if (status == EXIT_DONE && reference)
        status = compare_all(m, reference, &files, &o, &c, out);
    if (status == EXIT_DONE && choices)
        status = choose_all(m, choices, &c, out);
    cadre_model_close(m);
    if (status == EXIT_DONE && c.json)
        return cli_print_json(out);
    json_decref(out);
    return status;
}

const struct verb verb_eval = {"eval", "[MODEL] --text FILE… | --choices FILE [options]",
                               "bits per byte on text, distance to another model, multiple choice",
                               HAS_MACHINE | HAS_MEMORY | HAS_JSON | HAS_TALK, run};
