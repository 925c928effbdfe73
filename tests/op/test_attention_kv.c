/* Attention over a cache: in every format the bytes of op_attention on the numbers that the format keeps, whichever way
 * the rows come (one token, pieces of a prompt, beside others), for every number of threads and level. Positions that
 * nobody has written yet are NaN. */
#include "test.h"
#include "isa.h"

#include <math.h>

#include "base/checked.h"
#include "base/rng.h"
#include "op/op.h"

enum { N_SEQ = 3, MAX_HEADS = 16 };

struct shape {
    const char *name;
    int64_t n_head, n_kv_head, head_dim, v_dim, window;
    bool sinks, latent; /* latent: values are the first v_dim numbers of the keys */
    int64_t rows[N_SEQ];
};

static const struct shape shapes[] = {
    {"heads of 64, two chunks", 2, 2, 64, 64, 0, false, false, {1100, 0, 70}},
    {"group of four, values wider", 8, 2, 16, 24, 0, true, false, {600, 1, 64}},
    {"group of three, odd sizes", 3, 1, 20, 33, 0, false, false, {530, 65, 2}},
    {"heads of 256, group of two", 2, 1, 256, 256, 0, false, false, {200, 64, 1}},
    {"heads of 80, window over chunks", 4, 4, 80, 80, 600, false, false, {1300, 3, 63}},
    {"sinks and a window within a block", 16, 2, 32, 32, 9, true, false, {540, 0, 130}},
    {"window of one", 2, 2, 7, 5, 1, false, false, {70, 1, 0}},
    {"group of sixteen", 16, 1, 48, 16, 0, false, false, {520, 129, 1}},
    {"latent of 576 / 512", 16, 1, 576, 512, 0, false, true, {530, 1, 65}},
    {"latent of odd sizes, window", 6, 1, 37, 21, 100, false, true, {700, 64, 0}},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static const enum dtype formats[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};

/* One head's positions of one sequence, blocks one after the other. */
struct head {
    unsigned char *k, *v;
};

struct fixture {
    const struct shape *shape;
    enum dtype type;
    struct cpu cpu;
    struct kernels ks;
    struct arena arena;
    int64_t start[N_SEQ + 1]; /* rows of each sequence */
    struct attention a;
    struct tensor q, k, v, sinks; /* as op_attention takes them */
    real *plain_k, *plain_v;      /* before the format */
    real *want;
    struct head cache[N_SEQ][MAX_HEADS];
    const int64_t *slot; /* of each sequence of a call */
};

static real *normal(struct rng *r, int64_t n)
{
    real *x = malloc((size_t)n * sizeof *x + 1);
    assert_non_null(x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)rng_normal(r);
    return x;
}

static size_t padded(enum dtype type, int64_t n)
{
    return align_up((size_t)n, dtype_info(type)->block);
}

/* n numbers in the format, zeros up to a whole block */
static void encode(enum dtype type, const real *x, int64_t n, unsigned char *dst)
{
    float plain[1024] = {0};
    for (int64_t i = 0; i < n; i++)
        plain[i] = (float)x[i];
    dtype_info(type)->encode(plain, dst, padded(type, n));
}

/* What the format keeps of rows of `heads` heads of `dim` */
static real *kept(enum dtype type, const real *x, int64_t heads, int64_t dim)
{
    real *y = malloc((size_t)(heads * dim) * sizeof *y + 1);
    unsigned char bytes[4096];
    float plain[1024];
    for (int64_t h = 0; h < heads; h++) {
        encode(type, x + h * dim, dim, bytes);
        dtype_info(type)->decode(bytes, plain, padded(type, dim));
        for (int64_t i = 0; i < dim; i++)
            y[h * dim + i] = (real)plain[i];
    }
    return y;
}

static size_t row_bytes(enum dtype type, int64_t n)
{
    return padded(type, n) / dtype_info(type)->block * dtype_info(type)->bytes;
}

/* The bytes of one position into lane p % 16 of its strip: 4, 2, or (q8_0) 2 and 32 times 1 for each block. */
static void store_key(enum dtype type, unsigned char *keys, int64_t dim, int64_t p, const unsigned char *bytes)
{
    size_t row = row_bytes(type, dim), unit = dtype_info(type)->bytes, lane = (size_t)p % 16;
    unsigned char *strip = keys + (size_t)p / 16 * 16 * row;
    for (size_t at = 0; at < row; at += unit) {
        size_t first = type == DTYPE_F32 ? 4 : 2;
        memcpy(strip + at * 16 + lane * first, bytes + at, first);
        for (size_t i = first; i < unit; i++)
            strip[(at + i) * 16 + lane] = bytes[at + i];
    }
}

static void store(struct fixture *f, int64_t seq, int64_t p, bool exists)
{
    const struct shape *s = f->shape;
    real nothing[1024];
    unsigned char bytes[4096];
    for (int i = 0; i < 1024; i++)
        nothing[i] = (real)NAN;
    for (int64_t h = 0; h < s->n_kv_head; h++) {
        int64_t at = (f->start[seq] + p) * s->n_kv_head + h;
        struct head *to = &f->cache[seq][h];
        encode(f->type, exists ? f->plain_k + at * s->head_dim : nothing, s->head_dim, bytes);
        store_key(f->type, to->k, s->head_dim, p, bytes);
        if (!s->latent)
            encode(f->type, exists ? f->plain_v + at * s->v_dim : nothing, s->v_dim,
                   to->v + (size_t)p * row_bytes(f->type, s->v_dim));
    }
}

/* Sequence seq as if it had `filled` positions. */
static void fill(struct fixture *f, int64_t seq, int64_t filled)
{
    int64_t room = (int64_t)align_up((size_t)f->shape->rows[seq], KV_BLOCK);
    for (int64_t p = 0; p < room; p++)
        store(f, seq, p, p < filled);
}

static void block_of(void *self, int64_t seq, int64_t head, int64_t b, const void **k, const void **v)
{
    const struct fixture *f = self;
    const struct head *h = &f->cache[f->slot[seq]][head];
    assert_true(b * KV_BLOCK < f->shape->rows[f->slot[seq]]);
    *k = h->k + (size_t)(b * KV_BLOCK) * row_bytes(f->type, f->shape->head_dim);
    *v = f->shape->latent ? NULL : h->v + (size_t)(b * KV_BLOCK) * row_bytes(f->type, f->shape->v_dim);
}

static struct op_ctx context(struct fixture *f)
{
    return (struct op_ctx){.k = &f->ks, .arena = &f->arena};
}

static void fixture_init(struct fixture *f, const struct shape *s, enum dtype type)
{
    static const int64_t from_zero[N_SEQ];
    *f = (struct fixture){.shape = s, .type = type};
    cadre_error e = {0};
    struct rng r;
    rng_seed(&r, 43);
    cpu_detect(&f->cpu);
    kernels_init(&f->ks, &f->cpu, test_isa(&f->cpu));
    assert_ok(arena_init(&f->arena, (size_t)256 << 20, &e), e);
    for (int i = 0; i < N_SEQ; i++)
        f->start[i + 1] = f->start[i] + s->rows[i];
    int64_t n = f->start[N_SEQ], k_width = s->n_kv_head * s->head_dim, v_width = s->n_kv_head * s->v_dim;
    f->plain_k = normal(&r, n * k_width);
    f->plain_v = normal(&r, n * v_width);
    f->q = (struct tensor){.x = normal(&r, n * s->n_head * s->head_dim), .n_dims = 2, {n, s->n_head * s->head_dim}};
    f->k = (struct tensor){.x = kept(type, f->plain_k, n * s->n_kv_head, s->head_dim), .n_dims = 2, {n, k_width}};
    f->v = (struct tensor){.x = kept(type, f->plain_v, n * s->n_kv_head, s->v_dim), .n_dims = 2, {n, v_width}};
    f->sinks = (struct tensor){.x = normal(&r, s->n_head), .n_dims = 1, {s->n_head}};
    for (int64_t i = 0; s->latent && i < n; i++)
        memcpy(f->v.x + i * s->v_dim, f->k.x + i * s->head_dim, (size_t)s->v_dim * sizeof(real));
    f->a = (struct attention){.n_head = s->n_head,
                              .n_kv_head = s->n_kv_head,
                              .head_dim = s->head_dim,
                              .v_dim = s->v_dim,
                              .scale = 1.5f / sqrtf((float)s->head_dim),
                              .window = s->window,
                              .sinks = s->sinks ? &f->sinks : NULL,
                              .n_seq = N_SEQ,
                              .row_start = f->start,
                              .position = from_zero};
    for (int i = 0; i < N_SEQ; i++)
        for (int64_t h = 0; h < s->n_kv_head; h++) {
            size_t room = align_up((size_t)s->rows[i], KV_BLOCK);
            f->cache[i][h].k = malloc(room * row_bytes(type, s->head_dim) + CACHE_SLACK);
            f->cache[i][h].v = malloc(room * row_bytes(type, s->v_dim) + CACHE_SLACK);
            assert_true(f->cache[i][h].k && f->cache[i][h].v);
        }
    struct op_ctx c = context(f);
    size_t bytes = (size_t)(n * s->n_head * s->v_dim) * sizeof(real);
    f->want = malloc(bytes);
    assert_non_null(f->want);
    memcpy(f->want, op_attention(&c, &f->q, &f->k, &f->v, &f->a)->x, bytes);
    arena_reset(&f->arena, 0);
}

static void fixture_free(struct fixture *f)
{
    real *x[] = {f->plain_k, f->plain_v, f->q.x, f->k.x, f->v.x, f->sinks.x, f->want};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++)
        free(x[i]);
    for (int i = 0; i < N_SEQ; i++)
        for (int h = 0; h < MAX_HEADS; h++) {
            free(f->cache[i][h].k);
            free(f->cache[i][h].v);
        }
    arena_destroy(&f->arena);
}

/* Where the generic kernels do it all, which takes minutes, every shape meets one format. */
static void for_all(void (*check)(struct fixture *))
{
    struct cpu cpu;
    cpu_detect(&cpu);
    size_t n_formats = sizeof formats / sizeof *formats;
    for (size_t i = 0; i < N_SHAPES; i++)
        for (size_t t = 0; t < n_formats; t++) {
            if (test_isa(&cpu) == ISA_GENERIC && t != i % n_formats)
                continue;
            struct fixture f;
            fixture_init(&f, &shapes[i], formats[t]);
            check(&f);
            fixture_free(&f);
        }
}

/* Rows position[i] … of sequences slot[i] in one call, which must be those of the reference. */
static void expect(struct fixture *f, const char *way, struct op_ctx *c, int64_t n_seq, const int64_t *slot,
                   const int64_t *position, const int64_t *rows)
{
    int64_t row_start[N_SEQ + 1] = {0}, width = f->q.dim[1], out_width = f->a.n_head * f->a.v_dim;
    for (int64_t i = 0; i < n_seq; i++)
        row_start[i + 1] = row_start[i] + rows[i];
    struct tensor q = {.n_dims = 2, .dim = {row_start[n_seq], width}};
    q.x = malloc((size_t)tensor_count(&q) * sizeof(real) + 1);
    assert_non_null(q.x);
    for (int64_t i = 0; i < n_seq; i++)
        memcpy(q.x + row_start[i] * width, f->q.x + (f->start[slot[i]] + position[i]) * width,
               (size_t)(rows[i] * width) * sizeof(real));
    struct attention a = f->a;
    a.n_seq = n_seq;
    a.row_start = row_start;
    a.position = position;
    f->slot = slot;
    struct kv_view view = {.self = f, .type = f->type, .block = block_of};
    const real *y = op_attention_kv(c, &q, &view, &a)->x;
    for (int64_t i = 0; i < n_seq; i++)
        for (int64_t r = 0; r < rows[i]; r++)
            if (memcmp(y + (row_start[i] + r) * out_width, f->want + (f->start[slot[i]] + position[i] + r) * out_width,
                       (size_t)out_width * sizeof(real)))
                fail_msg("%s, %s: %s, %s: sequence %d, position %d differs", f->shape->name, dtype_info(f->type)->name,
                         way, isa_name(f->ks.isa), (int)slot[i], (int)(position[i] + r));
    free(q.x);
    arena_reset(&f->arena, 0);
}

/* ---- ways */

static const int64_t interesting[] = {0, 1, 15, 16, 63, 64, 100, 511, 512, 519, 1023, 1024, 1099, 1299};

/* One token after each interesting context, at every level */
static void check_tokens(struct fixture *f)
{
    for (size_t i = 0; i < sizeof interesting / sizeof *interesting; i++)
        for (int64_t seq = 0; seq < N_SEQ; seq++) {
            int64_t position = interesting[i];
            if (position >= f->shape->rows[seq])
                continue;
            fill(f, seq, position + 1);
            bool edge = position % KV_CHUNK == 0; /* the generic kernels are slow: there only */
            for (enum isa isa = edge ? ISA_GENERIC : ISA_AVX2; isa <= test_isa(&f->cpu); isa++) {
                kernels_init(&f->ks, &f->cpu, isa);
                struct op_ctx c = context(f);
                expect(f, "one token", &c, 1, &seq, &position, (int64_t[]){1});
            }
        }
}

static void one_token_as_in_the_prompt(void **state)
{
    (void)state;
    for_all(check_tokens);
}

static void check_chunks(struct fixture *f)
{
    static const int64_t steps[] = {3, 100, 2000};
    for (int i = 0; i < 3; i++)
        for (int64_t seq = 0; seq < N_SEQ; seq++)
            for (int64_t at = i == 0 ? max_i64(0, f->shape->rows[seq] - 30) : 0; at < f->shape->rows[seq];
                 at += steps[i]) {
                struct op_ctx c = context(f);
                int64_t n = min_i64(steps[i], f->shape->rows[seq] - at);
                fill(f, seq, at + n);
                expect(f, "in pieces", &c, 1, &seq, &at, &n);
            }
}

static void pieces_of_a_prompt_as_the_whole(void **state)
{
    (void)state;
    for_all(check_chunks);
}

/* One step of an engine: a sequence decodes a token or two, another is in the middle of its prompt. */
static void check_mixed(struct fixture *f)
{
    const int64_t *rows = f->shape->rows;
    int64_t slot[] = {2, 0, 1}, n[3], position[3];
    for (int64_t few = 1; few <= 2; few++)
        for (int threads = 1; threads <= 3; threads++) {
            struct op_ctx c = context(f);
            cadre_error e = {0};
            assert_ok(pool_new(&c.pool, threads, &e), e);
            for (int i = 0; i < 3; i++) {
                n[i] = min_i64(rows[slot[i]], i == 0 ? 50 : few);
                position[i] = rows[slot[i]] - n[i];
                fill(f, slot[i], rows[slot[i]]);
            }
            expect(f, "beside others", &c, 3, slot, position, n);
            expect(f, "without the others", &c, 1, slot + 1, position + 1, n + 1);
            pool_free(c.pool);
        }
}

static void beside_others_on_any_threads(void **state)
{
    (void)state;
    for_all(check_mixed);
}

/* The arena is planned without positions: what one call needs another of the same shape has. */
static void check_plan(struct fixture *f)
{
    static const int64_t slot[] = {0};
    int64_t rows = f->shape->rows[0], row_start[] = {0, 1}, position = rows - 1;
    f->slot = slot;
    fill(f, 0, rows);
    for (int threads = 1; threads <= 3; threads += 2) {
        struct arena measure, plan;
        cadre_error e = {0};
        struct op_ctx c = context(f), dry = c;
        assert_ok(pool_new(&c.pool, threads, &e), e);
        arena_init_measuring(&measure);
        assert_ok(arena_init(&plan, 1 << 20, &e), e);
        dry.pool = c.pool;
        dry.arena = &measure;
        dry.dry = true;
        dry.plan = &plan;
        struct attention a = f->a;
        a.n_seq = 1;
        a.row_start = row_start;
        a.position = &position;
        struct tensor q = {.x = f->q.x, .n_dims = 2, .dim = {1, f->q.dim[1]}};
        struct kv_view view = {.self = f, .type = f->type, .block = block_of};
        op_attention_kv(&dry, &q, &view, &a);
        f->arena.peak = 0;
        op_attention_kv(&c, &q, &view, &a);
        assert_int_equal(f->arena.peak, measure.peak);
        arena_reset(&f->arena, 0);
        arena_destroy(&plan);
        pool_free(c.pool);
    }
}

static void dry_runs_plan_the_arena(void **state)
{
    (void)state;
    for_all(check_plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_token_as_in_the_prompt),
        cmocka_unit_test(pieces_of_a_prompt_as_the_whole),
        cmocka_unit_test(beside_others_on_any_threads),
        cmocka_unit_test(dry_runs_plan_the_arena),
    };
    return cmocka_run_group_tests_name("attention_kv", tests, NULL, NULL);
}
