/* Running an experiment. Files in its folder, V a variant and S a seed:
 *     V-S.ini, V-S.gguf and what training keeps beside it (checkpoint, log)
 *     V-S.json       the figures of a finished run, which is then not trained again
 *     shared-…/      vocabulary and token files of all runs with the same [tokenizer] */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fileio.h"
#include "train/experiment.h"

struct campaign {
    const cadre_experiment_options *opt;
    struct experiment x;
    /* the run at work */
    const struct variant *variant;
    int64_t seed;
    int run, n_runs;
    char base[4096], shared[4096 + 128]; /* paths without an ending */
    char hash[24];                       /* of the run's description */
    uint64_t memory;                     /* planned */
};

static cadre_err make_folder(const char *path, cadre_error *err)
{
    CHECK(err, mkdir(path, 0777) == 0 || errno == EEXIST, CADRE_E_IO, "%s: cannot be made: %s", path, strerror(errno));
    return CADRE_OK;
}

static cadre_err write_file(const char *path, const char *text, cadre_error *err)
{
    struct atomic_file f;
    TRY(atomic_file_open(&f, path, err));
    cadre_err rc = atomic_file_write(&f, text, strlen(text), err);
    if (rc == CADRE_OK)
        return atomic_file_commit(&f, err);
    atomic_file_abort(&f);
    return rc;
}

/* ---- figures of one run -------------------------------------------------------------------------------- */

/* Most resident bytes since the last call with reset; 0 where Linux does not tell. */
static double peak_bytes(bool reset)
{
    if (reset) {
        int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            ssize_t written = write(fd, "5", 1);
            close(fd);
            return (double)(written > 0);
        }
        return 0;
    }
    FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    double kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %lf", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

static int by_number(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What a log tells: means over the last half of the run, the median speed, the last evaluation. */
struct log_figures {
    double *speed;
    int64_t n, n_half;
    double load, entropy, loss;
    json_t *eval; /* borrowed from lines */
};

static void add_line(struct log_figures *f, json_t *line, const struct train_config *cfg)
{
    const char *event = json_string_value(json_object_get(line, "event"));
    if (event && strcmp(event, "eval") == 0) {
        json_decref(f->eval);
        f->eval = json_incref(line);
        return;
    }
    f->speed[f->n++] = json_number_value(json_object_get(line, "tokens_per_s"));
    if (2 * json_integer_value(json_object_get(line, "tokens")) < cfg->tokens)
        return;
    f->load += json_number_value(json_object_get(line, "load_max_mean"));
    f->entropy += json_number_value(json_object_get(line, "router_entropy"));
    f->loss += json_number_value(json_object_get(line, "loss"));
    f->n_half++;
}

static json_t *ratio(double sum, int64_t n)
{
    return n ? json_real(sum / (double)n) : json_null();
}

static json_t *run_figures(const struct campaign *c, const struct log_figures *f)
{
    qsort(f->speed, (size_t)f->n, sizeof *f->speed, by_number);
    json_t *j =
        json_pack("{s:s, s:I, s:s}", "variant", c->variant->name, "seed", (json_int_t)c->seed, "description", c->hash);
    json_object_set(j, "bits_per_byte", json_object_get(f->eval, "bits_per_byte_all"));
    json_object_set(j, "domains", json_object_get(f->eval, "bits_per_byte"));
    json_object_set_new(j, "train_loss", ratio(f->loss, f->n_half));
    bool moe = c->variant->cfg.spec.n_expert > 0;
    json_object_set_new(j, "load_max_mean", moe ? ratio(f->load, f->n_half) : json_null());
    json_object_set_new(j, "router_entropy", moe ? ratio(f->entropy, f->n_half) : json_null());
    json_object_set(j, "experts_per_token", json_object_get(f->eval, "active_experts"));
    json_object_set(j, "active_flops", json_object_get(f->eval, "active_flops"));
    json_object_set_new(j, "tokens_per_s", f->n ? json_real(f->speed[f->n / 2]) : json_null());
    json_object_set_new(j, "memory_planned", json_integer((json_int_t)c->memory));
    json_object_set_new(j, "memory_peak", json_real(peak_bytes(false)));
    return j;
}

static cadre_err read_log(const struct campaign *c, json_t **out, cadre_error *err)
{
    char path[4096 + 32], *text;
    size_t n, lines = 0;
    snprintf(path, sizeof path, "%s.gguf.log.jsonl", c->base);
    TRY(file_slurp(path, (size_t)1 << 32, &text, &n, err));
    for (size_t i = 0; i < n; i++)
        lines += text[i] == '\n';
    struct log_figures f = {.speed = calloc(lines + 1, sizeof *f.speed)};
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, f.speed, CADRE_E_MEMORY, "no memory for a log");
    for (char *at = text; at < text + n;) {
        char *end = memchr(at, '\n', (size_t)(text + n - at));
        size_t length = end ? (size_t)(end - at) : (size_t)(text + n - at);
        json_t *line = json_loadb(at, length, 0, NULL);
        CHECK_OUT(err, json_is_object(line), CADRE_E_FORMAT, "%s: expected a JSON object a line", path);
        add_line(&f, line, &c->variant->cfg);
        json_decref(line);
        at += length + 1;
    }
    *out = run_figures(c, &f);
out:
    json_decref(f.eval);
    free(f.speed);
    free(text);
    return rc;
}

/* ---- one run ------------------------------------------------------------------------------------------- */

static bool report(struct campaign *c, const cadre_train_progress *p)
{
    if (!c->opt->on_progress)
        return true;
    double part = p ? fmin(1, (double)p->tokens / (double)p->tokens_total) : 1;
    cadre_experiment_progress e = {.variant = c->variant->name,
                                   .seed = c->seed,
                                   .run = c->run,
                                   .n_runs = c->n_runs,
                                   .done = (c->run - 1 + part) / c->n_runs,
                                   .step = p};
    return c->opt->on_progress(c->opt->user, &e);
}

static bool on_train(void *user, const cadre_train_progress *p)
{
    struct campaign *c = user;
    c->memory = p->memory;
    return report(c, p);
}

static bool on_prepare(void *user, const char *what, int64_t done, int64_t all)
{
    const struct campaign *c = user;
    return !c->opt->on_prepare || c->opt->on_prepare(c->opt->user, what, done, all);
}

static cadre_err finished(const struct campaign *c, const char *path, json_t **out, cadre_error *err)
{
    json_error_t e;
    *out = NULL;
    if (access(path, F_OK) != 0)
        return CADRE_OK;
    json_t *j = json_load_file(path, 0, &e);
    const char *hash = json_string_value(json_object_get(j, "description"));
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, hash, CADRE_E_FORMAT, "%s: not the figures of a run; delete it and it is made anew", path);
    CHECK_OUT(err, strcmp(hash, c->hash) == 0, CADRE_E_ARG,
              "%s: made by another description; choose another folder, or delete the files of that run", path);
    *out = json_incref(j);
out:
    json_decref(j);
    return rc;
}

static cadre_err train_one(struct campaign *c, const char *text, const char *figures, json_t **out, cadre_error *err)
{
    char ini[4096 + 16], gguf[4096 + 16], checkpoint[4096 + 32];
    snprintf(ini, sizeof ini, "%s.ini", c->base);
    snprintf(gguf, sizeof gguf, "%s.gguf", c->base);
    snprintf(checkpoint, sizeof checkpoint, "%s.gguf.ckpt", c->base);
    TRY(write_file(ini, text, err));
    cadre_train_options o = cadre_train_options_default();
    o.config = ini, o.data = c->opt->data, o.n_data = c->opt->n_data, o.out = gguf, o.shared = c->shared;
    o.resume = access(checkpoint, F_OK) == 0;
    o.threads = c->opt->threads, o.isa = c->opt->isa;
    o.on_progress = on_train, o.on_prepare = on_prepare, o.user = c;
    peak_bytes(true);
    TRY(cadre_train(&o, err));
    TRY(read_log(c, out, err));
    char *json = json_dumps(*out, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
    CHECK(err, json, CADRE_E_MEMORY, "no memory for the figures of a run");
    cadre_err rc = write_file(figures, json, err);
    free(json);
    return rc;
}

static cadre_err run_one(struct campaign *c, json_t **out, cadre_error *err)
{
    const struct train_config *cfg = &c->variant->cfg;
    char figures[4096 + 16];
    snprintf(c->base, sizeof c->base, "%s/%s-%lld", c->opt->out, c->variant->name, (long long)c->seed);
    snprintf(c->shared, sizeof c->shared, "%s/shared-%s-%lld", c->opt->out, cfg->pre, (long long)cfg->vocab);
    snprintf(figures, sizeof figures, "%s.json", c->base);
    TRY(make_folder(c->shared, err));
    char *text = experiment_run_text(c->variant, c->seed);
    CHECK(err, text, CADRE_E_MEMORY, "no memory for a description");
    snprintf(c->hash, sizeof c->hash, "%016llx", (unsigned long long)XXH3_64bits(text, strlen(text)));
    cadre_err rc = finished(c, figures, out, err);
    if (rc == CADRE_OK && !*out)
        rc = train_one(c, text, figures, out, err);
    else if (rc == CADRE_OK && !report(c, NULL))
        rc = error_set(err, CADRE_E_CANCELLED, "stopped");
    free(text);
    return rc;
}

/* ---- the table ----------------------------------------------------------------------------------------- */

/* Mean and sample deviation over runs of one figure; null where a run has none. */
static json_t *spread(const json_t *runs, const char *key)
{
    double sum = 0, square = 0;
    size_t n = json_array_size(runs);
    for (size_t i = 0; i < n; i++) {
        const json_t *x = json_object_get(json_array_get(runs, i), key);
        if (!json_is_number(x))
            return json_null();
        sum += json_number_value(x);
    }
    for (size_t i = 0; i < n; i++)
        square += pow(json_number_value(json_object_get(json_array_get(runs, i), key)) - sum / (double)n, 2);
    json_t *deviation = n > 1 ? json_real(sqrt(square / (double)(n - 1))) : json_null();
    return json_pack("{s:f, s:o}", "mean", sum / (double)n, "deviation", deviation);
}

static json_t *variant_json(const struct variant *v, json_t *runs)
{
    static const char *const keys[] = {"bits_per_byte",  "against_first",     "train_loss",   "load_max_mean",
                                       "router_entropy", "experts_per_token", "active_flops", "tokens_per_s",
                                       "memory_planned", "memory_peak"};
    struct variant_cost cost = variant_cost(&v->cfg);
    json_t *j = json_pack("{s:s, s:I, s:I, s:f, s:I}", "name", v->name, "parameters", (json_int_t)cost.parameters,
                          "active_parameters", (json_int_t)cost.active_parameters, "flops_per_token", cost.flops,
                          "tokens", (json_int_t)v->cfg.tokens);
    if (*v->fit)
        json_object_set_new(j, "fitted", json_pack("{s:I}", v->fit, (json_int_t)v->fitted));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        json_object_set_new(j, keys[i], spread(runs, keys[i]));
    json_object_set_new(j, "runs", runs);
    return j;
}

/* Percent by which a run's bits per byte lie above those of the first variant with the same seed: what seeds have in
 * common, the order of the texts above all, falls out. */
static void against_first(json_t *first, json_t *runs)
{
    for (size_t i = 0; i < json_array_size(runs); i++) {
        json_t *run = json_array_get(runs, i);
        double own = json_number_value(json_object_get(run, "bits_per_byte"));
        double other = json_number_value(json_object_get(json_array_get(first, i), "bits_per_byte"));
        double percent = own > 0 && other > 0 ? 100 * (own / other - 1) : NAN;
        json_object_set_new(run, "against_first", isfinite(percent) ? json_real(percent) : json_null());
    }
}

static cadre_err run_all(struct campaign *c, json_t *variants, cadre_error *err)
{
    c->n_runs = c->x.n_variants * c->x.n_seeds;
    json_t *runs[EXPERIMENT_MAX];
    for (int v = 0; v < c->x.n_variants; v++)
        runs[v] = json_array();
    cadre_err rc = CADRE_OK;
    /* Seed by seed, so that what is there after an interruption compares all variants. */
    for (int s = 0; s < c->x.n_seeds && rc == CADRE_OK; s++)
        for (int v = 0; v < c->x.n_variants && rc == CADRE_OK; v++) {
            json_t *figures = NULL;
            c->variant = &c->x.variants[v], c->seed = c->x.seeds[s];
            c->run++;
            rc = run_one(c, &figures, err);
            if (rc != CADRE_OK)
                json_decref(figures);
            else
                json_array_append_new(runs[v], figures);
        }
    for (int v = 1; v < c->x.n_variants && rc == CADRE_OK; v++)
        against_first(runs[0], runs[v]);
    for (int v = 0; v < c->x.n_variants; v++)
        if (rc == CADRE_OK)
            json_array_append_new(variants, variant_json(&c->x.variants[v], runs[v]));
        else
            json_decref(runs[v]);
    return rc;
}

cadre_err cadre_experiment(const cadre_experiment_options *o, char **json, cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, o && o->config && o->out && json, CADRE_E_ARG,
          "an experiment needs a description (config), a folder (out) and a place for its result");
    *json = NULL;
    struct campaign *c = calloc(1, sizeof *c);
    CHECK(err, c, CADRE_E_MEMORY, "no memory for an experiment");
    c->opt = o;
    json_t *variants = json_array(), *all = NULL;
    cadre_err rc = experiment_read(&c->x, o->config, err);
    CHECK_OUT(err, rc != CADRE_OK || strlen(o->out) < 4096 - 2 * TRAIN_NAME, CADRE_E_ARG, "%s: too long a name",
              o->out);
    if (rc == CADRE_OK)
        rc = make_folder(o->out, err);
    if (rc == CADRE_OK)
        rc = run_all(c, variants, err);
    if (rc == CADRE_OK) {
        static const char *const equal[] = {"none", "flops", "parameters"};
        all = json_pack("{s:s, s:s, s:O}", "name", c->x.name, "equal", equal[c->x.equal], "variants", variants);
        *json = json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(10));
        CHECK_OUT(err, *json, CADRE_E_MEMORY, "no memory for the table");
    }
out:
    json_decref(all);
    json_decref(variants);
    experiment_free(&c->x);
    free(c);
    return rc;
}
