/* Every parameter of an MoE layer, and the router losses, by central differences (float64 build). */
#include "moe_test.h"

#include "moe/balance.h"

static struct tensor *build_layer(struct op_ctx *c, struct tensor **p, void *arg)
{
    cadre_error e = {0};
    struct tensor *y = moe_forward(c, arg, p[P_X], NULL, NULL, &e);
    assert_non_null(y);
    return y;
}

static void layer_gradients(void **s)
{
    (void)s;
    const struct layer_shape shapes[] = {
        {.router = &router_softmax, .n = 7, .d = 6, .ff = 5, .n_expert = 5, .k = 2},
        {.router = &router_softmax,
         .n = 7,
         .d = 6,
         .ff = 5,
         .n_expert = 5,
         .k = 3,
         .normalize = true,
         .scale = 1.5,
         .shared_ff = 4},
        {.router = &router_softmax,
         .n = 9,
         .d = 5,
         .ff = 3,
         .n_expert = 4,
         .k = 2,
         .shared_ff = 6,
         .shared_gate = true},
        {.router = &router_sigmoid,
         .n = 8,
         .d = 6,
         .ff = 4,
         .n_expert = 8,
         .k = 3,
         .groups = {4, 2, 2},
         .normalize = true,
         .bias = true,
         .scale = 2.5,
         .shared_ff = 5},
        {.router = &router_sigmoid, .n = 8, .d = 6, .ff = 4, .n_expert = 6, .k = 2},
    };
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct fixture *f = fixture_new(i + 1);
        struct layer_case t = layer_new(f, &shapes[i]);
        char name[32];
        snprintf(name, sizeof name, "layer %zu", i);
        gradcheck(&f->c, &f->rng, name, build_layer, &t.l, P_N, t.p);
        layer_free(&t);
        fixture_free(f);
    }
}

struct loss_case {
    struct router_config cfg;
    const int64_t *counts;
};

static struct tensor *build_losses(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct loss_case *t = arg;
    struct route_in in = {.logits = p[0]};
    struct routing r = {0};
    router_choose(c, &t->cfg, &in, &r);
    struct tensor *both = op_add(c, balance_switch(c, &t->cfg, &r, t->counts), balance_z(c, &r));
    return both;
}

static void loss_gradients(void **s)
{
    (void)s;
    const int64_t counts[6] = {9, 0, 4, 1, 1, 3};
    const struct router *routers[] = {&router_softmax, &router_sigmoid};
    for (int i = 0; i < 4; i++) {
        struct fixture *f = fixture_new(31);
        struct tensor *logits = grad_param2(&f->rng, 11, 6);
        struct loss_case t = {.cfg = {.kind = routers[i % 2], .n_expert = 6, .k = 2, .scale = 1},
                              .counts = i < 2 ? NULL : counts};
        gradcheck(&f->c, &f->rng, "router losses", build_losses, &t, 1, &logits);
        grad_free(logits);
        fixture_free(f);
    }
}

static struct tensor *build_weights(struct op_ctx *c, struct tensor **p, void *arg)
{
    const struct router_config *cfg = arg;
    struct route_in in = {.logits = p[0]};
    struct routing r = {0};
    router_choose(c, cfg, &in, &r);
    cfg->kind->weigh(c, cfg, &r);
    return r.weight;
}

/* A row that makes its weights itself. */
static void sparse_mixer_gradients(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(31);
    struct router_config cfg = {
        .kind = &router_sparse_mixer, .n_expert = 6, .k = 2, .scale = (real)1.5, .threshold = (real)0.4};
    struct tensor *logits = grad_param2(&f->rng, 9, 6);
    gradcheck(&f->c, &f->rng, "sparse_mixer", build_weights, &cfg, 1, &logits);
    grad_free(logits);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layer_gradients),
        cmocka_unit_test(loss_gradients),
        cmocka_unit_test(sparse_mixer_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
