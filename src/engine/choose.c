/* How likely a model holds each of several continuations of a prompt: multiple-choice questions. The prompt is read
 * once; every choice then goes on from it in the same cache. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/likelihood.h"
#include "engine/session.h"

struct question {
    cadre_model *m;
    struct session *session;
    int32_t *prompt, **choice; /* tokens */
    size_t n_prompt, *n_tokens;
    int n_choices;
    double *next; /* [n_vocab] log-probabilities after the prompt */
};

static cadre_err read_texts(struct question *q, const char *prompt, const char *const *choices, cadre_error *err)
{
    const struct tokenizer *t = q->m->tokenizer;
    q->choice = calloc((size_t)q->n_choices, sizeof *q->choice);
    q->n_tokens = calloc((size_t)q->n_choices, sizeof *q->n_tokens);
    CHECK(err, q->choice && q->n_tokens, CADRE_E_MEMORY, "no memory for %d choices", q->n_choices);
    TRY(tokenizer_encode(t, prompt, strlen(prompt), TOKENIZE_SPECIAL | TOKENIZE_ADD, &q->prompt, &q->n_prompt, err));
    CHECK(err, q->n_prompt, CADRE_E_ARG, "prompt: it is empty; give at least one token to go on from");
    for (int i = 0; i < q->n_choices; i++) {
        CHECK(err, choices[i] && *choices[i], CADRE_E_ARG, "choice %d: expected a text, found none", i);
        TRY(tokenizer_encode(t, choices[i], strlen(choices[i]), 0, &q->choice[i], &q->n_tokens[i], err));
    }
    return CADRE_OK;
}

static cadre_err open_session(struct question *q, cadre_error *err)
{
    int64_t n_ctx = q->m->model->spec.n_ctx, need = 0;
    for (int i = 0; i < q->n_choices; i++)
        need = max_i64(need, (int64_t)(q->n_prompt + q->n_tokens[i]));
    CHECK(err, need <= n_ctx, CADRE_E_ARG,
          "prompt and choice: expected at most %lld tokens (the model's context), "
          "found %lld",
          (long long)n_ctx, (long long)need);
    struct session_options o = {.n_ctx = need, .kv = DTYPE_F32, .all_logits = true, .marks = 1};
    return session_new(&q->session, q->m, &o, err);
}

/* Feed tokens; logits of the last, and, when sum is given, the log-probabilities of token[1 …] added to it. */
static cadre_err feed(struct question *q, const int32_t *token, size_t n, const real **last, double *sum,
                      cadre_error *err)
{
    int64_t n_vocab = q->m->model->spec.n_vocab;
    for (size_t at = 0; at < n;) {
        struct session_output out;
        size_t chunk = n - at < SESSION_CHUNK ? n - at : SESSION_CHUNK;
        TRY(session_feed(q->session, token + at, (int64_t)chunk, &out, err));
        for (size_t i = 0; sum && i < chunk && at + i + 1 < n; i++) {
            const real *x = out.logits + (int64_t)i * n_vocab;
            *sum += (double)x[token[at + i + 1]] - log_sum_exp(x, n_vocab);
        }
        *last = out.logits + (int64_t)(chunk - 1) * n_vocab;
        at += chunk;
    }
    return CADRE_OK;
}

static cadre_err score(struct question *q, const char *prompt, const char *const *choices, cadre_choice_score *scores,
                       cadre_error *err)
{
    int64_t n_vocab = q->m->model->spec.n_vocab;
    const real *last = NULL;
    TRY(read_texts(q, prompt, choices, err));
    TRY(open_session(q, err));
    q->next = malloc((size_t)n_vocab * sizeof *q->next);
    CHECK(err, q->next, CADRE_E_MEMORY, "no memory for %lld probabilities", (long long)n_vocab);
    TRY(feed(q, q->prompt, q->n_prompt, &last, NULL, err));
    session_mark(q->session, SESSION_MARK_PROMPT);
    double lse = log_sum_exp(last, n_vocab);
    for (int64_t i = 0; i < n_vocab; i++)
        q->next[i] = (double)last[i] - lse;
    for (int i = 0; i < q->n_choices; i++) {
        scores[i] = (cadre_choice_score){.log_probability = q->next[q->choice[i][0]],
                                         .tokens = (int64_t)q->n_tokens[i],
                                         .bytes = (int64_t)strlen(choices[i])};
        session_rewind(q->session, (int64_t)q->n_prompt);
        TRY(feed(q, q->choice[i], q->n_tokens[i], &last, &scores[i].log_probability, err));
    }
    return CADRE_OK;
}

cadre_err cadre_choose(cadre_model *m, const char *prompt, const char *const *choices, int n_choices,
                       cadre_choice_score *scores, cadre_error *err)
{
    CHECK(err, m && m->model && prompt && choices && scores && n_choices > 0, CADRE_E_ARG,
          "cadre_choose: a model with weights, a prompt, choices and scores must be given");
    CHECK(err, m->tokenizer, CADRE_E_ARG, "cadre_choose: this model has no tokenizer to read the question with");
    struct question q = {.m = m, .n_choices = n_choices};
    cadre_err rc = score(&q, prompt, choices, scores, err);
    session_free(q.session);
    for (int i = 0; q.choice && i < n_choices; i++)
        free(q.choice[i]);
    free(q.choice);
    free(q.n_tokens);
    free(q.prompt);
    free(q.next);
    return rc;
}
