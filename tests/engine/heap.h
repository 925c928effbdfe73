/* Counts calls of the heap by this program, its libraries and all its threads: a program that includes this defines the
 * allocator's functions itself, over those of the C library. Not together with sanitizers, which do the same. */
#ifndef CADRE_TESTS_HEAP_H
#define CADRE_TESTS_HEAP_H

#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_long heap_calls;

void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);
void __libc_free(void *p);

#define HEAP_CALL() atomic_fetch_add_explicit(&heap_calls, 1, memory_order_relaxed)

void *malloc(size_t n)
{
    HEAP_CALL();
    return __libc_malloc(n);
}

void *calloc(size_t n, size_t size)
{
    HEAP_CALL();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t n)
{
    HEAP_CALL();
    return __libc_realloc(p, n);
}

void free(void *p)
{
    if (p)
        HEAP_CALL();
    __libc_free(p);
}

void *aligned_alloc(size_t align, size_t n)
{
    HEAP_CALL();
    return __libc_memalign(align, n);
}

int posix_memalign(void **p, size_t align, size_t n)
{
    HEAP_CALL();
    *p = __libc_memalign(align, n);
    return *p ? 0 : ENOMEM;
}

void *mmap(void *at, size_t n, int protection, int flags, int fd, off_t offset)
{
    HEAP_CALL();
    return (void *)syscall(SYS_mmap, at, n, protection, flags, fd, offset); /* NOLINT: the kernel gives a pointer */
}

int munmap(void *at, size_t n)
{
    HEAP_CALL();
    return (int)syscall(SYS_munmap, at, n);
}

#endif
