/* Characters as Python sees them. */
#ifndef CADRE_TEXT_TEMPLATE_CHARS_H
#define CADRE_TEXT_TEMPLATE_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character at p, which is valid UTF-8. */
size_t char_length(const char *p, size_t n);
/* Its code point; *len its bytes. */
int32_t char_decode(const char *p, size_t n, size_t *len);

bool char_is_space(int32_t code);
bool char_is_printable(int32_t code); /* as for repr() */
bool char_is_alpha(int32_t code);
bool char_is_digit(int32_t code);
bool char_is_upper(int32_t code);
bool char_is_lower(int32_t code);
/* Upper, lower and title case; up to 3 code points, returns how many. */
int char_upper(int32_t code, int32_t out[3]);
int char_lower(int32_t code, int32_t out[3]);
int char_title(int32_t code, int32_t out[3]);

/* Bytes of white space at the beginning and end of valid UTF-8. */
size_t space_prefix(const char *p, size_t n);
size_t space_suffix(const char *p, size_t n);

static inline int hex_digit(char ch)
{
    return ch >= '0' && ch <= '9' ? ch - '0' : (ch | 0x20) >= 'a' && (ch | 0x20) <= 'f' ? (ch | 0x20) - 'a' + 10 : -1;
}

static inline bool is_word_byte(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') || ch == '_' || (ch & 0x80);
}

#endif
