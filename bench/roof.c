/* The roof of this machine and how close the products come: instructions that only touch registers, memory read once,
 * and gemm_run on the shapes of training and of experts.
 *
 *     roof [turns]        best of `turns` (default 7) each; other programs on the machine lower the figures */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/pool.h"
#include "base/rng.h"
#include "kernel/gemm.h"

enum { PEAK_LOOPS = 1 << 17, READ_BYTES = 1 << 30, READ_PIECE = 4 << 20 };

#if defined(__x86_64__)
typedef void loop_fn(void);

/* 24 independent sums hide the latency; zeros as operands. */
#define EACH(f, r) f(r, 0) f(r, 1) f(r, 2) f(r, 3) f(r, 4) f(r, 5) f(r, 6) f(r, 7) f(r, 8) f(r, 9) f(r, 10) f(r, 11)
#define EACH24(f, r)                                                                                                   \
    EACH(f, r)                                                                                                         \
    f(r, 12) f(r, 13) f(r, 14) f(r, 15) f(r, 16) f(r, 17) f(r, 18) f(r, 19) f(r, 20) f(r, 21) f(r, 22) f(r, 23)
#define ZERO(r, i) "vxorps %%xmm" #i ", %%xmm" #i ", %%xmm" #i "\n\t"
#define ZERO512(r, i) "vpxord %%zmm" #i ", %%zmm" #i ", %%zmm" #i "\n\t"
#define FMA(r, i) "vfmadd231ps %%" r "15, %%" r "14, %%" r #i "\n\t"
#define FMA512(r, i) "vfmadd231ps %%zmm31, %%zmm30, %%zmm" #i "\n\t"
#define BF16(r, i) "vdpbf16ps %%zmm31, %%zmm30, %%zmm" #i "\n\t"

static void loop_fma_avx2(void)
{
    __asm__ volatile(EACH(ZERO, "") ZERO("", 14) ZERO("", 15)::
                         : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                           "xmm11", "xmm14", "xmm15");
    for (int i = 0; i < PEAK_LOOPS; i++)
        __asm__ volatile(EACH(FMA, "ymm")::
                             : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                               "xmm11", "xmm14", "xmm15");
}

/* The compiler does not know of zmm16 and above here, so nothing of its own lies there. */
#define LOW_ZMM                                                                                                        \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15"

static void loop_fma_avx512(void)
{
    __asm__ volatile(EACH24(ZERO512, "") ZERO512("", 30) ZERO512("", 31)::: LOW_ZMM);
    for (int i = 0; i < PEAK_LOOPS; i++)
        __asm__ volatile(EACH24(FMA512, "")::: LOW_ZMM);
    __asm__ volatile("vzeroupper" ::: LOW_ZMM);
}

static void loop_bf16_avx512(void)
{
    __asm__ volatile(EACH24(ZERO512, "") ZERO512("", 30) ZERO512("", 31)::: LOW_ZMM);
    for (int i = 0; i < PEAK_LOOPS; i++)
        __asm__ volatile(EACH24(BF16, "")::: LOW_ZMM);
    __asm__ volatile("vzeroupper" ::: LOW_ZMM);
}

static void loop_bf16_amx(void)
{
    struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t colsb[16];
        uint8_t rows[16];
    } config = {.palette = 1};
    for (int i = 0; i < 6; i++)
        config.colsb[i] = 64, config.rows[i] = 16;
    __asm__ volatile("ldtilecfg %0\n\ttilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
                     "tilezero %%tmm4\n\ttilezero %%tmm5" ::"m"(config));
    for (int i = 0; i < PEAK_LOOPS / 8; i++)
        __asm__ volatile("tdpbf16ps %tmm5, %tmm4, %tmm0\n\ttdpbf16ps %tmm5, %tmm4, %tmm1\n\t"
                         "tdpbf16ps %tmm5, %tmm4, %tmm2\n\ttdpbf16ps %tmm5, %tmm4, %tmm3");
    __asm__ volatile("tilerelease");
}

struct peak {
    const char *name;
    loop_fn *loop;
    bool present;
    double flops; /* of one call */
};

static void call_loop(void *arg, int64_t item, int worker)
{
    (void)item, (void)worker;
    ((const struct peak *)arg)->loop();
}
#endif

static double best_seconds(int turns, struct pool *pool, int64_t items, pool_fn *fn, void *arg)
{
    double best = 1e30;
    for (int i = 0; i < turns; i++) {
        double start = clock_now();
        pool_run(pool, items, fn, arg);
        double t = clock_now() - start;
        best = t < best ? t : best;
    }
    return best;
}

static void print_peaks(const struct cpu *cpu, struct pool **pools, int turns)
{
#if defined(__x86_64__)
    struct peak peaks[] = {
        {"f32 fma, avx2", loop_fma_avx2, cpu->avx2_fma, (double)PEAK_LOOPS * 12 * 16},
        {"f32 fma, avx512", loop_fma_avx512, cpu->avx512, (double)PEAK_LOOPS * 24 * 32},
        {"bf16, avx512", loop_bf16_avx512, cpu->avx512_bf16, (double)PEAK_LOOPS * 24 * 64},
        {"bf16, amx", loop_bf16_amx, cpu->amx_bf16, (double)PEAK_LOOPS / 8 * 4 * 16 * 16 * 32 * 2},
    };
    printf("%-34s %10s %10s\n", "registers only, GFLOP/s", "1 thread", "2 threads");
    for (size_t i = 0; i < sizeof peaks / sizeof *peaks; i++) {
        if (!peaks[i].present)
            continue;
        printf("%-34s", peaks[i].name);
        for (int t = 0; t < 2; t++)
            printf(" %10.0f",
                   peaks[i].flops * (t + 1) / best_seconds(turns, pools[t], t + 1, call_loop, &peaks[i]) / 1e9);
        printf("\n");
    }
#else
    (void)cpu, (void)pools, (void)turns;
#endif
}

struct reading {
    const struct kernels *ks;
    const float *data;
    float *sums;
};

static void read_piece(void *arg, int64_t item, int worker)
{
    (void)worker;
    struct reading *r = arg;
    r->sums[item] = r->ks->sum(r->data + item * (READ_PIECE / 4), READ_PIECE / 4);
}

static void print_reading(const struct kernels *ks, struct pool **pools, int turns)
{
    enum { PIECES = READ_BYTES / READ_PIECE };
    float sums[PIECES];
    float *data = aligned_alloc(2 << 20, READ_BYTES);
    if (!data)
        return;
    memset(data, 0, READ_BYTES);
    struct reading r = {ks, data, sums};
    printf("%-34s", "memory read, GB/s");
    for (int t = 0; t < 2; t++)
        printf(" %10.1f", READ_BYTES / best_seconds(turns, pools[t], PIECES, read_piece, &r) / 1e9);
    printf("\n");
    free(data);
}

/* count products of one layer: rows and, for weight gradients, k vary a little between experts */
struct shape {
    const char *name;
    int64_t count, m, n, k;
    bool a_t, b_t; /* strides of one, as in gemm.h: dx has b_t, dW both */
};

static const struct shape shapes[] = {
    {"y   4096 x 256, k 256", 1, 4096, 256, 256, false, false},
    {"dx  4096 x 256, k 256", 1, 4096, 256, 256, false, true},
    {"dW  256 x 256, k 4096", 1, 256, 256, 4096, true, true},
    {"y   2048 x 8192, k 256 (logits)", 1, 2048, 8192, 256, false, false},
    {"dx  2048 x 256, k 8192", 1, 2048, 256, 8192, false, true},
    {"dW  8192 x 256, k 2048", 1, 8192, 256, 2048, true, true},
    {"24 experts: y   ~512 x 256, k 256", 24, 512, 256, 256, false, false},
    {"24 experts: dx  ~512 x 256, k 256", 24, 512, 256, 256, false, true},
    {"24 experts: dW  256 x 256, k ~512", 24, 256, 256, 512, true, true},
    {"64 experts: y   ~16 x 256, k 256", 64, 16, 256, 256, false, false},
};

static float *numbers(int64_t n)
{
    float *x = malloc((size_t)n * sizeof *x);
    struct rng r;
    rng_seed(&r, 1);
    for (int64_t i = 0; x && i < n; i++)
        x[i] = (float)rng_uniform(&r) - 0.5f;
    return x;
}

struct work {
    struct gemm list[64];
    float *a, *b, *c;
    double flops;
};

static bool work_new(struct work *w, const struct shape *s)
{
    int64_t m = s->m + s->m / 4, k = s->k + s->k / 4; /* room for the largest expert */
    w->a = numbers(s->count * m * k);
    w->b = numbers(s->count * s->n * k);
    w->c = numbers(s->count * m * s->n);
    w->flops = 0;
    for (int64_t i = 0; i < s->count; i++) {
        struct gemm g = {.m = s->m, .n = s->n, .k = s->k, .c_row = s->n, .accumulate = s->a_t};
        int64_t *varies = s->a_t ? &g.k : &g.m;
        if (s->count > 1)
            *varies += *varies / 4 * ((i % 3) - 1);
        g.a = w->a + i * m * k;
        g.b = w->b + i * s->n * k;
        g.c = w->c + i * m * s->n;
        g.a_row = s->a_t ? 1 : g.k;
        g.a_col = s->a_t ? g.m : 1;
        g.b_row = s->b_t ? 1 : g.k;
        g.b_col = s->b_t ? g.n : 1;
        w->flops += 2.0 * (double)g.m * (double)g.n * (double)g.k;
        w->list[i] = g;
    }
    return w->a && w->b && w->c;
}

static double gflops(const struct kernels *ks, struct pool *pool, enum gemm_precision precision, struct work *w,
                     int64_t count, int turns)
{
    struct arena a;
    cadre_error e;
    arena_init_measuring(&a);
    gemm_run(ks, pool, &a, precision, w->list, count);
    if (arena_init(&a, a.peak, &e) != CADRE_OK)
        return 0;
    double best = 1e30;
    for (int i = 0; i <= turns; i++) { /* the first turn only warms up */
        double start = clock_now();
        gemm_run(ks, pool, &a, precision, w->list, count);
        double t = clock_now() - start;
        best = i && t < best ? t : best;
    }
    arena_destroy(&a);
    return w->flops / best / 1e9;
}

static void print_products(const struct kernels *ks, struct pool **pools, int turns)
{
    printf("\n%-34s %10s %10s %10s %10s\n", "gemm_run, GFLOP/s", "f32, 1", "f32, 2", "bf16, 1", "bf16, 2");
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct work w;
        bool ok = work_new(&w, &shapes[i]);
        printf("%-34s", shapes[i].name);
        for (int p = 0; ok && p < 2; p++)
            for (int t = 0; t < 2; t++)
                printf(" %10.0f", gflops(ks, pools[t], (enum gemm_precision)p, &w, shapes[i].count, turns));
        printf("\n");
        free(w.a);
        free(w.b);
        free(w.c);
    }
}

int main(int argc, char **argv)
{
    int turns = argc > 1 ? atoi(argv[1]) : 7;
    struct cpu cpu;
    cadre_error e;
    struct pool *pools[2];
    cpu_detect(&cpu);
    enum isa isa = cpu.best;
    const char *limit = getenv("CADRE_ISA");
    if (turns < 1 || (limit && isa_parse(limit, &cpu, &isa, &e) != CADRE_OK) ||
        pool_new(&pools[0], 1, &e) != CADRE_OK || pool_new(&pools[1], 2, &e) != CADRE_OK) {
        fprintf(stderr, "roof: %s\n", turns < 1 ? "expected a number of turns" : e.text);
        return 1;
    }
    struct kernels ks;
    kernels_init(&ks, &cpu, isa);
    printf("%s, %d cores, kernels: %s\n", cpu.name, cpu.cores, isa_name(ks.isa));
    print_peaks(&cpu, pools, turns);
    print_reading(&ks, pools, turns);
    print_products(&ks, pools, turns);
    pool_free(pools[0]);
    pool_free(pools[1]);
    return 0;
}
