/* Bits per byte and perplexity of a text, and how evenly it uses the experts. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/likelihood.h"
#include "engine/session.h"
#include "engine/windows.h"

cadre_eval_options cadre_eval_options_default(void)
{
    return (cadre_eval_options){0};
}

struct evaluation {
    struct windows windows;
    struct reader reader;
    double *nats;    /* of one batch's rows: summed in row order, so that threads change nothing */
    int64_t *count;  /* [n_layer, router.n_expert] */
    int64_t *window; /* the same, of one window */
};

struct row_job {
    const real *logits;
    const int32_t *target;
    int64_t n_vocab;
    double *nats;
};

static void score_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const struct row_job *j = arg;
    const real *x = j->logits + row * j->n_vocab;
    j->nats[row] = log_sum_exp(x, j->n_vocab) - (double)x[j->target[row]];
}

/* Of rows from … to of the batch just read. */
static void count_rows(const struct routing *r, int64_t from, int64_t to, int64_t *count)
{
    for (; r && r->id; r = r->next)
        for (int64_t i = from * r->k; i < to * r->k; i++)
            if (r->wanted[i] >= 0)
                count[r->wanted[i]]++;
}

static void count_experts(struct evaluation *e, const struct window_batch *b, const cadre_eval_options *o)
{
    const struct spec *s = &e->reader.m->model->spec;
    size_t n = (size_t)s->n_layer * (size_t)s->router.n_expert;
    for (int64_t w = 0; n && w < b->n_seq; w++) {
        memset(e->window, 0, n * sizeof *e->window);
        for (int64_t l = 0; l < s->n_layer; l++)
            count_rows(&e->reader.routing[l], b->row_start[w], b->row_start[w + 1], e->window + l * s->router.n_expert);
        for (size_t i = 0; i < n; i++)
            e->count[i] += e->window[i];
        if (o->on_use)
            o->on_use(o->user, e->window, s->n_layer, s->router.n_expert);
    }
}

static cadre_err add_batch(struct evaluation *e, const struct window_batch *b, const cadre_eval_options *o,
                           cadre_eval_result *r, cadre_error *err)
{
    const struct cadre_model *m = e->reader.m;
    struct row_job job = {.target = b->target, .n_vocab = m->model->spec.n_vocab, .nats = e->nats};
    TRY(reader_read(&e->reader, b, &job.logits, err));
    pool_run(m->pool, b->n_tok, score_row, &job);
    for (int64_t i = 0; i < b->n_tok; i++) {
        const char *piece;
        r->nats += e->nats[i];
        r->bytes += (int64_t)tokenizer_piece(m->tokenizer, b->target[i], false, &piece);
    }
    r->tokens += b->n_tok;
    count_experts(e, b, o);
    return CADRE_OK;
}

static cadre_err evaluate(struct evaluation *e, cadre_model *m, const char *text, size_t n, const cadre_eval_options *o,
                          cadre_eval_result *r, cadre_error *err)
{
    const struct spec *s = &m->model->spec;
    struct window_batch b;
    enum act act;
    TRY(act_parse(o->act, &act, err));
    TRY(windows_open(&e->windows, m->tokenizer, text, n, o->context, s->n_ctx, o->max_tokens, err));
    TRY(reader_open(&e->reader, m, act, &e->windows, err));
    e->nats = malloc((size_t)windows_batch(&e->windows) * sizeof *e->nats);
    e->count = calloc((size_t)s->n_layer * (size_t)max_i64(s->router.n_expert, 1), sizeof *e->count);
    e->window = calloc((size_t)s->n_layer * (size_t)max_i64(s->router.n_expert, 1), sizeof *e->window);
    CHECK(err, e->nats && e->count && e->window, CADRE_E_MEMORY, "no memory for the results of %lld tokens",
          (long long)windows_batch(&e->windows));
    while (windows_next(&e->windows, &b)) {
        TRY(add_batch(e, &b, o, r, err));
        CHECK(err, !o->progress || o->progress(o->user, r->tokens, windows_total(&e->windows)), CADRE_E_CANCELLED,
              "stopped by the caller after %lld of %lld tokens", (long long)r->tokens,
              (long long)windows_total(&e->windows));
    }
    r->perplexity = exp(r->nats / (double)r->tokens);
    r->bits_per_byte = r->bytes ? r->nats / M_LN2 / (double)r->bytes : NAN;
    return CADRE_OK;
}

static cadre_err give_use(const struct evaluation *e, cadre_eval_result *r, cadre_error *err)
{
    const struct spec *s = &e->reader.m->model->spec;
    int n_expert = s->router.n_expert;
    if (!n_expert)
        return CADRE_OK;
    r->expert_use = calloc((size_t)s->n_layer * (size_t)n_expert, sizeof *r->expert_use);
    CHECK(err, r->expert_use, CADRE_E_MEMORY, "no memory for the use of %d experts", n_expert);
    r->n_layers = s->n_layer;
    r->n_experts = n_expert;
    for (int64_t l = 0; l < s->n_layer; l++) {
        const int64_t *count = e->count + l * n_expert;
        int64_t sum = 0;
        for (int64_t i = 0; i < n_expert; i++)
            sum += count[i];
        for (int64_t i = 0; i < n_expert && sum; i++)
            r->expert_use[l * n_expert + i] = (double)count[i] / (double)sum;
    }
    return CADRE_OK;
}

cadre_err cadre_eval(cadre_model *m, const char *text, size_t n, const cadre_eval_options *o, cadre_eval_result *out,
                     cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, m && m->model && text && o && out, CADRE_E_ARG,
          "cadre_eval: a model with weights, text, options and out must be given");
    struct evaluation e = {0};
    *out = (cadre_eval_result){0};
    cadre_err rc = evaluate(&e, m, text, n, o, out, err);
    if (rc == CADRE_OK)
        rc = give_use(&e, out, err);
    reader_close(&e.reader);
    windows_close(&e.windows);
    free(e.nats);
    free(e.count);
    free(e.window);
    return rc;
}

void cadre_eval_result_free(cadre_eval_result *r)
{
    if (!r)
        return;
    free(r->expert_use);
    *r = (cadre_eval_result){0};
}
