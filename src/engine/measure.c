/* Speeds of a model beside this machine's roofs, all measured in one run: memory read once, and the f32 product kernel
 * on operands that stay in cache. Prompts and generation alternate, so that drift hits both. */
#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/roof.h"
#include "engine/session.h"

enum { MAX_REPEATS = 100 };

cadre_bench_options cadre_bench_options_default(void)
{
    return (cadre_bench_options){.prompt = 512, .generate = 64, .repeats = 5};
}

/* ---- roofs of this machine ----------------------------------------------------------------------------- */

enum { READ_ITEM = 4 << 20, READ_BYTES = 1 << 30 };

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

/* Best of three passes over 1 GiB, on one thread and on all. */
static cadre_err read_bandwidth(const struct cadre_model *m, double *out, cadre_error *err)
{
    struct arena a;
    TRY(runtime_fits(m, READ_BYTES, "measuring its read bandwidth", err));
    TRY(arena_init(&a, READ_BYTES + (1 << 20), err));
    struct read_job j = {.k = &m->kernels, .x = arena_alloc(&a, READ_BYTES)};
    j.sum = arena_alloc(&a, READ_BYTES / READ_ITEM * sizeof *j.sum);
    for (size_t i = 0; i < READ_BYTES / sizeof(float); i += 1024)
        ((float *)j.x)[i] = 1; /* every page is there */
    *out = 0;
    for (int i = 0; i < 6; i++) {
        double start = clock_now();
        pool_run(i % 2 ? m->pool : NULL, READ_BYTES / READ_ITEM, read_item, &j);
        *out = fmax(*out, READ_BYTES / (clock_now() - start));
    }
    arena_destroy(&a);
    return CADRE_OK;
}

/* ---- the model ----------------------------------------------------------------------------------------- */

static cadre_err check_cancel(const cadre_bench_options *o, cadre_error *err)
{
    CHECK(err, !o->cancel || !o->cancel(o->user), CADRE_E_CANCELLED, "stopped by the caller before the last repeat");
    return CADRE_OK;
}

/* One prompt of random tokens, then single steps; both timed. */
static cadre_err one_run(struct session *s, const cadre_bench_options *o, int64_t n_vocab, uint64_t seed,
                         double *prompt, double *generate, cadre_error *err)
{
    struct session_output out;
    int32_t token[SESSION_CHUNK];
    struct rng rng;
    rng_seed(&rng, seed);
    session_rewind(s, 0);
    double start = clock_now();
    for (int64_t at = 0; at < o->prompt; at += SESSION_CHUNK) {
        int64_t n = min_i64(SESSION_CHUNK, o->prompt - at);
        TRY(check_cancel(o, err));
        for (int64_t i = 0; i < n; i++)
            token[i] = (int32_t)rng_below(&rng, (uint64_t)n_vocab);
        TRY(session_feed(s, token, n, &out, err));
    }
    *prompt = o->prompt / (clock_now() - start);
    start = clock_now();
    for (int i = 0; i < o->generate; i++) {
        TRY(check_cancel(o, err));
        token[0] = (int32_t)rng_below(&rng, (uint64_t)n_vocab);
        TRY(session_feed(s, token, 1, &out, err));
    }
    *generate = o->generate / (clock_now() - start);
    return CADRE_OK;
}

cadre_err cadre_bench(cadre_model *m, const cadre_bench_options *o, cadre_bench_result *out, cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, m && m->model && o && out, CADRE_E_ARG,
          "cadre_bench: a model with weights, options and out must be given");
    CHECK(err, o->prompt >= 1 && o->generate >= 1 && o->repeats >= 1 && o->repeats <= MAX_REPEATS, CADRE_E_ARG,
          "bench: expected at least one prompt token, one generated token and 1 to %d repeats, found %d, %d and %d",
          MAX_REPEATS, o->prompt, o->generate, o->repeats);
    double prompt[MAX_REPEATS], generate[MAX_REPEATS];
    struct session *s = NULL;
    struct session_options so = {.n_ctx = o->prompt + o->generate, .kv = DTYPE_F32};
    *out = (cadre_bench_result){.bytes_per_token = runtime_bytes_per_token(m->model)};
    TRY(session_new(&s, m, &so, err)); /* first: what cannot run is refused without a wait */
    cadre_err rc = read_bandwidth(m, &out->read_bandwidth, err);
    if (rc == CADRE_OK)
        rc = roof_products(&m->kernels, m->pool, GEMM_F32, &out->compute_roof, err);
    for (int i = 0; i < o->repeats && rc == CADRE_OK; i++)
        rc = one_run(s, o, m->model->spec.n_vocab, (uint64_t)i, &prompt[i], &generate[i], err);
    session_free(s);
    TRY(rc);
    out->prompt_tokens_per_s = spread_of(prompt, o->repeats);
    out->tokens_per_s = spread_of(generate, o->repeats);
    out->bandwidth_share = out->tokens_per_s.median * (double)out->bytes_per_token / out->read_bandwidth;
    double flop = 2.0 * (double)spec_count(&m->model->spec).active_parameters;
    out->compute_share = out->prompt_tokens_per_s.median * flop / out->compute_roof;
    return CADRE_OK;
}
