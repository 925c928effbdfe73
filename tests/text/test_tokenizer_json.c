/* tokenizer.json: what each part does, by hand; what is refused; names for GGUF and the way back; memory that runs out.
 * Whole vocabularies are compared with another implementation in tests/tokenizers. */
#include "alloc_fail.h"
#include "json_samples.h"
#include "vocab.h"

#include <jansson.h>

#include "text/pre_guess.h"
#include "text/regex.h"
#include "text/tokenizer_json.h"

static struct text_span span(const char *s)
{
    return (struct text_span){s, s ? strlen(s) : 0};
}

static struct tokenizer_json *read_json(const char *json, const char *config)
{
    struct tokenizer_json *j = NULL;
    cadre_error e = {0};
    assert_ok(tokenizer_json_read(&j, span(json), span(config), 0, &e), e);
    return j;
}

static struct tokenizer *open_json(const char *json, const char *config)
{
    struct tokenizer_json *j = read_json(json, config);
    struct tokenizer *t = NULL;
    cadre_error e = {0};
    assert_ok(tokenizer_new(&t, tokenizer_json_tables(j), &e), e);
    tokenizer_json_free(j);
    return t;
}

/* The pieces of an encoded text with bars between. */
static void assert_pieces(const struct tokenizer *t, const char *text, unsigned flags, const char *want)
{
    int32_t *ids;
    size_t n;
    cadre_error e = {0};
    char got[512] = "";
    assert_ok(tokenizer_encode(t, text, strlen(text), flags, &ids, &n, &e), e);
    for (size_t i = 0; i < n; i++) {
        const char *p;
        size_t k = tokenizer_piece(t, ids[i], true, &p), at = strlen(got);
        snprintf(got + at, sizeof got - at, "%.*s|", (int)k, p);
    }
    if (strcmp(got, want) != 0)
        fail_msg("'%s': expected %s found %s", text, want, got);
    free(ids);
}

static void assert_decodes(const struct tokenizer *t, const int32_t *ids, size_t n, const char *want)
{
    char *text;
    size_t n_text;
    cadre_error e = {0};
    assert_ok(tokenizer_decode(t, ids, n, false, &text, &n_text, &e), e);
    assert_string_equal(text, want);
    assert_int_equal(n_text, strlen(want));
    free(text);
}

/* ---- models ---- */

static void characters_with_byte_fallback(void **s)
{
    (void)s;
    struct tokenizer *t = open_json(SPM, NULL);
    assert_pieces(t, "ab a", TOKENIZE_SPECIAL, " ab| a|");
    assert_pieces(t, "ab", TOKENIZE_SPECIAL | TOKENIZE_ADD, "<s>| ab|");
    assert_pieces(t, "a<s>b", TOKENIZE_SPECIAL, " a|<s>| |b|"); /* each stretch begins with a blank */
    assert_pieces(t, "é", 0, " |\xc3|\xa9|");
    assert_pieces(t, "axyb", 0, " a|<unk>|b|"); /* two unknown characters are one token */
    assert_pieces(t, "  a", 0, " | | a|");
    assert_decodes(t, (int32_t[]){1, 9, 8}, 3, "ab a");
    assert_decodes(t, (int32_t[]){4, 2, 3}, 3, "é");
    assert_decodes(t, NULL, 0, "");
    char *text;
    size_t n;
    cadre_error e = {0};
    assert_int_equal(tokenizer_decode(t, (int32_t[]){1, 10}, 2, true, &text, &n, &e), CADRE_E_ARG);
    assert_non_null(strstr(e.text, "token 1: expected an id from 0 to 9, found 10"));
    tokenizer_free(t);
}

static void added_tokens_take_what_they_say(void **s)
{
    (void)s;
    struct tokenizer *t = open_json(ADDED, NULL);
    assert_pieces(t, "a <l> b", TOKENIZE_SPECIAL, "a|<l>| |b|");
    assert_pieces(t, "a <r> \n b", TOKENIZE_SPECIAL, "a| |<r>|b|");
    assert_pieces(t, "word aword worda w", TOKENIZE_SPECIAL, "word| |a|w| |w|a| |w|");
    assert_pieces(t, "aBa", 0, "AB|a|"); /* looked for in what is normalized, normalized itself; not special: always */
    assert_pieces(t, "<l>", 0, "");      /* characters without a token, and no unknown token: nothing */
    tokenizer_free(t);
}

static void unigram_finds_the_best_sum(void **s)
{
    (void)s;
    struct tokenizer *t = open_json(UNIGRAM, NULL);
    assert_pieces(t, "ab", 0, " |ab|");      /* -4.4 against -4.5 and -5.0 */
    assert_pieces(t, "abab", 0, " |ab|ab|"); /* -6.8; the whole word is a token, but -20 */
    assert_pieces(t, "ba", 0, " |b|a|");     /* -2.5 against -5 */
    assert_pieces(t, "axyb a", 0, " |a|<unk>|b| |a|");
    assert_decodes(t, (int32_t[]){5, 4, 1, 3}, 4, "aab b");
    tokenizer_free(t);
}

static void word_pieces_are_the_longest(void **s)
{
    (void)s;
    struct tokenizer *t = open_json(WORDPIECE, NULL);
    assert_pieces(t, "Unaffable.", TOKENIZE_ADD, "[CLS]|[UNK]| .|[SEP]|"); /* longer than 8 characters */
    assert_pieces(t, "UNaff able", 0, " un|aff|[UNK]|");
    assert_pieces(t, "CAF\xc3\x89\x01 a中a", 0, " cafe| a| 中| a|");
    assert_decodes(t, (int32_t[]){1, 3, 4, 5, 8, 2}, 6, "unaffable .");
    tokenizer_free(t);
}

/* ---- steps ---- */

static void assert_splits(const char *pre, const char *text, const char *want)
{
    char json[2048];
    snprintf(json, sizeof json,
             "{\"pre_tokenizer\": %s, \"model\": {\"type\": \"BPE\", \"ignore_merges\": true, \"unk_token\": \"?\", "
             "\"fuse_unk\": true, \"vocab\": {\"?\": 0}, \"merges\": []}}",
             pre);
    /* Every piece is one unknown token: what is counted are pieces. */
    struct tokenizer *t = open_json(json, NULL);
    assert_pieces(t, text, 0, want);
    tokenizer_free(t);
}

static void behaviours_join_what_they_say(void **s)
{
    (void)s;
    static const struct {
        const char *how, *want;
    } cases[] = {{"Isolated", "?|?|?|?|?|?|?|"}, /* the - final - - count down! */
                 {"Removed", "?|?|?|"},
                 {"MergedWithPrevious", "?|?|?|?|"},
                 {"MergedWithNext", "?|?|?|?|?|"},
                 {"Contiguous", "?|?|?|?|?|?|"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char pre[256];
        snprintf(pre, sizeof pre, "{\"type\": \"Split\", \"pattern\": {\"String\": \"-\"}, \"behavior\": \"%s\"}",
                 cases[i].how);
        assert_splits(pre, "the-final--count-", cases[i].want);
    }
    assert_splits(
        "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[a-c]+\"}, \"behavior\": \"Removed\", \"invert\": true}",
        "xabcyab", "?|?|");
    assert_splits("{\"type\": \"Digits\", \"individual_digits\": true}", "a12b", "?|?|?|?|");
    assert_splits("{\"type\": \"Digits\", \"individual_digits\": false}", "a12b", "?|?|?|");
    assert_splits("{\"type\": \"Whitespace\"}", "Hey man!  ok", "?|?|?|?|");
    assert_splits("{\"type\": \"WhitespaceSplit\"}", "Hey man!  ok", "?|?|?|");
    assert_splits("{\"type\": \"Punctuation\"}", "a,b!?", "?|?|?|?|?|");
    assert_splits("{\"type\": \"Split\", \"pattern\": {\"Regex\": \"(?=b)\"}, \"behavior\": \"Isolated\"}", "abab",
                  "?|?|?|");
}

static void expressions_are_translated(void **s)
{
    (void)s;
    static const struct {
        const char *from, *to;
    } cases[] = {
        {"(?i:'s|'RE)x", "(?:'[sS]|'[rR][eE])x"},
        {"[^\\s\\p{L}]+", "[^\\p{Z}\\t-\\r\\x{85}\\p{L}]+"},
        {"\\s+(?!\\S)", "[\\p{Z}\\t-\\r\\x{85}]+(?![^\\p{Z}\\t-\\r\\x{85}])"},
        {"\\u4e00\\d", "\\x{4e00}[\\p{Nd}]"},
        {"'(?i:[sd-f]|ll)", "'(?:[sSd-fD-F]|[lL][lL])"},
        {"[\\p{Lu}&&[^\\p{Han}]]x", "(?:(?![\\p{Han}])[\\p{Lu}])x"},
        {"[[:alpha:]\\[]", "[[:alpha:]\\[]"},
        {"(a(?i)b)c", "(a[bB])c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *to;
        cadre_error e = {0};
        assert_ok(regex_translate(&to, cases[i].from, strlen(cases[i].from), &e), e);
        assert_string_equal(to, cases[i].to);
        free(to);
    }
    static const char *const bad[] = {"a\\", "[a", "[a[b]]", "(?m:a)", "\\u12", "[\\S]", "[^a&&[b]]"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *to;
        cadre_error e = {0};
        assert_int_not_equal(regex_translate(&to, bad[i], strlen(bad[i]), &e), CADRE_OK);
        assert_non_null(strstr(e.text, bad[i]));
    }
}

/* A search whose steps grow with two to the power of the text ends with an error, soon. */
static void a_bomb_is_defused(void **s)
{
    (void)s;
    struct regex *r;
    struct regex_match *m;
    cadre_error e = {0};
    static const char bomb[] = "(?:a|a)*(?:a|a)*b|(a+)+$x",
                      text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!";
    assert_ok(regex_new_foreign(&r, bomb, sizeof bomb - 1, &e), e);
    assert_ok(regex_match_new(&m, &e), e);
    bool found;
    size_t start, end;
    assert_int_equal(regex_next(r, m, text, sizeof text - 1, 0, &found, &start, &end, &e), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(e.text, "too many steps"));
    regex_match_free(m);
    regex_free(r);
}

/* ---- names ---- */

static void every_row_is_found_by_what_it_does(void **s)
{
    (void)s;
    const struct pre_row *row, *found;
    cadre_error e = {0};
    for (int i = 1; (row = pre_row_at(i)); i++) {
        struct split_step steps[PRE_MAX_SPLITS], back[PRE_MAX_SPLITS];
        if (row->flags & PRE_CHARS)
            continue;
        int n = pre_row_steps(row, steps);
        assert_ok(pre_guess(&found, steps, n, row->flags & PRE_IGNORE_MERGES, &e), e);
        assert_non_null(found);
        assert_int_equal(found->flags & PRE_IGNORE_MERGES, row->flags & PRE_IGNORE_MERGES);
        assert_int_equal(pre_row_steps(found, back), n);
        /* Written otherwise, these two do the same: a possessive "?" whose character no letter can be, and a single
         * line end after greedy white space. */
        if (strcmp(found->name, "qwen2") == 0 && strcmp(steps[0].pattern.p, pre_row_find("bailingmoe")->split[0]) == 0)
            continue;
        for (int k = 0; k < n; k++)
            if (strcmp(steps[k].pattern.p, back[k].pattern.p) != 0)
                fail_msg("%s is taken for %s", row->name, found->name);
    }
    /* As Qwen's file writes it, and as none does. */
    static const char qwen[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    static const char other[] =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,2}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
        "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    struct split_step step = {.pattern = span(qwen), .regex = true};
    assert_ok(pre_guess(&found, &step, 1, false, &e), e);
    assert_string_equal(found->name, "qwen2");
    step.pattern = span(other);
    assert_ok(pre_guess(&found, &step, 1, false, &e), e);
    assert_null(found);
}

/* tables → tokenizer.json → tables: the same vocabulary. */
static void byte_level_goes_there_and_back(void **s)
{
    (void)s;
    static struct vocab v;
    vocab_init(&v, "qwen2");
    vocab_merge(&v, "a b");
    vocab_merge(&v, "Ġ ab");
    vocab_add(&v, "<|im_end|>", TOKEN_CONTROL);
    vocab_add(&v, "  ", TOKEN_USER_DEFINED);
    v.tables.eos = 258;
    char *json;
    size_t n;
    cadre_error e = {0};
    assert_ok(tokenizer_json_write(&json, &n, &v.tables, &e), e);
    struct tokenizer_json *j = read_json(json, "{\"eos_token\": {\"content\": \"<|im_end|>\"}, \"bos_token\": null}");
    const struct tokenizer_tables *back;
    const char *lossy = "";
    assert_ok(tokenizer_json_named(j, &back, &lossy, &e), e);
    assert_null(lossy);
    assert_string_equal(back->model, "gpt2");
    assert_string_equal(back->pre, "qwen2");
    assert_int_equal(back->n_tokens, v.tables.n_tokens);
    assert_int_equal(back->n_merges, v.tables.n_merges);
    for (int64_t i = 0; i < back->n_tokens; i++) {
        assert_int_equal(back->tokens[i].n, v.tokens[i].n);
        assert_memory_equal(back->tokens[i].p, v.tokens[i].p, v.tokens[i].n);
        assert_int_equal(back->kinds[i], v.kinds[i]);
    }
    for (int64_t i = 0; i < back->n_merges; i++)
        assert_memory_equal(back->merges[i].p, v.merges[i].p, v.merges[i].n);
    assert_int_equal(back->eos, 258);
    assert_int_equal(back->bos, -1);
    tokenizer_json_free(j);
    free(json);
}

static void sentencepiece_goes_there_and_back(void **s)
{
    (void)s;
    struct tokenizer_json *j = read_json(SPM, NULL), *j2;
    const struct tokenizer_tables *named;
    struct tokenizer *by_list = open_json(SPM, NULL), *by_score = NULL, *again = NULL;
    cadre_error e = {0};
    assert_ok(tokenizer_json_named(j, &named, NULL, &e), e);
    assert_string_equal(named->model, "llama");
    assert_true(named->add_space_prefix && named->add_bos);
    assert_int_equal(named->bos, 1);
    assert_ok(tokenizer_new(&by_score, named, &e), e);
    char *json;
    size_t n;
    assert_ok(tokenizer_json_write(&json, &n, named, &e), e);
    j2 = read_json(json, NULL);
    assert_ok(tokenizer_new(&again, tokenizer_json_tables(j2), &e), e);
    static const char *const texts[] = {"ab a", "aab ba", "é", "a<s>b", "  a b", "abababa ab"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int32_t *want;
        size_t n_want;
        assert_ok(
            tokenizer_encode(by_list, texts[i], strlen(texts[i]), TOKENIZE_SPECIAL | TOKENIZE_ADD, &want, &n_want, &e),
            e);
        struct tokenizer *others[] = {by_score, again};
        for (int k = 0; k < 2; k++) {
            int32_t *ids;
            size_t n_ids;
            assert_ok(tokenizer_encode(others[k], texts[i], strlen(texts[i]), TOKENIZE_SPECIAL | TOKENIZE_ADD, &ids,
                                       &n_ids, &e),
                      e);
            assert_int_equal(n_ids, n_want);
            assert_memory_equal(ids, want, n_want * sizeof *ids);
            free(ids);
        }
        free(want);
    }
    tokenizer_free(by_list), tokenizer_free(by_score), tokenizer_free(again);
    tokenizer_json_free(j), tokenizer_json_free(j2);
    free(json);
}

/* ---- what is refused ---- */

static void bad_files_are_refused(void **s)
{
    (void)s;
#define MODEL(rest) "\"model\": {\"type\": \"BPE\", \"merges\": [], " rest "}}"
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"", "tokenizer.json: line"},
        {"[1]", "expected an object"},
        {"{\"a\": 1, \"a\": 2}", "duplicate"},
        {"{}", "'model': expected an object"},
        {"{\"model\": {\"type\": \"WordLevel\"}}", "model 'WordLevel' is not supported"},
        {"{" MODEL("\"vocab\": [1]"), "expected an object of ids"},
        {"{" MODEL("\"vocab\": {}"), "0 tokens"},
        {"{" MODEL("\"vocab\": {\"a\": 900000000}"), "ids up to 900000000"},
        {"{" MODEL("\"vocab\": {\"a\": -1}"), "token 'a' has id -1"},
        {"{" MODEL("\"vocab\": {\"a\": \"x\"}"), "token 'a' has no id"},
        {"{" MODEL("\"vocab\": {\"a\": 1, \"b\": 1}"), "have the same id 1"},
        {"{\"added_tokens\": [{\"id\": 0, \"content\": \"b\"}], " MODEL("\"vocab\": {\"a\": 0}"),
         "which is that of 'a'"},
        {"{\"added_tokens\": [{\"content\": \"b\"}], " MODEL("\"vocab\": {\"a\": 0}"), "'b' has id -1"},
        {"{\"added_tokens\": 7, " MODEL("\"vocab\": {\"a\": 0}"), "'added_tokens': expected a list"},
        {"{" MODEL("\"vocab\": {\"a\": 0}, \"unk_token\": \"b\""), "'unk_token': 'b' is no token"},
        {"{" MODEL("\"vocab\": {\"a\": 0}, \"end_of_word_suffix\": \"</w>\""), "'end_of_word_suffix' is not supported"},
        {"{\"normalizer\": {\"type\": \"Nmt\"}, " MODEL("\"vocab\": {\"a\": 0}"), "normalizer 'Nmt' is not supported"},
        {"{\"normalizer\": {\"type\": \"Precompiled\", \"precompiled_charsmap\": \"?\"}, " MODEL(
             "\"vocab\": {\"a\": 0}"),
         "not base64"},
        {"{\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": \"a\"}, \"behavior\": \"Odd\"}, " MODEL(
             "\"vocab\": {\"a\": 0}"),
         "'Odd' is not known"},
        {"{\"decoder\": {\"type\": \"CTC\"}, " MODEL("\"vocab\": {\"a\": 0}"), "decoder 'CTC' is not supported"},
        {"{\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": []}, " MODEL("\"vocab\": {\"a\": 0}"),
         "expected a Sequence"},
        {"{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": [[\"a\"]]}}", "'merges': entry 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tokenizer_json *j = NULL;
        cadre_error e = {0};
        if (tokenizer_json_read(&j, span(cases[i].json), span(NULL), 0, &e) == CADRE_OK)
            fail_msg("not refused: %s", cases[i].json);
        if (!strstr(e.text, cases[i].says))
            fail_msg("expected '%s' in: %s", cases[i].says, e.text);
    }
    struct tokenizer_json *j = NULL;
    cadre_error e = {0};
    assert_int_equal(tokenizer_json_read(&j, span(SPM), span(NULL), 5, &e), CADRE_E_FORMAT);
    assert_non_null(strstr(e.text, "5 rows"));
    assert_ok(
        tokenizer_json_read(&j, span(SPM), span("{\"model_max_length\": 1000000000000000019884624838656}"), 12, &e), e);
    assert_int_equal(tokenizer_json_tables(j)->n_tokens, 12); /* rows without a token */
    assert_int_equal(tokenizer_json_tables(j)->kinds[11], TOKEN_UNUSED);
    tokenizer_json_free(j);
}

/* Lists in lists: refused, not a stack that overflows. */
static void deep_nesting_is_refused(void **s)
{
    (void)s;
    enum { DEEP = 100000 };
    char *json = malloc(2 * DEEP + 16);
    strcpy(json, "{\"normalizer\":");
    memset(json + 14, '[', DEEP);
    json[14 + DEEP] = 0;
    struct tokenizer_json *j;
    cadre_error e = {0};
    assert_int_equal(tokenizer_json_read(&j, (struct text_span){json, 14 + DEEP}, span(NULL), 0, &e), CADRE_E_FORMAT);
    assert_non_null(strstr(e.text, "depth"));
    free(json);
}

static void every_allocation_may_fail(void **s)
{
    (void)s;
    bool done = false;
    for (int i = 0; !done; i++) {
        struct tokenizer_json *j = NULL;
        struct tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t n;
        cadre_error e = {0};
        fail_at = i;
        cadre_err rc = tokenizer_json_read(&j, span(SPM), span(NULL), 0, &e);
        rc = rc ? rc : tokenizer_new(&t, tokenizer_json_tables(j), &e);
        rc = rc ? rc : tokenizer_encode(t, "ab é <s> a", 10, TOKENIZE_SPECIAL, &ids, &n, &e);
        done = fail_at >= 0;
        fail_at = -1;
        assert_int_equal(rc, done ? CADRE_OK : CADRE_E_MEMORY);
        free(ids);
        tokenizer_free(t);
        tokenizer_json_free(j);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_with_byte_fallback),
        cmocka_unit_test(added_tokens_take_what_they_say),
        cmocka_unit_test(unigram_finds_the_best_sum),
        cmocka_unit_test(word_pieces_are_the_longest),
        cmocka_unit_test(behaviours_join_what_they_say),
        cmocka_unit_test(expressions_are_translated),
        cmocka_unit_test(a_bomb_is_defused),
        cmocka_unit_test(every_row_is_found_by_what_it_does),
        cmocka_unit_test(byte_level_goes_there_and_back),
        cmocka_unit_test(sentencepiece_goes_there_and_back),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
