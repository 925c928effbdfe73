#include "base/arena.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/checked.h"

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif

/* Memory that nobody may touch, and memory given out, whose contents are undefined: told to ASan, or to valgrind's
 * memcheck should the program run under it (a few instructions otherwise). */
#if defined(ARENA_ASAN)
#include <sanitizer/asan_interface.h>
#define CLOSE(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define OPEN(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
enum { RED_ZONE = 64 };
#elif defined(CADRE_MEMCHECK)
#include <valgrind/memcheck.h>
#define CLOSE(p, n) ((void)VALGRIND_MAKE_MEM_NOACCESS(p, n))
#define OPEN(p, n) ((void)VALGRIND_MAKE_MEM_UNDEFINED(p, n))
enum { RED_ZONE = 0 };
#else
#define CLOSE(p, n) ((void)(p), (void)(n))
#define OPEN(p, n) ((void)(p), (void)(n))
enum { RED_ZONE = 0 };
#endif

enum { ALIGN = 64, HUGE_PAGE = 2 << 20 };

cadre_err arena_init(struct arena *a, size_t size, cadre_error *err)
{
    *a = (struct arena){0};
    size = align_up(size ? size : 1, HUGE_PAGE);
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(err, p != MAP_FAILED, CADRE_E_MEMORY, "cannot reserve %zu bytes of working memory: %s", size,
          strerror(errno));
    madvise(p, size, MADV_HUGEPAGE); /* a hint: its failure changes speed, not results */
    CLOSE(p, size);
    a->base = p;
    a->size = size;
    return CADRE_OK;
}

void arena_init_measuring(struct arena *a)
{
    *a = (struct arena){.size = (size_t)-1, .measuring = true};
}

void arena_destroy(struct arena *a)
{
    if (a->base) {
        OPEN(a->base, a->size);
        munmap(a->base, a->size);
    }
    *a = (struct arena){0};
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t need = align_up(size ? size : 1, ALIGN) + RED_ZONE;
    if (need < size || need > a->size - a->used) {
        fprintf(stderr, "cadre: bug: an arena of %zu bytes holds %zu and was asked for %zu more\n", a->size, a->used,
                size);
        abort();
    }
    size_t at = a->used;
    a->used += need;
    if (a->used > a->peak)
        a->peak = a->used;
    if (a->measuring)
        return (void *)(uintptr_t)ALIGN;
    OPEN(a->base + at, size);
    return a->base + at;
}

void arena_reset(struct arena *a, size_t mark)
{
    if (a->base)
        CLOSE(a->base + mark, a->used - mark);
    a->used = mark;
}
