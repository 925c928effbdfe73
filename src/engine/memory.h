/* Small helpers of this room: sizes for people, and a growing text. */
#ifndef CADRE_ENGINE_MEMORY_H
#define CADRE_ENGINE_MEMORY_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static inline double memory_mib(uint64_t bytes)
{
    return (double)bytes / 1048576.0;
}

/* A text that grows; always 0-terminated after the first add. On failure it is freed and empty. */
struct text_builder {
    char *p;
    size_t n, room;
};

/* Room for n more bytes and the 0. */
static inline cadre_err text_builder_reserve(struct text_builder *b, size_t n, cadre_error *err)
{
    if (b->n + n + 1 > b->room) {
        size_t room = 2 * (b->n + n) + 64;
        char *grown = realloc(b->p, room);
        if (!grown) {
            free(b->p);
            *b = (struct text_builder){0};
            return error_set(err, CADRE_E_MEMORY, "no memory for %zu bytes of text", room);
        }
        b->p = grown;
        b->room = room;
    }
    return CADRE_OK;
}

static inline cadre_err text_builder_add(struct text_builder *b, const char *p, size_t n, cadre_error *err)
{
    TRY(text_builder_reserve(b, n, err));
    memcpy(b->p + b->n, p, n);
    b->n += n;
    b->p[b->n] = 0;
    return CADRE_OK;
}

#endif
