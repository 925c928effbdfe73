/* A model file in other number formats: keys are copied, tensors decoded to f32 and encoded again, one at a time; those
 * of layers that predict further tokens, too.
 *
 * Which format a tensor gets: the last --tensor pattern that matches it; else f32 for vectors and routers; else for
 * experts
 * --experts, for all others --type, but never less than q6_k for the embedding and the output matrix, which every token
 * passes. Rows that are not whole blocks get the nearest format with smaller blocks. */
#include <fnmatch.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "model/kept.h"
#include "model/source.h"

struct override {
    const char *pattern; /* malloc'd */
    enum dtype type;
    bool used;
};

struct rules {
    enum dtype type, experts;
    struct override *tensors;
    int n_tensors;
    const cadre_quantize_options *options;
};

/* ---- the rules */

static cadre_err written_type(enum dtype *out, const char *what, const char *name, cadre_error *err)
{
    *out = dtype_by_name(name);
    if (*out != DTYPE_NONE && dtype_info(*out)->weight && dtype_info(*out)->encode)
        return CADRE_OK;
    char known[256] = "";
    for (int i = 0; i < DTYPE_COUNT; i++)
        if (dtype_info((enum dtype)i)->weight && dtype_info((enum dtype)i)->encode) {
            size_t n = strlen(known);
            snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", dtype_info((enum dtype)i)->name);
        }
    return error_set(err, CADRE_E_ARG, "%s: expected a format that can be written (%s), found '%s'", what, known, name);
}

static cadre_err read_override(struct override *out, const char *text, cadre_error *err)
{
    const char *sign = strrchr(text, '=');
    CHECK(err, sign && sign > text, CADRE_E_ARG, "tensor: expected PATTERN=TYPE, found '%s'", text);
    TRY(written_type(&out->type, text, sign + 1, err));
    out->pattern = strndup(text, (size_t)(sign - text));
    CHECK(err, out->pattern, CADRE_E_MEMORY, "no memory for the pattern '%s'", text);
    return CADRE_OK;
}

static void rules_free(struct rules *r)
{
    for (int i = 0; i < r->n_tensors; i++)
        free((char *)(uintptr_t)r->tensors[i].pattern);
    free(r->tensors);
}

static cadre_err rules_read(struct rules *r, const cadre_quantize_options *o, cadre_error *err)
{
    r->options = o;
    TRY(written_type(&r->type, "type", o->type, err));
    r->experts = r->type;
    if (o->experts)
        TRY(written_type(&r->experts, "experts", o->experts, err));
    r->tensors = calloc((size_t)o->n_tensors + 1, sizeof *r->tensors);
    CHECK(err, r->tensors, CADRE_E_MEMORY, "no memory for %d patterns", o->n_tensors);
    for (; r->n_tensors < o->n_tensors; r->n_tensors++)
        TRY(read_override(&r->tensors[r->n_tensors], o->tensors[r->n_tensors], err));
    return CADRE_OK;
}

/* A pattern names a tensor in full (blk.0.attn_v.weight) or its kind (attn_v.weight, attn_v). */
static bool names(const char *pattern, const struct param *p)
{
    char kind[64];
    snprintf(kind, sizeof kind, "%s", p->def->name);
    char *dot = strrchr(kind, '.');
    if (fnmatch(pattern, p->name, 0) == 0 || fnmatch(pattern, kind, 0) == 0)
        return true;
    if (dot)
        *dot = 0;
    return fnmatch(pattern, kind, 0) == 0;
}

static double bits(enum dtype t)
{
    return 8.0 * dtype_info(t)->bytes / dtype_info(t)->block;
}

static enum dtype wanted(const struct rules *r, const struct param *p)
{
    for (int i = r->n_tensors - 1; p->matrix && i >= 0; i--)
        if (names(r->tensors[i].pattern, p))
            return r->tensors[i].type;
    if (!p->matrix || p->no_quantize)
        return DTYPE_F32;
    if (p->def->flags & TENSOR_BY_EXPERT)
        return r->experts;
    bool ends = p->def->flags & TENSOR_LOOKUP || strcmp(p->def->name, "output.weight") == 0;
    return ends && bits(r->type) < bits(DTYPE_Q6_K) ? DTYPE_Q6_K : r->type;
}

/* What rows of k numbers get instead of a format whose blocks they do not fill. */
static enum dtype that_fits(enum dtype want, int64_t k)
{
    static const struct {
        enum dtype want, then;
    } smaller[] = {{DTYPE_Q4_K, DTYPE_Q5_0}, {DTYPE_Q5_K, DTYPE_Q5_1}, {DTYPE_Q6_K, DTYPE_Q8_0}};
    if (k % dtype_info(want)->block == 0)
        return want;
    for (size_t i = 0; i < sizeof smaller / sizeof *smaller; i++)
        if (smaller[i].want == want && k % dtype_info(smaller[i].then)->block == 0)
            return smaller[i].then;
    return DTYPE_F16;
}

static enum dtype chosen(void *user, const struct param *p)
{
    if (!dtype_info(p->type)->decode) /* an extra tensor: no other is opened */
        return p->type;
    return that_fits(wanted(user, p), p->dim[p->n_dims - 1]);
}

/* ---- what is rewritten */

struct source {
    struct gguf *g;
    struct model *m;
    struct kept *kept;
    struct extras extras;
};

static void source_close(struct source *s)
{
    extras_free(&s->extras);
    free(s->kept);
    model_free(s->m);
    gguf_close(s->g);
}

static cadre_err source_open(struct source *s, const char *path, cadre_error *err)
{
    TRY(model_source_open(&s->g, path, err));
    cadre_err rc = model_open_empty(&s->m, &s->kept, s->g, MLA_PLAIN, err);
    if (rc == CADRE_OK)
        rc = extras_find(&s->extras, s->g, s->m, err);
    return rc == CADRE_OK ? rc : error_wrap(err, rc, "%s", path);
}

static int64_t n_params(const struct source *s)
{
    return s->m->n_params + s->extras.n;
}

static const struct param *param_at(const struct source *s, int64_t i)
{
    return i < s->m->n_params ? &s->m->params[i] : &s->extras.param[i - s->m->n_params];
}

/* ---- what is told about it */

static void warn(const struct rules *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void warn(const struct rules *r, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (r->options->on_warning)
        r->options->on_warning(r->options->user, text);
}

static void warn_all(const struct rules *r, const struct source *s)
{
    int64_t again = 0, unfit[DTYPE_COUNT][DTYPE_COUNT] = {{0}};
    for (int64_t i = 0; i < n_params(s); i++) {
        const struct param *p = param_at(s, i);
        enum dtype want = wanted(r, p), got = chosen((void *)(uintptr_t)r, p);
        unfit[want][got] += got != want;
        again += got != p->type && dtype_info(p->type)->block > 1 && bits(got) < 16;
    }
    for (int want = 0; want < DTYPE_COUNT; want++)
        for (int got = 0; got < DTYPE_COUNT; got++)
            if (unfit[want][got])
                warn(r, "%lld tensors have rows that are not whole blocks of %u numbers: %s instead of %s",
                     (long long)unfit[want][got], dtype_info((enum dtype)want)->block,
                     dtype_info((enum dtype)got)->name, dtype_info((enum dtype)want)->name);
    if (again)
        warn(r, "%lld tensors were quantized already: both errors add up", (long long)again);
}

/* A pattern that matches nothing cannot act. */
static cadre_err check_overrides(struct rules *r, const struct source *s, cadre_error *err)
{
    for (int i = 0; i < r->n_tensors; i++) {
        for (int64_t j = 0; j < n_params(s) && !r->tensors[i].used; j++)
            r->tensors[i].used = param_at(s, j)->matrix && names(r->tensors[i].pattern, param_at(s, j));
        CHECK(err, r->tensors[i].used, CADRE_E_ARG, "tensor: no matrix of the model matches '%s'",
              r->tensors[i].pattern);
    }
    return CADRE_OK;
}

static cadre_err check_experts(const struct rules *r, const struct model *m, cadre_error *err)
{
    CHECK(err, !r->options->experts || m->spec.n_expert, CADRE_E_ARG, "experts: the model has none");
    return CADRE_OK;
}

static void count(const struct rules *r, const struct source *s, cadre_quantize_result *out)
{
    *out = (cadre_quantize_result){.tensors = n_params(s)};
    for (int64_t i = 0; i < n_params(s); i++) {
        const struct param *p = param_at(s, i);
        enum dtype to = chosen((void *)(uintptr_t)r, p);
        uint64_t bytes = 0;
        dtype_size(to, (uint64_t)tensor_count(&p->t), &bytes);
        out->bytes_in += p->file_bytes;
        out->bytes_out += bytes;
        if (r->options->on_tensor)
            r->options->on_tensor(r->options->user, p->name, dtype_info(p->type)->name, dtype_info(to)->name, bytes);
    }
}

/* ---- the work */

/* Keys that are set anew, or speak of the file and not of the model. */
static bool is_rewritten(const char *key)
{
    return strcmp(key, "general.file_type") == 0 || strcmp(key, "general.quantization_version") == 0 ||
           strcmp(key, "general.alignment") == 0 || strncmp(key, "split.", 6) == 0;
}

static bool pass_progress(void *user, int64_t done, int64_t total)
{
    const struct rules *r = user;
    return !r->options->progress || r->options->progress(r->options->user, done, total);
}

static cadre_err write_out(const char *path, const struct source *s, struct rules *r, struct pool *pool,
                           cadre_error *err)
{
    struct write_options o = {r->type, chosen, pass_progress, r, pool};
    struct gguf_writer *w;
    TRY(gguf_writer_open(&w, path, err));
    cadre_err rc = gguf_put_all(w, s->g, is_rewritten, err);
    if (rc == CADRE_OK)
        rc = model_rewrite(w, s->m, s->kept, &s->extras, s->g, &o, err);
    if (rc == CADRE_OK)
        return gguf_writer_commit(w, err);
    gguf_writer_abort(w);
    return rc;
}

cadre_err cadre_quantize(const char *in, const char *out, const cadre_quantize_options *options,
                         cadre_quantize_result *result, cadre_error *err)
{
    CHECK(err, in && out && options && options->type, CADRE_E_ARG,
          "cadre_quantize: in, out and options with a type must be given");
    struct rules r = {0};
    struct source s = {0};
    struct pool *pool = NULL;
    struct cpu cpu;
    cadre_quantize_result counts;
    cpu_detect(&cpu);
    cadre_err rc = rules_read(&r, options, err);
    if (rc != CADRE_OK)
        goto out;
    TRY_OUT(source_open(&s, in, err));
    TRY_OUT(check_overrides(&r, &s, err));
    TRY_OUT(check_experts(&r, s.m, err));
    TRY_OUT(pool_new(&pool, options->threads > 0 ? options->threads : cpu.cores, err));
    warn_all(&r, &s);
    TRY_OUT(model_source_loss(s.g, in, options->on_warning, options->user, err));
    TRY_OUT(write_out(out, &s, &r, pool, err));
    count(&r, &s, &counts);
    if (result)
        *result = counts;
out:
    pool_free(pool);
    source_close(&s);
    rules_free(&r);
    return rc;
}
