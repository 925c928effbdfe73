/* A thread pool for loops of independent items. Which thread takes which item is free; what an item is
 * must depend on shapes alone, never on the number of threads, so that results do not either.
 * Workers spin for a tenth of a millisecond after a loop, then sleep: an idle pool uses no processor time. Of more
 * threads than there are processors only so many are awake at a time, so that none waits for one that cannot run. */
#ifndef CADRE_BASE_POOL_H
#define CADRE_BASE_POOL_H

#include <stdint.h>

#include "base/error.h"

struct pool;

/* n_threads counts the caller of pool_run, which works too; 1 starts no thread. */
cadre_err pool_new(struct pool **out, int n_threads, cadre_error *err);
void pool_free(struct pool *p);
int pool_threads(const struct pool *p);

/* Call fn(arg, item, worker) for item in [0, n_items), n_items < 2^32, each once, worker in [0, pool_threads(p)); a
 * worker gets its items in rising order. Returns when all are done. A NULL pool runs them in order on the caller. Not
 * reentrant: fn must not call pool_run. */
typedef void pool_fn(void *arg, int64_t item, int worker);
void pool_run(struct pool *p, int64_t n_items, pool_fn *fn, void *arg);

#endif
