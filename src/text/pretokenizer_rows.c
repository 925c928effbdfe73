/* The table of pre-tokenizers.
 *
 * Each expression cuts every piece that the one before it left, seeing nothing outside of that piece. The expressions
 * are the published ones of each vocabulary, written with S, Unicode's White_Space, instead of \s, whose meaning
 * differs between engines, and with both letter cases instead of caseless matching, which would let U+017F (long s)
 * stand for s. Where a published one takes time that grows with the square of a run, it is written so that it does
 * not, with the same matches. */
#include <stdio.h>
#include <string.h>

#include "text/pretokenizer.h"
#include "text/regex_chars.h"

/* Inside of brackets: */
#define S REGEX_SPACE
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
#define GPT2 REGEX_GPT2
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

/* Runs of blanks in lengths that are powers of two. */
#define AT(n) "[" S "]{" n "}(?![^" S "])|"
#define BLANKS_BY_POWERS AT("512") AT("256") AT("128") AT("64") AT("32") AT("16") AT("8") AT("4") AT("1,2") "[" S "]"
#define JAIS2                                                                                                          \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|[" S                          \
            "]*[\\r\\n]+|" BLANKS_BY_POWERS
#define NO_ENDINGS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^" S "\\p{L}\\p{N}]+[\\r\\n]*|" LINES
#define SPARK                                                                                                          \
    "[" ASCII_PUNCTUATION "][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|" BLANKS
#define SPACED_WORDS                                                                                                   \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}| ?[^" S                               \
            "\\p{L}\\p{N}]+[\\r\\n/]?|[" S "]*[\\r\\n]|" BLANKS
#define KANA_HAN "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{30FF}]+"
#define SCRIPT_RUNS                                                                                                    \
    "[\\x{AC00}-\\x{D7A3}\\x{3131}-\\x{318E}]+|"                                                                       \
    "[\\x{FF01}\\x{2026}\\x{201C}\\x{201D}\\x{2018}\\x{2019}\\x{2014}\\x{FF1A}\\x{FF1B}\\x{FF0C}\\x{3001}-\\x{303F}"   \
    "\\x{FE30}-\\x{FE4F}]+|[\\x{3105}-\\x{312F}]+|" KANA_HAN
#define ASIAN_RUNS                                                                                                     \
    "[\\x{4E00}-\\x{9FFF}\\x{3400}-\\x{4DBF}\\x{F900}-\\x{FAFF}\\x{3040}-\\x{30FF}\\x{FF65}-\\x{FF9F}"                 \
    "\\x{2F00}-\\x{2FDF}\\x{E00}-\\x{E7F}\\x{E80}-\\x{EFF}\\x{1780}-\\x{17FF}\\x{1000}-\\x{109F}\\x{AA60}-\\x{AA7F}"   \
    "\\x{A9E0}-\\x{A9FF}\\x{AC00}-\\x{D7AF}\\x{1100}-\\x{11FF}]+"

/* Digits in threes counted from the right. A run is measured once, at its first digit; \G goes on from the last match.
 */
#define D "\\p{Nd}"
/* All of every run: 1234567 is 1 234 567. */
#define THREES "(?<!" D ")" D "{1,2}(?=(?:" D "{3})++(?!" D "))|" D "{3}|" D "+"
/* Only runs that end where a word ends, as (\d{1,3})(?=(\d{3})*\b). */
#define WORD_THREES "\\G(?<=" D ")" D "{3}|(?<!" D ")" D "{1,3}(?=(?:" D "{3})*+(?![" REGEX_WORD "]))"
/* Cuts before each three, as (?=(\d{3})+(?!\d)): the digits before the first stay with what precedes them. */
#define BEFORE_THREES                                                                                                  \
    "\\G(?<=" D ")" D "{3}|(?:(?<!" D ")|(?<=(?<!" D ")" D ")|(?<=(?<!" D ")" D D "))" D "{3}(?=(?:" D "{3})*+(?!" D   \
    "))"
#define NEWLINES "[^\\n]+|\\n+" /* lines, and runs of their ends */

#define DIGIT "\\p{N}"
#define DIGITS3 "\\p{N}{1,3}"
#define SYMBOLS(more) "[\\p{P}$+<=>^~|" more "]+"

enum { MERGES = PRE_IGNORE_MERGES, BOS = PRE_ADD_BOS };

static const struct pre_row rows[] = {
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
    {"llama-bpe", MERGES | BOS, {GPT4(DIGITS3)}},
    {"llama3", MERGES | BOS, {GPT4(DIGITS3)}},
    {"llama-v3", MERGES | BOS, {GPT4(DIGITS3)}},
    {"falcon3", MERGES | BOS, {GPT4(DIGITS3)}},
    {"falcon-h1", MERGES | BOS, {GPT4(DIGITS3)}},
    {"pixtral", MERGES | BOS, {GPT4(DIGITS3)}},
    {"midm-2.0", MERGES | BOS, {GPT4(DIGITS3)}},
    {"lfm2", MERGES | BOS, {GPT4(DIGITS3)}},
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
    {"tekken", MERGES | BOS, {GPT4O("", DIGIT)}},
    {"kimi-k2", 0, {KIMI}},
    {"deepseek-llm",
     0,
     {"[\\r\\n]", "[" S "]?[" CASED_LETTERS "]+",
      "[" S "]?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}\\x{3000}-\\x{3002}]+", BLANKS_AT_END,
      "[" CJK "]+", "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\\r\\n]", "[" S "]?\\p{L}+", "[" S "]?\\p{P}+", "[" CJK "]+", DIGIT}},
    {"deepseek-v3", 0, {DIGITS3, KANA_HAN, WORDS_WITH_MARKS}},
    {"hunyuan-dense", 0, {DIGITS3, KANA_HAN, WORDS_WITH_MARKS}},
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
    {"jina-v1-en", PRE_ADD_SEP, {GPT2}},
    {"jina-v2-code", PRE_ADD_SEP, {GPT2}},
    {"roberta-bpe", PRE_ADD_SEP, {GPT2}},
    {"jina-v5-nano", MERGES | BOS, {GPT4(DIGITS3)}},
    {"minicpm5", MERGES, {DIGITS3, GPT4("\\p{N}+")}},
    {"jais-2", 0, {JAIS2}},
    {"kormo", 0, {GPT4(DIGIT)}},
    {"f2llmv2", 0, {GPT4(DIGIT)}},
    {"solar-open", 0, {GPT4(DIGIT)}},
    {"laguna", 0, {NEWLINES, GPT4(DIGIT)}},
    {"ufakzeka", 0, {NO_ENDINGS}},
    {"talkie", 0, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"granite-embed-multi-97m", MERGES, {GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"tiny_aya", 0, {WORD_THREES, GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"cohere2moe", 0, {WORD_THREES, GPT4O(ENDING_IF_ANY, DIGITS3)}},
    {"youtu", MERGES, {SCRIPT_RUNS, GPT4O(ENDING_IF_ANY, DIGIT)}},
    {"joyai-llm", 0, {DIGITS3, KANA_HAN, WORDS_WITH_MARKS}},
    {"hy_v4", 0, {DIGITS3, KANA_HAN, WORDS_WITH_MARKS}},
    {"spark2_5", 0, {DIGITS3, KANA_HAN, SPARK, DIGIT}},
    {"afmoe", 0, {THREES, ASIAN_RUNS, WORDS_WITH_MARKS}},
    {"exaone-moe", 0, {SPACED_WORDS}},
    {"mellum2", 0, {DIGIT, GPT2}},
    {"superbpe", 0, {"\\p{N}+", BEFORE_THREES}},
    {"chameleon",
     BOS,
     {"<sentinel:[0-9]+>", "IMGIMG[A-I]{1,4}Z", "[\\t\\n]|    |  ", DIGIT, "[" REGEX_PUNCTUATION "]", GPT2}},
    {"gemma4", PRE_CHARS | BOS, {NEWLINES}},
    {"granite-embed-multi-311m", PRE_CHARS | BOS, {NEWLINES}},
    {"sarvam-moe", PRE_CHARS, {NEWLINES}},
};
enum { N_ROWS = sizeof rows / sizeof *rows };

const struct pre_row *pre_row_at(int i)
{
    return i >= 0 && i < N_ROWS ? &rows[i] : NULL;
}

const struct pre_row *pre_row_find(const char *name)
{
    for (int i = 0; i < N_ROWS; i++)
        if (strcmp(rows[i].name, name ? name : "default") == 0)
            return &rows[i];
    return NULL;
}

static bool splits_alike(const struct pre_row *a, const struct pre_row *b)
{
    for (int i = 0; i < PRE_MAX_SPLITS; i++)
        if (!a->split[i] != !b->split[i] || (a->split[i] && strcmp(a->split[i], b->split[i]) != 0))
            return false;
    return true;
}

/* Many names, few ways to split: the first name of each. */
static bool is_first_of_its_kind(int i)
{
    for (int k = 0; k < i; k++)
        if (splits_alike(&rows[i], &rows[k]))
            return false;
    return true;
}

cadre_err pre_row_get(const struct pre_row **out, const char *name, cadre_error *err)
{
    *out = pre_row_find(name);
    if (*out)
        return CADRE_OK;
    char known[900] = "";
    size_t used = 0;
    for (int i = 0; i < N_ROWS && used < sizeof known; i++)
        if (is_first_of_its_kind(i))
            used += (size_t)snprintf(known + used, sizeof known - used, " %s", rows[i].name);
    return error_set(err, CADRE_E_UNSUPPORTED,
                     "unknown pre-tokenizer '%.60s'; known are (and others that split alike):%s", name, known);
}

int pre_row_steps(const struct pre_row *row, struct split_step *steps)
{
    int n = 0;
    for (; n < PRE_MAX_SPLITS && row->split[n]; n++)
        steps[n] = (struct split_step){
            .pattern = {row->split[n], strlen(row->split[n])}, .regex = true, .own = true, .how = SPLIT_ISOLATED};
    return n;
}
