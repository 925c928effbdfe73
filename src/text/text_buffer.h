/* Text that grows; and texts that stay where they are until all are freed together. */
#ifndef CADRE_TEXT_TEXT_BUFFER_H
#define CADRE_TEXT_TEXT_BUFFER_H

#include <stddef.h>

#include "base/error.h"

struct text_buffer { /* begins as {0}; free(p) */
    char *p;
    size_t n, capacity;
};

cadre_err text_buffer_reserve(struct text_buffer *b, size_t more, cadre_error *err);
cadre_err text_buffer_add(struct text_buffer *b, const char *p, size_t n, cadre_error *err);
void text_buffer_free(struct text_buffer *b);

/* Copies that keep their address. */
struct text_keep { /* begins as {0} */
    struct text_chunk *chunk;
};
cadre_err text_keep_copy(struct text_keep *k, const char *p, size_t n, const char **out, cadre_error *err);
void text_keep_free(struct text_keep *k);

#endif
