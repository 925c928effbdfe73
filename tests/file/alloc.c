#include "alloc.h"

#include <errno.h>
#include <stdlib.h>

enum { MAX_LIVE = 1 << 14 };

struct alloc_state alloc_state;
static void *live[MAX_LIVE];
static size_t n_live;

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void __real_free(void *p);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void __wrap_free(void *p);

static int fails(size_t n)
{
    alloc_state.bytes += n;
    if (alloc_state.countdown == 0 || --alloc_state.countdown > 0)
        return 0;
    errno = ENOMEM;
    return 1;
}

static void *add(void *p)
{
    if (n_live == MAX_LIVE)
        abort();
    if (p)
        live[n_live++] = p;
    return p;
}

/* Newest first; a pointer that libc allocated is not there. */
static void take_out(void *p)
{
    for (size_t i = n_live; i-- > 0;)
        if (live[i] == p) {
            live[i] = live[--n_live];
            return;
        }
}

void *__wrap_malloc(size_t n)
{
    return fails(n) ? NULL : add(__real_malloc(n));
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(n * size) ? NULL : add(__real_calloc(n, size));
}

void *__wrap_realloc(void *p, size_t n)
{
    if (fails(n))
        return NULL;
    take_out(p);
    return add(__real_realloc(p, n));
}

void __wrap_free(void *p)
{
    take_out(p);
    __real_free(p);
}

size_t alloc_live(void)
{
    return n_live;
}
