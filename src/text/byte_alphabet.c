#include "text/byte_alphabet.h"

#include <stdbool.h>

/* Visible in Latin-1: not a control character, not a space, not the soft hyphen (U+00AD). */
static bool is_visible(int byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

/* The invisible bytes in order: 00-20, 7F-A0, AD; the k-th is U+0100 + k. */
enum { FIRST_RUN = 0x21, SECOND_RUN = 0xa1 - 0x7f, INVISIBLE = FIRST_RUN + SECOND_RUN + 1 };

static int invisible_rank(int byte)
{
    return byte < FIRST_RUN ? byte : byte < 0xad ? FIRST_RUN + byte - 0x7f : INVISIBLE - 1;
}

static int invisible_at(int rank)
{
    return rank < FIRST_RUN ? rank : rank < INVISIBLE - 1 ? 0x7f + rank - FIRST_RUN : 0xad;
}

size_t byte_to_alphabet(unsigned char byte, char *out)
{
    int c = is_visible(byte) ? byte : 0x100 + invisible_rank(byte);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3f));
    return 2;
}

size_t alphabet_to_bytes(const char *text, size_t n, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n;) {
        unsigned char c = (unsigned char)text[i];
        if (c >= 0xc2 && c <= 0xc5 && i + 1 < n && ((unsigned char)text[i + 1] & 0xc0) == 0x80) {
            int point = (c & 0x1f) << 6 | ((unsigned char)text[i + 1] & 0x3f);
            bool letter = point < 0x100 ? is_visible(point) : point - 0x100 < INVISIBLE;
            if (letter) {
                out[used++] = (char)(point < 0x100 ? point : invisible_at(point - 0x100));
                i += 2;
                continue;
            }
        }
        out[used++] = text[i++];
    }
    return used;
}
