/* Memory that runs out: for a program linked with -Wl,--wrap=malloc, calloc, realloc. */
#ifndef CADRE_TESTS_TEXT_ALLOC_FAIL_H
#define CADRE_TESTS_TEXT_ALLOC_FAIL_H

#include <stdbool.h>
#include <stddef.h>

/* Fails the n-th allocation from now on; -1: none. Linked with --wrap. */
static int fail_at = -1;
static bool fails_now(void)
{
    return fail_at >= 0 && fail_at-- == 0;
}
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    return fails_now() ? NULL : __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    return fails_now() ? NULL : __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    return fails_now() ? NULL : __real_realloc(p, n);
}

#endif
