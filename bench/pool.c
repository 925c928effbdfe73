/* What a loop over the thread pool costs beyond its items: with threads awake, after a pause in which they fall asleep,
 * and, of items that compute, with more threads than there are processors.
 *
 *     pool [turns]        medians of `turns` (default 15) that go round the thread counts */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"

enum { MAX_TURNS = 1000, LOOPS = 10000, PAUSES = 20, ITEMS = 16, FEW = 4 };

static void nothing(void *arg, int64_t item, int worker)
{
    (void)arg, (void)item, (void)worker;
}

/* A few microseconds of arithmetic. */
static void some_work(void *arg, int64_t item, int worker)
{
    (void)worker;
    volatile double *out = arg;
    double x = (double)item;
    for (int i = 0; i < 2000; i++)
        x = x * 0.999 + 1;
    out[item * 8] = x;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Seconds a loop. */
static double loops(struct pool *p, int n, int64_t items, pool_fn *fn, void *arg)
{
    double start = clock_now();
    for (int i = 0; i < n; i++)
        pool_run(p, items, fn, arg);
    return (clock_now() - start) / n;
}

static double after_pauses(struct pool *p)
{
    double sum = 0;
    for (int i = 0; i < PAUSES; i++) {
        usleep(2000);
        sum += loops(p, 1, FEW, nothing, NULL);
    }
    return sum / PAUSES;
}

int main(int argc, char **argv)
{
    static double out[ITEMS * 8], t[4][3][MAX_TURNS];
    int turns = argc > 1 ? atoi(argv[1]) : 15;
    cadre_error err = {0};
    struct cpu cpu;
    struct pool *pool[4];
    cpu_detect(&cpu);
    const int threads[4] = {1, cpu.processors, 2 * cpu.processors, 4 * cpu.processors};
    if (turns < 1 || turns > MAX_TURNS) {
        fprintf(stderr, "pool: expected 1 to %d turns\n", MAX_TURNS);
        return 2;
    }
    for (int i = 0; i < 4; i++)
        if (pool_new(&pool[i], threads[i], &err)) {
            fprintf(stderr, "pool: %s\n", err.text);
            return 1;
        }
    for (int turn = 0; turn < turns; turn++)
        for (int i = 0; i < 4; i++) {
            t[i][0][turn] = loops(pool[i], LOOPS, FEW, nothing, NULL);
            t[i][1][turn] = after_pauses(pool[i]);
            t[i][2][turn] = loops(pool[i], LOOPS / 10, ITEMS, some_work, out);
        }
    printf("%d processors, %d turns: median (least, most)\n", cpu.processors, turns);
    for (int i = 0; i < 4; i++) {
        printf("%3d threads", threads[i]);
        const char *const names[3] = {"empty", "after a pause", "16 items"};
        for (int j = 0; j < 3; j++) {
            qsort(t[i][j], (size_t)turns, sizeof(double), by_size);
            printf("  %s %.2f (%.2f, %.2f) us", names[j], 1e6 * t[i][j][turns / 2], 1e6 * t[i][j][0],
                   1e6 * t[i][j][turns - 1]);
        }
        printf("\n");
        pool_free(pool[i]);
    }
    return 0;
}
