/* A smaller model with the same vocabulary drafts: a session of its own reads the text and goes on from it, drawing as
 * the sampler would. What was drafted wrongly is gone back over. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "engine/drafter.h"

struct draft_model {
    struct cadre_model *m;
    struct session *session;
    int64_t n_ctx;
    int32_t *held;       /* [n_ctx] what the session has been fed */
    int64_t sure;        /* of these, how many are known to be the text; the rest was drafted, or is of another text */
    int64_t n_text;      /* of the last proposal */
    bool begun;          /* compare with the whole text */
    struct candidate *c; /* [most, n_vocab] */
    struct rng rng;
};

static void close(void *self)
{
    struct draft_model *d = self;
    if (!d)
        return;
    session_free(d->session);
    free(d->held);
    free(d->c);
    free(d);
}

/* Ids must mean the same: as many, each the same bytes, and an end where the other has one. */
static cadre_err same_vocabulary(const struct cadre_model *m, const struct cadre_model *draft, cadre_error *err)
{
    const struct tokenizer *a = m->tokenizer, *b = draft->tokenizer;
    int64_t n = m->model->spec.n_vocab, n_draft = draft->model->spec.n_vocab;
    CHECK(err, n == n_draft, CADRE_E_ARG,
          "draft model %s: expected the vocabulary of the model it drafts for, %lld tokens, found %lld; choose a model "
          "of the same series, or draft by ngram",
          draft->path, (long long)n, (long long)n_draft);
    CHECK(err, !a == !b, CADRE_E_ARG,
          "draft model %s: expected %s tokenizer, as the model it drafts for has, found %s; whether their vocabularies "
          "agree cannot be told",
          draft->path, a ? "a" : "no", a ? "none" : "one");
    int64_t n_tokens = a ? min_i64(tokenizer_size(a), tokenizer_size(b)) : 0;
    CHECK(err, !a || tokenizer_size(a) == tokenizer_size(b), CADRE_E_ARG,
          "draft model %s: expected a tokenizer with %lld tokens, found %lld", draft->path,
          (long long)tokenizer_size(a), (long long)tokenizer_size(b));
    for (int64_t i = 0; i < n_tokens; i++) {
        const char *p, *q;
        size_t n_p = tokenizer_piece(a, (int32_t)i, true, &p), n_q = tokenizer_piece(b, (int32_t)i, true, &q);
        CHECK(err, n_p == n_q && memcmp(p, q, n_p) == 0, CADRE_E_ARG,
              "draft model %s: expected the vocabulary of the model it drafts for, but token %lld is '%.*s' there and "
              "'%.*s' here; choose a model of the same series, or draft by ngram",
              draft->path, (long long)i, (int)(n_p < 64 ? n_p : 64), p, (int)(n_q < 64 ? n_q : 64), q);
        bool ends = tokenizer_is_end(a, (int32_t)i);
        CHECK(err, ends == tokenizer_is_end(b, (int32_t)i), CADRE_E_ARG,
              "draft model %s: token %lld ends a text %s, but not %s; choose a model of the same series, or draft by "
              "ngram",
              draft->path, (long long)i, ends ? "in the model it drafts for" : "here",
              ends ? "here" : "in the model it drafts for");
    }
    return CADRE_OK;
}

static cadre_err open(void **self, const struct draft_setup *s, cadre_error *err)
{
    TRY(same_vocabulary(s->model, s->draft, err));
    struct draft_model *d = calloc(1, sizeof *d);
    CHECK(err, d, CADRE_E_MEMORY, "no memory for a drafter");
    const struct spec *spec = &s->draft->model->spec;
    struct session_options so = {
        .n_ctx = min_i64(s->so.n_ctx, spec->n_ctx), .kv = s->so.kv, .act = s->so.act, .marks = 1};
    d->m = s->draft;
    d->n_ctx = so.n_ctx;
    cadre_err rc = session_new(&d->session, s->draft, &so, err);
    if (rc) {
        free(d);
        return error_wrap(err, rc, "draft model");
    }
    d->held = malloc((size_t)so.n_ctx * sizeof *d->held);
    d->c = malloc((size_t)s->most * (size_t)spec->n_vocab * sizeof *d->c);
    if (!d->held || !d->c) {
        close(d);
        return error_set(err, CADRE_E_MEMORY, "no memory for a drafter");
    }
    *self = d;
    return CADRE_OK;
}

static void begin(void *self, uint64_t seed)
{
    struct draft_model *d = self;
    d->begun = true;
    rng_seed(&d->rng, seed ^ 0x6472616674); /* not the numbers that check what they drew */
}

static double cost(const void *self)
{
    const struct draft_model *d = self;
    const struct spec *spec = &d->m->model->spec;
    return (double)runtime_bytes_per_token(d->m->model) + (double)spec->n_layer * DRAFT_LAYER_BYTES +
           2.0 * (double)spec_count(spec).active_parameters / DRAFT_FLOP_PER_BYTE;
}

static cadre_err feed(struct draft_model *d, const int32_t *token, int64_t n, const real **logits, cadre_error *err)
{
    for (int64_t at = 0; at < n;) {
        struct session_output out;
        int64_t chunk = min_i64(SESSION_CHUNK, n - at), position = session_position(d->session);
        TRY(session_feed(d->session, token + at, chunk, &out, err));
        memcpy(d->held + position, token + at, (size_t)chunk * sizeof *token);
        *logits = out.logits;
        at += chunk;
    }
    return CADRE_OK;
}

/* Read what the text has that the session does not; at least the last token is read again for its logits. */
static cadre_err catch_up(struct draft_model *d, const struct draft_text *text, const real **logits, cadre_error *err)
{
    int64_t position = session_position(d->session), keep = min_i64(d->sure, text->n - 1);
    if (d->begun)
        for (keep = 0; keep < position && keep + 1 < text->n && d->held[keep] == text->token[keep];)
            keep++;
    d->begun = false;
    if (keep < position)
        position = session_rewind(d->session, keep);
    TRY(feed(d, text->token + position, text->n - position, logits, err));
    d->sure = d->n_text = text->n;
    session_mark(d->session, 0);
    return CADRE_OK;
}

static cadre_err propose(void *self, const struct draft_text *text, int max, struct draft *out, cadre_error *err)
{
    struct draft_model *d = self;
    const real *logits = NULL;
    int64_t n_vocab = d->m->model->spec.n_vocab;
    out->n = 0;
    out->kind = 0;
    out->drawn = text->sampling->temperature != 0;
    if (text->n > d->n_ctx)
        return CADRE_OK;
    TRY(catch_up(d, text, &logits, err));
    max = (int)min_i64(max, d->n_ctx - text->n + 1);
    while (out->n < max) {
        struct candidate *c = d->c + out->n * n_vocab;
        struct distribution *q = &out->q[out->n];
        *q = sampling_distribution(text->sampling, logits, n_vocab, c);
        int32_t id = distribution_draw(q, &d->rng);
        if (id < 0)
            break; /* no number for any token: the model that checks goes on alone */
        out->token[out->n++] = id;
        if (out->n < max)
            TRY(feed(d, &id, 1, &logits, err));
    }
    return CADRE_OK;
}

static void accept(void *self, int n)
{
    struct draft_model *d = self;
    d->sure = min_i64(d->n_text + n, session_position(d->session));
}

static uint64_t bytes(const void *self)
{
    const struct draft_model *d = self;
    return d->m->model->bytes + session_bytes(d->session);
}

const struct drafter drafter_model = {
    .name = "model",
    .by_model = true,
    .open = open,
    .close = close,
    .begin = begin,
    .cost = cost,
    .propose = propose,
    .accept = accept,
    .bytes = bytes,
};
