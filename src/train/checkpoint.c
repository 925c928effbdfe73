#include "train/checkpoint.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/safetensors.h"

/* The counters as text, so that 64 bits and doubles survive exactly. Doubles are written as hexadecimal floats. */
static cadre_err put_counters(struct safetensors_writer *w, const struct train_config *cfg, const struct sampler *s,
                              const struct run_state *run, cadre_error *err)
{
    char text[256], *p = text;
    snprintf(text, sizeof text, "%016" PRIx64, cfg->hash);
    TRY(safetensors_put_metadata(w, "config", text, err));
    snprintf(text, sizeof text, "%" PRId64 " %" PRId64 " %a %a", run->step, run->tokens, run->loss_mean,
             run->loss_best);
    TRY(safetensors_put_metadata(w, "run", text, err));
    for (int i = 0; i < 4; i++)
        p += snprintf(p, 18, "%016" PRIx64 " ", s->rng.s[i]);
    TRY(safetensors_put_metadata(w, "rng", text, err));
    for (int i = 0; i < s->n_domains; i++) {
        char key[TRAIN_NAME + 8];
        snprintf(key, sizeof key, "domain.%s", s->domains[i].name);
        snprintf(text, sizeof text, "%" PRId64 " %" PRId64, s->taken[i], s->domains[i].file.n);
        TRY(safetensors_put_metadata(w, key, text, err));
    }
    return CADRE_OK;
}

static cadre_err scan(const struct safetensors *f, const char *path, const char *key, const char **text,
                      cadre_error *err)
{
    *text = safetensors_metadata(f, key);
    CHECK(err, *text, CADRE_E_FORMAT, "%s: not a checkpoint: it has no '%s'", path, key);
    return CADRE_OK;
}

static cadre_err get_counters(const struct safetensors *f, const char *path, const struct train_config *cfg,
                              struct sampler *s, struct run_state *run, cadre_error *err)
{
    const char *text;
    uint64_t hash, word[4];
    TRY(scan(f, path, "config", &text, err));
    CHECK(err, sscanf(text, "%" SCNx64, &hash) == 1 && hash == cfg->hash, CADRE_E_ARG,
          "%s: made by another training description; resume with the one it was started with, or start anew under "
          "another name",
          path);
    TRY(scan(f, path, "run", &text, err));
    CHECK(err,
          sscanf(text, "%" SCNd64 " %" SCNd64 " %la %la", &run->step, &run->tokens, &run->loss_mean, &run->loss_best) ==
                  4 &&
              run->step >= 0 && run->tokens >= 0,
          CADRE_E_FORMAT, "%s: 'run': expected four numbers, found '%s'", path, text);
    TRY(scan(f, path, "rng", &text, err));
    CHECK(err,
          sscanf(text, "%" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64, &word[0], &word[1], &word[2], &word[3]) == 4,
          CADRE_E_FORMAT, "%s: 'rng': expected four words, found '%s'", path, text);
    for (int i = 0; i < s->n_domains; i++) {
        char key[TRAIN_NAME + 8];
        int64_t taken, n;
        snprintf(key, sizeof key, "domain.%s", s->domains[i].name);
        TRY(scan(f, path, key, &text, err));
        CHECK(err, sscanf(text, "%" SCNd64 " %" SCNd64, &taken, &n) == 2 && taken >= 0 && n == s->domains[i].file.n,
              CADRE_E_ARG, "%s: domain %s: the data has %lld tokens, the checkpoint was made with '%s' (read, all)",
              path, s->domains[i].name, (long long)s->domains[i].file.n, text);
        s->taken[i] = taken;
    }
    memcpy(s->rng.s, word, sizeof word);
    return CADRE_OK;
}

/* Visit every array of a checkpoint in file order: weights, then each optimizer state of what gradients train. */
struct array {
    char name[96];
    const struct param *param;
    real *x;
};

static bool array_at(int64_t i, const struct model *m, const struct optimizer *o, real *const *state, struct array *a)
{
    int64_t which = i / (o->n_states + 1), part = i % (o->n_states + 1);
    const struct param *p = &m->params[which];
    a->param = p;
    a->x = part == 0 ? p->t.x : state[which * o->n_states + part - 1];
    snprintf(a->name, sizeof a->name, "%s.%s", part == 0 ? "w" : o->state_names[part - 1], p->name);
    return part == 0 || p->by_gradient;
}

cadre_err checkpoint_write(const char *path, const struct train_config *cfg, const struct model *m,
                           const struct optimizer *o, real *const *state, const struct sampler *s,
                           const struct run_state *run, cadre_error *err)
{
    struct safetensors_writer *w;
    struct array a;
    int64_t n = m->n_params * (o->n_states + 1);
    TRY(safetensors_writer_open(&w, path, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(put_counters(w, cfg, s, run, err));
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
    struct array a;
    TRY(safetensors_open(&f, path, err));
    cadre_err rc = CADRE_OK;
    TRY_OUT(get_counters(f, path, cfg, s, run, err));
    for (int64_t i = 0; i < m->n_params * (o->n_states + 1); i++) {
        if (!array_at(i, m, o, state, &a))
            continue;
        const struct st_tensor *t = safetensors_find(f, a.name);
        CHECK_OUT(err, t, CADRE_E_FORMAT, "%s: there is no '%s'", path, a.name);
        bool same = t->type == DTYPE_F32 && t->n_dims == a.param->n_dims;
        for (int d = 0; same && d < t->n_dims; d++)
            same = t->dim[d] == a.param->dim[d];
        CHECK_OUT(err, same, CADRE_E_FORMAT, "%s: '%s' has another shape or type than the model", path, a.name);
        TRY_OUT(safetensors_read(f, t, a.x, err));
    }
out:
    safetensors_close(f);
    return rc;
}
