#include "train/log.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fileio.h"

struct line_facts {
    int64_t step; /* -1: not a line of a log */
    bool eval;
};

static struct line_facts read_line(const char *line, size_t n)
{
    json_t *j = json_loadb(line, n, 0, NULL), *step = json_object_get(j, "step");
    const char *event = json_string_value(json_object_get(j, "event"));
    struct line_facts f = {json_is_integer(step) ? json_integer_value(step) : -1, event && strcmp(event, "eval") == 0};
    json_decref(j);
    return f;
}

static cadre_err keep_lines(const char *path, int64_t step, int64_t *last_eval, cadre_error *err)
{
    char *text;
    size_t n;
    struct atomic_file out;
    TRY(file_slurp(path, (size_t)1 << 32, &text, &n, err));
    cadre_err rc = atomic_file_open(&out, path, err);
    for (char *line = text; rc == CADRE_OK && line < text + n;) {
        char *end = memchr(line, '\n', (size_t)(text + n - line));
        if (!end)
            break; /* a line cut short by a killed process */
        struct line_facts facts = read_line(line, (size_t)(end - line));
        if (facts.step >= 0 && facts.step <= step) {
            rc = atomic_file_write(&out, line, (size_t)(end + 1 - line), err);
            *last_eval = facts.eval ? facts.step : *last_eval;
        }
        line = end + 1;
    }
    free(text);
    if (rc == CADRE_OK)
        return atomic_file_commit(&out, err);
    atomic_file_abort(&out);
    return rc;
}

cadre_err train_log_open(struct train_log *log, const char *path, int64_t step, cadre_error *err)
{
    if (step > 0 && access(path, F_OK) == 0)
        TRY(keep_lines(path, step, &log->last_eval, err));
    log->path = strdup(path);
    log->f = fopen(path, step > 0 ? "ae" : "we");
    CHECK(err, log->f && log->path, CADRE_E_IO, "%s: cannot be written: %s", path, strerror(errno));
    return CADRE_OK;
}

/* JSON has no NaN: what was not measured is null. */
static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *load(const cadre_train_progress *p)
{
    json_t *layers = json_array();
    for (int64_t l = 0; l < p->n_layers; l++) {
        json_t *row = json_array();
        for (int64_t e = 0; e < p->n_experts; e++)
            json_array_append_new(row, json_integer((json_int_t)p->load[l * p->n_experts + e]));
        json_array_append_new(layers, row);
    }
    return layers;
}

char *cadre_train_progress_json(const cadre_train_progress *p)
{
    json_t *j = json_pack("{s:s, s:I, s:I, s:o}", "event", p->event, "step", (json_int_t)p->step, "tokens",
                          (json_int_t)p->tokens, "loss", number(p->loss));
    if (p->n_domains) {
        json_t *bits = json_object();
        for (int i = 0; i < p->n_domains; i++)
            json_object_set_new(bits, p->domain_names[i], number(p->domain_bits[i]));
        json_object_set_new(j, "bits_per_byte", bits);
        json_object_set_new(j, "bits_per_byte_all", number(p->bits_per_byte));
        json_object_set_new(j, "active_experts", number(p->active_experts));
        json_object_set_new(j, "active_flops", number(p->active_flops));
    } else {
        json_object_set_new(j, "tokens_per_s", number(p->tokens_per_s));
        json_object_set_new(j, "lr", number(p->lr));
        json_object_set_new(j, "grad_norm", number(p->grad_norm));
        json_object_set_new(j, "load_max_mean", number(p->load_max_mean));
        json_object_set_new(j, "load_entropy", number(p->load_entropy));
        json_object_set_new(j, "router_entropy", number(p->router_entropy));
        if (p->load)
            json_object_set_new(j, "load", load(p));
    }
    char *text = j ? json_dumps(j, JSON_COMPACT | JSON_REAL_PRECISION(8)) : NULL;
    json_decref(j);
    return text;
}

cadre_err train_log_add(struct train_log *log, const cadre_train_progress *p, cadre_error *err)
{
    char *text = cadre_train_progress_json(p);
    bool ok = text && fprintf(log->f, "%s\n", text) > 0 && fflush(log->f) == 0;
    free(text);
    CHECK(err, ok, CADRE_E_IO, "%s: writing the log failed: %s", log->path, strerror(errno));
    return CADRE_OK;
}

void train_log_close(struct train_log *log)
{
    if (log->f)
        fclose(log->f);
    free(log->path);
    *log = (struct train_log){0};
}
