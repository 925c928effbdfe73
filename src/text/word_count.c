#include "text/word_count.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

static struct word *slot_of(const struct word_count *w, const char *p, uint32_t n, uint32_t hash)
{
    for (uint64_t i = hash & (w->size - 1);; i = (i + 1) & (w->size - 1)) {
        struct word *s = &w->slots[i];
        if (!s->p || (s->hash == hash && s->n == n && memcmp(s->p, p, n) == 0))
            return s;
    }
}

static cadre_err grow(struct word_count *w, cadre_error *err)
{
    struct word_count bigger = {.size = w->size ? 2 * w->size : 1024, .used = w->used};
    CHECK(err, bigger.size <= UINT32_MAX, CADRE_E_MEMORY, "more than %llu different words",
          (unsigned long long)w->used);
    bigger.slots = calloc(bigger.size, sizeof *bigger.slots);
    CHECK(err, bigger.slots, CADRE_E_MEMORY, "no memory for %llu different words", (unsigned long long)bigger.size);
    for (uint64_t i = 0; i < w->size; i++)
        if (w->slots[i].p)
            *slot_of(&bigger, w->slots[i].p, w->slots[i].n, w->slots[i].hash) = w->slots[i];
    free(w->slots);
    *w = bigger;
    return CADRE_OK;
}

static cadre_err add_hashed(struct word_count *w, const char *p, uint32_t n, uint32_t hash, int64_t count,
                            cadre_error *err)
{
    if (2 * w->used >= w->size)
        TRY(grow(w, err));
    struct word *s = slot_of(w, p, n, hash);
    if (!s->p) {
        *s = (struct word){.p = p, .n = n, .hash = hash};
        w->used++;
    }
    s->count += count;
    return CADRE_OK;
}

cadre_err word_count_add(struct word_count *w, const char *p, size_t n, int64_t count, cadre_error *err)
{
    CHECK(err, n <= INT32_MAX, CADRE_E_ARG, "a word of %zu bytes; at most %d are possible", n, INT32_MAX);
    return add_hashed(w, p, (uint32_t)n, (uint32_t)XXH3_64bits(p, n), count, err);
}

cadre_err word_count_merge(struct word_count *into, const struct word_count *from, cadre_error *err)
{
    for (uint64_t i = 0; i < from->size; i++) {
        const struct word *s = &from->slots[i];
        if (s->p)
            TRY(add_hashed(into, s->p, s->n, s->hash, s->count, err));
    }
    return CADRE_OK;
}

void word_count_free(struct word_count *w)
{
    free(w->slots);
    *w = (struct word_count){0};
}
