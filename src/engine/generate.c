/* Generation: prompt in chunks through a session, then one token a step; text is handed out as whole UTF-8 characters
 * and held back while it may still become the stop text. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "engine/generate.h"
#include "engine/memory.h"
#include "engine/record.h"
#include "engine/sampler.h"
#include "engine/session.h"

cadre_generate_options cadre_generate_options_default(void)
{
    return (cadre_generate_options){.max_tokens = 128, .top_p = 1, .kv = "f32", .act = "f32"};
}

/* Bytes of text that there is room for from the start, so that steps allocate nothing; longer texts grow. */
enum { TEXT_PER_TOKEN = 8 };

/* One generation under way. */
struct job {
    struct cadre_model *m;
    const cadre_generate_options *o;
    struct sampling sampling;
    struct rng rng;
    struct session *session;
    struct speculation *speculation; /* NULL: one token a pass */
    bool lent;                       /* session and speculation belong to somebody else */
    size_t reused;                   /* tokens of the prompt that it holds already */
    struct record record;
    struct candidate *candidates;
    int32_t *prompt;
    size_t n_prompt;
    int32_t *ids; /* generated */
    size_t n_ids;
    int32_t *known; /* prompt and ids, for the drafter */
    struct text_builder text;
    size_t told; /* bytes of text that the caller has seen */
    struct utf8_stream utf8;
    const char *stopped_by; /* NULL: under way */
};

cadre_err generate_session_options(const cadre_generate_options *o, struct session_options *so, cadre_error *err)
{
    TRY(act_parse(o->act, &so->act, err));
    const char *kv = o->kv ? o->kv : "f32";
    so->kv = dtype_by_name(kv);
    CHECK(err, so->kv == DTYPE_F32 || so->kv == DTYPE_F16 || so->kv == DTYPE_BF16 || so->kv == DTYPE_Q8_0, CADRE_E_ARG,
          "kv: expected f32, f16, bf16 or q8_0, found '%s'", kv);
    so->all_logits = o->on_logits || o->logits_path;
    so->routing = o->routing_path != NULL;
    return CADRE_OK;
}

static cadre_err read_options(struct job *j, struct session_options *so, cadre_error *err)
{
    const cadre_generate_options *o = j->o;
    j->sampling = (struct sampling){o->temperature, o->top_k, o->top_p, o->min_p};
    TRY(sampling_check(&j->sampling, err));
    CHECK(err, !o->stop || *o->stop, CADRE_E_ARG, "stop: expected a text, found an empty one");
    CHECK(err, !o->stop || j->m->tokenizer, CADRE_E_ARG,
          "stop: this model has no tokenizer, so there is no text to stop at");
    CHECK(err, o->max_tokens >= 0, CADRE_E_ARG, "tokens to generate: expected at least 0, found %lld",
          (long long)o->max_tokens);
    CHECK(err, o->context >= 0, CADRE_E_ARG, "context: expected at least 0 (as needed), found %lld",
          (long long)o->context);
    return generate_session_options(o, so, err);
}

static cadre_err read_prompt(struct job *j, const char *prompt, cadre_error *err)
{
    CHECK(err, !prompt != !j->o->ids, CADRE_E_ARG, "prompt: give either a text or ids");
    if (j->o->ids) {
        j->prompt = malloc((j->o->n_ids + 1) * sizeof *j->prompt);
        CHECK(err, j->prompt, CADRE_E_MEMORY, "no memory for a prompt of %zu tokens", j->o->n_ids);
        memcpy(j->prompt, j->o->ids, j->o->n_ids * sizeof *j->prompt);
        j->n_prompt = j->o->n_ids;
    } else {
        CHECK(err, j->m->tokenizer, CADRE_E_ARG, "prompt: this model has no tokenizer; give token ids instead of text");
        TRY(tokenizer_encode(j->m->tokenizer, prompt, strlen(prompt), TOKENIZE_SPECIAL | TOKENIZE_ADD, &j->prompt,
                             &j->n_prompt, err));
    }
    CHECK(err, j->n_prompt > 0, CADRE_E_ARG, "prompt: it is empty; give at least one token to go on from");
    return CADRE_OK;
}

static cadre_err open_job(struct job *j, const char *prompt, cadre_error *err)
{
    struct session_options so = {0};
    const struct spec *spec = &j->m->model->spec;
    TRY(read_options(j, &so, err));
    TRY(read_prompt(j, prompt, err));
    int64_t need = (int64_t)j->n_prompt + j->o->max_tokens;
    so.n_ctx = j->lent ? session_context(j->session) : j->o->context ? j->o->context : min_i64(need, spec->n_ctx);
    CHECK(
        err, (int64_t)j->n_prompt <= so.n_ctx, CADRE_E_ARG,
        "prompt: its %zu tokens do not fit into a context of %lld; shorten it or raise the context (the model's limit "
        "is %lld)",
        j->n_prompt, (long long)so.n_ctx, (long long)spec->n_ctx);
    rng_seed(&j->rng, j->o->seed);
    j->ids = malloc(((size_t)min_i64(j->o->max_tokens, so.n_ctx) + 1) * sizeof *j->ids);
    j->candidates = malloc((size_t)spec->n_vocab * sizeof *j->candidates);
    CHECK(err, j->ids && j->candidates, CADRE_E_MEMORY, "no memory for a generation");
    TRY(text_builder_reserve(&j->text, (size_t)min_i64(j->o->max_tokens, so.n_ctx) * TEXT_PER_TOKEN, err));
    j->text.p[0] = 0;
    if (j->lent) {
        CHECK(err, !so.all_logits && !so.routing, CADRE_E_ARG, "logits and routing: not offered over a kept session");
        j->reused = (size_t)session_rewind(j->session, (int64_t)j->reused);
    } else {
        TRY(speculation_new(&j->speculation, j->m, j->o, &so, err));
        TRY(session_new(&j->session, j->m, &so, err));
        TRY(speculation_fits(j->speculation, j->m, j->session, err));
    }
    if (j->speculation) {
        j->known = malloc((j->n_prompt + (size_t)min_i64(j->o->max_tokens, so.n_ctx) + 1) * sizeof *j->known);
        CHECK(err, j->known, CADRE_E_MEMORY, "no memory for a generation");
        memcpy(j->known, j->prompt, j->n_prompt * sizeof *j->known);
        speculation_begin(j->speculation, j->o->seed);
    }
    return record_open(&j->record, spec, j->prompt, (int64_t)j->n_prompt, j->o->logits_path, j->o->routing_path, err);
}

static cadre_err check_cancel(const struct job *j, cadre_error *err)
{
    CHECK(err, !j->o->cancel || !j->o->cancel(j->o->user), CADRE_E_CANCELLED,
          "stopped by the caller after %zu of %lld tokens", j->n_ids, (long long)j->o->max_tokens);
    return CADRE_OK;
}

static cadre_err feed_prompt(struct job *j, const real **logits, cadre_error *err)
{
    int64_t n_vocab = j->m->model->spec.n_vocab;
    bool all = j->o->on_logits || j->o->logits_path;
    for (size_t at = j->reused; at < j->n_prompt;) {
        struct session_output out;
        int64_t n = min_i64(SESSION_CHUNK, (int64_t)(j->n_prompt - at));
        TRY(check_cancel(j, err));
        TRY(session_feed(j->session, j->prompt + at, n, &out, err));
        if (j->o->on_logits)
            for (int64_t i = 0; i < n; i++)
                CHECK(err, j->o->on_logits(j->o->user, out.first + i, out.logits + i * n_vocab, n_vocab),
                      CADRE_E_CANCELLED, "stopped by the caller while logits were taken");
        TRY(record_chunk(&j->record, &out, err));
        *logits = out.logits + (all ? (n - 1) * n_vocab : 0);
        at += (size_t)n;
    }
    return record_commit(&j->record, err);
}

/* Bytes at the end of the text that may turn out to be the beginning of the stop text. */
static size_t held_for_stop(const struct job *j)
{
    size_t n = j->o->stop ? strlen(j->o->stop) : 0;
    for (size_t k = n > j->text.n ? j->text.n : n; k > 0; k--)
        if (k < n && memcmp(j->text.p + j->text.n - k, j->o->stop, k) == 0)
            return k;
    return 0;
}

/* Tell the caller all text but the last `hold` bytes; false when it wants no more. */
static bool tell_text(struct job *j, size_t hold)
{
    size_t upto = j->text.n - hold, from = j->told;
    if (upto <= from)
        return true;
    j->told = upto;
    return !j->o->on_text || j->o->on_text(j->o->user, j->text.p + from, upto - from);
}

/* Append a token's text. Sets stopped_by when the stop text appears or the caller has enough. */
static cadre_err add_text(struct job *j, int32_t id, cadre_error *err)
{
    const char *piece;
    if (!j->m->tokenizer)
        return CADRE_OK;
    size_t n = tokenizer_piece(j->m->tokenizer, id, !j->o->hide_special, &piece), old = j->text.n;
    TRY(text_builder_reserve(&j->text, n + UTF8_STREAM_EXTRA, err));
    j->text.n += utf8_stream_push(&j->utf8, piece, n, j->text.p + j->text.n);
    j->text.p[j->text.n] = 0;
    if (j->o->stop) {
        size_t back = strlen(j->o->stop) - 1, from = old > back ? old - back : 0;
        char *hit = memmem(j->text.p + from, j->text.n - from, j->o->stop, back + 1);
        if (hit) {
            j->text.n = (size_t)(hit - j->text.p);
            *hit = 0;
            j->stopped_by = "stop";
        }
    }
    if (!tell_text(j, j->stopped_by ? 0 : held_for_stop(j)))
        j->stopped_by = "caller";
    return CADRE_OK;
}

/* What was held back belongs to the text when generation ends for another reason than the stop text. */
static cadre_err end_text(struct job *j, cadre_error *err)
{
    char rest[8];
    if (strcmp(j->stopped_by, "stop") == 0)
        return CADRE_OK;
    TRY(text_builder_add(&j->text, rest, utf8_stream_flush(&j->utf8, rest), err));
    if (strcmp(j->stopped_by, "caller") != 0)
        tell_text(j, 0);
    return CADRE_OK;
}

/* The next token of the text. Sets stopped_by when it is the last. */
static cadre_err take(struct job *j, int32_t id, cadre_error *err)
{
    CHECK(err, id >= 0, CADRE_E_FORMAT, "position %lld: the model gives no number for any token (NaN logits)",
          (long long)(j->n_prompt + j->n_ids));
    if (!j->o->ignore_eos && j->m->tokenizer && tokenizer_is_end(j->m->tokenizer, id)) {
        j->stopped_by = "eos";
        return CADRE_OK;
    }
    if (j->known)
        j->known[j->n_prompt + j->n_ids] = id;
    j->ids[j->n_ids++] = id;
    TRY(add_text(j, id, err));
    if (!j->stopped_by && (int64_t)j->n_ids == j->o->max_tokens)
        j->stopped_by = "length";
    return CADRE_OK;
}

/* Feed what is new of the text; the tokens that follow. room: positions that may be fed. */
static cadre_err step(struct job *j, int64_t room, int32_t out[DRAFT_MOST + 1], int *n_out, cadre_error *err)
{
    int64_t n = (int64_t)(j->n_prompt + j->n_ids), n_vocab = j->m->model->spec.n_vocab;
    if (j->speculation) {
        int64_t most = min_i64(room - n, j->o->max_tokens - (int64_t)j->n_ids - 1);
        return speculation_step(j->speculation, j->session, j->known, n, most, &j->sampling, &j->rng, out, n_out, err);
    }
    struct session_output fed;
    TRY(session_feed(j->session, &j->ids[j->n_ids - 1], 1, &fed, err));
    out[0] = sample(&j->sampling, &j->rng, fed.logits, n_vocab, j->candidates);
    *n_out = 1;
    return CADRE_OK;
}

static cadre_err generate(struct job *j, const real *logits, cadre_error *err)
{
    const struct spec *spec = &j->m->model->spec;
    int32_t next[DRAFT_MOST + 1];
    int n = 1;
    int64_t room = (int64_t)j->n_prompt + j->o->max_tokens;
    if (j->o->context)
        room = min_i64(room, j->o->context);
    room = min_i64(room, spec->n_ctx);
    if (j->o->max_tokens == 0) {
        j->stopped_by = "length";
        return CADRE_OK;
    }
    TRY(check_cancel(j, err));
    next[0] = sample(&j->sampling, &j->rng, logits, spec->n_vocab, j->candidates);
    for (;;) {
        for (int i = 0; i < n && !j->stopped_by; i++)
            TRY(take(j, next[i], err));
        if (!j->stopped_by && (int64_t)(j->n_prompt + j->n_ids) > room)
            j->stopped_by = "context";
        if (j->stopped_by)
            return CADRE_OK;
        TRY(check_cancel(j, err));
        TRY(step(j, room, next, &n, err));
    }
}

static void give_result(struct job *j, cadre_generation *g)
{
    if (!g)
        return;
    g->prompt_ids = j->prompt;
    g->n_prompt = j->n_prompt;
    g->n_reused = j->reused;
    g->ids = j->ids;
    g->n_ids = j->n_ids;
    g->text = j->text.p;
    g->text_bytes = j->text.n;
    g->stopped_by = j->stopped_by;
    g->draft.drafter = "none";
    if (j->speculation)
        speculation_stats(j->speculation, &g->draft);
    if (j->speculation)
        g->draft.tokens = j->n_ids > 0 ? (int64_t)j->n_ids - 1 : 0; /* the first comes from the prompt */
    j->prompt = j->ids = NULL;
    j->text = (struct text_builder){0};
}

cadre_err cadre_generate(cadre_model *m, const char *prompt, const cadre_generate_options *o, cadre_generation *g,
                         cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    if (g)
        *g = (cadre_generation){0};
    CHECK(err, m && m->model && o, CADRE_E_ARG, "cadre_generate: a model with weights and options must be given");
    return generate_over(NULL, NULL, 0, m, prompt, o, g, err);
}

cadre_err generate_over(struct session *session, struct speculation *speculation, size_t reused, struct cadre_model *m,
                        const char *prompt, const cadre_generate_options *o, cadre_generation *g, cadre_error *err)
{
    struct job j = {
        .m = m, .o = o, .session = session, .speculation = speculation, .lent = session != NULL, .reused = reused};
    const real *logits = NULL;
    double start = 0, middle = 0;
    int64_t fed = 0;
    cadre_err rc = open_job(&j, prompt, err);
    start = clock_now();
    if (rc == CADRE_OK)
        rc = feed_prompt(&j, &logits, err);
    middle = clock_now();
    fed = j.session ? session_position(j.session) - (int64_t)j.reused : 0;
    if (rc == CADRE_OK && j.lent)
        session_mark(
            j.session,
            SESSION_MARK_PROMPT); /* the next prompt may go on from this one, but not from what is generated now */
    if (rc == CADRE_OK)
        rc = generate(&j, logits, err);
    if (rc == CADRE_E_CANCELLED) { /* what came before stays, also what was held back */
        j.stopped_by = "cancel";
        cadre_err end = end_text(&j, err);
        rc = end ? end : rc;
    } else if (rc == CADRE_OK) {
        rc = end_text(&j, err);
    }
    if (g && (rc == CADRE_OK || rc == CADRE_E_CANCELLED)) {
        g->prompt_tokens_per_s = (double)fed / (middle - start);
        /* The first token comes from the prompt's logits; each further one takes a step. */
        g->tokens_per_s = j.n_ids > 1 ? (double)(j.n_ids - 1) / (clock_now() - middle) : 0;
        give_result(&j, g);
    }
    record_close(&j.record);
    if (!j.lent) {
        session_free(j.session);
        speculation_free(j.speculation);
    }
    free(j.known);
    free(j.candidates);
    free(j.prompt);
    free(j.ids);
    free(j.text.p);
    return rc;
}

void cadre_generation_free(cadre_generation *g)
{
    if (!g)
        return;
    free(g->prompt_ids);
    free(g->ids);
    free(g->text);
    *g = (cadre_generation){0};
}
