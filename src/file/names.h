/* Names that come from files: found by hash, checked for UTF-8, and shown in error texts. */
#ifndef CADRE_FILE_NAMES_H
#define CADRE_FILE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Open addressing with linear probing, at most half full. The names are borrowed. {0} is an empty index. */
struct name_slot {
    const char *name; /* NULL = free */
    uint64_t hash;
    int64_t item;
};
struct name_index {
    struct name_slot *slot;
    size_t n_slots; /* 0 or a power of two */
    size_t n;
};

/* *taken tells whether the name was there already; it is then left as it is. */
cadre_err name_index_put(struct name_index *ix, const char *name, int64_t item, bool *taken, cadre_error *err);
int64_t name_index_get(const struct name_index *ix, const char *name); /* -1 if absent */
void name_index_free(struct name_index *ix);

bool utf8_ok(const char *s, size_t n);

/* A name as an error text may show it: printable ASCII, cut to a length that leaves room for the rest. Names of a
 * hostile file must not reach a terminal or a log with control characters in them. */
struct shown {
    char s[100];
};
struct shown shown(const char *name, size_t n);

#endif
