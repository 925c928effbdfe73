/* Block products on AMX, byte for byte the generic ones: on the processor's instructions where it has them, and over
 * the model of them wherever there is AVX-512 with VNNI and VBMI. The output says which. */
#include "levels.h"

#include "base/arena.h"
#include "base/checked.h"
#include "base/pool.h"
#include "kernel/gemm.h"

#ifdef CADRE_AMX_BLOCKS_MODEL
#include "amx_blocks_model.h"
#endif

static struct {
    const char *name;
    struct kernels k;
    bool model;
} way[2];
static int ways;
static struct kernels generic;
static struct pool *pools[3]; /* 1, 2 and 3 threads */

static void find_ways(void)
{
    struct cpu cpu;
    cpu_detect(&cpu);
    enum isa isa = test_isa(&cpu);
#ifdef CADRE_AMX_BLOCKS_MODEL
    if (cpu.avx512_vnni && cpu.avx512_vbmi && isa >= ISA_AVX512) {
        way[ways].name = "a model of AMX";
        way[ways].model = true;
        kernels_init(&way[ways].k, &cpu, ISA_AVX512);
        kernels_init_amxblocks_model(&way[ways++].k);
    }
#endif
    if (cpu.amx_bf16 && cpu.avx512_vnni && cpu.avx512_vbmi && isa >= ISA_AMX) {
        way[ways].name = "AMX instructions";
        kernels_init(&way[ways++].k, &cpu, ISA_AMX);
    }
    for (int i = 0; i < ways; i++)
        print_message("block products on %s\n", way[i].name);
}

#define EACH_FORMAT(type)                                                                                              \
    for (enum dtype type = 0; type < DTYPE_COUNT; type++)                                                              \
        if (generic.gemm_grid[type])

enum { OUTPUTS = 150, ROWS = 512, MAX_K = 768, BEYOND = 3 };

/* A product's operands, what generic makes of them, and room for another result with BEYOND numbers more a row. */
struct product {
    int64_t m, n, k;
    struct packed weights;
    float *x, *want, *got;
    struct grid_rows rows;
};

static struct product product_new(struct rng *r, enum dtype type, enum act act, int64_t m, int64_t n, int64_t k,
                                  bool any)
{
    struct product p = {.m = m, .n = n, .k = k};
    void *rows = random_rows(r, type, n, k, any);
    void *data = aligned_alloc(64, (packed_bytes(type, n, k) + 63) / 64 * 64);
    packed_fill(NULL, data, type, rows, n, k);
    free(rows);
    p.weights = (struct packed){type, n, k, data};
    p.x = malloc((size_t)(m * k) * sizeof *p.x);
    p.rows = grid_rows_in(aligned_alloc(64, grid_rows_bytes(act, m * k)), act, m * k, k);
    p.want = malloc((size_t)(m * n) * sizeof *p.want);
    p.got = malloc((size_t)(m * (n + BEYOND)) * sizeof *p.got);
    for (int64_t i = 0; i < m * k; i += GRID_BLOCK) { /* scales far apart */
        fill_normal(r, p.x + i, GRID_BLOCK);
        float scale = ldexpf(1, (int)rng_below(r, 40) - 20);
        for (int j = 0; j < GRID_BLOCK; j++)
            p.x[i + j] *= scale;
    }
    return p;
}

static void product_define(struct product *p)
{
    block_to_grid(p->x, p->m * p->k, p->rows);
    block_product(p->weights.type, p->m, p->n, p->k, &p->rows, p->weights.data, p->want, p->n);
}

static void product_free(struct product *p)
{
    free((void *)(uintptr_t)p->weights.data);
    free(p->x), free(p->rows.q), free(p->want), free(p->got);
}

/* The first m of `got` from row `row` on, and nothing written beyond the outputs */
static void compare(const struct product *p, int64_t row, int64_t m, const char *what)
{
    for (int64_t i = 0; i < m; i++) {
        const float *got = p->got + i * (p->n + BEYOND);
        assert_same(what, got, p->want + (row + i) * p->n, p->n);
        for (int j = 0; j < BEYOND; j++)
            assert_true(got[p->n + j] == 12345);
    }
}

static void multiply(const struct kernels *k, struct product *p, int64_t row, int64_t m)
{
    struct grid_rows a = grid_rows_from(p->rows, row * p->k);
    for (int64_t i = 0; i < m * (p->n + BEYOND); i++)
        p->got[i] = 12345;
    k->gemm_grid[p->weights.type](m, p->n, p->k, &a, p->weights.data, p->got, p->n + BEYOND);
    compare(p, row, m, dtype_info(p->weights.type)->name);
}

static void run_threads(const struct kernels *k, struct pool *pool, struct product *p, int64_t row, int64_t m)
{
    struct gemm g = {.m = m,
                     .n = p->n,
                     .k = p->k,
                     .packed = &p->weights,
                     .grid = &p->rows,
                     .grid_row = row,
                     .c = p->got,
                     .c_row = p->n + BEYOND};
    struct arena arena;
    cadre_error e;
    assert_ok(arena_init(&arena, 1 << 20, &e), e);
    for (int64_t i = 0; i < m * g.c_row; i++)
        p->got[i] = 12345;
    gemm_run(k, pool, &arena, GEMM_F32, &g, 1);
    compare(p, row, m, dtype_info(p->weights.type)->name);
    arena_destroy(&arena);
}

/* The numbers that a grid may meet but for the huge ones */
static void add_nan_and_infinity(struct rng *r, float *x, int64_t n, uint64_t rarity)
{
    static const float special[] = {INFINITY, -INFINITY, NAN, 1e-42f, -3e-39f, 0.0f, -0.0f, 1e30f, -1e30f};
    for (int64_t i = 0; i < n; i++)
        if (rng_below(r, rarity) == 0)
            x[i] = special[rng_below(r, sizeof special / sizeof *special)];
}

static void batches_and_threads_give_the_bytes_of_generic(void **state)
{
    (void)state;
    if (!ways)
        skip();
    static const int batch[] = {1, 7, 64, ROWS};
    struct rng r;
    rng_seed(&r, 1);
    EACH_FORMAT(type)
    for (int turn = 0; turn < 4; turn++) {
        bool special = turn % 2;
        int64_t k = 256 * (1 + (int64_t)rng_below(&r, 2)) + (dtype_info(type)->block == 32 ? 96 : 0);
        struct product p = product_new(&r, type, turn < 2 ? ACT_GRID : ACT_INT8, ROWS, OUTPUTS, k, special);
        if (special)
            add_nan_and_infinity(&r, p.x, p.m * k, 3000);
        product_define(&p);
        for (int w = 0; w < ways; w++)
            for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
                for (int t = 0; t < 3; t++)
                    run_threads(&way[w].k, pools[t], &p, (int64_t)rng_below(&r, (uint64_t)(ROWS - batch[b] + 1)),
                                batch[b]);
        product_free(&p);
    }
}

/* Rows beside whole tiles, outputs beside whole pairs of strips, k beside whole panels */
static void tails_are_the_same_bytes(void **state)
{
    (void)state;
    if (!ways)
        skip();
    static const int m[] = {5, 6, 9, 15, 16, 17, 31, 33, 48, 255, 257, 300};
    struct rng r;
    rng_seed(&r, 2);
    EACH_FORMAT(type)
    for (size_t i = 0; i < sizeof m / sizeof *m; i++) {
        int64_t block = dtype_info(type)->block, k = block * (1 + (int64_t)rng_below(&r, block == 32 ? 12 : 2));
        struct product p =
            product_new(&r, type, i % 2 ? ACT_INT8 : ACT_GRID, m[i], 1 + (int64_t)rng_below(&r, 70), k, false);
        product_define(&p);
        for (int w = 0; w < ways; w++)
            multiply(&way[w].k, &p, 0, m[i]);
        product_free(&p);
    }
}

/* At both ends of the grid: where numbers lose bits to the least grid, and where sums may overflow on their way */
static void tiny_and_huge_activations_are_the_same_bytes(void **state)
{
    (void)state;
    if (!ways)
        skip();
    struct rng r;
    rng_seed(&r, 3);
    EACH_FORMAT(type)
    for (int turn = 0; turn < 8; turn++) {
        int end = turn % 4;
        static const float scale[] = {1e-35f, 1e-41f, 0x1p114f / 0x1p20f, 3e38f};
        struct product p = product_new(&r, type, turn < 4 ? ACT_GRID : ACT_INT8, 37, 40, 256, false);
        for (int64_t i = 0; i < p.m * p.k; i++)
            p.x[i] = end < 3                 ? p.x[i] * scale[end]
                     : rng_below(&r, 9) == 0 ? (rng_below(&r, 2) ? scale[end] : -scale[end])
                                             : p.x[i];
        product_define(&p);
        for (int w = 0; w < ways; w++)
            multiply(&way[w].k, &p, 0, p.m);
        product_free(&p);
    }
}

static bool has_nan(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (isnan(x[i]))
            return true;
    return false;
}

static void a_nan_spoils_its_row_alone(void **state)
{
    (void)state;
    if (!ways)
        skip();
    struct rng r;
    rng_seed(&r, 4);
    EACH_FORMAT(type)
    for (int turn = 0; turn < 4; turn++) {
        struct product p = product_new(&r, type, turn < 2 ? ACT_GRID : ACT_INT8, 40, 64, 256, false);
        p.x[21 * p.k + 77] = turn % 2 ? NAN : -INFINITY;
        product_define(&p);
        for (int w = 0; w < ways; w++) {
            multiply(&way[w].k, &p, 0, p.m);
            for (int64_t i = 0; i < p.m; i++)
                assert_int_equal(has_nan(p.got + i * (p.n + BEYOND), p.n), i == 21);
        }
        product_free(&p);
    }
}

#ifdef CADRE_AMX_BLOCKS_MODEL
static int64_t products_of(const struct kernels *k, struct product *p, int64_t row, int64_t m)
{
    int64_t before = amx_model_products();
    multiply(k, p, row, m);
    assert_true(amx_model_released());
    return amx_model_products() - before;
}

/* Few rows, single strips and rows with numbers near overflow are left to AVX-512; all else is on tiles. */
static void tiles_are_used_where_they_pay(void **state)
{
    (void)state;
    if (!ways || !way[0].model)
        skip();
    struct rng r;
    rng_seed(&r, 5);
    EACH_FORMAT(type)
    {
        const struct block_layout *f = block_layout(type);
        struct product p = product_new(&r, type, ACT_GRID, 64, 64, 256, false);
        product_define(&p);
        int64_t all = 4 * 4 * 256 / f->sub; /* 16 rows × 16 outputs × a group */
        assert_int_equal(products_of(&way[0].k, &p, 0, 64), all);
        assert_int_equal(products_of(&way[0].k, &p, 3, 17), all / 2);
        assert_int_equal(products_of(&way[0].k, &p, 0, GEMM_FEW), 0);
        assert_int_equal(products_of(&way[0].k, &p, 0, GEMM_FEW + 1) > 0, f->sub == 32 && f->low < 8);
        assert_true(products_of(&way[0].k, &p, 0, 2 * GEMM_FEW + 1) > 0);
        p.x[40 * 256 + 9] = 0x1p115f;
        product_define(&p);
        assert_int_equal(products_of(&way[0].k, &p, 32, 32), 0);
        assert_int_equal(products_of(&way[0].k, &p, 0, 32), all / 2);
        product_free(&p);
        p = product_new(&r, type, ACT_GRID, 16, 16, 256, false);
        product_define(&p);
        assert_int_equal(products_of(&way[0].k, &p, 0, 16), 0);
        product_free(&p);
    }
}
#endif

int main(void)
{
    kernels_init_generic(&generic);
    find_ways();
    cadre_error e;
    for (int t = 0; t < 3; t++)
        if (pool_new(&pools[t], t + 1, &e) != CADRE_OK)
            return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batches_and_threads_give_the_bytes_of_generic),
        cmocka_unit_test(tails_are_the_same_bytes),
        cmocka_unit_test(tiny_and_huge_activations_are_the_same_bytes),
        cmocka_unit_test(a_nan_spoils_its_row_alone),
#ifdef CADRE_AMX_BLOCKS_MODEL
        cmocka_unit_test(tiles_are_used_where_they_pay),
#endif
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int t = 0; t < 3; t++)
        pool_free(pools[t]);
    return failed;
}
