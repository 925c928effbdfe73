/* How often each word occurs: a hash table from words to counts. Words are borrowed from the texts, which must outlive
 * the table. Counts are sums of integers, so that they do not depend on who counted what. */
#ifndef CADRE_TEXT_WORD_COUNT_H
#define CADRE_TEXT_WORD_COUNT_H

#include <stdint.h>

#include "base/error.h"

struct word {
    const char *p; /* NULL: an empty slot */
    uint32_t n, hash;
    int64_t count;
};

struct word_count {
    struct word *slots;  /* open addressing, linear probing */
    uint64_t size, used; /* a power of two, or 0 */
};

cadre_err word_count_add(struct word_count *w, const char *p, size_t n, int64_t count, cadre_error *err);
cadre_err word_count_merge(struct word_count *into, const struct word_count *from, cadre_error *err);
void word_count_free(struct word_count *w);

#endif
