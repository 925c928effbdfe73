#include "engine/runtime.h"

#include <stdlib.h>
#include <string.h>

#include "engine/memory.h"
#include "file/folder.h"
#include "model/experts.h"
#include "model/source.h"
#include "model/attention.h"

cadre_model_options cadre_model_options_default(void)
{
    return (cadre_model_options){0};
}

cadre_err runtime_fits(const struct cadre_model *m, uint64_t more, const char *what, cadre_error *err)
{
    uint64_t weights = m->model->bytes;
    CHECK(
        err, m->memory == 0 || (weights <= m->memory && more <= m->memory - weights), CADRE_E_MEMORY,
        "memory budget: %.1f MiB, but weights take %.1f MiB and %s %.1f MiB more; give more memory, a shorter context "
        "or a smaller number format",
        memory_mib(m->memory), memory_mib(weights), what, memory_mib(more));
    return CADRE_OK;
}

/* What the tensors take becomes weights: refuse before reading what cannot fit. */
static cadre_err check_file(const char *path, uint64_t memory, cadre_error *err)
{
    struct gguf *g;
    if (memory == 0)
        return CADRE_OK;
    TRY(model_source_open(&g, path, err));
    uint64_t size = model_source_bytes(g);
    gguf_close(g);
    CHECK(
        err, size <= memory, CADRE_E_MEMORY,
        "%s: %.1f MiB, over the memory budget of %.1f MiB; there is no expert store yet that would keep a part on disk",
        path, memory_mib(size), memory_mib(memory));
    return CADRE_OK;
}

static cadre_err open_tokenizer(struct tokenizer **out, const char *path, cadre_error *err)
{
    struct gguf *g;
    cadre_err rc;
    if (folder_is(path) || tokenizer_json_is(path)) {
        rc = tokenizer_from_json(out, path, 0, err);
    } else {
        TRY(gguf_open(&g, path, err));
        rc = tokenizer_from_gguf(out, g, err);
        gguf_close(g);
    }
    return rc ? error_wrap(err, rc, "%s", path) : CADRE_OK;
}

static cadre_err mla_choose(const char *name, enum mla_form *out, cadre_error *err)
{
    CHECK(err, !name || strcmp(name, "absorbed") == 0 || strcmp(name, "plain") == 0, CADRE_E_ARG,
          "mla: expected absorbed or plain, found '%s'", name);
    *out = name && strcmp(name, "plain") == 0 ? MLA_PLAIN : MLA_ABSORBED;
    return CADRE_OK;
}

static cadre_err mla_acts(const struct model *m, const char *name, cadre_error *err)
{
    for (int64_t i = 0; name && i < m->spec.n_layer; i++)
        if (spec_layer(&m->spec, i).attention == &attention_mla)
            return CADRE_OK;
    CHECK(err, !name, CADRE_E_ARG, "mla: this model (%s) has no latent attention that could be %s", m->spec.family,
          name);
    return CADRE_OK;
}

cadre_err cadre_model_open(cadre_model **out, const char *path, const cadre_model_options *options, cadre_error *err)
{
    CHECK(err, out, CADRE_E_ARG, "cadre_model_open: out must be given");
    *out = NULL;
    CHECK(err, path && options, CADRE_E_ARG, "cadre_model_open: %s must be given", path ? "options" : "path");
    CHECK(err, options->threads >= 0, CADRE_E_ARG, "threads: expected at least 0 (physical cores), found %d",
          options->threads);
    struct cpu cpu;
    enum isa isa;
    cpu_detect(&cpu);
    TRY(isa_choose(options->isa, &cpu, &isa, err));
    enum mla_form mla = MLA_ABSORBED;
    TRY(mla_choose(options->mla, &mla, err));
    if (!options->tokenizer_only)
        TRY(check_file(path, options->memory, err));
    struct cadre_model *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a model");
    m->memory = options->memory;
    m->path = strdup(path);
    kernels_init(&m->kernels, &cpu, isa);
    cadre_err rc = m->path ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a model");
    if (rc == CADRE_OK)
        rc = pool_new(&m->pool, options->threads > 0 ? options->threads : cpu.cores, err);
    if (rc == CADRE_OK && options->tokenizer_only)
        rc = open_tokenizer(&m->tokenizer, path, err);
    else if (rc == CADRE_OK)
        rc = model_open(&m->model, path, mla, &m->tokenizer, &m->kernels, m->pool, err);
    if (rc == CADRE_OK && m->model)
        rc = mla_acts(m->model, options->mla, err);
    if (rc == CADRE_OK && m->model)
        rc = runtime_fits(m, 0, "nothing", err);
    if (rc) {
        cadre_model_close(m);
        return rc;
    }
    *out = m;
    return CADRE_OK;
}

void cadre_model_close(cadre_model *m)
{
    if (!m)
        return;
    chat_templates_free(m->templates);
    free(m->path);
    tokenizer_free(m->tokenizer);
    model_free(m->model);
    pool_free(m->pool);
    free(m);
}

void cadre_free(void *p)
{
    free(p);
}

/* ---- bytes per token ----------------------------------------------------------------------------------- */

static uint64_t matrix_bytes(const struct weight *w)
{
    return w->packed ? packed_bytes(w->packed->type, w->n, w->k) : 0;
}

/* Of the tensors that are experts', or of the others: a mean, since of a token's slots light experts take their share.
 */
static double bytes_of(const struct model *m, bool experts)
{
    double sum = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        const struct weight *w = param_weight(m, p);
        if (!w || !(p->def->flags & TENSOR_BY_EXPERT) == experts)
            continue;
        double matrices = spec_tensor_uses(&m->spec, p->def, p->layer) * (double)(w->n_expert ? w->n_expert : 1);
        sum += matrices * (double)matrix_bytes(w);
    }
    return sum;
}

uint64_t runtime_bytes_per_token(const struct model *m)
{
    return (uint64_t)(bytes_of(m, false) + bytes_of(m, true) + 0.5);
}

double runtime_dense_bytes(const struct model *m)
{
    return bytes_of(m, false);
}

void runtime_expert_bytes(const struct model *m, double *bytes)
{
    const struct spec *s = &m->spec;
    int choices = spec_choices(s);
    for (int64_t i = 0; i < s->n_layer * choices; i++)
        bytes[i] = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        const struct weight *w = param_weight(m, p);
        if (!w || !(p->def->flags & TENSOR_BY_EXPERT) || p->layer < 0 || p->layer >= s->n_layer)
            continue;
        const int32_t *slices = m->layers[p->layer].moe.slice_start;
        for (int64_t e = 0; e < s->n_expert; e++)
            bytes[p->layer * choices + e] += (slices ? slices[e + 1] - slices[e] : 1) * (double)matrix_bytes(w);
    }
}

/* ---- text ---------------------------------------------------------------------------------------------- */

cadre_err cadre_tokenize(const cadre_model *m, const char *text, size_t n, bool special, int32_t **ids, size_t *n_ids,
                         cadre_error *err)
{
    CHECK(err, m && ids && n_ids, CADRE_E_ARG, "cadre_tokenize: a model, ids and n_ids must be given");
    *ids = NULL;
    *n_ids = 0;
    CHECK(err, m->tokenizer, CADRE_E_ARG, "cadre_tokenize: this model has no tokenizer");
    return tokenizer_encode(m->tokenizer, text, n, special ? TOKENIZE_SPECIAL : 0, ids, n_ids, err);
}

cadre_err cadre_detokenize(const cadre_model *m, const int32_t *ids, size_t n_ids, char **text, size_t *n,
                           cadre_error *err)
{
    CHECK(err, m && (ids || !n_ids) && text && n, CADRE_E_ARG,
          "cadre_detokenize: a model, ids, text and n must be given");
    *text = NULL;
    *n = 0;
    CHECK(err, m->tokenizer, CADRE_E_ARG, "cadre_detokenize: this model has no tokenizer");
    return tokenizer_decode(m->tokenizer, ids, n_ids, true, text, n, err);
}
