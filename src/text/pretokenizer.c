/* The table of pre-tokenizers and the loop that applies them.
 *
 * Each expression cuts every piece that the one before it left, seeing nothing outside of that piece: its matches and
 * what lies between them are the new pieces. The expressions are the published ones of each vocabulary, written with
 * S, Unicode's White_Space, instead of \s, whose meaning differs between engines, and with both letter cases instead
 * of caseless matching, which would let U+017F (long s) stand for s. */
#include "text/pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/utf8.h"

/* Inside of brackets: */
#define S "\\p{Z}\\t-\\r\\x{85}"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define ASCII_PUNCTUATION "!-/:-@\\[-`{-~"
#define CJK "\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}"
/* Letters with case, as DeepSeek's first vocabularies list them (older than today's \p{L&}). */
#define CASED_LETTERS                                                                                                  \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}\\x{1C4}-\\x{293}"                    \
    "\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}"             \
    "\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}"                    \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                  \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}"                  \
    "\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}"          \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}"         \
    "\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                   \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}" \
    "\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}"                    \
    "\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}"                   \
    "\\x{A722}-\\x{A76F}\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                  \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}\\x{104B0}-\\x{104D3}"              \
    "\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}"                             \
    "\\x{1E900}-\\x{1E943}"

/* Alternatives: */
#define ENDINGS "'(?:[sStTmMdD]|[rR][eE]|[vV][eE]|[lL][lL])" /* 's 't 'm 'd 're 've 'll */
#define BLANKS "[" S "]+(?![^" S "])|[" S "]+"               /* the last blank stays with what follows */
/* Tried at the beginning of a run of blanks only: from every blank on, the interpreter's time would grow with the
 * square of the run. */
#define BLANKS_AT_END "(?<![" S "])[" S "]++\\z"
#define LINES "[" S "]*[\\r\\n]+|" BLANKS

/* Whole expressions. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+|" BLANKS
#define GPT4(digits) /* cl100k, with `digits` for a number */                                                          \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|" LINES
#define CASED_WORDS(ending) /* o200k: a word also ends where lower case is followed by upper case */                   \
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" ending "|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" ending
#define GPT4O(ending, digits) CASED_WORDS(ending) "|" digits "| ?[^" S "\\p{L}\\p{N}]+[\\r\\n/]*|" LINES
#define ENDING_IF_ANY "(?:" ENDINGS ")?"
#define WORDS_WITH_MARKS                                                                                               \
    "[" ASCII_PUNCTUATION "][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES
#define QWEN35 ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" S "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES
#define BAILING                                                                                                        \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" S "\\p{L}\\p{N}]++[\\r\\n]*|[" S "]*[\\r\\n]|" BLANKS
#define SEED ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" S "\\p{L}\\p{N}\\r\\n]+|" LINES
#define BLOOM " ?[^(" S "|.,!?\\x{2026}\\x{3002}\\x{FF0C}\\x{3001}\\x{964}\\x{6D4}\\x{60C})]+"
#define HAN "\\p{Han}+"
/* Letters of o200k, but no Han characters. */
#define KIMI_UPPER "(?:(?!\\p{Han})[" UPPER "])"
#define KIMI_LOWER "(?:(?!\\p{Han})[" LOWER "])"
#define KIMI                                                                                                           \
    HAN "|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER "*" KIMI_LOWER "+" ENDING_IF_ANY "|[^\\r\\n\\p{L}\\p{N}]?" KIMI_UPPER     \
        "+" KIMI_LOWER "*" ENDING_IF_ANY "|\\p{N}{1,3}| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|" LINES

#define DIGIT "\\p{N}"
#define DIGITS3 "\\p{N}{1,3}"
#define SYMBOLS(more) "[\\p{P}$+<=>^~|" more "]+"

enum { IGNORE_MERGES = 1, ADD_BOS = 2, MAX_SPLITS = 6 };

struct row {
    const char *name;
    unsigned flags;
    const char *split[MAX_SPLITS];
};

static const struct row rows[] = {
    {"default", 0, {SYMBOLS(""), GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"gpt-2", 0, {GPT2}},
    {"phi-2", 0, {GPT2}},
    {"jina-es", 0, {GPT2}},
    {"jina-de", 0, {GPT2}},
    {"jina-v2-es", 0, {GPT2}},
    {"jina-v2-de", 0, {GPT2}},
    {"gigachat", 0, {GPT2}},
    {"a.x-4.0", 0, {GPT2}},
    {"mellum", 0, {GPT2}},
    {"modern-bert", 0, {GPT2}},
    {"exaone4", 0, {GPT2}},
    {"mpt", 0, {GPT2}},
    {"olmo", 0, {GPT2}},
    {"jais", 0, {GPT2}},
    {"trillion", 0, {GPT2}},
    {"granite-docling", 0, {GPT2}},
    {"llama-bpe", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"llama3", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"llama-v3", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"falcon3", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"falcon-h1", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"pixtral", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"midm-2.0", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"lfm2", IGNORE_MERGES | ADD_BOS, {GPT4(DIGITS3)}},
    {"dbrx", 0, {GPT4(DIGITS3)}},
    {"smaug-bpe", 0, {GPT4(DIGITS3)}},
    {"glm4", 0, {GPT4(DIGITS3)}},
    {"chatglm-bpe", 0, {GPT4(DIGITS3)}},
    {"qwen2", 0, {GPT4(DIGIT)}},
    {"deepseek-r1-qwen", 0, {GPT4(DIGIT)}},
    {"megrez", 0, {GPT4(DIGIT)}},
    {"stablelm2", 0, {GPT4(DIGIT)}},
    {"hunyuan", 0, {GPT4(DIGIT)}},
    {"grok-2", 0, {GPT4(DIGIT)}},
    {"qwen35", 0, {QWEN35}},
    {"bailingmoe", 0, {BAILING}},
    {"bailingmoe2", 0, {BAILING}},
    {"llada-moe", 0, {BAILING}},
    {"seed-coder", 0, {SEED}},
    {"gpt-4o", 0, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"llama4", 0, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"kanana2", 0, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"minimax-m2", 0, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"tekken", IGNORE_MERGES | ADD_BOS, {GPT4O("", DIGIT)}},
    {"kimi-k2", 0, {KIMI}},
    {"deepseek-llm",
     0,
     {"[\\r\\n]", "[" S "]?[" CASED_LETTERS "]+",
      "[" S "]?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", BLANKS_AT_END,
      "[" CJK "]+", "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\\r\\n]", "[" S "]?\\p{L}+", "[" S "]?\\p{P}+", "[" CJK "]+", DIGIT}},
    {"deepseek-v3", 0, {DIGITS3, "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+", WORDS_WITH_MARKS}},
    {"hunyuan-dense", 0, {DIGITS3, "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+", WORDS_WITH_MARKS}},
    {"falcon", 0, {SYMBOLS("`"), GPT2, "[0-9][0-9][0-9]"}},
    {"starcoder", 0, {DIGIT, GPT2}},
    {"refact", 0, {DIGIT, GPT2}},
    {"command-r", 0, {DIGIT, GPT2}},
    {"smollm", 0, {DIGIT, GPT2}},
    {"codeshell", 0, {DIGIT, GPT2}},
    {"exaone", 0, {DIGIT, GPT2}},
    {"minerva-7b", 0, {DIGIT, GPT2}},
    {"poro-chat", 0, {BLOOM}},
    {"bloom", 0, {BLOOM}},
    {"gpt3-finnish", 0, {BLOOM}},
    {"viking", 0, {BLOOM, DIGIT}},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

struct pretokenizer {
    const struct row *row;
    int n_splits;
    pcre2_code *code[MAX_SPLITS];
};

const char *pretokenizer_name(int i)
{
    return i >= 0 && i < N_ROWS ? rows[i].name : NULL;
}

static const struct row *row_of(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name ? name : "default") == 0)
            return &rows[i];
    return NULL;
}

bool pretokenizer_adds_bos(const char *name)
{
    const struct row *row = row_of(name);
    return row && row->flags & ADD_BOS;
}

static cadre_err unknown_name(const char *name, cadre_error *err)
{
    char known[sizeof err->text] = "";
    size_t used = 0;
    for (int i = 0; i < N_ROWS && used < sizeof known; i++)
        used += (size_t)snprintf(known + used, sizeof known - used, " %s", rows[i].name);
    return error_set(err, CADRE_E_UNSUPPORTED, "unknown pre-tokenizer '%.60s'; known are:%.880s", name, known);
}

cadre_err pretokenizer_new(struct pretokenizer **out, const char *name, cadre_error *err)
{
    const struct row *row = row_of(name);
    if (!row)
        return unknown_name(name, err);
    struct pretokenizer *p = calloc(1, sizeof *p);
    CHECK(err, p, CADRE_E_MEMORY, "no memory for a pre-tokenizer");
    p->row = row;
    for (; p->n_splits < MAX_SPLITS && row->split[p->n_splits]; p->n_splits++) {
        int code;
        PCRE2_SIZE at;
        p->code[p->n_splits] =
            pcre2_compile((PCRE2_SPTR)row->split[p->n_splits], PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &at, NULL);
        if (!p->code[p->n_splits]) {
            char why[128] = "";
            pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
            pretokenizer_free(p);
            return error_set(err, CADRE_E_MEMORY, "pre-tokenizer '%s': expression at %zu: %s", row->name, at, why);
        }
        /* Where no executable memory is to be had, pcre2_match interprets instead. */
        pcre2_jit_compile(p->code[p->n_splits], PCRE2_JIT_COMPLETE);
    }
    *out = p;
    return CADRE_OK;
}

void pretokenizer_free(struct pretokenizer *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_splits; i++)
        pcre2_code_free(p->code[i]);
    free(p);
}

bool pretokenizer_ignores_merges(const struct pretokenizer *p)
{
    return p->row->flags & IGNORE_MERGES;
}

struct splitter {
    const struct pretokenizer *pre;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    word_fn *word;
    void *arg;
};

cadre_err splitter_new(struct splitter **out, const struct pretokenizer *p, cadre_error *err)
{
    struct splitter *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "no memory to split text");
    s->pre = p;
    s->match = pcre2_match_data_create(1, NULL);
    s->limits = pcre2_match_context_create(NULL);
    if (!s->match || !s->limits) {
        splitter_free(s);
        return error_set(err, CADRE_E_MEMORY, "no memory to match expressions");
    }
    /* The expressions take linear time; a limit would only refuse long runs of blanks. */
    pcre2_set_match_limit(s->limits, UINT32_MAX);
    *out = s;
    return CADRE_OK;
}

void splitter_free(struct splitter *s)
{
    if (!s)
        return;
    pcre2_match_data_free(s->match);
    pcre2_match_context_free(s->limits);
    free(s);
}

/* The next match of expression k in p[from, n); false if there is none. The text is known to be UTF-8. */
static cadre_err next_match(struct splitter *s, int k, const char *p, size_t n, size_t from, bool *found, size_t *start,
                            size_t *end, cadre_error *err)
{
    const pcre2_code *code = s->pre->code[k];
    uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    int rc = pcre2_match(code, (PCRE2_SPTR)p, n, from, options, s->match, s->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* very long words: the interpreter's stack is on the heap */
        rc = pcre2_match(code, (PCRE2_SPTR)p, n, from, options | PCRE2_NO_JIT, s->match, s->limits);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH)
        return CADRE_OK;
    CHECK(err, rc >= 0,
          rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT ? CADRE_E_MEMORY : CADRE_E_UNSUPPORTED,
          "pre-tokenizer '%s': matching %zu bytes of text failed (PCRE2 error %d): cut the text", s->pre->row->name, n,
          rc);
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(s->match);
    *start = range[0], *end = range[1];
    return CADRE_OK;
}

static cadre_err split(struct splitter *s, int k, const char *p, size_t n, cadre_error *err)
{
    if (n == 0)
        return CADRE_OK;
    if (k == s->pre->n_splits)
        return s->word(s->arg, p, n, err);
    size_t at = 0;
    while (at < n) {
        bool found;
        size_t start = n, end = n;
        TRY(next_match(s, k, p, n, at, &found, &start, &end, err));
        TRY(split(s, k + 1, p + at, start - at, err));
        TRY(split(s, k + 1, p + start, end - start, err));
        at = end;
    }
    return CADRE_OK;
}

cadre_err splitter_run(struct splitter *s, const char *text, size_t n, word_fn *word, void *arg, cadre_error *err)
{
    s->word = word, s->arg = arg;
    for (size_t at = 0; at < n;) {
        size_t valid = utf8_valid_prefix(text + at, n - at);
        TRY(split(s, 0, text + at, valid, err));
        at += valid;
        size_t begin = at;
        while (at < n && utf8_char((const unsigned char *)text + at, n - at) <= 0)
            at++;
        if (at > begin)
            TRY(word(arg, text + begin, at - begin, err));
    }
    return CADRE_OK;
}
