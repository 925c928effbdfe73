#include "kernel/gemm.h"

#include <string.h>

#include "base/checked.h"

/* A product is cut into items, each some rows × some strips of C over the whole of k:
 *
 *      for each block of k:
 *          pack B's strips (packed weights stay as they lie): they stay in L2
 *          for each chunk of rows:
 *              pack A's rows when they are not contiguous, or for bf16
 *              C += A B, tile by tile in registers; the kernel keeps its part of B in L1
 *
 * Blocks of k continue each output's chain through C, so neither they nor the cut into items changes a result.
 * Packing inside an item repeats some work (A once per column of items, B once per row of items) but needs neither
 * a barrier nor memory that grows with the list. */
enum {
    COARSE_STRIPS = 16, /* an item of a list with much work: 256 outputs ... */
    COARSE_ROWS = 512,  /* ... of 512 rows: packing is shared by many */
    FINE_STRIPS = 8,    /* a list with fewer than FEW_ITEMS of those is cut finer, so that all threads work */
    FINE_ROWS = 128,
    FEW_ITEMS = 8,
    K_BLOCK = 512, /* when B is packed on the way; even, so that bf16 pairs stay whole */
    COPY_K = 16,   /* of operands that lie k-major: whole rows of memory are read, so that they are fetched ahead */
    A_CHUNK = 64 << 10,        /* numbers of A at a time: they stay in L2 while the strips pass ... */
    A_ROWS = 16,               /* ... but never fewer rows than this */
    FEW_ROWS = 8,              /* up to here a product with packed weights is bound by reading them */
    FEW_ROWS_BYTES = 128 << 10 /* of weights per item then */
};

static int64_t strips(int64_t n)
{
    return (n + STRIP - 1) / STRIP;
}

/* How one product is worked on; a function of its shape and formats alone. */
struct plan {
    bool bf16;   /* both operands rounded to bf16 */
    bool decode; /* packed weights become f32 strips first */
    bool pack_a; /* rows are copied, gathered or converted first */
    int64_t k_block;
    int64_t a_rows;                   /* rows of a chunk of A */
    int64_t item_rows, item_strips;   /* an item's size */
    int64_t row_blocks, strip_blocks; /* items = row_blocks * strip_blocks */
    size_t a_bytes, b_bytes;          /* scratch of one worker */
};

static int64_t blocks(int64_t n, int64_t size)
{
    return (n + size - 1) / size;
}

/* Packed weights that a kernel multiplies as they lie. */
static bool direct(const struct kernels *ks, const struct gemm *g)
{
    enum dtype type = g->packed->type;
    return g->grid || !packed_is_decoded(type) || (g->m <= GEMM_FEW && ks->gemm_few[type]);
}

static struct plan plan_product(const struct kernels *ks, const struct gemm *g, enum gemm_precision precision,
                                bool fine)
{
    struct plan p = {.item_rows = fine ? FINE_ROWS : COARSE_ROWS, .item_strips = fine ? FINE_STRIPS : COARSE_STRIPS};
#ifndef CADRE_F64
    p.bf16 = precision == GEMM_BF16 && (!g->packed || g->packed->type == DTYPE_BF16);
#else
    (void)precision;
#endif
    p.pack_a = p.bf16 || g->a_col != 1;
    p.decode = g->packed && !direct(ks, g);
    p.k_block = p.decode ? min_i64(g->k, PIECE_K) : g->packed ? g->k : min_i64(g->k, K_BLOCK);
    if (g->packed && g->m <= FEW_ROWS && g->k > 0) {
        int64_t fit = FEW_ROWS_BYTES / (int64_t)packed_strip_bytes(g->packed->type, g->k);
        p.item_strips = fit >= 4 ? fit / 4 * 4 : 2; /* 2: a gate's few strips of long rows go to two threads */
        if (p.decode)
            p.item_strips = min_i64(p.item_strips, COARSE_STRIPS); /* bounds its scratch */
    }
    p.row_blocks = blocks(g->m, p.item_rows);
    p.strip_blocks = blocks(strips(g->n), p.item_strips);
    if (g->m == 0 || g->k == 0 || g->n == 0)
        p.row_blocks = p.strip_blocks = 0;

    /* Scratch is that of coarse items, min(m · k, max(A_CHUNK, A_ROWS · k)) for A: rising in m and in k, as gemm.h
     * promises. */
    int64_t k_even = p.k_block + p.k_block % 2;
    int64_t all = min_i64(g->m, COARSE_ROWS) * k_even, chunk = max_i64(A_CHUNK, A_ROWS * k_even);
    p.a_rows = k_even ? max_i64(min_i64(all, chunk) / k_even, 1) : 1;
    if (p.pack_a)
        p.a_bytes = (size_t)min_i64(all, chunk) * sizeof(real);
    if (!g->packed || p.decode)
        p.b_bytes = (size_t)(min_i64(strips(g->n), COARSE_STRIPS) * STRIP * k_even) * sizeof(real);
    if (p.decode)
        p.b_bytes += STRIP * PIECE_K * sizeof(real); /* the rows of a strip, behind the strips */
    return p;
}

/* One worker's memory. Items come to a worker in rising order, so that it only searches forward for their product. */
struct worker {
    void *a, *b;
    int64_t product, first; /* the product it works on, and the number of its first item */
};

struct job {
    const struct kernels *ks;
    const struct gemm *list;
    enum gemm_precision precision;
    bool fine;
    struct worker *worker;
};

/* Rows of `a` from k0 on as the kernel wants them. */
static const void *rows_of(const struct kernels *ks, const struct plan *p, const struct gemm *g, int64_t row, int64_t m,
                           int64_t k0, int64_t k, void *scratch, int64_t *lda)
{
    const real *a = g->a + row * g->a_row + k0 * g->a_col;
    *lda = p->pack_a ? k + k % 2 : g->a_row;
    if (!p->pack_a)
        return a;
    int64_t step = g->a_col == 1 ? k : COPY_K;
    for (int64_t at = 0; at < k; at += step) {
        int64_t n = min_i64(step, k - at);
        if (p->bf16)
            ks->rows_bf16((uint16_t *)scratch + at, *lda, a + at * g->a_col, g->a_row, g->a_col, m, n);
        else
            ks->rows_f32((real *)scratch + at, *lda, a + at * g->a_col, g->a_row, g->a_col, m, n);
    }
    return scratch;
}

/* Strips of B: packed weights as they lie or decoded, others packed into scratch. */
static const void *strips_of(const struct kernels *ks, const struct plan *p, const struct gemm *g, int64_t strip,
                             int64_t n, int64_t k0, int64_t k, void *scratch)
{
    size_t packed_strip = g->packed ? packed_strip_bytes(g->packed->type, g->k) : 0;
    const char *packed = g->packed ? (const char *)g->packed->data + (size_t)strip * packed_strip : NULL;
    if (packed && !p->decode)
        return packed;
    char *dst = scratch;
    size_t bytes = packed_strip_bytes(p->bf16 ? DTYPE_BF16 : DTYPE_F32, k);
    real *rows = (real *)(void *)(dst + (size_t)blocks(n, STRIP) * bytes);
    int64_t step = p->decode || g->b_col == 1 ? k : COPY_K;
    for (int64_t at = 0; at < k; at += step) {
        int64_t nk = min_i64(step, k - at);
        for (int64_t j = 0; j < n; j += STRIP) {
            char *to = dst + (size_t)(j / STRIP) * bytes;
            const real *b = p->decode ? NULL : g->b + (strip * STRIP + j) * g->b_row + (k0 + at) * g->b_col;
            int64_t valid = min_i64(n - j, STRIP);
            if (p->decode)
                packed_decode(ks, (real *)(void *)to, g->packed, strip + j / STRIP, k0, k, rows);
            else if (p->bf16)
                ks->pack_bf16((uint16_t *)(void *)to + at * STRIP, b, g->b_row, g->b_col, valid, nk);
            else
                ks->pack_f32((real *)(void *)to + at * STRIP, b, g->b_row, g->b_col, valid, nk);
        }
    }
    return scratch;
}

static void multiply(const struct kernels *ks, const struct plan *p, const struct gemm *g, int64_t m, int64_t n,
                     int64_t k, const void *a, int64_t lda, const void *b, real *c, bool accumulate)
{
#ifndef CADRE_F64
    gemm_weights *own = NULL;
    if (g->packed && !p->decode)
        own = packed_is_decoded(g->packed->type) ? ks->gemm_few[g->packed->type] : ks->gemm_w[g->packed->type];
    if (p->bf16)
        ks->gemm_bf16(m, n, k, a, lda, b, c, g->c_row, accumulate);
    else if (own)
        own(m, n, k, a, lda, b, c, g->c_row, accumulate);
    else
        ks->gemm_f32(m, n, k, a, lda, b, c, g->c_row, accumulate);
#else
    (void)p;
    ks->gemm_f32(m, n, k, a, lda, b, c, g->c_row, accumulate);
#endif
}

#ifndef CADRE_F64
/* The grid's rows from `row` of a product on. */
static struct grid_rows grid_from(const struct gemm *g, int64_t row)
{
    return grid_rows_from(*g->grid, (g->grid_row + row) * g->grid->ld + g->grid_col);
}
#endif

static void run_item(void *arg, int64_t item, int worker)
{
    struct job *job = arg;
    struct worker *w = &job->worker[worker];
    const struct gemm *g = &job->list[w->product];
    struct plan p = plan_product(job->ks, g, job->precision, job->fine);
    while (item - w->first >= p.row_blocks * p.strip_blocks) {
        w->first += p.row_blocks * p.strip_blocks;
        g = &job->list[++w->product];
        p = plan_product(job->ks, g, job->precision, job->fine);
    }
    int64_t strip = (item - w->first) / p.row_blocks * p.item_strips;
    int64_t row = (item - w->first) % p.row_blocks * p.item_rows, row_end = min_i64(row + p.item_rows, g->m);
    int64_t col = strip * STRIP, n = min_i64(p.item_strips * STRIP, g->n - col);

#ifndef CADRE_F64
    if (g->grid) {
        struct grid_rows a = grid_from(g, row);
        const char *b = (const char *)g->packed->data + (size_t)strip * packed_strip_bytes(g->packed->type, g->k);
        job->ks->gemm_grid[g->packed->type](row_end - row, n, g->k, &a, b, g->c + row * g->c_row + col, g->c_row);
        return;
    }
#endif
    for (int64_t k0 = 0; k0 < g->k; k0 += p.k_block) {
        int64_t k = min_i64(p.k_block, g->k - k0);
        const void *b = strips_of(job->ks, &p, g, strip, n, k0, k, w->b);
        int64_t step = p.pack_a || !g->packed ? p.a_rows : row_end - row;
        for (int64_t i = row; i < row_end; i += step) {
            int64_t m = min_i64(step, row_end - i), lda;
            const void *a = rows_of(job->ks, &p, g, i, m, k0, k, w->a, &lda);
            multiply(job->ks, &p, g, m, n, k, a, lda, b, g->c + i * g->c_row + col, g->accumulate || k0 > 0);
        }
    }
}

/* k = 0 is an empty sum. */
static void clear_empty(const struct gemm *g)
{
    if (g->k == 0 && !g->accumulate)
        for (int64_t i = 0; i < g->m; i++)
            memset(g->c + i * g->c_row, 0, (size_t)g->n * sizeof *g->c);
}

void gemm_run(const struct kernels *ks, struct pool *pool, struct arena *scratch, enum gemm_precision precision,
              const struct gemm *list, int64_t count)
{
    size_t mark = arena_mark(scratch), a_bytes = 0, b_bytes = 0;
    int64_t items[2] = {0}; /* coarse, fine */
    for (int64_t i = 0; i < count; i++)
        for (int fine = 0; fine < 2; fine++) {
            struct plan p = plan_product(ks, &list[i], precision, fine);
            items[fine] += p.row_blocks * p.strip_blocks;
            a_bytes = p.a_bytes > a_bytes ? p.a_bytes : a_bytes;
            b_bytes = p.b_bytes > b_bytes ? p.b_bytes : b_bytes;
        }
    bool fine = items[0] < FEW_ITEMS;
    int threads = pool_threads(pool);
    struct job job = {ks, list, precision, fine, arena_alloc(scratch, (size_t)threads * sizeof(struct worker))};
    for (int t = 0; t < threads; t++) {
        struct worker w = {arena_alloc(scratch, a_bytes), arena_alloc(scratch, b_bytes), 0, 0};
        if (!scratch->measuring)
            job.worker[t] = w;
    }
    if (!scratch->measuring) {
        for (int64_t i = 0; i < count; i++)
            clear_empty(&list[i]);
        pool_run(pool, items[fine], run_item, &job);
    }
    arena_reset(scratch, mark);
}
