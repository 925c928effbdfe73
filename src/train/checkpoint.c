#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "file/safetensors.h"

/* Every array of a checkpoint in file order: weights, then each optimizer state of what gradients train. */
struct array {
    char name[96];
    const struct param *param;
    real *x;
};

static int64_t n_arrays(const struct model *m)
{
    return m->n_params * (OPTIMIZER_MAX_STATES + 1);
}

/* false: there is no i-th one */
static bool array_at(int64_t i, const struct model *m, const struct optimizer *o, real *const *state, struct array *a)
{
    int64_t which = i / (OPTIMIZER_MAX_STATES + 1), part = i % (OPTIMIZER_MAX_STATES + 1);
    const struct param *p = &m->params[which];
    const struct optimizer_rule *rule = optimizer_rule_of(o, p);
    if (part > (rule ? rule->n_states : 0))
        return false;
    a->param = p;
    a->x = part == 0 ? p->t.x : state[which * OPTIMIZER_MAX_STATES + part - 1];
    snprintf(a->name, sizeof a->name, "%s.%s", part == 0 ? "w" : rule->state_names[part - 1], p->name);
    return true;
}

/* What a checkpoint says in its metadata, as text, so that 64 bits and doubles survive exactly (doubles are written as
 * hexadecimal floats). */
enum { TEXT = 160 };
struct counters {
    char config[TEXT], run[TEXT], rng[TEXT], domain[TRAIN_MAX_DOMAINS][TEXT];
};

static void counters_print(struct counters *c, const struct train_config *cfg, const struct sampler *s,
                           const struct run_state *run)
{
    const uint64_t *r = s->rng.s;
    memset(c, 0, sizeof *c);
    snprintf(c->config, TEXT, "%016" PRIx64, cfg->hash);
    snprintf(c->run, TEXT, "%" PRId64 " %" PRId64 " %a %a", run->step, run->tokens, run->loss_mean, run->loss_best);
    snprintf(c->rng, TEXT, "%016" PRIx64 " %016" PRIx64 " %016" PRIx64 " %016" PRIx64, r[0], r[1], r[2], r[3]);
    for (int i = 0; i < s->n_domains; i++)
        snprintf(c->domain[i], TEXT, "%" PRId64 " %016" PRIx64, s->taken[i], s->domains[i].file.stamp);
}

static void domain_key(char key[TRAIN_NAME + 8], const struct domain *d)
{
    snprintf(key, TRAIN_NAME + 8, "domain.%s", d->name);
}

/* Of counters and arrays: a flipped bit anywhere is found. */
static cadre_err hash_all(const struct counters *c, const struct model *m, const struct optimizer *o,
                          real *const *state, char out[TEXT], cadre_error *err)
{
    struct array a;
    XXH3_state_t *h = XXH3_createState();
    CHECK(err, h, CADRE_E_MEMORY, "no memory to hash a checkpoint");
    XXH3_64bits_reset(h);
    XXH3_64bits_update(h, c, sizeof *c);
    for (int64_t i = 0; i < n_arrays(m); i++)
        if (array_at(i, m, o, state, &a))
            XXH3_64bits_update(h, a.x, (size_t)tensor_count(&a.param->t) * sizeof(real));
    snprintf(out, TEXT, "%016" PRIx64, XXH3_64bits_digest(h));
    XXH3_freeState(h);
    return CADRE_OK;
}

static cadre_err put_counters(struct safetensors_writer *w, const struct counters *c, const struct sampler *s,
                              const char *hash, cadre_error *err)
{
    TRY(safetensors_put_metadata(w, "config", c->config, err));
    TRY(safetensors_put_metadata(w, "run", c->run, err));
    TRY(safetensors_put_metadata(w, "rng", c->rng, err));
    for (int i = 0; i < s->n_domains; i++) {
        char key[TRAIN_NAME + 8];
        domain_key(key, &s->domains[i]);
        TRY(safetensors_put_metadata(w, key, c->domain[i], err));
    }
    return safetensors_put_metadata(w, "hash", hash, err);
}

static cadre_err get_text(const struct safetensors *f, const char *path, const char *key, const char **text,
                          cadre_error *err)
{
    *text = safetensors_metadata(f, key);
    CHECK(err, *text, CADRE_E_FORMAT, "%s: not a checkpoint: it has no '%s'", path, key);
    return CADRE_OK;
}

static cadre_err get_domain(const struct safetensors *f, const char *path, const struct domain *d, int64_t *taken,
                            cadre_error *err)
{
    const char *text;
    char key[TRAIN_NAME + 8];
    uint64_t stamp;
    domain_key(key, d);
    TRY(get_text(f, path, key, &text, err));
    CHECK(err, sscanf(text, "%" SCNd64 " %" SCNx64, taken, &stamp) == 2 && *taken >= 0, CADRE_E_FORMAT,
          "%s: '%s': expected a count and a stamp, found '%s'", path, key, text);
    CHECK(err, stamp == d->file.stamp, CADRE_E_ARG,
          "%s: made from another text or vocabulary of domain %s; resume with the data it was started with, or start "
          "anew under another name",
          path, d->name);
    return CADRE_OK;
}

static cadre_err get_counters(const struct safetensors *f, const char *path, const struct train_config *cfg,
                              struct sampler *s, struct run_state *run, cadre_error *err)
{
    const char *text;
    uint64_t hash, *r = s->rng.s;
    TRY(get_text(f, path, "config", &text, err));
    CHECK(err, sscanf(text, "%" SCNx64, &hash) == 1 && hash == cfg->hash, CADRE_E_ARG,
          "%s: made by another training description; resume with the one it was started with, or start anew under "
          "another name",
          path);
    TRY(get_text(f, path, "run", &text, err));
    CHECK(err,
          sscanf(text, "%" SCNd64 " %" SCNd64 " %la %la", &run->step, &run->tokens, &run->loss_mean, &run->loss_best) ==
                  4 &&
              run->step >= 0 && run->tokens >= 0,
          CADRE_E_FORMAT, "%s: 'run': expected four numbers, found '%s'", path, text);
    TRY(get_text(f, path, "rng", &text, err));
    CHECK(err, sscanf(text, "%" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &r[0], &r[1], &r[2], &r[3]) == 4,
          CADRE_E_FORMAT, "%s: 'rng': expected four words, found '%s'", path, text);
    for (int i = 0; i < s->n_domains; i++)
        TRY(get_domain(f, path, &s->domains[i], &s->taken[i], err));
    return CADRE_OK;
}

static cadre_err get_arrays(const struct safetensors *f, const char *path, struct model *m, const struct optimizer *o,
                            real *const *state, cadre_error *err)
{
    struct array a;
    for (int64_t i = 0; i < n_arrays(m); i++) {
        if (!array_at(i, m, o, state, &a))
            continue;
        const struct st_tensor *t = safetensors_find(f, a.name);
        CHECK(err, t, CADRE_E_FORMAT, "%s: there is no '%s'", path, a.name);
        bool same = t->type == DTYPE_F32 && t->n_dims == a.param->n_dims;
        for (int d = 0; same && d < t->n_dims; d++)
            same = t->dim[d] == a.param->dim[d];
        CHECK(err, same, CADRE_E_FORMAT, "%s: '%s' has another shape or type than the model", path, a.name);
        TRY(safetensors_read(f, t, a.x, err));
    }
    return CADRE_OK;
}

cadre_err checkpoint_write(const char *path, const struct train_config *cfg, const struct model *m,
                           const struct optimizer *o, real *const *state, const struct sampler *s,
                           const struct run_state *run, cadre_error *err)
{
    struct safetensors_writer *w;
    struct array a;
    struct counters counters;
    char hash[TEXT];
    int64_t n = n_arrays(m);
    counters_print(&counters, cfg, s, run);
    TRY(hash_all(&counters, m, o, state, hash, err));
    TRY(safetensors_writer_open(&w, path, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(put_counters(w, &counters, s, hash, err));
    for (int64_t i = 0; i < n; i++)
        if (array_at(i, m, o, state, &a))
            TRY_OUT(safetensors_put(w, a.name, DTYPE_F32, a.param->n_dims, a.param->dim, err));
    TRY_OUT(safetensors_write_begin(w, err));
    for (int64_t i = 0; i < n; i++)
        if (array_at(i, m, o, state, &a))
            TRY_OUT(safetensors_write(w, a.x, (uint64_t)tensor_count(&a.param->t) * sizeof(real), err));
    return safetensors_writer_commit(w, err);
out:
    safetensors_writer_abort(w);
    return rc;
}

cadre_err checkpoint_read(const char *path, const struct train_config *cfg, struct model *m, const struct optimizer *o,
                          real *const *state, struct sampler *s, struct run_state *run, cadre_error *err)
{
    struct safetensors *f;
    struct counters counters;
    char hash[TEXT];
    const char *expected;
    TRY(safetensors_open(&f, path, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(get_counters(f, path, cfg, s, run, err));
    TRY_OUT(get_arrays(f, path, m, o, state, err));
    TRY_OUT(get_text(f, path, "hash", &expected, err));
    counters_print(&counters, cfg, s, run);
    TRY_OUT(hash_all(&counters, m, o, state, hash, err));
    CHECK_OUT(err, strcmp(hash, expected) == 0, CADRE_E_FORMAT,
              "%s: damaged: its contents have the hash %s, expected %s; go on from a copy or start anew", path, hash,
              expected);
out:
    safetensors_close(f);
    return rc;
}
