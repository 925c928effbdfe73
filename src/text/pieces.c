#include "text/pieces.h"

#include <stdlib.h>
#include <string.h>

#include "text/byte_alphabet.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* <0xXX> → XX, else -1 */
static int byte_of_name(struct text_span s)
{
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>' || hex_digit(s.p[3]) < 0 || hex_digit(s.p[4]) < 0)
        return -1;
    return hex_digit(s.p[3]) << 4 | hex_digit(s.p[4]);
}

static bool begins_with(struct text_span s, struct text_span with)
{
    return with.n > 0 && s.n >= with.n && memcmp(s.p, with.p, with.n) == 0;
}

static size_t write_blanks(struct text_span s, struct text_span blank, char *out)
{
    char *end = out;
    while (s.n > 0) {
        if (begins_with(s, blank)) {
            *end++ = ' ';
            s.p += blank.n, s.n -= blank.n;
        } else {
            *end++ = *s.p++;
            s.n--;
        }
    }
    return (size_t)(end - out);
}

/* The piece of a token that is part of text; out has room for s.n + 1 bytes. */
static size_t write_piece(struct text_span s, const struct decode_rules *r, bool is_byte, char *out)
{
    int byte = is_byte || r->byte_tokens ? byte_of_name(s) : -1;
    if (byte >= 0) {
        *out = (char)byte;
        return 1;
    }
    if (r->byte_alphabet)
        return alphabet_to_bytes(s.p, s.n, out);
    char *end = out;
    if (begins_with(s, r->continues))
        s.p += r->continues.n, s.n -= r->continues.n;
    else if (r->continues.n > 0)
        *end++ = ' ';
    bool suffixed = r->word_suffix.n > 0 && s.n >= r->word_suffix.n &&
                    memcmp(s.p + s.n - r->word_suffix.n, r->word_suffix.p, r->word_suffix.n) == 0;
    if (suffixed)
        s.n -= r->word_suffix.n;
    end += write_blanks(s, r->blank, end);
    if (suffixed)
        *end++ = ' ';
    return (size_t)(end - out);
}

static bool is_text(unsigned char kind)
{
    return kind == TOKEN_NORMAL || kind == TOKEN_BYTE || kind == TOKEN_UNUSED;
}

cadre_err pieces_new(char **text, struct text_span **piece, const struct tokenizer_tables *from,
                     const struct decode_rules *rules, const unsigned char *kind, cadre_error *err)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < from->n_tokens; i++)
        bytes += from->tokens[i].n;
    *text = malloc(bytes + (uint64_t)from->n_tokens + 1);
    *piece = malloc((size_t)from->n_tokens * sizeof **piece);
    CHECK(err, *text && *piece, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)from->n_tokens);
    char *end = *text;
    for (int64_t i = 0; i < from->n_tokens; i++) {
        struct text_span s = from->tokens[i];
        size_t n = s.n;
        if (is_text(kind[i]))
            n = write_piece(s, rules, kind[i] == TOKEN_BYTE, end);
        else if (n > 0)
            memcpy(end, s.p, n);
        (*piece)[i] = (struct text_span){end, n};
        end += n;
    }
    return CADRE_OK;
}
