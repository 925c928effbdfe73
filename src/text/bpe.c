#include "text/bpe.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

cadre_err bpe_merges_init(struct bpe_merges *m, int64_t n, cadre_error *err)
{
    uint64_t size = 16;
    while (size < 2 * (uint64_t)n)
        size *= 2;
    m->mask = size - 1;
    m->slots = malloc(size * sizeof *m->slots);
    CHECK(err, m->slots, CADRE_E_MEMORY, "no memory for a table of %lld merges", (long long)n);
    for (uint64_t i = 0; i < size; i++)
        m->slots[i].left = -1;
    return CADRE_OK;
}

void bpe_merges_free(struct bpe_merges *m)
{
    free(m->slots);
    m->slots = NULL;
}

static uint64_t slot_of(const struct bpe_merges *m, int32_t left, int32_t right)
{
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    key *= 0x9e3779b97f4a7c15u; /* Fibonacci hashing: the high bits depend on all of the key */
    uint64_t i = (key >> 32) & m->mask;
    while (m->slots[i].left >= 0 && (m->slots[i].left != left || m->slots[i].right != right))
        i = (i + 1) & m->mask;
    return i;
}

void bpe_merges_add(struct bpe_merges *m, struct bpe_pair pair)
{
    uint64_t i = slot_of(m, pair.left, pair.right);
    if (m->slots[i].left < 0)
        m->slots[i] = pair;
}

static const struct bpe_pair *find(const struct bpe_merges *m, int32_t left, int32_t right)
{
    const struct bpe_pair *p = &m->slots[slot_of(m, left, right)];
    return p->left >= 0 ? p : NULL;
}

cadre_err bpe_work_reserve(struct bpe_work *w, size_t n, cadre_error *err)
{
    if (n <= w->capacity)
        return CADRE_OK;
    CHECK(err, n <= INT32_MAX, CADRE_E_ARG, "a word of %zu bytes; at most %d can be merged: cut the text", n,
          INT32_MAX);
    bpe_work_free(w);
    size_t capacity = align_up(n + n / 2, 64);
    w->ids = malloc(capacity * sizeof *w->ids);
    w->pair = malloc(capacity * sizeof *w->pair);
    w->prev = malloc(capacity * sizeof *w->prev);
    w->next = malloc(capacity * sizeof *w->next);
    /* Each of n symbols begins one pair, each of fewer than n merges makes two new ones. */
    w->heap = malloc(3 * capacity * sizeof *w->heap);
    if (!w->ids || !w->pair || !w->prev || !w->next || !w->heap) {
        bpe_work_free(w);
        return error_set(err, CADRE_E_MEMORY, "no memory to merge a word of %zu bytes", n);
    }
    w->capacity = capacity;
    return CADRE_OK;
}

void bpe_work_free(struct bpe_work *w)
{
    free(w->ids);
    free(w->pair);
    free(w->prev);
    free(w->next);
    free(w->heap);
    *w = (struct bpe_work){0};
}

/* For the short words of ordinary text: look for the best pair each time, close the gap by moving. */
static size_t merge_short(const struct bpe_merges *m, struct bpe_work *w, size_t n)
{
    int32_t *ids = w->ids;
    const struct bpe_pair **pair = w->pair;
    for (size_t i = 0; i + 1 < n; i++)
        pair[i] = find(m, ids[i], ids[i + 1]);
    for (;;) {
        size_t best = n;
        int32_t rank = INT32_MAX;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i] && pair[i]->rank < rank)
                best = i, rank = pair[i]->rank;
        if (best == n)
            return n;
        ids[best] = pair[best]->id;
        n--;
        memmove(ids + best + 1, ids + best + 2, (n - best - 1) * sizeof *ids);
        memmove(pair + best, pair + best + 1, (n - best - 1) * sizeof *pair);
        if (best > 0)
            pair[best - 1] = find(m, ids[best - 1], ids[best]);
        if (best + 1 < n)
            pair[best] = find(m, ids[best], ids[best + 1]);
    }
}

/* A binary heap of rank << 32 | position: the smallest is the next merge. */
static void heap_push(uint64_t *heap, size_t *n, uint64_t v)
{
    size_t i = (*n)++;
    for (; i > 0 && heap[(i - 1) / 2] > v; i = (i - 1) / 2)
        heap[i] = heap[(i - 1) / 2];
    heap[i] = v;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n)
{
    uint64_t top = heap[0], v = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= v)
            break;
        heap[i] = heap[child];
    }
    heap[i] = v;
    return top;
}

static void look_up(const struct bpe_merges *m, struct bpe_work *w, size_t *n_heap, int32_t at)
{
    int32_t next = w->next[at];
    const struct bpe_pair *p = next >= 0 ? find(m, w->ids[at], w->ids[next]) : NULL;
    w->pair[at] = p;
    if (p)
        heap_push(w->heap, n_heap, (uint64_t)p->rank << 32 | (uint32_t)at);
}

/* For long words: a linked list of symbols and a heap of pairs. A heap entry is out of date, and skipped, when its
 * position begins a pair of another rank by now; one of equal rank is as good. */
static size_t merge_long(const struct bpe_merges *m, struct bpe_work *w, size_t n)
{
    size_t n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        w->prev[i] = (int32_t)i - 1;
        w->next[i] = i + 1 < n ? (int32_t)i + 1 : -1;
    }
    for (size_t i = 0; i < n; i++)
        look_up(m, w, &n_heap, (int32_t)i);
    while (n_heap > 0) {
        uint64_t top = heap_pop(w->heap, &n_heap);
        int32_t at = (int32_t)(uint32_t)top;
        const struct bpe_pair *p = w->pair[at];
        if (!p || (uint64_t)p->rank != top >> 32)
            continue;
        int32_t gone = w->next[at];
        w->ids[at] = p->id;
        w->pair[gone] = NULL;
        w->next[at] = w->next[gone];
        if (w->next[at] >= 0)
            w->prev[w->next[at]] = at;
        if (w->prev[at] >= 0)
            look_up(m, w, &n_heap, w->prev[at]);
        look_up(m, w, &n_heap, at);
    }
    size_t left = 0;
    for (int32_t i = 0; i >= 0; i = w->next[i])
        w->ids[left++] = w->ids[i];
    return left;
}

size_t bpe_merge(const struct bpe_merges *m, struct bpe_work *w, size_t n)
{
    enum { SHORT = 48 }; /* above this the heap is faster */
    return n <= SHORT ? merge_short(m, w, n) : merge_long(m, w, n);
}
