/* The hooks of the MoE layer: who changes decisions, who holds the experts' bytes, where rows travel. */
#include "moe_test.h"

#include "moe/balance.h"

static const struct layer_shape shape = {.router = &router_softmax,
                                         .n = 10,
                                         .d = 24,
                                         .ff = 12,
                                         .n_expert = 6,
                                         .k = 2,
                                         .normalize = true,
                                         .scale = 2,
                                         .shared_ff = 8};

enum { N = 10, K = 2, E = 6, D = 24, FF = 12 };

/* ---- filter */

struct steer {
    int32_t id[N * K]; /* what to put in place */
    int32_t seen_id[N * K];
    real seen_weight[N * K];
    struct decision seen;
};

static void steer_decide(void *self, struct decision *d)
{
    struct steer *s = self;
    s->seen = *d;
    memcpy(s->seen_id, d->id, sizeof s->seen_id);
    memcpy(s->seen_weight, d->weight, sizeof s->seen_weight);
    memcpy(d->id, s->id, sizeof s->id);
}

static struct tensor *forward(struct fixture *f, struct layer_case *t, const struct moe_hooks *hooks, struct routing *r)
{
    cadre_error e = {0};
    struct tensor *y = moe_forward(&f->c, &t->l, t->p[P_X], &(struct moe_pass){.hooks = hooks}, r, &e);
    if (!y)
        fail_msg("%s", e.text);
    return y;
}

static void filter_sees_the_decision_and_weights_follow_its_ids(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(1);
    struct layer_case t = layer_new(f, &shape);
    struct routing plain, r;
    forward(f, &t, NULL, &plain);
    struct steer steer = {0};
    for (int i = 0; i < N * K; i++)
        steer.id[i] = (plain.id[i] + 1) % E;
    steer.id[3] = -1;               /* token 1 keeps one expert, which then has all the weight */
    steer.id[4] = steer.id[5] = -1; /* token 2 keeps none */
    struct decision_filter filter = {&steer, steer_decide};
    struct tensor *y = forward(f, &t, &(struct moe_hooks){.filter = &filter}, &r);

    assert_int_equal(steer.seen.layer, 5);
    assert_int_equal(steer.seen.n_tok, N);
    assert_int_equal(steer.seen.n_expert, E);
    assert_int_equal(steer.seen.k, K);
    assert_memory_equal(steer.seen_id, plain.id, sizeof steer.seen_id);
    assert_memory_equal(steer.seen_weight, plain.weight->x, sizeof steer.seen_weight);

    assert_memory_equal(r.id, steer.id, sizeof steer.id);
    for (int i = 0; i < N; i++) {
        double score[K], sum = 0;
        for (int j = 0; j < K; j++) {
            int32_t id = steer.id[i * K + j];
            score[j] = id < 0 ? 0 : (double)plain.score->x[i * E + id];
            sum += score[j];
        }
        for (int j = 0; j < K; j++) {
            double want = sum > 0 ? 2 * score[j] / sum : 0;
            assert_true(fabs((double)r.weight->x[i * K + j] - want) <= TOLERANCE * want);
        }
    }
    double *want = layer_reference(&t, r.id, r.weight->x);
    assert_near_d("y", y->x, want, N * D, TOLERANCE);
    free(want);
    layer_free(&t);
    fixture_free(f);
}

static void a_filter_that_changes_nothing_changes_no_byte(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(2);
    struct layer_case t = layer_new(f, &shape);
    struct routing plain;
    struct tensor *want = forward(f, &t, NULL, &plain);
    struct steer steer;
    memcpy(steer.id, plain.id, sizeof steer.id);
    struct decision_filter filter = {&steer, steer_decide};
    struct tensor *y = forward(f, &t, &(struct moe_hooks){.filter = &filter}, NULL);
    assert_memory_equal(y->x, want->x, N * D * sizeof(real));
    layer_free(&t);
    fixture_free(f);
}

static void no_expert_at_all_leaves_the_shared_one(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(3);
    struct layer_case t = layer_new(f, &shape);
    struct steer steer;
    memset(steer.id, -1, sizeof steer.id);
    struct decision_filter filter = {&steer, steer_decide};
    real *r = random_reals(f, N * D);
    f->c.tape = &f->tape;
    struct tensor *y = forward(f, &t, &(struct moe_hooks){.filter = &filter}, NULL);
    struct tensor *shared = expert_swiglu.forward(&f->c, &t.l.shared, t.p[P_X], NULL);
    assert_memory_equal(y->x, shared->x, N * D * sizeof(real));
    f->tape.last = NULL;
    y = forward(f, &t, &(struct moe_hooks){.filter = &filter}, NULL);
    backward_from(f, y, r);
    assert_true(max_abs(t.p[P_SHARED_DOWN]->g, D * 8) > 0);
    assert_true(max_abs(t.p[P_EXPERT_DOWN]->g, E * D * FF) == 0);
    assert_true(max_abs(t.p[P_GATE]->g, E * D) == 0);
    free(r);
    layer_free(&t);
    fixture_free(f);
}

/* ---- source */

struct shelf {
    struct packed whole[3][E]; /* every expert, repacked */
    struct packed lent[3][E];  /* those acquired; the others point nowhere */
    int32_t ids[E];
    int n, n_acquired, n_released;
    int fail; /* the error to give */
};

static cadre_err shelf_acquire(void *self, int layer, const int32_t *ids, int n, struct expert_weights *w,
                               cadre_error *err)
{
    struct shelf *s = self;
    assert_int_equal(layer, 5);
    CHECK(err, !s->fail, s->fail, "the shelf fell over");
    s->n_acquired++;
    s->n = n;
    memset(s->lent, 0, sizeof s->lent);
    for (int i = 0; i < n; i++) {
        s->ids[i] = ids[i];
        for (int m = 0; m < 3; m++)
            s->lent[m][ids[i]] = s->whole[m][ids[i]];
    }
    w->gate.packed = s->lent[0];
    w->up.packed = s->lent[1];
    w->down.packed = s->lent[2];
    return CADRE_OK;
}

static void shelf_release(void *self, int layer, const int32_t *ids, int n)
{
    struct shelf *s = self;
    assert_int_equal(layer, 5);
    assert_int_equal(n, s->n);
    assert_memory_equal(ids, s->ids, (size_t)n * sizeof *ids);
    memset(s->lent, 0, sizeof s->lent);
    s->n_released++;
}

static void shelf_fill(struct shelf *s, struct layer_case *t)
{
    struct weight *w[3] = {&t->l.experts.gate, &t->l.experts.up, &t->l.experts.down};
    for (int m = 0; m < 3; m++)
        for (int e = 0; e < E; e++) {
            size_t bytes = packed_bytes(DTYPE_F32, w[m]->n, w[m]->k);
            void *p = aligned_alloc(64, (bytes + 63) / 64 * 64);
            assert_non_null(p);
            packed_fill(NULL, p, DTYPE_F32, w[m]->param->x + e * w[m]->n * w[m]->k, w[m]->n, w[m]->k);
            s->whole[m][e] = (struct packed){.type = DTYPE_F32, .n = w[m]->n, .k = w[m]->k, .data = p};
        }
}

static void shelf_empty(struct shelf *s)
{
    for (int m = 0; m < 3; m++)
        for (int e = 0; e < E; e++)
            free((void *)(uintptr_t)s->whole[m][e].data);
}

static void source_lends_exactly_the_chosen_experts(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(4);
    struct layer_case t = layer_new(f, &shape);
    struct routing plain;
    struct shelf shelf = {0};
    shelf_fill(&shelf, &t);
    const struct expert_source source = {&shelf, shelf_acquire, shelf_release};
    struct tensor *want = forward(f, &t, NULL, &plain);
    t.l.experts.gate.param = t.l.experts.up.param = t.l.experts.down.param = NULL;
    struct tensor *y = forward(f, &t, &(struct moe_hooks){.source = &source}, NULL);
    assert_memory_equal(y->x, want->x, N * D * sizeof(real)); /* where a weight lives changes no value */

    struct steer steer; /* only experts 1 and 4, and a gap */
    for (int i = 0; i < N * K; i++)
        steer.id[i] = i % 2 ? 1 : 4;
    steer.id[7] = -1;
    struct decision_filter filter = {&steer, steer_decide};
    forward(f, &t, &(struct moe_hooks){.source = &source, .filter = &filter}, NULL);
    assert_int_equal(shelf.n, 2);
    assert_int_equal(shelf.ids[0], 1);
    assert_int_equal(shelf.ids[1], 4);
    memset(steer.id, -1, sizeof steer.id);
    forward(f, &t, &(struct moe_hooks){.source = &source, .filter = &filter}, NULL);
    assert_int_equal(shelf.n, 0);
    assert_int_equal(shelf.n_acquired, 3);
    assert_int_equal(shelf.n_released, 3);
    shelf_empty(&shelf);
    layer_free(&t);
    fixture_free(f);
}

static void a_failing_source_is_the_layers_error(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(5);
    struct layer_case t = layer_new(f, &shape);
    struct shelf shelf = {.fail = CADRE_E_IO};
    const struct expert_source source = {&shelf, shelf_acquire, shelf_release};
    cadre_error e = {0};
    assert_null(moe_forward(&f->c, &t.l, t.p[P_X], &(struct moe_pass){.hooks = &(struct moe_hooks){.source = &source}},
                            NULL, &e));
    assert_int_equal(e.code, CADRE_E_IO);
    assert_string_equal(e.text, "the shelf fell over");
    assert_int_equal(shelf.n_released, 0); /* nothing was lent */
    layer_free(&t);
    fixture_free(f);
}

/* ---- exchange */

/* The experts' holder numbers them the other way round: rows travel to it regrouped, and back. */
struct mirror {
    int64_t offset[E + 1];
    int32_t there[N * K], back[N * K];
};

static struct tensor *mirror_to(void *self, struct op_ctx *c, struct tensor *rows, const struct dispatch *plan,
                                const int64_t **offset)
{
    struct mirror *m = self;
    int64_t at = 0;
    m->offset[0] = 0;
    for (int e = 0; e < E; e++) {
        for (int64_t i = plan->offset[E - 1 - e]; i < plan->offset[E - e]; i++, at++) {
            m->there[at] = (int32_t)i;
            m->back[i] = (int32_t)at;
        }
        m->offset[e + 1] = at;
    }
    *offset = m->offset;
    return op_gather_rows(c, rows, m->there, at);
}

static struct tensor *mirror_from(void *self, struct op_ctx *c, struct tensor *rows, const struct dispatch *plan)
{
    struct mirror *m = self;
    return op_gather_rows(c, rows, m->back, plan->n_rows);
}

static void reverse_experts(real *x, int64_t size)
{
    for (int e = 0; e < E / 2; e++)
        for (int64_t i = 0; i < size; i++) {
            real keep = x[e * size + i];
            x[e * size + i] = x[(E - 1 - e) * size + i];
            x[(E - 1 - e) * size + i] = keep;
        }
}

static void exchange_moves_rows_and_changes_no_byte(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(6);
    struct layer_case t = layer_new(f, &shape), there = t;
    real *r = random_reals(f, N * D), *dx = calloc(N * D, sizeof *dx), *dw = calloc(E * FF * D, sizeof *dw);
    assert_true(dx && dw);
    f->c.tape = &f->tape;
    struct tensor *want = forward(f, &t, NULL, NULL);
    backward_from(f, want, r);
    memcpy(dx, t.p[P_X]->g, N * D * sizeof *dx);
    memcpy(dw, t.p[P_EXPERT_UP]->g, E * FF * D * sizeof *dw);
    for (int i = 0; i < P_N; i++)
        memset(t.p[i]->g, 0, (size_t)tensor_count(t.p[i]) * sizeof(real));

    for (int m = P_EXPERT_GATE; m <= P_EXPERT_DOWN; m++)
        reverse_experts(there.p[m]->x, FF * D);
    struct mirror mirror;
    const struct exchange exchange = {&mirror, mirror_to, mirror_from};
    struct tensor *y = forward(f, &there, &(struct moe_hooks){.exchange = &exchange}, NULL);
    backward_from(f, y, r);
    assert_memory_equal(y->x, want->x, N * D * sizeof(real));
    assert_memory_equal(t.p[P_X]->g, dx, N * D * sizeof(real));
    reverse_experts(t.p[P_EXPERT_UP]->g, FF * D);
    assert_memory_equal(t.p[P_EXPERT_UP]->g, dw, E * FF * D * sizeof(real));
    free(r);
    free(dx);
    free(dw);
    layer_free(&t);
    fixture_free(f);
}

/* ---- plan and precision */

/* A dry run knows no hooks; what it plans holds for runs with them. */
static void a_plan_without_hooks_holds_with_them(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(7);
    struct layer_case t = layer_new(f, &shape);
    struct routing r;
    struct shelf shelf = {0};
    shelf_fill(&shelf, &t);
    t.l.experts.gate.param = t.l.experts.up.param = t.l.experts.down.param = NULL;
    t.l.experts.gate.packed = shelf.whole[0];
    t.l.experts.up.packed = shelf.whole[1];
    t.l.experts.down.packed = shelf.whole[2];
    struct steer steer;
    for (int i = 0; i < N * K; i++)
        steer.id[i] = i % E;
    const struct expert_source source = {&shelf, shelf_acquire, shelf_release};
    const struct decision_filter filter = {&steer, steer_decide};
    const struct moe_hooks hooks = {.source = &source, .filter = &filter};

    struct arena measure;
    arena_init_measuring(&measure);
    struct op_ctx dry = f->c;
    dry.dry = true;
    dry.plan = &f->arena;
    dry.arena = &measure;
    cadre_error e = {0};
    assert_non_null(moe_forward(&dry, &t.l, t.p[P_X], &(struct moe_pass){.hooks = &hooks}, &r, &e));
    assert_int_equal(shelf.n_acquired, 0);
    size_t before = f->arena.used;
    forward(f, &t, &hooks, &r);
    assert_int_equal(f->arena.used - before, measure.used);
    assert_true(f->arena.peak - before <= measure.peak);
    assert_int_equal(shelf.n_acquired, 1);
    shelf_empty(&shelf);
    layer_free(&t);
    fixture_free(f);
}

/* bf16 training rounds the experts' products, not the router's: it would turn choices. */
static void the_router_keeps_full_precision(void **s)
{
    (void)s;
    struct fixture *f = fixture_new(8);
    struct layer_case t = layer_new(f, &shape);
    struct routing full, rounded;
    struct tensor *want = forward(f, &t, NULL, &full);
    f->c.precision = GEMM_BF16;
    struct tensor *y = forward(f, &t, NULL, &rounded);
    assert_int_equal(f->c.precision, GEMM_BF16);
    assert_memory_equal(rounded.logits->x, full.logits->x, N * E * sizeof(real));
    assert_true(memcmp(y->x, want->x, N * D * sizeof(real)) != 0);
    assert_near("y", y->x, want->x, N * D, 0.05);
    layer_free(&t);
    fixture_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(filter_sees_the_decision_and_weights_follow_its_ids),
        cmocka_unit_test(a_filter_that_changes_nothing_changes_no_byte),
        cmocka_unit_test(no_expert_at_all_leaves_the_shared_one),
        cmocka_unit_test(source_lends_exactly_the_chosen_experts),
        cmocka_unit_test(a_failing_source_is_the_layers_error),
        cmocka_unit_test(exchange_moves_rows_and_changes_no_byte),
        cmocka_unit_test(a_plan_without_hooks_holds_with_them),
        cmocka_unit_test(the_router_keeps_full_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
