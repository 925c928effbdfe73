#include "text/normalizer.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "text/charsmap.h"
#include "text/unicode.h"
#include "text/utf8.h"

struct step {
    struct normal_step s; /* its spans point into `text` */
    char *text;
    struct regex *regex;
    struct charsmap map;
};

struct normalizer {
    int n;
    struct step *step;
};

static cadre_err own_step(struct step *to, const struct normal_step *from, cadre_error *err)
{
    to->s = *from;
    to->text = malloc(from->pattern.n + from->content.n + 1);
    CHECK(err, to->text, CADRE_E_MEMORY, "no memory for a normalizer");
    if (from->pattern.n)
        memcpy(to->text, from->pattern.p, from->pattern.n);
    if (from->content.n)
        memcpy(to->text + from->pattern.n, from->content.p, from->content.n);
    to->s.pattern.p = to->text;
    to->s.content.p = to->text + from->pattern.n;
    if (to->s.regex)
        TRY(regex_new_foreign(&to->regex, to->s.pattern.p, to->s.pattern.n, err));
    else
        CHECK(err, to->s.kind != NORMAL_REPLACE || to->s.pattern.n > 0, CADRE_E_FORMAT,
              "a normalizer that replaces an empty text");
    if (to->s.kind == NORMAL_CHARSMAP)
        TRY(charsmap_init(&to->map, to->s.content, err));
    return CADRE_OK;
}

cadre_err normalizer_new(struct normalizer **out, const struct normal_step *steps, int n, cadre_error *err)
{
    struct normalizer *z = calloc(1, sizeof *z);
    CHECK(err, z, CADRE_E_MEMORY, "no memory for a normalizer");
    z->step = calloc((size_t)n + 1, sizeof *z->step);
    cadre_err rc = z->step ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for %d normalizers", n);
    for (int i = 0; i < n && rc == CADRE_OK; i++, z->n++)
        rc = own_step(&z->step[i], &steps[i], err);
    if (rc) {
        normalizer_free(z);
        return rc;
    }
    *out = z;
    return CADRE_OK;
}

void normalizer_free(struct normalizer *z)
{
    if (!z)
        return;
    /* A step that failed half-made is beyond n, but in the zeroed array. */
    for (int i = 0; z->step && i <= z->n; i++) {
        free(z->step[i].text);
        regex_free(z->step[i].regex);
    }
    free(z->step);
    free(z);
}

void normalizer_work_free(struct normalizer_work *w)
{
    text_buffer_free(&w->a);
    text_buffer_free(&w->b);
}

static bool is_ascii(const char *p, size_t n)
{
    size_t i = 0;
    for (uint64_t eight; n - i >= 8; i += 8) {
        memcpy(&eight, p + i, 8);
        if (eight & 0x8080808080808080u)
            return false;
    }
    for (; i < n; i++)
        if (p[i] & 0x80)
            return false;
    return true;
}

static cadre_err put_char(struct text_buffer *to, int32_t c, cadre_error *err)
{
    char bytes[4];
    return text_buffer_add(to, bytes, (size_t)unicode_write(c, bytes), err);
}

/* ---- Unicode's normal forms ---- */

static cadre_err put_form(struct text_buffer *to, const char *p, size_t n, utf8proc_option_t options, cadre_error *err)
{
    utf8proc_uint8_t *mapped = NULL;
    utf8proc_ssize_t k = utf8proc_map((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)n, &mapped, options);
    CHECK(err, k >= 0, k == UTF8PROC_ERROR_NOMEM ? CADRE_E_MEMORY : CADRE_E_ARG, "normalizing %zu bytes: %s", n,
          utf8proc_errmsg(k));
    cadre_err rc = text_buffer_add(to, (const char *)mapped, (size_t)k, err);
    free(mapped);
    return rc;
}

/* Normalizes stretches that are not ASCII, each with the ASCII character before it, which may join with a mark. */
static cadre_err to_form(const struct step *st, struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    static const utf8proc_option_t options[] = {
        [NORMAL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
        [NORMAL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
        [NORMAL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
        [NORMAL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
    };
    for (size_t i = 0; i < n;) {
        size_t begin = i;
        while (i < n && !(p[i] & 0x80))
            i++;
        size_t ascii = i;
        for (int len; i < n && (p[i] & 0x80); i += (size_t)len)
            if ((len = utf8_char((const unsigned char *)p + i, n - i)) <= 0)
                break;
        size_t join = ascii > begin && i > ascii ? ascii - 1 : ascii;
        TRY(text_buffer_add(to, p + begin, join - begin, err));
        if (i > ascii)
            TRY(put_form(to, p + join, i - join, options[st->s.kind], err));
        if (i < n && (p[i] & 0x80)) /* not UTF-8 */
            TRY(text_buffer_add(to, p + i++, 1, err));
    }
    return CADRE_OK;
}

/* ---- character by character ---- */

static cadre_err map_char(const struct step *st, struct text_buffer *to, int32_t c, cadre_error *err)
{
    int32_t lower[2];
    switch (st->s.kind) {
    case NORMAL_LOWERCASE:
        for (int i = 0, k = unicode_lower(c, lower); i < k; i++)
            TRY(put_char(to, lower[i], err));
        return CADRE_OK;
    case NORMAL_DROP_MARKS:
        return (st->s.nonspacing ? unicode_is_nonspacing(c) : unicode_is_mark(c)) ? CADRE_OK : put_char(to, c, err);
    case NORMAL_CLEAN:
        if (c == '\t' || c == '\n' || c == '\r' || unicode_is_space(c))
            return put_char(to, ' ', err);
        return c == 0 || c == 0xfffd || unicode_is_control(c) ? CADRE_OK : put_char(to, c, err);
    case NORMAL_SPACE_IDEOGRAPHS:
        if (!unicode_is_ideograph(c))
            return put_char(to, c, err);
        TRY(put_char(to, ' ', err));
        TRY(put_char(to, c, err));
        return put_char(to, ' ', err);
    default:
        return put_char(to, c, err);
    }
}

static cadre_err each_char(const struct step *st, struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    for (size_t i = 0; i < n;) {
        int len;
        int32_t c = unicode_read(p + i, n - i, &len);
        TRY(c < 0 ? text_buffer_add(to, p + i, 1, err) : map_char(st, to, c, err));
        i += (size_t)len;
    }
    return CADRE_OK;
}

/* ---- the others ---- */

static cadre_err strip(const struct step *st, struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    int len;
    size_t begin = 0, end = n;
    while (st->s.left && begin < n && unicode_is_space(unicode_read(p + begin, n - begin, &len)))
        begin += (size_t)len;
    while (st->s.right && end > begin) {
        size_t at = end - 1;
        while (at > begin && (p[at] & 0xc0) == 0x80)
            at--;
        if (!unicode_is_space(unicode_read(p + at, end - at, &len)) || at + (size_t)len != end)
            break;
        end = at;
    }
    return text_buffer_add(to, p + begin, end - begin, err);
}

static cadre_err replace_literal(const struct step *st, struct text_buffer *to, const char *p, size_t n,
                                 cadre_error *err)
{
    const char *end = p + n;
    for (const char *hit; (hit = memmem(p, (size_t)(end - p), st->s.pattern.p, st->s.pattern.n));
         p = hit + st->s.pattern.n) {
        TRY(text_buffer_add(to, p, (size_t)(hit - p), err));
        TRY(text_buffer_add(to, st->s.content.p, st->s.content.n, err));
    }
    return text_buffer_add(to, p, (size_t)(end - p), err);
}

static cadre_err replace_regex(const struct step *st, struct regex_match *m, struct text_buffer *to, const char *p,
                               size_t n, cadre_error *err)
{
    for (size_t at = 0; at < n;) {
        size_t valid = utf8_valid_prefix(p + at, n - at), from = 0, done = 0;
        while (from <= valid) {
            bool found;
            size_t start, end;
            TRY(regex_next(st->regex, m, p + at, valid, from, &found, &start, &end, err));
            if (!found)
                break;
            TRY(text_buffer_add(to, p + at + done, start - done, err));
            TRY(text_buffer_add(to, st->s.content.p, st->s.content.n, err));
            done = end;
            int len = 0;
            if (end == start && end < valid)
                unicode_read(p + at + end, valid - end, &len);
            from = end == start ? end + (len ? (size_t)len : 1) : end;
        }
        TRY(text_buffer_add(to, p + at + done, valid - done, err));
        at += valid;
        for (; at < n && utf8_char((const unsigned char *)p + at, n - at) <= 0; at++)
            TRY(text_buffer_add(to, p + at, 1, err));
    }
    return CADRE_OK;
}

static size_t char_length(const char *p, size_t n)
{
    int len = utf8_char((const unsigned char *)p, n);
    return len > 0 ? (size_t)len : 1;
}

/* SentencePiece: the longest string of the map at each place. */
static cadre_err map_strings(const struct step *st, struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    for (size_t i = 0; i < n;) {
        struct text_span text;
        size_t k = charsmap_find(&st->map, p + i, n - i, true, &text);
        if (k == 0) {
            k = char_length(p + i, n - i);
            text = (struct text_span){p + i, k};
        }
        TRY(text_buffer_add(to, text.p, text.n, err));
        i += k;
    }
    return CADRE_OK;
}

static size_t grapheme_length(const char *p, size_t n)
{
    int len, state = 0;
    size_t i = 0;
    for (int32_t before = -1; i < n; i += (size_t)len) {
        int32_t c = unicode_read(p + i, n - i, &len);
        if (i > 0 && (c < 0 || before < 0 || utf8proc_grapheme_break_stateful(before, c, &state)))
            break;
        before = c;
    }
    return i;
}

/* Hugging Face: a grapheme of fewer than 6 bytes is looked up as a whole, where the shortest string that it begins with
 * stands for all of it; if there is none, and for longer ones, its characters are. */
static cadre_err map_graphemes(const struct step *st, struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    for (size_t i = 0, k; i < n; i += k) {
        struct text_span text;
        k = grapheme_length(p + i, n - i);
        if (k < 6 && charsmap_find(&st->map, p + i, k, false, &text)) {
            TRY(text_buffer_add(to, text.p, text.n, err));
            continue;
        }
        for (size_t j = i, len; j < i + k; j += len) {
            len = char_length(p + j, i + k - j);
            if (!charsmap_find(&st->map, p + j, len, false, &text))
                text = (struct text_span){p + j, len};
            TRY(text_buffer_add(to, text.p, text.n, err));
        }
    }
    return CADRE_OK;
}

static cadre_err collapse(struct text_buffer *to, const char *p, size_t n, cadre_error *err)
{
    for (size_t i = 0; i < n;) {
        size_t begin = i;
        while (i < n && p[i] == ' ')
            i++;
        if (i > begin && begin > 0 && i < n)
            TRY(text_buffer_add(to, " ", 1, err));
        begin = i;
        while (i < n && p[i] != ' ')
            i++;
        TRY(text_buffer_add(to, p + begin, i - begin, err));
    }
    return CADRE_OK;
}

static cadre_err apply(const struct step *st, struct regex_match *m, struct text_buffer *to, const char *p, size_t n,
                       cadre_error *err)
{
    switch (st->s.kind) {
    case NORMAL_NFC:
    case NORMAL_NFD:
    case NORMAL_NFKC:
    case NORMAL_NFKD:
        return to_form(st, to, p, n, err);
    case NORMAL_LOWERCASE:
    case NORMAL_DROP_MARKS:
    case NORMAL_CLEAN:
    case NORMAL_SPACE_IDEOGRAPHS:
        return each_char(st, to, p, n, err);
    case NORMAL_STRIP:
        return strip(st, to, p, n, err);
    case NORMAL_PREPEND:
        TRY(text_buffer_add(to, st->s.content.p, st->s.content.n, err));
        return text_buffer_add(to, p, n, err);
    case NORMAL_APPEND:
        TRY(text_buffer_add(to, p, n, err));
        return text_buffer_add(to, st->s.content.p, st->s.content.n, err);
    case NORMAL_REPLACE:
        return st->regex ? replace_regex(st, m, to, p, n, err) : replace_literal(st, to, p, n, err);
    case NORMAL_CHARSMAP:
        return st->s.graphemes ? map_graphemes(st, to, p, n, err) : map_strings(st, to, p, n, err);
    case NORMAL_COLLAPSE:
        return collapse(to, p, n, err);
    }
    return CADRE_OK;
}

/* Steps that leave ASCII as it is. */
static bool keeps_ascii(const struct step *st)
{
    return st->s.kind <= NORMAL_NFKD || st->s.kind == NORMAL_DROP_MARKS || st->s.kind == NORMAL_SPACE_IDEOGRAPHS;
}

cadre_err normalizer_run(const struct normalizer *z, struct normalizer_work *w, struct regex_match *m, const char *p,
                         size_t n, const char **out, size_t *n_out, cadre_error *err)
{
    struct text_buffer *to = &w->a, *other = &w->b;
    for (int i = 0; i < z->n && n > 0; i++) {
        if (keeps_ascii(&z->step[i]) && is_ascii(p, n))
            continue;
        to->n = 0;
        TRY(text_buffer_reserve(to, n + n / 8, err));
        TRY(apply(&z->step[i], m, to, p, n, err));
        p = to->p, n = to->n;
        struct text_buffer *swap = to;
        to = other, other = swap;
    }
    *out = p, *n_out = n;
    return CADRE_OK;
}
