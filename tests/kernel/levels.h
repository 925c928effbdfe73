/* The levels to test (all this machine has, or up to CADRE_ISA) and random data with the numbers that break kernels. */
#ifndef CADRE_TESTS_KERNEL_LEVELS_H
#define CADRE_TESTS_KERNEL_LEVELS_H

#include "test.h"
#include "isa.h"

#include <math.h>

#include "base/cpu.h"
#include "base/rng.h"
#include "kernel/packed.h"

struct levels {
    struct kernels of[ISA_COUNT];
    int count;
};

static inline struct levels levels_all(void)
{
    struct levels l = {.count = 0};
    struct cpu cpu;
    cpu_detect(&cpu);
    enum isa best = test_isa(&cpu);
    for (int i = 0; i <= (int)best; i++)
        kernels_init(&l.of[l.count++], &cpu, (enum isa)i);
    return l;
}

/* Equal bytes; of two NaNs only that they are NaN. */
static inline void assert_same(const char *what, const float *got, const float *want, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got) != 0 && !(isnan(got[i]) && isnan(want[i])))
            fail_msg("%s: number %lld of %lld: expected %a, found %a", what, (long long)i, (long long)n,
                     (double)want[i], (double)got[i]);
}

static inline void fill_normal(struct rng *r, float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (float)rng_normal(r);
}

/* About one number in `rarity` is an infinity, a NaN, a denormal, a signed zero or huge. */
static inline void add_specials(struct rng *r, float *x, int64_t n, uint64_t rarity)
{
    static const float special[] = {INFINITY, -INFINITY, NAN,    1e-42f, -3e-39f, 0.0f,
                                    -0.0f,    3e38f,     -3e38f, 88.8f,  -87.4f};
    for (int64_t i = 0; i < n; i++)
        if (rng_below(r, rarity) == 0)
            x[i] = special[rng_below(r, sizeof special / sizeof *special)];
}

/* n rows of k weights as a file may have them. Formats that are only read get random bytes: any, so that scales are
 * NaN, infinite and huge too, or only blocks of moderate numbers. */
static inline void *random_rows(struct rng *r, enum dtype type, int64_t n, int64_t k, bool any)
{
    const struct dtype_info *t = dtype_info(type);
    uint64_t bytes;
    assert_true(dtype_size(type, (uint64_t)(n * k), &bytes));
    unsigned char *rows = malloc(bytes);
    if (t->encode && !any) {
        float *w = malloc((size_t)(n * k) * sizeof *w);
        fill_normal(r, w, n * k);
        t->encode(w, rows, (size_t)(n * k));
        free(w);
        return rows;
    }
    for (unsigned char *b = rows; b < rows + bytes; b += t->bytes) {
        float x[PIECE_K], max;
        do {
            for (uint32_t i = 0; i < t->bytes; i++)
                b[i] = (unsigned char)rng_u64(r);
            t->decode(b, x, t->block);
            max = 0;
            for (uint32_t i = 0; i < t->block; i++)
                max = fabsf(x[i]) <= max ? max : fabsf(x[i]);
        } while (!any && !(max < 1e4f));
    }
    return rows;
}

#endif
