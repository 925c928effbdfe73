/* How far a model's distributions are from a reference's on a text: what a smaller number format or a changed model
 * costs, token by token. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/likelihood.h"
#include "engine/session.h"
#include "engine/windows.h"

struct comparison {
    struct windows windows;
    struct reader model, reference;
    struct row_result {
        double kl;
        bool same_top;
    } * rows; /* of one batch; summed in row order */
};

struct row_job {
    const real *logits, *reference;
    int64_t n_vocab;
    struct row_result *rows;
};

/* KL(p || q) = Σ_j p_j (log p_j - log q_j), p the reference's probabilities. */
static void compare_row(void *arg, int64_t row, int worker)
{
    (void)worker;
    const struct row_job *j = arg;
    const real *x = j->logits + row * j->n_vocab, *y = j->reference + row * j->n_vocab;
    double lse_x = log_sum_exp(x, j->n_vocab), lse_y = log_sum_exp(y, j->n_vocab), kl = 0;
    int64_t top_x = 0, top_y = 0;
    for (int64_t i = 0; i < j->n_vocab; i++) {
        double log_p = (double)y[i] - lse_y, log_q = (double)x[i] - lse_x;
        kl += exp(log_p) * (log_p - log_q);
        top_x = x[i] > x[top_x] ? i : top_x;
        top_y = y[i] > y[top_y] ? i : top_y;
    }
    j->rows[row] = (struct row_result){fmax(kl, 0), top_x == top_y}; /* below 0 is rounding alone */
}

static cadre_err check_vocabularies(const cadre_model *m, const cadre_model *reference, cadre_error *err)
{
    int64_t n = m->model->spec.n_vocab, n_reference = reference->model->spec.n_vocab;
    CHECK(err, n == n_reference, CADRE_E_ARG,
          "reference: expected a model with the same vocabulary of %lld tokens, found %lld", (long long)n,
          (long long)n_reference);
    CHECK(err, m->tokenizer && reference->tokenizer, CADRE_E_ARG, "reference: %s has no tokenizer to compare by",
          m->tokenizer ? "it" : "the model compared with it");
    for (int32_t i = 0; i < n; i++) {
        const char *a, *b;
        size_t na = tokenizer_piece(m->tokenizer, i, true, &a), nb = tokenizer_piece(reference->tokenizer, i, true, &b);
        CHECK(err, na == nb && memcmp(a, b, na) == 0, CADRE_E_ARG,
              "reference: expected the same vocabulary, found another text for token %d; compare models that share a "
              "tokenizer",
              i);
    }
    return CADRE_OK;
}

static cadre_err add_batch(struct comparison *c, const struct window_batch *b, cadre_compare_result *r,
                           cadre_error *err)
{
    struct row_job job = {.n_vocab = c->model.m->model->spec.n_vocab, .rows = c->rows};
    TRY(reader_read(&c->model, b, &job.logits, err));
    TRY(reader_read(&c->reference, b, &job.reference, err));
    pool_run(c->model.m->pool, b->n_tok, compare_row, &job);
    for (int64_t i = 0; i < b->n_tok; i++) {
        r->kl += c->rows[i].kl;
        r->kl_max = fmax(r->kl_max, c->rows[i].kl);
        r->top1_agreement += c->rows[i].same_top;
    }
    r->tokens += b->n_tok;
    return CADRE_OK;
}

static cadre_err compare(struct comparison *c, cadre_model *m, cadre_model *reference, const char *text, size_t n,
                         const cadre_eval_options *o, cadre_compare_result *r, cadre_error *err)
{
    int64_t a = m->model->spec.n_ctx, b = reference->model->spec.n_ctx;
    struct window_batch batch;
    enum act act;
    TRY(act_parse(o->act, &act, err));
    TRY(check_vocabularies(m, reference, err));
    TRY(windows_open(&c->windows, m->tokenizer, text, n, o->context, a < b ? a : b, o->max_tokens, err));
    TRY(reader_open(&c->model, m, act, &c->windows, err));
    TRY(reader_open(&c->reference, reference, ACT_F32, &c->windows, err));
    c->rows = malloc((size_t)windows_batch(&c->windows) * sizeof *c->rows);
    CHECK(err, c->rows, CADRE_E_MEMORY, "no memory for the results of %lld tokens",
          (long long)windows_batch(&c->windows));
    while (windows_next(&c->windows, &batch)) {
        TRY(add_batch(c, &batch, r, err));
        CHECK(err, !o->progress || o->progress(o->user, r->tokens, windows_total(&c->windows)), CADRE_E_CANCELLED,
              "stopped by the caller after %lld of %lld tokens", (long long)r->tokens,
              (long long)windows_total(&c->windows));
    }
    r->kl /= (double)r->tokens;
    r->top1_agreement /= (double)r->tokens;
    return CADRE_OK;
}

cadre_err cadre_compare(cadre_model *m, cadre_model *reference, const char *text, size_t n, const cadre_eval_options *o,
                        cadre_compare_result *out, cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, m && m->model && reference && reference->model && text && o && out, CADRE_E_ARG,
          "cadre_compare: two models with weights, text, options and out must be given");
    struct comparison c = {0};
    *out = (cadre_compare_result){0};
    cadre_err rc = compare(&c, m, reference, text, n, o, out, err);
    reader_close(&c.reference);
    reader_close(&c.model);
    windows_close(&c.windows);
    free(c.rows);
    return rc;
}
