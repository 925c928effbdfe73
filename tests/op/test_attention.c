/* Attention in the float64 build: against a naive softmax over all keys, and its gradients. The bytes are in
 * test_attention_f32.c. */
#include "gradcheck.h"

#include "base/checked.h"

struct shape {
    const char *name;
    int64_t n_head, n_kv_head, head_dim, v_dim, window;
    int64_t rows[4]; /* of four sequences */
};

static const struct shape shapes[] = {
    {"plain", 2, 2, 4, 4, 0, {5, 1, 3, 2}},
    {"several blocks", 1, 1, 4, 4, 0, {100, 0, 0, 65}},
    {"grouped, v_dim != head_dim", 4, 2, 6, 3, 0, {70, 0, 1, 9}},
    {"one kv head for six, v_dim over a strip", 6, 1, 3, 17, 0, {67, 2, 0, 12}},
    {"window inside a block", 2, 1, 4, 5, 3, {70, 1, 0, 9}},
    {"window over blocks", 1, 1, 5, 4, 66, {132, 0, 3, 1}},
    {"window of one", 2, 2, 3, 3, 1, {66, 1, 2, 3}},
};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

struct fixture {
    const struct shape *shape;
    struct attention a;
    int64_t n, row_start[5], position[4];
    struct tensor *p[4]; /* q, k, v, sinks */
};

static void fixture_init(struct fixture *f, const struct shape *s, struct rng *rng)
{
    *f = (struct fixture){.shape = s};
    for (int i = 0; i < 4; i++)
        f->row_start[i + 1] = f->row_start[i] + s->rows[i];
    f->n = f->row_start[4];
    f->a = (struct attention){.n_head = s->n_head,
                              .n_kv_head = s->n_kv_head,
                              .head_dim = s->head_dim,
                              .v_dim = s->v_dim,
                              .scale = (real)(1.3 / sqrt((double)s->head_dim)),
                              .window = s->window,
                              .n_seq = 4,
                              .row_start = f->row_start,
                              .position = f->position};
    f->p[0] = grad_param2(rng, f->n, s->n_head * s->head_dim);
    f->p[1] = grad_param2(rng, f->n, s->n_kv_head * s->head_dim);
    f->p[2] = grad_param2(rng, f->n, s->n_kv_head * s->v_dim);
    f->p[3] = grad_param2(rng, 1, s->n_head);
}

static bool with_sinks; /* of what build makes */

static void fixture_free(struct fixture *f)
{
    for (int i = 0; i < 4; i++)
        grad_free(f->p[i]);
}

static struct tensor *build(struct op_ctx *c, struct tensor **p, void *arg)
{
    struct attention *a = op_struct(c, sizeof *a);
    *a = ((struct fixture *)arg)->a;
    a->sinks = with_sinks ? p[3] : NULL;
    return op_attention(c, p[0], p[1], p[2], a);
}

static double naive_score(const struct fixture *f, int64_t qi, int64_t ki, int64_t head)
{
    const struct attention *a = &f->a;
    int64_t kv = head * a->n_kv_head / a->n_head;
    double s = 0;
    for (int64_t d = 0; d < a->head_dim; d++)
        s += f->p[0]->x[(qi * a->n_head + head) * a->head_dim + d] *
             f->p[1]->x[(ki * a->n_kv_head + kv) * a->head_dim + d];
    return s * a->scale;
}

static double naive_output(const struct fixture *f, int64_t start, int64_t i, int64_t head, int64_t d)
{
    const struct attention *a = &f->a;
    int64_t kv = head * a->n_kv_head / a->n_head;
    double top = -INFINITY, sum = 0, out = 0;
    int64_t first = a->window ? max_i64(0, i - a->window + 1) : 0;
    for (int64_t j = first; j <= i; j++)
        top = fmax(top, naive_score(f, start + i, start + j, head));
    for (int64_t j = first; j <= i; j++) {
        double p = exp(naive_score(f, start + i, start + j, head) - top);
        sum += p;
        out += p * f->p[2]->x[((start + j) * a->n_kv_head + kv) * a->v_dim + d];
    }
    if (with_sinks)
        sum += exp(f->p[3]->x[head] - top);
    return out / sum;
}

static void forward_is_the_naive_softmax(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 11);
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        struct fixture f;
        with_sinks = i >= N_SHAPES;
        fixture_init(&f, &shapes[i % N_SHAPES], &rng);
        struct arena arena;
        cadre_error e = {0};
        assert_ok(arena_init(&arena, (size_t)16 << 20, &e), e);
        struct op_ctx c = {.k = &k, .arena = &arena};
        struct tensor *y = build(&c, f.p, &f);
        assert_false(y->track);
        for (int64_t s = 0; s < 4; s++)
            for (int64_t r = 0; r < f.shape->rows[s]; r += 1 + r / 20)
                for (int64_t h = 0; h < f.a.n_head; h++)
                    for (int64_t d = 0; d < f.a.v_dim; d++) {
                        double want = naive_output(&f, f.row_start[s], r, h, d);
                        double got = y->x[((f.row_start[s] + r) * f.a.n_head + h) * f.a.v_dim + d];
                        if (!(fabs(want - got) < 1e-12))
                            fail_msg("%s: sequence %d, row %d, head %d: expected %.17g, found %.17g", f.shape->name,
                                     (int)s, (int)r, (int)h, want, got);
                    }
        arena_destroy(&arena);
        fixture_free(&f);
    }
}

static void gradients(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 12);
    for (int i = 0; i < 2 * N_SHAPES; i++) {
        struct fixture f;
        with_sinks = i >= N_SHAPES;
        fixture_init(&f, &shapes[i % N_SHAPES], &rng);
        struct op_ctx c = {.k = &k};
        gradcheck(&c, &rng, f.shape->name, build, &f, with_sinks ? 4 : 3, f.p);
        fixture_free(&f);
    }
}

/* A frozen input takes no gradient, and those of the others stay right. */
static void gradients_with_frozen_inputs(void **state)
{
    (void)state;
    struct kernels k;
    kernels_init_generic(&k);
    struct rng rng;
    rng_seed(&rng, 13);
    with_sinks = false;
    for (int frozen = 0; frozen < 3; frozen++) {
        struct fixture f;
        fixture_init(&f, &shapes[0], &rng);
        f.p[frozen]->track = false;
        struct op_ctx c = {.k = &k};
        gradcheck(&c, &rng, "frozen", build, &f, 3, f.p);
        for (int64_t i = 0; i < tensor_count(f.p[frozen]); i++)
            assert_true(f.p[frozen]->g[i] == 0);
        fixture_free(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forward_is_the_naive_softmax),
        cmocka_unit_test(gradients),
        cmocka_unit_test(gradients_with_frozen_inputs),
    };
    return cmocka_run_group_tests_name("attention", tests, NULL, NULL);
}
