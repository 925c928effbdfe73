/* The program is linked with -Wl,--wrap for malloc, calloc, realloc and free: every allocation of the library comes
 * through here, is counted, and can be made to fail. What libc allocates for itself does not. */
#ifndef CADRE_TESTS_FILE_ALLOC_H
#define CADRE_TESTS_FILE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

struct alloc_state {
    int64_t countdown; /* the allocation that fails: 1 = the next; 0 = none */
    uint64_t bytes;    /* asked for since the last reset */
};
extern struct alloc_state alloc_state;

/* Allocations that are not freed yet. */
size_t alloc_live(void);

#endif
