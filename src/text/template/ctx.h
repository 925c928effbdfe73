/* What parsing and rendering share: memory that is given back at once, limits, the place for an error. */
#ifndef CADRE_TEXT_TEMPLATE_CTX_H
#define CADRE_TEXT_TEMPLATE_CTX_H

#include <stdbool.h>

#include "text/template/template.h"

struct heap_chunk;
struct scope;
struct dict;

struct ctx {
    const struct template_limits *limits;
    struct heap_chunk *chunks;
    size_t used; /* bytes of all chunks */
    cadre_error *err;
    cadre_err rc; /* of the last failure: what functions that return a pointer leave behind with NULL */
    int line;     /* of the template: where an error is */
    int depth;
    int64_t steps;
    /* rendering only */
    struct dict *variables;
    struct scope *scope;
    struct text *out;
    int64_t now;
};

void ctx_release(struct ctx *c);

/* Sets "line N: …". */
cadre_err ctx_fail(struct ctx *c, cadre_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* n bytes, zeroed; NULL after an error. */
void *ctx_alloc(struct ctx *c, size_t n);
/* An array of n objects. */
void *ctx_array(struct ctx *c, size_t n, size_t size);

/* Count work against the limit. */
cadre_err ctx_steps(struct ctx *c, size_t n);
/* Around everything that recurses; ctx_leave only after success of ctx_enter. */
cadre_err ctx_enter(struct ctx *c);
static inline void ctx_leave(struct ctx *c)
{
    c->depth--;
}

/* Return the failure that a NULL stands for. */
#define NEED(c, p)                                                                                                     \
    do {                                                                                                               \
        if (!(p))                                                                                                      \
            return (c)->rc;                                                                                            \
    } while (0)

/* A text under construction. */
struct text {
    char *p;
    size_t n, room;
};
cadre_err text_add(struct ctx *c, struct text *t, const char *p, size_t n);
cadre_err text_put(struct ctx *c, struct text *t, const char *s); /* 0-terminated */
cadre_err text_char(struct ctx *c, struct text *t, int32_t code); /* a code point, as UTF-8 */
cadre_err text_fill(struct ctx *c, struct text *t, char byte, size_t n);
cadre_err text_printf(struct ctx *c, struct text *t, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
