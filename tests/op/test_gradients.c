/* The backward of every operator against central differences (float64 build, generic kernels). */
#include "op/gradcheck.h"

static struct kernels kernels;
static struct op_ctx ctx = {.k = &kernels};

enum { N_SHAPES = 6 };
/* One row, one column, tails of the kernels' 16 lanes, several chunks of 256 rows, rows longer than a chunk of 512.
 */
static const int64_t shapes[N_SHAPES][2] = {{1, 1}, {1, 37}, {5, 1}, {7, 16}, {1100, 2}, {3, 531}};

static void free_all(int n, struct tensor **p)
{
    for (int i = 0; i < n; i++)
        grad_free(p[i]);
}

static void init(struct rng *rng)
{
    rng_seed(rng, 20);
    kernels_init_generic(&kernels);
}

/* ---- operators of one tensor */

typedef struct tensor *unary_op(struct op_ctx *c, struct tensor *x);
struct unary_case {
    const char *name;
    unary_op *op;
};
static const struct unary_case unary_cases[] = {
    {"silu", op_silu},         {"gelu", op_gelu},
    {"relu", op_relu},         {"relu2", op_relu2},
    {"sigmoid", op_sigmoid},   {"tanh", op_tanh},
    {"softmax", op_softmax},   {"row_sum", op_row_sum},
    {"col_mean", op_col_mean}, {"logsumexp", op_logsumexp},
    {"sum", op_sum},           {"mean", op_mean},
    {"softplus", op_softplus}, {"normal_cdf", op_normal_cdf},
};

static struct tensor *build_unary(struct op_ctx *c, struct tensor **p, void *arg)
{
    return ((const struct unary_case *)arg)->op(c, p[0]);
}

static void unary(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    for (size_t i = 0; i < sizeof unary_cases / sizeof *unary_cases; i++)
        for (int shape = 0; shape < N_SHAPES; shape++) {
            struct tensor *p[] = {grad_param2(&rng, shapes[shape][0], shapes[shape][1])};
            gradcheck(&ctx, &rng, unary_cases[i].name, build_unary, (void *)&unary_cases[i], 1, p);
            free_all(1, p);
        }
}

/* ---- operators of two tensors */

typedef struct tensor *binary_op(struct op_ctx *c, struct tensor *a, struct tensor *b);
struct binary_case {
    const char *name;
    binary_op *op;
};

static struct tensor *build_binary(struct op_ctx *c, struct tensor **p, void *arg)
{
    return ((const struct binary_case *)arg)->op(c, p[0], p[1]);
}

static struct tensor *build_self(struct op_ctx *c, struct tensor **p, void *arg)
{
    return ((const struct binary_case *)arg)->op(c, p[0], p[0]);
}

static void binary(void **s)
{
    (void)s;
    static const struct binary_case same[] = {{"swiglu", op_swiglu},
                                              {"swiglu_clamped", op_swiglu_clamped},
                                              {"add", op_add},
                                              {"sub", op_sub},
                                              {"mul", op_mul}};
    struct rng rng;
    init(&rng);
    for (int i = 0; i < 5; i++)
        for (int shape = 0; shape < N_SHAPES; shape++) {
            int64_t rows = shapes[shape][0], cols = shapes[shape][1];
            struct tensor *p[] = {grad_param2(&rng, rows, cols), grad_param2(&rng, rows, cols)};
            for (int64_t j = 0; i == 1 && j < rows * cols; j++) { /* beyond the limits, too */
                p[0]->x[j] *= 5;
                p[1]->x[j] *= 5;
            }
            gradcheck(&ctx, &rng, same[i].name, build_binary, (void *)&same[i], 2, p);
            gradcheck(&ctx, &rng, "both operands one tensor", build_self, (void *)&same[i], 1, p);
            free_all(2, p);
            if (i < 2)
                continue;
            struct tensor *row[] = {grad_param2(&rng, rows, cols), grad_param(&rng, 1, &cols)};
            gradcheck(&ctx, &rng, same[i].name, build_binary, (void *)&same[i], 2, row);
            free_all(2, row);
            struct tensor *col[] = {grad_param2(&rng, rows, cols), grad_param2(&rng, rows, 1)};
            gradcheck(&ctx, &rng, same[i].name, build_binary, (void *)&same[i], 2, col);
            free_all(2, col);
        }
}

static struct tensor *build_div(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_div_col(c, p[0], p[1], (real)0.5);
}

static struct tensor *build_scale(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_scale(c, p[0], (real)-1.75);
}

static struct tensor *build_clamp(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_clamp(c, p[0], (real)0.7);
}

static struct tensor *build_concat(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_concat_cols(c, p[0], p[1]);
}

static struct tensor *build_slice(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    int64_t cols = tensor_cols(p[0]);
    return op_slice_cols(c, p[0], cols / 3, cols - cols / 3 - cols / 4);
}

static void columns_and_scalars(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    for (int shape = 0; shape < N_SHAPES; shape++) {
        int64_t rows = shapes[shape][0], cols = shapes[shape][1];
        struct tensor *p[] = {grad_param2(&rng, rows, cols), grad_param2(&rng, rows, 1)};
        gradcheck(&ctx, &rng, "div_col", build_div, NULL, 2, p); /* normal divisors: most below the floor */
        p[1]->x[0] = 2;
        gradcheck(&ctx, &rng, "div_col", build_div, NULL, 2, p);
        assert_true(p[1]->g[0] != 0);
        gradcheck(&ctx, &rng, "scale", build_scale, NULL, 1, p);
        gradcheck(&ctx, &rng, "clamp", build_clamp, NULL, 1, p);
        gradcheck(&ctx, &rng, "concat_cols", build_concat, NULL, 2, p);
        gradcheck(&ctx, &rng, "slice_cols", build_slice, NULL, 1, p);
        free_all(2, p);
    }
}

/* ---- norms */

static struct tensor *build_rmsnorm(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_rmsnorm(c, p[0], p[1], (real)1e-3);
}

static struct tensor *build_layernorm(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_layernorm(c, p[0], p[1], p[2], (real)1e-3);
}

/* Rows longer and shorter than the smallest length */
static struct tensor *build_l2norm(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    return op_l2norm(c, p[0], (real)1.5);
}

static void norms(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    for (int shape = 0; shape < N_SHAPES; shape++) {
        int64_t rows = shapes[shape][0], cols = shapes[shape][1];
        struct tensor *p[] = {grad_param2(&rng, rows, cols), grad_param(&rng, 1, &cols), grad_param(&rng, 1, &cols)};
        gradcheck(&ctx, &rng, "rmsnorm", build_rmsnorm, NULL, 2, p);
        gradcheck(&ctx, &rng, "layernorm", build_layernorm, NULL, 3, p);
        gradcheck(&ctx, &rng, "l2norm", build_l2norm, NULL, 1, p);
        p[0]->track = false; /* a frozen input, trained weights; and the reverse */
        gradcheck(&ctx, &rng, "layernorm", build_layernorm, NULL, 3, p);
        p[0]->track = true;
        p[1]->track = p[2]->track = false;
        gradcheck(&ctx, &rng, "layernorm", build_layernorm, NULL, 3, p);
        free_all(3, p);
    }
}

/* ---- linear: p = x, W, bias */

struct linear_case {
    int64_t n_expert, n, k;
    const int64_t *offset;
    bool bias;
};

static struct weight weight_of(const struct linear_case *l, struct tensor *param)
{
    return (struct weight){.n_expert = l->n_expert, .n = l->n, .k = l->k, .param = param};
}

/* A weight is read until the backward has run, so it lives where the graph does. */
static struct weight *graph_weight(struct op_ctx *c, const struct linear_case *l, struct tensor *param)
{
    struct weight *w = op_struct(c, sizeof *w);
    *w = weight_of(l, param);
    return w;
}

static struct tensor *build_linear(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct linear_case *l = arg;
    struct weight *w = graph_weight(c, l, p[1]);
    struct tensor *bias = l->bias ? p[2] : NULL;
    return l->n_expert ? op_linear_grouped(c, p[0], w, l->offset, bias) : op_linear(c, p[0], w, bias);
}

static void linear(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    static const int64_t mnk[][3] = {{1, 1, 1}, {1, 19, 33}, {5, 1, 7}, {1100, 5, 2}, {4, 40, 1}, {17, 33, 18}};
    for (int i = 0; i < 6; i++)
        for (int bias = 0; bias < 2; bias++) {
            struct linear_case l = {.n = mnk[i][1], .k = mnk[i][2], .bias = bias};
            struct tensor *p[] = {grad_param2(&rng, mnk[i][0], l.k), grad_param2(&rng, l.n, l.k),
                                  grad_param(&rng, 1, &l.n)};
            gradcheck(&ctx, &rng, "linear", build_linear, &l, 2 + bias, p);
            p[0]->track = false;
            gradcheck(&ctx, &rng, "linear, frozen input", build_linear, &l, 2 + bias, p);
            p[0]->track = true;
            p[1]->track = false;
            gradcheck(&ctx, &rng, "linear, frozen weight", build_linear, &l, 2 + bias, p);
            free_all(3, p);
        }
}

static void linear_grouped(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    static const int64_t offset[][6] = {{0, 0, 3, 3, 20, 20}, {0, 1, 2, 3, 4, 5}, {0, 0, 0, 0, 0, 9}, {0}};
    for (int i = 0; i < 4; i++)
        for (int bias = 0; bias < 2; bias++) {
            struct linear_case l = {.n_expert = 5, .n = 9, .k = 21, .offset = offset[i], .bias = bias};
            struct tensor *p[] = {grad_param2(&rng, offset[i][5], l.k), grad_param2(&rng, l.n_expert * l.n, l.k),
                                  grad_param2(&rng, l.n_expert, l.n)};
            gradcheck(&ctx, &rng, "linear_grouped", build_linear, &l, 2 + bias, p);
            for (int64_t e = 0; e < 5; e++) /* an expert without rows learns nothing */
                if (offset[i][e] == offset[i][e + 1])
                    for (int64_t j = 0; j < l.n * l.k; j++)
                        assert_true(p[1]->g[e * l.n * l.k + j] == 0);
            free_all(3, p);
        }
}

static struct tensor *build_linear_heads(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct linear_case *l = arg;
    struct weight *w = graph_weight(c, l, p[1]);
    w->transposed = l->bias; /* here it stands for that */
    return op_linear_heads(c, p[0], w);
}

/* Head h's columns through its own matrix, also one that is kept the other way round. */
static void linear_heads(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    for (int turned = 0; turned < 2; turned++) {
        struct linear_case l = {.n_expert = 3, .n = 9, .k = 21, .bias = turned};
        struct tensor *p[] = {grad_param2(&rng, 7, 3 * l.k),
                              grad_param2(&rng, 3 * (turned ? l.k : l.n), turned ? l.n : l.k)};
        gradcheck(&ctx, &rng, "linear_heads", build_linear_heads, &l, 2, p);
        struct arena arena;
        cadre_error e = {0};
        assert_ok(arena_init(&arena, 1 << 20, &e), e);
        struct op_ctx c = {.k = &kernels, .arena = &arena};
        struct tensor *y = build_linear_heads(&c, p, &l);
        for (int64_t i = 0; i < 7; i++)
            for (int64_t h = 0; h < 3; h++)
                for (int64_t o = 0; o < l.n; o++) {
                    double want = 0;
                    for (int64_t k = 0; k < l.k; k++)
                        want += (double)p[0]->x[i * 3 * l.k + h * l.k + k] *
                                (double)p[1]->x[h * l.n * l.k + (turned ? k * l.n + o : o * l.k + k)];
                    assert_true(fabs(want - (double)y->x[i * 3 * l.n + h * l.n + o]) < 1e-12);
                }
        arena_destroy(&arena);
        free_all(2, p);
    }
}

/* ---- lookups */

struct ids_case {
    const int32_t *ids;
    int64_t n;
};

static struct tensor *build_embed(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct ids_case *a = arg;
    struct linear_case l = {.n = tensor_rows(p[0]), .k = tensor_cols(p[0])};
    struct weight *w = graph_weight(c, &l, p[0]);
    return op_embed(c, w, a->ids, a->n);
}

static struct tensor *build_gather_rows(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct ids_case *a = arg;
    return op_gather_rows(c, p[0], a->ids, a->n);
}

static struct tensor *build_gather_cols(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct ids_case *a = arg;
    return op_gather_cols(c, p[0], a->ids, a->n / tensor_rows(p[0]));
}

static void random_ids(struct rng *rng, int32_t *ids, int64_t n, int64_t below)
{
    for (int64_t i = 0; i < n; i++)
        ids[i] = (int32_t)rng_below(rng, (uint64_t)below + 1) - 1;
}

static void lookups(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    int32_t ids[3300];
    for (int shape = 0; shape < N_SHAPES; shape++) {
        int64_t rows = shapes[shape][0], cols = shapes[shape][1];
        struct tensor *p[] = {grad_param2(&rng, rows, cols)};
        struct ids_case a = {ids, 40};
        random_ids(&rng, ids, a.n, rows);
        ids[0] = -1;
        ids[1] = ids[7] = 0; /* at least one repeated */
        gradcheck(&ctx, &rng, "embed", build_embed, &a, 1, p);
        gradcheck(&ctx, &rng, "gather_rows", build_gather_rows, &a, 1, p);
        a.n = rows * 3;
        random_ids(&rng, ids, a.n, cols);
        gradcheck(&ctx, &rng, "gather_cols", build_gather_cols, &a, 1, p);
        free_all(1, p);
    }
}

/* ---- dispatch and combine: p = x, weight */

struct dispatch_case {
    int32_t id[64];
    int64_t n_tok, k, n_expert;
};

static struct tensor *build_dispatch(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct dispatch_case *d = arg;
    return op_dispatch(c, p[0], op_dispatch_plan(c, d->id, d->n_tok, d->k, d->n_expert));
}

static struct tensor *build_combine(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct dispatch_case *d = arg;
    struct dispatch *plan = op_dispatch_plan(c, d->id, d->n_tok, d->k, d->n_expert);
    return op_combine(c, op_dispatch(c, p[0], plan), p[1], plan);
}

/* A whole layer of experts: dispatch, one matrix each, activation, combine; p = x, weight, W */
static struct tensor *build_experts(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct dispatch_case *d = arg;
    struct dispatch *plan = op_dispatch_plan(c, d->id, d->n_tok, d->k, d->n_expert);
    struct linear_case l = {.n_expert = d->n_expert, .n = 6, .k = tensor_cols(p[0])};
    struct weight *w = graph_weight(c, &l, p[2]);
    struct tensor *rows = op_linear_grouped(c, op_dispatch(c, p[0], plan), w, plan->offset, NULL);
    return op_combine(c, op_silu(c, rows), p[1], plan);
}

static void dispatch_combine(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    for (int64_t n_tok = 1; n_tok <= 13; n_tok += 4)
        for (int64_t k = 1; k <= 3; k++) {
            struct dispatch_case d = {.n_tok = n_tok, .k = k, .n_expert = 5};
            for (int64_t i = 0; i < n_tok * k; i++)
                d.id[i] =
                    (int32_t)((rng_below(&rng, 2) * 2 + (uint64_t)(i % k) * 2) % 5); /* odd ones stay empty or rare */
            struct tensor *p[] = {grad_param2(&rng, n_tok, 11), grad_param2(&rng, n_tok, k), grad_param2(&rng, 30, 11)};
            gradcheck(&ctx, &rng, "dispatch", build_dispatch, &d, 1, p);
            gradcheck(&ctx, &rng, "combine", build_combine, &d, 2, p);
            gradcheck(&ctx, &rng, "experts", build_experts, &d, 3, p);
            free_all(3, p);
        }
}

/* Ids -1: fewer rows than planned for. The plan is then an upper bound. */
static void dispatch_with_holes(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    struct dispatch_case d = {.id = {-1, 2, 0, -1, -1, -1, 4, 4, 1, -1}, .n_tok = 5, .k = 2, .n_expert = 5};
    struct tensor *p[] = {grad_param2(&rng, 5, 11), grad_param2(&rng, 5, 2), grad_param2(&rng, 30, 11)};
    struct op_ctx holes = ctx;
    gradcheck_bound(&holes, &rng, "combine with holes", build_combine, &d, 2, p);
    gradcheck_bound(&holes, &rng, "experts with holes", build_experts, &d, 3, p);
    assert_true(p[1]->g[0] == 0 && p[1]->g[4] == 0 && p[1]->g[1] != 0);
    for (int i = 0; i < 10; i++)
        d.id[i] = -1;
    gradcheck_bound(&holes, &rng, "nobody works", build_experts, &d, 3, p);
    free_all(3, p);
}

/* With k = 1 and weights 1, dispatch then combine gives back x and its gradient, to the bit. */
static void dispatch_then_combine_is_identity(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    struct dispatch_case d = {.n_tok = 60, .k = 1, .n_expert = 7};
    random_ids(&rng, d.id, d.n_tok, d.n_expert);
    for (int i = 0; i < 60; i++)
        d.id[i] = d.id[i] < 0 ? 6 : d.id[i];
    struct tensor *x = grad_param2(&rng, 60, 19), *w = grad_param2(&rng, 60, 1);
    for (int i = 0; i < 60; i++)
        w->x[i] = 1;
    struct tensor *p[] = {x, w};
    cadre_error e = {0};
    struct arena arena;
    assert_ok(arena_init(&arena, 1 << 20, &e), e);
    struct tape tape = {0};
    struct op_ctx c = ctx;
    c.arena = &arena;
    c.tape = &tape;
    struct tensor *y = build_combine(&c, p, &d);
    assert_memory_equal(y->x, x->x, 60 * 19 * sizeof(real));
    struct tensor *weights = grad_param2(&rng, 60, 19);
    tape_backward(&c, op_sum(&c, op_mul(&c, y, weights)), 1);
    assert_memory_equal(x->g, weights->x, 60 * 19 * sizeof(real));
    arena_destroy(&arena);
    grad_free(weights);
    free_all(2, p);
}

/* ---- loss */

static struct tensor *build_loss(struct op_ctx *c, struct tensor **p, void *arg)
{
    return op_cross_entropy(c, p[0], arg);
}

/* The logits have another use before the loss goes back, so that its gradient has to be added. */
static struct tensor *build_loss_twice(struct op_ctx *c, struct tensor **p, void *arg)
{
    struct tensor *logits = op_scale(c, p[0], 1);
    struct tensor *loss = op_cross_entropy(c, logits, arg);
    return op_add(c, loss, op_mean(c, op_mul(c, logits, logits)));
}

static void cross_entropy(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    int32_t target[1100];
    for (int shape = 0; shape < N_SHAPES; shape++) {
        int64_t rows = shapes[shape][0], cols = shapes[shape][1];
        struct tensor *p[] = {grad_param2(&rng, rows, cols)};
        random_ids(&rng, target, rows, cols);
        gradcheck(&ctx, &rng, "cross_entropy", build_loss, target, 1, p);
        gradcheck(&ctx, &rng, "cross_entropy, shared logits", build_loss_twice, target, 1, p);
        memset(target, -1, sizeof target);
        gradcheck(&ctx, &rng, "cross_entropy without targets", build_loss, target, 1, p);
        target[rows - 1] = (int32_t)(cols - 1);
        gradcheck(&ctx, &rng, "cross_entropy", build_loss, target, 1, p);
        free_all(1, p);
    }
}

/* p = x [rows, 12], W [cols, 12]; chunks of 256 rows */
static struct tensor *build_head(struct op_ctx *c, struct tensor **p, void *arg)
{
    struct weight *w = op_struct(c, sizeof *w);
    *w = (struct weight){.n = p[1]->dim[0], .k = p[1]->dim[1], .param = p[1]};
    return op_head_loss(c, p[0], w, arg);
}

/* x and W have other uses, whose gradients are there first (x) or come later (W). */
static struct tensor *build_head_twice(struct op_ctx *c, struct tensor **p, void *arg)
{
    struct weight *w = op_struct(c, sizeof *w);
    *w = (struct weight){.n = p[1]->dim[0], .k = p[1]->dim[1], .param = p[1]};
    struct tensor *x = op_scale(c, p[0], (real)0.5);
    struct tensor *loss = op_add(c, op_mean(c, op_linear(c, x, w, NULL)), op_scale(c, op_head_loss(c, x, w, arg), 3));
    return op_add(c, loss, op_mean(c, op_mul(c, x, x)));
}

static void head_loss(void **s)
{
    (void)s;
    static const int64_t head_shapes[][2] = {{1, 3}, {7, 20}, {300, 17}, {512, 33}, {600, 5}};
    struct rng rng;
    init(&rng);
    int32_t target[600];
    for (size_t shape = 0; shape < sizeof head_shapes / sizeof *head_shapes; shape++) {
        int64_t rows = head_shapes[shape][0], cols = head_shapes[shape][1];
        struct tensor *p[] = {grad_param2(&rng, rows, 12), grad_param2(&rng, cols, 12)};
        random_ids(&rng, target, rows, cols);
        gradcheck(&ctx, &rng, "head_loss", build_head, target, 2, p);
        gradcheck(&ctx, &rng, "head_loss, shared", build_head_twice, target, 2, p);
        p[1]->track = false;
        gradcheck(&ctx, &rng, "head_loss, frozen matrix", build_head, target, 2, p);
        p[0]->track = false, p[1]->track = true;
        gradcheck(&ctx, &rng, "head_loss, fixed input", build_head, target, 2, p);
        memset(target, -1, sizeof target);
        gradcheck(&ctx, &rng, "head_loss without targets", build_head, target, 2, p);
        free_all(2, p);
    }
}

/* ---- graphs: what single operators cannot show */

/* p = x [6, 8], W [8, 8], b [8]: W and b used twice, views of an operator's output, of a view and of a parameter, a
 * branch that does not reach the output. */
static struct tensor *build_graph(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    struct linear_case l = {.n = 8, .k = 8};
    struct weight *w = graph_weight(c, &l, p[1]);
    struct tensor *h = op_tanh(c, op_linear(c, p[0], w, p[2]));
    op_softmax(c, h); /* unused */
    struct tensor *heads = op_reshape(c, h, 3, (int64_t[]){6, 2, 4});
    struct tensor *tall = op_reshape(c, heads, 2, (int64_t[]){12, 4});
    struct tensor *square = op_mul(c, tall, op_reshape(c, p[0], 2, (int64_t[]){12, 4}));
    struct tensor *again = op_linear(c, op_reshape(c, square, 2, (int64_t[]){6, 8}), w, p[2]);
    struct tensor *bias = op_reshape(c, p[2], 2, (int64_t[]){1, 8});
    return op_mul(c, op_add(c, op_add(c, again, h), bias), op_reshape(c, heads, 2, (int64_t[]){6, 8}));
}

static void shared_weights_and_views(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    struct tensor *p[] = {grad_param2(&rng, 6, 8), grad_param2(&rng, 8, 8), grad_param(&rng, 1, (int64_t[]){8})};
    gradcheck(&ctx, &rng, "graph", build_graph, NULL, 3, p);
    free_all(3, p);
}

/* A residual stream, whose layers hand one gradient array down; both operands of the last sum are one tensor.
 * p = x [5, 6], W [6, 6], row [6] */
static struct tensor *build_residual(struct op_ctx *c, struct tensor **p, void *arg)
{
    (void)arg;
    struct linear_case l = {.n = 6, .k = 6};
    struct weight *w = graph_weight(c, &l, p[1]);
    struct tensor *x = op_add(c, p[0], p[2]), *side = op_sub(c, x, p[2]);
    for (int layer = 0; layer < 3; layer++) {
        x = op_add(c, x, op_tanh(c, op_linear(c, x, w, NULL)));
        x = op_sub(c, x, op_sigmoid(c, x));
    }
    return op_add(c, op_mul(c, side, x), op_add(c, x, x));
}

static void residual_stream(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    struct tensor *p[] = {grad_param2(&rng, 5, 6), grad_param2(&rng, 6, 6), grad_param(&rng, 1, (int64_t[]){6})};
    gradcheck(&ctx, &rng, "residual stream", build_residual, NULL, 3, p);
    p[0]->track = false;
    gradcheck(&ctx, &rng, "residual stream, frozen input", build_residual, NULL, 3, p);
    free_all(3, p);
}

/* A second backward adds to the gradients of parameters; scale multiplies. */
static void gradients_accumulate(void **s)
{
    (void)s;
    struct rng rng;
    init(&rng);
    struct tensor *p[] = {grad_param2(&rng, 6, 8), grad_param2(&rng, 8, 8), grad_param(&rng, 1, (int64_t[]){8})};
    cadre_error e = {0};
    struct arena arena;
    assert_ok(arena_init(&arena, 1 << 20, &e), e);
    double once[64];
    for (int turn = 0; turn < 2; turn++) {
        struct tape tape = {0};
        struct op_ctx c = ctx;
        c.arena = &arena;
        c.tape = &tape;
        tape_backward(&c, op_sum(&c, build_graph(&c, p, NULL)), turn ? (real)0.5 : 1);
        for (int i = 0; i < 64; i++) {
            if (turn == 0)
                once[i] = (double)p[1]->g[i];
            else
                assert_true(fabs((double)p[1]->g[i] - 1.5 * once[i]) <= 1e-12 * (1 + fabs(once[i])));
        }
        arena_reset(&arena, 0);
    }
    assert_true(once[0] != 0);
    arena_destroy(&arena);
    free_all(3, p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(unary),
        cmocka_unit_test(binary),
        cmocka_unit_test(columns_and_scalars),
        cmocka_unit_test(norms),
        cmocka_unit_test(linear),
        cmocka_unit_test(linear_grouped),
        cmocka_unit_test(linear_heads),
        cmocka_unit_test(lookups),
        cmocka_unit_test(dispatch_combine),
        cmocka_unit_test(dispatch_with_holes),
        cmocka_unit_test(dispatch_then_combine_is_identity),
        cmocka_unit_test(cross_entropy),
        cmocka_unit_test(head_loss),
        cmocka_unit_test(shared_weights_and_views),
        cmocka_unit_test(residual_stream),
        cmocka_unit_test(gradients_accumulate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
