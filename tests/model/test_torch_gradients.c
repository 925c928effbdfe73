/* Whole models against PyTorch: logits, router losses, decisions and the gradient of every parameter, for the golden
 * files of tests/golden/make_torch_gradients.py. The spec comes from a file's metadata, so the script alone says what
 * is checked. */
#include "test.h"
#include "isa.h"

#include <math.h>

#include "file/safetensors.h"
#include "model/model.h"
#include "moe/balance.h"

/* Of the largest value of a tensor. Float sums of a few hundred terms are off by some 1e-6. */
#define LIMIT (sizeof(real) == 8 ? 1e-6 : 1e-4)

struct golden {
    struct safetensors *file;
    struct model *m;
    struct batch batch;
    int32_t *token, *target, *position;
    int64_t *row_start;
    struct routing routing[8];
    struct tensor *logits, *cross_entropy, *balance, *z;
};

static const struct st_tensor *find(const struct golden *g, const char *name)
{
    const struct st_tensor *t = safetensors_find(g->file, name);
    if (!t)
        fail_msg("the golden file has no %s", name);
    return t;
}

static void *read_raw(const struct golden *g, const char *name, enum dtype type)
{
    const struct st_tensor *t = find(g, name);
    cadre_error e = {0};
    assert_int_equal(t->type, type);
    void *p = malloc(t->bytes);
    assert_non_null(p);
    assert_ok(safetensors_read(g->file, t, p, &e), e);
    return p;
}

static double number(const struct golden *g, const char *key)
{
    const char *text = safetensors_metadata(g->file, key);
    if (!text)
        fail_msg("the golden file's metadata has no %s", key);
    return strtod(text, NULL);
}

static struct spec golden_spec(const struct golden *g)
{
    struct spec s = {
        .n_layer = (int64_t)number(g, "n_layer"),
        .d_model = (int64_t)number(g, "d_model"),
        .n_vocab = (int64_t)number(g, "n_vocab"),
        .n_ctx = 64,
        .norm_eps = (real)number(g, "norm_eps"),
        .tied = number(g, "tied") != 0,
        .n_head = (int64_t)number(g, "n_head"),
        .n_kv_head = (int64_t)number(g, "n_kv_head"),
        .head_dim = (int64_t)number(g, "head_dim"),
        .v_dim = (int64_t)number(g, "v_dim"),
        .qkv_bias = number(g, "qkv_bias") != 0,
        .n_rot = (int64_t)number(g, "n_rot"),
        .rope_pairs = number(g, "rope_pairs") != 0,
        .rope_base = (real)number(g, "rope_base"),
        .n_dense_leading = (int64_t)number(g, "n_dense_leading"),
        .dense_ff = (int64_t)number(g, "dense_ff"),
        .n_expert = (int)number(g, "n_expert"),
        .expert_ff = (int64_t)number(g, "expert_ff"),
        .shared_ff = (int64_t)number(g, "shared_ff"),
        .shared_gated = number(g, "shared_gated") != 0,
        .router_bias = number(g, "router_bias") != 0,
        .router = {.kind = router_find(safetensors_metadata(g->file, "router")),
                   .k = (int)number(g, "k"),
                   .groups = {.n = (int)number(g, "n_groups"),
                              .used = (int)number(g, "used_groups"),
                              .best = (int)number(g, "best_of_group")},
                   .normalize = number(g, "normalize") != 0,
                   .scale = (real)number(g, "scale")},
    };
    assert_non_null(s.router.kind);
    snprintf(s.family, sizeof s.family, "%s", safetensors_metadata(g->file, "family"));
    spec_defaults(&s);
    return s;
}

static void fill_weights(struct golden *g)
{
    for (int64_t i = 0; i < g->m->n_params; i++) {
        struct param *p = &g->m->params[i];
        const struct st_tensor *t = find(g, p->name);
        assert_int_equal(t->n_dims, p->n_dims);
        for (int d = 0; d < p->n_dims; d++)
            assert_int_equal(t->dim[d], p->dim[d]);
        float *x = read_raw(g, p->name, DTYPE_F32);
        for (int64_t j = 0; j < tensor_count(&p->t); j++)
            p->t.x[j] = (real)x[j];
        free(x);
    }
    /* And the model lacks none of the file's weights: each has exactly one gradient there, but for selection biases. */
    int64_t n_grads = 0, n_trained = 0;
    for (int64_t i = 0; i < safetensors_count(g->file); i++)
        n_grads += strncmp(safetensors_at(g->file, i)->name, "grad.", 5) == 0;
    for (int64_t i = 0; i < g->m->n_params; i++)
        n_trained += g->m->params[i].by_gradient;
    assert_int_equal(n_trained, n_grads);
}

static struct golden golden_open(const char *name)
{
    struct golden g = {0};
    cadre_error e = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", GOLDEN_FOLDER, name);
    assert_ok(safetensors_open(&g.file, path, &e), e);
    struct spec spec = golden_spec(&g);
    assert_true(spec.n_layer <= 8);
    assert_ok(model_new(&g.m, &spec, 1, (real)0.02, true, &e), e);
    fill_weights(&g);

    g.token = read_raw(&g, "tokens", DTYPE_I32);
    g.target = read_raw(&g, "targets", DTYPE_I32);
    g.row_start = read_raw(&g, "row_start", DTYPE_I64);
    int64_t n_seq = find(&g, "row_start")->dim[0] - 1, n = find(&g, "tokens")->dim[0];
    g.position = malloc((size_t)n * sizeof *g.position);
    assert_non_null(g.position);
    for (int64_t s = 0; s < n_seq; s++)
        for (int64_t i = g.row_start[s]; i < g.row_start[s + 1]; i++)
            g.position[i] = (int32_t)(i - g.row_start[s]);
    g.batch =
        (struct batch){.n_tok = n, .n_seq = n_seq, .token = g.token, .position = g.position, .row_start = g.row_start};
    return g;
}

static void golden_close(struct golden *g)
{
    free(g->token);
    free(g->target);
    free(g->position);
    free(g->row_start);
    model_free(g->m);
    safetensors_close(g->file);
}

static struct tensor *add_to(struct op_ctx *c, struct tensor *sum, struct tensor *x)
{
    return sum ? op_add(c, sum, x) : x;
}

/* Forward and backward of cross-entropy + weighted router losses; leaves the parts in g. */
static struct tensor *run(struct op_ctx *c, struct golden *g)
{
    cadre_error e = {0};
    g->batch.routing = g->routing;
    g->balance = g->z = NULL;
    g->logits = model_forward(c, g->m, &g->batch, &e);
    assert_non_null(g->logits);
    g->cross_entropy = op_cross_entropy(c, g->logits, g->target);
    for (int64_t i = 0; i < g->m->spec.n_layer; i++)
        if (spec_layer_is_moe(&g->m->spec, i)) {
            g->balance = add_to(c, g->balance, balance_switch(c, &g->m->spec.router, &g->routing[i], NULL));
            g->z = add_to(c, g->z, balance_z(c, &g->routing[i]));
        }
    struct tensor *loss = op_add(c, g->cross_entropy, op_scale(c, g->balance, (real)number(g, "switch_weight")));
    loss = op_add(c, loss, op_scale(c, g->z, (real)number(g, "z_weight")));
    tape_backward(c, loss, 1);
    return loss;
}

static void assert_golden(const struct golden *g, const char *name, const real *found, int64_t n)
{
    float *want = read_raw(g, name, DTYPE_F32);
    assert_int_equal(find(g, name)->bytes, (uint64_t)n * sizeof *want);
    double scale = 0, worst = 0;
    for (int64_t i = 0; i < n; i++)
        scale = fmax(scale, fabs((double)want[i]));
    assert_true(scale > 0);
    for (int64_t i = 0; i < n; i++) {
        double off = fabs((double)found[i] - (double)want[i]);
        worst = off > worst || isnan(off) ? off : worst;
    }
    if (!(worst <= LIMIT * scale))
        fail_msg("%s: off by %.3g, %.3g of its largest value", name, worst, worst / scale);
    free(want);
}

static void assert_same_decisions(const struct golden *g)
{
    for (int64_t i = 0; i < g->m->spec.n_layer; i++) {
        if (!spec_layer_is_moe(&g->m->spec, i)) {
            assert_null(g->routing[i].id);
            continue;
        }
        char name[32];
        snprintf(name, sizeof name, "ids.%d", (int)i);
        int32_t *want = read_raw(g, name, DTYPE_I32);
        assert_memory_equal(g->routing[i].id, want, find(g, name)->bytes);
        free(want);
    }
}

static void check_golden(const char *name)
{
    struct golden g = golden_open(name);
    struct kernels kernels;
    struct cpu cpu;
    struct arena measure, plan, arena;
    struct tape tape = {0};
    cadre_error e = {0};
    cpu_detect(&cpu);
    kernels_init(&kernels, &cpu, test_isa(&cpu));

    /* The dry run sizes the arena of the real one to the byte. */
    arena_init_measuring(&measure);
    assert_ok(arena_init(&plan, (size_t)16 << 20, &e), e);
    struct op_ctx c = {.k = &kernels, .arena = &measure, .plan = &plan, .tape = &tape, .dry = true};
    run(&c, &g);
    assert_ok(arena_init(&arena, measure.peak, &e), e);
    c = (struct op_ctx){.k = &kernels, .arena = &arena, .tape = &tape};
    struct tensor *loss = run(&c, &g);
    assert_int_equal(arena.peak, measure.peak);

    assert_same_decisions(&g);
    assert_golden(&g, "logits", g.logits->x, tensor_count(g.logits));
    assert_golden(&g, "cross_entropy", g.cross_entropy->x, 1);
    assert_golden(&g, "switch", g.balance->x, 1);
    assert_golden(&g, "z", g.z->x, 1);
    assert_golden(&g, "loss", loss->x, 1);
    for (int64_t i = 0; i < g.m->n_params; i++) {
        const struct param *p = &g.m->params[i];
        char gradient[80];
        snprintf(gradient, sizeof gradient, "grad.%s", p->name);
        if (p->by_gradient)
            assert_golden(&g, gradient, p->t.g, tensor_count(&p->t));
    }
    arena_destroy(&arena);
    arena_destroy(&plan);
    golden_close(&g);
}

static void softmax_router_with_gated_shared_expert(void **s)
{
    (void)s;
    check_golden("torch_softmax.safetensors");
}

static void sigmoid_router_with_bias_and_groups(void **s)
{
    (void)s;
    check_golden("torch_sigmoid.safetensors");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(softmax_router_with_gated_shared_expert),
        cmocka_unit_test(sigmoid_router_with_bias_and_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
