/* Characters: their properties (utf8proc's tables), their UTF-8. */
#ifndef CADRE_TEXT_UNICODE_H
#define CADRE_TEXT_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at p (n >= 1 bytes are there) and its length; -1 and length 1 if these bytes are not UTF-8. */
int32_t unicode_read(const char *p, size_t n, int *len);
int unicode_write(int32_t c, char out[4]); /* returns the length */

bool unicode_is_space(int32_t c); /* White_Space */
bool unicode_is_mark(int32_t c), unicode_is_nonspacing(int32_t c);
bool unicode_is_control(int32_t c);           /* categories Cc, Cf, Co */
bool unicode_is_word(int32_t c);              /* letters, marks, decimal digits, connectors: \w */
bool unicode_is_ideograph(int32_t c);         /* as BERT counts them */
int unicode_lower(int32_t c, int32_t out[2]); /* returns how many */

#endif
