#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int encode(const cadre_model *m, const char *text, size_t n, bool special, bool json)
{
    cadre_error err = {0};
    int32_t *ids;
    size_t n_ids;
    double begin = now();
    if (cadre_tokenize(m, text, n, special, &ids, &n_ids, &err))
        return cli_fail(&err);
    double seconds = now() - begin;
    int status = EXIT_DONE;
    if (json) {
        status = cli_print_json(json_pack("{s:o, s:I, s:I, s:f}", "ids", cli_json_ids(ids, n_ids), "bytes",
                                          (json_int_t)n, "tokens", (json_int_t)n_ids, "seconds", seconds));
    } else {
        for (size_t i = 0; i < n_ids; i++)
            printf("%s%d", i ? "," : "", ids[i]);
        putchar('\n');
    }
    cadre_free(ids);
    return status;
}

static int decode(const struct verb *v, const cadre_model *m, const char *list, bool json)
{
    cadre_error err = {0};
    size_t n_ids, n;
    char *text;
    int32_t *ids;
    int status = cli_ids(v, "--decode", list, &ids, &n_ids);
    if (status >= 0)
        return status;
    cadre_err rc = cadre_detokenize(m, ids, n_ids, &text, &n, &err);
    free(ids);
    if (rc)
        return cli_fail(&err);
    status = EXIT_DONE;
    if (json) {
        status = cli_print_json(json_pack("{s:o}", "text", cli_json_text(text, n)));
    } else {
        fwrite(text, 1, n, stdout);
        putchar('\n');
    }
    cadre_free(text);
    return status;
}

static int run(const struct verb *v, int argc, char **argv)
{
    struct common c = {0};
    const char *model = NULL, *text = NULL, *file = NULL, *ids = NULL;
    bool special = false;
    const struct option_row rows[] = {
        {"--prompt", 'p', OPTION_TEXT, &text, "TEXT", "text to cut into tokens", 0, 0},
        {"--file", 'f', OPTION_TEXT, &file, "FILE", "… from a file (- or nothing: standard input)", 0, 0},
        {"--decode", 0, OPTION_TEXT, &ids, "1,2,3", "token ids to turn into text", 0, 0},
        {"--special", 0, OPTION_FLAG, &special, NULL, "the text of control tokens becomes their id", 0, 0},
    };
    int status = cli_parse(v, rows, sizeof rows / sizeof *rows, &c, &model, argc, argv);
    if (status >= 0)
        return status;
    if (!!text + !!file + !!ids > 1)
        return cli_usage(v, "give one of --prompt, --file and --decode");
    cadre_model *m = NULL;
    status = cli_open_model(&m, model, &c, true);
    if (status)
        return status;
    if (ids) {
        status = decode(v, m, ids, c.json);
    } else {
        size_t n = text ? strlen(text) : 0;
        char *read = text ? NULL : cli_read_text(file ? file : "-", &n);
        status = text || read ? encode(m, text ? text : read, n, special, c.json) : EXIT_FAILED;
        free(read);
    }
    cadre_model_close(m);
    return status;
}

const struct verb verb_tokenize = {"tokenize", "[MODEL] [-p TEXT | -f FILE | --decode IDS]",
                                   "text to token ids and back; MODEL may be a tokenizer.json", HAS_JSON, run};
