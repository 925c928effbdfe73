#include "plots.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "svg.h"

enum { BINS = 120, MAX_DOMAINS = 64, PATH = 4096 };

/* What charts need of a log. */
struct run_log {
    double tokens_end;
    int n, n_eval, n_load; /* lines of each kind */
    double *tokens, *loss; /* [n] */
    double *eval_tokens, *eval_bits;
    char domain[MAX_DOMAINS][64];
    int n_domains;
    int layers, experts;        /* of load */
    double *load_tokens, *load; /* [n_load], [n_load, layers, experts] */
};

static int failed(const char *what, const char *why)
{
    fprintf(stderr, "cadre: %s: %s\n", what, why);
    return EXIT_FAILED;
}

static void log_free(struct run_log *l)
{
    free(l->tokens);
    free(l->loss);
    free(l->eval_tokens);
    free(l->eval_bits);
    free(l->load_tokens);
    free(l->load);
    *l = (struct run_log){0};
}

static void add_eval(struct run_log *l, const json_t *line, double tokens)
{
    const char *name;
    json_t *bits = json_object_get(line, "bits_per_byte"), *value;
    l->eval_tokens[l->n_eval] = tokens;
    for (int d = 0; d < MAX_DOMAINS; d++)
        l->eval_bits[l->n_eval * MAX_DOMAINS + d] = NAN;
    json_object_foreach(bits, name, value)
    {
        int d = 0;
        while (d < l->n_domains && strcmp(l->domain[d], name) != 0)
            d++;
        if (d == MAX_DOMAINS)
            continue;
        if (d == l->n_domains)
            snprintf(l->domain[l->n_domains++], sizeof l->domain[0], "%s", name);
        if (json_is_number(value))
            l->eval_bits[l->n_eval * MAX_DOMAINS + d] = json_number_value(value);
    }
    l->n_eval++;
}

static bool add_load(struct run_log *l, const json_t *load, double tokens)
{
    int layers = (int)json_array_size(load), experts = (int)json_array_size(json_array_get(load, 0));
    if (layers == 0 || experts == 0 || (l->n_load && (layers != l->layers || experts != l->experts)))
        return true;
    size_t each = (size_t)layers * (size_t)experts;
    double *more = realloc(l->load, (size_t)(l->n_load + 1) * each * sizeof *more);
    if (!more)
        return false;
    l->load = more;
    l->layers = layers, l->experts = experts;
    l->load_tokens[l->n_load] = tokens;
    for (int i = 0; i < layers; i++)
        for (int e = 0; e < experts; e++)
            l->load[(size_t)l->n_load * each + (size_t)(i * experts + e)] =
                json_number_value(json_array_get(json_array_get(load, (size_t)i), (size_t)e));
    l->n_load++;
    return true;
}

static bool add_line(struct run_log *l, const json_t *line)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    double tokens = (double)json_integer_value(json_object_get(line, "tokens"));
    l->tokens_end = fmax(l->tokens_end, tokens);
    if (event && strcmp(event, "eval") == 0) {
        add_eval(l, line, tokens);
        return true;
    }
    l->tokens[l->n] = tokens;
    l->loss[l->n++] = json_number_value(json_object_get(line, "loss"));
    return add_load(l, json_object_get(line, "load"), tokens);
}

static int log_read(struct run_log *l, const char *path)
{
    size_t n, lines = 1;
    char *text = cli_read_text(path, &n);
    *l = (struct run_log){0};
    if (!text)
        return EXIT_FAILED;
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    l->tokens = calloc(lines, sizeof(double)), l->loss = calloc(lines, sizeof(double));
    l->eval_tokens = calloc(lines, sizeof(double)), l->load_tokens = calloc(lines, sizeof(double));
    l->eval_bits = calloc(lines * MAX_DOMAINS, sizeof(double));
    bool ok = l->tokens && l->loss && l->eval_tokens && l->load_tokens && l->eval_bits;
    for (char *at = text; ok && at < text + n;) {
        char *stop = memchr(at, '\n', (size_t)(text + n - at));
        size_t length = stop ? (size_t)(stop - at) : (size_t)(text + n - at);
        json_t *line = json_loadb(at, length, 0, NULL);
        ok = line && add_line(l, line);
        json_decref(line);
        at += length + 1;
    }
    free(text);
    return ok ? EXIT_DONE : failed(path, "not a training log");
}

/* ---- curves -------------------------------------------------------------------------------------------- */

/* Means of equal parts of a run, and how far single values (of one run), or runs (of several), lie apart. */
struct curve {
    double x[BINS], y[BINS], low[BINS], high[BINS];
    int n;
};

static void curve_of(struct curve *c, const struct run_log *logs, int n_logs)
{
    double end = 0;
    *c = (struct curve){.n = BINS};
    for (int i = 0; i < n_logs; i++)
        end = fmax(end, logs[i].tokens_end);
    for (int b = 0; b < BINS; b++) {
        double all = 0, low = INFINITY, high = -INFINITY;
        int n = 0;
        for (int i = 0; i < n_logs; i++) {
            double sum = 0;
            int count = 0;
            for (int j = 0; j < logs[i].n; j++) {
                double x = logs[i].loss[j];
                if (fmin(BINS - 1, floor(logs[i].tokens[j] / end * BINS)) != b)
                    continue;
                sum += x;
                count++;
                low = n_logs == 1 ? fmin(low, x) : low;
                high = n_logs == 1 ? fmax(high, x) : high;
            }
            if (!count)
                continue;
            all += sum / count;
            n++;
            low = n_logs > 1 ? fmin(low, sum / count) : low;
            high = n_logs > 1 ? fmax(high, sum / count) : high;
        }
        if (!n)
            continue; /* fewer lines than parts */
        int at = b;
        c->x[at] = (b + 0.5) / BINS * end;
        c->y[at] = all / n, c->low[at] = low, c->high[at] = high;
    }
    int kept = 0;
    for (int b = 0; b < BINS; b++)
        if (c->x[b] > 0) {
            c->x[kept] = c->x[b], c->y[kept] = c->y[b], c->low[kept] = c->low[b], c->high[kept] = c->high[b];
            kept++;
        }
    c->n = kept;
}

static struct svg_series series_of(const struct curve *c, const char *name)
{
    return (struct svg_series){name, c->x, c->y, c->low, c->high, c->n};
}

static int plot_heldout(const char *path, const struct run_log *l)
{
    struct svg_series series[MAX_DOMAINS];
    double *column = calloc((size_t)l->n_eval * MAX_DOMAINS, sizeof *column);
    if (!column)
        return failed(path, "no memory");
    for (int d = 0; d < l->n_domains; d++) {
        for (int i = 0; i < l->n_eval; i++)
            column[d * l->n_eval + i] = l->eval_bits[i * MAX_DOMAINS + d];
        series[d] = (struct svg_series){l->domain[d], l->eval_tokens, column + d * l->n_eval, NULL, NULL, l->n_eval};
    }
    struct svg_chart chart = {"Held-out text", "tokens", "bits per byte", series, l->n_domains};
    bool ok = svg_lines(path, &chart);
    free(column);
    return ok ? EXIT_DONE : failed(path, strerror(errno));
}

/* Rows are experts, columns time; 1 is an even share. */
static int plot_load(const char *path, const char *title, const struct run_log *l)
{
    size_t each = (size_t)l->experts * (size_t)l->n_load;
    struct svg_panel *panel = calloc((size_t)l->layers + 1, sizeof *panel);
    double *value = calloc((size_t)l->layers * each + 1, sizeof *value);
    char(*name)[32] = calloc((size_t)l->layers + 1, sizeof *name);
    int n = 0;
    for (int i = 0; panel && value && name && i < l->layers; i++) {
        double *v = value + (size_t)n * each, any = 0;
        for (int t = 0; t < l->n_load; t++) {
            const double *row = l->load + ((size_t)t * (size_t)l->layers + (size_t)i) * (size_t)l->experts;
            double sum = 0;
            for (int e = 0; e < l->experts; e++)
                sum += row[e];
            any += sum;
            for (int e = 0; e < l->experts; e++)
                v[e * l->n_load + t] = sum > 0 ? row[e] / sum * l->experts : NAN;
        }
        if (any == 0)
            continue; /* a dense layer */
        snprintf(name[n], sizeof name[n], "layer %d", i);
        panel[n] = (struct svg_panel){name[n], v};
        n++;
    }
    struct svg_heat h = {.title = title,
                         .x_label = "tokens",
                         .scale = "load / mean",
                         .n_panels = n,
                         .rows = l->experts,
                         .cols = l->n_load,
                         .panel = panel,
                         .x_from = 0,
                         .x_to = l->tokens_end};
    bool ok = panel && value && name && svg_heat(path, &h);
    free(panel);
    free(value);
    free(name);
    return ok ? EXIT_DONE : failed(path, strerror(errno));
}

static int make_folder(const char *folder)
{
    return mkdir(folder, 0777) == 0 || errno == EEXIST ? EXIT_DONE : failed(folder, strerror(errno));
}

int plot_run(const char *folder, const char *log, const char *name)
{
    struct run_log l;
    char path[PATH], title[128];
    int status = make_folder(folder);
    if (status)
        return status;
    status = log_read(&l, log);
    if (status == EXIT_DONE) {
        struct curve c;
        curve_of(&c, &l, 1);
        struct svg_series s = series_of(&c, name);
        snprintf(title, sizeof title, "Training loss: %s", name);
        struct svg_chart chart = {title, "tokens", "nats per token", &s, 1};
        snprintf(path, sizeof path, "%s/loss.svg", folder);
        status = svg_lines(path, &chart) ? EXIT_DONE : failed(path, strerror(errno));
    }
    if (status == EXIT_DONE && l.n_eval > 1) {
        snprintf(path, sizeof path, "%s/heldout.svg", folder);
        status = plot_heldout(path, &l);
    }
    if (status == EXIT_DONE && l.n_load > 1) {
        snprintf(path, sizeof path, "%s/load.svg", folder);
        snprintf(title, sizeof title, "Expert load over time: %s", name);
        status = plot_load(path, title, &l);
    }
    log_free(&l);
    return status;
}

/* ---- experiments --------------------------------------------------------------------------------------- */

enum { MAX_VARIANTS = 64 };

static double number(const json_t *j, const char *key)
{
    const json_t *x = json_object_get(j, key);
    return json_is_number(x) ? json_number_value(x) : NAN;
}

static int plot_bits(const char *folder, const char *title, const json_t *variants)
{
    int n = (int)json_array_size(variants);
    struct svg_group group[MAX_VARIANTS];
    static double value[MAX_VARIANTS][MAX_VARIANTS];
    char path[PATH];
    for (int i = 0; i < n; i++) {
        const json_t *v = json_array_get(variants, (size_t)i), *runs = json_object_get(v, "runs");
        const json_t *bits = json_object_get(v, "bits_per_byte");
        int seeds = (int)json_array_size(runs);
        for (int s = 0; s < seeds; s++)
            value[i][s] = number(json_array_get(runs, (size_t)s), "bits_per_byte");
        group[i] = (struct svg_group){json_string_value(json_object_get(v, "name")), number(bits, "mean"),
                                      number(bits, "deviation"), value[i], seeds};
    }
    snprintf(path, sizeof path, "%s/bits.svg", folder);
    return svg_points(path, title, "held-out bits per byte", group, n) ? EXIT_DONE : failed(path, strerror(errno));
}

/* The logs of one variant's runs. */
static int variant_logs(const char *folder, const json_t *v, struct run_log *logs, int *n)
{
    const json_t *runs = json_object_get(v, "runs");
    char path[PATH];
    int status = EXIT_DONE;
    for (*n = 0; *n < (int)json_array_size(runs) && status == EXIT_DONE; ++*n) {
        snprintf(path, sizeof path, "%s/%s-%lld.gguf.log.jsonl", folder, json_string_value(json_object_get(v, "name")),
                 (long long)json_integer_value(json_object_get(json_array_get(runs, (size_t)*n), "seed")));
        status = log_read(&logs[*n], path);
    }
    return status;
}

/* More lines than eyes can tell apart: the first variant, the three best and the three worst keep
 * their names. */
static void name_the_outer(struct svg_series *series, const json_t *variants)
{
    enum { OUTER = 3, MOST = 8 };
    int n = (int)json_array_size(variants);
    for (int i = 0; n > MOST && i < n; i++) {
        series[i].low = series[i].high = NULL; /* bands of so many cover each other */
        if (i == 0)
            continue;
        double own = number(json_object_get(json_array_get(variants, (size_t)i), "bits_per_byte"), "mean");
        int better = 0, worse = 0;
        for (int j = 0; j < n; j++) {
            double x = number(json_object_get(json_array_get(variants, (size_t)j), "bits_per_byte"), "mean");
            better += x < own || (x == own && j < i);
            worse += x > own || (x == own && j > i);
        }
        if (better >= OUTER && worse >= OUTER)
            series[i].name = NULL;
    }
}

int plot_experiment(const char *folder, const json_t *table)
{
    const json_t *variants = json_object_get(table, "variants");
    const char *name = json_string_value(json_object_get(table, "name"));
    int n = (int)json_array_size(variants), status = EXIT_DONE;
    struct curve *curve = calloc(MAX_VARIANTS, sizeof *curve);
    struct svg_series series[MAX_VARIANTS];
    char path[PATH], title[256];
    if (!curve)
        return failed(folder, "no memory");
    for (int i = 0; i < n && status == EXIT_DONE; i++) {
        const json_t *v = json_array_get(variants, (size_t)i);
        const char *variant = json_string_value(json_object_get(v, "name"));
        struct run_log logs[MAX_VARIANTS];
        int n_logs;
        status = variant_logs(folder, v, logs, &n_logs);
        if (status == EXIT_DONE) {
            curve_of(&curve[i], logs, n_logs);
            series[i] = series_of(&curve[i], variant);
            if (n_logs == 1) /* a band between single steps would hide the other variants */
                series[i].low = series[i].high = NULL;
            if (logs[0].n_load > 1) {
                snprintf(path, sizeof path, "%s/load-%s.svg", folder, variant);
                snprintf(title, sizeof title, "Expert load over time: %s", variant);
                status = plot_load(path, title, &logs[0]);
            }
        }
        for (int s = 0; s < n_logs; s++)
            log_free(&logs[s]);
    }
    if (status == EXIT_DONE) {
        snprintf(path, sizeof path, "%s/loss.svg", folder);
        snprintf(title, sizeof title, "Training loss: %s", name);
        name_the_outer(series, variants);
        struct svg_chart chart = {title, "tokens", "nats per token", series, n};
        status = svg_lines(path, &chart) ? EXIT_DONE : failed(path, strerror(errno));
    }
    free(curve);
    return status == EXIT_DONE ? plot_bits(folder, name, variants) : status;
}
