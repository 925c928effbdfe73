/* The product driver: against a naive product in double, and against itself over threads, batches and lists. */
#include "levels.h"

#include "base/arena.h"
#include "base/pool.h"
#include "kernel/gemm.h"

static struct levels levels;
static struct pool *pools[3]; /* 1, 2 and 3 threads */

static size_t measure(const struct kernels *ks, struct pool *pool, enum gemm_precision p, const struct gemm *list,
                      int64_t count)
{
    struct arena a;
    arena_init_measuring(&a);
    gemm_run(ks, pool, &a, p, list, count);
    assert_int_equal(a.used, 0);
    return a.peak;
}

/* With exactly the memory that the measuring run asked for. */
static void run(const struct kernels *ks, struct pool *pool, enum gemm_precision p, const struct gemm *list,
                int64_t count)
{
    struct arena a;
    cadre_error e;
    size_t need = measure(ks, pool, p, list, count);
    assert_ok(arena_init(&a, need, &e), e);
    size_t reserved = a.size;
    a.size = need;
    gemm_run(ks, pool, &a, p, list, count);
    assert_int_equal(a.used, 0);
    a.size = reserved;
    arena_destroy(&a);
}

static float *normals(struct rng *r, int64_t n)
{
    float *x = malloc((size_t)(n ? n : 1) * sizeof *x);
    fill_normal(r, x, n);
    return x;
}

static struct gemm random_product(struct rng *r, int64_t m, int64_t n, int64_t k)
{
    bool a_t = rng_below(r, 2), b_t = rng_below(r, 2);
    struct gemm g = {.m = m, .n = n, .k = k, .c_row = n + 1, .accumulate = rng_below(r, 2)};
    g.a = normals(r, m * k);
    g.a_row = a_t ? 1 : k;
    g.a_col = a_t ? m : 1;
    g.b = normals(r, n * k);
    g.b_row = b_t ? 1 : k;
    g.b_col = b_t ? n : 1;
    g.c = normals(r, m * (n + 1));
    return g;
}

static void free_product(struct gemm *g)
{
    free((void *)g->a);
    free((void *)g->b);
    free(g->c);
}

static void products_are_right(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    for (int l = 0; l < levels.count; l++)
        for (int turn = 0; turn < 60; turn++) {
            int64_t m = (int64_t)rng_below(&r, 60) + (turn == 3 ? 600 : 0), n = (int64_t)rng_below(&r, 300) + 1;
            int64_t k = turn == 5 ? 0 : (int64_t)rng_below(&r, 40) + (turn % 8 == 0 ? 1000 : 0);
            struct gemm g = random_product(&r, m, n, k);
            enum gemm_precision p = turn % 2 ? GEMM_BF16 : GEMM_F32;
            float *before = malloc((size_t)(m * g.c_row + 1) * sizeof *before);
            memcpy(before, g.c, (size_t)(m * g.c_row) * sizeof *before);
            run(&levels.of[l], pools[turn % 3], p, &g, 1);
            for (int64_t i = 0; i < m; i++)
                for (int64_t j = 0; j < g.c_row; j++) {
                    double want = (double)before[i * g.c_row + j], size = 0, found = (double)g.c[i * g.c_row + j];
                    if (j < n && !g.accumulate)
                        want = 0;
                    for (int64_t q = 0; j < n && q < k; q++) {
                        double x = (double)g.a[i * g.a_row + q * g.a_col] * (double)g.b[j * g.b_row + q * g.b_col];
                        want += x;
                        size += fabs(x);
                    }
                    /* two operands rounded to 8 bits: (1 + 2^-8)² - 1 at most; the sum as in test_kernels */
                    double bound =
                        (p == GEMM_BF16 ? 0x1.01p-7 : 0) * size + (double)(k + 2) * 0x1p-23 * (size + fabs(want));
                    if (j == n)
                        bound = 0;
                    if (!(fabs(found - want) <= bound))
                        fail_msg("m %d n %d k %d, at %d %d: expected %g, found %g", (int)m, (int)n, (int)k, (int)i,
                                 (int)j, want, found);
                }
            free(before);
            free_product(&g);
        }
}

/* The same bytes with 1, 2, 3 threads, for a row alone, and as part of a list. */
static void bytes_do_not_depend_on_threads_batch_or_list(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    for (int l = 1; l < levels.count; l++)
        for (int p = 0; p < 2; p++) {
            enum { COUNT = 9 };
            struct gemm list[COUNT], one[COUNT];
            int64_t total = 0;
            for (int i = 0; i < COUNT; i++) {
                list[i] = random_product(&r, i == 4 ? 0 : (int64_t)rng_below(&r, 200), 150, i == 6 ? 1100 : 77);
                list[i].accumulate = false;
                total += list[i].m * list[i].c_row;
                one[i] = list[i];
                one[i].c = calloc((size_t)(list[i].m * list[i].c_row + 1), sizeof(float));
            }
            for (int t = 0; t < 3; t++) {
                for (int i = 0; i < COUNT; i++)
                    memset(list[i].c, 0, (size_t)(list[i].m * list[i].c_row) * sizeof(float));
                run(&levels.of[l], pools[t], (enum gemm_precision)p, list, COUNT);
                for (int i = 0; i < COUNT; i++) {
                    if (t == 0)
                        run(&levels.of[l], NULL, (enum gemm_precision)p, &one[i], 1);
                    assert_memory_equal(list[i].c, one[i].c, (size_t)(list[i].m * list[i].c_row) * sizeof(float));
                }
            }
            for (int i = 0; i < COUNT; i++) {
                float row[151];
                for (int64_t j = 0; j < list[i].m; j += 13) {
                    struct gemm g = list[i];
                    g.m = 1;
                    g.a += j * g.a_row;
                    g.c = row;
                    run(&levels.of[l], NULL, (enum gemm_precision)p, &g, 1);
                    assert_memory_equal(row, list[i].c + j * list[i].c_row, 150 * sizeof(float));
                }
                free(one[i].c);
                free_product(&list[i]);
            }
            assert_true(total > 0);
        }
}

/* f32 products are the same bytes on every level, so a level's product of packed weights equals the generic product of
 * the decoded ones, row by row: batches of 1, 7 and 64 rows. */
static void packed_weights_equal_their_decoded_numbers(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    int seen = 0;
    for (int turn = 0; turn < 4 * DTYPE_COUNT; turn++) {
        enum dtype type = (enum dtype)(turn % DTYPE_COUNT);
        const struct dtype_info *info = dtype_info(type);
        if (!info->weight)
            continue;
        static const int64_t batches[] = {1, 7, 64, 7};
        int64_t n = (int64_t)rng_below(&r, 100) + 1, m = batches[turn / DTYPE_COUNT];
        int64_t k = ((int64_t)rng_below(&r, 600 / info->block) + 1) * info->block;
        uint64_t bytes;
        assert_true(dtype_size(type, (uint64_t)(n * k), &bytes));
        void *rows = random_rows(&r, type, n, k, turn / DTYPE_COUNT == 3);
        float *w = malloc((size_t)(n * k) * sizeof *w), *a = normals(&r, m * k);
        float *want = malloc((size_t)(m * n) * sizeof *want), *got = malloc((size_t)(m * n) * sizeof *got);
        info->decode(rows, w, (size_t)(n * k));
        size_t size = packed_bytes(type, n, k);
        assert_true(size >= bytes && size <= packed_bytes(type, n + 15, k));
        void *data = aligned_alloc(64, (size + 63) / 64 * 64);
        packed_fill(NULL, data, type, rows, n, k);
        struct packed packed = {type, n, k, data};
        struct gemm plain = {.m = m,
                             .n = n,
                             .k = k,
                             .a = a,
                             .a_row = k,
                             .a_col = 1,
                             .b = w,
                             .b_row = k,
                             .b_col = 1,
                             .c = want,
                             .c_row = n};
        struct gemm compact = plain;
        compact.b = NULL;
        compact.packed = &packed;
        compact.c = got;
        run(&levels.of[0], NULL, GEMM_F32, &plain, 1);
        for (int l = 0; l < levels.count; l++)
            for (int t = 0; t < 2; t++) {
                run(&levels.of[l], pools[t], GEMM_F32, &compact, 1);
                assert_same(info->name, got, want, m * n);
                if (type == DTYPE_BF16) { /* rounding the weights again changes nothing: packed equals unpacked */
                    float *both = malloc((size_t)(m * n) * sizeof *both);
                    struct gemm g = plain;
                    g.c = both;
                    run(&levels.of[l], pools[t], GEMM_BF16, &g, 1);
                    run(&levels.of[l], pools[t], GEMM_BF16, &compact, 1);
                    assert_same("bf16 packed", got, both, m * n);
                    free(both);
                }
            }
        seen++;
        free(w), free(a), free(want), free(got), free(rows), free(data);
    }
    assert_true(seen >= 4 * 35);
}

static void types_without_a_product_have_no_packed_size(void **state)
{
    (void)state;
    assert_int_equal(packed_bytes(DTYPE_I32, 16, 32), 0);
    assert_int_equal(packed_bytes(DTYPE_Q8_0, 16, 33), 0);
    assert_int_equal(packed_bytes(DTYPE_Q8_0, 17, 32), 2 * 16 * 34);
    assert_int_equal(packed_bytes(DTYPE_BF16, 1, 3), 16 * 4 * 2);
}

/* What gemm.h promises to planners: one product with all rows, or with all of k, needs at least as much as any split.
 */
static void a_split_never_needs_more_than_the_whole(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 4);
    const struct kernels *ks = &levels.of[levels.count - 1];
    struct packed packed[2] = {{.type = DTYPE_BF16}, {.type = DTYPE_F8_E4M3}}; /* with a kernel, and decoded */
    for (int turn = 0; turn < 3000; turn++) {
        enum { COUNT = 24 };
        struct gemm whole = {
            .m = (int64_t)rng_below(&r, 9000), .n = (int64_t)rng_below(&r, 600) + 1, .k = (int64_t)rng_below(&r, 9000)};
        whole.a_row = rng_below(&r, 2) ? 1 : whole.k;
        whole.a_col = whole.a_row == 1 ? 256 : 1;
        if (turn % 4 == 0)
            whole.packed = &packed[turn / 4 % 2];
        bool rows = turn % 2;
        struct gemm list[COUNT];
        int64_t left = rows ? whole.m : whole.k;
        for (int i = 0; i < COUNT; i++) {
            int64_t part = i == COUNT - 1 ? left : (int64_t)rng_below(&r, (uint64_t)left + 1);
            list[i] = whole;
            *(rows ? &list[i].m : &list[i].k) = part;
            left -= part;
        }
        for (int p = 0; p < 2; p++)
            assert_true(measure(ks, pools[1], (enum gemm_precision)p, list, COUNT) <=
                        measure(ks, pools[1], (enum gemm_precision)p, &whole, 1));
    }
}

int main(void)
{
    levels = levels_all();
    cadre_error e;
    for (int i = 0; i < 3; i++)
        if (pool_new(&pools[i], i + 1, &e) != CADRE_OK)
            return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_right),
        cmocka_unit_test(bytes_do_not_depend_on_threads_batch_or_list),
        cmocka_unit_test(packed_weights_equal_their_decoded_numbers),
        cmocka_unit_test(types_without_a_product_have_no_packed_size),
        cmocka_unit_test(a_split_never_needs_more_than_the_whole),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 3; i++)
        pool_free(pools[i]);
    return failed;
}
