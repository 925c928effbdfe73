#include "engine/speculate.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/experts.h"

/* A drafter that costs and seems useless is tried again after so many passes, unless it cannot pay at all. */
enum { RETRY = 32, USUAL_MOST = 8 };

/* The decisions of one pass, by layer (a chain's turns each one of their own), row and slot. */
struct decisions {
    int layers, turns, heads, slots, n_expert; /* slots: of a row */
    int32_t *id;                               /* [layers, SESSION_CHUNK, slots] */
    int *calls;                                /* [model's layers] so far */
};

struct speculation {
    const struct drafter *row;
    void *self;
    int least, most;
    struct draft draft;
    struct draft_chance chance[DRAFT_KINDS];
    int idle;      /* passes since a drafter that costs was asked */
    bool untested; /* a draft was there and was left out: its first token can still be compared */

    struct decision_filter filter;
    struct decisions seen;
    struct draft_reads reads;
    struct draft_cost cost;
    double dense;          /* of cost, without keys and values */
    double *bytes;         /* [layers, n_expert] */
    int64_t *last, *stamp; /* [layers, n_expert] of reads; the pass that counted an expert last */
    int64_t now;
    int64_t n_counted; /* rows of the text whose decisions are in reads */

    int32_t batch[SESSION_CHUNK];
    struct candidate *candidates; /* [n_vocab] */
    double *of_id;                /* [n_vocab] zeros */
    int64_t n_vocab;
    cadre_draft_stats stats;
};

/* ---- decisions ----------------------------------------------------------------------------------------- */

static void keep_decision(void *self, struct decision *d)
{
    struct decisions *s = self;
    int layer = d->layer * s->turns + s->calls[d->layer]++ % s->turns;
    int64_t rows = d->n_tok / s->heads;
    assert(d->k * s->heads == s->slots && rows <= SESSION_CHUNK);
    memcpy(s->id + (int64_t)layer * SESSION_CHUNK * s->slots, d->id, (size_t)(rows * s->slots) * sizeof *d->id);
}

/* Bytes and number of the distinct experts that rows from … from + n chose. */
static double union_of(struct speculation *sp, int64_t from, int64_t n, int64_t *experts)
{
    const struct decisions *s = &sp->seen;
    double bytes = 0;
    sp->now++;
    for (int l = 0; l < s->layers; l++) {
        const int32_t *id = s->id + ((int64_t)l * SESSION_CHUNK + from) * s->slots;
        for (int64_t i = 0; i < n * s->slots; i++) {
            int64_t at = (int64_t)l * s->n_expert + id[i];
            if (id[i] < 0 || sp->stamp[at] == sp->now || sp->bytes[at] == 0)
                continue;
            sp->stamp[at] = sp->now;
            bytes += sp->bytes[at];
            ++*experts;
        }
    }
    return bytes;
}

static cadre_err open_decisions(struct speculation *sp, const struct model *m, cadre_error *err)
{
    const struct spec *spec = &m->spec;
    struct decisions *s = &sp->seen;
    int choices = spec->n_expert ? spec_choices(spec) : 0, k = spec->router.k;
    s->turns = spec->chain > 1 ? spec->chain : 1;
    s->heads = spec->moe_heads > 1 ? (int)spec->moe_heads : 1;
    s->layers = choices ? (int)spec->n_layer * s->turns : 0;
    s->n_expert = choices;
    s->slots = k * s->heads;
    size_t experts = (size_t)s->layers * (size_t)choices, ids = (size_t)s->layers * SESSION_CHUNK * (size_t)s->slots;
    double *of_layer = calloc((size_t)spec->n_layer * (size_t)choices + 1, sizeof *of_layer);
    double *used = calloc((size_t)s->layers + 1, sizeof *used);
    sp->bytes = calloc(experts + 1, sizeof *sp->bytes);
    sp->last = calloc(experts + 1, sizeof *sp->last);
    sp->stamp = calloc(experts + 1, sizeof *sp->stamp);
    s->id = malloc((ids + 1) * sizeof *s->id);
    s->calls = calloc((size_t)spec->n_layer, sizeof *s->calls);
    cadre_err rc = CADRE_OK;
    if (of_layer && used && sp->bytes && sp->last && sp->stamp && s->id && s->calls) {
        if (choices)
            runtime_expert_bytes(m, of_layer);
        for (int l = 0; l < s->layers; l++) {
            memcpy(sp->bytes + (int64_t)l * choices, of_layer + (int64_t)(l / s->turns) * choices,
                   (size_t)choices * sizeof *sp->bytes);
            used[l] = draft_even_union(choices, spec_layer_k(spec, l / s->turns), s->heads);
        }
        for (size_t i = 0; i < ids; i++)
            s->id[i] = -1; /* of dense layers they stay so */
        draft_reads_init(&sp->reads, s->layers, choices, 2 * sp->most + 2, sp->bytes, sp->last, used);
    } else {
        rc = error_set(err, CADRE_E_MEMORY, "no memory for speculative decoding");
    }
    free(of_layer);
    free(used);
    return rc;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

/* Names of all rows, "none, ngram or model". */
static const char *drafter_names(char names[128])
{
    const struct drafter *d;
    snprintf(names, 128, "none");
    for (int i = 0; (d = drafter_at(i)); i++)
        snprintf(names + strlen(names), 128 - strlen(names), drafter_at(i + 1) ? ", %s" : " or %s", d->name);
    return names;
}

static cadre_err check_options(const struct drafter *row, const cadre_generate_options *o, cadre_error *err)
{
    char names[128];
    bool none = !o->draft || strcmp(o->draft, "none") == 0;
    CHECK(err, none || row, CADRE_E_ARG, "draft: expected %s, found '%s'", drafter_names(names), o->draft);
    CHECK(err, o->draft_max >= 0 && o->draft_max <= DRAFT_MOST, CADRE_E_ARG,
          "draft_max: expected 1 to %d tokens, or 0 for %d, found %d", DRAFT_MOST, USUAL_MOST, o->draft_max);
    int most = o->draft_max ? o->draft_max : USUAL_MOST;
    CHECK(err, o->draft_min >= 0 && o->draft_min <= most, CADRE_E_ARG,
          "draft_min: expected 0 to %d tokens, the longest draft, found %d", most, o->draft_min);
    CHECK(err, row || (o->draft_max == 0 && o->draft_min == 0), CADRE_E_ARG,
          "draft_max, draft_min: nothing is drafted; name a drafter too");
    CHECK(err, !row || !row->by_model || (o->draft_model && o->draft_model->model), CADRE_E_ARG,
          "draft_model: expected a model with weights that drafts, found none");
    CHECK(err, !o->draft_model || (row && row->by_model), CADRE_E_ARG,
          "draft_model: draft is '%s', so a draft model cannot act", none ? "none" : row->name);
    return CADRE_OK;
}

static cadre_err open_speculation(struct speculation *sp, struct cadre_model *m, const cadre_generate_options *o,
                                  const struct session_options *so, cadre_error *err)
{
    struct draft_setup setup = {.model = m, .draft = o->draft_model, .so = *so, .most = sp->most};
    setup.so.n_ctx = so->n_ctx ? so->n_ctx : m->model->spec.n_ctx;
    TRY(open_decisions(sp, m->model, err));
    sp->n_vocab = m->model->spec.n_vocab;
    sp->candidates = malloc((size_t)sp->n_vocab * sizeof *sp->candidates);
    sp->of_id = calloc((size_t)sp->n_vocab, sizeof *sp->of_id);
    CHECK(err, sp->candidates && sp->of_id, CADRE_E_MEMORY, "no memory for speculative decoding");
    TRY(sp->row->open(&sp->self, &setup, err));
    const struct spec *spec = &m->model->spec;
    sp->dense = runtime_dense_bytes(m->model) + (double)spec->n_layer * DRAFT_LAYER_BYTES;
    sp->cost = (struct draft_cost){
        .expert = sp->reads.mean,
        .row = 2.0 * (double)spec_count(spec).active_parameters / DRAFT_FLOP_PER_BYTE,
        .draft = sp->row->cost(sp->self),
    };
    return CADRE_OK;
}

cadre_err speculation_new(struct speculation **out, struct cadre_model *m, const cadre_generate_options *o,
                          struct session_options *so, cadre_error *err)
{
    const struct drafter *row = o->draft ? drafter_find(o->draft) : NULL;
    *out = NULL;
    TRY(check_options(row, o, err));
    if (!row)
        return CADRE_OK;
    CHECK(err, !so->all_logits && !so->routing, CADRE_E_ARG,
          "draft: logits and routing are of the prompt, where nothing is drafted; give one or the other");
    struct speculation *sp = calloc(1, sizeof *sp);
    CHECK(err, sp, CADRE_E_MEMORY, "no memory for speculative decoding");
    sp->row = row;
    sp->least = o->draft_min;
    sp->most = o->draft_max ? o->draft_max : USUAL_MOST;
    cadre_err rc = open_speculation(sp, m, o, so, err);
    if (rc) {
        speculation_free(sp);
        return rc;
    }
    sp->filter = (struct decision_filter){&sp->seen, keep_decision};
    so->filter = &sp->filter;
    so->last_logits = sp->most + 1;
    so->marks = SESSION_MARKS;
    *out = sp;
    return CADRE_OK;
}

void speculation_free(struct speculation *sp)
{
    if (!sp)
        return;
    sp->row->close(sp->self);
    free(sp->bytes);
    free(sp->last);
    free(sp->stamp);
    free(sp->seen.id);
    free(sp->seen.calls);
    free(sp->candidates);
    free(sp->of_id);
    free(sp);
}

cadre_err speculation_fits(const struct speculation *sp, const struct cadre_model *m, const struct session *s,
                           cadre_error *err)
{
    if (!sp)
        return CADRE_OK;
    return runtime_fits(m, session_bytes(s) + sp->row->bytes(sp->self), "KV cache, working memory and the drafter",
                        err);
}

void speculation_begin(struct speculation *sp, uint64_t seed)
{
    sp->row->begin(sp->self, seed);
    for (int i = 0; i < DRAFT_KINDS; i++)
        sp->chance[i] = (struct draft_chance){.prior = sp->cost.draft == 0 ? 0.2 : 0.6};
    draft_reads_begin(&sp->reads);
    sp->idle = 0;
    sp->n_counted = 0;
    sp->stats = (cadre_draft_stats){.drafter = sp->row->name};
}

/* ---- a pass -------------------------------------------------------------------------------------------- */

static cadre_err choose_draft(struct speculation *sp, const struct draft_text *text, int most, cadre_error *err)
{
    struct draft *d = &sp->draft;
    bool free_of_cost = sp->cost.draft == 0;
    d->n = d->kind = 0;
    sp->untested = false;
    if (most <= 0)
        return CADRE_OK;
    if (free_of_cost) {
        TRY(sp->row->propose(sp->self, text, most, d, err));
        most = d->n;
    }
    int n = draft_length(&sp->cost, draft_chance(&sp->chance[d->kind]), most);
    n = n < sp->least ? (int)min_i64(sp->least, most) : n;
    if (free_of_cost) {
        sp->untested = d->n > 0 && n == 0;
        d->n = n;
        return CADRE_OK;
    }
    sp->idle = n ? 0 : sp->idle + 1;
    if (sp->idle >= RETRY && draft_length(&sp->cost, 1, most) > 0) { /* if it could pay were it always right */
        sp->idle = 0;
        n = 1;
    }
    return n ? sp->row->propose(sp->self, text, n, d, err) : CADRE_OK;
}

/* The tokens that follow, by the logits of the text's last token and of each drafted one. */
static int check_draft(struct speculation *sp, const real *logits, const struct sampling *sampling, struct rng *rng,
                       int32_t *out)
{
    const struct draft *d = &sp->draft;
    for (int i = 0;; i++) {
        struct distribution p = sampling_distribution(sampling, logits + i * sp->n_vocab, sp->n_vocab, sp->candidates);
        /* Where nothing was drawn, q is 1 for the drafted token: accepting it with p, and else drawing one of the
         * others by p, is what a draw from p does; so the text is that of plain sampling. */
        bool drawn = i < d->n && d->drawn && p.n > 0;
        out[i] = drawn ? distribution_check(&p, &d->q[i], d->token[i], rng, sp->of_id) : distribution_draw(&p, rng);
        if (i == d->n || out[i] != d->token[i])
            return i + 1;
    }
}

/* What the pass over `rows` tokens read, and what its first `kept`, which stay, would have read each by itself. */
static void count_pass(struct speculation *sp, int64_t fed, int64_t rows, int64_t kept)
{
    const struct decisions *s = &sp->seen;
    sp->stats.expert_bytes += (uint64_t)union_of(sp, 0, rows, &sp->stats.experts);
    for (int64_t i = max_i64(0, sp->n_counted - fed); i < kept; i++) {
        sp->stats.expert_bytes_alone += (uint64_t)union_of(sp, i, 1, &sp->stats.experts_alone);
        draft_reads_add(&sp->reads, s->id + i * s->slots, (int64_t)SESSION_CHUNK * s->slots, s->slots);
    }
    sp->n_counted = fed + kept;
}

static void learn(struct speculation *sp, int accepted, const int32_t *out)
{
    const struct draft *d = &sp->draft;
    sp->stats.passes++;
    sp->stats.drafted += d->n;
    sp->stats.accepted += accepted;
    if (sp->untested)
        draft_chance_saw(&sp->chance[d->kind], out[0] == d->token[0], out[0] != d->token[0]);
    if (d->n == 0)
        return;
    draft_chance_saw(&sp->chance[d->kind], accepted, accepted < d->n);
    sp->row->accept(sp->self, accepted);
}

cadre_err speculation_step(struct speculation *sp, struct session *s, const int32_t *token, int64_t n, int64_t most,
                           const struct sampling *sampling, struct rng *rng, int32_t out[DRAFT_MOST + 1], int *n_out,
                           cadre_error *err)
{
    struct session_output o;
    struct draft *d = &sp->draft;
    struct draft_text text = {token, n, sampling};
    int64_t fed = session_position(s), pending = n - fed;
    sp->cost.dense = sp->dense + (double)session_kv_bytes(s, n);
    sp->cost.pending = (int)pending;
    sp->cost.again = session_has_states(s);
    /* Where wrong tokens cannot be taken back singly, right ones gather to be read again: not without end. */
    most = pending > sp->most + 1 ? 0 : min_i64(most, sp->most);
    TRY(choose_draft(sp, &text, (int)most, err));
    int64_t rows = pending + d->n;
    memcpy(sp->batch, token + fed, (size_t)pending * sizeof *token);
    memcpy(sp->batch + pending, d->token, (size_t)d->n * sizeof *token);
    if (d->n > 0)
        session_mark(s, SESSION_MARK_DRAFT);
    TRY(session_feed_last(s, sp->batch, rows, d->n + 1, &o, err));
    *n_out = check_draft(sp, o.logits, sampling, rng, out);
    int accepted = *n_out - 1;
    count_pass(sp, fed, rows, pending + accepted);
    if (accepted < d->n)
        session_rewind(s, n + accepted);
    learn(sp, accepted, out);
    return CADRE_OK;
}

void speculation_stats(const struct speculation *sp, cadre_draft_stats *out)
{
    *out = sp->stats;
}

const struct draft_reads *speculation_reads(const struct speculation *sp)
{
    return &sp->reads;
}
