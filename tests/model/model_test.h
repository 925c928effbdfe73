/* Running models in tests: every forward pass is planned dry first and must then use exactly what was planned. */
#ifndef CADRE_TESTS_MODEL_TEST_H
#define CADRE_TESTS_MODEL_TEST_H

#include "test.h"
#include "isa.h"

#include "model/model.h"

static inline struct kernels *test_kernels(enum isa limit)
{
    static struct kernels k;
    struct cpu cpu;
    cpu_detect(&cpu);
    memset(&k, 0, sizeof k);
    kernels_init(&k, &cpu, limit < test_isa(&cpu) ? limit : test_isa(&cpu));
    return &k;
}

/* Memory for the structs of dry runs, reserved once for the whole program. */
static inline struct arena *test_plan(void)
{
    static struct arena plan;
    cadre_error err = {0};
    if (!plan.base)
        assert_ok(arena_init(&plan, 8 << 20, &err), err);
    arena_reset(&plan, 0);
    return &plan;
}

/* Everything one forward pass needs; freed by pass_end. */
struct pass {
    struct arena measure, arena;
    struct op_ctx c;
    struct tensor *logits;
};

/* Else a plan is an upper bound: slots without an expert need no row. */
static inline bool tokens_have_equally_many_experts(const struct spec *s)
{
    const struct router *r = s->router.kind;
    return r != &router_top_p && r != &router_threshold && r != &router_dense_to_sparse && s->router.n_light == 0 &&
           s->slices.n == 0;
}

/* Dry, then real. Fails the test on any error. */
static inline void pass_run_with(struct pass *p, struct model *m, const struct batch *b, struct pool *pool,
                                 enum act act)
{
    cadre_error err = {0};
    *p = (struct pass){0};
    arena_init_measuring(&p->measure);
    struct op_ctx dry = {
        .k = test_kernels(ISA_AMX), .pool = pool, .arena = &p->measure, .plan = test_plan(), .dry = true};
    dry.act = act;
    assert_non_null(model_forward(&dry, m, b, &err));
    assert_ok(arena_init(&p->arena, p->measure.peak, &err), err);
    p->c = (struct op_ctx){.k = test_kernels(ISA_AMX), .pool = pool, .arena = &p->arena};
    p->c.act = act;
    p->logits = model_forward(&p->c, m, b, &err);
    if (!p->logits)
        fail_msg("%s", err.text);
    if (tokens_have_equally_many_experts(&m->spec)) {
        assert_int_equal(p->arena.used, p->measure.used);
        assert_int_equal(p->arena.peak, p->measure.peak);
    }
    assert_true(p->arena.peak <= p->measure.peak);
}

static inline void pass_run(struct pass *p, struct model *m, const struct batch *b, struct pool *pool)
{
    pass_run_with(p, m, b, pool, false);
}

static inline void pass_end(struct pass *p)
{
    arena_destroy(&p->arena);
}

/* Logits of one sequence as malloc'd [n, n_vocab]: n tokens at position …, into slot 0 of kv or (NULL) without. */
static inline real *logits_of(struct model *m, const int32_t *token, int64_t n, int32_t position, struct kv_cache *kv,
                              struct pool *pool)
{
    int32_t *positions = malloc((size_t)n * sizeof *positions), slot = 0;
    for (int64_t i = 0; i < n; i++)
        positions[i] = position + (int32_t)i;
    int64_t row_start[2] = {0, n};
    struct batch b = {.n_tok = n,
                      .n_seq = 1,
                      .token = token,
                      .position = positions,
                      .row_start = row_start,
                      .kv = kv,
                      .slot = kv ? &slot : NULL};
    struct pass p;
    pass_run(&p, m, &b, pool);
    assert_int_equal(tensor_rows(p.logits), n);
    assert_int_equal(tensor_cols(p.logits), m->spec.n_vocab);
    size_t bytes = (size_t)tensor_count(p.logits) * sizeof(real);
    real *out = malloc(bytes);
    memcpy(out, p.logits->x, bytes);
    pass_end(&p);
    free(positions);
    return out;
}

static inline struct kv_cache *test_kv(const struct model *m, int64_t n_seq, int64_t n_ctx, enum dtype type)
{
    static struct kv_width width[MODEL_MAX_LAYERS];
    struct kv_layout layout = model_kv_layout(m, width, n_seq, n_ctx, type);
    struct kv_cache *kv;
    cadre_error err = {0};
    assert_ok(kv_new(&kv, &layout, &err), err);
    return kv;
}

#endif
