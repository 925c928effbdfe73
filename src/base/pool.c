/* One atomic word holds the loop: its number in the upper half, how many items nobody has taken yet in the lower.
 * Taking some is a compare-and-swap that makes it less, so it can only succeed on the loop that it was meant for, and
 * only while there are items. Many are taken at a time at first, so that a thread reads on where it stopped, and one
 * at a time in the end, so that all threads end together (Polychronopoulos and Kuck 1987). A loop is over when all
 * items are done, whoever did them: the caller works too and never waits for a worker that has taken none, be it asleep
 * or without a processor.
 *
 *      caller:  fn, arg, n_items; word = (number + 1, n_items); take items; wait until done = n_items
 *      worker:  spin until word has items, or sleep; take items; done += how many it took
 *
 * What an item's taker reads of the loop cannot change before it has said that the item is done. */
#include "base/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"

/* Longer than the gap between two loops of a model, with the sampling between two tokens of one; far shorter than what
 * a person notices. The clock is read once in some turns. */
static const double SPIN_SECONDS = 100e-6;
enum {
    TURNS_PER_LOOK = 64,
    TAKES = 4 /* a thread takes 1 / TAKES of its even share of what is left, or one item */
};

struct worker {
    pthread_t thread;
    struct pool *pool;
    int number; /* from 1: the caller is 0 */
};

struct pool {
    int n_threads;
    int n_awake;            /* workers that should be awake: as many as there are processors, but for the caller's */
    struct worker *workers; /* [n_threads - 1] */
    int n_started;
    pool_fn *fn;
    void *arg;
    int64_t n_items;
    _Alignas(64) atomic_uint_fast64_t word;
    _Alignas(64) atomic_uint_fast64_t done;
    /* These change under the lock only, and are looked at without it by those who might have to wake somebody. */
    _Alignas(64) atomic_int asleep;
    atomic_bool caller_sleeps;
    atomic_bool quit;
    int woken; /* sleepers that have been told to get up and have not yet: no longer counted as asleep */
    pthread_mutex_t lock;
    pthread_cond_t wake, finished;
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield" ::: "memory");
#else
    __asm__ volatile("" ::: "memory");
#endif
}

static bool has_items(struct pool *p)
{
    return (uint32_t)atomic_load_explicit(&p->word, memory_order_acquire) > 0;
}

static bool all_done(struct pool *p)
{
    return atomic_load_explicit(&p->done, memory_order_acquire) == (uint64_t)p->n_items;
}

/* Spins until the condition holds; false when it has not for SPIN_SECONDS. */
static bool spin_until(struct pool *p, bool (*condition)(struct pool *p))
{
    double end = 0;
    for (int i = 1; !condition(p); i++) {
        relax();
        if (i % TURNS_PER_LOOK == 0) {
            double now = clock_now();
            end = end > 0 ? end : now + SPIN_SECONDS;
            if (now >= end)
                return false;
        }
    }
    return true;
}

/* Takes and does items until there are none; how many. */
static int64_t take_items(struct pool *p, int worker)
{
    int64_t taken = 0;
    uint_fast64_t word = atomic_load_explicit(&p->word, memory_order_acquire);
    while ((uint32_t)word > 0) {
        uint32_t left = (uint32_t)word, share = left / (uint32_t)(TAKES * p->n_threads), n = share ? share : 1;
        if (!atomic_compare_exchange_weak_explicit(&p->word, &word, word - n, memory_order_acquire,
                                                   memory_order_acquire))
            continue;
        for (int64_t i = p->n_items - (int64_t)left, end = i + n; i < end; i++)
            p->fn(p->arg, i, worker);
        taken += n;
        word = atomic_load_explicit(&p->word, memory_order_acquire);
    }
    return taken;
}

/* The last one of a loop wakes the caller. The sum and the caller's flag are each written before the other is read,
 * in one order for all threads: either this worker sees the flag, or the caller the sum. */
static void add_done(struct pool *p, int64_t taken)
{
    int64_t n_items = p->n_items; /* before it may change */
    if ((int64_t)atomic_fetch_add(&p->done, (uint64_t)taken) + taken < n_items || !atomic_load(&p->caller_sleeps))
        return;
    pthread_mutex_lock(&p->lock);
    pthread_cond_signal(&p->finished);
    pthread_mutex_unlock(&p->lock);
}

static void sleep_until_woken(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add(&p->asleep, 1);
    if ((uint32_t)atomic_load(&p->word) > 0) { /* a caller that has not seen this sleeper */
        atomic_fetch_sub(&p->asleep, 1);
    } else {
        while (p->woken == 0 && !atomic_load(&p->quit))
            pthread_cond_wait(&p->wake, &p->lock);
        p->woken -= p->woken > 0;
    }
    pthread_mutex_unlock(&p->lock);
}

static int awake(struct pool *p)
{
    return p->n_threads - 1 - atomic_load(&p->asleep);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct pool *p = w->pool;
    while (!atomic_load_explicit(&p->quit, memory_order_relaxed)) {
        int64_t taken = take_items(p, w->number);
        if (taken > 0)
            add_done(p, taken);
        if (awake(p) > p->n_awake || !spin_until(p, has_items))
            sleep_until_woken(p);
    }
    return NULL;
}

cadre_err pool_new(struct pool **out, int n_threads, cadre_error *err)
{
    *out = NULL;
    CHECK(err, n_threads >= 1 && n_threads <= 1024, CADRE_E_ARG, "threads: expected 1 to 1024, found %d", n_threads);
    struct cpu cpu;
    cpu_detect(&cpu);
    struct pool *p = aligned_alloc(64, sizeof *p);
    CHECK(err, p, CADRE_E_MEMORY, "no memory for the thread pool");
    memset(p, 0, sizeof *p);
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->finished, NULL);
    p->n_threads = n_threads;
    p->n_awake = (cpu.processors < n_threads ? cpu.processors : n_threads) - 1;
    p->workers = calloc((size_t)n_threads, sizeof *p->workers);
    int e = p->workers ? 0 : ENOMEM;
    while (e == 0 && p->n_started < n_threads - 1) {
        struct worker *w = &p->workers[p->n_started];
        w->pool = p;
        w->number = p->n_started + 1;
        e = pthread_create(&w->thread, NULL, worker_main, w);
        p->n_started += e == 0;
    }
    if (e) {
        int at = p->n_started + 1;
        pool_free(p);
        return error_set(err, CADRE_E_MEMORY, "cannot start thread %d of %d: %s", at + 1, n_threads, strerror(e));
    }
    *out = p;
    return CADRE_OK;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->quit, true);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < p->n_started; i++)
        pthread_join(p->workers[i].thread, NULL);
    pthread_cond_destroy(&p->finished);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p ? p->n_threads : 1;
}

/* As many sleepers as there are items and processors for; most of the time nobody sleeps, and no lock is taken. A
 * worker about to sleep counts itself before it looks at the word, which was written before this looks at the count. */
static void wake_workers(struct pool *p)
{
    int64_t wanted = p->n_items - 1 < p->n_awake ? p->n_items - 1 : p->n_awake;
    int64_t missing = wanted - awake(p);
    if (missing <= 0)
        return;
    pthread_mutex_lock(&p->lock);
    for (; missing > 0 && atomic_load(&p->asleep) > 0; missing--) {
        p->woken++;
        atomic_fetch_sub(&p->asleep, 1);
        pthread_cond_signal(&p->wake);
    }
    pthread_mutex_unlock(&p->lock);
}

void pool_run(struct pool *p, int64_t n_items, pool_fn *fn, void *arg)
{
    if (!p || p->n_threads == 1 || n_items <= 1) {
        for (int64_t i = 0; i < n_items; i++)
            fn(arg, i, 0);
        return;
    }
    assert(n_items <= UINT32_MAX);
    p->fn = fn;
    p->arg = arg;
    p->n_items = n_items;
    atomic_store_explicit(&p->done, 0, memory_order_relaxed);
    uint_fast64_t number = (atomic_load_explicit(&p->word, memory_order_relaxed) >> 32) + 1;
    atomic_store(&p->word, number << 32 | (uint64_t)n_items);
    wake_workers(p);
    atomic_fetch_add(&p->done, (uint64_t)take_items(p, 0));
    if (spin_until(p, all_done))
        return;
    pthread_mutex_lock(&p->lock);
    atomic_store(&p->caller_sleeps, true);
    while (atomic_load(&p->done) != (uint64_t)n_items)
        pthread_cond_wait(&p->finished, &p->lock);
    atomic_store(&p->caller_sleeps, false);
    pthread_mutex_unlock(&p->lock);
}
