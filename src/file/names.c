#include "file/names.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

/* Seeded with the address of the index, which differs from run to run: a file cannot be made to collide on purpose. */
static uint64_t hash_of(const struct name_index *ix, const char *name)
{
    return XXH3_64bits_withSeed(name, strlen(name), (uint64_t)(uintptr_t)ix);
}

static struct name_slot *slot_of(const struct name_index *ix, const char *name, uint64_t hash)
{
    size_t i = (size_t)hash & (ix->n_slots - 1);
    while (ix->slot[i].name && (ix->slot[i].hash != hash || strcmp(ix->slot[i].name, name) != 0))
        i = (i + 1) & (ix->n_slots - 1);
    return &ix->slot[i];
}

static cadre_err grow(struct name_index *ix, cadre_error *err)
{
    struct name_index wider = {.n_slots = ix->n_slots ? 2 * ix->n_slots : 64};
    wider.slot = calloc(wider.n_slots, sizeof *wider.slot);
    CHECK(err, wider.slot, CADRE_E_MEMORY, "no memory for an index of %zu names", wider.n_slots / 2);
    for (size_t i = 0; i < ix->n_slots; i++)
        if (ix->slot[i].name)
            *slot_of(&wider, ix->slot[i].name, ix->slot[i].hash) = ix->slot[i];
    wider.n = ix->n;
    free(ix->slot);
    *ix = wider;
    return CADRE_OK;
}

cadre_err name_index_put(struct name_index *ix, const char *name, int64_t item, bool *taken, cadre_error *err)
{
    if (2 * (ix->n + 1) > ix->n_slots)
        TRY(grow(ix, err));
    uint64_t hash = hash_of(ix, name);
    struct name_slot *s = slot_of(ix, name, hash);
    *taken = s->name != NULL;
    if (!*taken) {
        *s = (struct name_slot){name, hash, item};
        ix->n++;
    }
    return CADRE_OK;
}

int64_t name_index_get(const struct name_index *ix, const char *name)
{
    if (ix->n == 0)
        return -1;
    const struct name_slot *s = slot_of(ix, name, hash_of(ix, name));
    return s->name ? s->item : -1;
}

void name_index_free(struct name_index *ix)
{
    free(ix->slot);
    *ix = (struct name_index){0};
}

/* Lead byte → number of continuation bytes and the smallest code point that needs them; overlong forms, surrogates
 * and values above U+10FFFF are refused. */
bool utf8_ok(const char *s, size_t n)
{
    static const uint32_t least[4] = {0, 0x80, 0x800, 0x10000};
    const unsigned char *p = (const unsigned char *)s;
    for (size_t i = 0; i < n;) {
        int more = p[i] < 0x80             ? 0
                   : (p[i] & 0xe0) == 0xc0 ? 1
                   : (p[i] & 0xf0) == 0xe0 ? 2
                   : (p[i] & 0xf8) == 0xf0 ? 3
                                           : -1;
        if (more < 0 || n - i <= (size_t)more)
            return false;
        uint32_t c = more ? p[i] & (0x3fu >> more) : p[i];
        for (int k = 1; k <= more; k++) {
            if ((p[i + (size_t)k] & 0xc0) != 0x80)
                return false;
            c = c << 6 | (p[i + (size_t)k] & 0x3f);
        }
        if (c < least[more] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
            return false;
        i += (size_t)more + 1;
    }
    return true;
}

struct shown shown(const char *name, size_t n)
{
    struct shown r;
    size_t room = sizeof r.s - sizeof "…";
    size_t len = n < room ? n : room;
    for (size_t i = 0; i < len; i++)
        r.s[i] = name[i] >= ' ' && name[i] <= '~' ? name[i] : '?';
    strcpy(r.s + len, n > len ? "…" : "");
    return r;
}
