/* Encoding and decoding: against merging done the slow way, on any bytes, with special tokens, from bad tables, and
 * with memory that runs out. */
#include "alloc_fail.h"
#include "vocab.h"

#include <pthread.h>

#include "base/rng.h"
#include "text/bpe.h"
#include "text/pretokenizer.h"

static struct vocab v;

static struct tokenizer *make(const struct tokenizer_tables *tables)
{
    struct tokenizer *t = NULL;
    cadre_error e = {0};
    assert_ok(tokenizer_new(&t, tables, &e), e);
    return t;
}

static void assert_encodes(const struct tokenizer *t, const char *text, size_t n, unsigned flags, const int32_t *want,
                           size_t n_want)
{
    int32_t *ids;
    size_t n_ids;
    cadre_error e = {0};
    assert_ok(tokenizer_encode(t, text, n, flags, &ids, &n_ids, &e), e);
    assert_int_equal(n_ids, n_want);
    if (n_want > 0)
        assert_memory_equal(ids, want, n_want * sizeof *ids);
    free(ids);
}
#define ENCODES(t, text, flags, ...)                                                                                   \
    do {                                                                                                               \
        int32_t want_[] = {__VA_ARGS__};                                                                               \
        assert_encodes(t, text, sizeof(text) - 1, flags, want_, sizeof want_ / sizeof *want_);                         \
    } while (0)

/* ---- the byte alphabet ---- */

static void alphabet_is_a_bijection(void **s)
{
    (void)s;
    char seen[256][2];
    for (int b = 0; b < 256; b++) {
        char letter[2] = {0}, back[2];
        size_t n = byte_to_alphabet((unsigned char)b, letter);
        for (int i = 0; i < b; i++)
            assert_memory_not_equal(seen[i], letter, 2);
        memcpy(seen[b], letter, 2);
        assert_int_equal(alphabet_to_bytes(letter, n, back), 1);
        assert_int_equal((unsigned char)back[0], b);
    }
    /* Known from published vocabularies. */
    assert_memory_equal(seen[' '], "Ġ", 2);
    assert_memory_equal(seen['\n'], "Ċ", 2);
    assert_memory_equal(seen[0xad], "Ń", 2);
    assert_memory_equal(seen[0xff], "ÿ", 2);
    char out[16];
    assert_int_equal(alphabet_to_bytes("a b\xc5\x83\xc5\x84\xc5", 8, out), 7); /* U+0144 is no letter */
    assert_memory_equal(out, "a b\xad\xc5\x84\xc5", 7);
}

/* ---- merging ---- */

/* The definition, without any data structure. */
static size_t merge_slowly(const struct bpe_pair *pairs, int n_pairs, int32_t *ids, size_t n)
{
    for (;;) {
        size_t best = n;
        const struct bpe_pair *by = NULL;
        for (size_t i = 0; i + 1 < n; i++)
            for (int k = 0; k < n_pairs; k++)
                if (pairs[k].left == ids[i] && pairs[k].right == ids[i + 1] && (!by || pairs[k].rank < by->rank))
                    best = i, by = &pairs[k];
        if (!by)
            return n;
        ids[best] = by->id;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
}

static void merging_equals_its_definition(void **s)
{
    (void)s;
    struct rng r;
    rng_seed(&r, 1);
    for (int round = 0; round < 60; round++) {
        /* Merges over 3 letters, each of two tokens that exist by then. */
        struct bpe_pair pairs[40];
        int n_pairs = 0;
        for (int k = 0; k < 40; k++) {
            struct bpe_pair p = {(int32_t)(rng_below(&r, (uint64_t)(3 + k))),
                                 (int32_t)(rng_below(&r, (uint64_t)(3 + k))), k, 3 + k};
            bool known = false;
            for (int i = 0; i < n_pairs; i++)
                known |= pairs[i].left == p.left && pairs[i].right == p.right;
            if (!known)
                pairs[n_pairs++] = p;
        }
        struct bpe_merges m;
        struct bpe_work w = {0};
        cadre_error e = {0};
        assert_ok(bpe_merges_init(&m, n_pairs, &e), e);
        for (int i = 0; i < n_pairs; i++)
            bpe_merges_add(&m, pairs[i]);
        for (size_t n = 1; n < 300; n += 1 + n / 7) { /* short words and long ones */
            int32_t slow[300];
            assert_ok(bpe_work_reserve(&w, n, &e), e);
            for (size_t i = 0; i < n; i++)
                slow[i] = w.ids[i] = (int32_t)(rng_u64(&r) % 3);
            size_t n_slow = merge_slowly(pairs, n_pairs, slow, n);
            assert_int_equal(bpe_merge(&m, &w, n), n_slow);
            assert_memory_equal(w.ids, slow, n_slow * sizeof *slow);
        }
        bpe_work_free(&w);
        bpe_merges_free(&m);
    }
}

static void first_of_equal_merges_counts(void **s)
{
    (void)s;
    vocab_init(&v, "gpt-2");
    vocab_merge(&v, "b c");
    vocab_merge(&v, "a b");
    vocab_merge(&v, "b c");
    struct tokenizer *t = make(&v.tables);
    ENCODES(t, "abc", 0, 'a', 256);
    ENCODES(t, "ab", 0, 257);
    tokenizer_free(t);
}

static void a_megabyte_of_one_letter(void **s)
{
    (void)s;
    vocab_init(&v, "gpt-2");
    vocab_merge(&v, "a a");
    vocab_merge(&v, "aa aa");
    vocab_merge(&v, "aaaa aaaa");
    struct tokenizer *t = make(&v.tables);
    enum { N = 1 << 20 };
    char *text = malloc(N + 3);
    memset(text, 'a', N + 3);
    int32_t *ids;
    size_t n;
    cadre_error e = {0};
    assert_ok(tokenizer_encode(t, text, N + 3, 0, &ids, &n, &e), e);
    assert_int_equal(n, N / 8 + 2);
    for (size_t i = 0; i < N / 8; i++)
        assert_int_equal(ids[i], 258);
    assert_int_equal(ids[N / 8], 256);
    assert_int_equal(ids[N / 8 + 1], 'a');
    free(ids);
    free(text);
    tokenizer_free(t);
}

/* ---- any bytes, every pre-tokenizer ---- */

static void assert_round_trip(const struct tokenizer *t, const char *text, size_t n)
{
    int32_t *ids;
    size_t n_ids;
    cadre_error e = {0};
    assert_ok(tokenizer_encode(t, text, n, TOKENIZE_SPECIAL, &ids, &n_ids, &e), e);
    assert_decodes_to(t, ids, n_ids, text, n);
    free(ids);
}

/* The next row from *k on whose merges are over bytes. */
static const struct pre_row *next_bytes_row(int *k)
{
    while (pre_row_at(*k) && pre_row_at(*k)->flags & PRE_CHARS)
        ++*k;
    return pre_row_at(*k);
}

static void any_bytes_come_back(void **s)
{
    (void)s;
    static const char *const nasty[] = {"a\0b\0\0c",
                                        "\x80\x80\x80",
                                        "\xc0\xaf",
                                        "\xed\xa0\x80",
                                        "\xf4\x90\x80\x80",
                                        "41\xc3",
                                        "\xe2\x82(",
                                        "\r\n\r\n",
                                        "      ",
                                        " \t \n \r\n x",
                                        "\xf0\x9f\x91\xa8\xe2\x80\x8d\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7 !",
                                        "\xc2\xa0\xe3\x80\x80\xe2\x80\xa8",
                                        "don't DON'T 'tis",
                                        "12345678901234567890",
                                        "\xef\xbb\xbf bom"};
    static const size_t lengths[] = {6, 3, 2, 3, 4, 3, 3, 4, 6, 8, 21, 8, 16, 20, 7};
    struct rng r;
    rng_seed(&r, 2);
    int k = 0;
    for (const struct pre_row *row; (row = next_bytes_row(&k)); k++) {
        vocab_init(&v, row->name);
        vocab_merge(&v, "a b");
        vocab_merge(&v, "Ġ a");
        vocab_add(&v, "<x>", TOKEN_CONTROL);
        struct tokenizer *t = make(&v.tables);
        for (size_t i = 0; i < sizeof nasty / sizeof *nasty; i++)
            assert_round_trip(t, nasty[i], lengths[i]);
        for (int i = 0; i < 40; i++) {
            char text[200];
            size_t n = rng_u64(&r) % sizeof text;
            for (size_t j = 0; j < n; j++) /* half of them from a few bytes that mean something */
                text[j] = (char)(rng_u64(&r) % 2 ? rng_u64(&r) : (unsigned char)" a1\n'<x>\xc3\xa9."[rng_u64(&r) % 11]);
            assert_round_trip(t, text, n);
        }
        assert_encodes(t, NULL, 0, 0, NULL, 0);
        assert_encodes(t, "", 0, 0, NULL, 0);
        tokenizer_free(t);
    }
}

struct words {
    char text[512];
};

static cadre_err append_word(void *arg, const char *p, size_t n, cadre_error *err)
{
    (void)err;
    struct words *w = arg;
    size_t at = strlen(w->text);
    snprintf(w->text + at, sizeof w->text - at, "%.*s|", (int)n, p);
    return CADRE_OK;
}

/* What distinguishes the rows, by hand. */
static void words_of_each_kind(void **s)
{
    (void)s;
    static const struct {
        const char *pre, *text, *words;
    } cases[] = {
        {"gpt-2", "I'll go  on 123456!", "I|'ll| go| | on| 123456|!|"},
        {"gpt-2", "x\n\n  y\r\n", "x|\n\n | y|\r\n|"},
        {"starcoder", "ab 123", "ab| |1|2|3|"},
        {"llama-bpe", "I'LL pay 12345\n\n.x", "I|'LL| pay| |123|45|\n\n|.x|"},
        {"qwen2", "a 123!\n\nb", "a| |1|2|3|!\n\n|b|"},
        {"gpt-4o", "camelCaseHTTPServer's/\n", "camel|Case|HTTPServer's|/\n|"},
        {"tekken", "camelCase's12", "camel|Case|'s|1|2|"},
        {"minimax-m2",
         "a\xc3\x89"
         "b 1234",
         "a|\xc3\x89"
         "b| |123|4|"},
        {"deepseek-v3", "a_b 1234\xe4\xbd\xa0\xe5\xa5\xbd x", "a|_b| |123|4|\xe4\xbd\xa0\xe5\xa5\xbd| x|"},
        {"deepseek-llm", "ab\n12", "ab|\n|12|"},
        {"kimi-k2",
         "ab\xe4\xbd\xa0\xe5\xa5\xbd"
         "cd",
         "ab|\xe4\xbd\xa0\xe5\xa5\xbd|cd|"},
        {"bailingmoe2", "a\n\n\nb", "a|\n\n\n|b|"},
        {"seed-coder", "a!\n\nb", "a|!|\n\n|b|"},
        {"falcon", "1234 a+b", "123|4| a|+|b|"},
        {"bloom", "Hi, you.", "Hi|,| you|.|"},
        {"viking", "a12", "a|1|2|"},
        {"qwen35",
         "e\xcc\x81"
         "a 1",
         "e\xcc\x81"
         "a| |1|"},
        {"default", "a+1234", "a|+|123|4|"},
        {"afmoe", "x1234567 123456 12 1,", "x|1|234|567| |123|456| |12| |1|,|"},
        {"tiny_aya", "1234567 1234a 123456", "1|234|567| |123|4|a| |123|456|"},
        {"superbpe", "a1234567b 123456 12", "a|1|234|567|b |123|456| |12|"},
        {"exaone-moe", "two words here, ok\n\n", "two words here|,| ok|\n\n|"},
        {"jais-2", "a        b", "a|    |  | | b|"},
        {"minicpm5", "a 12345", "a| |123|45|"},
        {"laguna", "a\n\nb c", "a|\n\n|b| c|"},
        {"ufakzeka", "Ali'nin", "Ali|'nin|"},
        {"spark2_5", "a!!\n\nb 12", "a|!!|\n|\n|b| |1|2|"},
        {"youtu", "\xe5\x9c\x8b\xe3\x80\x82 ab12", "\xe5\x9c\x8b|\xe3\x80\x82| ab|1|2|"},
        {"chameleon", "<sentinel:3>IMGIMGABZ a1", "<|sentinel|:|3|>|IMGIMGABZ| a|1|"},
        {"gemma4", "a b\n\nc", "a b|\n\n|c|"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pretokenizer *p;
        struct splitter *split;
        struct words w = {""};
        cadre_error e = {0};
        const struct pre_row *row;
        struct split_step steps[PRE_MAX_SPLITS];
        assert_ok(pre_row_get(&row, cases[i].pre, &e), e);
        assert_ok(pretokenizer_new(&p, steps, pre_row_steps(row, steps), &e), e);
        assert_ok(splitter_new(&split, p, &e), e);
        assert_ok(splitter_run(split, cases[i].text, strlen(cases[i].text), true, append_word, &w, &e), e);
        if (strcmp(w.text, cases[i].words) != 0)
            fail_msg("%s: expected %s found %s", cases[i].pre, cases[i].words, w.text);
        splitter_free(split);
        pretokenizer_free(p);
    }
}

/* Longer than the JIT's stack. */
static void long_runs_are_matched(void **s)
{
    (void)s;
    enum { N = 50000 };
    char *text = malloc(N);
    text[N - 1] = '1'; /* the run is not at the end */
    int k = 0;
    for (const struct pre_row *row; (row = next_bytes_row(&k)); k++) {
        vocab_init(&v, row->name);
        struct tokenizer *t = make(&v.tables);
        for (const char *c = " aA1!\n"; *c; c++) {
            memset(text, *c, N - 1);
            assert_round_trip(t, text, N);
        }
        tokenizer_free(t);
    }
    free(text);
}

/* One tokenizer, many threads: what it is made of is never written to. */
struct reader {
    const struct tokenizer *t;
    const char *text;
    size_t n, n_ids;
    int32_t *ids;
};

static void *read_along(void *arg)
{
    struct reader *r = arg;
    for (int i = 0; i < 20; i++) {
        free(r->ids);
        r->ids = NULL;
        if (tokenizer_encode(r->t, r->text, r->n, TOKENIZE_SPECIAL, &r->ids, &r->n_ids, NULL))
            return NULL;
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **s)
{
    (void)s;
    enum { THREADS = 4, N = 20000 };
    vocab_init(&v, "qwen2");
    vocab_merge(&v, "a b");
    vocab_merge(&v, "Ġ ab");
    vocab_add(&v, "<x>", TOKEN_CONTROL);
    struct tokenizer *t = make(&v.tables);
    static char text[N];
    struct rng r;
    rng_seed(&r, 3);
    for (int i = 0; i < N; i++)
        text[i] = " ab1\n'<x>.s"[rng_below(&r, 11)];
    struct reader readers[THREADS] = {{0}};
    pthread_t thread[THREADS];
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){.t = t, .text = text, .n = N};
        assert_int_equal(pthread_create(&thread[i], NULL, read_along, &readers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    for (int i = 0; i < THREADS; i++) {
        assert_non_null(readers[i].ids);
        assert_int_equal(readers[i].n_ids, readers[0].n_ids);
        assert_memory_equal(readers[i].ids, readers[0].ids, readers[0].n_ids * sizeof(int32_t));
    }
    assert_decodes_to(t, readers[0].ids, readers[0].n_ids, text, N);
    for (int i = 0; i < THREADS; i++)
        free(readers[i].ids);
    tokenizer_free(t);
}

/* ---- special tokens ---- */

static void special_tokens_match_first(void **s)
{
    (void)s;
    vocab_init(&v, "gpt-2");
    vocab_add(&v, "<a>", TOKEN_CONTROL);       /* 256 */
    vocab_add(&v, "<a><b>", TOKEN_CONTROL);    /* 257 */
    vocab_add(&v, "  ", TOKEN_USER_DEFINED);   /* 258 */
    vocab_add(&v, "<|im_end|>", TOKEN_NORMAL); /* 259: control by its name */
    v.tables.bos = 256, v.tables.eos = 257;
    v.tables.add_bos = v.tables.add_eos = true;
    struct tokenizer *t = make(&v.tables);
    ENCODES(t, "<a>", 0, '<', 'a', '>');
    ENCODES(t, "<a>", TOKENIZE_SPECIAL, 256);
    ENCODES(t, "<a><b>", TOKENIZE_SPECIAL, 257); /* the longest */
    ENCODES(t, "<a><b", TOKENIZE_SPECIAL, 256, '<', 'b');
    ENCODES(t, "<<a>x", TOKENIZE_SPECIAL, '<', 256, 'x');
    ENCODES(t, "x  y", 0, 'x', 258, 'y'); /* user-defined: always */
    ENCODES(t, "x", TOKENIZE_ADD, 256, 'x', 257);
    ENCODES(t, "<|im_end|>", TOKENIZE_SPECIAL, 259);
    const char *p;
    assert_int_equal(tokenizer_piece(t, 256, false, &p), 0);
    assert_int_equal(tokenizer_piece(t, 256, true, &p), 3);
    assert_memory_equal(p, "<a>", 3);
    assert_int_equal(tokenizer_piece(t, 258, false, &p), 2);
    assert_int_equal(tokenizer_piece(t, -1, true, &p), 0);
    assert_int_equal(tokenizer_piece(t, 260, true, &p), 0);
    assert_true(tokenizer_is_end(t, 257));
    assert_true(tokenizer_is_end(t, 259));
    assert_false(tokenizer_is_end(t, 256));
    assert_false(tokenizer_is_end(t, -1));
    assert_int_equal(tokenizer_size(t), 260);
    assert_int_equal(tokenizer_bos(t), 256);
    assert_int_equal(tokenizer_eos(t), 257);
    tokenizer_free(t);
}

static void words_are_taken_whole_where_the_row_says_so(void **s)
{
    (void)s;
    for (int k = 0; k < 2; k++) {
        vocab_init(&v, k ? "llama-bpe" : "dbrx");
        vocab_merge(&v, "b c");
        vocab_add(&v, "abc", TOKEN_NORMAL); /* 257: no merge leads to it */
        struct tokenizer *t = make(&v.tables);
        if (k)
            ENCODES(t, "abc", 0, 257);
        else
            ENCODES(t, "abc", 0, 'a', 256);
        tokenizer_free(t);
    }
    static const struct {
        const char *model, *pre;
        bool adds;
    } defaults[] = {{"gpt2", "llama-bpe", true}, {"gpt2", "gpt-2", false},  {"llama", "llama-bpe", true},
                    {"t5", "default", false},    {"bert", "default", true}, {"none", "llama-bpe", false}};
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        struct tokenizer_tables t = {.model = defaults[i].model, .pre = defaults[i].pre, .n_tokens = 200};
        tokenizer_set_defaults(&t);
        assert_int_equal(t.add_bos, defaults[i].adds);
    }
}

/* And nothing merges across them. */
static void bytes_without_a_token_give_none(void **s)
{
    (void)s;
    vocab_init(&v, "gpt-2");
    v.tokens[0xff] = (struct text_span){"unused", 6};
    vocab_merge(&v, "h e");
    v.tables.unk = 'u';
    struct tokenizer *t = make(&v.tables);
    ENCODES(t, "a\xff", 0, 'a');
    ENCODES(t,
            "h\xff\xff"
            "ehe",
            0, 'h', 'e', 256);
    assert_encodes(t, "\xff", 1, 0, NULL, 0);
    tokenizer_free(t);
}

/* ---- bad tables, no memory ---- */

static void assert_refused(cadre_err code, const char *says)
{
    struct tokenizer *t = NULL;
    cadre_error e = {0};
    assert_int_equal(tokenizer_new(&t, &v.tables, &e), code);
    assert_null(t);
    if (!strstr(e.text, says))
        fail_msg("expected '%s' in: %s", says, e.text);
}

static void bad_tables_are_refused(void **s)
{
    (void)s;
    cadre_error e = {0};
    struct tokenizer *t;
    assert_int_equal(tokenizer_new(&t, NULL, &e), CADRE_E_FORMAT);
#define WITH(change, code, says)                                                                                       \
    do {                                                                                                               \
        vocab_init(&v, "gpt-2");                                                                                       \
        vocab_merge(&v, "a b");                                                                                        \
        change;                                                                                                        \
        assert_refused(code, says);                                                                                    \
    } while (0)
    WITH(v.tables.model = NULL, CADRE_E_FORMAT, "model");
    WITH(v.tables.model = "rwkv", CADRE_E_UNSUPPORTED, "'rwkv' is not supported; known are: gpt2 llama t5 bert gemma4");
    WITH(v.tables.pre = "nonsense", CADRE_E_UNSUPPORTED, "'nonsense'");
    WITH(v.tables.pre = "nonsense", CADRE_E_UNSUPPORTED, " gpt-2 ");
    WITH(v.tables.pre = "nonsense", CADRE_E_UNSUPPORTED, " viking");
    WITH(v.tables.n_tokens = 0, CADRE_E_FORMAT, "0 tokens");
    WITH(v.tables.n_tokens = -5, CADRE_E_FORMAT, "-5 tokens");
    WITH(v.tables.n_tokens = INT64_MAX, CADRE_E_FORMAT, "tokens");
    WITH(v.tables.tokens = NULL, CADRE_E_FORMAT, "tokens");
    WITH(v.tokens[7].p = NULL, CADRE_E_FORMAT, "token 7");
    WITH(v.tokens[7].n = UINT64_MAX, CADRE_E_FORMAT, "too long");
    WITH(v.tables.merges = NULL, CADRE_E_FORMAT, "1 merges");
    WITH(v.tables.n_merges = -1, CADRE_E_FORMAT, "-1 merges");
    WITH(v.kinds[9] = 0, CADRE_E_FORMAT, "token 9 is of kind 0");
    WITH(v.kinds[9] = 7, CADRE_E_FORMAT, "token 9 is of kind 7");
    WITH(v.tables.bos = 257, CADRE_E_FORMAT, "BOS token has id 257; expected -1 (none) to 256");
    WITH(v.tables.eot = -2, CADRE_E_FORMAT, "EOT token has id -2");
    WITH(v.tables.add_bos = true, CADRE_E_FORMAT, "no BOS");
    WITH(v.tables.add_eos = true, CADRE_E_FORMAT, "no EOS");
    WITH(vocab_add(&v, "b", TOKEN_NORMAL), CADRE_E_FORMAT, "token 257 ('b') is in the vocabulary twice");
    WITH(v.merges[0] = ((struct text_span){"ab", 2}), CADRE_E_FORMAT, "merge 0 is 'ab'");
    WITH(v.merges[0] = ((struct text_span){"a ", 2}), CADRE_E_FORMAT, "merge 0 is 'a '");
    WITH(v.merges[0] = ((struct text_span){" b", 2}), CADRE_E_FORMAT, "merge 0 is ' b'");
    WITH(v.merges[0] = ((struct text_span){NULL, 0}), CADRE_E_FORMAT, "merge 0");
    WITH(v.merges[0] = ((struct text_span){"xy b", 4}), CADRE_E_FORMAT, "its left part is no token");
    WITH(v.merges[0] = ((struct text_span){"a xy", 4}), CADRE_E_FORMAT, "its right part is no token");
    WITH(v.merges[0] = ((struct text_span){"b a", 3}), CADRE_E_FORMAT, "its result is no token");
#undef WITH
}

static void every_allocation_may_fail(void **s)
{
    (void)s;
    vocab_init(&v, "llama-bpe");
    vocab_merge(&v, "a b");
    vocab_add(&v, "<a>", TOKEN_CONTROL);
    int failed = 0;
    for (int at = 0;; at++) {
        struct tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t n;
        cadre_error e = {0};
        fail_at = at;
        cadre_err rc = tokenizer_new(&t, &v.tables, &e);
        if (!rc)
            rc = tokenizer_encode(t, "ab <a> abababab", 15, TOKENIZE_SPECIAL, &ids, &n, &e);
        bool over = fail_at >= 0;
        fail_at = -1;
        free(ids);
        tokenizer_free(t);
        if (over) {
            assert_int_equal(rc, CADRE_OK);
            break;
        }
        assert_int_equal(rc, CADRE_E_MEMORY);
        assert_true(strlen(e.text) > 0);
        failed++;
    }
    assert_true(failed >= 15);
}

/* ---- the stream ---- */

static bool is_utf8(const char *p, size_t n)
{
    /* Decoded by value, unlike the code under test. */
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)p[i];
        int more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : -1;
        if (more < 0 || i + (size_t)more >= n)
            return false;
        uint32_t value = more ? c & (0x3fu >> more) : c;
        for (int k = 1; k <= more; k++) {
            if (((unsigned char)p[i + (size_t)k] & 0xc0) != 0x80)
                return false;
            value = value << 6 | ((unsigned char)p[i + (size_t)k] & 0x3f);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
            return false;
        i += (size_t)more + 1;
    }
    return true;
}

static void stream_cuts_between_characters(void **s)
{
    (void)s;
    static const char valid[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\xed\x9f\xbf\xf4\x8f\xbf\xbf";
    struct rng r;
    rng_seed(&r, 3);
    assert_true(is_utf8(valid, sizeof valid - 1));
    for (int round = 0; round < 3000; round++) {
        char in[64], out[64 + 4];
        size_t n = sizeof valid - 1, used = 0;
        memcpy(in, valid, n);
        bool broken = round % 2;
        if (broken)
            for (int k = 0; k < 4; k++)
                in[rng_u64(&r) % n] = (char)rng_u64(&r);
        struct utf8_stream stream = {0};
        for (size_t at = 0; at < n;) {
            size_t k = 1 + rng_u64(&r) % 5;
            k = k < n - at ? k : n - at;
            size_t got = utf8_stream_push(&stream, in + at, k, out + used);
            if (!broken)
                assert_true(is_utf8(out + used, got));
            assert_true(at + k - used - got <= 3); /* never more than a character held back */
            used += got;
            at += k;
        }
        size_t rest = utf8_stream_flush(&stream, out + used);
        if (!broken)
            assert_int_equal(rest, 0);
        assert_int_equal(used + rest, n);
        assert_memory_equal(in, out, n);
        assert_int_equal(utf8_stream_flush(&stream, out), 0);
    }
    struct utf8_stream stream = {0};
    char out[8];
    assert_int_equal(utf8_stream_push(&stream, "\xe2\x82", 2, out), 0);
    assert_int_equal(utf8_stream_push(&stream, "(", 1, out), 3); /* cannot become a character any more */
    assert_memory_equal(out, "\xe2\x82(", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(alphabet_is_a_bijection),
        cmocka_unit_test(merging_equals_its_definition),
        cmocka_unit_test(first_of_equal_merges_counts),
        cmocka_unit_test(a_megabyte_of_one_letter),
        cmocka_unit_test(any_bytes_come_back),
        cmocka_unit_test(words_of_each_kind),
        cmocka_unit_test(long_runs_are_matched),
        cmocka_unit_test(threads_share_a_tokenizer),
        cmocka_unit_test(special_tokens_match_first),
        cmocka_unit_test(words_are_taken_whole_where_the_row_says_so),
        cmocka_unit_test(bytes_without_a_token_give_none),
        cmocka_unit_test(bad_tables_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(stream_cuts_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
