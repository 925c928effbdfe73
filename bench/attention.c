/* Attention over the KV cache by itself, on shapes of known models: one token after a long context against the bytes of
 * keys and values that it reads, and a piece of a prompt against its multiply-adds.
 *
 *     attention [turns [threads]]     medians of `turns` (default 5) on `threads` (default 2) */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "base/rng.h"
#include "model/kv.h"

enum { PIECE = 512, MAX_TURNS = 99, MAX_LAYERS = 64 };

struct shape {
    const char *name;
    int64_t n_head, n_kv_head, head_dim, v_dim, window;
    bool latent; /* values are the first v_dim numbers of the keys */
};

static const struct shape shapes[] = {
    {"16 heads of 128 (OLMoE)", 16, 16, 128, 128, 0, false},
    {"32 heads on 4 of 128 (Qwen3 30B)", 32, 4, 128, 128, 0, false},
    {"64 heads on 8 of 64 (gpt-oss)", 64, 8, 64, 64, 0, false},
    {"the same, window 128", 64, 8, 64, 64, 128, false},
    {"16 heads on one latent (DeepSeek-V2 Lite)", 16, 1, 576, 512, 0, true},
};

static const struct {
    int64_t before, rows;
} calls[] = {{511, 1}, {4095, 1}, {32767, 1}, {0, PIECE}, {8192 - PIECE, PIECE}};

struct setup {
    const struct shape *s;
    struct op_ctx c;
    struct arena arena;
    struct kv_cache *kv;
    int64_t layers, before, rows;
    struct tensor q;
};

static void fill(struct setup *u)
{
    const struct shape *s = u->s;
    int64_t k_width = s->n_kv_head * s->head_dim, v_width = s->latent ? 0 : s->n_kv_head * s->v_dim;
    real *k = malloc((size_t)(PIECE * (k_width + v_width)) * sizeof *k);
    struct rng r;
    rng_seed(&r, 1);
    for (int64_t i = 0; k && i < PIECE * (k_width + v_width); i++)
        k[i] = (real)rng_uniform(&r) - (real)0.5;
    int64_t end = u->before + u->rows;
    for (int64_t l = 0; k && l < u->layers; l++)
        for (int64_t at = 0; at < end; at += PIECE)
            kv_put(u->kv, &u->c, l, 0, at, k, k + PIECE * k_width, min_i64(PIECE, end - at));
    free(k);
}

static double call(struct setup *u, int64_t layer)
{
    const struct shape *s = u->s;
    struct kv_layer_view storage = {u->kv, layer, (int32_t[]){0}};
    struct kv_view view = kv_layer_view(&storage);
    struct attention a = {.n_head = s->n_head, .n_kv_head = s->n_kv_head, .head_dim = s->head_dim, .v_dim = s->v_dim};
    a.scale = 1 / (real)sqrt((double)s->head_dim);
    a.window = s->window;
    a.n_seq = 1;
    a.row_start = (int64_t[]){0, u->rows};
    a.position = &u->before;
    size_t mark = arena_mark(&u->arena);
    double start = clock_now();
    op_attention_kv(&u->c, &u->q, &view, &a);
    double t = clock_now() - start;
    arena_reset(&u->arena, mark);
    return t;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_seconds(struct setup *u, int turns)
{
    double t[MAX_TURNS];
    for (int64_t l = 0; l < u->layers; l++)
        call(u, l);
    for (int i = 0; i < turns; i++) { /* all layers, so that keys and values come from memory */
        t[i] = 0;
        for (int64_t l = 0; l < u->layers; l++)
            t[i] += call(u, l) / (double)u->layers;
    }
    qsort(t, (size_t)turns, sizeof *t, by_size);
    return t[turns / 2];
}

/* Keys and values that a row reads, over all rows. */
static double visible(const struct setup *u)
{
    double sum = 0;
    for (int64_t i = 0; i < u->rows; i++) {
        int64_t n = u->before + i + 1;
        sum += (double)(u->s->window ? min_i64(u->s->window, n) : n);
    }
    return sum;
}

static bool measure(const struct shape *s, int64_t before, int64_t rows, enum dtype type, const struct op_ctx *c,
                    int turns)
{
    struct setup u = {.s = s, .c = *c, .before = before, .rows = rows};
    int64_t width = s->n_kv_head * s->head_dim + (s->latent ? 0 : s->n_kv_head * s->v_dim);
    const struct dtype_info *info = dtype_info(type);
    double bytes = (double)width * info->bytes / info->block;
    double cached = bytes * (double)(before + rows);
    u.layers = rows > 1 ? 1 : max_i64(1, min_i64(MAX_LAYERS, (int64_t)(256e6 / cached)));
    struct kv_width widths[MAX_LAYERS];
    for (int64_t l = 0; l < u.layers; l++)
        widths[l] = (struct kv_width){.heads = s->n_kv_head, .k = s->head_dim, .v = s->latent ? 0 : s->v_dim};
    struct kv_layout layout = {.n_layer = u.layers, .n_seq = 1, .n_ctx = before + rows, .width = widths, .type = type};
    cadre_error e;
    if (kv_new(&u.kv, &layout, &e) != CADRE_OK || arena_init(&u.arena, (size_t)1 << 28, &e) != CADRE_OK) {
        fprintf(stderr, "attention: %s\n", e.text);
        return false;
    }
    u.c.arena = &u.arena;
    u.q = *op_new2(&u.c, rows, s->n_head * s->head_dim);
    struct rng r;
    rng_seed(&r, 2);
    for (int64_t i = 0; i < tensor_count(&u.q); i++)
        u.q.x[i] = (real)rng_uniform(&r) - (real)0.5;
    fill(&u);
    double t = median_seconds(&u, turns), seen = visible(&u);
    double fmas = seen * (double)(s->n_head * (s->head_dim + s->v_dim));
    printf("  %6lld + %-4lld %-5s %10.1f us %8.1f GB/s %8.1f GFLOP/s\n", (long long)before, (long long)rows, info->name,
           t * 1e6, seen * bytes / (double)rows / t / 1e9, 2 * fmas / t / 1e9);
    arena_destroy(&u.arena);
    kv_free(u.kv);
    return true;
}

int main(int argc, char **argv)
{
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_Q8_0};
    int turns = argc > 1 ? atoi(argv[1]) : 5, threads = argc > 2 ? atoi(argv[2]) : 2;
    struct cpu cpu;
    struct kernels ks;
    struct op_ctx c = {.k = &ks};
    cadre_error e = {.text = "expected 1 to 99 turns"};
    cpu_detect(&cpu);
    enum isa isa = cpu.best;
    const char *limit = getenv("CADRE_ISA");
    if (turns < 1 || turns > MAX_TURNS || (limit && isa_parse(limit, &cpu, &isa, &e) != CADRE_OK) ||
        pool_new(&c.pool, threads, &e) != CADRE_OK) {
        fprintf(stderr, "attention: %s\n", e.text);
        return 1;
    }
    kernels_init(&ks, &cpu, isa);
    printf("%s, %d threads, kernels: %s\n", cpu.name, threads, isa_name(ks.isa));
    bool ok = true;
    for (size_t i = 0; ok && i < sizeof shapes / sizeof *shapes; i++) {
        printf("%s\n", shapes[i].name);
        for (size_t j = 0; ok && j < sizeof calls / sizeof *calls; j++)
            for (size_t t = 0; ok && t < sizeof types / sizeof *types; t++)
                ok = measure(&shapes[i], calls[j].before, calls[j].rows, types[t], &c, turns);
    }
    pool_free(c.pool);
    return !ok;
}
