#include "text/template/lexer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/chars.h"

struct lexer {
    struct ctx *c;
    const char *p, *end; /* what is left */
    const char *counted; /* up to where lines were counted */
    bool line_start;     /* the last tag took the end of its line with it */
    struct token *tokens;
    size_t n, room;
};

static void count_lines(struct lexer *x)
{
    for (; x->counted < x->p; x->counted++)
        x->c->line += *x->counted == '\n';
}

static cadre_err emit(struct lexer *x, enum token_sort sort, const char *p, size_t n, struct value value)
{
    if (x->n == x->room) {
        size_t room = 2 * x->room + 64;
        struct token *more = ctx_array(x->c, room, sizeof *more);
        NEED(x->c, more);
        if (x->n)
            memcpy(more, x->tokens, x->n * sizeof *more);
        x->tokens = more;
        x->room = room;
    }
    count_lines(x);
    x->tokens[x->n++] = (struct token){sort, x->c->line, p, n, value};
    return CADRE_OK;
}

static bool at(const struct lexer *x, const char *s)
{
    size_t n = strlen(s);
    return (size_t)(x->end - x->p) >= n && memcmp(x->p, s, n) == 0;
}

static void skip_space(struct lexer *x)
{
    x->p += space_prefix(x->p, (size_t)(x->end - x->p));
}

/* ---- the ends of tags ---- */

/* At "%}", "-%}" or "+%}": go past it and the white space that it eats. newline: a plain end eats one (trim_blocks). */
static bool tag_end(struct lexer *x, const char *end, bool newline)
{
    const char *p = x->p;
    char sign = p < x->end && (*p == '-' || (*p == '+' && newline)) ? *p : 0;
    p += sign != 0;
    if ((size_t)(x->end - p) < 2 || memcmp(p, end, 2) != 0)
        return false;
    x->p = p + 2;
    if (sign == '-')
        skip_space(x);
    else if (!sign && newline && x->p < x->end && *x->p == '\n')
        x->p++;
    x->line_start = x->p[-1] == '\n';
    return true;
}

/* ---- literals ---- */

static cadre_err escape(struct lexer *x, struct text *t)
{
    static const char letters[] = "abfnrtv\\'\"", bytes[] = "\a\b\f\n\r\t\v\\'\"";
    char e = *x->p++;
    const char *hit = memchr(letters, e, sizeof letters - 1);
    int digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0;
    if (hit)
        return text_add(x->c, t, bytes + (hit - letters), 1);
    if (e == '\n')
        return CADRE_OK;
    int64_t code = 0;
    if (digits) {
        for (int i = 0; i < digits; i++, x->p++) {
            int d = x->p < x->end ? hex_digit(*x->p) : -1;
            if (d < 0)
                return ctx_fail(x->c, CADRE_E_FORMAT, "\\%c in a string: expected %d hexadecimal digits", e, digits);
            code = code * 16 + d;
        }
    } else if (e >= '0' && e <= '7') {
        code = e - '0';
        for (int i = 0; i < 2 && x->p < x->end && *x->p >= '0' && *x->p <= '7'; i++)
            code = code * 8 + (*x->p++ - '0');
    } else {
        TRY(text_add(x->c, t, "\\", 1)); /* not an escape: both characters stay */
        return text_add(x->c, t, &e, 1);
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return ctx_fail(x->c, CADRE_E_FORMAT, "\\%c in a string: U+%llX is not a character", e, (long long)code);
    return text_char(x->c, t, (int32_t)code);
}

static cadre_err lex_string(struct lexer *x)
{
    struct text t = {0};
    struct value v;
    char quote = *x->p++;
    while (x->p < x->end && *x->p != quote) {
        if (*x->p == '\\' && x->p + 1 < x->end) {
            x->p++;
            TRY(escape(x, &t));
        } else {
            TRY(text_add(x->c, &t, x->p++, 1));
        }
    }
    if (x->p == x->end)
        return ctx_fail(x->c, CADRE_E_FORMAT, "a string begins here and does not end: expected %c", quote);
    x->p++;
    TRY(string_from_text(x->c, &t, &v));
    return emit(x, TOKEN_LITERAL, NULL, 0, v);
}

/* Copy digits of a base, which "_" may group; returns how many there were. */
static size_t digits(struct lexer *x, int base, char *to, size_t room)
{
    size_t n = 0;
    while (x->p < x->end) {
        const char *q = x->p + (*x->p == '_' && n > 0);
        int d = q < x->end ? hex_digit(*q) : -1;
        if (d < 0 || d >= base)
            break;
        if (n + 1 < room)
            to[n] = *q;
        n++;
        x->p = q + 1;
    }
    to[n < room ? n : room - 1] = 0;
    return n;
}

static cadre_err lex_number(struct lexer *x)
{
    enum { ROOM = 64 };
    char b[3 * ROOM], *end;
    int base = 10;
    if (*x->p == '0' && x->end - x->p > 2) {
        char mark = (char)(x->p[1] | 0x20);
        base = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 10;
        x->p += base != 10 ? 2 : 0;
    }
    size_t n = digits(x, base, b, ROOM);
    bool real = false, member = x->n && x->tokens[x->n - 1].sort == TOKEN_SIGN && *x->tokens[x->n - 1].p == '.';
    if (base == 10 && !member && n < ROOM) {
        if (x->end - x->p > 1 && *x->p == '.' && x->p[1] >= '0' && x->p[1] <= '9') {
            real = true;
            b[n++] = *x->p++;
            n += digits(x, 10, b + n, ROOM);
        }
        const char *q = x->p;
        if (q < x->end && (*q | 0x20) == 'e') {
            q++;
            q += q < x->end && (*q == '+' || *q == '-');
            if (q < x->end && *q >= '0' && *q <= '9') {
                real = true;
                while (x->p < q && n < 2 * ROOM)
                    b[n++] = *x->p++;
                n += digits(x, 10, b + n, ROOM);
            }
        }
    }
    errno = 0;
    if (real && n < sizeof b)
        return emit(x, TOKEN_LITERAL, NULL, 0, value_float(strtod(b, NULL)));
    long long i = strtoll(b, &end, base);
    if (errno || end == b || *end || n >= ROOM)
        return ctx_fail(x->c, CADRE_E_FORMAT, "the number %.20s is malformed or larger than 64 bits", b);
    return emit(x, TOKEN_LITERAL, NULL, 0, value_int(i));
}

/* ---- inside of a tag ---- */

static cadre_err lex_sign(struct lexer *x, char *open, int *depth)
{
    static const char *const two[] = {"**", "//", "==", "!=", ">=", "<="};
    enum { MAX_OPEN = 256 };
    size_t n = 0;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (at(x, two[i]))
            n = 2;
    if (n == 0 && memchr("+-/*%~[](){}><=.:|,;", *x->p, 20))
        n = 1;
    if (n == 0)
        return ctx_fail(x->c, CADRE_E_FORMAT, "unexpected character '%.*s'",
                        (int)char_length(x->p, (size_t)(x->end - x->p)), x->p);
    char ch = n == 1 ? *x->p : 0;
    if (ch == '(' || ch == '[' || ch == '{') {
        if (*depth == MAX_OPEN || *depth == x->c->limits->depth)
            return ctx_fail(x->c, CADRE_E_MEMORY, "brackets nested more than %d levels deep", *depth);
        open[(*depth)++] = ch == '(' ? ')' : ch == '[' ? ']' : '}';
    } else if (ch == ')' || ch == ']' || ch == '}') {
        if (*depth == 0)
            return ctx_fail(x->c, CADRE_E_FORMAT, "unexpected '%c': nothing is open", ch);
        if (open[--*depth] != ch)
            return ctx_fail(x->c, CADRE_E_FORMAT, "expected '%c', found '%c'", open[*depth], ch);
    }
    x->p += n;
    return emit(x, TOKEN_SIGN, x->p - n, n, VALUE_NONE);
}

static cadre_err lex_tag(struct lexer *x, bool print)
{
    char open[256];
    int depth = 0, first_line;
    TRY(emit(x, print ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, x->p, 0, VALUE_NONE));
    first_line = x->c->line;
    for (;;) {
        skip_space(x);
        count_lines(x);
        if (x->p == x->end) {
            x->c->line = first_line;
            return ctx_fail(x->c, CADRE_E_FORMAT, "a tag begins here and does not end: expected '%s'",
                            print ? "}}" : "%}");
        }
        const char *here = x->p;
        if (depth == 0 && tag_end(x, print ? "}}" : "%}", !print))
            return emit(x, print ? TOKEN_PRINT_END : TOKEN_BLOCK_END, here, 2, VALUE_NONE);
        if (*x->p == '"' || *x->p == '\'') {
            TRY(lex_string(x));
        } else if (*x->p >= '0' && *x->p <= '9') {
            TRY(lex_number(x));
        } else if (is_word_byte(*x->p)) {
            while (x->p < x->end && is_word_byte(*x->p))
                x->p++;
            TRY(emit(x, TOKEN_WORD, here, (size_t)(x->p - here), VALUE_NONE));
        } else {
            TRY(lex_sign(x, open, &depth));
        }
    }
}

/* ---- between tags ---- */

/* Text before a tag: "-" strips it, and a block tag alone on its line strips the blanks before it (lstrip_blocks). */
static cadre_err emit_text(struct lexer *x, const char *p, size_t n, char sign, bool block)
{
    if (sign == '-') {
        n -= space_suffix(p, n);
    } else if (sign != '+' && block) {
        const char *newline = n ? memrchr(p, '\n', n) : NULL;
        const char *line = newline ? newline + 1 : p;
        size_t rest = n - (size_t)(line - p);
        if ((newline || x->line_start) && space_prefix(line, rest) == rest)
            n -= rest;
    }
    return n ? emit(x, TOKEN_TEXT, p, n, VALUE_NONE) : CADRE_OK;
}

static char take_sign(struct lexer *x)
{
    return x->p < x->end && (*x->p == '-' || *x->p == '+') ? *x->p++ : 0;
}

static cadre_err skip_comment(struct lexer *x)
{
    const char *close = memmem(x->p, (size_t)(x->end - x->p), "#}", 2);
    if (!close)
        return ctx_fail(x->c, CADRE_E_FORMAT, "a comment begins here and does not end: expected '#}'");
    x->p = close - (close > x->p && (close[-1] == '-' || close[-1] == '+'));
    tag_end(x, "#}", true);
    return CADRE_OK;
}

/* "{% word %}" at x->p, its "{%" and sign read; goes past the word. */
static bool take_word(struct lexer *x, const char *word)
{
    const char *start = x->p;
    skip_space(x);
    if (at(x, word)) {
        x->p += strlen(word);
        skip_space(x);
        if (at(x, "%}") || at(x, "-%}") || at(x, "+%}"))
            return true;
    }
    x->p = start;
    return false;
}

/* Behind the word of {% raw %}. */
static cadre_err lex_raw(struct lexer *x)
{
    int line = x->c->line;
    if (!tag_end(x, "%}", false))
        return ctx_fail(x->c, CADRE_E_FORMAT, "raw: expected '%%}'");
    const char *begin = x->p, *close = begin;
    while ((close = memmem(close, (size_t)(x->end - close), "{%", 2))) {
        x->p = close + 2;
        char sign = take_sign(x);
        if (take_word(x, "endraw")) {
            TRY(emit_text(x, begin, (size_t)(close - begin), sign, true));
            tag_end(x, "%}", true);
            return CADRE_OK;
        }
        close += 2;
    }
    x->c->line = line;
    return ctx_fail(x->c, CADRE_E_FORMAT, "{%% raw %%} begins here and does not end: expected '{%% endraw %%}'");
}

/* The next "{{", "{%" or "{#", or the end. */
static const char *next_tag(const struct lexer *x)
{
    const char *p = x->p;
    while (p < x->end && (p = memchr(p, '{', (size_t)(x->end - p)))) {
        if (x->end - p > 1 && (p[1] == '{' || p[1] == '%' || p[1] == '#'))
            return p;
        p++;
    }
    return x->end;
}

cadre_err lex(struct ctx *c, const char *source, size_t n, struct token **tokens)
{
    struct lexer x = {.c = c, .p = source, .counted = source, .end = source + n, .line_start = true};
    c->line = 1;
    while (x.p < x.end) {
        const char *text = x.p, *tag = next_tag(&x);
        if (tag == x.end) {
            x.p = x.end;
            TRY(emit(&x, TOKEN_TEXT, text, (size_t)(x.end - text), VALUE_NONE));
            break;
        }
        x.p = tag + 2;
        char sign = take_sign(&x), sort = tag[1];
        TRY(emit_text(&x, text, (size_t)(tag - text), sign, sort != '{'));
        count_lines(&x);
        if (sort == '#')
            TRY(skip_comment(&x));
        else if (sort == '%' && take_word(&x, "raw"))
            TRY(lex_raw(&x));
        else
            TRY(lex_tag(&x, sort == '{'));
    }
    TRY(emit(&x, TOKEN_EOF, "", 0, VALUE_NONE));
    *tokens = x.tokens;
    return CADRE_OK;
}
