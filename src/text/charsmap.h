/* SentencePiece's precompiled normalizer: a double-array trie from byte strings to replacements.
 *
 *     u32 bytes of the trie | trie: u32 units | replacements, each ended by a 0 byte
 *
 * A unit: bits 0-7 (and 31) the byte it stands for, bit 8 "a string ends here: my first child is its value", bit 9
 * "the offset is in units of 256", bits 10-30 the offset to its children, xor'ed. */
#ifndef CADRE_TEXT_CHARSMAP_H
#define CADRE_TEXT_CHARSMAP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/rules.h"

struct charsmap { /* borrows the bytes it is made from */
    const char *units;
    uint32_t n_units;
    const char *texts;
    uint64_t n_texts;
};

cadre_err charsmap_init(struct charsmap *m, struct text_span bytes, cadre_error *err);
/* The longest (or the first, that is shortest) string of the map that p[0, n) begins with: its length, its replacement
 * into *text; 0 if there is none. */
size_t charsmap_find(const struct charsmap *m, const char *p, size_t n, bool longest, struct text_span *text);

#endif
