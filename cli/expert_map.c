#include "expert_map.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "svg.h"

enum { PERMUTATIONS = 999, NAME = 48 };

void expert_map_add(struct expert_map *m, const int64_t *count, int64_t layers, int64_t experts)
{
    size_t each = (size_t)layers * (size_t)experts;
    if ((m->n & (m->n - 1)) == 0) { /* room doubles */
        size_t room = m->n ? 2 * (size_t)m->n : 1;
        int64_t *more = realloc(m->count, room * each * sizeof *more);
        if (more)
            m->count = more;
        int *groups = realloc(m->group, room * sizeof *groups);
        if (groups)
            m->group = groups;
        m->failed |= !more || !groups;
    }
    if (m->failed)
        return;
    m->layers = layers, m->experts = experts;
    memcpy(m->count + (size_t)m->n * each, count, each * sizeof *count);
    m->group[m->n++] = m->text;
}

void expert_map_free(struct expert_map *m)
{
    free(m->count);
    free(m->group);
}

static int failed(const char *what, const char *why)
{
    fprintf(stderr, "cadre: %s: %s\n", what, why);
    return EXIT_FAILED;
}

/* "corpus/prose/heldout.txt" is prose, "letters.txt" letters. */
static void domain_name(char out[NAME], const char *path)
{
    const char *base = strrchr(path, '/'), *from = base ? base + 1 : path;
    size_t n = strcspn(from, ".");
    if (base && ((n == 5 && strncmp(from, "train", n) == 0) || (n == 7 && strncmp(from, "heldout", n) == 0))) {
        const char *end = base;
        for (from = base; from > path && from[-1] != '/';)
            from--;
        n = (size_t)(end - from);
    }
    snprintf(out, NAME, "%.*s", (int)n, from);
}

/* Rows are texts, columns experts, 1 is an even share. */
static int draw(const struct expert_map *m, const struct texts *files, const char *path, double bits, double p)
{
    size_t each = (size_t)files->n * (size_t)m->experts, layers = (size_t)m->layers;
    double *value = calloc(layers * each, sizeof *value);
    struct svg_panel *panel = calloc(layers, sizeof *panel);
    char(*title)[NAME] = calloc(layers, sizeof *title), (*name)[NAME] = calloc((size_t)files->n, sizeof *name);
    const char **names = calloc((size_t)files->n, sizeof *names);
    int n = 0, status = EXIT_DONE;
    if (!value || !panel || !title || !name || !names) {
        status = failed(path, "no memory");
        goto out;
    }
    for (int i = 0; i < files->n; i++) {
        domain_name(name[i], files->at[i]);
        names[i] = name[i];
    }
    for (int64_t l = 0; l < m->layers; l++) {
        double *v = value + (size_t)n * each, all = 0;
        for (int64_t w = 0; w < m->n; w++)
            for (int64_t e = 0; e < m->experts; e++)
                v[m->group[w] * m->experts + e] += (double)m->count[(w * m->layers + l) * m->experts + e];
        for (int i = 0; i < files->n; i++) {
            double sum = 0;
            for (int64_t e = 0; e < m->experts; e++)
                sum += v[i * m->experts + e];
            all += sum;
            for (int64_t e = 0; e < m->experts; e++)
                v[i * m->experts + e] = sum > 0 ? v[i * m->experts + e] / sum * (double)m->experts : NAN;
        }
        if (all == 0) {
            memset(v, 0, each * sizeof *v);
            continue; /* a dense layer */
        }
        snprintf(title[n], NAME, "layer %lld", (long long)l);
        panel[n] = (struct svg_panel){title[n], v};
        n++;
    }
    char note[160];
    snprintf(note, sizeof note,
             "domain tells %.4f bits of a token's expert (mean of layers); permutation test p %s %.3g", bits,
             p <= 1.0 / (PERMUTATIONS + 1) ? "≤" : "=", p);
    struct svg_heat h = {.title = "Expert use by domain",
                         .note = note,
                         .x_label = "expert",
                         .scale = "use / even",
                         .n_panels = n,
                         .rows = files->n,
                         .cols = (int)m->experts,
                         .panel = panel,
                         .row_name = names,
                         .numbered = true};
    if (!svg_heat(path, &h))
        status = failed(path, strerror(errno));
out:
    free(value);
    free(panel);
    free(title);
    free(name);
    free(names);
    return status;
}

int expert_map_finish(const struct expert_map *m, const struct texts *files, const char *path, bool json, json_t *out)
{
    cadre_error err = {0};
    if (m->failed)
        return failed(path, "no memory for the use of experts");
    if (m->n == 0)
        return failed(path, "the model has no experts to draw");
    double *bits = calloc(2 * (size_t)(m->layers + 1), sizeof *bits);
    if (!bits)
        return failed(path, "no memory");
    double *p = bits + m->layers + 1;
    int status = EXIT_DONE;
    if (cadre_associate(m->count, m->group, m->n, files->n, m->layers, m->experts, PERMUTATIONS, bits, p, &err))
        status = cli_fail(&err);
    if (status == EXIT_DONE) {
        json_t *layers = json_array();
        for (int64_t l = 0; l < m->layers; l++)
            json_array_append_new(layers, json_pack("{s:f, s:f}", "bits", bits[l], "p", p[l]));
        json_object_set_new(out, "association",
                            json_pack("{s:f, s:f, s:I, s:i, s:o}", "bits", bits[m->layers], "p", p[m->layers],
                                      "windows", (json_int_t)m->n, "permutations", PERMUTATIONS, "layers", layers));
        if (!json)
            printf("domain tells %.4f bits of a token's expert (mean of layers); p %s %.3g, %d permutations of %lld "
                   "windows\n",
                   bits[m->layers], p[m->layers] <= 1.0 / (PERMUTATIONS + 1) ? "≤" : "=", p[m->layers], PERMUTATIONS,
                   (long long)m->n);
        status = draw(m, files, path, bits[m->layers], p[m->layers]);
    }
    free(bits);
    return status;
}
