/* Products with packed weights of every number format, one thread, operands in cache:
 *
 *     formats [turns [name]]      best of `turns` (default 7); other programs on the machine lower the figures
 *
 * A row of f32 activations, 512 rows, and the same on the grids (`--act auto`, `--act int8`) where the format has such
 * products.
 * GB/s are of weights as they lie in the file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/rng.h"
#include "engine/session.h"
#include "kernel/gemm.h"

enum { N = 1024, K = 2048, MANY = 512 };

struct rows {
    float *x, *c;
    struct grid_rows grid[ACT_COUNT]; /* none of ACT_F32 */
};

static void *memory(size_t bytes)
{
    void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (!p)
        exit(1);
    return memset(p, 0, bytes);
}

static struct rows activations(const struct kernels *ks, struct rng *r)
{
    struct rows a = {.x = memory(MANY * K * sizeof(float)), .c = memory(MANY * N * sizeof(float))};
    for (int i = 0; i < MANY * K; i++)
        a.x[i] = (float)rng_normal(r);
    for (enum act act = ACT_GRID; act < ACT_COUNT; act++) {
        a.grid[act] = grid_rows_in(memory(grid_rows_bytes(act, MANY * K)), act, MANY * K, K);
        ks->to_grid(a.x, MANY * K, a.grid[act]);
    }
    return a;
}

/* Weights of moderate size, from random bytes where the format is only read */
static void random_weights(struct rng *r, const struct dtype_info *t, unsigned char *rows, size_t bytes)
{
    if (t->encode) {
        float *x = memory((size_t)N * K * sizeof *x);
        for (int i = 0; i < N * K; i++)
            x[i] = (float)rng_normal(r);
        t->encode(x, rows, (size_t)N * K);
        free(x);
        return;
    }
    for (unsigned char *b = rows; b < rows + bytes; b += t->bytes) {
        float x[PIECE_K], top = 0;
        do {
            top = 0;
            for (uint32_t i = 0; i < t->bytes; i++)
                b[i] = (unsigned char)rng_u64(r);
            t->decode(b, x, t->block);
            for (uint32_t i = 0; i < t->block; i++)
                top = x[i] * x[i] <= top ? top : x[i] * x[i];
        } while (!(top > 1e-8f && top < 1e8f)); /* products of denormals are slow */
    }
}

static double seconds(const struct kernels *ks, struct gemm *g, int turns)
{
    struct arena a;
    cadre_error e;
    arena_init_measuring(&a);
    gemm_run(ks, NULL, &a, GEMM_F32, g, 1);
    if (arena_init(&a, a.peak, &e) != CADRE_OK)
        exit(1);
    int repeat = g->m == 1 ? 100 : 1;
    double best = 1e30;
    for (int i = 0; i <= turns; i++) { /* the first turn warms up */
        double start = clock_now();
        for (int j = 0; j < repeat; j++)
            gemm_run(ks, NULL, &a, GEMM_F32, g, 1);
        double t = (clock_now() - start) / repeat;
        best = i && t < best ? t : best;
    }
    arena_destroy(&a);
    return best;
}

static void measure(const struct kernels *ks, enum dtype type, const struct rows *a, struct rng *r, int turns)
{
    const struct dtype_info *t = dtype_info(type);
    size_t bytes = (size_t)N * K / t->block * t->bytes;
    unsigned char *rows = memory(bytes), *data = memory(packed_bytes(type, N, K));
    random_weights(r, t, rows, bytes);
    double fill = 1e30;
    for (int i = 0; i < 3; i++) {
        double start = clock_now();
        packed_fill(ks, data, type, rows, N, K);
        fill = clock_now() - start < fill ? clock_now() - start : fill;
    }
    struct packed w = {type, N, K, data};
    printf("%-13s %6.2f", t->name, (double)bytes / fill / 1e9);
    for (enum act act = 0; act < ACT_COUNT; act++) {
        if (act != ACT_F32 && !ks->gemm_grid[type])
            continue;
        struct gemm g = {
            .m = 1, .n = N, .k = K, .a = a->x, .a_row = K, .a_col = 1, .packed = &w, .c = a->c, .c_row = N};
        g.grid = act == ACT_F32 ? NULL : &a->grid[act];
        double one = seconds(ks, &g, turns);
        g.m = MANY;
        double many = seconds(ks, &g, turns);
        printf(" %10.2f %10.1f %10.1f", (double)bytes / one / 1e9, (double)N * K / one / 1e9,
               (double)N * K * MANY / many / 1e9);
    }
    printf("\n");
    fflush(stdout);
    free(rows);
    free(data);
}

int main(int argc, char **argv)
{
    int turns = argc > 1 ? atoi(argv[1]) : 7;
    struct cpu cpu;
    cadre_error e;
    cpu_detect(&cpu);
    enum isa isa = cpu.best;
    const char *limit = getenv("CADRE_ISA");
    if (turns < 1 || (limit && isa_parse(limit, &cpu, &isa, &e) != CADRE_OK)) {
        fprintf(stderr, "formats: %s\n", turns < 1 ? "expected a number of turns" : e.text);
        return 1;
    }
    struct kernels ks;
    kernels_init(&ks, &cpu, isa);
    struct rng r;
    rng_seed(&r, 1);
    struct rows a = activations(&ks, &r);
    printf("%s, kernels: %s; %d outputs, k %d\n", cpu.name, isa_name(ks.isa), N, K);
    printf("%-13s %6s", "", "pack");
    for (enum act act = 0; act < ACT_COUNT; act++)
        printf(" %5s row  %5s row  %5s %d", act_names[act], act_names[act], act_names[act], MANY);
    printf("\n%-13s %6s", "", "GB/s");
    for (enum act act = 0; act < ACT_COUNT; act++)
        printf(" %10s %10s %10s", "GB/s", "GMAC/s", "GMAC/s");
    printf("\n");
    for (enum dtype type = 0; type < DTYPE_COUNT; type++)
        if (dtype_info(type)->weight && (argc < 3 || strcmp(argv[2], dtype_info(type)->name) == 0))
            measure(&ks, type, &a, &r, turns);
    return 0;
}
