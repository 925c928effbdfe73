/* From a text to its number: a hash table over an array of spans that somebody else owns. */
#ifndef CADRE_TEXT_TEXT_INDEX_H
#define CADRE_TEXT_TEXT_INDEX_H

#include <stdbool.h>

#include "text/tokenizer.h"

struct text_index {
    struct text_slot *slots; /* open addressing, linear probing; at most half are used */
    uint64_t mask;
};

/* For up to n texts. */
cadre_err text_index_init(struct text_index *ix, int64_t n, cadre_error *err);
void text_index_free(struct text_index *ix);

/* keys[id] becomes findable; false if an equal text is there already. */
bool text_index_add(struct text_index *ix, const struct text_span *keys, int32_t id);
int32_t text_index_find(const struct text_index *ix, const struct text_span *keys, const char *p, size_t n); /* or -1 */

#endif
