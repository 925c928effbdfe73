#include "train/start.h"

#include <math.h>
#include <string.h>

/* What shapes do not show but changes what the weights mean. */
static cadre_err same_rules(const struct spec *a, const struct spec *b, const char *path, cadre_error *err)
{
    const struct {
        const char *name;
        double described, found;
    } rows[] = {
        {"heads", (double)a->n_head, (double)b->n_head},
        {"kv_heads", (double)a->n_kv_head, (double)b->n_kv_head},
        {"head_dim", (double)a->head_dim, (double)b->head_dim},
        {"rope_base", (double)a->rope_base, (double)b->rope_base},
        {"rope_pairs", a->rope_pairs, b->rope_pairs},
        {"norm_eps", (double)a->norm_eps, (double)b->norm_eps},
        {"qk_norm", a->qk_norm, b->qk_norm},
        {"experts_used", a->router.k, b->router.k},
        {"router_normalize", a->router.normalize, b->router.normalize},
        {"router_scale", (double)a->router.scale, (double)b->router.scale},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK(err, fabs(rows[i].described - rows[i].found) <= 1e-6 * fabs(rows[i].found), CADRE_E_ARG,
              "%s: has %s %g, [model] says %g; a run starts from a model of its own description", path, rows[i].name,
              rows[i].found, rows[i].described);
    CHECK(err, a->router.kind == b->router.kind || !a->n_expert, CADRE_E_ARG, "%s: has router %s, [model] says %s",
          path, b->router.kind ? b->router.kind->name : "none", a->router.kind ? a->router.kind->name : "none");
    return CADRE_OK;
}

static const struct param *find(const struct model *m, const char *name)
{
    for (int64_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return &m->params[i];
    return NULL;
}

/* Files of some families hold the output matrix of a tied model once more. */
static bool is_tied_copy(const struct model *m, const struct model *from, const struct param *p)
{
    const struct param *embedding = find(from, "token_embd.weight");
    return m->spec.tied && strcmp(p->name, "output.weight") == 0 && embedding &&
           tensor_count(&embedding->t) == tensor_count(&p->t) &&
           memcmp(embedding->t.x, p->t.x, (size_t)tensor_count(&p->t) * sizeof *p->t.x) == 0;
}

static cadre_err copy_all(struct model *m, const struct model *from, const char *path, cadre_error *err)
{
    for (int64_t i = 0; i < from->n_params; i++)
        CHECK(err, find(m, from->params[i].name) || is_tied_copy(m, from, &from->params[i]), CADRE_E_ARG,
              "%s: has '%s', which [model] does not describe", path, from->params[i].name);
    for (int64_t i = 0; i < m->n_params; i++) {
        struct param *to = &m->params[i];
        const struct param *p = find(from, to->name);
        CHECK(err, p, CADRE_E_ARG, "%s: has no '%s', which [model] describes", path, to->name);
        bool same = p->n_dims == to->n_dims;
        for (int d = 0; same && d < p->n_dims; d++)
            same = p->dim[d] == to->dim[d];
        CHECK(err, same, CADRE_E_ARG, "%s: '%s' has another shape than [model] describes", path, to->name);
        memcpy(to->t.x, p->t.x, (size_t)tensor_count(&to->t) * sizeof *to->t.x);
    }
    return CADRE_OK;
}

cadre_err start_from(struct model *m, const struct gguf *file, const char *path, cadre_error *err)
{
    struct model *from;
    TRY(model_open_params(&from, file, false, err));
    cadre_err rc = copy_all(m, from, path, err);
    if (rc == CADRE_OK)
        rc = same_rules(&m->spec, &from->spec, path, err);
    model_free(from);
    return rc;
}

void start_tokens(struct model *m, const int32_t *ids, int n)
{
    static const char *const by_token[] = {"token_embd.weight", "output.weight"};
    for (int k = 0; k < 2; k++) {
        const struct param *p = find(m, by_token[k]);
        if (!p)
            continue;
        int64_t rows = tensor_rows(&p->t), d = tensor_cols(&p->t);
        for (int64_t j = 0; n > 0 && j < d; j++) {
            double sum = 0;
            for (int64_t i = 0; i < rows; i++)
                sum += (double)p->t.x[i * d + j];
            for (int i = 0; i < n; i++)
                p->t.x[ids[i] * d + j] = (real)(sum / (double)rows);
        }
    }
}
