#include "text/json_steps.h"

#include <string.h>

#include "text/regex_chars.h"

/* ---- members ---- */

bool json_is_given(const json_t *o)
{
    return o && !json_is_null(o);
}

cadre_err json_get_bool(const json_t *o, const char *key, bool otherwise, bool *out, cadre_error *err)
{
    const json_t *v = json_object_get(o, key);
    *out = otherwise;
    if (!json_is_given(v))
        return CADRE_OK;
    CHECK(err, json_is_boolean(v), CADRE_E_FORMAT, "'%s': expected true or false", key);
    *out = json_is_true(v);
    return CADRE_OK;
}

cadre_err json_get_text(const json_t *o, const char *key, const char *otherwise, struct text_span *out,
                        cadre_error *err)
{
    const json_t *v = json_object_get(o, key);
    *out = (struct text_span){"", 0};
    if (!json_is_given(v)) {
        CHECK(err, otherwise, CADRE_E_FORMAT, "'%s': expected, not found", key);
        *out = (struct text_span){otherwise, strlen(otherwise)};
        return CADRE_OK;
    }
    CHECK(err, json_is_string(v), CADRE_E_FORMAT, "'%s': expected a string", key);
    *out = (struct text_span){json_string_value(v), json_string_length(v)};
    return CADRE_OK;
}

cadre_err json_get_id(const json_t *o, const char *key, int64_t *out, cadre_error *err)
{
    const json_t *v = json_object_get(o, key);
    *out = -1;
    if (!json_is_given(v))
        return CADRE_OK;
    CHECK(err, json_is_integer(v) && json_integer_value(v) >= 0 && json_integer_value(v) < 1 << 30, CADRE_E_FORMAT,
          "'%s': expected a token id", key);
    *out = json_integer_value(v);
    return CADRE_OK;
}

/* What follows reads objects {"type": NAME, …} by tables of names. */
typedef cadre_err part_fn(struct json_steps *s, const json_t *o, cadre_error *err);

struct part {
    const char *type;
    part_fn *read;
};

static cadre_err read_part(struct json_steps *s, const json_t *o, const struct part *parts, size_t n, const char *what,
                           cadre_error *err)
{
    struct text_span type = {"", 0};
    CHECK(err, json_is_object(o), CADRE_E_FORMAT, "%s: expected an object", what);
    cadre_err rc = json_get_text(o, "type", NULL, &type, err);
    if (rc)
        return error_wrap(err, rc, "%s", what);
    for (size_t i = 0; i < n; i++)
        if (strcmp(parts[i].type, type.p) == 0) {
            rc = parts[i].read(s, o, err);
            return rc ? error_wrap(err, rc, "%s %s", what, parts[i].type) : CADRE_OK;
        }
    return error_set(err, CADRE_E_UNSUPPORTED, "%s '%.60s' is not supported", what, type.p);
}

static cadre_err each_part(struct json_steps *s, const json_t *o, const char *key, part_fn *read, cadre_error *err)
{
    const json_t *list = json_object_get(o, key), *item;
    size_t i;
    CHECK(err, json_is_array(list), CADRE_E_FORMAT, "'%s': expected a list", key);
    json_array_foreach(list, i, item) TRY(read(s, item, err));
    return CADRE_OK;
}

/* {"String": …} or {"Regex": …}, or the text itself. */
static cadre_err read_pattern(const json_t *o, struct text_span *out, bool *regex, cadre_error *err)
{
    const json_t *v = json_object_get(o, "pattern");
    *regex = false;
    *out = (struct text_span){"", 0};
    if (json_is_string(v))
        return json_get_text(o, "pattern", NULL, out, err);
    CHECK(err, json_is_object(v), CADRE_E_FORMAT, "'pattern': expected {\"String\": …} or {\"Regex\": …}");
    *regex = json_object_get(v, "Regex");
    return json_get_text(v, *regex ? "Regex" : "String", NULL, out, err);
}

/* ---- normalizers ---- */

static cadre_err add_normal(struct json_steps *s, struct normal_step step, cadre_error *err)
{
    CHECK(err, s->n_normal < JSON_MAX_STEPS, CADRE_E_UNSUPPORTED, "more than %d normalizers", JSON_MAX_STEPS);
    s->normal[s->n_normal++] = step;
    return CADRE_OK;
}

#define PLAIN_NORMALIZER(name, what)                                                                                   \
    static cadre_err name(struct json_steps *s, const json_t *o, cadre_error *err)                                     \
    {                                                                                                                  \
        (void)o;                                                                                                       \
        return add_normal(s, (struct normal_step){.kind = what}, err);                                                 \
    }
PLAIN_NORMALIZER(normal_nfc, NORMAL_NFC)
PLAIN_NORMALIZER(normal_nfd, NORMAL_NFD)
PLAIN_NORMALIZER(normal_nfkc, NORMAL_NFKC)
PLAIN_NORMALIZER(normal_nfkd, NORMAL_NFKD)
PLAIN_NORMALIZER(normal_lowercase, NORMAL_LOWERCASE)
PLAIN_NORMALIZER(normal_strip_accents, NORMAL_DROP_MARKS)

static cadre_err normal_strip(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct normal_step step = {.kind = NORMAL_STRIP};
    TRY(json_get_bool(o, "strip_left", false, &step.left, err));
    TRY(json_get_bool(o, "strip_right", false, &step.right, err));
    return add_normal(s, step, err);
}

static cadre_err normal_prepend(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct normal_step step = {.kind = NORMAL_PREPEND};
    TRY(json_get_text(o, "prepend", NULL, &step.content, err));
    return add_normal(s, step, err);
}

static cadre_err normal_replace(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct normal_step step = {.kind = NORMAL_REPLACE};
    TRY(read_pattern(o, &step.pattern, &step.regex, err));
    TRY(json_get_text(o, "content", NULL, &step.content, err));
    return add_normal(s, step, err);
}

static cadre_err normal_bert(struct json_steps *s, const json_t *o, cadre_error *err)
{
    bool clean, chinese, lower, accents;
    TRY(json_get_bool(o, "clean_text", true, &clean, err));
    TRY(json_get_bool(o, "handle_chinese_chars", true, &chinese, err));
    TRY(json_get_bool(o, "lowercase", true, &lower, err));
    TRY(json_get_bool(o, "strip_accents", lower, &accents, err));
    if (clean)
        TRY(add_normal(s, (struct normal_step){.kind = NORMAL_CLEAN}, err));
    if (chinese)
        TRY(add_normal(s, (struct normal_step){.kind = NORMAL_SPACE_IDEOGRAPHS}, err));
    if (accents) {
        TRY(add_normal(s, (struct normal_step){.kind = NORMAL_NFD}, err));
        TRY(add_normal(s, (struct normal_step){.kind = NORMAL_DROP_MARKS, .nonspacing = true}, err));
    }
    return lower ? add_normal(s, (struct normal_step){.kind = NORMAL_LOWERCASE}, err) : CADRE_OK;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static cadre_err decode_base64(struct text_span in, struct text_buffer *out, cadre_error *err)
{
    unsigned bits = 0;
    int n_bits = 0;
    while (in.n > 0 && in.p[in.n - 1] == '=')
        in.n--;
    TRY(text_buffer_reserve(out, in.n / 4 * 3 + 3, err));
    for (uint64_t i = 0; i < in.n; i++) {
        int digit = base64_digit(in.p[i]);
        CHECK(err, digit >= 0, CADRE_E_FORMAT, "not base64 at byte %llu", (unsigned long long)i);
        bits = (bits << 6 | (unsigned)digit) & 0xffff;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            out->p[out->n++] = (char)(bits >> n_bits);
        }
    }
    return CADRE_OK;
}

static cadre_err normal_precompiled(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct normal_step step = {.kind = NORMAL_CHARSMAP, .graphemes = true};
    struct text_span coded = {"", 0};
    struct text_buffer bytes = {0};
    TRY(json_get_text(o, "precompiled_charsmap", "", &coded, err));
    if (coded.n == 0)
        return CADRE_OK;
    cadre_err rc = decode_base64(coded, &bytes, err);
    if (rc == CADRE_OK)
        rc = text_keep_copy(&s->keep, bytes.p, bytes.n, &step.content.p, err);
    step.content.n = bytes.n;
    text_buffer_free(&bytes);
    return rc ? rc : add_normal(s, step, err);
}

static cadre_err read_normalizer(struct json_steps *s, const json_t *o, cadre_error *err);

static cadre_err normal_sequence(struct json_steps *s, const json_t *o, cadre_error *err)
{
    return each_part(s, o, "normalizers", read_normalizer, err);
}

static cadre_err read_normalizer(struct json_steps *s, const json_t *o, cadre_error *err)
{
    static const struct part parts[] = {
        {"NFC", normal_nfc},
        {"NFD", normal_nfd},
        {"NFKC", normal_nfkc},
        {"NFKD", normal_nfkd},
        {"Lowercase", normal_lowercase},
        {"Strip", normal_strip},
        {"StripAccents", normal_strip_accents},
        {"Prepend", normal_prepend},
        {"Replace", normal_replace},
        {"BertNormalizer", normal_bert},
        {"Precompiled", normal_precompiled},
        {"Sequence", normal_sequence},
    };
    return read_part(s, o, parts, sizeof parts / sizeof *parts, "normalizer", err);
}

/* ---- pre-tokenizers ---- */

static cadre_err add_split(struct json_steps *s, struct split_step step, cadre_error *err)
{
    CHECK(err, s->n_split < JSON_MAX_STEPS, CADRE_E_UNSUPPORTED, "more than %d pre-tokenizers", JSON_MAX_STEPS);
    s->split[s->n_split++] = step;
    return CADRE_OK;
}

static cadre_err add_own(struct json_steps *s, const char *expression, enum split_how how, bool invert,
                         cadre_error *err)
{
    return add_split(
        s,
        (struct split_step){
            .pattern = {expression, strlen(expression)}, .how = how, .regex = true, .own = true, .invert = invert},
        err);
}

static cadre_err split_byte_level(struct json_steps *s, const json_t *o, cadre_error *err)
{
    bool prefix, regex;
    TRY(json_get_bool(o, "add_prefix_space", true, &prefix, err));
    TRY(json_get_bool(o, "use_regex", true, &regex, err));
    s->bytes = true;
    if (prefix)
        TRY(add_split(s, (struct split_step){.kind = SPLIT_PREFIX_BLANK}, err));
    if (regex)
        TRY(add_own(s, REGEX_GPT2, SPLIT_ISOLATED, false, err));
    return add_split(s, (struct split_step){.kind = SPLIT_TO_ALPHABET}, err);
}

static cadre_err read_behaviour(const json_t *o, const char *otherwise, enum split_how *how, cadre_error *err)
{
    static const struct {
        const char *name;
        enum split_how how;
    } names[] = {{"Isolated", SPLIT_ISOLATED},
                 {"Removed", SPLIT_REMOVED},
                 {"MergedWithPrevious", SPLIT_WITH_PREVIOUS},
                 {"MergedWithNext", SPLIT_WITH_NEXT},
                 {"Contiguous", SPLIT_CONTIGUOUS}};
    struct text_span name = {"", 0};
    *how = SPLIT_ISOLATED;
    TRY(json_get_text(o, "behavior", otherwise, &name, err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].name, name.p) == 0) {
            *how = names[i].how;
            return CADRE_OK;
        }
    return error_set(err, CADRE_E_FORMAT, "'behavior': '%.40s' is not known", name.p);
}

static cadre_err split_split(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct split_step step = {.kind = SPLIT_PATTERN};
    TRY(read_pattern(o, &step.pattern, &step.regex, err));
    TRY(read_behaviour(o, NULL, &step.how, err));
    TRY(json_get_bool(o, "invert", false, &step.invert, err));
    return add_split(s, step, err);
}

static cadre_err split_digits(struct json_steps *s, const json_t *o, cadre_error *err)
{
    bool each;
    TRY(json_get_bool(o, "individual_digits", false, &each, err));
    return add_own(s, "\\p{N}", each ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false, err);
}

static cadre_err split_words(struct json_steps *s, const json_t *o, cadre_error *err)
{
    (void)o;
    return add_own(s, "[" REGEX_WORD "]+|[^" REGEX_WORD REGEX_SPACE "]+", SPLIT_REMOVED, true, err);
}

static cadre_err split_at_space(struct json_steps *s, const json_t *o, cadre_error *err)
{
    (void)o;
    return add_own(s, "[" REGEX_SPACE "]", SPLIT_REMOVED, false, err);
}

static cadre_err split_punctuation(struct json_steps *s, const json_t *o, cadre_error *err)
{
    enum split_how how;
    TRY(read_behaviour(o, "Isolated", &how, err));
    return add_own(s, "[" REGEX_PUNCTUATION "]", how, false, err);
}

static cadre_err split_bert(struct json_steps *s, const json_t *o, cadre_error *err)
{
    TRY(split_at_space(s, o, err));
    return add_own(s, "[" REGEX_PUNCTUATION "]", SPLIT_ISOLATED, false, err);
}

static cadre_err split_delimiter(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct split_step step = {.kind = SPLIT_PATTERN, .how = SPLIT_REMOVED};
    TRY(json_get_text(o, "delimiter", NULL, &step.pattern, err));
    return add_split(s, step, err);
}

static cadre_err read_scheme(const json_t *o, enum split_prepend *out, cadre_error *err)
{
    struct text_span scheme = {"", 0};
    bool prefix; /* as older files say it */
    TRY(json_get_bool(o, "add_prefix_space", true, &prefix, err));
    TRY(json_get_text(o, "prepend_scheme", prefix ? "always" : "never", &scheme, err));
    *out = strcmp(scheme.p, "first") == 0   ? PREPEND_FIRST
           : strcmp(scheme.p, "never") == 0 ? PREPEND_NEVER
                                            : PREPEND_ALWAYS;
    CHECK(err, *out != PREPEND_ALWAYS || strcmp(scheme.p, "always") == 0, CADRE_E_FORMAT,
          "'prepend_scheme': expected always, first or never, found '%.40s'", scheme.p);
    return CADRE_OK;
}

static cadre_err split_metaspace(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct split_step step = {.kind = SPLIT_MARK_BLANKS};
    bool split;
    TRY(json_get_text(o, "replacement", "▁", &step.content, err));
    CHECK(err, step.content.n > 0, CADRE_E_FORMAT, "'replacement': expected a character");
    TRY(read_scheme(o, &step.prepend, err));
    TRY(json_get_bool(o, "split", true, &split, err));
    TRY(add_split(s, step, err));
    if (!split)
        return CADRE_OK;
    return add_split(s, (struct split_step){.kind = SPLIT_PATTERN, .pattern = step.content, .how = SPLIT_WITH_NEXT},
                     err);
}

static cadre_err read_pretokenizer(struct json_steps *s, const json_t *o, cadre_error *err);

static cadre_err split_sequence(struct json_steps *s, const json_t *o, cadre_error *err)
{
    return each_part(s, o, "pretokenizers", read_pretokenizer, err);
}

static cadre_err read_pretokenizer(struct json_steps *s, const json_t *o, cadre_error *err)
{
    static const struct part parts[] = {
        {"ByteLevel", split_byte_level},
        {"Split", split_split},
        {"Digits", split_digits},
        {"Whitespace", split_words},
        {"WhitespaceSplit", split_at_space},
        {"Punctuation", split_punctuation},
        {"Metaspace", split_metaspace},
        {"BertPreTokenizer", split_bert},
        {"CharDelimiterSplit", split_delimiter},
        {"Sequence", split_sequence},
    };
    return read_part(s, o, parts, sizeof parts / sizeof *parts, "pre-tokenizer", err);
}

/* ---- decoders ---- */

static cadre_err decode_byte_level(struct json_steps *s, const json_t *o, cadre_error *err)
{
    (void)o, (void)err;
    s->decode.byte_alphabet = true;
    return CADRE_OK;
}

static cadre_err decode_metaspace(struct json_steps *s, const json_t *o, cadre_error *err)
{
    enum split_prepend scheme;
    TRY(json_get_text(o, "replacement", "▁", &s->decode.blank, err));
    TRY(read_scheme(o, &scheme, err));
    s->decode.strip_left = scheme != PREPEND_NEVER;
    return CADRE_OK;
}

static cadre_err decode_wordpiece(struct json_steps *s, const json_t *o, cadre_error *err)
{
    s->decode.strip_left = 1;
    return json_get_text(o, "prefix", "##", &s->decode.continues, err);
}

static cadre_err decode_bpe(struct json_steps *s, const json_t *o, cadre_error *err)
{
    return json_get_text(o, "suffix", "</w>", &s->decode.word_suffix, err);
}

static cadre_err decode_byte_fallback(struct json_steps *s, const json_t *o, cadre_error *err)
{
    (void)o, (void)err;
    s->decode.byte_tokens = true;
    return CADRE_OK;
}

static cadre_err decode_fuse(struct json_steps *s, const json_t *o, cadre_error *err)
{
    (void)s, (void)o, (void)err; /* pieces are joined anyway */
    return CADRE_OK;
}

static cadre_err decode_replace(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct text_span pattern = {"", 0}, content = {"", 0};
    bool regex;
    TRY(read_pattern(o, &pattern, &regex, err));
    TRY(json_get_text(o, "content", NULL, &content, err));
    CHECK(err, !regex && content.n == 1 && *content.p == ' ' && s->decode.blank.n == 0, CADRE_E_UNSUPPORTED,
          "only one replacement of a fixed text by a blank is supported");
    s->decode.blank = pattern;
    return CADRE_OK;
}

static cadre_err decode_strip(struct json_steps *s, const json_t *o, cadre_error *err)
{
    struct text_span content = {"", 0};
    int64_t start, stop;
    TRY(json_get_text(o, "content", NULL, &content, err));
    TRY(json_get_id(o, "start", &start, err));
    TRY(json_get_id(o, "stop", &stop, err));
    CHECK(err, content.n == 1 && *content.p == ' ' && stop <= 0, CADRE_E_UNSUPPORTED,
          "only blanks at the beginning of a text are supported");
    s->decode.strip_left = start > 0 ? (int)start : 0;
    return CADRE_OK;
}

static cadre_err read_decoder(struct json_steps *s, const json_t *o, cadre_error *err);

static cadre_err decode_sequence(struct json_steps *s, const json_t *o, cadre_error *err)
{
    return each_part(s, o, "decoders", read_decoder, err);
}

static cadre_err read_decoder(struct json_steps *s, const json_t *o, cadre_error *err)
{
    static const struct part parts[] = {
        {"ByteLevel", decode_byte_level}, {"Metaspace", decode_metaspace}, {"WordPiece", decode_wordpiece},
        {"BPEDecoder", decode_bpe},       {"Fuse", decode_fuse},           {"ByteFallback", decode_byte_fallback},
        {"Replace", decode_replace},      {"Strip", decode_strip},         {"Sequence", decode_sequence},
    };
    return read_part(s, o, parts, sizeof parts / sizeof *parts, "decoder", err);
}

/* ---- post-processors ---- */

static cadre_err put_around(struct json_steps *s, bool after, int64_t id, cadre_error *err)
{
    int *n = after ? &s->n_after : &s->n_before;
    CHECK(err, *n < JSON_MAX_AROUND, CADRE_E_UNSUPPORTED, "more than %d tokens on one side of a text", JSON_MAX_AROUND);
    (after ? s->after : s->before)[(*n)++] = (int32_t)id;
    return CADRE_OK;
}

static cadre_err put_special(struct json_steps *s, const json_t *o, const json_t *item, bool after, cadre_error *err)
{
    struct text_span name = {"", 0};
    TRY(json_get_text(item, "id", NULL, &name, err));
    const json_t *ids = json_object_get(json_object_get(json_object_get(o, "special_tokens"), name.p), "ids"), *id;
    size_t i;
    CHECK(err, json_array_size(ids) > 0, CADRE_E_FORMAT, "'special_tokens': no ids of '%.60s'", name.p);
    json_array_foreach(ids, i, id)
    {
        CHECK(err, json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < 1 << 30,
              CADRE_E_FORMAT, "'special_tokens': '%.60s' has an id that is none", name.p);
        TRY(put_around(s, after, json_integer_value(id), err));
    }
    return CADRE_OK;
}

static cadre_err post_template(struct json_steps *s, const json_t *o, cadre_error *err)
{
    const json_t *single = json_object_get(o, "single"), *item;
    size_t i;
    bool after = false;
    CHECK(err, json_is_array(single), CADRE_E_FORMAT, "'single': expected a list");
    s->n_before = s->n_after = 0;
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        if (special) {
            TRY(put_special(s, o, special, after, err));
            continue;
        }
        CHECK(err, json_object_get(item, "Sequence") && !after, CADRE_E_UNSUPPORTED,
              "'single': expected one Sequence and SpecialTokens");
        after = true;
    }
    CHECK(err, after, CADRE_E_FORMAT, "'single': expected a Sequence");
    return CADRE_OK;
}

/* ["[SEP]", 102] */
static cadre_err put_named(struct json_steps *s, const json_t *o, const char *key, bool after, cadre_error *err)
{
    const json_t *id = json_array_get(json_object_get(o, key), 1);
    CHECK(err, json_is_integer(id) && json_integer_value(id) >= 0 && json_integer_value(id) < 1 << 30, CADRE_E_FORMAT,
          "'%s': expected [name, id]", key);
    return put_around(s, after, json_integer_value(id), err);
}

static cadre_err post_bert(struct json_steps *s, const json_t *o, cadre_error *err)
{
    s->n_before = s->n_after = 0;
    TRY(put_named(s, o, "cls", false, err));
    return put_named(s, o, "sep", true, err);
}

static cadre_err read_post(struct json_steps *s, const json_t *o, cadre_error *err);

static cadre_err post_sequence(struct json_steps *s, const json_t *o, cadre_error *err)
{
    return each_part(s, o, "processors", read_post, err);
}

static cadre_err read_post(struct json_steps *s, const json_t *o, cadre_error *err)
{
    static const struct part parts[] = {
        {"TemplateProcessing", post_template}, {"BertProcessing", post_bert},
        {"RobertaProcessing", post_bert},      {"ByteLevel", decode_fuse}, /* moves offsets only */
        {"Sequence", post_sequence},
    };
    return read_part(s, o, parts, sizeof parts / sizeof *parts, "post-processor", err);
}

cadre_err json_steps_read(struct json_steps *s, const json_t *root, cadre_error *err)
{
    static const struct {
        const char *key;
        part_fn *read;
    } parts[] = {{"normalizer", read_normalizer},
                 {"pre_tokenizer", read_pretokenizer},
                 {"decoder", read_decoder},
                 {"post_processor", read_post}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const json_t *o = json_object_get(root, parts[i].key);
        if (json_is_given(o))
            TRY(parts[i].read(s, o, err));
    }
    /* Where nothing looks at the letters of the alphabet, the model takes the bytes themselves. */
    s->letters = s->bytes && s->split[s->n_split - 1].kind != SPLIT_TO_ALPHABET;
    if (s->bytes && !s->letters)
        s->n_split--;
    return CADRE_OK;
}
