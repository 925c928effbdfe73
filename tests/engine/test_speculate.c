/* Speculative decoding changes no greedy token and no distribution, whatever drafts, and counts what it reads. */
#include "engine_test.h"

#include <math.h>

#include "engine/generate.h"
#include "model/model.h"

/* ---- one choice ---------------------------------------------------------------------------------------- */

/* Upper 1e-4 quantile of chi-square with df degrees of freedom (Wilson and Hilferty 1931). Seeds are fixed, so a test
 * that passes always does. */
static double chi_square_limit(int df)
{
    double c = 2.0 / (9.0 * df);
    return df * pow(1 - c + 3.719 * sqrt(c), 3);
}

enum { IDS = 6 };

static struct distribution of(struct candidate c[IDS], const double *share)
{
    struct distribution d = {.c = c, .best = -1};
    for (int i = 0; i < IDS; i++)
        if (share[i] > 0) {
            c[d.n++] = (struct candidate){i, (float)share[i]};
            d.sum += (float)share[i];
            d.best = d.best < 0 || share[i] > share[d.best] ? i : d.best;
        }
    return d;
}

/* Drawn from q and checked against p it is drawn from p, and is accepted as often as it can be: Σ min(p, q). */
static void checked_draws_follow_the_model(void **state)
{
    (void)state;
    enum { DRAWS = 40000 };
    static const double rows[][2][IDS] = {
        {{.3, .1, .2, .05, .15, .2}, {.1, .3, .2, .2, .1, .1}},
        {{.3, .1, .2, .05, .15, .2}, {.3, .1, .2, .05, .15, .2}}, /* the same: always accepted */
        {{.5, .5, 0, 0, 0, 0}, {0, 0, .5, .25, .25, 0}},          /* nothing in common: never */
        {{.5, .5, 0, 0, 0, 0}, {.9, 0, .1, 0, 0, 0}},             /* truncated at different places */
        {{.25, .25, .25, .25, 0, 0}, {0, 1, 0, 0, 0, 0}},         /* a point */
        {{0, 0, 0, 1, 0, 0}, {.2, .2, .2, .2, .2, 0}},
    };
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        struct candidate cp[IDS], cq[IDS];
        struct distribution p = of(cp, rows[row][0]), q = of(cq, rows[row][1]);
        double of_id[IDS] = {0}, chi = 0, common = 0;
        struct rng rng;
        int count[IDS] = {0}, accepted = 0, df = -1;
        rng_seed(&rng, 17 + row);
        for (int i = 0; i < DRAWS; i++) {
            int32_t drafted = distribution_draw(&q, &rng), id = distribution_check(&p, &q, drafted, &rng, of_id);
            count[id]++;
            accepted += id == drafted;
        }
        for (int i = 0; i < IDS; i++) {
            double want = rows[row][0][i] * DRAWS;
            assert_true(of_id[i] == 0);
            common += fmin(rows[row][0][i], rows[row][1][i]);
            df += want > 0;
            if (want > 0)
                chi += pow(count[i] - want, 2) / want;
            else
                assert_int_equal(count[i], 0);
        }
        if (chi > (df ? chi_square_limit(df) : 0))
            fail_msg("row %zu: chi-square %g", row, chi);
        assert_true(fabs((double)accepted / DRAWS - common) < 0.015); /* six deviations */
    }
}

/* ---- whole generations --------------------------------------------------------------------------------- */

struct drafting {
    const char *name;
    cadre_model *model;
    int least, most;
};

static cadre_generate_options options_of(const struct drafting *d, int64_t n)
{
    cadre_generate_options o = cadre_generate_options_default();
    o.max_tokens = n;
    o.ignore_eos = true;
    o.draft = d->name;
    o.draft_model = d->model;
    o.draft_min = d->least;
    o.draft_max = d->most;
    return o;
}

/* A prompt in which something follows everything: `period` tokens again and again. */
static void periodic(int32_t *ids, int n, int period, int seed)
{
    for (int i = 0; i < n; i++)
        ids[i] = (i % period * 37 + seed * 11 + 5) % TINY_VOCAB;
}

static cadre_generation generated(cadre_model *m, const cadre_generate_options *o)
{
    cadre_error e = {0};
    cadre_generation g;
    assert_ok(cadre_generate(m, NULL, o, &g, &e), e);
    return g;
}

static void expect_same(const cadre_generation *want, const cadre_generation *got, const char *what)
{
    if (want->n_ids != got->n_ids || memcmp(want->ids, got->ids, want->n_ids * sizeof *want->ids) != 0)
        fail_msg("%s: other tokens (%zu, %zu)", what, want->n_ids, got->n_ids);
    assert_string_equal(want->stopped_by, got->stopped_by);
    assert_int_equal(want->text_bytes, got->text_bytes);
    assert_memory_equal(want->text, got->text, want->text_bytes + 1);
}

/* The model, the same with coarser weights, which is often right, and one that has nothing to do with it. */
struct three {
    cadre_model *m, *near, *far;
};

static struct three open_three(struct folder *f, bool recurrent)
{
    cadre_error e = {0};
    const char *path = tiny_file(f, "model.gguf", (struct tiny_options){.recurrent = recurrent}), *near = in(f, "near");
    const char *far = tiny_file(f, "far.gguf", (struct tiny_options){.seed = 9, .recurrent = !recurrent});
    assert_ok(cadre_quantize(path, near, &(cadre_quantize_options){.type = "q4_0"}, NULL, &e), e);
    return (struct three){open_with(path, 2, 0), open_with(near, 1, 0), open_with(far, 1, 0)};
}

static void close_three(struct three *t)
{
    cadre_model_close(t->m);
    cadre_model_close(t->near);
    cadre_model_close(t->far);
}

enum { PROMPT = 24, TOKENS = 60 };

static void greedy_text_stays(void **state)
{
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        struct three t = open_three(*state, recurrent);
        const struct drafting each[] = {{"ngram", NULL, 0, 0}, {"ngram", NULL, 8, 8},   {"ngram", NULL, 32, 32},
                                        {"ngram", NULL, 1, 1}, {"model", t.near, 0, 0}, {"model", t.near, 5, 5},
                                        {"model", t.m, 4, 4},  {"model", t.far, 3, 6},  {"model", t.near, 32, 32}};
        int64_t right = 0, wrong = 0;
        for (int seed = 0; seed < 6; seed++) {
            int32_t ids[PROMPT];
            periodic(ids, PROMPT, 2 + 5 * (seed % 3), seed);
            struct drafting none = {0};
            cadre_generate_options o = options_of(&none, TOKENS);
            o.ids = ids, o.n_ids = PROMPT;
            cadre_generation want = generated(t.m, &o);
            assert_string_equal(want.draft.drafter, "none");
            for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
                o = options_of(&each[i], TOKENS);
                o.ids = ids, o.n_ids = PROMPT;
                cadre_generation got = generated(t.m, &o);
                expect_same(&want, &got, each[i].name);
                assert_string_equal(got.draft.drafter, each[i].name);
                assert_int_equal(got.draft.tokens, TOKENS - 1);
                assert_int_equal(got.draft.passes + got.draft.accepted, TOKENS - 1);
                if (each[i].model == t.m && !recurrent) /* it agrees with itself */
                    assert_int_equal(got.draft.accepted, got.draft.drafted);
                right += got.draft.accepted;
                wrong += got.draft.drafted - got.draft.accepted;
                cadre_generation_free(&got);
            }
            cadre_generation_free(&want);
        }
        assert_true(right > 200 && wrong > 200); /* both were seen */
        close_three(&t);
    }
}

/* What draws nothing takes the random numbers of plain sampling: the same text, not only the same distribution. */
static void sampled_text_stays_where_nothing_is_drawn(void **state)
{
    int64_t right = 0, wrong = 0;
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        struct three t = open_three(*state, recurrent);
        for (int seed = 0; seed < 12; seed++) {
            int32_t ids[PROMPT];
            periodic(ids, PROMPT, 3, seed);
            struct drafting none = {0}, ngram = {"ngram", NULL, seed % 6, 6};
            cadre_generate_options o = options_of(&none, TOKENS), with = options_of(&ngram, TOKENS);
            o.ids = with.ids = ids, o.n_ids = with.n_ids = PROMPT;
            o.temperature = with.temperature = 1, o.top_k = with.top_k = 2, o.seed = with.seed = (uint64_t)seed;
            cadre_generation want = generated(t.m, &o), got = generated(t.m, &with);
            expect_same(&want, &got, "ngram");
            right += got.draft.accepted;
            wrong += got.draft.drafted - got.draft.accepted;
            cadre_generation_free(&want);
            cadre_generation_free(&got);
        }
        close_three(&t);
    }
    assert_true(right > 10 && wrong > 10);
}

/* The chance of every text of DEEP tokens among the WIDE likeliest of each step, from the model itself. */
enum { WIDE = 3, DEEP = 4, TEXTS = 81 };

struct outcomes {
    int32_t token[TEXTS][DEEP];
    double p[TEXTS];
    int n;
};

static void walk(struct session *s, const struct sampling *sampling, int32_t *token, int64_t n_prompt, int depth,
                 double p, struct outcomes *out)
{
    cadre_error e = {0};
    struct session_output o;
    if (depth == DEEP) {
        assert_true(out->n < TEXTS);
        memcpy(out->token[out->n], token + n_prompt, sizeof out->token[0]);
        out->p[out->n++] = p;
        return;
    }
    struct candidate scratch[TINY_VOCAB], kept[WIDE];
    session_rewind(s, 0);
    assert_ok(session_feed(s, token, n_prompt + depth, &o, &e), e);
    struct distribution d = sampling_distribution(sampling, o.logits, TINY_VOCAB, scratch);
    assert_true(d.n <= WIDE);
    memcpy(kept, d.c, (size_t)d.n * sizeof *kept);
    for (int64_t i = 0; i < d.n; i++) {
        token[n_prompt + depth] = kept[i].id;
        walk(s, sampling, token, n_prompt, depth + 1, p * kept[i].p / d.sum, out);
    }
}

/* Pearson's statistic of generated texts against their exact chances; texts expected less than five times are one. */
static void follows(cadre_model *m, const struct drafting *d, const int32_t *ids, const struct outcomes *x,
                    const struct sampling *sampling, int draws, cadre_draft_stats *sum)
{
    int count[TEXTS] = {0}, df = -1;
    double chi = 0, few = 0;
    int few_seen = 0;
    for (int seed = 0; seed < draws; seed++) {
        cadre_generate_options o = options_of(d, DEEP);
        o.ids = ids, o.n_ids = PROMPT, o.seed = (uint64_t)seed;
        o.temperature = sampling->temperature, o.top_k = sampling->top_k, o.top_p = sampling->top_p,
        o.min_p = sampling->min_p;
        cadre_generation g = generated(m, &o);
        int i = 0;
        while (i < x->n && memcmp(x->token[i], g.ids, sizeof x->token[0]) != 0)
            i++;
        if (i == x->n)
            fail_msg("%s, seed %d: a text that cannot be", d->name, seed);
        count[i]++;
        sum->drafted += g.draft.drafted;
        sum->accepted += g.draft.accepted;
        cadre_generation_free(&g);
    }
    for (int i = 0; i < x->n; i++) {
        double want = x->p[i] * draws;
        if (want < 5) {
            few += want;
            few_seen += count[i];
            continue;
        }
        chi += pow(count[i] - want, 2) / want;
        df++;
    }
    if (few >= 5) {
        chi += pow(few_seen - few, 2) / few;
        df++;
    }
    assert_true(df >= 5);
    if (chi > chi_square_limit(df))
        fail_msg("%s: chi-square %g with %d degrees of freedom", d->name ? d->name : "none", chi, df);
}

static void generated_texts_follow_the_model(void **state)
{
    enum { DRAWS = 900 };
    static const struct sampling sampling = {.temperature = 2.5, .top_k = WIDE, .top_p = 0.97, .min_p = 0.05};
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        cadre_error e = {0};
        struct three t = open_three(*state, recurrent);
        struct session *s;
        struct outcomes x = {0};
        int32_t ids[PROMPT + DEEP];
        periodic(ids, PROMPT, 2, 1);
        struct session_options so = {.n_ctx = PROMPT + DEEP, .kv = DTYPE_F32};
        assert_ok(session_new(&s, t.m, &so, &e), e);
        walk(s, &sampling, ids, PROMPT, 0, 1, &x);
        session_free(s);
        const struct drafting each[] = {
            {NULL, NULL, 0, 0}, {"ngram", NULL, 3, 3}, {"model", t.near, 3, 3}, {"model", t.far, 1, 2}};
        for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
            cadre_draft_stats sum = {0};
            follows(t.m, &each[i], ids, &x, &sampling, DRAWS, &sum);
            if (each[i].model == t.near) /* the check had something to say */
                assert_true(sum.accepted > DRAWS / 4 && sum.drafted - sum.accepted > DRAWS / 4);
            if (each[i].model == t.far)
                assert_true(sum.drafted - sum.accepted > DRAWS / 4);
        }
        close_three(&t);
    }
}

static void a_seed_gives_one_text(void **state)
{
    struct three t = open_three(*state, false);
    int32_t ids[PROMPT];
    periodic(ids, PROMPT, 5, 2);
    struct drafting d = {"model", t.near, 3, 8};
    cadre_generation first = {0};
    int other = 0;
    for (int threads = 1; threads <= 3; threads++) {
        cadre_model *m = open_with(in(*state, "model.gguf"), threads, 0);
        for (int seed = 0; seed < 4; seed++) {
            cadre_generate_options o = options_of(&d, TOKENS);
            o.ids = ids, o.n_ids = PROMPT, o.temperature = 1, o.seed = (uint64_t)(seed % 2);
            cadre_generation g = generated(m, &o);
            if (!first.ids)
                first = g;
            else if (seed % 2 == 0)
                expect_same(&first, &g, "the same seed");
            else
                other += memcmp(first.ids, g.ids, TOKENS * sizeof *g.ids) != 0;
            if (g.ids != first.ids)
                cadre_generation_free(&g);
        }
        cadre_model_close(m);
    }
    assert_int_equal(other, 6);
    cadre_generation_free(&first);
    close_three(&t);
}

/* ---- ends ---------------------------------------------------------------------------------------------- */

static int cancel_after;

static bool cancel(void *user)
{
    (void)user;
    return cancel_after && --cancel_after == 0;
}

/* A draft may hold the end, the stop text, or more tokens than there is room for. */
static void ends_are_where_they_were(void **state)
{
    struct three t = open_three(*state, false);
    int32_t ids[PROMPT];
    periodic(ids, PROMPT, 2, 4);
    const struct drafting none = {0}, each[] = {{"ngram", NULL, 7, 7}, {"model", t.m, 7, 7}, {"model", t.near, 7, 7}};
    cadre_generate_options o = options_of(&none, TOKENS);
    o.ids = ids, o.n_ids = PROMPT;
    cadre_generation all = generated(t.m, &o);
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        for (int64_t n = 0; n <= 20; n++) {
            struct drafting d = each[i];
            cadre_generate_options with = options_of(&d, n);
            with.ids = ids, with.n_ids = PROMPT;
            cadre_generation g = generated(t.m, &with);
            assert_int_equal(g.n_ids, n);
            assert_string_equal(g.stopped_by, "length");
            assert_memory_equal(g.ids, all.ids, (size_t)n * sizeof *g.ids);
            cadre_generation_free(&g);
            with.max_tokens = TOKENS;
            with.context = PROMPT + n;
            g = generated(t.m, &with);
            assert_int_equal(g.n_ids, n + 1); /* the last one needs no position */
            assert_string_equal(g.stopped_by, "context");
            assert_memory_equal(g.ids, all.ids, g.n_ids * sizeof *g.ids);
            cadre_generation_free(&g);
        }
    for (size_t at = 0; at + 3 < all.text_bytes; at += 5) {
        char stop[4] = {0};
        memcpy(stop, all.text + at, 3);
        if (strlen(stop) != 3)
            continue;
        o.stop = stop;
        cadre_generation want = generated(t.m, &o);
        for (size_t i = 0; i < sizeof each / sizeof *each; i++) {
            cadre_generate_options with = options_of(&each[i], TOKENS);
            with.ids = ids, with.n_ids = PROMPT, with.stop = stop;
            cadre_generation g = generated(t.m, &with);
            expect_same(&want, &g, stop);
            cadre_generation_free(&g);
        }
        cadre_generation_free(&want);
    }
    for (int after = 1; after < 8; after++) {
        cadre_error e = {0};
        cadre_generation g;
        cadre_generate_options with = options_of(&each[1], TOKENS);
        with.ids = ids, with.n_ids = PROMPT, with.cancel = cancel;
        cancel_after = after;
        assert_int_equal(cadre_generate(t.m, NULL, &with, &g, &e), CADRE_E_CANCELLED);
        assert_memory_equal(g.ids, all.ids, g.n_ids * sizeof *g.ids);
        assert_int_equal(g.n_ids > 0, after > 2);
        cadre_generation_free(&g);
    }
    cadre_generation_free(&all);
    close_three(&t);
    int32_t end = 0;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    o = options_of(&none, TOKENS), o.ids = ids, o.n_ids = PROMPT;
    all = generated(m, &o);
    end = all.ids[10];
    cadre_model_close(m);
    m = tiny_open(*state, (struct tiny_options){.eos = end});
    o.ignore_eos = false;
    cadre_generation want = generated(m, &o);
    assert_string_equal(want.stopped_by, "eos");
    struct drafting self = {"model", m, 7, 7};
    cadre_generate_options with = options_of(&self, TOKENS);
    with.ids = ids, with.n_ids = PROMPT, with.ignore_eos = false;
    cadre_generation g = generated(m, &with);
    expect_same(&want, &g, "eos");
    cadre_generation_free(&g);
    cadre_generation_free(&want);
    cadre_generation_free(&all);
    cadre_model_close(m);
}

/* ---- what is read -------------------------------------------------------------------------------------- */

/* Distinct experts of rows from … from + n in the routing of a pass, and the ids of one row as the planner takes them.
 */
static int64_t distinct(const struct session_output *o, int64_t from, int64_t n)
{
    int64_t sum = 0;
    for (int l = 0; l < TINY_LAYERS; l++)
        for (int e = 0; e < TINY_EXPERTS; e++) {
            bool chosen = false;
            for (int64_t i = from * TINY_USED; i < (from + n) * TINY_USED; i++)
                chosen |= o->routing[l].id[i] == e;
            sum += chosen;
        }
    return sum;
}

/* A generation by hand, and what it is held against: a session that hands out its routing, a drafter and a planner. */
struct watched {
    struct session *s, *check;
    struct speculation *sp;
    void *drafter;
    struct draft_reads reads;
    double bytes[TINY_LAYERS * TINY_EXPERTS];
    int64_t last[TINY_LAYERS * TINY_EXPERTS];
    int32_t text[200];
    int64_t n, counted;
    cadre_draft_stats seen;
};

enum { WATCHED_MOST = 6 };
static const double expert_bytes = 3 * 64 * 32 * sizeof(float); /* gate, up and down */

static void watch(struct watched *w, const struct three *t, int seed)
{
    cadre_error e = {0};
    struct drafting d = {"model", t->near, 2, WATCHED_MOST};
    cadre_generate_options o = options_of(&d, TOKENS);
    struct session_options so = {.n_ctx = 200, .kv = DTYPE_F32}, plain = so;
    struct session_output out;
    const double used[TINY_LAYERS] = {TINY_USED, TINY_USED};
    *w = (struct watched){.n = PROMPT, .counted = PROMPT - 1};
    assert_ok(speculation_new(&w->sp, t->m, &o, &so, &e), e);
    assert_ok(session_new(&w->s, t->m, &so, &e), e);
    plain.routing = true;
    assert_ok(session_new(&w->check, t->m, &plain, &e), e);
    speculation_begin(w->sp, 0);
    struct draft_setup setup = {.model = t->m, .draft = t->near, .so = plain, .most = WATCHED_MOST};
    assert_ok(drafter_model.open(&w->drafter, &setup, &e), e);
    drafter_model.begin(w->drafter, 0);
    for (int i = 0; i < TINY_LAYERS * TINY_EXPERTS; i++)
        w->bytes[i] = expert_bytes;
    draft_reads_init(&w->reads, TINY_LAYERS, TINY_EXPERTS, 2 * WATCHED_MOST + 2, w->bytes, w->last, used);
    periodic(w->text, PROMPT, 2 + seed, seed);
    assert_ok(session_feed(w->s, w->text, PROMPT - 1, &out, &e), e);
}

static void unwatch(struct watched *w)
{
    drafter_model.close(w->drafter);
    session_free(w->check);
    session_free(w->s);
    speculation_free(w->sp);
}

/* The same pass over the session of the test, from its start: `length` drafted tokens, of which `accepted` stayed. */
static void expect_counts(struct watched *w, const cadre_draft_stats *now, int64_t fed, int64_t length,
                          int64_t accepted)
{
    cadre_error e = {0};
    struct session_output out;
    int64_t rows = w->n - fed + length, alone = 0;
    session_rewind(w->check, 0);
    assert_ok(session_feed(w->check, w->text, fed, &out, &e), e);
    assert_ok(session_feed(w->check, w->text + fed, rows, &out, &e), e);
    for (int64_t i = w->counted - fed; i < w->n - fed + accepted; i++) {
        int32_t id[TINY_LAYERS][TINY_USED];
        for (int l = 0; l < TINY_LAYERS; l++)
            memcpy(id[l], out.routing[l].id + i * TINY_USED, sizeof id[l]);
        draft_reads_add(&w->reads, id[0], TINY_USED, TINY_USED);
        alone += distinct(&out, i, 1);
    }
    w->counted = w->n + accepted;
    int64_t experts = distinct(&out, 0, rows);
    assert_int_equal(now->experts - w->seen.experts, experts);
    assert_int_equal(now->expert_bytes - w->seen.expert_bytes, (uint64_t)((double)experts * expert_bytes));
    assert_int_equal(now->experts_alone - w->seen.experts_alone, alone);
    assert_int_equal(now->expert_bytes_alone - w->seen.expert_bytes_alone, (uint64_t)((double)alone * expert_bytes));
    const struct draft_reads *told = speculation_reads(w->sp);
    for (int i = 1; i <= w->reads.rows; i++)
        assert_true(told->mean[i] == w->reads.mean[i]);
}

static void one_pass(struct watched *w, const struct sampling *sampling, struct rng *rng)
{
    cadre_error e = {0};
    int n_next;
    int32_t next[DRAFT_MOST + 1];
    struct draft proposed;
    struct draft_text so_far = {w->text, w->n, sampling};
    cadre_draft_stats now;
    int64_t fed = session_position(w->s);
    assert_ok(drafter_model.propose(w->drafter, &so_far, WATCHED_MOST, &proposed, &e), e);
    assert_ok(speculation_step(w->sp, w->s, w->text, w->n, WATCHED_MOST, sampling, rng, next, &n_next, &e), e);
    speculation_stats(w->sp, &now);
    int64_t length = now.drafted - w->seen.drafted, accepted = n_next - 1;
    assert_true(length <= proposed.n && accepted == now.accepted - w->seen.accepted);
    memcpy(w->text + w->n, proposed.token, (size_t)length * sizeof *w->text);
    expect_counts(w, &now, fed, length, accepted);
    drafter_model.accept(w->drafter, (int)accepted);
    memcpy(w->text + w->n, next, (size_t)n_next * sizeof *w->text);
    w->n += n_next;
    w->seen = now;
}

/* Experts and bytes are those that the routing of each pass says, and the planner was told the decisions of the tokens
 * that stayed. */
static void experts_are_counted_as_decided(void **state)
{
    const struct sampling greedy = {.top_p = 1};
    int64_t right = 0, wrong = 0;
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        struct three t = open_three(*state, recurrent);
        for (int seed = 0; seed < 4; seed++) {
            struct watched w;
            struct rng rng;
            rng_seed(&rng, (uint64_t)seed);
            watch(&w, &t, seed);
            for (int pass = 0; pass < 40 && w.n < 180; pass++)
                one_pass(&w, &greedy, &rng);
            right += w.seen.accepted;
            wrong += w.seen.drafted - w.seen.accepted;
            unwatch(&w);
        }
        close_three(&t);
    }
    if (right < 50 || wrong < 50)
        fail_msg("%lld tokens right, %lld wrong: the test says little", (long long)right, (long long)wrong);
}

/* ---- chats --------------------------------------------------------------------------------------------- */

static void chats_reply_as_without(void **state)
{
    static const char *const turns[] = {
        "[{\"role\": \"user\", \"content\": \"The router sends, the router sends\"}]",
        "[{\"role\": \"user\", \"content\": \"The router sends, the router sends\"}, {\"role\": \"assistant\", "
        "\"content\": "
        "\"tokens\"}, {\"role\": \"user\", \"content\": \"The router sends tokens\"}]",
        "[{\"role\": \"user\", \"content\": \"other\"}]",
    };
    for (int recurrent = 0; recurrent < 2; recurrent++) {
        struct three t = open_three(*state, recurrent);
        const struct drafting each[] = {{0}, {"ngram", NULL, 3, 6}, {"model", t.near, 3, 6}};
        for (int hot = 0; hot < 2; hot++) {
            char *replies[3][3] = {0}, *fresh[3] = {0};
            for (int i = 0; i < 3; i++) {
                cadre_error e = {0};
                cadre_chat *chat;
                cadre_chat_options co = cadre_chat_options_default();
                cadre_generate_options o = options_of(&each[i], 20);
                co.name = "plain", o.temperature = hot, o.context = 200;
                assert_ok(cadre_chat_open(&chat, t.m, &o, &e), e);
                for (int turn = 0; turn < 3; turn++) {
                    cadre_generation g;
                    cadre_generate_options reply = options_of(&each[0], 20); /* drafting is the chat's */
                    reply.temperature = hot;
                    assert_ok(cadre_chat_reply(chat, turns[turn], NULL, &co, &reply, &g, &e), e);
                    assert_string_equal(g.draft.drafter, each[i].name ? each[i].name : "none");
                    replies[i][turn] = strdup(g.text);
                    cadre_generation_free(&g);
                    if (i == 2) { /* what a model drafts at a temperature is the text of a fresh chat */
                        cadre_chat *other;
                        assert_ok(cadre_chat_open(&other, t.m, &o, &e), e);
                        assert_ok(cadre_chat_reply(other, turns[turn], NULL, &co, &reply, &g, &e), e);
                        fresh[turn] = strdup(g.text);
                        cadre_generation_free(&g);
                        cadre_chat_close(other);
                    }
                }
                cadre_chat_close(chat);
            }
            for (int turn = 0; turn < 3; turn++) {
                assert_string_equal(replies[0][turn], replies[1][turn]);
                assert_string_equal(replies[2][turn], fresh[turn]);
                if (!hot)
                    assert_string_equal(replies[0][turn], replies[2][turn]);
            }
            for (int i = 0; i < 3; i++)
                for (int turn = 0; turn < 3; turn++)
                    free(replies[i][turn]);
            for (int turn = 0; turn < 3; turn++)
                free(fresh[turn]);
        }
        close_three(&t);
    }
}

/* ---- refusals ------------------------------------------------------------------------------------------ */

static void wrong_drafting_is_named(void **state)
{
    cadre_error e = {0};
    struct folder *f = *state;
    cadre_model *m = tiny_open(f, (struct tiny_options){0});
    cadre_model *bare = open_with(tiny_file(f, "bare.gguf", (struct tiny_options){.no_tokenizer = true}), 1, 0);
    cadre_model *ends = open_with(tiny_file(f, "ends.gguf", (struct tiny_options){.eos = 7}), 1, 0);
    cadre_model_options only = cadre_model_options_default();
    cadre_model *words;
    only.tokenizer_only = true;
    assert_ok(cadre_model_open(&words, in(f, "tiny.gguf"), &only, &e), e);
    const struct {
        struct drafting d;
        const char *names;
    } rows[] = {
        {{"trigram", NULL, 0, 0}, "draft: expected none, ngram or model, found 'trigram'"},
        {{"ngram", NULL, 0, 33}, "draft_max: expected 1 to 32 tokens"},
        {{"ngram", NULL, 0, -1}, "draft_max"},
        {{"ngram", NULL, 9, 0}, "draft_min: expected 0 to 8"},
        {{"ngram", NULL, 4, 3}, "draft_min: expected 0 to 3"},
        {{NULL, NULL, 0, 3}, "nothing is drafted"},
        {{"none", NULL, 1, 0}, "nothing is drafted"},
        {{"model", NULL, 0, 0}, "draft_model: expected a model"},
        {{"model", words, 0, 0}, "draft_model: expected a model with weights"},
        {{"ngram", m, 0, 0}, "draft_model: draft is 'ngram'"},
        {{NULL, m, 0, 0}, "draft_model: draft is 'none'"},
        {{"model", bare, 0, 0}, "expected a tokenizer"},
        {{"model", ends, 0, 0}, "token 7 ends a text here"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cadre_generate_options o = options_of(&rows[i].d, 4);
        assert_fails(cadre_generate(m, "The", &o, NULL, &e), CADRE_E_ARG, &e, rows[i].names);
    }
    cadre_generate_options o = options_of(&rows[0].d, 4);
    o.draft = "ngram", o.logits_path = in(f, "logits.st");
    assert_fails(cadre_generate(m, "The", &o, NULL, &e), CADRE_E_ARG, &e, "draft: logits");
    /* The budget counts the drafter too. */
    cadre_model *tight = open_with(in(f, "tiny.gguf"), 1, 3 << 20);
    o = options_of(&rows[0].d, 4);
    o.draft = NULL;
    assert_ok(cadre_generate(tight, "The", &o, NULL, &e), e);
    o.draft = "model", o.draft_model = m, o.draft_max = 1;
    assert_fails(cadre_generate(tight, "The", &o, NULL, &e), CADRE_E_MEMORY, &e, "drafter");
    cadre_model_close(tight);
    cadre_model_close(words);
    cadre_model_close(ends);
    cadre_model_close(bare);
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(checked_draws_follow_the_model),
        WITH_FOLDER(greedy_text_stays),
        WITH_FOLDER(sampled_text_stays_where_nothing_is_drawn),
        WITH_FOLDER(generated_texts_follow_the_model),
        WITH_FOLDER(a_seed_gives_one_text),
        WITH_FOLDER(ends_are_where_they_were),
        WITH_FOLDER(experts_are_counted_as_decided),
        WITH_FOLDER(chats_reply_as_without),
        WITH_FOLDER(wrong_drafting_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
