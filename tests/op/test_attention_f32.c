/* Attention in the float build: a row's bytes depend on its sequence and position alone. One reference run of several
 * sequences in one call; every other way to the same rows must give the same bytes. test_attention_kv.c has the ways
 * over a cache. */
#include "test.h"
#include "isa.h"

#include <math.h>

#include "base/checked.h"
#include "base/rng.h"
#include "op/op.h"

enum { N_SEQ = 6 };
static const int64_t seq_rows[N_SEQ] = {130, 0, 1, 64, 65, 540}; /* the last one over two chunks of keys */

struct shape {
    const char *name;
    int64_t n_head, n_kv_head, head_dim, v_dim, window;
};

static const struct shape shapes[] = {
    {"heads of 64", 2, 2, 64, 64, 0},
    {"one kv head for four, v_dim != head_dim", 4, 1, 16, 24, 0},
    {"groups of three, window", 6, 2, 20, 33, 70},
    {"window over one block", 2, 2, 32, 16, 100},
    {"odd sizes, window of one", 3, 3, 7, 5, 1},
    {"odd sizes, window of nine", 2, 1, 7, 5, 9},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

struct fixture {
    const struct shape *shape;
    struct cpu cpu;
    struct kernels k;
    struct rng rng;
    struct arena arena;
    int64_t row_start[N_SEQ + 1], position[N_SEQ];
    struct attention a;
    struct tensor q, keys, v;
    int64_t out_width;
    real *want; /* [n, out_width] */
};

static void tensor_random(struct tensor *t, struct rng *rng, int64_t rows, int64_t cols)
{
    *t = (struct tensor){.n_dims = 2, .dim = {rows, cols}};
    size_t n = (size_t)(rows * cols);
    t->x = malloc(n * sizeof(real));
    t->g = malloc(n * sizeof(real));
    assert_true(t->x && t->g);
    for (size_t i = 0; i < n; i++)
        t->x[i] = (real)rng_normal(rng);
}

static struct op_ctx context(struct fixture *f)
{
    return (struct op_ctx){.k = &f->k, .arena = &f->arena};
}

static void fixture_init(struct fixture *f, const struct shape *s)
{
    *f = (struct fixture){.shape = s};
    cadre_error e = {0};
    cpu_detect(&f->cpu);
    kernels_init(&f->k, &f->cpu, test_isa(&f->cpu));
    rng_seed(&f->rng, 41);
    assert_ok(arena_init(&f->arena, (size_t)64 << 20, &e), e);
    for (int i = 0; i < N_SEQ; i++)
        f->row_start[i + 1] = f->row_start[i] + seq_rows[i];
    int64_t n = f->row_start[N_SEQ];
    f->a = (struct attention){.n_head = s->n_head,
                              .n_kv_head = s->n_kv_head,
                              .head_dim = s->head_dim,
                              .v_dim = s->v_dim,
                              .scale = 1.5f / sqrtf((float)s->head_dim),
                              .window = s->window,
                              .n_seq = N_SEQ,
                              .row_start = f->row_start,
                              .position = f->position};
    tensor_random(&f->q, &f->rng, n, s->n_head * s->head_dim);
    tensor_random(&f->keys, &f->rng, n, s->n_kv_head * s->head_dim);
    tensor_random(&f->v, &f->rng, n, s->n_kv_head * s->v_dim);
    f->out_width = s->n_head * s->v_dim;
    f->want = malloc((size_t)(n * f->out_width) * sizeof(real));
    assert_non_null(f->want);
    struct op_ctx c = context(f);
    memcpy(f->want, op_attention(&c, &f->q, &f->keys, &f->v, &f->a)->x, (size_t)(n * f->out_width) * sizeof(real));
    arena_reset(&f->arena, 0);
}

static void fixture_free(struct fixture *f)
{
    struct tensor *t[] = {&f->q, &f->keys, &f->v};
    for (int i = 0; i < 3; i++) {
        free(t[i]->x);
        free(t[i]->g);
    }
    free(f->want);
    arena_destroy(&f->arena);
}

/* Rows of t from `row` on. */
static struct tensor rows_of(const struct tensor *t, int64_t row, int64_t n)
{
    struct tensor part = {.x = t->x + row * t->dim[1], .n_dims = 2, .dim = {n, t->dim[1]}};
    return part;
}

static void expect_rows(const struct fixture *f, const char *way, const real *got, int64_t row, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i * f->out_width, f->want + (row + i) * f->out_width, (size_t)f->out_width * sizeof(real)))
            fail_msg("%s: %s: row %d differs", f->shape->name, way, (int)(row + i));
}

static void for_all_shapes(void (*check)(struct fixture *))
{
    for (int i = 0; i < N_SHAPES; i++) {
        struct fixture f;
        fixture_init(&f, &shapes[i]);
        check(&f);
        fixture_free(&f);
    }
}

static void check_alone(struct fixture *f)
{
    struct op_ctx c = context(f);
    for (int s = 0; s < N_SEQ; s++) {
        struct tensor q = rows_of(&f->q, f->row_start[s], seq_rows[s]);
        struct tensor k = rows_of(&f->keys, f->row_start[s], seq_rows[s]);
        struct tensor v = rows_of(&f->v, f->row_start[s], seq_rows[s]);
        struct attention a = f->a;
        a.n_seq = 1;
        a.row_start = (int64_t[]){0, seq_rows[s]};
        expect_rows(f, "alone", op_attention(&c, &q, &k, &v, &a)->x, f->row_start[s], seq_rows[s]);
    }
}

static void sequences_alone_as_in_a_batch(void **state)
{
    (void)state;
    for_all_shapes(check_alone);
}

/* Forward and backward of the whole fixture; a hash of all that comes out would hide where, so all of it. */
struct result {
    real *out, *grad[3];
};

static void seed_back(struct op_ctx *c, void *saved)
{
    struct tensor *y = *(struct tensor **)saved;
    real *g = tensor_grad(c, y);
    if (!c->dry)
        for (int64_t i = 0; i < tensor_count(y); i++)
            g[i] = y->x[i] * (real)(1 + i % 7) - (real)0.5;
}

static struct tensor *forward_backward(struct fixture *f, struct op_ctx *c)
{
    struct tape tape = {0};
    c->tape = &tape;
    f->q.track = f->keys.track = f->v.track = true;
    struct tensor *y = op_attention(c, &f->q, &f->keys, &f->v, &f->a);
    struct tensor **saved = op_struct(c, sizeof(struct tensor *)), *loss = op_new2(c, 1, 1);
    *saved = y;
    tape_push(c, seed_back, saved);
    tape_backward(c, loss, 1);
    f->q.track = f->keys.track = f->v.track = false;
    return y;
}

static struct result result_of(struct fixture *f, struct op_ctx *c)
{
    struct tensor *t[3] = {&f->q, &f->keys, &f->v};
    for (int i = 0; i < 3; i++)
        memset(t[i]->g, 0, (size_t)tensor_count(t[i]) * sizeof(real));
    struct tensor *y = forward_backward(f, c);
    struct result r;
    size_t bytes = (size_t)tensor_count(y) * sizeof(real);
    r.out = malloc(bytes);
    assert_non_null(r.out);
    memcpy(r.out, y->x, bytes);
    for (int i = 0; i < 3; i++) {
        bytes = (size_t)tensor_count(t[i]) * sizeof(real);
        r.grad[i] = malloc(bytes);
        assert_non_null(r.grad[i]);
        memcpy(r.grad[i], t[i]->g, bytes);
    }
    arena_reset(&f->arena, 0);
    return r;
}

static void result_free(struct result *r)
{
    free(r->out);
    for (int i = 0; i < 3; i++)
        free(r->grad[i]);
}

static void expect_result(const struct fixture *f, const struct result *want, struct result got)
{
    const struct tensor *t[3] = {&f->q, &f->keys, &f->v};
    int64_t n = f->row_start[N_SEQ];
    assert_memory_equal(got.out, want->out, (size_t)(n * f->out_width) * sizeof(real));
    for (int i = 0; i < 3; i++)
        assert_memory_equal(got.grad[i], want->grad[i], (size_t)tensor_count(t[i]) * sizeof(real));
    result_free(&got);
}

static void check_threads(struct fixture *f)
{
    struct op_ctx c = context(f);
    struct result want = result_of(f, &c);
    expect_rows(f, "under a tape", want.out, 0, f->row_start[N_SEQ]);
    for (int threads = 2; threads <= 3; threads++) {
        cadre_error e = {0};
        c = context(f);
        assert_ok(pool_new(&c.pool, threads, &e), e);
        expect_result(f, &want, result_of(f, &c));
        pool_free(c.pool);
    }
    result_free(&want);
}

static void threads_give_the_same_bytes(void **state)
{
    (void)state;
    for_all_shapes(check_threads);
}

static void check_isa(struct fixture *f)
{
    struct op_ctx c = context(f);
    kernels_init(&f->k, &f->cpu, ISA_GENERIC);
    struct result want = result_of(f, &c);
    for (enum isa isa = ISA_AVX2; isa <= f->cpu.best; isa++) {
        kernels_init(&f->k, &f->cpu, isa);
        expect_result(f, &want, result_of(f, &c));
    }
    result_free(&want);
}

static void isa_levels_give_the_same_bytes(void **state)
{
    (void)state;
    for_all_shapes(check_isa);
}

/* Sequence 3 full of NaN: every other sequence keeps its bytes, forward and backward. */
static void check_nan_sequence(struct fixture *f)
{
    struct op_ctx c = context(f);
    struct tensor *t[3] = {&f->q, &f->keys, &f->v};
    struct result want = result_of(f, &c);
    for (int i = 0; i < 3; i++)
        for (int64_t j = f->row_start[3] * t[i]->dim[1]; j < f->row_start[4] * t[i]->dim[1]; j++)
            t[i]->x[j] = (real)NAN;
    struct result got = result_of(f, &c);
    for (int s = 0; s < N_SEQ; s++) {
        if (s == 3) {
            assert_true(isnan(got.out[f->row_start[3] * f->out_width]));
            continue;
        }
        expect_rows(f, "beside NaN", got.out + f->row_start[s] * f->out_width, f->row_start[s], seq_rows[s]);
        for (int i = 0; i < 3; i++) {
            int64_t from = f->row_start[s] * t[i]->dim[1], n = seq_rows[s] * t[i]->dim[1];
            assert_memory_equal(got.grad[i] + from, want.grad[i] + from, (size_t)n * sizeof(real));
        }
    }
    result_free(&got);
    result_free(&want);
}

static void nan_stays_in_its_sequence(void **state)
{
    (void)state;
    for_all_shapes(check_nan_sequence);
}

/* NaN at position 100 of sequence 5: rows before it do not see it; with a window, nor do rows far behind. */
static void check_causality(struct fixture *f)
{
    enum { AT = 100 };
    struct op_ctx c = context(f);
    int64_t row = f->row_start[5] + AT, window = f->a.window;
    for (int64_t d = 0; d < f->keys.dim[1]; d++)
        f->keys.x[row * f->keys.dim[1] + d] = (real)NAN;
    for (int64_t d = 0; d < f->v.dim[1]; d++)
        f->v.x[row * f->v.dim[1] + d] = (real)NAN;
    const real *y = op_attention(&c, &f->q, &f->keys, &f->v, &f->a)->x;
    expect_rows(f, "before NaN", y, 0, row);
    int64_t blind = window ? AT + window : seq_rows[5]; /* first position that no longer sees it */
    for (int64_t i = AT; i < min_i64(blind, seq_rows[5]); i++)
        for (int64_t d = 0; d < f->out_width; d++)
            assert_true(isnan(y[(f->row_start[5] + i) * f->out_width + d]));
    if (blind < seq_rows[5])
        expect_rows(f, "behind the window", y + (f->row_start[5] + blind) * f->out_width, f->row_start[5] + blind,
                    seq_rows[5] - blind);
}

static void masked_keys_are_not_touched(void **state)
{
    (void)state;
    for_all_shapes(check_causality);
}

static size_t dry_peak(struct fixture *f, struct pool *pool)
{
    struct arena measure, plan;
    cadre_error e = {0};
    arena_init_measuring(&measure);
    assert_ok(arena_init(&plan, 1 << 20, &e), e);
    struct op_ctx c = {.k = &f->k, .pool = pool, .arena = &measure, .dry = true, .plan = &plan};
    forward_backward(f, &c);
    arena_destroy(&plan);
    return measure.peak;
}

static void check_plan(struct fixture *f)
{
    cadre_error e = {0};
    for (int threads = 1; threads <= 3; threads += 2) {
        struct op_ctx c = context(f);
        assert_ok(pool_new(&c.pool, threads, &e), e);
        f->arena.peak = 0;
        forward_backward(f, &c);
        assert_int_equal(f->arena.peak, dry_peak(f, c.pool));
        arena_reset(&f->arena, 0);
        pool_free(c.pool);
    }
}

static void dry_runs_plan_the_arena(void **state)
{
    (void)state;
    for_all_shapes(check_plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sequences_alone_as_in_a_batch),  cmocka_unit_test(threads_give_the_same_bytes),
        cmocka_unit_test(isa_levels_give_the_same_bytes), cmocka_unit_test(nan_stays_in_its_sequence),
        cmocka_unit_test(masked_keys_are_not_touched),    cmocka_unit_test(dry_runs_plan_the_arena),
    };
    return cmocka_run_group_tests_name("attention_f32", tests, NULL, NULL);
}
