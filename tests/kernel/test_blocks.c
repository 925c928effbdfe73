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
    struct grid_rows rows;
};

static struct activations activations(struct rng *r, enum act act, int64_t m, int64_t k, uint64_t rarity)
{
    struct activations a = {.n = m * k};
    a.x = malloc((size_t)a.n * sizeof *a.x);
    a.rows = grid_rows_in(aligned_alloc(64, grid_rows_bytes(act, a.n)), act, a.n, k);
    fill_normal(r, a.x, a.n);
    for (int64_t i = 0; i < a.n; i += GRID_BLOCK) { /* scales far apart */
        float scale = ldexpf(1, (int)rng_below(r, 40) - 20);
        for (int j = 0; j < GRID_BLOCK; j++)
            a.x[i + j] *= scale;
    }
    if (rarity)
        add_specials(r, a.x, a.n, rarity);
    block_to_grid(a.x, a.n, a.rows);
    return a;
}

static void free_activations(struct activations *a)
{
    free(a->x), free(a->rows.q);
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

static double sum_on_grid(const struct activations *a, int64_t at)
{
    double sum = 0;
    for (int j = 0; j < GRID_SUM; j++)
        sum += (double)a->rows.grid[at / GRID_BLOCK] * a->rows.q[at + j];
    return sum;
}

/* |a - grid A| is at most half a grid step beyond the rounding to bf16, |A| at most 4080, and the sums are exact. */
static void the_grid_is_as_near_as_it_says(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 2);
    struct activations a = activations(&r, ACT_GRID, 1, 64000, 0);
    for (int64_t i = 0; i < a.n; i++) {
        double grid = a.rows.grid[i / GRID_BLOCK], rounded = bf16_to_f32(f32_to_bf16(a.x[i]));
        int q = a.rows.q[i];
        assert_true(fabs(grid * q - rounded) <= grid / 2 && abs(q) <= 4080);
        assert_true(bf16_to_f32(f32_to_bf16((float)q)) == q); /* tiles of bf16 rely on it */
    }
    for (int64_t i = 0; i < a.n; i += GRID_SUM)
        assert_true(sum_on_grid(&a, i) == (double)a.rows.sum[i / GRID_SUM]);
    free_activations(&a);
}

/* The coarser one: half a step (and a little for the step's own rounding), |A| at most 127 and reached; bytes are
 * those of q, eight by eight, and biases and the rest what their sums make. */
static void bytes_are_as_near_as_they_say(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 8);
    struct activations a = activations(&r, ACT_INT8, 1, 64000, 0);
    for (int64_t b = 0; b < a.n / GRID_BLOCK; b++) {
        int most = 0, total[2] = {0};
        for (int64_t i = b * GRID_BLOCK; i < (b + 1) * GRID_BLOCK; i++) {
            double grid = a.rows.grid[b];
            int q = a.rows.q[i], place = (int)(i % 8);
            assert_true(fabs(grid * q - (double)a.x[i]) <= grid * (0.5 + 0x1p-15));
            most = abs(q) > most ? abs(q) : most;
            total[i % GRID_BLOCK / GRID_SUM] += q;
            int at = place % 4 / 2 * 4 + place / 4 + place % 2 * 2; /* 0 4 1 5 2 6 3 7 */
            assert_int_equal(a.rows.byte[b].q[i % GRID_BLOCK - place + at], q);
        }
        assert_int_equal(most, 127);
        const int32_t *bias = a.rows.byte[b].bias;
        const float *minus = a.rows.byte[b].minus;
        assert_true(a.rows.byte[b].grid == a.rows.grid[b] && minus[0] == -a.rows.sum[2 * b] &&
                    minus[1] == -a.rows.sum[2 * b + 1] && minus[2] == minus[0] + minus[1]);
        assert_int_equal(bias[0], -128 * total[0]);
        assert_int_equal(bias[1], -128 * total[1]);
        assert_int_equal(bias[2], -128 * (total[0] + total[1]));
        for (int h = 0; h < 2; h++) {
            double want = sum_on_grid(&a, b * GRID_BLOCK + h * GRID_SUM);
            assert_true(fabs(want - (double)a.rows.sum[2 * b + h]) <= fabs(want) * 0x1p-24);
        }
    }
    free_activations(&a);
}

static void agree_on_the_grid(struct rng *r, enum act act)
{
    for (int turn = 0; turn < 4; turn++) {
        struct activations a = activations(r, act, 1, 32 * 300, turn ? 40u * (unsigned)turn : 0);
        for (int64_t i = 0; turn == 3 && i < a.n; i++)
            a.x[i] *= 1e-35f; /* down to where the grid ends */
        block_to_grid(a.x, a.n, a.rows);
        for (int l = 1; l < levels; l++) {
            struct activations b = activations(r, act, 1, a.n, 0);
            level[l].to_grid(a.x, a.n, b.rows);
            assert_memory_equal(a.rows.q, b.rows.q, (size_t)a.n * sizeof *a.rows.q);
            assert_same("grid", b.rows.grid, a.rows.grid, a.n / GRID_BLOCK);
            assert_same("sum", b.rows.sum, a.rows.sum, a.n / GRID_SUM);
            for (int64_t i = 0; act == ACT_INT8 && i < a.n / GRID_BLOCK; i++) {
                const struct byte_block *x = &a.rows.byte[i], *y = &b.rows.byte[i];
                assert_memory_equal(x->q, y->q, sizeof x->q);
                assert_memory_equal(x->bias, y->bias, sizeof x->bias);
                assert_same("grid", &y->grid, &x->grid, 1);
                assert_same("minus", y->minus, x->minus, 3);
            }
            free_activations(&b);
        }
        free_activations(&a);
    }
}

static void levels_agree_on_the_grid(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 3);
    agree_on_the_grid(&r, ACT_GRID);
    agree_on_the_grid(&r, ACT_INT8);
}

static void product(const struct kernels *ks, const struct weights *w, const struct activations *a, int64_t from,
                    int64_t m, float *c)
{
    struct grid_rows rows = grid_rows_from(a->rows, from * w->packed.k);
    ks->gemm_grid[w->packed.type](m, w->packed.n, w->packed.k, &rows, w->packed.data, c, w->packed.n);
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
        for (int turn = 0; turn < 4; turn++) {
            bool special = turn % 2;
            int64_t many = special ? 128 : MANY;
            struct weights w = random_weights(&r, type, n, k, special);
            struct activations a = activations(&r, turn < 2 ? ACT_GRID : ACT_INT8, many, k, special ? 2000 : 0);
            float *want = malloc((size_t)(MANY * n) * sizeof *want), *got = malloc((size_t)(MANY * n) * sizeof *got);
            for (int64_t i = 0; i < many; i++)
                product(&level[0], &w, &a, i, 1, want + i * n);
            for (int l = 0; l < levels; l++)
                for (size_t b = 0; b < sizeof batch / sizeof *batch; b++)
                    for (int64_t i = 0; i < many; i += batch[b]) {
                        int64_t m = min_i64(batch[b], many - i);
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
static void near_the_exact_sum(struct rng *r, enum dtype type, enum act act, double rounding, double mean)
{
    int64_t n = 48, k = 1024, m = 8;
    struct weights w = random_weights(r, type, n, k, false);
    struct activations a = activations(r, act, m, k, 0);
    float *got = malloc((size_t)(m * n) * sizeof *got);
    product(&level[levels - 1], &w, &a, 0, m, got);
    double error = 0, size = 0;
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0, bound = 0;
            for (int64_t t = 0; t < k; t++) {
                double x = a.x[i * k + t], y = w.decoded[j * k + t];
                sum += x * y;
                bound += fabs(y) * (fabs(x) * rounding + (double)a.rows.grid[(i * k + t) / GRID_BLOCK]);
            }
            double d = got[i * n + j] - sum;
            assert_true(fabs(d) <= bound);
            error += d * d;
            size += sum * sum;
        }
    assert_true(error <= mean * mean * size);
    free(got);
    free_activations(&a);
    free_weights(&w);
}

static void products_are_near_the_exact_sum(void **state)
{
    (void)state;
    struct rng r;
    rng_seed(&r, 5);
    EACH_GRID_FORMAT(type)
    {
        near_the_exact_sum(&r, type, ACT_GRID, 0x1p-8, 4e-3);
        near_the_exact_sum(&r, type, ACT_INT8, 0x1p-20, 1e-2);
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
            struct activations a = activations(&r, ACT_GRID, GEMM_FEW, k, 3000);
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
        for (int m = 3; m < 12; m += 2) {
            struct activations a = activations(&r, m % 4 == 3 ? ACT_GRID : ACT_INT8, m, 256, 0);
            a.x[256 + 77] = m < 7 ? NAN : -INFINITY;
            level[l].to_grid(a.x, a.n, a.rows);
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
        cmocka_unit_test(bytes_are_as_near_as_they_say),
        cmocka_unit_test(levels_agree_on_the_grid),
        cmocka_unit_test(products_are_the_same_bytes),
        cmocka_unit_test(products_are_near_the_exact_sum),
        cmocka_unit_test(few_rows_of_f32_skip_the_detour),
        cmocka_unit_test(what_is_no_number_stays_in_its_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
