#include "text/text_buffer.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

cadre_err text_buffer_reserve(struct text_buffer *b, size_t more, cadre_error *err)
{
    if (more <= b->capacity - b->n)
        return CADRE_OK;
    uint64_t need;
    CHECK(err, add_ok(b->capacity + b->capacity / 2, more, &need) && add_ok(need, 64, &need) && need < SIZE_MAX / 2,
          CADRE_E_ARG, "a text of more than %zu bytes is too long", b->n);
    char *p = realloc(b->p, need);
    CHECK(err, p, CADRE_E_MEMORY, "no memory for a text of %llu bytes", (unsigned long long)need);
    b->p = p;
    b->capacity = need;
    return CADRE_OK;
}

cadre_err text_buffer_add(struct text_buffer *b, const char *p, size_t n, cadre_error *err)
{
    TRY(text_buffer_reserve(b, n, err));
    if (n > 0)
        memcpy(b->p + b->n, p, n);
    b->n += n;
    return CADRE_OK;
}

void text_buffer_free(struct text_buffer *b)
{
    free(b->p);
    *b = (struct text_buffer){0};
}

struct text_chunk {
    struct text_chunk *next;
    size_t used, size;
    char bytes[];
};

cadre_err text_keep_copy(struct text_keep *k, const char *p, size_t n, const char **out, cadre_error *err)
{
    struct text_chunk *c = k->chunk;
    if (!c || n > c->size - c->used) {
        enum { LEAST = 4096, MOST = 1 << 20 };
        size_t size = c ? (c->size < MOST ? 2 * c->size : MOST) : LEAST;
        size = n > size ? n : size;
        c = malloc(sizeof *c + size);
        CHECK(err, c, CADRE_E_MEMORY, "no memory for a text of %zu bytes", n);
        *c = (struct text_chunk){.next = k->chunk, .size = size};
        k->chunk = c;
    }
    *out = c->bytes + c->used;
    if (n > 0)
        memcpy(c->bytes + c->used, p, n);
    c->used += n;
    return CADRE_OK;
}

void text_keep_free(struct text_keep *k)
{
    while (k->chunk) {
        struct text_chunk *next = k->chunk->next;
        free(k->chunk);
        k->chunk = next;
    }
}
