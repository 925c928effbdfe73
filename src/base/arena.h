/* A bump allocator: one block of memory, sized once by a planning pass, marked and reset instead of
 * freed. A *measuring* arena counts without owning memory; running the same code over it first gives
 * the exact size of the real one (`arena_peak`).
 *
 *     base                     used                peak          size
 *      |--- live objects -------|--- free ----------|-------------|
 *
 * Every object starts on a 64-byte boundary. Under ASan a red zone follows each object and everything
 * beyond `used` is poisoned, so that overruns and uses after a reset are caught. */
#ifndef CADRE_BASE_ARENA_H
#define CADRE_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct arena {
    unsigned char *base; /* NULL while measuring */
    size_t size;
    size_t used;
    size_t peak;
    bool measuring;
};

/* Reserve `size` bytes (anonymous memory, touched on use). */
cadre_err arena_init(struct arena *a, size_t size, cadre_error *err);
void arena_init_measuring(struct arena *a);
void arena_destroy(struct arena *a);

/* `size` bytes aligned to 64, contents undefined. A measuring arena returns a non-null address that must not
 * be read or written. Running over the planned size is a bug of ours: the process aborts with a message. */
void *arena_alloc(struct arena *a, size_t size);

static inline size_t arena_mark(const struct arena *a)
{
    return a->used;
}

/* Give back everything allocated since `mark`. */
void arena_reset(struct arena *a, size_t mark);

#endif
