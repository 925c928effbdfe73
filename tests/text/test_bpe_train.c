/* Training, against the definition: count all pairs anew before each merge. */
#include "alloc_fail.h"
#include "vocab.h"

#include "base/pool.h"
#include "base/rng.h"
#include "text/bpe_train.h"
#include "text/pretokenizer.h"

static struct bpe_options options_of(int64_t vocab)
{
    return (struct bpe_options){.vocab = vocab, .pre = "gpt-2"};
}

static struct bpe_result train(const char *text, const struct bpe_options *o)
{
    struct bpe_result r = {0};
    cadre_error e = {0};
    size_t n = strlen(text);
    assert_ok(bpe_train(&r, &text, &n, 1, o, NULL, &e), e);
    return r;
}

static void assert_span(struct text_span s, const char *want)
{
    if (s.n != strlen(want) || memcmp(s.p, want, s.n) != 0)
        fail_msg("expected '%s', found '%.*s'", want, (int)s.n, s.p);
}

static void merges_by_hand(void **s)
{
    (void)s;
    /* Words: "low" x3, " low" x2, " lower" x1, " west" x2. Pairs of lo and ow: 6 each; "lo" has the lower ids.
     * Then (lo w) 6. Then (Ġ low): 3; (w e): " west" 2 of the plain w; (e s) 2, (s t) 2, (Ġ w) 2.
     * Then twos: (e s) has the lowest ids of e s, s t, w e, Ġ w: byte ids, and the blank is byte 32. */
    struct bpe_options o = options_of(256 + 2 + 4);
    static const char *const specials[] = {"<s>", "</s>"};
    o.specials = specials, o.n_specials = 2;
    struct bpe_result r = train("low\nlow\nlow low low lower west west", &o);
    assert_int_equal(r.tables.n_merges, 4);
    assert_span(r.tables.merges[0], "l o");
    assert_span(r.tables.merges[1], "lo w");
    assert_span(r.tables.merges[2], "Ġ low");
    assert_span(r.tables.merges[3], "Ġ w");
    assert_span(r.tables.tokens[0], "<s>");
    assert_span(r.tables.tokens[1], "</s>");
    assert_span(r.tables.tokens[2 + 'a'], "a");
    assert_span(r.tables.tokens[2 + ' '], "Ġ");
    assert_span(r.tables.tokens[2 + 256 + 2], "Ġlow");
    assert_int_equal(r.tables.kinds[1], TOKEN_CONTROL);
    assert_int_equal(r.tables.kinds[2], TOKEN_NORMAL);
    assert_int_equal(r.tables.n_tokens, 262);
    assert_string_equal(r.tables.model, "gpt2");
    assert_string_equal(r.tables.pre, "gpt-2");
    bpe_result_free(&r);
    bpe_result_free(&r); /* no harm */
}

/* ---- the definition ---- */

enum { MAX_WORDS = 20000, MAX_SYMBOLS = 200000, MAX_MERGES = 400, FIRST = 256 };

static struct slow {
    int32_t symbols[MAX_SYMBOLS];
    int start[MAX_WORDS + 1], n_words, n_symbols; /* every occurrence of a word is a word */
    int32_t merges[MAX_MERGES][2];
    int n_merges, n_tokens;
    char text[FIRST + MAX_MERGES][256];
    int length[FIRST + MAX_MERGES];
} slow;

static cadre_err slow_word(void *arg, const char *p, size_t n, cadre_error *err)
{
    (void)arg, (void)err;
    for (size_t i = 0; i < n; i++)
        slow.symbols[slow.n_symbols++] = (unsigned char)p[i];
    slow.start[++slow.n_words] = slow.n_symbols;
    assert_true(slow.n_words < MAX_WORDS && slow.n_symbols < MAX_SYMBOLS - 300);
    return CADRE_OK;
}

static void slow_merge(int32_t left, int32_t right, int32_t id)
{
    int out = 0;
    for (int w = 0; w < slow.n_words; w++) {
        int from = slow.start[w], to = slow.start[w + 1];
        slow.start[w] = out;
        for (int i = from; i < to; i++) {
            bool here = i + 1 < to && slow.symbols[i] == left && slow.symbols[i + 1] == right;
            slow.symbols[out++] = here ? id : slow.symbols[i];
            i += here;
        }
    }
    slow.start[slow.n_words] = out;
    slow.n_symbols = out;
}

/* Most frequent pair, lowest ids of equals; false if there is none. */
static bool slow_best(int32_t *left, int32_t *right)
{
    static int count[FIRST + MAX_MERGES][FIRST + MAX_MERGES];
    memset(count, 0, sizeof count);
    for (int w = 0; w < slow.n_words; w++)
        for (int i = slow.start[w]; i + 1 < slow.start[w + 1]; i++)
            count[slow.symbols[i]][slow.symbols[i + 1]]++;
    int best = 0;
    for (int a = 0; a < slow.n_tokens; a++)
        for (int b = 0; b < slow.n_tokens; b++)
            if (count[a][b] > best)
                best = count[a][b], *left = a, *right = b;
    return best > 0;
}

/* Stops early where there are no more pairs. */
static void slow_train(const char *text, size_t n, int vocab)
{
    memset(&slow, 0, sizeof slow);
    struct pretokenizer *p;
    struct splitter *split;
    cadre_error e = {0};
    struct split_step steps[PRE_MAX_SPLITS];
    assert_ok(pretokenizer_new(&p, steps, pre_row_steps(pre_row_find("gpt-2"), steps), &e), e);
    assert_ok(splitter_new(&split, p, &e), e);
    assert_ok(splitter_run(split, text, n, true, slow_word, NULL, &e), e);
    splitter_free(split);
    pretokenizer_free(p);
    for (; slow.n_tokens < 256; slow.n_tokens++) {
        slow.text[slow.n_tokens][0] = (char)slow.n_tokens;
        slow.length[slow.n_tokens] = 1;
    }
    while (slow.n_tokens < vocab) {
        int32_t left = 0, right = 0, id;
        if (!slow_best(&left, &right))
            return;
        int l = slow.length[left], r = slow.length[right];
        assert_true(l + r < 256 && slow.n_merges < MAX_MERGES);
        id = slow.n_tokens++;
        memcpy(slow.text[id], slow.text[left], (size_t)l);
        memcpy(slow.text[id] + l, slow.text[right], (size_t)r);
        slow.length[id] = l + r;
        int32_t *m = slow.merges[slow.n_merges++];
        m[0] = left, m[1] = right;
        slow_merge(left, right, id);
    }
}

static void assert_equals_slow(const struct tokenizer_tables *t)
{
    assert_int_equal(t->n_tokens, slow.n_tokens);
    assert_int_equal(t->n_merges, slow.n_merges);
    for (int i = 0; i < slow.n_tokens; i++) {
        char bytes[512];
        assert_true(t->tokens[i].n <= sizeof bytes);
        assert_int_equal(alphabet_to_bytes(t->tokens[i].p, t->tokens[i].n, bytes), slow.length[i]);
        assert_memory_equal(bytes, slow.text[i], slow.length[i]);
    }
    for (int i = 0; i < slow.n_merges; i++) {
        const struct text_span *l = &t->tokens[slow.merges[i][0]], *r = &t->tokens[slow.merges[i][1]];
        char want[1024];
        snprintf(want, sizeof want, "%.*s %.*s", (int)l->n, l->p, (int)r->n, r->p);
        assert_span(t->merges[i], want);
    }
}

/* Text of few letters has many ties and pairs of equal letters. */
static size_t random_text(struct rng *r, char *text, size_t n, const char *letters)
{
    for (size_t i = 0; i < n; i++)
        text[i] = letters[rng_below(r, strlen(letters))];
    text[n] = 0;
    return n;
}

static void training_equals_its_definition(void **s)
{
    (void)s;
    static const char *const letters[] = {"aab ",    "ab", "abcd  ", "the quick brown fox\n", "\xc3\xa9\xff  xy",
                                          "aaaaaaa "};
    struct rng r;
    rng_seed(&r, 4);
    char text[4001];
    int exhausted = 0;
    for (int round = 0; round < 18; round++) {
        size_t n = random_text(&r, text, 500 + 700 * (size_t)(round % 6), letters[round % 6]);
        int vocab = 256 + 20 + 5 * (round % 7) + (round % 6 == 1 ? 200 : 0);
        slow_train(text, n, vocab);
        struct bpe_options o = options_of(vocab);
        if (slow.n_tokens < vocab) {
            struct bpe_result none;
            const char *p = text;
            cadre_error e = {0};
            assert_int_equal(bpe_train(&none, &p, &n, 1, &o, NULL, &e), CADRE_E_ARG);
            o.vocab = slow.n_tokens;
            exhausted++;
        }
        struct bpe_result result = train(text, &o);
        assert_equals_slow(&result.tables);
        bpe_result_free(&result);
    }
    assert_true(exhausted > 0 && exhausted < 15);
}

static void the_tables_make_a_tokenizer(void **s)
{
    (void)s;
    static const char text[] = "she sells sea shells by the sea shore; the shells she sells are sea shells";
    static const char *const specials[] = {"<|end|>"};
    struct bpe_options o = options_of(256 + 1 + 20);
    o.specials = specials, o.n_specials = 1;
    struct bpe_result r = train(text, &o);
    struct tokenizer *t;
    cadre_error e = {0};
    assert_ok(tokenizer_new(&t, &r.tables, &e), e);
    bpe_result_free(&r); /* the tokenizer has its own copy */
    int32_t *ids;
    size_t n;
    assert_ok(tokenizer_encode(t, text, sizeof text - 1, 0, &ids, &n, &e), e);
    assert_decodes_to(t, ids, n, text, sizeof text - 1);
    assert_true(n < sizeof text / 2);
    free(ids);
    assert_ok(tokenizer_encode(t, "<|end|>", 7, TOKENIZE_SPECIAL, &ids, &n, &e), e);
    assert_int_equal(n, 1);
    assert_int_equal(ids[0], 0);
    free(ids);
    tokenizer_free(t);
}

/* A merge must not make the text of a special token a second time. */
static void special_texts_are_never_merged(void **s)
{
    (void)s;
    static const char *const specials[] = {"ab"};
    struct bpe_options o = options_of(256 + 1 + 2);
    o.specials = specials, o.n_specials = 1;
    struct bpe_result r = train("abc abc abc", &o);
    assert_span(r.tables.merges[0], "b c");
    assert_span(r.tables.merges[1], "a bc");
    bpe_result_free(&r);
}

static void same_tables_for_any_number_of_threads(void **s)
{
    (void)s;
    enum { N = 3 << 18 }; /* several chunks */
    char *text = malloc(N + 1);
    struct rng r;
    rng_seed(&r, 5);
    random_text(&r, text, N, "etaoin shrdlu  etao\n.");
    const char *texts[] = {text, "", "another text, much shorter", text + N / 2};
    size_t lengths[] = {N, 0, strlen(texts[2]), N / 2};
    struct bpe_options o = options_of(600);
    struct bpe_result first = {0};
    cadre_error e = {0};
    assert_ok(bpe_train(&first, texts, lengths, 4, &o, NULL, &e), e);
    for (int threads = 1; threads <= 3; threads++) {
        struct pool *pool;
        struct bpe_result result = {0};
        assert_ok(pool_new(&pool, threads, &e), e);
        assert_ok(bpe_train(&result, texts, lengths, 4, &o, pool, &e), e);
        assert_int_equal(result.tables.n_merges, first.tables.n_merges);
        for (int64_t i = 0; i < first.tables.n_merges; i++) {
            assert_int_equal(result.tables.merges[i].n, first.tables.merges[i].n);
            assert_memory_equal(result.tables.merges[i].p, first.tables.merges[i].p, first.tables.merges[i].n);
        }
        bpe_result_free(&result);
        pool_free(pool);
    }
    bpe_result_free(&first);
    free(text);
}

struct watch {
    int64_t calls, last, stop_at;
};

static bool watch_progress(void *user, int64_t done, int64_t total)
{
    struct watch *w = user;
    assert_true(done >= w->last && done <= total);
    w->last = done;
    return w->calls++ != w->stop_at;
}

static void progress_rises_and_cancels(void **s)
{
    (void)s;
    static const char text[] = "a rose is a rose is a rose, and a nose is no rose";
    const char *p = text;
    size_t n = sizeof text - 1;
    struct watch w = {.stop_at = -1};
    struct bpe_options o = options_of(256 + 10);
    o.progress = watch_progress, o.user = &w;
    struct bpe_result r = train(text, &o);
    bpe_result_free(&r);
    assert_int_equal(w.last, 11); /* one chunk, ten tokens */
    for (int64_t at = 0; at < w.calls; at++) {
        struct watch stop = {.stop_at = at};
        cadre_error e = {0};
        o.user = &stop;
        assert_int_equal(bpe_train(&r, &p, &n, 1, &o, NULL, &e), CADRE_E_CANCELLED);
    }
}

static void bad_requests_are_refused(void **s)
{
    (void)s;
    const char *text = "aaaa";
    size_t n = 4;
    struct bpe_result r = {0};
    static const char *const twice[] = {"<x>", "<x>"}, *const byte[] = {"x"}, *const empty[] = {""};
    struct bpe_options o;
#define REFUSED(change, code, says)                                                                                    \
    do {                                                                                                               \
        cadre_error e = {0};                                                                                           \
        o = options_of(257);                                                                                           \
        change;                                                                                                        \
        assert_int_equal(bpe_train(&r, &text, &n, 1, &o, NULL, &e), code);                                             \
        if (!strstr(e.text, says))                                                                                     \
            fail_msg("expected '%s' in: %s", says, e.text);                                                            \
        assert_null(r.memory);                                                                                         \
    } while (0)
    REFUSED(o.vocab = 255, CADRE_E_ARG, "256 bytes");
    REFUSED(o.vocab = INT64_MAX, CADRE_E_ARG, "asked for");
    REFUSED(o.vocab = 1000, CADRE_E_ARG, "a vocabulary of 258 tokens at most");
    REFUSED(o.pre = "nonsense", CADRE_E_UNSUPPORTED, "nonsense");
    REFUSED((o.specials = twice, o.n_specials = 2, o.vocab = 300), CADRE_E_ARG, "'<x>'");
    REFUSED((o.specials = byte, o.n_specials = 1, o.vocab = 300), CADRE_E_ARG, "'x'");
    REFUSED((o.specials = empty, o.n_specials = 1, o.vocab = 300), CADRE_E_ARG, "empty");
    REFUSED((o.specials = NULL, o.n_specials = 1, o.vocab = 300), CADRE_E_ARG, "special tokens");
#undef REFUSED
    cadre_error e = {0};
    const char *none = NULL;
    o = options_of(257);
    assert_int_equal(bpe_train(&r, NULL, NULL, 1, &o, NULL, &e), CADRE_E_ARG);
    assert_int_equal(bpe_train(&r, &none, &n, 1, &o, NULL, &e), CADRE_E_ARG);
    o.vocab = 256; /* no merge at all is possible from no text */
    assert_ok(bpe_train(&r, NULL, NULL, 0, &o, NULL, &e), e);
    assert_int_equal(r.tables.n_merges, 0);
    bpe_result_free(&r);
}

static void every_allocation_may_fail(void **s)
{
    (void)s;
    const char *text = "one potato, two potatoes, three potatoes, four";
    size_t n = strlen(text);
    struct bpe_options o = options_of(256 + 12);
    int failed = 0;
    for (int at = 0;; at++) {
        struct bpe_result r = {0};
        cadre_error e = {0};
        fail_at = at;
        cadre_err rc = bpe_train(&r, &text, &n, 1, &o, NULL, &e);
        bool over = fail_at >= 0;
        fail_at = -1;
        if (over) {
            assert_int_equal(rc, CADRE_OK);
            bpe_result_free(&r);
            break;
        }
        assert_int_equal(rc, CADRE_E_MEMORY);
        assert_null(r.memory);
        failed++;
    }
    assert_true(failed > 256 + 12); /* each token has its text */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_hand),
        cmocka_unit_test(training_equals_its_definition),
        cmocka_unit_test(the_tables_make_a_tokenizer),
        cmocka_unit_test(special_texts_are_never_merged),
        cmocka_unit_test(same_tables_for_any_number_of_threads),
        cmocka_unit_test(progress_rises_and_cancels),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
