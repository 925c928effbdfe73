#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"

enum { SPIN_TURNS = 2000 }; /* a few microseconds: longer than the gap between two loops of one layer */

struct pool {
    int n_threads;
    pthread_t *threads; /* [n_threads - 1] */
    /* One loop at a time; generation counts loops and tells sleeping workers that there is a new one. */
    pool_fn *fn;
    void *arg;
    int64_t n_items;
    bool quit;
    int spin; /* 0 when there are more threads than cores: spinning would take time from a worker */
    _Alignas(64) atomic_uint generation;
    _Alignas(64) atomic_int_fast64_t next;
    _Alignas(64) atomic_int busy;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
};

struct start {
    struct pool *pool;
    int worker;
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

static void take_items(struct pool *p, int worker)
{
    int64_t i;
    while ((i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->n_items)
        p->fn(p->arg, i, worker);
}

static void await_generation(struct pool *p, unsigned seen)
{
    for (int i = 0; i < p->spin; i++) {
        if (atomic_load_explicit(&p->generation, memory_order_acquire) != seen)
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->generation, memory_order_acquire) == seen)
        pthread_cond_wait(&p->wake, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

static void *worker_main(void *arg)
{
    struct start start = *(struct start *)arg;
    free(arg);
    struct pool *p = start.pool;
    for (unsigned seen = 0;; seen++) {
        await_generation(p, seen);
        if (p->quit)
            return NULL;
        take_items(p, start.worker);
        if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&p->lock);
            pthread_cond_signal(&p->done);
            pthread_mutex_unlock(&p->lock);
        }
    }
}

static void open_generation(struct pool *p)
{
    pthread_mutex_lock(&p->lock);
    atomic_fetch_add_explicit(&p->generation, 1, memory_order_release);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
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
    p->spin = n_threads <= cpu.cores ? SPIN_TURNS : 0;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    pthread_cond_init(&p->done, NULL);
    p->n_threads = 1;
    p->threads = calloc((size_t)n_threads, sizeof *p->threads);
    for (int i = 1; p->threads && i < n_threads; i++) {
        struct start *start = malloc(sizeof *start);
        int e = ENOMEM;
        if (start) {
            *start = (struct start){p, i};
            e = pthread_create(&p->threads[i - 1], NULL, worker_main, start);
        }
        if (e) {
            free(start);
            pool_free(p);
            return error_set(err, CADRE_E_MEMORY, "cannot start thread %d of %d: %s", i + 1, n_threads, strerror(e));
        }
        p->n_threads++;
    }
    if (!p->threads) {
        pool_free(p);
        return error_set(err, CADRE_E_MEMORY, "no memory for %d threads", n_threads);
    }
    *out = p;
    return CADRE_OK;
}

void pool_free(struct pool *p)
{
    if (!p)
        return;
    p->quit = true;
    open_generation(p);
    for (int i = 0; i < p->n_threads - 1; i++)
        pthread_join(p->threads[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->threads);
    free(p);
}

int pool_threads(const struct pool *p)
{
    return p ? p->n_threads : 1;
}

void pool_run(struct pool *p, int64_t n_items, pool_fn *fn, void *arg)
{
    if (!p || p->n_threads == 1 || n_items == 1) {
        for (int64_t i = 0; i < n_items; i++)
            fn(arg, i, 0);
        return;
    }
    p->fn = fn;
    p->arg = arg;
    p->n_items = n_items;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, p->n_threads - 1, memory_order_relaxed);
    open_generation(p);
    take_items(p, 0);
    for (int i = 0; i < p->spin; i++) {
        if (atomic_load_explicit(&p->busy, memory_order_acquire) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&p->lock);
    while (atomic_load_explicit(&p->busy, memory_order_acquire) != 0)
        pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
