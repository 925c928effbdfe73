/* Speeds of a model beside this machine's roofs, all measured in one run: memory read once, and products in the format
 * of the model's weights on operands that stay in cache. Prompts and generation alternate, so that drift hits both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/generate.h"
#include "engine/roof.h"
#include "engine/session.h"
#include "model/experts.h"
#include "model/tensors.h"

enum { MAX_REPEATS = 100 };

cadre_bench_options cadre_bench_options_default(void)
{
    return (cadre_bench_options){.prompt = 512, .generate = 64, .repeats = 5, .kv = "f32", .act = "f32"};
}

/* ---- roofs of this machine ----------------------------------------------------------------------------- */

#define READ_BYTES ((uint64_t)2 << 30) /* far more than caches hold */
enum { READ_ITEM = 4 << 20, READ_LEAST = 256 << 20 };

struct read_job {
    const struct kernels *k;
    const float *x;
    real *sum; /* [items] so that no read can be left out */
};

static void read_item(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct read_job *j = arg;
    int64_t n = READ_ITEM / (int64_t)sizeof(real);
    j->sum[item] = j->k->max((const real *)j->x + item * n, n);
}

/* What may be read: less than READ_BYTES where half of what is available, or of what the budget leaves, is less. */
static cadre_err read_size(const struct cadre_model *m, uint64_t *bytes, cadre_error *err)
{
    cadre_machine machine;
    TRY(cadre_machine_get(&machine, err));
    *bytes = READ_BYTES;
    if (machine.memory_available_bytes / 2 < *bytes)
        *bytes = machine.memory_available_bytes / 2;
    if (m->memory > 0 && m->memory - m->model->bytes < *bytes)
        *bytes = m->memory - m->model->bytes;
    *bytes -= *bytes % READ_ITEM;
    if (*bytes < READ_LEAST)
        *bytes = READ_LEAST;
    return runtime_fits(m, *bytes, "measuring its read bandwidth", err);
}

/* Best of three passes on one thread and three on all. */
static cadre_err read_bandwidth(const struct cadre_model *m, uint64_t *bytes, double *out, cadre_error *err)
{
    struct arena a;
    TRY(read_size(m, bytes, err));
    TRY(arena_init(&a, *bytes + (1 << 20), err));
    int64_t items = (int64_t)(*bytes / READ_ITEM);
    struct read_job j = {.k = &m->kernels, .x = arena_alloc(&a, *bytes)};
    j.sum = arena_alloc(&a, (size_t)items * sizeof *j.sum);
    memset((void *)j.x, 0, *bytes); /* every page is there */
    *out = 0;
    for (int i = 0; i < 6; i++) {
        double start = clock_now();
        pool_run(i % 2 ? m->pool : NULL, items, read_item, &j);
        *out = fmax(*out, (double)*bytes / (clock_now() - start));
    }
    arena_destroy(&a);
    return CADRE_OK;
}

/* The packed matrix that a token reads most of: what its format reaches is the roof. */
static const struct packed *main_matrix(const struct model *m)
{
    const struct packed *found = NULL;
    double most = 0;
    for (int64_t i = 0; i < m->n_params; i++) {
        const struct param *p = &m->params[i];
        const struct weight *w = param_weight(m, p);
        if (!w || !w->packed)
            continue;
        double read = spec_tensor_uses(&m->spec, p->def, p->layer) * (double)max_i64(1, w->n_expert) *
                      (double)packed_bytes(w->packed->type, w->n, w->k);
        if (p->layer >= 0 && read > most) {
            most = read;
            found = w->packed;
        }
    }
    return found;
}

static cadre_err compute_roof(const struct cadre_model *m, enum act act, cadre_bench_result *out, cadre_error *err)
{
    const struct packed *w = main_matrix(m->model);
    TRY(roof_products(&m->kernels, m->pool, GEMM_F32, &out->f32_roof, err));
    out->compute_roof = out->f32_roof;
    snprintf(out->format, sizeof out->format, "%s", w ? dtype_info(w->type)->name : "f32");
    return w ? roof_linear(&m->kernels, m->pool, w, act, &out->compute_roof, err) : CADRE_OK;
}

/* ---- the model ----------------------------------------------------------------------------------------- */

static cadre_err check_cancel(const cadre_bench_options *o, cadre_error *err)
{
    CHECK(err, !o->cancel || !o->cancel(o->user), CADRE_E_CANCELLED, "stopped by the caller before the last repeat");
    return CADRE_OK;
}

/* n random tokens, at most SESSION_CHUNK at a time */
static cadre_err feed(struct session *s, const cadre_bench_options *o, struct rng *rng, int64_t n_vocab, int64_t n,
                      int64_t chunk, cadre_error *err)
{
    struct session_output out;
    int32_t token[SESSION_CHUNK];
    for (int64_t at = 0; at < n; at += chunk) {
        int64_t some = min_i64(chunk, n - at);
        TRY(check_cancel(o, err));
        for (int64_t i = 0; i < some; i++)
            token[i] = (int32_t)rng_below(rng, (uint64_t)n_vocab);
        TRY(session_feed(s, token, some, &out, err));
    }
    return CADRE_OK;
}

/* One prompt, then single steps; both timed. */
static cadre_err one_run(struct session *s, const cadre_bench_options *o, int64_t n_vocab, uint64_t seed,
                         double *prompt, double *generate, cadre_error *err)
{
    struct rng rng;
    rng_seed(&rng, seed);
    session_rewind(s, 0);
    double start = clock_now();
    TRY(feed(s, o, &rng, n_vocab, o->prompt, SESSION_CHUNK, err));
    double middle = clock_now();
    TRY(feed(s, o, &rng, n_vocab, o->generate, 1, err));
    *prompt = o->prompt / (middle - start);
    *generate = o->generate / (clock_now() - middle);
    return CADRE_OK;
}

/* Working memory and caches as they are in a long run: a first chunk and a step are left out. */
static cadre_err warm_up(struct session *s, const cadre_bench_options *o, int64_t n_vocab, cadre_error *err)
{
    struct rng rng;
    rng_seed(&rng, MAX_REPEATS);
    TRY(feed(s, o, &rng, n_vocab, min_i64(o->prompt, SESSION_CHUNK), SESSION_CHUNK, err));
    return feed(s, o, &rng, n_vocab, 1, 1, err);
}

static cadre_err check_options(const cadre_bench_options *o, struct session_options *so, cadre_error *err)
{
    CHECK(err, o->prompt >= 1 && o->generate >= 1 && o->repeats >= 1 && o->repeats <= MAX_REPEATS, CADRE_E_ARG,
          "bench: expected at least one prompt token, one generated token and 1 to %d repeats, found %d, %d and %d",
          MAX_REPEATS, o->prompt, o->generate, o->repeats);
    const cadre_generate_options g = {.kv = o->kv, .act = o->act};
    TRY(generate_session_options(&g, so, err));
    so->n_ctx = (int64_t)o->prompt + o->generate;
    return CADRE_OK;
}

static void set_shares(cadre_bench_result *out, const struct spec *spec, int prompt)
{
    double bytes = (double)(out->bytes_per_token + out->kv_bytes_per_token);
    out->bandwidth_share = out->tokens_per_s.median * bytes / out->read_bandwidth;
    double output = (double)(spec->n_vocab * spec->d_model),
           others = (double)spec_count(spec).active_parameters - output;
    double flop = 2 * (others + output / prompt);
    out->compute_share = out->prompt_tokens_per_s.median * flop / out->compute_roof;
}

cadre_err cadre_bench(cadre_model *m, const cadre_bench_options *o, cadre_bench_result *out, cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, m && m->model && o && out, CADRE_E_ARG,
          "cadre_bench: a model with weights, options and out must be given");
    double prompt[MAX_REPEATS], generate[MAX_REPEATS];
    struct session *s = NULL;
    struct session_options so = {0};
    const struct spec *spec = &m->model->spec;
    TRY(check_options(o, &so, err));
    *out = (cadre_bench_result){.bytes_per_token = runtime_bytes_per_token(m->model)};
    TRY(session_new(&s, m, &so, err)); /* first: what cannot run is refused without a wait */
    out->kv_bytes_per_token = session_kv_bytes(s, o->prompt + o->generate / 2);
    session_free(s); /* its memory is part of the budget */
    TRY(read_bandwidth(m, &out->read_bytes, &out->read_bandwidth, err));
    TRY(compute_roof(m, so.act, out, err));
    TRY(session_new(&s, m, &so, err));
    cadre_err rc = warm_up(s, o, spec->n_vocab, err);
    for (int i = 0; i < o->repeats && rc == CADRE_OK; i++)
        rc = one_run(s, o, spec->n_vocab, (uint64_t)i, &prompt[i], &generate[i], err);
    session_free(s);
    TRY(rc);
    out->prompt_tokens_per_s = spread_of(prompt, o->repeats);
    out->tokens_per_s = spread_of(generate, o->repeats);
    set_shares(out, spec, o->prompt);
    return CADRE_OK;
}
