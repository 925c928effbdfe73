/* Operators that carry a state, in the float build: token by token, in ragged batches, with every number of threads and
 * on every level, the same bytes. */
#include "test.h"
#include "isa.h"

#include "base/rng.h"
#include "op/op.h"

enum { ROWS = 150, K_HEADS = 2, V_HEADS = 4, DK = 24, DV = 88, CHANNELS = 40, WIDTH = 4, STATE = V_HEADS * DK * DV };

struct inputs {
    real q[ROWS * K_HEADS * DK], k[ROWS * K_HEADS * DK], v[ROWS * V_HEADS * DV], g[ROWS * V_HEADS],
        beta[ROWS * V_HEADS];
    real x[ROWS * CHANNELS], w[CHANNELS * WIDTH];
};
static struct inputs in;

static void fill(struct rng *r, real *x, int64_t n, double scale, double shift)
{
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)(scale * rng_normal(r) + shift);
}

static void inputs_new(void)
{
    struct rng r;
    rng_seed(&r, 34);
    fill(&r, in.q, ROWS * K_HEADS * DK, 0.2, 0);
    fill(&r, in.k, ROWS * K_HEADS * DK, 0.2, 0);
    fill(&r, in.v, ROWS * V_HEADS * DV, 1, 0);
    fill(&r, in.g, ROWS * V_HEADS, 0.02, -0.1);
    fill(&r, in.beta, ROWS * V_HEADS, 0.1, 0.5);
    fill(&r, in.x, ROWS * CHANNELS, 1, 0);
    fill(&r, in.w, CHANNELS * WIDTH, 1, 0);
}

/* Rows from … of the inputs through both operators, as the sequences of r. */
struct results {
    real o[ROWS * V_HEADS * DV], y[ROWS * CHANNELS];
};

static void run(const struct op_ctx *base, int64_t from, int64_t n, const struct recurrence *delta,
                const struct recurrence *conv, struct results *out)
{
    struct op_ctx c = *base;
    struct arena measure, arena;
    cadre_error e = {0};
    static struct arena plan;
    if (!plan.base)
        assert_ok(arena_init(&plan, 1 << 20, &e), e);
    arena_init_measuring(&measure);
    for (int dry = 1; dry >= 0; dry--) {
        c.dry = dry;
        c.arena = dry ? &measure : &arena;
        c.plan = &plan;
        if (!dry)
            assert_ok(arena_init(&arena, measure.peak, &e), e);
        struct delta_rule d = {.n_k_head = K_HEADS, .n_v_head = V_HEADS, .k_dim = DK, .v_dim = DV, .seq = *delta};
        struct tensor *q = op_wrap(&c, in.q + from * K_HEADS * DK, n, K_HEADS * DK);
        struct tensor *k = op_wrap(&c, in.k + from * K_HEADS * DK, n, K_HEADS * DK);
        struct tensor *v = op_wrap(&c, in.v + from * V_HEADS * DV, n, V_HEADS * DV);
        struct tensor *g = op_wrap(&c, in.g + from * V_HEADS, n, V_HEADS);
        struct tensor *beta = op_wrap(&c, in.beta + from * V_HEADS, n, V_HEADS);
        const struct tensor *o = op_delta_rule(&c, q, k, v, g, beta, &d);
        const struct tensor *y =
            op_conv(&c, op_wrap(&c, in.x + from * CHANNELS, n, CHANNELS), op_wrap(&c, in.w, CHANNELS, WIDTH), conv);
        if (dry)
            continue;
        memcpy(out->o + from * V_HEADS * DV, o->x, (size_t)(n * V_HEADS * DV) * sizeof(real));
        memcpy(out->y + from * CHANNELS, y->x, (size_t)(n * CHANNELS) * sizeof(real));
    }
    assert_int_equal(arena.peak, measure.peak);
    arena_destroy(&arena);
    arena_reset(&plan, 0);
}

static void levels_and_threads_change_nothing(void **state)
{
    (void)state;
    struct cpu cpu;
    cpu_detect(&cpu);
    int64_t start[] = {0, 65, 66, ROWS};
    struct recurrence r = {.n_seq = 3, .row_start = start};
    static struct results want, got;
    for (int isa = 0; isa <= (int)test_isa(&cpu); isa++)
        for (int threads = 1; threads <= 3; threads++) {
            struct kernels k;
            struct pool *pool;
            cadre_error e = {0};
            kernels_init(&k, &cpu, (enum isa)isa);
            assert_ok(pool_new(&pool, threads, &e), e);
            struct op_ctx c = {.k = &k, .pool = pool};
            run(&c, 0, ROWS, &r, &r, isa + threads == 1 ? &want : &got);
            if (isa + threads > 1)
                assert_memory_equal(&got, &want, sizeof want);
            pool_free(pool);
        }
}

/* Three sequences cut into calls in many ways, each call a ragged batch of whatever is next of some of them. */
static void batches_change_nothing(void **state)
{
    (void)state;
    struct cpu cpu;
    struct kernels k;
    struct rng r;
    cpu_detect(&cpu);
    kernels_init(&k, &cpu, test_isa(&cpu));
    struct op_ctx c = {.k = &k};
    static struct results want, got;
    static real s[STATE], t[(WIDTH - 1) * CHANNELS];
    int64_t whole[] = {0, ROWS};
    struct recurrence all = {.n_seq = 1, .row_start = whole};
    run(&c, 0, ROWS, &all, &all, &want); /* without a state: from zeros */
    rng_seed(&r, 35);
    for (int turn = 0; turn < 8; turn++) {
        memset(s, 0, sizeof s);
        memset(t, 0, sizeof t);
        for (int64_t at = 0, n; at < ROWS; at += n) {
            n = turn == 0 ? 1 : 1 + (int64_t)rng_below(&r, 90);
            n = n < ROWS - at ? n : ROWS - at;
            int64_t start[] = {0, n};
            struct recurrence delta = {.n_seq = 1, .row_start = start, .state = (real *[]){s}}, conv = delta;
            conv.state = (real *[]){t};
            run(&c, at, n, &delta, &conv, &got);
        }
        assert_memory_equal(&got, &want, sizeof want);
        assert_memory_equal(t, in.x + (ROWS - WIDTH + 1) * CHANNELS, sizeof t); /* the last inputs, oldest first */
    }
    /* The same rows as the second of three sequences, and as one with rows of others around it. */
    static real others[2][STATE], other_rows[2][(WIDTH - 1) * CHANNELS];
    int64_t start[] = {0, 20, 110, ROWS};
    static struct results alone;
    struct recurrence one = {.n_seq = 1, .row_start = (int64_t[]){0, 90}};
    run(&c, 20, 90, &one, &one, &alone);
    memset(s, 0, sizeof s);
    memset(t, 0, sizeof t);
    struct recurrence delta = {.n_seq = 3, .row_start = start, .state = (real *[]){others[0], s, others[1]}};
    struct recurrence conv = {.n_seq = 3, .row_start = start, .state = (real *[]){other_rows[0], t, other_rows[1]}};
    run(&c, 0, ROWS, &delta, &conv, &got);
    assert_memory_equal(got.o + 20 * V_HEADS * DV, alone.o + 20 * V_HEADS * DV, 90 * V_HEADS * DV * sizeof(real));
    assert_memory_equal(got.y + 20 * CHANNELS, alone.y + 20 * CHANNELS, 90 * CHANNELS * sizeof(real));
}

int main(void)
{
    inputs_new();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(levels_and_threads_change_nothing),
        cmocka_unit_test(batches_change_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
