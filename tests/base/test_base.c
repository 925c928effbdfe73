#include "test.h"

#include <math.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/cpu.h"
#include "base/fileio.h"
#include "base/pool.h"
#include "base/rng.h"

static void errors_carry_text(void **s)
{
    (void)s;
    cadre_error e = {0};
    assert_int_equal(error_set(&e, CADRE_E_FORMAT, "expected %d", 7), CADRE_E_FORMAT);
    error_wrap(&e, CADRE_E_IO, "file %s", "x");
    assert_string_equal(e.text, "file x: expected 7");
    assert_int_equal(e.code, CADRE_E_IO);
    assert_int_equal(error_set(NULL, CADRE_E_ARG, "ignored"), CADRE_E_ARG);
}

static void checked_arithmetic_sees_overflow(void **s)
{
    (void)s;
    uint64_t r;
    assert_true(mul_ok(1u << 31, 1u << 31, &r));
    assert_false(mul_ok(UINT64_MAX / 2, 3, &r));
    assert_false(add_ok(UINT64_MAX, 1, &r));
}

static void arena_plan_equals_use(void **s)
{
    (void)s;
    struct arena plan, a;
    cadre_error e = {0};
    size_t sizes[] = {1, 64, 65, 1000, 0};
    arena_init_measuring(&plan);
    for (int i = 0; i < 5; i++)
        assert_non_null(arena_alloc(&plan, sizes[i]));
    assert_ok(arena_init(&a, plan.peak, &e), e);
    for (int i = 0; i < 5; i++) {
        unsigned char *p = arena_alloc(&a, sizes[i]);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, 0xab, sizes[i]);
    }
    assert_int_equal(a.used, plan.used);
    arena_reset(&a, 0);
    assert_int_equal(a.used, 0);
    assert_int_equal(a.peak, plan.peak);
    arena_destroy(&a);
}

enum { MAX_WORKERS = 8, MAX_ITEMS = 257 };

struct loop {
    unsigned char seen[MAX_ITEMS];
    int64_t last[MAX_WORKERS]; /* one more than the worker's last item */
    bool in_order[MAX_WORKERS];
};

static void count_item(void *arg, int64_t item, int worker)
{
    struct loop *l = arg;
    l->seen[item]++;
    l->in_order[worker] &= item >= l->last[worker];
    l->last[worker] = item + 1;
}

/* Each loop has counters of its own, so that an item of one that is run in another shows. */
static void pool_runs_every_item_once(void **s)
{
    (void)s;
    cadre_error e = {0};
    for (int n = 1; n <= MAX_WORKERS; n++) {
        struct pool *p;
        assert_ok(pool_new(&p, n, &e), e);
        assert_int_equal(pool_threads(p), n);
        for (int turn = 0; turn < 3000; turn++) {
            struct loop l = {0};
            int items = turn % 3 ? turn % 5 : turn % MAX_ITEMS;
            memset(l.in_order, 1, sizeof l.in_order);
            pool_run(p, items, count_item, &l);
            for (int i = 0; i < MAX_ITEMS; i++)
                if (l.seen[i] != (i < items))
                    fail_msg("%d threads, turn %d: item %d of %d ran %d times", n, turn, i, items, l.seen[i]);
            for (int i = 0; i < n; i++)
                assert_true(l.in_order[i]);
            if (turn % 500 == 0)
                usleep(3000); /* long enough for the workers to fall asleep */
        }
        pool_free(p);
    }
    struct pool *p;
    assert_int_equal(pool_new(&p, 0, &e), CADRE_E_ARG);
    assert_int_equal(pool_new(&p, 1025, &e), CADRE_E_ARG);
}

/* An item that takes until the other one has begun: two threads have to work at once. */
struct meeting {
    atomic_int there;
};

static void meet(void *arg, int64_t item, int worker)
{
    (void)item, (void)worker;
    struct meeting *m = arg;
    atomic_fetch_add(&m->there, 1);
    for (int i = 0; i < 10000 && atomic_load(&m->there) < 2; i++)
        usleep(1000);
}

static void pool_wakes_sleepers(void **s)
{
    (void)s;
    struct cpu cpu;
    cadre_error e = {0};
    cpu_detect(&cpu);
    assert_true(cpu.processors >= cpu.cores && cpu.cores >= 1);
    if (cpu.processors < 2)
        skip();
    for (int n = 2; n <= MAX_WORKERS; n += 3) {
        struct pool *p;
        assert_ok(pool_new(&p, n, &e), e);
        for (int turn = 0; turn < 5; turn++) {
            struct meeting m = {0};
            usleep(3000);
            pool_run(p, 2, meet, &m);
            assert_int_equal(m.there, 2);
        }
        pool_free(p);
    }
}

static double processor_seconds(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + 1e-6 * (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
}

static void idle_pools_use_no_processor(void **s)
{
    (void)s;
    cadre_error e = {0};
    struct pool *p[2];
    for (int i = 0; i < 2; i++) {
        struct loop l = {0};
        assert_ok(pool_new(&p[i], i ? MAX_WORKERS : 2, &e), e);
        pool_run(p[i], MAX_ITEMS, count_item, &l);
    }
    usleep(20000);
    double before = processor_seconds();
    usleep(200000);
    assert_true(processor_seconds() - before < 0.02); /* one spinning worker would use ten times that */
    pool_free(p[0]);
    pool_free(p[1]);
}

static void rng_is_the_published_sequence(void **s)
{
    (void)s;
    /* xoshiro256** from state {1,2,3,4}: the first outputs in its authors' test vectors. */
    struct rng r = {{1, 2, 3, 4}};
    uint64_t want[] = {11520u, 0u, 1509978240u, 1215971899390074240u};
    for (int i = 0; i < 4; i++)
        assert_true(rng_u64(&r) == want[i]);
    rng_seed(&r, 1);
    double sum = 0, sum2 = 0;
    for (int i = 0; i < 100000; i++) {
        double x = rng_normal(&r);
        sum += x;
        sum2 += x * x;
    }
    assert_true(fabs(sum / 1e5) < 0.02 && fabs(sum2 / 1e5 - 1) < 0.02);
    int hist[3] = {0};
    for (int i = 0; i < 30000; i++)
        hist[rng_below(&r, 3)]++;
    for (int i = 0; i < 3; i++)
        assert_in_range(hist[i], 9600, 10400);
}

static void isa_names_and_limits(void **s)
{
    (void)s;
    struct cpu cpu = {.best = ISA_AVX2, .name = "test"};
    enum isa isa;
    cadre_error e = {0};
    assert_ok(isa_parse("generic", &cpu, &isa, &e), e);
    assert_int_equal(isa, ISA_GENERIC);
    assert_int_equal(isa_parse("avx512", &cpu, &isa, &e), CADRE_E_UNSUPPORTED);
    assert_int_equal(isa_parse("sse", &cpu, &isa, &e), CADRE_E_ARG);
}

static void files_short_read_and_atomic_write(void **s)
{
    (void)s;
    cadre_error e = {0};
    char dir[] = "/tmp/cadre-base-XXXXXX", path[64], buf[8];
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/f", dir);
    struct atomic_file a;
    assert_ok(atomic_file_open(&a, path, &e), e);
    assert_ok(atomic_file_write(&a, "hello", 5, &e), e);
    assert_int_equal(access(path, F_OK), -1); /* not there before commit */
    assert_ok(atomic_file_commit(&a, &e), e);
    int fd;
    uint64_t size;
    assert_ok(file_open(path, &fd, &size, &e), e);
    assert_int_equal(size, 5);
    assert_ok(file_read_at(fd, path, 1, buf, 4, &e), e);
    assert_memory_equal(buf, "ello", 4);
    assert_int_equal(file_read_at(fd, path, 1, buf, 5, &e), CADRE_E_IO);
    assert_non_null(strstr(e.text, "ends at byte 5"));
    file_close(fd);
    assert_ok(atomic_file_open(&a, path, &e), e);
    assert_ok(atomic_file_write(&a, "gone", 4, &e), e);
    struct atomic_file second;
    assert_int_equal(atomic_file_open(&second, path, &e), CADRE_E_IO); /* one writer at a time */
    assert_non_null(strstr(e.text, "another process"));
    atomic_file_abort(&a);
    char left[80];
    snprintf(left, sizeof left, "%s.tmp", path);
    FILE *f = fopen(left, "w"); /* what a killed writer left */
    fputs("longer than what is written next", f);
    fclose(f);
    assert_ok(atomic_file_open(&a, path, &e), e);
    assert_ok(atomic_file_write(&a, "hello", 5, &e), e);
    assert_ok(atomic_file_commit(&a, &e), e);
    assert_int_equal(access(left, F_OK), -1);
    char *text;
    size_t n;
    assert_ok(file_slurp(path, 100, &text, &n, &e), e);
    assert_string_equal(text, "hello");
    free(text);
    assert_int_equal(file_slurp(path, 4, &text, &n, &e), CADRE_E_FORMAT);
    assert_int_equal(file_open(dir, &fd, &size, &e), CADRE_E_IO);
    unlink(path);
    rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_carry_text),
        cmocka_unit_test(checked_arithmetic_sees_overflow),
        cmocka_unit_test(arena_plan_equals_use),
        cmocka_unit_test(pool_runs_every_item_once),
        cmocka_unit_test(pool_wakes_sleepers),
        cmocka_unit_test(idle_pools_use_no_processor),
        cmocka_unit_test(rng_is_the_published_sequence),
        cmocka_unit_test(isa_names_and_limits),
        cmocka_unit_test(files_short_read_and_atomic_write),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
