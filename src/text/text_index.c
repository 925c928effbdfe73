#include "text/text_index.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

struct text_slot {
    uint32_t hash;   /* compared first: most unequal texts are told apart without being read */
    int32_t id_plus; /* id + 1; 0 is an empty slot */
};

cadre_err text_index_init(struct text_index *ix, int64_t n, cadre_error *err)
{
    uint64_t size = 16;
    while (size < 2 * (uint64_t)n)
        size *= 2;
    ix->mask = size - 1;
    ix->slots = calloc(size, sizeof *ix->slots);
    CHECK(err, ix->slots, CADRE_E_MEMORY, "no memory for an index of %lld texts", (long long)n);
    return CADRE_OK;
}

void text_index_free(struct text_index *ix)
{
    free(ix->slots);
    ix->slots = NULL;
}

/* The slot of this text, or the empty one where it belongs. */
static struct text_slot *slot_of(const struct text_index *ix, const struct text_span *keys, const char *p, size_t n,
                                 uint32_t *hash)
{
    uint64_t h = XXH3_64bits(p, n);
    *hash = (uint32_t)(h >> 32);
    for (uint64_t i = h & ix->mask;; i = (i + 1) & ix->mask) {
        struct text_slot *s = &ix->slots[i];
        if (!s->id_plus)
            return s;
        const struct text_span *key = &keys[s->id_plus - 1];
        if (s->hash == *hash && key->n == n && memcmp(key->p, p, n) == 0)
            return s;
    }
}

bool text_index_add(struct text_index *ix, const struct text_span *keys, int32_t id)
{
    uint32_t hash;
    struct text_slot *s = slot_of(ix, keys, keys[id].p, keys[id].n, &hash);
    if (s->id_plus)
        return false;
    *s = (struct text_slot){hash, id + 1};
    return true;
}

int32_t text_index_find(const struct text_index *ix, const struct text_span *keys, const char *p, size_t n)
{
    uint32_t hash;
    return slot_of(ix, keys, p, n, &hash)->id_plus - 1;
}
