#include "text/template/ctx.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/utf8.h"

enum { CHUNK = 64 << 10, ALIGN = 16 };

struct heap_chunk {
    struct heap_chunk *next;
    size_t used, size;
    _Alignas(ALIGN) unsigned char bytes[];
};

struct template_limits template_limits_default(void)
{
    return (struct template_limits){
        .depth = 400, .steps = 50000000, .output = (size_t)64 << 20, .memory = (size_t)512 << 20};
}

void ctx_release(struct ctx *c)
{
    while (c->chunks) {
        struct heap_chunk *next = c->chunks->next;
        free(c->chunks);
        c->chunks = next;
    }
    c->used = 0;
}

cadre_err ctx_fail(struct ctx *c, cadre_err code, const char *fmt, ...)
{
    char text[768];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    text[utf8_valid_prefix(text, strlen(text))] = 0; /* not cut in the middle of a character */
    c->rc = error_set(c->err, code, "line %d: %s", c->line, text);
    return c->rc;
}

static struct heap_chunk *add_chunk(struct ctx *c, size_t n)
{
    size_t size = n > CHUNK ? n : CHUNK;
    if (size > c->limits->memory || c->used > c->limits->memory - size) {
        ctx_fail(c, CADRE_E_MEMORY, "the template takes more memory than the limit of %zu bytes", c->limits->memory);
        return NULL;
    }
    struct heap_chunk *chunk = malloc(sizeof *chunk + size);
    if (!chunk) {
        ctx_fail(c, CADRE_E_MEMORY, "no memory for %zu bytes", size);
        return NULL;
    }
    *chunk = (struct heap_chunk){.size = size};
    c->used += size;
    /* A chunk of one large object goes behind the current one, which still has room. */
    if (n > CHUNK && c->chunks) {
        chunk->next = c->chunks->next;
        c->chunks->next = chunk;
    } else {
        chunk->next = c->chunks;
        c->chunks = chunk;
    }
    return chunk;
}

void *ctx_alloc(struct ctx *c, size_t n)
{
    if (n > c->limits->memory) {
        ctx_fail(c, CADRE_E_MEMORY, "%zu bytes at once are more than the memory limit of %zu", n, c->limits->memory);
        return NULL;
    }
    n = align_up(n ? n : 1, ALIGN);
    struct heap_chunk *chunk = c->chunks;
    if (!chunk || n > chunk->size - chunk->used)
        chunk = add_chunk(c, n);
    if (!chunk)
        return NULL;
    void *p = chunk->bytes + chunk->used;
    chunk->used += n;
    return memset(p, 0, n);
}

void *ctx_array(struct ctx *c, size_t n, size_t size)
{
    uint64_t bytes;
    if (!mul_ok(n, size, &bytes))
        bytes = UINT64_MAX;
    return ctx_alloc(c, bytes);
}

cadre_err ctx_steps(struct ctx *c, size_t n)
{
    if (n > (uint64_t)(c->limits->steps - c->steps))
        return ctx_fail(c, CADRE_E_MEMORY, "the template takes more than the limit of %lld steps",
                        (long long)c->limits->steps);
    c->steps += (int64_t)n;
    return CADRE_OK;
}

cadre_err ctx_enter(struct ctx *c)
{
    if (c->depth >= c->limits->depth)
        return ctx_fail(c, CADRE_E_MEMORY, "nested more than %d levels deep (endless recursion?)", c->limits->depth);
    c->depth++;
    return CADRE_OK;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static cadre_err reserve(struct ctx *c, struct text *t, size_t n)
{
    if (n > c->limits->output || t->n > c->limits->output - n)
        return ctx_fail(c, CADRE_E_MEMORY, "the text becomes longer than the limit of %zu bytes", c->limits->output);
    if (t->n + n + 1 <= t->room)
        return CADRE_OK;
    size_t room = 2 * (t->n + n) + 64;
    char *p = ctx_alloc(c, room);
    NEED(c, p);
    if (t->n)
        memcpy(p, t->p, t->n);
    t->p = p;
    t->room = room;
    return CADRE_OK;
}

cadre_err text_add(struct ctx *c, struct text *t, const char *p, size_t n)
{
    TRY(reserve(c, t, n));
    if (n)
        memcpy(t->p + t->n, p, n);
    t->n += n;
    t->p[t->n] = 0;
    return CADRE_OK;
}

cadre_err text_put(struct ctx *c, struct text *t, const char *s)
{
    return text_add(c, t, s, strlen(s));
}

cadre_err text_fill(struct ctx *c, struct text *t, char byte, size_t n)
{
    TRY(reserve(c, t, n));
    memset(t->p + t->n, byte, n);
    t->n += n;
    t->p[t->n] = 0;
    return CADRE_OK;
}

cadre_err text_char(struct ctx *c, struct text *t, int32_t code)
{
    char b[4];
    int n = 0;
    if (code < 0x80) {
        b[n++] = (char)code;
    } else {
        int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
        static const unsigned char first[] = {0, 0xc0, 0xe0, 0xf0};
        b[n++] = (char)(first[more] | (code >> (6 * more)));
        while (more-- > 0)
            b[n++] = (char)(0x80 | ((code >> (6 * more)) & 0x3f));
    }
    return text_add(c, t, b, (size_t)n);
}

cadre_err text_printf(struct ctx *c, struct text *t, const char *fmt, ...)
{
    char small[128];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(small, sizeof small, fmt, ap);
    va_end(ap);
    if (n < 0)
        return ctx_fail(c, CADRE_E_FORMAT, "a number cannot be printed");
    if ((size_t)n < sizeof small)
        return text_add(c, t, small, (size_t)n);
    TRY(reserve(c, t, (size_t)n));
    va_start(ap, fmt);
    vsnprintf(t->p + t->n, (size_t)n + 1, fmt, ap);
    va_end(ap);
    t->n += (size_t)n;
    return CADRE_OK;
}
