/* Operators that carry a state, in the float64 build: against the formulas of their papers, and their gradients. */
#include "gradcheck.h"

static struct kernels kernels;
static struct op_ctx ctx = {.k = &kernels};

static void init(struct rng *rng)
{
    rng_seed(rng, 33);
    kernels_init_generic(&kernels);
}

static void free_all(int n, struct tensor **p)
{
    for (int i = 0; i < n; i++)
        grad_free(p[i]);
}

/* Sequences of different length, one empty, one longer than a chunk of the backward */
static const int64_t ragged[] = {0, 1, 4, 4, 9}, chunks[] = {0, 70, 70, 205};

struct sequences {
    int64_t n;
    const int64_t *start;
};
static const struct sequences sequences[] = {{4, ragged}, {3, chunks}};

static void assert_close(double found, double want)
{
    if (!(fabs(found - want) <= 1e-10 * (1 + fabs(want))))
        fail_msg("found %.15g, expected %.15g", found, want);
}

static struct arena *fresh_arena(struct op_ctx *c)
{
    static struct arena arena;
    cadre_error e = {0};
    assert_ok(arena_init(&arena, 32 << 20, &e), e);
    *c = ctx;
    c->arena = &arena;
    return &arena;
}

/* ---- convolution: p = x, w */

static struct tensor *build_conv(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct sequences *s = arg;
    return op_conv(c, p[0], p[1], &(struct recurrence){.n_seq = s->n, .row_start = s->start});
}

static void conv(void **state)
{
    (void)state;
    struct rng rng;
    init(&rng);
    for (int i = 0; i < 2; i++)
        for (int64_t width = 2; width <= 4; width++) {
            const struct sequences *s = &sequences[i];
            int64_t n = s->start[s->n], cols = 5;
            struct tensor *p[] = {grad_param2(&rng, n, cols), grad_param2(&rng, cols, width)};
            struct op_ctx c;
            struct arena *arena = fresh_arena(&c);
            const struct tensor *y = build_conv(&c, p, (void *)s);
            for (int64_t q = 0; q < s->n; q++)
                for (int64_t t = s->start[q]; t < s->start[q + 1]; t++)
                    for (int64_t j = 0; j < cols; j++) {
                        double sum = 0;
                        for (int64_t back = 0; back < width && t - back >= s->start[q]; back++)
                            sum += p[1]->x[j * width + width - 1 - back] * p[0]->x[(t - back) * cols + j];
                        assert_close(y->x[t * cols + j], sum);
                    }
            arena_destroy(arena);
            gradcheck(&ctx, &rng, "conv", build_conv, (void *)s, 2, p);
            p[0]->track = false;
            gradcheck(&ctx, &rng, "conv, frozen input", build_conv, (void *)s, 2, p);
            free_all(2, p);
        }
}

/* ---- delta rule: p = q, k, v, g, beta */

static struct tensor *build_delta(struct op_ctx *c, struct tensor **p, void *arg)
{
    return op_delta_rule(c, p[0], p[1], p[2], p[3], p[4], arg);
}

/* The matrix form of the paper (eq. 10): S_t = e^g S_{t-1} (I - β k kᵀ) + β v kᵀ, o = S q, with S [v_dim, k_dim]. */
static void assert_is_the_paper(const struct delta_rule *d, struct tensor **p, const struct tensor *o)
{
    int64_t dk = d->k_dim, dv = d->v_dim;
    double *s = calloc((size_t)(dk * dv), sizeof *s), *next = calloc((size_t)(dk * dv), sizeof *next);
    assert_true(s && next);
    for (int64_t seq = 0; seq < d->seq.n_seq; seq++)
        for (int64_t h = 0; h < d->n_v_head; h++) {
            int64_t hk = d->tiled ? h % d->n_k_head : h * d->n_k_head / d->n_v_head;
            memset(s, 0, (size_t)(dk * dv) * sizeof *s);
            for (int64_t t = d->seq.row_start[seq]; t < d->seq.row_start[seq + 1]; t++) {
                const double *q = p[0]->x + (t * d->n_k_head + hk) * dk, *k = p[1]->x + (t * d->n_k_head + hk) * dk;
                const double *v = p[2]->x + (t * d->n_v_head + h) * dv;
                double fade = exp(p[3]->x[t * d->n_v_head + h]), beta = p[4]->x[t * d->n_v_head + h];
                for (int64_t a = 0; a < dv; a++)
                    for (int64_t b = 0; b < dk; b++) {
                        next[a * dk + b] = beta * v[a] * k[b];
                        for (int64_t m = 0; m < dk; m++)
                            next[a * dk + b] += fade * s[a * dk + m] * ((m == b) - beta * k[m] * k[b]);
                    }
                memcpy(s, next, (size_t)(dk * dv) * sizeof *s);
                for (int64_t a = 0; a < dv; a++) {
                    double sum = 0;
                    for (int64_t b = 0; b < dk; b++)
                        sum += s[a * dk + b] * q[b];
                    assert_close(o->x[(t * d->n_v_head + h) * dv + a], sum);
                }
            }
        }
    free(s);
    free(next);
}

/* Keys of length one, decays below one and β in (0, 1), as layers make them: the recurrence is then a contraction. */
static void delta_params(struct tensor **p, struct rng *rng, const struct delta_rule *d)
{
    int64_t n = d->seq.row_start[d->seq.n_seq];
    p[0] = grad_param2(rng, n, d->n_k_head * d->k_dim);
    p[1] = grad_param2(rng, n, d->n_k_head * d->k_dim);
    p[2] = grad_param2(rng, n, d->n_v_head * d->v_dim);
    p[3] = grad_param2(rng, n, d->n_v_head);
    p[4] = grad_param2(rng, n, d->n_v_head);
    for (int64_t i = 0; i < n * d->n_k_head; i++) {
        double length = 0;
        for (int64_t j = 0; j < d->k_dim; j++)
            length += p[1]->x[i * d->k_dim + j] * p[1]->x[i * d->k_dim + j];
        for (int64_t j = 0; j < d->k_dim; j++)
            p[1]->x[i * d->k_dim + j] /= sqrt(length);
    }
    for (int64_t i = 0; i < n * d->n_v_head; i++) {
        p[3]->x[i] = -0.3 * fabs(p[3]->x[i]);
        p[4]->x[i] = 1 / (1 + exp(-p[4]->x[i]));
    }
}

static void delta_rule(void **state)
{
    (void)state;
    static const struct delta_rule shapes[] = {
        {.n_k_head = 1, .n_v_head = 1, .k_dim = 3, .v_dim = 5},
        {.n_k_head = 2, .n_v_head = 6, .k_dim = 4, .v_dim = 4},
        {.n_k_head = 2, .n_v_head = 6, .k_dim = 4, .v_dim = 4, .tiled = true},
        {.n_k_head = 2, .n_v_head = 2, .k_dim = 2, .v_dim = 67},
    };
    struct rng rng;
    init(&rng);
    for (int shape = 0; shape < 4; shape++)
        for (int i = 0; i < 2; i++) {
            struct delta_rule d = shapes[shape];
            d.seq = (struct recurrence){.n_seq = sequences[i].n, .row_start = sequences[i].start};
            struct tensor *p[5];
            delta_params(p, &rng, &d);
            struct op_ctx c;
            struct arena *arena = fresh_arena(&c);
            assert_is_the_paper(&d, p, build_delta(&c, p, &d));
            arena_destroy(arena);
            gradcheck(&ctx, &rng, "delta rule", build_delta, &d, 5, p);
            free_all(5, p);
        }
}

static void two_values_of_one_key_are_told_apart(void **state)
{
    (void)state;
    /* What distinguishes the delta rule from adding outer products: with β = 1 a key's new value replaces its old one.
     */
    struct rng rng;
    init(&rng);
    struct delta_rule d = {.n_k_head = 1, .n_v_head = 1, .k_dim = 4, .v_dim = 3};
    d.seq = (struct recurrence){.n_seq = 1, .row_start = (int64_t[]){0, 6}};
    struct tensor *p[5];
    delta_params(p, &rng, &d);
    for (int64_t t = 0; t < 6; t++) {
        p[3]->x[t] = 0;
        p[4]->x[t] = 1;
        memcpy(p[1]->x + t * 4, p[1]->x, 4 * sizeof(real));
        memcpy(p[0]->x + t * 4, p[1]->x, 4 * sizeof(real));
    }
    struct op_ctx c;
    struct arena *arena = fresh_arena(&c);
    const struct tensor *o = build_delta(&c, p, &d);
    for (int64_t i = 0; i < 6 * 3; i++)
        assert_close(o->x[i], p[2]->x[i]);
    arena_destroy(arena);
    free_all(5, p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conv),
        cmocka_unit_test(delta_rule),
        cmocka_unit_test(two_values_of_one_key_are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
