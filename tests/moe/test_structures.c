/* Layers that are more than a row of equal FFNs: light experts, experts of several slices, latent and multi-head
 * experts, chains, and gates with memory. Values against the layer written once more; every gradient by central
 * differences (in the float64 build). */
#include "moe_test.h"

enum { N = 7, D = 6, FF = 5, E = 4, K = 2 };

/* Parameters beyond those of a plain layer; what a case does not use stays untracked. */
enum {
    S_NOISE,
    S_RESIDUAL,
    S_PROJECT,
    S_GRU_IN,
    S_GRU_HIDDEN,
    S_GRU_B_IN,
    S_GRU_B_HIDDEN,
    S_CONSTANT,
    S_MIX,
    S_LATENT_IN,
    S_LATENT_OUT,
    S_HEAD_IN,
    S_HEAD_OUT,
    S_CHAIN,
    S_SCALE,
    S_EARLY,
    S_N
};

struct structure {
    struct layer_case t;
    struct router_gru gru;
    struct tensor *p[P_N + S_N];
    int32_t slice_start[16];
    struct route_training training;
    bool train, two_layers; /* the layer twice, with one pass: its second decision sees the first's logits and state */
};

static struct tensor *own(struct structure *s, int i)
{
    return s->p[P_N + i];
}

static struct tensor *take(struct structure *s, struct fixture *f, int i, int64_t rows, int64_t cols)
{
    struct tensor *t = grad_param2(&f->rng, rows, cols);
    for (int64_t j = 0; j < rows * cols; j++)
        t->x[j] /= (real)sqrt((double)cols);
    grad_free(s->p[P_N + i]);
    return s->p[P_N + i] = t;
}

static struct structure *structure_new(struct fixture *f, const struct layer_shape *shape)
{
    struct structure *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->t = layer_new(f, shape);
    for (int i = 0; i < P_N; i++)
        s->p[i] = s->t.p[i];
    for (int i = 0; i < S_N; i++) {
        s->p[P_N + i] = grad_param2(&f->rng, 1, 1);
        s->p[P_N + i]->track = false;
    }
    return s;
}

static void structure_free(struct structure *s)
{
    for (int i = 0; i < S_N; i++)
        grad_free(s->p[P_N + i]);
    layer_free(&s->t);
    free(s);
}

static struct tensor *build(struct op_ctx *c, struct tensor **p, void *arg)
{
    struct structure *s = arg;
    cadre_error e = {0};
    struct moe_pass pass = {.training = s->train ? &s->training : NULL};
    if (own(s, S_EARLY)->track)
        pass.gate_x = op_add(c, p[P_X], p[P_N + S_EARLY]);
    struct tensor *y = moe_forward(c, &s->t.l, p[P_X], &pass, NULL, &e);
    if (y && s->two_layers)
        y = moe_forward(c, &s->t.l, op_add(c, p[P_X], y), &pass, NULL, &e);
    assert_non_null(y);
    return y;
}

/* ---- the cases: each adds its structure to a plain layer */

static void with_light(struct structure *s, struct fixture *f)
{
    s->t.l.light = (struct light_experts){.n_zero = 1, .n_copy = 1, .n_constant = 2};
    s->t.l.router.n_light = 4;
    s->t.l.light.constant = weight_of(take(s, f, S_CONSTANT, 2, D), 0);
    s->t.l.light.mix = weight_of(take(s, f, S_MIX, 4, D), 0);
}

/* Widths 1, 3 and 2 slices: of 6 slices 3 experts. */
static void with_slices(struct structure *s, struct fixture *f)
{
    static const int32_t start[] = {0, 1, 4, 6};
    (void)f;
    memcpy(s->slice_start, start, sizeof start);
    s->t.l.slice_start = s->slice_start;
    s->t.l.max_slices = 3;
    s->t.l.router.n_expert = 3;
    s->t.l.gate.n = s->p[P_GATE]->dim[0] = 3;
}

static void with_latent(struct structure *s, struct fixture *f)
{
    s->t.l.latent_in = weight_of(take(s, f, S_LATENT_IN, D, D), 0);
    s->t.l.latent_out = weight_of(take(s, f, S_LATENT_OUT, D, D), 0);
}

/* Sub-tokens of width D: the layer's input is 2 D wide. */
static void with_heads(struct structure *s, struct fixture *f)
{
    struct tensor *x = grad_param2(&f->rng, N, 2 * D);
    grad_free(s->t.p[P_X]);
    s->p[P_X] = s->t.p[P_X] = x;
    s->t.l.heads = 2;
    s->t.l.shared.down.n = 0; /* it would be for whole tokens */
    s->t.l.head_in = weight_of(take(s, f, S_HEAD_IN, 2 * D, 2 * D), 0);
    s->t.l.head_out = weight_of(take(s, f, S_HEAD_OUT, 2 * D, 2 * D), 0);
}

static void with_chain(struct structure *s, struct fixture *f)
{
    s->t.l.chain = 3;
    s->t.l.chain_gate = weight_of(take(s, f, S_CHAIN, 2 * E, D), 2);
}

static void with_memory(struct structure *s, struct fixture *f)
{
    enum { STATE = 3 };
    s->two_layers = true;
    s->t.l.gate_project = weight_of(take(s, f, S_PROJECT, STATE, D), 0);
    struct tensor *gate = grad_param2(&f->rng, E, STATE);
    grad_free(s->t.p[P_GATE]);
    s->p[P_GATE] = s->t.p[P_GATE] = gate;
    s->t.l.gate = weight_of(gate, 0);
    s->gru = (struct router_gru){.input = weight_of(take(s, f, S_GRU_IN, 3 * STATE, STATE), 0),
                                 .hidden = weight_of(take(s, f, S_GRU_HIDDEN, 3 * STATE, STATE), 0),
                                 .b_input = take(s, f, S_GRU_B_IN, 1, 3 * STATE),
                                 .b_hidden = take(s, f, S_GRU_B_HIDDEN, 1, 3 * STATE)};
    s->t.l.gru = &s->gru;
}

static void with_residual(struct structure *s, struct fixture *f)
{
    s->two_layers = true;
    s->t.l.gate_residual = weight_of(take(s, f, S_RESIDUAL, E, E), 0);
}

static void with_noise(struct structure *s, struct fixture *f)
{
    s->train = true;
    s->training = (struct route_training){.progress = 0.3, .seed = 77};
    s->t.l.router.kind = &router_noisy;
    s->t.l.noise_gate = weight_of(take(s, f, S_NOISE, E, D), 0);
}

static void with_dense_to_sparse(struct structure *s, struct fixture *f)
{
    (void)f;
    s->train = true;
    s->training = (struct route_training){.progress = 0.8, .seed = 78};
    s->t.l.router.kind = &router_dense_to_sparse;
    s->t.l.router.threshold = (real)0.1;
    s->t.l.router.temperature = 2;
}

static void with_capacity(struct structure *s, struct fixture *f)
{
    (void)f;
    s->train = true;
    s->training = (struct route_training){.seed = 79};
    s->t.l.router.kind = &router_gshard;
    s->t.l.router.capacity = (real)0.5;
}

static void with_nulls(struct structure *s, struct fixture *f)
{
    with_light(s, f);
    s->t.l.light = (struct light_experts){.n_zero = 4};
    s->t.l.router.kind = &router_null;
}

static void with_scale(struct structure *s, struct fixture *f)
{
    s->t.l.weight_scale = take(s, f, S_SCALE, 1, E);
}

/* The gate reads x plus a row that the experts do not see. */
static void with_early_gate(struct structure *s, struct fixture *f)
{
    take(s, f, S_EARLY, 1, D);
}

static const struct {
    const char *name;
    int n_choice, n_slices; /* gates, FFN slices */
    void (*add)(struct structure *s, struct fixture *f);
} cases[] = {
    {"light", E + 4, E, with_light},   {"slices", 6, 6, with_slices},   {"latent", E, E, with_latent},
    {"heads", E, E, with_heads},       {"chain", E, E, with_chain},     {"memory", E, E, with_memory},
    {"residual", E, E, with_residual}, {"noise", E, E, with_noise},     {"dense_to_sparse", E, E, with_dense_to_sparse},
    {"capacity", E, E, with_capacity}, {"nulls", E + 4, E, with_nulls}, {"scale", E, E, with_scale},
    {"early", E, E, with_early_gate},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static struct structure *case_new(struct fixture *f, int i)
{
    struct layer_shape shape = {.router = &router_softmax,
                                .n = N,
                                .d = D,
                                .ff = FF,
                                .shared_ff = i % 2 ? 3 : 0,
                                .n_expert = cases[i].n_choice,
                                .k = K};
    struct structure *s = structure_new(f, &shape);
    int64_t slices = cases[i].n_slices; /* the layer was made with one FFN for each gate; some are light */
    struct weight *w[] = {&s->t.l.experts.gate, &s->t.l.experts.up, &s->t.l.experts.down};
    for (int j = 0; j < 3; j++) {
        w[j]->n_expert = slices;
        w[j]->param->dim[0] = slices * w[j]->n;
    }
    cases[i].add(s, f);
    return s;
}

#ifdef CADRE_F64
static void gradients(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct fixture *f = fixture_new((uint64_t)i + 40);
        struct structure *s = case_new(f, i);
        gradcheck_bound(&f->c, &f->rng, cases[i].name, build, s, P_N + S_N, s->p);
        structure_free(s);
        fixture_free(f);
    }
}
#endif

static void a_token_alone_is_the_token_in_its_batch(void **state)
{
    (void)state;
    for (int i = 0; i < N_CASES; i++) {
        struct fixture *f = fixture_new((uint64_t)i + 60);
        struct structure *s = case_new(f, i);
        s->train = false; /* in training noise and room depend on the batch */
        int64_t width = tensor_cols(s->p[P_X]);
        struct tensor *x = s->p[P_X], *all = build(&f->c, s->p, s);
        for (int t = 0; t < N; t++) {
            s->p[P_X] = op_wrap(&f->c, x->x + t * width, 1, width);
            struct tensor *alone = build(&f->c, s->p, s);
            if (memcmp(alone->x, all->x + t * width, (size_t)width * sizeof(real)) != 0)
                fail_msg("%s: token %d alone is another", cases[i].name, t);
        }
        s->p[P_X] = x;
        structure_free(s);
        fixture_free(f);
    }
}

/* ---- values */

static void light_experts_are_zero_copy_and_constant(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(3);
    struct structure *s = case_new(f, 0);
    struct routing r;
    cadre_error e = {0};
    struct tensor *y = moe_forward(&f->c, &s->t.l, s->p[P_X], NULL, &r, &e);
    assert_non_null(y);
    bool seen[E + 4] = {0};
    int32_t ffn[N * K];
    for (int i = 0; i < N * K; i++) {
        seen[r.id[i]] = true;
        ffn[i] = r.id[i] < E ? r.id[i] : -1;
    }
    assert_true(seen[E] && seen[E + 1] && (seen[E + 2] || seen[E + 3]));
    double *want = layer_reference(&s->t, ffn, r.weight->x);
    for (int i = 0; i < N * K; i++) {
        const real *x = s->p[P_X]->x + i / K * D;
        double w = (double)r.weight->x[i], *out = want + i / K * D;
        int constant = r.id[i] - E - 2;
        double a1 = 1, a2 = 0;
        if (constant >= 0) {
            const real *mix = own(s, S_MIX)->x + constant * 2 * D;
            double z = dot_d(mix + D, x, D) - dot_d(mix, x, D);
            a2 = 1 / (1 + exp(-z));
            a1 = 1 - a2;
        }
        for (int j = 0; r.id[i] > E && j < D; j++)
            out[j] +=
                w * (a1 * (double)x[j] + (constant >= 0 ? a2 * (double)own(s, S_CONSTANT)->x[constant * D + j] : 0));
    }
    assert_near_d("light", y->x, want, N * D, 10 * TOLERANCE);
    free(want);
    structure_free(s);
    fixture_free(f);
}

/* Case i of the table by the name of what it adds. */
static struct structure *case_named(struct fixture *f, const char *name)
{
    for (int i = 0; i < N_CASES; i++)
        if (strcmp(cases[i].name, name) == 0)
            return case_new(f, i);
    fail_msg("no case '%s'", name);
    return NULL;
}

static void weights_are_scaled_by_expert_after_the_choice(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(5);
    struct structure *s = case_named(f, "scale");
    struct routing scaled, plain;
    cadre_error e = {0};
    struct tensor *y = moe_forward(&f->c, &s->t.l, s->p[P_X], NULL, &scaled, &e);
    s->t.l.weight_scale = NULL;
    assert_true(y && moe_forward(&f->c, &s->t.l, s->p[P_X], NULL, &plain, &e));
    assert_memory_equal(scaled.id, plain.id, N * K * sizeof *plain.id);
    for (int i = 0; i < N * K; i++) {
        real w = plain.weight->x[i] * own(s, S_SCALE)->x[plain.id[i]];
        assert_true(scaled.weight->x[i] == w);
    }
    double *want = layer_reference(&s->t, scaled.id, scaled.weight->x);
    assert_near_d("scale", y->x, want, N * D, 10 * TOLERANCE);
    free(want);
    structure_free(s);
    fixture_free(f);
}

static void a_gate_may_read_another_input_than_its_experts(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(6);
    struct structure *s = case_named(f, "early");
    struct tensor *x = s->p[P_X], *other = op_add(&f->c, x, own(s, S_EARLY));
    struct routing r, by_other;
    cadre_error e = {0};
    struct moe_pass pass = {.gate_x = other};
    struct tensor *y = moe_forward(&f->c, &s->t.l, x, &pass, &r, &e);
    assert_true(y && moe_forward(&f->c, &s->t.l, other, NULL, &by_other, &e));
    assert_memory_equal(r.id, by_other.id, N * K * sizeof *r.id);
    assert_memory_equal(r.weight->x, by_other.weight->x, N * K * sizeof *r.weight->x);
    double *want = layer_reference(&s->t, r.id, r.weight->x);
    assert_near_d("early", y->x, want, N * D, 10 * TOLERANCE);
    free(want);
    structure_free(s);
    fixture_free(f);
}

static void an_expert_of_slices_is_one_wide_ffn(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(2);
    struct structure *s = case_new(f, 1);
    struct routing r;
    cadre_error e = {0};
    struct tensor *y = moe_forward(&f->c, &s->t.l, s->p[P_X], NULL, &r, &e);
    double *want = calloc(N * D, sizeof *want);
    assert_true(y && want);
    for (int i = 0; i < N; i++) {
        const real *x = s->p[P_X]->x + i * D;
        for (int j = 0; j < K; j++) { /* the slices of an expert lie one after the other: gate and up are one matrix */
            int id = r.id[i * K + j], first = s->slice_start[id], n = s->slice_start[id + 1] - first;
            for (int64_t u = 0; u < n * FF; u++) {
                const real *gate = s->p[P_EXPERT_GATE]->x + (first * FF + u) * D;
                const real *up = s->p[P_EXPERT_UP]->x + (first * FF + u) * D;
                double g = dot_d(gate, x, D), h = g / (1 + exp(-g)) * dot_d(up, x, D);
                for (int o = 0; o < D; o++)
                    want[i * D + o] += (double)r.weight->x[i * K + j] * h *
                                       (double)s->p[P_EXPERT_DOWN]->x[(first + u / FF) * D * FF + o * FF + u % FF];
            }
        }
        if (s->t.l.shared.down.n)
            ffn_add_d(want + i * D, 1, x, s->p[P_SHARED_GATE]->x, s->p[P_SHARED_UP]->x, s->p[P_SHARED_DOWN]->x, D,
                      s->t.l.shared.gate.n);
    }
    assert_near_d("slices", y->x, want, N * D, 10 * TOLERANCE);
    free(want);
    structure_free(s);
    fixture_free(f);
}

static void identity(struct tensor *t)
{
    for (int64_t i = 0; i < tensor_count(t); i++)
        t->x[i] = i / tensor_cols(t) == i % tensor_cols(t);
}

static void identity_projections_change_nothing(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(3);
    cadre_error e = {0};
    struct structure *latent = case_new(f, 2), *heads = case_new(f, 3);
    identity(own(latent, S_LATENT_IN));
    identity(own(latent, S_LATENT_OUT));
    struct tensor *y = moe_forward(&f->c, &latent->t.l, latent->p[P_X], NULL, NULL, &e);
    latent->t.l.latent_in.n = latent->t.l.latent_out.n = 0;
    struct tensor *plain = moe_forward(&f->c, &latent->t.l, latent->p[P_X], NULL, NULL, &e);
    assert_memory_equal(y->x, plain->x, N * D * sizeof(real));

    identity(own(heads, S_HEAD_IN));
    identity(own(heads, S_HEAD_OUT));
    y = moe_forward(&f->c, &heads->t.l, heads->p[P_X], NULL, NULL, &e);
    heads->t.l.heads = 0;
    struct tensor *sub_tokens = op_wrap(&f->c, heads->p[P_X]->x, 2 * N, D);
    plain = moe_forward(&f->c, &heads->t.l, sub_tokens, NULL, NULL, &e);
    assert_memory_equal(y->x, plain->x, 2 * N * D * sizeof(real));
    structure_free(latent);
    structure_free(heads);
    fixture_free(f);
}

static void a_chain_is_its_turns_one_after_the_other(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(4);
    cadre_error e = {0};
    struct structure *s = case_new(f, 4);
    struct routing r;
    struct tensor *y = moe_forward(&f->c, &s->t.l, s->p[P_X], NULL, &r, &e);
    assert_true(y && r.next && r.next->next && !r.next->next->next);
    assert_memory_not_equal(r.id, r.next->id, N * K * sizeof *r.id);
    struct moe_layer l = s->t.l;
    struct tensor *x = s->p[P_X], *in = x, *sum = NULL;
    l.chain = 1;
    for (int i = 0; i < 3; i++) {
        struct tensor gate = {.n_dims = 2, .dim = {E, D}, .x = own(s, S_CHAIN)->x + (i - 1) * E * D};
        if (i > 0)
            l.gate = weight_of(&gate, 0);
        struct tensor *out = moe_forward(&f->c, &l, in, NULL, NULL, &e);
        sum = sum ? op_add(&f->c, sum, out) : out;
        in = op_add(&f->c, x, sum);
    }
    assert_memory_equal(y->x, sum->x, N * D * sizeof(real));
    structure_free(s);
    fixture_free(f);
}

/* The second layer's logits are its gate's plus W times those of the first; in the first there is nothing to add. */
static void gating_residuals_pass_the_logits_on(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(5);
    cadre_error e = {0};
    struct structure *s = case_new(f, 6);
    struct moe_pass pass = {0};
    struct routing first, second;
    struct tensor *x = s->p[P_X];
    assert_non_null(moe_forward(&f->c, &s->t.l, x, &pass, &first, &e));
    assert_non_null(moe_forward(&f->c, &s->t.l, x, &pass, &second, &e));
    const real *gate = s->p[P_GATE]->x, *residual = own(s, S_RESIDUAL)->x;
    for (int t = 0; t < N; t++)
        for (int i = 0; i < E; i++) {
            double plain = dot_d(gate + i * D, x->x + t * D, D),
                   before = dot_d(residual + i * E, first.logits->x + t * E, E);
            assert_true(fabs((double)first.logits->x[t * E + i] - plain) < 100 * TOLERANCE);
            assert_true(fabs((double)second.logits->x[t * E + i] - plain - before) < 100 * TOLERANCE);
        }
    structure_free(s);
    fixture_free(f);
}

/* With the reset and update gates' biases far up the GRU keeps h: the second decision then does not see its input. */
static void a_gate_with_memory_can_ignore_its_input(void **state)
{
    (void)state;
    struct fixture *f = fixture_new(6);
    cadre_error e = {0};
    struct structure *s = case_new(f, 5);
    struct tensor *x = s->p[P_X], *other = op_new2(&f->c, N, D);
    for (int i = 0; i < N * D; i++)
        other->x[i] = (real)rng_normal(&f->rng);
    for (int keep = 0; keep < 2; keep++) {
        struct moe_pass pass = {0};
        struct routing first, second;
        assert_non_null(moe_forward(&f->c, &s->t.l, x, &pass, &first, &e));
        for (int i = 3; i < 6; i++) /* z: h' = c + z (h - c) */
            own(s, S_GRU_B_IN)->x[i] = keep ? 60 : 0;
        assert_non_null(moe_forward(&f->c, &s->t.l, other, &pass, &second, &e));
        double differ = 0;
        for (int i = 0; i < N * E; i++)
            differ = fmax(differ, fabs((double)(first.logits->x[i] - second.logits->x[i])));
        assert_true(keep ? differ < 1e-4 : differ > 1e-2);
    }
    structure_free(s);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef CADRE_F64
        cmocka_unit_test(gradients),
#endif
        cmocka_unit_test(a_token_alone_is_the_token_in_its_batch),
        cmocka_unit_test(light_experts_are_zero_copy_and_constant),
        cmocka_unit_test(weights_are_scaled_by_expert_after_the_choice),
        cmocka_unit_test(a_gate_may_read_another_input_than_its_experts),
        cmocka_unit_test(an_expert_of_slices_is_one_wide_ffn),
        cmocka_unit_test(identity_projections_change_nothing),
        cmocka_unit_test(a_chain_is_its_turns_one_after_the_other),
        cmocka_unit_test(gating_residuals_pass_the_logits_on),
        cmocka_unit_test(a_gate_with_memory_can_ignore_its_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
