#include "text/template/strings.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/chars.h"

/* What becomes of a character, given the one before it (-1 at the beginning). */
static int map_char(enum case_rule rule, int32_t code, int32_t before, int32_t to[3])
{
    bool begins = before < 0;
    switch (rule) {
    case CASE_UPPER:
        return char_upper(code, to);
    case CASE_LOWER:
        return char_lower(code, to);
    case CASE_SWAP:
        return char_is_lower(code) ? char_upper(code, to) : char_lower(code, to);
    case CASE_TITLE:
        begins = before < 0 || !char_is_alpha(before);
        break;
    case CASE_FILTER_TITLE:
        begins = before < 0 || char_is_space(before) || (before < 0x80 && strchr("-({[<", before));
        return begins ? char_upper(code, to) : char_lower(code, to);
    case CASE_CAPITALIZE:
        break;
    }
    return begins ? char_title(code, to) : char_lower(code, to);
}

cadre_err string_map(struct ctx *c, const struct string *s, enum case_rule rule, struct value *out)
{
    struct text t = {0};
    int32_t before = -1;
    for (size_t i = 0, len; i < s->n; i += len) {
        int32_t to[3], code = char_decode(s->p + i, s->n - i, &len);
        int n = map_char(rule, code, before, to);
        for (int k = 0; k < n; k++)
            TRY(text_char(c, &t, to[k]));
        before = code;
    }
    TRY(string_from_text(c, &t, out));
    out->s->safe = s->safe;
    return CADRE_OK;
}

/* Whether the character at p, `len` bytes, is among `chars`. */
static bool among(const char *p, size_t len, const struct string *chars)
{
    size_t unused;
    if (!chars)
        return char_is_space(char_decode(p, len, &unused));
    for (size_t i = 0; i < chars->n;) {
        size_t n = char_length(chars->p + i, chars->n - i);
        if (n == len && memcmp(chars->p + i, p, n) == 0)
            return true;
        i += n;
    }
    return false;
}

cadre_err string_strip(struct ctx *c, const struct string *s, const struct string *chars, bool left, bool right,
                       struct value *out)
{
    size_t from = 0, to = s->n;
    while (left && from < to) {
        size_t len = char_length(s->p + from, to - from);
        TRY(ctx_steps(c, chars ? chars->n / 32 : 0));
        if (!among(s->p + from, len, chars))
            break;
        from += len;
    }
    while (right && to > from) {
        size_t len = 1;
        while (to - len > from && (s->p[to - len] & 0xc0) == 0x80)
            len++;
        TRY(ctx_steps(c, chars ? chars->n / 32 : 0));
        if (!among(s->p + to - len, len, chars))
            break;
        to -= len;
    }
    TRY(string_of(c, s->p + from, to - from, out));
    out->s->safe = s->safe;
    return CADRE_OK;
}

cadre_err string_replace(struct ctx *c, const struct string *s, const struct string *old, const struct string *with,
                         int64_t count, struct value *out)
{
    struct text t = {0};
    size_t i = 0;
    while (count != 0) {
        const char *hit = old->n ? memmem(s->p + i, s->n - i, old->p, old->n) : s->p + i;
        if (!hit)
            break;
        TRY(ctx_steps(c, 1));
        TRY(text_add(c, &t, s->p + i, (size_t)(hit - s->p) - i));
        TRY(text_add(c, &t, with->p, with->n));
        i = (size_t)(hit - s->p) + old->n;
        count -= count > 0;
        if (old->n == 0) { /* between all characters, and at both ends */
            if (i == s->n)
                break;
            size_t len = char_length(s->p + i, s->n - i);
            TRY(text_add(c, &t, s->p + i, len));
            i += len;
        }
    }
    TRY(text_add(c, &t, s->p + i, s->n - i));
    return string_from_text(c, &t, out);
}

cadre_err string_justify(struct ctx *c, struct string *s, int64_t width, const char *fill, size_t n_fill, bool left,
                         bool right, struct value *out)
{
    struct text t = {0};
    int64_t chars = string_chars(s), space = width > chars ? width - chars : 0;
    /* str.center puts the odd blank to the left when the width is odd. */
    int64_t before = left && right ? space / 2 + (space & width & 1) : left ? space : 0;
    for (int64_t i = 0; i < before; i++)
        TRY(text_add(c, &t, fill, n_fill));
    TRY(text_add(c, &t, s->p, s->n));
    for (int64_t i = before; i < space; i++)
        TRY(text_add(c, &t, fill, n_fill));
    return string_from_text(c, &t, out);
}

/* The text without white space around it and without "_" between digits, in `b`; false if it does not fit. */
static bool number_text(const struct string *s, char *b, size_t room)
{
    size_t from = space_prefix(s->p, s->n), to = s->n - (from < s->n ? space_suffix(s->p, s->n) : 0), n = 0;
    for (size_t i = from; i < to; i++) {
        if (s->p[i] == '_' && i > from && i + 1 < to && hex_digit(s->p[i - 1]) >= 0 && hex_digit(s->p[i + 1]) >= 0)
            continue;
        if (n + 1 >= room || s->p[i] == 0 || s->p[i] == '_')
            return false;
        b[n++] = s->p[i];
    }
    b[n] = 0;
    return n > 0;
}

bool parse_int(const struct string *s, int base, int64_t *out)
{
    char b[96], *end, *digits = b;
    if (base != 0 && (base < 2 || base > 36))
        return false;
    if (!number_text(s, b, sizeof b))
        return false;
    digits += *digits == '-' || *digits == '+';
    /* "0b" and "0o" belong to the number in their base, as "0x" does, which strtoll knows. */
    if (*digits == '0' && ((base == 2 && (digits[1] | 0x20) == 'b') || (base == 8 && (digits[1] | 0x20) == 'o')))
        digits += 2;
    if (hex_digit(*digits) < 0 && base <= 16)
        return false;
    errno = 0;
    long long i = strtoll(digits, &end, base);
    if (errno || end == digits || *end)
        return false;
    *out = *b == '-' ? -i : i;
    return true;
}

void parse_float(const struct string *s, double *out, bool *ok)
{
    char b[512], *end;
    *ok = false;
    if (!number_text(s, b, sizeof b) || strchr(b, 'x') || strchr(b, 'X') || strchr(b, 'p') || strchr(b, '('))
        return;
    *out = strtod(b, &end);
    *ok = end != b && !*end;
}
