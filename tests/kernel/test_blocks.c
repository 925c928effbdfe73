/* Block formats: layout, activations on a grid and products, on every level, against blocks.c and against double. */
#include "levels.h"

#include "base/checked.h"

#ifdef CADRE_AMX_BLOCKS_MODEL
#include "amx_blocks_model.h"
#endif

static struct kernels level[ISA_COUNT + 2];
static int levels;

/* Every level; where the processor has VNNI, AVX-512 without it, and AMX over the model of its instructions. */
static void find_levels(void)
{
    struct levels all = levels_all();
    for (levels = 0; levels < all.count; levels++)
        level[levels] = all.of[levels];
    struct cpu cpu;
    cpu_detect(&cpu);
    if (cpu.avx512_vnni && test_isa(&cpu) >= ISA_AVX512) {
        cpu.avx512_vnni = false;
        kernels_init(&level[levels++], &cpu, ISA_AVX512);
    }
#ifdef CADRE_AMX_BLOCKS_MODEL
    if (cpu.avx512_vbmi && levels > all.count) {
        level[levels] = level[levels - 1];
        kernels_init_amxblocks_model(&level[levels++]);
    }
#endif
}

#define EACH_FORMAT(type)                                                                                              \
    for (enum dtype type = 0; type < DTYPE_COUNT; type++)                                                              \
        if (block_layout(type))

#define EACH_GRID_FORMAT(type)                                                                                         \
    EACH_FORMAT(type)                                                                                                  \
    if (level[0].gemm_grid[type])

struct weights {
    void *rows;
    float *decoded; /* [n, k] */
    struct packed packed;
};

static struct weights random_weights(struct rng *r, enum dtype type, int64_t n, int64_t k, bool any)
{
    struct weights w = {.rows = random_rows(r, type, n, k, any), .decoded = malloc((size_t)(n * k) * sizeof(float))};
    dtype_info(type)->decode(w.rows, w.decoded, (size_t)(n * k));
    size_t size = packed_bytes(type, n, k);
    void *data = aligned_alloc(64, (size + 63) / 64 * 64);
    packed_fill(NULL, data, type, w.rows, n, k);
    w.packed = (struct packed){type, n, k, data};
    return w;
}

static void free_weights(struct weights *w)
{
    free(w->rows);
    free(w->decoded);
    free((void *)(uintptr_t)w->packed.data);
}

struct activations {
    int64_t n;
    float *x;
    int16_t *q;
    float *grid, *sum;
};

static struct activations activations(struct rng *r, int64_t m, int64_t k, uint64_t rarity)
{
    struct activations a = {.n = m * k};
    a.x = malloc((size_t)a.n * sizeof *a.x);
    a.q = malloc((size_t)a.n * sizeof *a.q);
    a.grid = malloc((size_t)(a.n / GRID_BLOCK) * sizeof *a.grid);
    a.sum = malloc((size_t)(a.n / GRID_SUM) * sizeof *a.sum);
    fill_normal(r, a.x, a.n);
    for (int64_t i = 0; i < a.n; i += GRID_BLOCK) { /* scales far apart */
        float scale = ldexpf(1, (int)rng_below(r, 40) - 20);
        for (int j = 0; j < GRID_BLOCK; j++)
            a.x[i + j] *= scale;
    }
    if (rarity)
        add_specials(r, a.x, a.n, rarity);
    block_to_grid(a.x, a.n, a.q, a.grid, a.sum);
    return a;
}

static void free_activations(struct activations *a)
{
    free(a->x), free(a->q), free(a->grid), free(a->sum);
}

static void strips_have_the_bytes_and_numbers_of_their_rows(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 1);
    EACH_FORMAT(type)
    {
        const struct dtype_info *info = dtype_info(type);
        for (int64_t k = 256; k <= 768; k += 256) {
            int64_t n = 16 + (int64_t)rng_below(&r, 17);
            struct weights w = random_weights(&r, type, n, k, k == 512);
            assert_int_equal(packed_bytes(type, n, k), (n + 15) / 16 * 16 * (k / info->block) * info->bytes);
            float *got = malloc((size_t)k * STRIP * sizeof *got);
            size_t size = packed_bytes(type, n, k);
            void *again = aligned_alloc(64, (size + 63) / 64 * 64);
            for (int l = 0; l < levels; l++) {
                packed_fill(&level[l], again, type, w.rows, n, k);
                assert_memory_equal(again, w.packed.data, size);
            }
            free(again);
            for (int l = 0; l < levels; l++)
                for (int64_t strip = 0; strip < (n + 15) / 16; strip++) {
                    packed_decode(&level[l], got, &w.packed, strip, 0, 256, NULL);
                    if (k > 256)
                        packed_decode(&level[l], got + 256 * STRIP, &w.packed, strip, 256, k - 256, NULL);
                    for (int64_t lane = 0; lane < STRIP && strip * STRIP + lane < n; lane++)
                        for (int64_t i = 0; i < k; i++)
                            assert_same(info->name, &got[i * STRIP + lane], &w.decoded[(strip * STRIP + lane) * k + i],
                                        1);
                }
            free(got);
            free_weights(&w);
        }
    }
}

/* |a - grid A| is at most half a grid step beyond the rounding to bf16, |A| at most 4080, and the sums are exact. */
static void the_grid_is_as_near_as_it_says(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    struct activations a = activations(&r, 1, 64000, 0);
    for (int64_t i = 0; i < a.n; i++) {
        double grid = a.grid[i / GRID_BLOCK], rounded = bf16_to_f32(f32_to_bf16(a.x[i]));
        assert_true(fabs(grid * a.q[i] - rounded) <= grid / 2 && abs(a.q[i]) <= 4080);
        assert_true(bf16_to_f32(f32_to_bf16(a.q[i])) == a.q[i]); /* tiles of bf16 rely on it */
    }
    for (int64_t i = 0; i < a.n; i += GRID_SUM) {
        double sum = 0;
        for (int j = 0; j < GRID_SUM; j++)
            sum += (double)a.grid[i / GRID_BLOCK] * a.q[i + j];
        assert_true(sum == (double)a.sum[i / GRID_SUM]);
    }
    free_activations(&a);
}

static void levels_agree_on_the_grid(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    for (int turn = 0; turn < 4; turn++) {
        struct activations a = activations(&r, 1, 32 * 300, turn ? 40u * (unsigned)turn : 0);
        for (int64_t i = 0; turn == 3 && i < a.n; i++)
            a.x[i] *= 1e-35f; /* down to where the grid ends */
        block_to_grid(a.x, a.n, a.q, a.grid, a.sum);
        for (int l = 1; l < levels; l++) {
            struct activations b = activations(&r, 1, a.n, 0);
            level[l].to_grid(a.x, a.n, b.q, b.grid, b.sum);
            assert_memory_equal(a.q, b.q, (size_t)a.n * sizeof *a.q);
            assert_same("grid", b.grid, a.grid, a.n / GRID_BLOCK);
            assert_same("sum", b.sum, a.sum, a.n / GRID_SUM);
            free_activations(&b);
        }
        free_activations(&a);
    }
}

static void product(const struct kernels *ks, const struct weights *w, const struct activations *a, int64_t from,
                    int64_t m, float *c)
{
    int64_t k = w->packed.k, at = from * k;
    struct grid_rows rows = {a->q + at, a->grid + at / GRID_BLOCK, a->sum + at / GRID_SUM, k};
    ks->gemm_grid[w->packed.type](m, w->packed.n, k, &rows, w->packed.data, c, w->packed.n);
}

/* One row alone or among many, on every level: the same bytes. */
static void products_are_the_same_bytes(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 4);
    EACH_GRID_FORMAT(type)
    {
        enum { MANY = 512 };
        static const int batch[] = {1, 2, 3, 4, 5, 7, 12, 23, 64, MANY};
        int64_t n = 38, k = 256 * (1 + (int64_t)rng_below(&r, 3)) + dtype_info(type)->block * 3 % 256;
        for (int special = 0; special < 2; special++) {
            struct weights w = random_weights(&r, type, n, k, special);
            struct activations a = activations(&r, MANY, k, special ? 2000 : 0);
            float *want = malloc((size_t)(MANY * n) * sizeof *want), *got = malloc((size_t)(MANY * n) * sizeof *got);
            for (int64_t i = 0; i < MANY; i++)
                product(&level[0], &w, &a, i, 1, want + i * n);
            for (int l = 0; l < levels; l++)
                for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
                    for (int64_t i = 0; i < MANY; i += batch[b]) {
                        int64_t m = min_i64(batch[b], MANY - i);
                        product(&level[l], &w, &a, i, m, got);
                        assert_same(dtype_info(type)->name, got, want + i * n, m * n);
                    }
            free(want), free(got);
            free_activations(&a);
            free_weights(&w);
        }
    }
}

/* Against a sum in double over the decoded weights and unrounded activations: within the rounding of activations, and
 * far nearer in the mean. */
static void products_are_near_the_exact_sum(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    EACH_GRID_FORMAT(type)
    {
        int64_t n = 48, k = 1024, m = 8;
        struct weights w = random_weights(&r, type, n, k, false);
        struct activations a = activations(&r, m, k, 0);
        float *got = malloc((size_t)(m * n) * sizeof *got);
        product(&level[levels - 1], &w, &a, 0, m, got);
        double error = 0, size = 0;
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < n; j++) {
                double sum = 0, bound = 0;
                for (int64_t t = 0; t < k; t++) {
                    double x = a.x[i * k + t], y = w.decoded[j * k + t];
                    sum += x * y;
                    bound += fabs(y) * (fabs(x) * 0x1p-8 + (double)a.grid[(i * k + t) / GRID_BLOCK]);
                }
                double d = got[i * n + j] - sum;
                assert_true(fabs(d) <= bound);
                error += d * d;
                size += sum * sum;
            }
        assert_true(error <= 4e-3 * 4e-3 * size);
        free(got);
        free_activations(&a);
        free_weights(&w);
    }
}

/* gemm_few is gemm_f32 over the decoded strip. */
static void few_rows_of_f32_skip_the_detour(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 6);
    for (int l = 0; l < levels; l++)
        EACH_FORMAT(type)
        {
            if (!level[l].gemm_few[type])
                continue;
            int64_t n = 16 * 5 + 7, k = 512;
            struct weights w = random_weights(&r, type, n, k, true);
            struct activations a = activations(&r, GEMM_FEW, k, 3000);
            float *strips = malloc((size_t)(n + 16) * (size_t)k * sizeof *strips);
            float want[GEMM_FEW * 87], got[GEMM_FEW * 87];
            for (int64_t s = 0; s < (n + 15) / 16; s++) {
                packed_decode(&level[l], strips + s * k * STRIP, &w.packed, s, 0, 256, NULL);
                packed_decode(&level[l], strips + s * k * STRIP + 256 * STRIP, &w.packed, s, 256, 256, NULL);
            }
            for (int64_t m = 1; m <= GEMM_FEW; m++)
                for (int accumulate = 0; accumulate < 2; accumulate++) {
                    fill_normal(&r, want, m * n);
                    memcpy(got, want, sizeof got);
                    level[0].gemm_f32(m, n, k, a.x, k, strips, want, n, accumulate);
                    level[l].gemm_few[type](m, n, k, a.x, k, w.packed.data, got, n, accumulate);
                    assert_same(dtype_info(type)->name, got, want, m * n);
                }
            free(strips);
            free_activations(&a);
            free_weights(&w);
        }
}

/* A NaN or an infinity spoils its row, and no other. */
static void what_is_no_number_stays_in_its_row(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 7);
    struct weights w = random_weights(&r, DTYPE_Q4_K, 32, 256, false);
    for (int l = 0; l < levels; l++)
        for (int m = 3; m < 12; m += 4) {
            struct activations a = activations(&r, m, 256, 0);
            a.x[256 + 77] = m == 3 ? NAN : -INFINITY;
            level[l].to_grid(a.x, a.n, a.q, a.grid, a.sum);
            float c[12 * 32];
            product(&level[l], &w, &a, 0, m, c);
            for (int i = 0; i < m; i++)
                for (int j = 0; j < 32; j++)
                    assert_int_equal(isnan(c[i * 32 + j]), i == 1);
            free_activations(&a);
        }
    free_weights(&w);
}

int main(void)
{
    find_levels();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strips_have_the_bytes_and_numbers_of_their_rows),
        cmocka_unit_test(the_grid_is_as_near_as_it_says),
        cmocka_unit_test(levels_agree_on_the_grid),
        cmocka_unit_test(products_are_the_same_bytes),
        cmocka_unit_test(products_are_near_the_exact_sum),
        cmocka_unit_test(few_rows_of_f32_skip_the_detour),
        cmocka_unit_test(what_is_no_number_stays_in_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
