/* From Oniguruma's Ruby syntax, in which tokenizer.json files are written, to PCRE2's:
 *
 *     \s \w \d \h           Unicode's White_Space, letters and so on, spelt out
 *     \uXXXX                \x{XXXX}
 *     (?i:ab)               (?:[aA][bB]): both letter cases instead of caseless matching, which would let U+017F
 *                           (long s) stand for s
 *     [A&&[^B]]             (?:(?![B])[A])
 *
 * Everything else is the same in both, or refused when it is compiled. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "text/regex.h"
#include "text/regex_chars.h"
#include "text/text_buffer.h"

enum { DEEPEST = 200 };

struct translator {
    const char *p;
    size_t n, at;
    struct text_buffer out;
    bool caseless[DEEPEST + 1]; /* per open group */
    int depth;
    cadre_error *err;
};

static cadre_err put(struct translator *t, const char *p, size_t n)
{
    return text_buffer_add(&t->out, p, n, t->err);
}

static cadre_err put_text(struct translator *t, const char *s)
{
    return put(t, s, strlen(s));
}

static char peek(const struct translator *t, size_t ahead)
{
    return t->at + ahead < t->n ? t->p[t->at + ahead] : 0;
}

/* The set that \c names, as it stands inside of brackets; NULL if \c is something else. */
static const char *named_set(char c)
{
    switch (tolower((unsigned char)c)) {
    case 's':
        return REGEX_SPACE;
    case 'w':
        return REGEX_WORD;
    case 'd':
        return REGEX_DIGIT;
    case 'h':
        return "0-9a-fA-F";
    default:
        return NULL;
    }
}

/* At a backslash. */
static cadre_err escape(struct translator *t, bool in_class)
{
    char c = peek(t, 1);
    CHECK(t->err, c != 0, CADRE_E_FORMAT, "an expression ends in a backslash");
    const char *set = named_set(c);
    if (set) {
        bool negated = isupper((unsigned char)c);
        CHECK(t->err, !(in_class && negated), CADRE_E_UNSUPPORTED, "\\%c inside of brackets is not supported", c);
        if (!in_class)
            TRY(put_text(t, negated ? "[^" : "["));
        TRY(put_text(t, set));
        if (!in_class)
            TRY(put_text(t, "]"));
        t->at += 2;
        return CADRE_OK;
    }
    if (c == 'u') {
        TRY(put_text(t, "\\x{"));
        for (size_t i = 2; i < 6; i++)
            CHECK(t->err, isxdigit((unsigned char)peek(t, i)), CADRE_E_FORMAT,
                  "\\u in an expression: expected 4 hexadecimal digits");
        TRY(put(t, t->p + t->at + 2, 4));
        TRY(put_text(t, "}"));
        t->at += 6;
        return CADRE_OK;
    }
    size_t len = 2;
    if ((c == 'p' || c == 'P' || c == 'x') && peek(t, 2) == '{') {
        while (peek(t, len) && peek(t, len) != '}')
            len++;
        len += peek(t, len) == '}';
    }
    TRY(put(t, t->p + t->at, len));
    t->at += len;
    return CADRE_OK;
}

static cadre_err letter_cases(struct translator *t, char c)
{
    const char both[2] = {(char)tolower((unsigned char)c), (char)toupper((unsigned char)c)};
    return put(t, both, 2);
}

/* One letter, or a range of letters, in a caseless set. */
static cadre_err caseless_item(struct translator *t)
{
    char from = peek(t, 0), to = peek(t, 2);
    if (peek(t, 1) != '-' || !isalpha((unsigned char)to)) {
        t->at++;
        return letter_cases(t, from);
    }
    const char ranges[6] = {(char)tolower((unsigned char)from), '-', (char)tolower((unsigned char)to),
                            (char)toupper((unsigned char)from), '-', (char)toupper((unsigned char)to)};
    t->at += 3;
    return put(t, ranges, 6);
}

static cadre_err class_items(struct translator *t, bool *intersects)
{
    bool first = true;
    *intersects = false;
    for (;; first = false) {
        char c = peek(t, 0);
        CHECK(t->err, t->at < t->n, CADRE_E_FORMAT, "an expression has a '[' without its ']'");
        if (c == ']' && !first)
            return CADRE_OK;
        if (c == '&' && peek(t, 1) == '&') {
            *intersects = true;
            return CADRE_OK;
        }
        if (c == '\\') {
            TRY(escape(t, true));
        } else if (c == '[' && peek(t, 1) == ':') {
            TRY(put(t, t->p + t->at, 2));
            t->at += 2;
        } else if (c == '[') {
            return error_set(t->err, CADRE_E_UNSUPPORTED,
                             "a set inside of a set of characters is not supported; "
                             "write a literal '[' as '\\['");
        } else if (t->caseless[t->depth] && isalpha((unsigned char)c)) {
            TRY(caseless_item(t));
        } else {
            TRY(put(t, &c, 1));
            t->at++;
        }
    }
}

/* A set in brackets, at its '['. */
static cadre_err class(struct translator *t)
{
    size_t begin = t->out.n;
    bool negated = peek(t, 1) == '^', intersects;
    TRY(put_text(t, negated ? "[^" : "["));
    t->at += negated ? 2 : 1;
    TRY(class_items(t, &intersects));
    TRY(put_text(t, "]"));
    if (!intersects) {
        t->at++;
        return CADRE_OK;
    }
    /* What stands in `out` is [A]; make it (?:(?!B)[A]) or (?:(?=B)[A]). */
    CHECK(t->err, !negated && peek(t, 2) == '[', CADRE_E_UNSUPPORTED,
          "an intersection of sets is only supported as [A&&[B]] or [A&&[^B]]");
    struct text_buffer left = {0};
    cadre_err rc = text_buffer_add(&left, t->out.p + begin, t->out.n - begin, t->err);
    t->out.n = begin;
    bool other_negated = peek(t, 3) == '^';
    t->at += other_negated ? 4 : 3;
    if (rc == CADRE_OK)
        rc = put_text(t, other_negated ? "(?:(?![" : "(?:(?=[");
    if (rc == CADRE_OK)
        rc = class_items(t, &intersects);
    if (rc == CADRE_OK && (intersects || peek(t, 1) != ']'))
        rc = error_set(t->err, CADRE_E_UNSUPPORTED, "an intersection of more than two sets is not supported");
    t->at += 2;
    if (rc == CADRE_OK)
        rc = put_text(t, "])");
    if (rc == CADRE_OK)
        rc = put(t, left.p, left.n);
    if (rc == CADRE_OK)
        rc = put_text(t, ")");
    text_buffer_free(&left);
    return rc;
}

/* At '(': what follows "(?" may set flags, for a group (?i:…) or from here to the end of the one it is in (?i). */
static cadre_err open_group(struct translator *t)
{
    bool caseless = t->caseless[t->depth];
    size_t flags = 0;
    if (peek(t, 1) == '?')
        while (strchr("imx-", peek(t, 2 + flags)) && peek(t, 2 + flags))
            flags++;
    char end = peek(t, 2 + flags);
    if (flags > 0 && (end == ':' || end == ')')) {
        CHECK(t->err, flags == 1 && peek(t, 2) == 'i', CADRE_E_UNSUPPORTED,
              "expression flags (?%.*s) are not supported, only (?i)", (int)flags, t->p + t->at + 2);
        t->at += 4;
        if (end == ')') {
            t->caseless[t->depth] = true;
            return CADRE_OK;
        }
        caseless = true;
        TRY(put_text(t, "(?:"));
    } else {
        TRY(put_text(t, "("));
        t->at++;
    }
    CHECK(t->err, t->depth < DEEPEST, CADRE_E_UNSUPPORTED, "an expression with groups more than %d deep", DEEPEST);
    t->caseless[++t->depth] = caseless;
    return CADRE_OK;
}

static cadre_err translate(struct translator *t)
{
    while (t->at < t->n) {
        char c = t->p[t->at];
        if (c == '\\') {
            TRY(escape(t, false));
        } else if (c == '[') {
            TRY(class(t));
        } else if (c == '(') {
            TRY(open_group(t));
        } else if (t->caseless[t->depth] && isalpha((unsigned char)c)) {
            TRY(put_text(t, "["));
            TRY(letter_cases(t, c));
            TRY(put_text(t, "]"));
            t->at++;
        } else {
            t->depth -= c == ')' && t->depth > 0;
            TRY(put(t, &c, 1));
            t->at++;
        }
    }
    return put(t, "", 1);
}

cadre_err regex_translate(char **out, const char *pattern, size_t n, cadre_error *err)
{
    CHECK(err, !memchr(pattern, 0, n), CADRE_E_UNSUPPORTED, "an expression that holds a 0 byte is not supported");
    struct translator t = {.p = pattern, .n = n, .err = err};
    cadre_err rc = translate(&t);
    if (rc) {
        text_buffer_free(&t.out);
        return error_wrap(err, rc, "expression '%.*s'", (int)(n < 120 ? n : 120), pattern);
    }
    *out = t.out.p;
    return CADRE_OK;
}
