#include "alloc.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

enum { MAX_LIVE = 1 << 14 };

struct alloc_state alloc_state;
static void *live[MAX_LIVE];
static size_t n_live;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* workers of a thread pool allocate and free, too */

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

enum how { MALLOC, CALLOC, REALLOC };

static void *allocate(enum how how, void *old, size_t n)
{
    void *p = NULL;
    pthread_mutex_lock(&lock);
    if (!fails(n)) {
        if (how == REALLOC)
            take_out(old);
        p = add(how == MALLOC ? __real_malloc(n) : how == CALLOC ? __real_calloc(1, n) : __real_realloc(old, n));
    }
    pthread_mutex_unlock(&lock);
    return p;
}

void *__wrap_malloc(size_t n)
{
    return allocate(MALLOC, NULL, n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(n, size, &bytes))
        return NULL;
    return allocate(CALLOC, NULL, bytes);
}

void *__wrap_realloc(void *p, size_t n)
{
    return allocate(REALLOC, p, n);
}

void __wrap_free(void *p)
{
    pthread_mutex_lock(&lock);
    take_out(p);
    __real_free(p);
    pthread_mutex_unlock(&lock);
}

size_t alloc_live(void)
{
    return n_live;
}
