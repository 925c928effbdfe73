/* What opening a model costs beside reading its file: each turn reads the file with all threads, into buffers that are
 * used again and into fresh memory (which the system has to clear first), and opens it.
 *
 *     load MODEL.gguf [turns]        seconds: medians of `turns` (default 9) that go round, least and most
 *
 * For a cold page cache, drop it before each run and give one turn; then the first reading is the disk's. */
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/fileio.h"
#include "base/pool.h"

enum { PIECE = 1 << 20, MAX_TURNS = 1000, MAX_THREADS = 1024 };

struct reading {
    int fd;
    const char *path;
    uint64_t size;
    char *fresh; /* NULL: into buffer[worker] */
    char *buffer[MAX_THREADS];
    cadre_error err;
};

static void read_piece(void *arg, int64_t item, int worker)
{
    struct reading *r = arg;
    uint64_t at = (uint64_t)item * PIECE, n = r->size - at < PIECE ? r->size - at : PIECE;
    file_read_at(r->fd, r->path, at, r->fresh ? r->fresh + at : r->buffer[worker], (size_t)n, &r->err);
}

static double read_all(struct pool *p, struct reading *r)
{
    double start = clock_now();
    pool_run(p, (int64_t)((r->size + PIECE - 1) / PIECE), read_piece, r);
    return clock_now() - start;
}

static double read_fresh(struct pool *p, struct reading *r)
{
    struct arena a;
    double start = clock_now();
    if (arena_init(&a, r->size, &r->err))
        return 0;
    r->fresh = arena_alloc(&a, r->size);
    read_all(p, r);
    double seconds = clock_now() - start;
    r->fresh = NULL;
    arena_destroy(&a);
    return seconds;
}

static double open_model(const char *path, cadre_error *err)
{
    cadre_model *m;
    cadre_model_options o = cadre_model_options_default();
    double start = clock_now();
    cadre_model_open(&m, path, &o, err);
    double seconds = clock_now() - start;
    cadre_model_close(m);
    return seconds;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const char *const what[3] = {"read", "read into fresh memory", "open"};
    static double t[3][MAX_TURNS];
    static struct reading r;
    struct cpu cpu;
    struct pool *pool;
    int turns = argc > 2 ? atoi(argv[2]) : 9;
    if (argc < 2 || turns < 1 || turns > MAX_TURNS) {
        fprintf(stderr, "usage: load MODEL.gguf [turns, 1 to %d]\n", MAX_TURNS);
        return 2;
    }
    cpu_detect(&cpu);
    r.path = argv[1];
    if (file_open(r.path, &r.fd, &r.size, &r.err) || pool_new(&pool, cpu.cores, &r.err)) {
        fprintf(stderr, "load: %s\n", r.err.text);
        return 1;
    }
    for (int i = 0; i < pool_threads(pool); i++)
        r.buffer[i] = calloc(1, PIECE);
    for (int i = 0; i < turns && !r.err.code; i++) {
        t[0][i] = read_all(pool, &r);
        t[1][i] = read_fresh(pool, &r);
        t[2][i] = open_model(r.path, &r.err);
    }
    if (r.err.code) {
        fprintf(stderr, "load: %s\n", r.err.text);
        return 1;
    }
    for (int w = 0; w < 3; w++) {
        qsort(t[w], (size_t)turns, sizeof *t[w], by_size);
        printf("%-24s %.3f s (%.3f-%.3f)\n", what[w], t[w][turns / 2], t[w][0], t[w][turns - 1]);
    }
    for (int i = 0; i < pool_threads(pool); i++)
        free(r.buffer[i]);
    pool_free(pool);
    file_close(r.fd);
    return 0;
}
