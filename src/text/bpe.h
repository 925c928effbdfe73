/* Byte-pair merging: a table of merges over token ids, and its application to one word.
 *
 * The rule: of all neighbouring pairs that the table knows, merge the one of lowest rank, the leftmost of equals;
 * repeat until there is none. */
#ifndef CADRE_TEXT_BPE_H
#define CADRE_TEXT_BPE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct bpe_pair {
    int32_t left, right; /* left -1: an empty slot */
    int32_t rank;        /* pairs may share one */
    int32_t id;          /* what the pair becomes */
};

struct bpe_merges {
    struct bpe_pair *slots; /* open addressing, linear probing */
    uint64_t mask;
};

cadre_err bpe_merges_init(struct bpe_merges *m, int64_t n, cadre_error *err);
void bpe_merges_free(struct bpe_merges *m);
/* Of a pair that is added twice the first stays. */
void bpe_merges_add(struct bpe_merges *m, struct bpe_pair pair);

/* Where words are merged; grows to the longest word and is kept from word to word. Begins as {0}. */
struct bpe_work {
    int32_t *ids; /* the word: tokens of its bytes before, merged tokens after */
    const struct bpe_pair **pair;
    int32_t *prev, *next;
    uint64_t *heap;
    size_t capacity;
};

cadre_err bpe_work_reserve(struct bpe_work *w, size_t n, cadre_error *err); /* ids has room for n */
void bpe_work_free(struct bpe_work *w);

/* Merge w->ids[0..n) in place; returns how many are left. O(n log n). */
size_t bpe_merge(const struct bpe_merges *m, struct bpe_work *w, size_t n);

#endif
