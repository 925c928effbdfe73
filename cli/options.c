#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { MAX_ROWS = 48, HELP_COLUMN = 28 };

static int common_rows(unsigned has, struct common *c, struct option_row *rows)
{
    const struct {
        unsigned with;
        struct option_row row;
    } all[] = {
        {HAS_MACHINE, {"--threads", 't', OPTION_INT, &c->threads, "N", "threads (physical cores)", 1, 1024}},
        {HAS_MACHINE, {"--isa", 0, OPTION_WORD, &c->isa, "generic|avx2|avx512|amx", "kernels (the best here)", 0, 0}},
        {HAS_MEMORY, {"--mem", 0, OPTION_SIZE, &c->memory, "SIZE", "budget for weights, KV cache and scratch", 0, 0}},
        {HAS_MEMORY,
         {"--mla", 0, OPTION_WORD, &c->mla, "absorbed|plain", "latent attention: small or full KV cache", 0, 0}},
        {HAS_JSON, {"--json", 0, OPTION_FLAG, &c->json, NULL, "figures as JSON on standard output", 0, 0}},
        {HAS_TALK, {"--verbose", 'v', OPTION_FLAG, &c->verbose, NULL, "say what is opened and used", 0, 0}},
        {HAS_TALK, {"--quiet", 'q', OPTION_FLAG, &c->quiet, NULL, "no progress", 0, 0}},
    };
    int n = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].with & has)
            rows[n++] = all[i].row;
    return n;
}

/* Columns of a terminal: bytes that begin a UTF-8 character. */
static int columns(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += (*s & 0xc0) != 0x80;
    return n;
}

static void print_row(const struct option_row *r)
{
    char left[96];
    snprintf(left, sizeof left, "  %c%c%c %s%s%s", r->letter ? '-' : ' ', r->letter ? r->letter : ' ',
             r->letter ? ',' : ' ', r->name, r->arg ? " " : "", r->arg ? r->arg : "");
    int n = columns(left);
    if (n >= HELP_COLUMN)
        printf("%s\n%*s%s\n", left, HELP_COLUMN, "", r->help);
    else
        printf("%s%*s%s\n", left, HELP_COLUMN - n, "", r->help);
}

static void print_help(const struct verb *v, const struct option_row *rows, int n)
{
    const struct option_row help = {"--help", 'h', OPTION_FLAG, NULL, NULL, "this text", 0, 0};
    printf("usage: cadre %s %s\n%s\n\noptions:\n", v->name, v->usage, v->summary);
    for (int i = 0; i < n; i++)
        print_row(&rows[i]);
    print_row(&help);
}

int cli_usage(const struct verb *v, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "cadre %s: ", v->name);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fprintf(stderr, "\ntry: cadre %s --help\n", v->name);
    return EXIT_USAGE;
}

static const struct option_row *find(const struct option_row *rows, int n, const char *word)
{
    for (int i = 0; i < n; i++)
        if (strcmp(word, rows[i].name) == 0 || (rows[i].letter && word[1] == rows[i].letter && !word[2]))
            return &rows[i];
    return NULL;
}

static bool in_range(const struct option_row *r, double x)
{
    return (r->min == 0 && r->max == 0) || (x >= r->min && x <= r->max);
}

static bool read_size(const char *text, uint64_t *out)
{
    char *end;
    errno = 0;
    double x = strtod(text, &end);
    int shift = 0;
    switch (*end) {
    case 'k':
    case 'K':
        shift = 10;
        break;
    case 'm':
    case 'M':
        shift = 20;
        break;
    case 'g':
    case 'G':
        shift = 30;
        break;
    case 't':
    case 'T':
        shift = 40;
        break;
    default:
        break;
    }
    if (shift)
        end++;
    x = ldexp(x, shift);
    if (end == text || *end || errno || !(x >= 1 && x <= 0x1p60))
        return false;
    *out = (uint64_t)x;
    return true;
}

/* Whether `word` is one of "a|b|c". */
static bool has_word(const char *list, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = list; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (n && strncmp(p, word, n) == 0 && (p[n] == '|' || !p[n]))
            return true;
    return false;
}

/* Returns -1, or an exit status after a message. */
static int read_value(const struct verb *v, const struct option_row *r, const char *text)
{
    char *end = NULL;
    errno = 0;
    if (r->kind == OPTION_WORD && !has_word(r->arg, text))
        return cli_usage(v, "%s: expected %s, found '%s'", r->name, r->arg, text);
    if (r->kind == OPTION_TEXT || r->kind == OPTION_WORD) {
        *(const char **)r->value = text;
        return -1;
    }
    if (r->kind == OPTION_SIZE) {
        if (!read_size(text, r->value))
            return cli_usage(v, "%s: expected a size such as 512M or 4G, found '%s'", r->name, text);
        return -1;
    }
    double x;
    long long whole = 0;
    if (r->kind == OPTION_INT) {
        whole = strtoll(text, &end, 10);
        x = (double)whole;
    } else {
        x = strtod(text, &end);
    }
    const char *what = r->kind == OPTION_INT ? "whole number" : "number";
    if (end == text || *end || errno || !isfinite(x))
        return cli_usage(v, "%s: expected a %s, found '%s'", r->name, what, text);
    if (!in_range(r, x))
        return cli_usage(v, "%s: expected a %s from %.15g to %.15g, found '%s'", r->name, what, r->min, r->max, text);
    if (r->kind == OPTION_INT)
        *(int64_t *)r->value = whole;
    else
        *(double *)r->value = x;
    return -1;
}

/* "-1" and "-0.5" are values; so is "-" (standard input). */
static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] && !(word[1] >= '0' && word[1] <= '9') && word[1] != '.';
}

int cli_parse(const struct verb *v, const struct option_row *own, int n_own, struct common *common, const char **model,
              int argc, char **argv)
{
    struct option_row rows[MAX_ROWS];
    for (int i = 0; i < n_own; i++)
        rows[i] = own[i];
    int n = n_own + common_rows(v->has, common, rows + n_own);
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            print_help(v, rows, n);
            return EXIT_DONE;
        }
        if (!is_option(word)) {
            if (!model || *model)
                return cli_usage(v, "unexpected word '%s'", word);
            *model = word;
            continue;
        }
        const char *eq = strncmp(word, "--", 2) == 0 ? strchr(word, '=') : NULL;
        char name[64];
        snprintf(name, sizeof name, "%.*s", eq ? (int)(eq - word) : (int)strlen(word), word);
        const struct option_row *r = find(rows, n, name);
        if (!r)
            return cli_usage(v, "unknown option %s", name);
        if (r->kind == OPTION_FLAG) {
            if (eq)
                return cli_usage(v, "%s takes no value", r->name);
            *(bool *)r->value = true;
            continue;
        }
        if (!eq && i + 1 >= argc)
            return cli_usage(v, "%s: expected %s after it", r->name, r->arg);
        if (r->kind == OPTION_TEXTS) {
            struct texts *t = r->value;
            if (t->n)
                return cli_usage(v, "%s: give all of its values after one %s", r->name, r->name);
            t->at = (const char **)argv + i + 1; /* the words themselves */
            for (t->n = 0; i + 1 < argc && !is_option(argv[i + 1]); i++)
                t->n++;
            if (eq || !t->n)
                return cli_usage(v, "%s: expected one or more of %s after it", r->name, r->arg);
            continue;
        }
        int status = read_value(v, r, eq ? eq + 1 : argv[++i]);
        if (status >= 0)
            return status;
    }
    return -1;
}
