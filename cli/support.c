#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "cli.h"

int cli_fail_at(const char *what, const cadre_error *err)
{
    fprintf(stderr, "cadre: %s%s%s%s\n", cli_interrupted(NULL) ? "interrupted: " : "", what ? what : "",
            what ? ": " : "", err->text);
    return EXIT_FAILED;
}

int cli_fail(const cadre_error *err)
{
    return cli_fail_at(NULL, err);
}

static int fail_text(const char *what, const char *why)
{
    fprintf(stderr, "cadre: %s: %s\n", what, why);
    return EXIT_FAILED;
}

int cli_end_output(int status)
{
    static int reported;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno != EPIPE && !reported++)
        fail_text("standard output", strerror(errno));
    return EXIT_FAILED;
}

/* ---- models -------------------------------------------------------------------------------------------- */

const char *cli_default_model(void)
{
    static char path[4096 + 64];
    static const char *const places[] = {"../models/cadre-default.gguf", "../share/cadre/models/cadre-default.gguf"};
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return NULL;
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s/%s", exe, places[i]);
        if (access(path, R_OK) == 0)
            return path;
    }
    return NULL;
}

const char *cli_model_path(const char *path)
{
    path = path ? path : cli_default_model();
    if (!path)
        fail_text("default model", "cadre-default.gguf is neither beside the program nor installed; name a MODEL");
    return path;
}

int cli_parse_rewrite(const struct verb *v, const struct option_row *rows, int n_rows, struct common *common,
                      const char **model, const char *const *out, int argc, char **argv)
{
    int status = cli_parse(v, rows, n_rows, common, model, argc, argv);
    if (status >= 0)
        return status;
    if (!*out)
        return cli_usage(v, "--out is needed");
    *model = cli_model_path(*model);
    return *model ? status : EXIT_FAILED;
}

/* What --verbose says about a model before work begins. */
static void describe(const char *path, const struct common *c)
{
    cadre_model_info info;
    cadre_machine machine;
    if (cadre_inspect(path, &info, NULL) || cadre_machine_get(&machine, NULL))
        return; /* opening it will say what is wrong */
    fprintf(stderr, "%s: %s, %s parameters in %s; kernels %s, %d threads\n", path, info.family,
            cli_count((double)info.parameters), cli_bytes((double)info.bytes), c->isa ? c->isa : machine.isa,
            c->threads ? (int)c->threads : machine.cores);
}

int cli_open_model(cadre_model **out, const char *path, const struct common *c, bool tokenizer_only)
{
    cadre_error err = {0};
    cadre_model_options o = cadre_model_options_default();
    o.threads = (int)c->threads;
    o.isa = c->isa;
    o.mla = c->mla;
    o.memory = c->memory;
    o.tokenizer_only = tokenizer_only;
    path = cli_model_path(path);
    if (!path)
        return EXIT_FAILED;
    if (c->verbose)
        describe(path, c);
    return cadre_model_open(out, path, &o, &err) ? cli_fail(&err) : EXIT_DONE;
}

/* ---- input --------------------------------------------------------------------------------------------- */

static bool drafts(const struct draft_words *d)
{
    return d->draft && strcmp(d->draft, "none") != 0;
}

int cli_check_draft(const struct verb *v, const struct draft_words *d)
{
    if ((d->max || d->min) && !drafts(d))
        return cli_usage(v, "%s: nothing is drafted without --draft ngram or MODEL",
                         d->max ? "--draft-max" : "--draft-min");
    return -1;
}

int cli_open_draft(cadre_generate_options *o, const struct draft_words *d, const struct common *common)
{
    bool model = drafts(d) && strcmp(d->draft, "ngram") != 0;
    struct common own = *common;
    own.mla = NULL; /* is said of the model that checks */
    o->draft = model ? "model" : d->draft;
    o->draft_max = (int)d->max;
    o->draft_min = (int)d->min;
    return model ? cli_open_model(&o->draft_model, d->draft, &own, false) : 0;
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0;
}

json_t *cli_json_draft(const cadre_draft_stats *d)
{
    if (!d->drafter || strcmp(d->drafter, "none") == 0)
        return NULL;
    double passes = (double)d->passes, tokens = (double)d->tokens;
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:o, s:o}", "drafter", d->drafter, "passes",
                     (json_int_t)d->passes, "tokens", (json_int_t)d->tokens, "drafted", (json_int_t)d->drafted,
                     "accepted", (json_int_t)d->accepted, "tokens_per_pass", cli_json_number(share(tokens, passes)),
                     "mean_length", cli_json_number(share((double)d->drafted, passes)), "experts",
                     (json_int_t)d->experts, "experts_alone", (json_int_t)d->experts_alone, "expert_bytes_per_token",
                     cli_json_number(share((double)d->expert_bytes, tokens)), "expert_bytes_per_token_alone",
                     cli_json_number(share((double)d->expert_bytes_alone, tokens)));
}

void cli_print_draft(const cadre_draft_stats *d)
{
    if (!d->drafter || strcmp(d->drafter, "none") == 0)
        return;
    double passes = (double)d->passes, tokens = (double)d->tokens;
    fprintf(stderr, "draft by %s: %lld tokens, %lld right; %.2f tokens a pass, mean draft %.2f; ", d->drafter,
            (long long)d->drafted, (long long)d->accepted, share(tokens, passes), share((double)d->drafted, passes));
    fprintf(stderr, "experts: %s a token, ", cli_bytes(share((double)d->expert_bytes, tokens)));
    fprintf(stderr, "%s without\n", cli_bytes(share((double)d->expert_bytes_alone, tokens)));
}

int cli_ids(const struct verb *v, const char *option, const char *text, int32_t **ids, size_t *n)
{
    *n = 0;
    *ids = malloc((strlen(text) + 1) * sizeof **ids);
    if (!*ids)
        return fail_text(option, "no memory");
    for (const char *p = text; *p;) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno || id < 0 || id > INT32_MAX || (*end && *end != ',') || (*end == ',' && !end[1])) {
            free(*ids);
            *ids = NULL;
            return cli_usage(v, "%s: expected numbers like 1,2,3, found '%s'", option, p);
        }
        (*ids)[(*n)++] = (int32_t)id;
        p = *end ? end + 1 : end;
    }
    return -1;
}

char *cli_read_text(const char *path, size_t *n)
{
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rbe");
    size_t room = 1 << 16;
    char *text = malloc(room);
    *n = 0;
    while (f && text) {
        *n += fread(text + *n, 1, room - *n - 1, f);
        if (feof(f) || ferror(f))
            break;
        char *more = realloc(text, room *= 2);
        if (!more)
            free(text);
        text = more;
    }
    if (!f || !text || ferror(f)) {
        fail_text(path, !text ? "no memory for this text" : strerror(errno));
        free(text);
        text = NULL;
    } else {
        text[*n] = 0;
    }
    if (f && f != stdin)
        fclose(f);
    return text;
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

/* Length of the UTF-8 character at p, 0 if there is none (overlong forms and surrogates are none). */
static size_t utf8_length(const unsigned char *p, size_t n)
{
    size_t len = p[0] < 0x80                   ? 1
                 : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
                 : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                 : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                               : 0;
    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf0 && p[1] < 0x90) ||
        (p[0] == 0xf4 && p[1] > 0x8f))
        return 0;
    return len;
}

/* Bytes at p, where no character is, that one U+FFFD stands for: as many as begin a character that then does not go on,
 * at least one (Unicode §3.9, substitution of maximal subparts; what other programs put there). */
static size_t broken_length(const unsigned char *p, size_t n)
{
    size_t whole = p[0] >= 0xc2 && p[0] < 0xe0   ? 2
                   : p[0] >= 0xe0 && p[0] < 0xf0 ? 3
                   : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                                 : 1;
    unsigned low = p[0] == 0xe0   ? 0xa0
                   : p[0] == 0xf0 ? 0x90
                                  : 0x80,
             high = p[0] == 0xed   ? 0x9f
                    : p[0] == 0xf4 ? 0x8f
                                   : 0xbf;
    size_t len = 1;
    for (; len < whole && len < n && p[len] >= low && p[len] <= high; len++)
        low = 0x80, high = 0xbf;
    return len;
}

json_t *cli_json_text(const char *p, size_t n)
{
    char *clean = malloc(3 * n + 1);
    if (!clean)
        return NULL;
    size_t m = 0;
    for (size_t i = 0; i < n;) {
        size_t len = utf8_length((const unsigned char *)p + i, n - i);
        memcpy(clean + m, len ? p + i : "\xef\xbf\xbd", len ? len : 3);
        m += len ? len : 3;
        i += len ? len : broken_length((const unsigned char *)p + i, n - i);
    }
    json_t *j = json_stringn(clean, m);
    free(clean);
    return j;
}

json_t *cli_json_ids(const int32_t *ids, size_t n)
{
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(j, json_integer(ids[i]));
    return j;
}

json_t *cli_json_number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

int cli_print_json(json_t *j)
{
    if (!j)
        return fail_text("JSON", "no memory");
    json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
    putchar('\n');
    json_decref(j);
    return cli_end_output(EXIT_DONE);
}

/* ---- for people ---------------------------------------------------------------------------------------- */

static const char *scaled(double n, double step, const char *const *units, int n_units)
{
    static char buffers[8][32];
    static int next;
    char *b = buffers[next++ & 7];
    int u = 0;
    while (n >= step && u + 1 < n_units) {
        n /= step;
        u++;
    }
    snprintf(b, sizeof buffers[0], "%.*f%s%s", u ? 1 : 0, n, *units[u] ? " " : "", units[u]);
    return b;
}

const char *cli_bytes(double n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    return scaled(n, 1024, units, 5);
}

const char *cli_count(double n)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    return scaled(n, 1000, units, 5);
}

void cli_rewrite_line(FILE *f, const char *text)
{
    struct winsize w = {0};
    int columns = ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1 : 79;
    int n = (int)strnlen(text, (size_t)columns);
    while (text[n] && n > 0 && (text[n] & 0xc0) == 0x80) /* not in the middle of a character */
        n--;
    fprintf(f, "\r\033[K%.*s", n, text);
    fflush(f);
}

void cli_progress(bool quiet, const char *what, double done, double total)
{
    enum { WIDTH = 24 };
    char line[160];
    if (quiet || !isatty(STDERR_FILENO))
        return;
    int full = total > 0 ? (int)(WIDTH * done / total) : 0;
    snprintf(line, sizeof line, "%3.0f %% [%.*s%*s] %.100s", total > 0 ? 100 * done / total : 0, full,
             "========================", WIDTH - full, "", what);
    cli_rewrite_line(stderr, done < total ? line : "");
}

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    if (interrupted)
        _exit(130);
    interrupted = 1;
}

void cli_catch_interrupt(void)
{
    struct sigaction a = {.sa_handler = on_interrupt};
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    signal(SIGPIPE, SIG_IGN); /* a reader who leaves is seen by the writer, who then tidies up */
}

bool cli_interrupted(void *unused)
{
    (void)unused;
    return interrupted != 0;
}

uint64_t cli_peak_rss(void)
{
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (uint64_t)u.ru_maxrss * 1024 : 0;
}
