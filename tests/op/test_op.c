/* Operators in the float build: values against plain double loops, choices and plans against their definition, the same
 * bytes for any number of threads and any batch, no malloc, and the planned memory. */
#include "test.h"
#include "isa.h"

#include <math.h>

#include "base/rng.h"
#include "op/op.h"

static int n_malloc;
void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

void *__wrap_malloc(size_t size)
{
    n_malloc++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    n_malloc++;
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    n_malloc++;
    return __real_realloc(p, size);
}

/* A context over a fresh arena. */
struct world {
    struct kernels kernels;
    struct arena arena;
    struct rng rng;
    struct op_ctx c;
};

static int world_new(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    cadre_error e = {0};
    struct cpu cpu;
    cpu_detect(&cpu);
    kernels_init(&w->kernels, &cpu, test_isa(&cpu));
    assert_ok(arena_init(&w->arena, 64 << 20, &e), e);
    rng_seed(&w->rng, 7);
    w->c = (struct op_ctx){.k = &w->kernels, .arena = &w->arena};
    *state = w;
    return 0;
}

static int world_free(void **state)
{
    struct world *w = *state;
    arena_destroy(&w->arena);
    free(w);
    return 0;
}

static struct tensor *normal(struct world *w, int64_t rows, int64_t cols)
{
    struct tensor *t = op_new2(&w->c, rows, cols);
    for (int64_t i = 0; i < rows * cols; i++)
        t->x[i] = (real)rng_normal(&w->rng);
    return t;
}

static void assert_near(double found, double want, double bound)
{
    if (!(fabs(found - want) <= bound * (1 + fabs(want))))
        fail_msg("found %.9g, expected %.9g", found, want);
}

/* ---- values */

static void unary_values(void **state)
{
    struct world *w = *state;
    struct tensor *x = normal(w, 3, 1000);
    x->x[0] = 0, x->x[1] = 30, x->x[2] = -30;
    struct tensor *silu = op_silu(&w->c, x), *gelu = op_gelu(&w->c, x), *relu2 = op_relu2(&w->c, x),
                  *sigmoid = op_sigmoid(&w->c, x), *t = op_tanh(&w->c, x), *scale = op_scale(&w->c, x, 3),
                  *swiglu = op_swiglu(&w->c, x, t), *softplus = op_softplus(&w->c, x), *relu = op_relu(&w->c, x),
                  *clamp = op_clamp(&w->c, x, 1);
    for (int i = 0; i < 3000; i++) {
        double v = (double)x->x[i], s = 1 / (1 + exp(-v));
        assert_near((double)sigmoid->x[i], s, 1e-6);
        assert_near((double)silu->x[i], v * s, 1e-6);
        assert_near((double)gelu->x[i], 0.5 * v * (1 + tanh(sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))), 1e-6);
        assert_near((double)clamp->x[i], v > 1 ? 1 : v < -1 ? -1 : v, 0);
        assert_near((double)relu->x[i], v > 0 ? v : 0, 0);
        assert_near((double)relu2->x[i], v > 0 ? v * v : 0, 1e-6);
        assert_near((double)t->x[i], tanh(v), 1e-6);
        assert_near((double)scale->x[i], 3 * v, 1e-6);
        assert_near((double)swiglu->x[i], v * s * tanh(v), 1e-6);
        assert_near((double)softplus->x[i], log1p(exp(v)), 1e-7);
    }
}

static void row_values(void **state)
{
    struct world *w = *state;
    static const int64_t shape[][2] = {{1, 1}, {4, 17}, {3, 1100}};
    for (int n = 0; n < 3; n++) {
        int64_t rows = shape[n][0], d = shape[n][1];
        struct tensor *x = normal(w, rows, d), *g = normal(w, 1, d), *b = normal(w, 1, d);
        struct tensor *rms = op_rmsnorm(&w->c, x, g, (real)1e-5), *ln = op_layernorm(&w->c, x, g, b, (real)1e-5),
                      *soft = op_softmax(&w->c, x), *lse = op_logsumexp(&w->c, x), *sum = op_row_sum(&w->c, x),
                      *l2 = op_l2norm(&w->c, x, (real)1e-6);
        for (int64_t i = 0; i < rows; i++) {
            const real *r = x->x + i * d;
            double total = 0, squares = 0, centred = 0, exps = 0;
            for (int64_t j = 0; j < d; j++) {
                total += (double)r[j];
                squares += (double)r[j] * (double)r[j];
                exps += exp((double)r[j]);
            }
            for (int64_t j = 0; j < d; j++)
                centred += pow((double)r[j] - total / (double)d, 2);
            assert_near((double)sum->x[i], total, 1e-5);
            assert_near((double)lse->x[i], log(exps), 1e-6);
            for (int64_t j = 0; j < d; j++) {
                double v = (double)r[j], weight = (double)g->x[j];
                assert_near((double)l2->x[i * d + j], v / sqrt(squares), 1e-6);
                assert_near((double)rms->x[i * d + j], v / sqrt(squares / (double)d + 1e-5) * weight, 1e-5);
                assert_near((double)ln->x[i * d + j],
                            (v - total / (double)d) / sqrt(centred / (double)d + 1e-5) * weight + (double)b->x[j],
                            1e-5);
                assert_near((double)soft->x[i * d + j], exp(v) / exps, 1e-6);
            }
        }
    }
}

static void linear_values(void **state)
{
    struct world *w = *state;
    int64_t offset[] = {0, 0, 5, 6, 6, 19}, n = 21, k = 35;
    struct tensor *x = normal(w, 19, k), *param = normal(w, 5 * n, k), *bias = normal(w, 5, n);
    struct weight weight = {.n_expert = 5, .n = n, .k = k, .param = param};
    struct tensor *y = op_linear_grouped(&w->c, x, &weight, offset, bias);
    struct packed packed[5];
    for (int e = 0; e < 5; e++) {
        size_t bytes = packed_bytes(DTYPE_F32, n, k);
        void *data = arena_alloc(&w->arena, bytes);
        packed_fill(NULL, data, DTYPE_F32, param->x + e * n * k, n, k);
        packed[e] = (struct packed){DTYPE_F32, n, k, data};
        for (int64_t i = offset[e]; i < offset[e + 1]; i++)
            for (int64_t j = 0; j < n; j++) {
                double want = (double)bias->x[e * n + j];
                for (int64_t l = 0; l < k; l++)
                    want += (double)x->x[i * k + l] * (double)param->x[(e * n + j) * k + l];
                assert_near((double)y->x[i * n + j], want, 1e-5);
            }
        struct weight one = {.n = n, .k = k, .param = &(struct tensor){.x = param->x + e * n * k}};
        struct tensor *slice = op_wrap(&w->c, x->x + offset[e] * k, offset[e + 1] - offset[e], k);
        struct tensor *row = op_wrap(&w->c, bias->x + e * n, 1, n);
        struct tensor *alone = op_linear(&w->c, slice, &one, row);
        assert_memory_equal(alone->x, y->x + offset[e] * n, (size_t)tensor_count(alone) * sizeof(real));
    }
    /* Packed weights, as inference has them, give the bytes of the parameters. */
    struct weight inference = {.n_expert = 5, .n = n, .k = k, .packed = packed};
    struct tensor *z = op_linear_grouped(&w->c, x, &inference, offset, bias);
    assert_memory_equal(y->x, z->x, (size_t)tensor_count(y) * sizeof(real));
}

/* Block activations: the bytes of a product of rows on the grid, and only where weights are in blocks; x itself is left
 * alone, and the plan knows the rows on the grid. */
static void rows_are_on_the_grid(struct world *w, enum act act)
{
    enum { M = 7, N = 21, K = 96 };
    struct tensor *x = normal(w, M, K), *param = normal(w, N, K);
    const struct dtype_info *q8_0 = dtype_info(DTYPE_Q8_0);
    unsigned char rows[N * K / 32 * 34];
    real before[M * K];
    memcpy(before, x->x, sizeof before);
    struct grid_rows on_grid = grid_rows_in(arena_alloc(&w->arena, grid_rows_bytes(act, M * K)), act, M * K, K);
    block_to_grid(x->x, M * K, on_grid);
    q8_0->encode(param->x, rows, N * K);
    static const enum dtype types[] = {DTYPE_Q8_0, DTYPE_F32};
    for (int t = 0; t < 2; t++) {
        void *data = arena_alloc(&w->arena, packed_bytes(types[t], N, K));
        packed_fill(NULL, data, types[t], t ? (const void *)param->x : rows, N, K);
        struct packed packed = {types[t], N, K, data};
        struct weight weight = {.n = N, .k = K, .packed = &packed};
        struct tensor *want = op_linear(&w->c, x, &weight, NULL);
        if (t == 0)
            block_product(types[t], M, N, K, &on_grid, data, want->x, N);
        struct op_ctx c = w->c;
        c.act = act;
        size_t start = arena_mark(&w->arena);
        w->arena.peak = start;
        struct tensor *y = op_linear(&c, x, &weight, NULL);
        size_t used = w->arena.peak - start;
        assert_memory_equal(y->x, want->x, sizeof(real) * M * N);
        assert_memory_equal(x->x, before, sizeof before);
        struct arena measure, plan;
        cadre_error e = {0};
        arena_init_measuring(&measure);
        assert_ok(arena_init(&plan, 1 << 20, &e), e);
        c.arena = &measure;
        c.plan = &plan;
        c.dry = true;
        op_linear(&c, x, &weight, NULL);
        assert_int_equal(measure.peak, used);
        arena_destroy(&plan);
    }
}

static void block_activations_are_rows_on_the_grid(void **state)
{
    rows_are_on_the_grid(*state, ACT_GRID);
    rows_are_on_the_grid(*state, ACT_INT8);
}

static void embed_decodes_rows(void **state)
{
    struct world *w = *state;
    enum { ROWS = 6, K = 544 }; /* more than one chunk of decoding, with a tail */
    struct tensor *table = normal(w, ROWS, K);
    static const int32_t ids[] = {5, -1, 0, 5, 3};
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    for (int t = 0; t < 4; t++) {
        const struct dtype_info *info = dtype_info(types[t]);
        unsigned char *rows = arena_alloc(&w->arena, ROWS * K / info->block * info->bytes);
        info->encode(table->x, rows, ROWS * K);
        real *decoded = arena_alloc(&w->arena, ROWS * K * sizeof(real));
        info->decode(rows, decoded, ROWS * K);
        struct weight weight = {.n = ROWS, .k = K, .rows = rows, .rows_type = types[t]};
        struct tensor *y = op_embed(&w->c, &weight, ids, 5);
        for (int i = 0; i < 5; i++)
            for (int j = 0; j < K; j++)
                assert_true(y->x[i * K + j] == (ids[i] < 0 ? 0 : decoded[ids[i] * K + j]));
    }
    struct weight param = {.n = ROWS, .k = K, .param = table};
    struct tensor *y = op_embed(&w->c, &param, ids, 5);
    assert_memory_equal(y->x, table->x + 5 * K, K * sizeof(real));
}

static void columns_and_broadcasts(void **state)
{
    struct world *w = *state;
    struct tensor *a = normal(w, 4, 9), *b = normal(w, 4, 3), *row = normal(w, 1, 9), *col = normal(w, 4, 1);
    struct tensor *cat = op_concat_cols(&w->c, a, b), *slice = op_slice_cols(&w->c, cat, 7, 4);
    struct tensor *plus_row = op_add(&w->c, a, row), *minus_col = op_sub(&w->c, a, col), *times = op_mul(&w->c, a, a);
    struct tensor *by_col = op_mul(&w->c, a, col), *quotient = op_div_col(&w->c, a, col, (real)0.25);
    struct tensor *mean = op_col_mean(&w->c, a), *all = op_sum(&w->c, a), *average = op_mean(&w->c, a);
    double total = 0;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 9; j++) {
            real v = a->x[i * 9 + j], c = col->x[i];
            total += (double)v;
            assert_true(cat->x[i * 12 + j] == v);
            assert_true(plus_row->x[i * 9 + j] == v + row->x[j]);
            assert_true(minus_col->x[i * 9 + j] == v - c);
            assert_true(times->x[i * 9 + j] == v * v);
            assert_true(by_col->x[i * 9 + j] == v * c);
            assert_true(quotient->x[i * 9 + j] == v / (c > (real)0.25 ? c : (real)0.25));
        }
        for (int j = 0; j < 4; j++)
            assert_true(slice->x[i * 4 + j] == (j < 2 ? a->x[i * 9 + 7 + j] : b->x[i * 3 + j - 2]));
    }
    assert_near((double)all->x[0], total, 1e-5);
    assert_near((double)average->x[0], total / 36, 1e-6);
    for (int j = 0; j < 9; j++)
        assert_near((double)mean->x[j],
                    ((double)a->x[j] + (double)a->x[9 + j] + (double)a->x[18 + j] + (double)a->x[27 + j]) / 4, 1e-6);
    static const int32_t pick[] = {3, -1, 0, 0, 8, 8, 1, 2};
    struct tensor *cols = op_gather_cols(&w->c, a, pick, 2);
    struct tensor *rows = op_gather_rows(&w->c, a, (int32_t[]){3, -1, 3}, 3);
    for (int i = 0; i < 8; i++)
        assert_true(cols->x[i] == (pick[i] < 0 ? 0 : a->x[i / 2 * 9 + pick[i]]));
    for (int j = 0; j < 9; j++)
        assert_true(rows->x[j] == a->x[27 + j] && rows->x[9 + j] == 0 && rows->x[18 + j] == a->x[27 + j]);
    /* A column is told from a row by its shape where their sizes agree. */
    struct tensor *square = normal(w, 3, 3), *tall = normal(w, 3, 1), *flat = op_wrap(&w->c, tall->x, 1, 3);
    assert_true(op_add(&w->c, square, tall)->x[1] == square->x[1] + tall->x[0]);
    assert_true(op_add(&w->c, square, flat)->x[1] == square->x[1] + tall->x[1]);
}

static void cross_entropy_value(void **state)
{
    struct world *w = *state;
    enum { ROWS = 9, V = 1500 };
    struct tensor *x = normal(w, ROWS, V);
    int32_t target[ROWS];
    double want = 0;
    int count = 0;
    for (int i = 0; i < ROWS; i++) {
        target[i] = i % 3 == 1 ? -1 : i * 160;
        if (target[i] < 0)
            continue;
        double sum = 0;
        for (int j = 0; j < V; j++)
            sum += exp((double)x->x[i * V + j]);
        want += log(sum) - (double)x->x[i * V + target[i]];
        count++;
    }
    assert_near((double)op_cross_entropy(&w->c, x, target)->x[0], want / count, 1e-6);
    /* Large logits do not overflow; a certain prediction costs nothing. */
    for (int j = 0; j < V; j++)
        x->x[j] = j == 7 ? 1000 : -1000;
    target[0] = 7;
    for (int i = 1; i < ROWS; i++)
        target[i] = -1;
    assert_true(op_cross_entropy(&w->c, x, target)->x[0] == 0);
}

/* The fused loss is that of logits as a whole, and the same bytes for any number of threads, gradients too. */
static void head_loss_is_cross_entropy(void **state)
{
    struct world *w = *state;
    enum { ROWS = 700, D = 40, V = 130 };
    struct tensor *x = normal(w, ROWS, D), *m = normal(w, V, D);
    struct weight weight = {.n = V, .k = D, .param = m};
    int32_t target[ROWS];
    real *first = malloc(sizeof *first * (1 + (ROWS + V) * D)), *g = calloc(sizeof *g, (ROWS + V) * D);
    assert_true(first && g);
    for (int i = 0; i < ROWS; i++)
        target[i] = i % 5 == 1 ? -1 : i % V;
    for (int precision = 0; precision < 2; precision++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_ctx c = w->c;
            struct tape tape = {0};
            cadre_error e = {0};
            size_t mark = arena_mark(c.arena);
            c.precision = precision ? GEMM_BF16 : GEMM_F32;
            assert_ok(pool_new(&c.pool, threads, &e), e);
            real whole = op_cross_entropy(&c, op_linear(&c, x, &weight, NULL), target)->x[0];
            real plain = op_head_loss(&c, x, &weight, target)->x[0];
            assert_memory_equal(&whole, &plain, sizeof whole);
            memset(g, 0, sizeof *g * (ROWS + V) * D);
            x->g = g, m->g = g + ROWS * D, x->track = m->track = true;
            c.tape = &tape;
            struct tensor *loss = op_head_loss(&c, x, &weight, target);
            assert_memory_equal(loss->x, &whole, sizeof whole);
            tape_backward(&c, loss, (real)0.25);
            x->track = m->track = false;
            if (threads == 1)
                memcpy(first, g, sizeof *g * (ROWS + V) * D);
            assert_memory_equal(first, g, sizeof *g * (ROWS + V) * D);
            arena_reset(c.arena, mark);
            pool_free(c.pool);
        }
    free(first);
    free(g);
}

/* ---- choices */

struct ranked {
    real score;
    int32_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    bool nan_x = isnan(x->score), nan_y = isnan(y->score);
    if (nan_x != nan_y)
        return nan_x ? 1 : -1;
    if (!nan_x && x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->id - y->id;
}

enum { MAX_EXPERTS = 64 };

/* The definition by sorting: of each group, then of the groups, then of what is eligible. */
static void reference_topk(const real *score, const real *bias, int n, int k, const struct topk_groups *groups,
                           int32_t *id)
{
    struct ranked all[MAX_EXPERTS], group[MAX_EXPERTS], rank[MAX_EXPERTS];
    for (int e = 0; e < n; e++)
        all[e] = (struct ranked){score[e] + (bias ? bias[e] : 0), e};
    int n_groups = groups ? groups->n : 1, size = n / n_groups, m = 0;
    bool open[MAX_EXPERTS] = {true};
    for (int g = 0; groups && g < n_groups; g++) {
        memcpy(rank, all + g * size, (size_t)size * sizeof *rank);
        qsort(rank, (size_t)size, sizeof *rank, by_rank);
        group[g] = (struct ranked){0, g};
        for (int b = 0; b < groups->best; b++)
            group[g].score += rank[b].score;
    }
    if (groups) {
        qsort(group, (size_t)n_groups, sizeof *group, by_rank);
        open[0] = false;
        for (int g = 0; g < groups->used; g++)
            open[group[g].id] = true;
    }
    for (int e = 0; e < n; e++)
        if (open[e / size])
            rank[m++] = all[e];
    qsort(rank, (size_t)m, sizeof *rank, by_rank);
    for (int j = 0; j < k; j++)
        id[j] = rank[j].id;
}

static void topk_is_the_sorted_choice(void **state)
{
    struct world *w = *state;
    for (int turn = 0; turn < 600; turn++) {
        size_t mark = arena_mark(&w->arena);
        int n_groups = 1 << rng_below(&w->rng, 4), size = 1 + (int)rng_below(&w->rng, 8), n = n_groups * size;
        struct topk_groups groups = {n_groups, 1 + (int)rng_below(&w->rng, (uint64_t)n_groups),
                                     1 + (int)rng_below(&w->rng, (uint64_t)size)};
        bool grouped = turn % 2;
        int k = 1 + (int)rng_below(&w->rng, (uint64_t)(grouped ? groups.used * size : n));
        struct tensor *score = normal(w, 5, n), *bias = normal(w, 1, n);
        for (int64_t i = 0; i < 5 * n; i++) {
            if (turn % 3 == 0) /* few different values: many ties */
                score->x[i] = (real)rng_below(&w->rng, 3);
            if (turn % 5 == 0 && rng_below(&w->rng, 4) == 0)
                score->x[i] = (real)NAN;
            if (turn % 7 == 0 && rng_below(&w->rng, 4) == 0)
                score->x[i] = (real)-INFINITY;
        }
        const real *b = turn % 4 < 2 ? bias->x : NULL;
        int32_t *id = op_topk(&w->c, score, b, k, grouped ? &groups : NULL), want[MAX_EXPERTS];
        for (int i = 0; i < 5; i++) {
            reference_topk(score->x + i * n, b, n, k, grouped ? &groups : NULL, want);
            assert_memory_equal(id + i * k, want, (size_t)k * sizeof *want);
        }
        arena_reset(&w->arena, mark);
    }
}

/* DeepSeek-V3's rule: the expert with the highest score is left out if its group's two best are beaten. */
static void groups_mask_experts(void **state)
{
    struct world *w = *state;
    real score[] = {9, 0, 5, 5, 1, 1}, bias[] = {0, 0, 0, 0, 0, 3};
    struct tensor *x = op_wrap(&w->c, score, 1, 6);
    struct topk_groups two_best = {3, 1, 2}, maximum = {3, 1, 1}, none = {0};
    int32_t *id = op_topk(&w->c, x, NULL, 2, &two_best);
    assert_true(id[0] == 2 && id[1] == 3);
    id = op_topk(&w->c, x, NULL, 2, &maximum);
    assert_true(id[0] == 0 && id[1] == 1);
    id = op_topk(&w->c, x, bias, 4, &none);
    assert_true(id[0] == 0 && id[1] == 2 && id[2] == 3 && id[3] == 5);
}

static void dispatch_plan_is_a_stable_sort(void **state)
{
    struct world *w = *state;
    for (int turn = 0; turn < 100; turn++) {
        size_t mark = arena_mark(&w->arena);
        int n_tok = 1 + (int)rng_below(&w->rng, 40), k = 1 + (int)rng_below(&w->rng, 4),
            n_expert = 1 + (int)rng_below(&w->rng, 9);
        int32_t id[160];
        for (int i = 0; i < n_tok * k; i++)
            id[i] = (int32_t)rng_below(&w->rng, (uint64_t)n_expert + 1) - 1;
        struct dispatch *p = op_dispatch_plan(&w->c, id, n_tok, k, n_expert);
        int64_t row = 0;
        for (int e = 0; e < n_expert; e++) {
            assert_int_equal(p->offset[e], row);
            for (int i = 0; i < n_tok * k; i++)
                if (id[i] == e) {
                    assert_int_equal(p->slot_row[i], row);
                    assert_int_equal(p->row_token[row], i / k);
                    row++;
                }
        }
        assert_int_equal(p->offset[n_expert], row);
        assert_int_equal(p->n_rows, row);
        for (int i = 0; i < n_tok * k; i++)
            assert_true(id[i] >= 0 || p->slot_row[i] == -1);
        arena_reset(&w->arena, mark);
    }
}

/* ---- a small model with experts: bytes and memory */

enum { D = 48, E = 8, K = 3, F = 40, VOCAB = 400, N_PARAMS = 9 };

struct model {
    struct tensor embed, norm, bias, router, gate, up, down, last_norm, head;
    struct tensor *all[N_PARAMS];
    struct weight w_embed, w_router, w_gate, w_up, w_down, w_head;
};

static void param_init(struct world *w, struct tensor *t, int64_t rows, int64_t cols)
{
    *t = (struct tensor){.n_dims = 2, .dim = {rows, cols}, .track = true};
    size_t n = (size_t)(rows * cols);
    t->x = arena_alloc(&w->arena, n * sizeof(real));
    t->g = arena_alloc(&w->arena, n * sizeof(real));
    for (size_t i = 0; i < n; i++)
        t->x[i] = (real)(0.3 * rng_normal(&w->rng));
    memset(t->g, 0, n * sizeof(real));
}

static struct model *model_new(struct world *w)
{
    struct model *m = arena_alloc(&w->arena, sizeof *m);
    struct tensor *all[N_PARAMS] = {&m->embed, &m->norm, &m->bias,      &m->router, &m->gate,
                                    &m->up,    &m->down, &m->last_norm, &m->head};
    memcpy(m->all, all, sizeof all);
    static const int64_t shape[N_PARAMS][2] = {{VOCAB, D}, {1, D},     {E, F}, {E, D},    {E * F, D},
                                               {E * F, D}, {E * D, F}, {1, D}, {VOCAB, D}};
    for (int i = 0; i < N_PARAMS; i++)
        param_init(w, all[i], shape[i][0], shape[i][1]);
    m->w_embed = (struct weight){.n = VOCAB, .k = D, .param = &m->embed};
    m->w_router = (struct weight){.n = E, .k = D, .param = &m->router};
    m->w_gate = (struct weight){.n_expert = E, .n = F, .k = D, .param = &m->gate};
    m->w_up = (struct weight){.n_expert = E, .n = F, .k = D, .param = &m->up};
    m->w_down = (struct weight){.n_expert = E, .n = D, .k = F, .param = &m->down};
    m->w_head = (struct weight){.n = VOCAB, .k = D, .param = &m->head};
    return m;
}

static struct tensor *model_logits(struct op_ctx *c, const struct model *m, const int32_t *ids, int64_t n)
{
    struct tensor *x = op_embed(c, &m->w_embed, ids, n);
    struct tensor *h = op_rmsnorm(c, x, m->all[1], (real)1e-5);
    struct tensor *score = op_softmax(c, op_linear(c, h, &m->w_router, NULL));
    int32_t *id = op_topk(c, score, NULL, K, NULL);
    struct tensor *weight = op_gather_cols(c, score, id, K);
    weight = op_div_col(c, weight, op_row_sum(c, weight), (real)1e-9);
    struct dispatch *p = op_dispatch_plan(c, id, n, K, E);
    struct tensor *rows = op_dispatch(c, h, p);
    struct tensor *gate = op_linear_grouped(c, rows, &m->w_gate, p->offset, m->all[2]);
    struct tensor *up = op_linear_grouped(c, rows, &m->w_up, p->offset, NULL);
    struct tensor *down = op_linear_grouped(c, op_swiglu(c, gate, up), &m->w_down, p->offset, NULL);
    x = op_add(c, x, op_combine(c, down, weight, p));
    return op_linear(c, op_rmsnorm(c, x, m->all[7], (real)1e-5), &m->w_head, NULL);
}

static struct tensor *model_loss(struct op_ctx *c, const struct model *m, const int32_t *ids, int64_t n)
{
    struct tensor *logits = model_logits(c, m, ids, n);
    struct tensor *z = op_logsumexp(c, logits);
    return op_add(c, op_cross_entropy(c, logits, ids ? ids + 1 : NULL),
                  op_scale(c, op_mean(c, op_mul(c, z, z)), (real)1e-3));
}

static void random_tokens(struct world *w, int32_t *ids, int n)
{
    for (int i = 0; i < n; i++)
        ids[i] = (int32_t)rng_below(&w->rng, VOCAB);
}

enum { N_BYTES = 600 }; /* several chunks of 256 rows */

/* Loss and gradients of one step: into the arena if *first is NULL, else compared with it. */
static void step_bytes(struct world *w, struct model *m, const int32_t *ids, struct op_ctx c, real **first)
{
    size_t total = 1, at = 1;
    for (int i = 0; i < N_PARAMS; i++) {
        size_t n = (size_t)tensor_count(m->all[i]);
        memset(m->all[i]->g, 0, n * sizeof(real));
        total += n;
    }
    bool compare = *first;
    if (!compare)
        *first = arena_alloc(&w->arena, total * sizeof(real));
    size_t mark = arena_mark(&w->arena);
    struct tape tape = {0};
    c.tape = &tape;
    struct tensor *loss = model_loss(&c, m, ids, N_BYTES);
    tape_backward(&c, loss, 1);
    assert_true(isfinite(loss->x[0]));
    if (compare)
        assert_true(**first == loss->x[0]);
    else
        **first = loss->x[0];
    for (int i = 0; i < N_PARAMS; i++) {
        size_t bytes = (size_t)tensor_count(m->all[i]) * sizeof(real);
        if (compare)
            assert_memory_equal(*first + at, m->all[i]->g, bytes);
        else
            memcpy(*first + at, m->all[i]->g, bytes);
        at += bytes / sizeof(real);
    }
    arena_reset(&w->arena, mark);
}

static void same_bytes_for_any_number_of_threads(void **state)
{
    struct world *w = *state;
    cadre_error e = {0};
    int32_t ids[N_BYTES + 1];
    random_tokens(w, ids, N_BYTES + 1);
    struct model *m = model_new(w);
    real *first[2] = {NULL, NULL};
    for (int threads = 1; threads <= 3; threads++) {
        struct op_ctx c = w->c;
        assert_ok(pool_new(&c.pool, threads, &e), e);
        for (int precision = GEMM_F32; precision <= GEMM_BF16; precision++) {
            c.precision = (enum gemm_precision)precision;
            step_bytes(w, m, ids, c, &first[precision]);
        }
        pool_free(c.pool);
    }
    assert_true(*first[GEMM_F32] != *first[GEMM_BF16]); /* the choice acts */
}

static void same_bytes_on_every_isa(void **state)
{
    struct world *w = *state;
    struct cpu cpu;
    cpu_detect(&cpu);
    int32_t ids[N_BYTES + 1];
    random_tokens(w, ids, N_BYTES + 1);
    struct model *m = model_new(w);
    real *first = NULL;
    for (int isa = ISA_GENERIC; isa <= (int)cpu.best; isa++) {
        struct kernels kernels;
        kernels_init(&kernels, &cpu, (enum isa)isa);
        struct op_ctx c = w->c;
        c.k = &kernels;
        step_bytes(w, m, ids, c, &first);
    }
}

static void a_row_alone_is_the_row_in_a_batch(void **state)
{
    struct world *w = *state;
    enum { N = 41 };
    int32_t ids[N];
    random_tokens(w, ids, N);
    struct model *m = model_new(w);
    struct tensor *all = model_logits(&w->c, m, ids, N);
    for (int i = 0; i < N; i++) {
        struct tensor *one = model_logits(&w->c, m, ids + i, 1);
        assert_memory_equal(one->x, all->x + i * VOCAB, VOCAB * sizeof(real));
    }
    for (int i = 0; i + 7 <= N; i += 7) {
        struct tensor *some = model_logits(&w->c, m, ids + i, 7);
        assert_memory_equal(some->x, all->x + i * VOCAB, 7 * VOCAB * sizeof(real));
    }
}

/* Plans forward (and backward) dry, runs in an arena of that size, and compares; counts calls of malloc. */
static void check_plan(struct world *w, const struct model *m, const int32_t *ids, int n, bool backward,
                       struct pool *pool, enum gemm_precision precision)
{
    cadre_error e = {0};
    struct arena measure, plan, arena;
    arena_init_measuring(&measure);
    assert_ok(arena_init(&plan, 1 << 20, &e), e);
    struct tape tape = {0};
    struct op_ctx c = w->c;
    c.pool = pool;
    c.precision = precision;
    c.arena = &measure;
    c.plan = &plan;
    c.dry = true;
    c.tape = backward ? &tape : NULL;
    /* A dry run reads no data: no ids, and parameters at an address where there is nothing. */
    real *x[N_PARAMS];
    for (int i = 0; i < N_PARAMS; i++) {
        x[i] = m->all[i]->x;
        m->all[i]->x = (real *)(uintptr_t)64;
    }
    struct tensor *loss = backward ? model_loss(&c, m, NULL, n) : model_logits(&c, m, NULL, n);
    if (backward)
        tape_backward(&c, loss, 1);
    for (int i = 0; i < N_PARAMS; i++)
        m->all[i]->x = x[i];
    size_t used = measure.used;

    assert_ok(arena_init(&arena, measure.peak, &e), e);
    c.arena = &arena;
    c.plan = NULL;
    c.dry = false;
    int before = n_malloc;
    loss = backward ? model_loss(&c, m, ids, n) : model_logits(&c, m, ids, n);
    if (backward)
        tape_backward(&c, loss, 1);
    assert_int_equal(n_malloc, before);
    assert_int_equal(arena.peak, measure.peak);
    assert_int_equal(arena.used, used);
    assert_true(loss->x[0] == loss->x[0]);
    arena_destroy(&plan);
    arena_destroy(&arena);
}

static void dry_run_plans_exactly_and_nothing_is_allocated(void **state)
{
    struct world *w = *state;
    cadre_error e = {0};
    int32_t ids[301];
    random_tokens(w, ids, 301);
    struct model *m = model_new(w);
    struct pool *pool;
    int before = n_malloc;
    assert_ok(pool_new(&pool, 2, &e), e);
    assert_true(n_malloc > before); /* the counter counts */
    static const int sizes[] = {1, 15, 300};
    for (int i = 0; i < 3; i++)
        for (int backward = 0; backward < 2; backward++)
            for (int precision = GEMM_F32; precision <= GEMM_BF16; precision++) {
                check_plan(w, m, ids, sizes[i], backward, NULL, (enum gemm_precision)precision);
                check_plan(w, m, ids, sizes[i], backward, pool, (enum gemm_precision)precision);
            }
    pool_free(pool);
}

/* Without a tape nothing is recorded or tracked; with one, only what leads to a parameter is. */
static void tracking_follows_parameters(void **state)
{
    struct world *w = *state;
    struct model *m = model_new(w);
    int32_t ids[] = {1, 2, 3, 4};
    assert_false(model_logits(&w->c, m, ids, 4)->track);
    struct tape tape = {0};
    struct op_ctx c = w->c;
    c.tape = &tape;
    struct tensor *x = normal(w, 4, D);
    struct tensor *h = op_silu(&c, op_add(&c, x, x));
    assert_false(h->track);
    assert_null(tape.last);
    assert_true(op_rmsnorm(&c, h, m->all[1], (real)1e-5)->track);
    assert_non_null(tape.last);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, world_new, world_free)
    const struct CMUnitTest tests[] = {
        TEST(unary_values),
        TEST(row_values),
        TEST(linear_values),
        TEST(block_activations_are_rows_on_the_grid),
        TEST(embed_decodes_rows),
        TEST(columns_and_broadcasts),
        TEST(cross_entropy_value),
        TEST(head_loss_is_cross_entropy),
        TEST(topk_is_the_sorted_choice),
        TEST(groups_mask_experts),
        TEST(dispatch_plan_is_a_stable_sort),
        TEST(same_bytes_for_any_number_of_threads),
        TEST(same_bytes_on_every_isa),
        TEST(a_row_alone_is_the_row_in_a_batch),
        TEST(dry_run_plans_exactly_and_nothing_is_allocated),
        TEST(tracking_follows_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
