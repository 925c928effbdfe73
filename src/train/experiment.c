#include "train/experiment.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fileio.h"
#include "model/experts.h"

/* ---- descriptions as lists of pairs -------------------------------------------------------------------- */

struct pair {
    char section[TRAIN_NAME], name[TRAIN_NAME], value[256];
};

struct pairs {
    struct pair *at;
    int n;
};

static bool put_pair(struct pairs *p, const char *section, const char *name, const char *value)
{
    int i = 0;
    while (i < p->n && (strcmp(p->at[i].section, section) != 0 || strcmp(p->at[i].name, name) != 0))
        i++;
    if (i == p->n) {
        struct pair *more = realloc(p->at, (size_t)(p->n + 1) * sizeof *more);
        if (!more)
            return false;
        p->at = more;
        p->n++;
    }
    struct pair *at = &p->at[i];
    return snprintf(at->section, sizeof at->section, "%s", section) < (int)sizeof at->section &&
           snprintf(at->name, sizeof at->name, "%s", name) < (int)sizeof at->name &&
           snprintf(at->value, sizeof at->value, "%s", value) < (int)sizeof at->value;
}

static int on_base_pair(void *user, const char *section, const char *name, const char *value)
{
    return put_pair(user, section, name, value);
}

static cadre_err read_pairs(struct pairs *p, const char *path, cadre_error *err)
{
    char *text;
    size_t n;
    TRY(file_slurp(path, 1 << 20, &text, &n, err));
    int line = ini_parse_string(text, on_base_pair, p);
    free(text);
    CHECK(err, line == 0, CADRE_E_FORMAT, "%s: line %d: expected [section] or key = value", path, line);
    return CADRE_OK;
}

/* The pairs as a description again, section by section in order of first appearance. */
static char *print_pairs(const struct pairs *p)
{
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f)
        return NULL;
    for (int i = 0; i < p->n; i++) {
        bool first = true;
        for (int j = 0; j < i; j++)
            first &= strcmp(p->at[j].section, p->at[i].section) != 0;
        if (!first)
            continue;
        fprintf(f, "[%s]\n", p->at[i].section);
        for (int j = i; j < p->n; j++)
            if (strcmp(p->at[j].section, p->at[i].section) == 0)
                fprintf(f, "%s = %s\n", p->at[j].name, p->at[j].value);
    }
    return fclose(f) == 0 ? text : NULL;
}

/* ---- cost ---------------------------------------------------------------------------------------------- */

/* Numbers of a layer's experts, and what of all layers' a token multiplies with by the sizes. */
static int64_t expert_numbers(const struct spec *s, double *used)
{
    struct tensor_walk w = tensor_walk(s);
    int64_t layer = -1, numbers = 0;
    *used = 0;
    while (tensor_next(&w)) {
        int64_t n = 1;
        if (!(w.def->flags & TENSOR_BY_EXPERT))
            continue;
        for (int i = 0; i < w.n_dims; i++)
            n *= w.dim[i];
        *used += (double)llround((double)n * spec_tensor_uses(s, w.def, w.layer));
        layer = layer < 0 ? w.layer : layer;
        numbers += w.layer == layer ? n : 0;
    }
    return numbers;
}

struct variant_cost variant_cost(const struct train_config *cfg)
{
    const struct spec *s = &cfg->spec;
    struct spec_counts n = spec_count(s);
    double used, layer = (double)expert_numbers(s, &used);
    /* scores and sums over the (sequence + 1) / 2 positions that a token sees on average */
    double attention = 2.0 * (double)(s->head_dim + s->v_dim) * (double)s->n_head * (double)(cfg->sequence + 1) / 2;
    return (struct variant_cost){
        .parameters = n.parameters,
        .active_parameters = n.active_parameters,
        .flops = 3 * (2.0 * (double)n.active_parameters + attention * (double)s->n_layer),
        .fixed_flops = 2.0 * ((double)n.active_parameters - used) + attention * (double)s->n_layer,
        .slice_flops = s->n_expert ? 2.0 * layer / (double)spec_slices(s) : 0,
    };
}

static double cost_of(const struct variant_cost *c, enum experiment_equal equal)
{
    return equal == EQUAL_PARAMETERS ? (double)c->active_parameters : c->flops;
}

/* ---- variants ------------------------------------------------------------------------------------------ */

struct parse {
    struct experiment *x;
    const char *path;
    char base[256], tokens[32];
    struct pairs overrides[EXPERIMENT_MAX];
    cadre_err rc;
    cadre_error *err;
};

static cadre_err set_seeds(struct parse *p, const char *value)
{
    struct experiment *x = p->x;
    x->n_seeds = 0;
    for (const char *at = value; *at;) {
        char *end;
        errno = 0;
        long long seed = strtoll(at, &end, 10);
        CHECK(p->err, end != at && !errno && seed >= 0 && x->n_seeds < EXPERIMENT_MAX, CADRE_E_ARG,
              "[experiment] seeds: expected 1 to %d whole numbers, found '%s'", EXPERIMENT_MAX, value);
        x->seeds[x->n_seeds++] = seed;
        at = end + strspn(end, " ,\t");
    }
    return CADRE_OK;
}

static cadre_err set_experiment(struct parse *p, const char *name, const char *value)
{
    static const char *const equal[] = {"none", "flops", "parameters"};
    if (strcmp(name, "seeds") == 0)
        return set_seeds(p, value);
    if (strcmp(name, "equal") == 0) {
        for (int i = 0; i < 3; i++)
            if (strcmp(equal[i], value) == 0) {
                p->x->equal = (enum experiment_equal)i;
                return CADRE_OK;
            }
        return error_set(p->err, CADRE_E_ARG, "[experiment] equal: expected none, flops or parameters, found '%s'",
                         value);
    }
    char *to = strcmp(name, "name") == 0     ? p->x->name
               : strcmp(name, "base") == 0   ? p->base
               : strcmp(name, "tokens") == 0 ? p->tokens
                                             : NULL;
    size_t room = to == p->base ? sizeof p->base : to == p->tokens ? sizeof p->tokens : sizeof p->x->name;
    CHECK(p->err, to, CADRE_E_ARG, "[experiment] %s: unknown key (there are name, base, seeds, tokens, equal)", name);
    CHECK(p->err, strlen(value) < room, CADRE_E_ARG, "[experiment] %s: at most %zu characters", name, room - 1);
    strcpy(to, value);
    return CADRE_OK;
}

static bool plain_name(const char *name)
{
    return *name && strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") == strlen(name);
}

static cadre_err set_variant(struct parse *p, const char *section, const char *name, const char *value)
{
    struct experiment *x = p->x;
    int i = 0;
    while (i < x->n_variants && strcmp(x->variants[i].name, section) != 0)
        i++;
    if (i == x->n_variants) {
        CHECK(p->err, i < EXPERIMENT_MAX && strlen(section) < TRAIN_NAME && plain_name(section), CADRE_E_ARG,
              "[%s]: expected at most %d variants, their names of letters, digits, '-', '_' and '.'", section,
              EXPERIMENT_MAX);
        strcpy(x->variants[x->n_variants++].name, section);
    }
    struct variant *v = &x->variants[i];
    if (strcmp(name, "fit") == 0) {
        CHECK(p->err, strlen(value) < TRAIN_NAME, CADRE_E_ARG, "[%s] fit: expected a key of [model], found '%s'",
              section, value);
        strcpy(v->fit, value);
        return CADRE_OK;
    }
    if (strcmp(name, "variant") == 0) /* a variant that is the base itself still needs a line */
        return CADRE_OK;
    const char *dot = strchr(name, '.');
    char part[TRAIN_NAME];
    CHECK(p->err, dot && dot - name < TRAIN_NAME, CADRE_E_ARG,
          "[%s] %s: expected fit, variant, or an override like model.experts or train.lr", section, name);
    snprintf(part, sizeof part, "%.*s", (int)(dot - name), name);
    CHECK(p->err, put_pair(&p->overrides[i], part, dot + 1, value), CADRE_E_ARG, "[%s] %s: too long", section, name);
    return CADRE_OK;
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct parse *p = user;
    if (p->rc == CADRE_OK)
        p->rc =
            strcmp(section, "experiment") == 0 ? set_experiment(p, name, value) : set_variant(p, section, name, value);
    return p->rc == CADRE_OK;
}

static cadre_err make_variant(struct variant *v, const struct pairs *pairs, cadre_error *err)
{
    free(v->text);
    v->text = print_pairs(pairs);
    CHECK(err, v->text, CADRE_E_MEMORY, "no memory for variant %s", v->name);
    cadre_err rc = train_config_parse(&v->cfg, v->name, v->text, err);
    return rc ? error_wrap(err, rc, "variant") : CADRE_OK;
}

/* The width (a multiple of 8) whose cost is nearest to `want`: cost rises with it. */
static cadre_err fit_variant(struct variant *v, struct pairs *pairs, enum experiment_equal equal, double want,
                             cadre_error *err)
{
    enum { STEP = 8 };
    int64_t low = 0, high = (1 << 20) / STEP; /* the cost of low is below, or low is 0; that of high is not below */
    double cost[2] = {NAN, NAN};
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        char value[32];
        snprintf(value, sizeof value, "%lld", (long long)(middle * STEP));
        CHECK(err, put_pair(pairs, "model", v->fit, value), CADRE_E_MEMORY, "no memory for variant %s", v->name);
        TRY(make_variant(v, pairs, err));
        struct variant_cost c = variant_cost(&v->cfg);
        bool below = cost_of(&c, equal) < want;
        cost[below ? 0 : 1] = cost_of(&c, equal);
        *(below ? &low : &high) = middle;
    }
    CHECK(err, isfinite(cost[1]), CADRE_E_ARG, "[%s] fit = %s: no width reaches the first variant's cost", v->name,
          v->fit);
    bool lower = isfinite(cost[0]) && want - cost[0] < cost[1] - want;
    char value[32];
    v->fitted = (lower ? low : high) * STEP;
    snprintf(value, sizeof value, "%lld", (long long)v->fitted);
    CHECK(err, put_pair(pairs, "model", v->fit, value), CADRE_E_MEMORY, "no memory for variant %s", v->name);
    return make_variant(v, pairs, err);
}

/* Base, then the experiment's tokens, then the variant's own. */
static cadre_err build_variant(struct parse *p, int i, const struct pairs *base, cadre_error *err)
{
    struct experiment *x = p->x;
    struct variant *v = &x->variants[i];
    struct pairs all = {0};
    bool ok = true;
    cadre_err rc = CADRE_OK;
    for (int j = 0; j < base->n; j++)
        ok = ok && put_pair(&all, base->at[j].section, base->at[j].name, base->at[j].value);
    if (*p->tokens)
        ok = ok && put_pair(&all, "train", "tokens", p->tokens);
    for (int j = 0; j < p->overrides[i].n; j++)
        ok = ok &&
             put_pair(&all, p->overrides[i].at[j].section, p->overrides[i].at[j].name, p->overrides[i].at[j].value);
    CHECK_OUT(err, ok, CADRE_E_MEMORY, "no memory for variant %s", v->name);
    struct variant_cost want = i ? variant_cost(&x->variants[0].cfg) : (struct variant_cost){0};
    if (*v->fit) {
        CHECK_OUT(
            err, i > 0 && x->equal != EQUAL_NONE, CADRE_E_ARG,
            "%s: [%s] fit acts with [experiment] equal = flops or parameters, on any variant but the first, which "
            "sets the measure",
            p->path, v->name);
        rc = fit_variant(v, &all, x->equal, cost_of(&want, x->equal), err);
    } else {
        rc = make_variant(v, &all, err);
    }
    if (rc == CADRE_OK && i > 0 && x->equal != EQUAL_NONE) {
        struct variant_cost have = variant_cost(&v->cfg);
        double ratio = cost_of(&have, x->equal) / cost_of(&want, x->equal);
        CHECK_OUT(
            err, fabs(ratio - 1) <= 0.02, CADRE_E_ARG,
            "%s: [%s] costs %.3f times the %s a token of [%s], expected 0.98 to 1.02; change its sizes, let fit = "
            "expert_ff (or dense_ff, …) choose one, or set equal = none",
            p->path, v->name, ratio, x->equal == EQUAL_FLOPS ? "FLOPs" : "active parameters", x->variants[0].name);
    }
out:
    free(all.at);
    return rc;
}

static cadre_err parse_text(struct parse *p, const char *text, cadre_error *err)
{
    int line = ini_parse_string(text, on_pair, p);
    if (p->rc)
        return line > 0 ? error_wrap(err, p->rc, "%s: line %d", p->path, line) : p->rc;
    CHECK(err, line == 0, CADRE_E_FORMAT, "%s: line %d: expected [section] or key = value", p->path, line);
    CHECK(err, *p->base && p->x->n_variants > 0, CADRE_E_ARG,
          "%s: expected [experiment] base = DESCRIPTION, and a section for each variant", p->path);
    /* base: beside this file */
    const char *slash = strrchr(p->path, '/');
    char path[4096];
    snprintf(path, sizeof path, "%.*s%s", *p->base == '/' || !slash ? 0 : (int)(slash + 1 - p->path), p->path, p->base);
    struct pairs base = {0};
    cadre_err rc = read_pairs(&base, path, err);
    for (int i = 0; i < p->x->n_variants && rc == CADRE_OK; i++)
        rc = build_variant(p, i, &base, err);
    free(base.at);
    return rc;
}

cadre_err experiment_read(struct experiment *x, const char *path, cadre_error *err)
{
    char *text;
    size_t n;
    *x = (struct experiment){.seeds = {1}, .n_seeds = 1};
    strcpy(x->name, "experiment");
    TRY(file_slurp(path, 1 << 20, &text, &n, err));
    struct parse *p = calloc(1, sizeof *p);
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, p, CADRE_E_MEMORY, "no memory for an experiment");
    p->x = x, p->path = path, p->err = err;
    rc = parse_text(p, text, err);
    for (int i = 0; i < EXPERIMENT_MAX; i++)
        free(p->overrides[i].at);
out:
    free(p);
    free(text);
    return rc;
}

void experiment_free(struct experiment *x)
{
    for (int i = 0; i < x->n_variants; i++)
        free(x->variants[i].text);
}

char *experiment_run_text(const struct variant *v, int64_t seed)
{
    struct pairs pairs = {0};
    char value[32], *text = NULL;
    snprintf(value, sizeof value, "%lld", (long long)seed);
    if (ini_parse_string(v->text, on_base_pair, &pairs) == 0 && put_pair(&pairs, "train", "seed", value))
        text = print_pairs(&pairs);
    free(pairs.at);
    return text;
}
