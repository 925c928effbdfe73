/* What a well-formed UTF-8 character is (Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above
 * U+10FFFF), said once for all who cut text. */
#ifndef CADRE_TEXT_UTF8_H
#define CADRE_TEXT_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Length of the character that begins at p[0] (n >= 1 bytes are there); 0 if no character can begin so; -1 if the
 * bytes are the beginning of one that needs more. */
static inline int utf8_char(const unsigned char *p, size_t n)
{
    unsigned char c = p[0];
    if (c < 0x80)
        return 1;
    if (c < 0xc2 || c > 0xf4)
        return 0;
    int len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    /* The second byte is where overlong forms (E0, F0), surrogates (ED) and too large values (F4) show. */
    unsigned char low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    unsigned char high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n)
            return -1;
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80, high = 0xbf;
    }
    return len;
}

/* How many of the n bytes, from the first on, are whole characters. */
static inline size_t utf8_valid_prefix(const char *text, size_t n)
{
    const unsigned char *p = (const unsigned char *)text;
    size_t i = 0;
    while (i < n) {
        unsigned long long eight;
        while (n - i >= sizeof eight) { /* plain ASCII, eight bytes at a time */
            memcpy(&eight, p + i, sizeof eight);
            if (eight & 0x8080808080808080ull)
                break;
            i += sizeof eight;
        }
        if (i == n)
            break;
        int len = utf8_char(p + i, n - i);
        if (len <= 0)
            break;
        i += (size_t)len;
    }
    return i;
}

#endif
