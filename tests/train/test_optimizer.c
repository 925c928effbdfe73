/* AdamW, Muon, schedules and clipping, against the formulas in double. */
#include "train_test.h"
#include "isa.h"

#include <math.h>

#include "train/optimizer.h"
#include "train/schedule.h"

struct bench {
    struct train_config cfg;
    struct kernels kernels;
    struct pool *pool;
    struct model *m;
    const struct optimizer *o;
    real **state;
};

/* The tiny model is enlarged until its embedding takes several slices. */
static int bench_open(void **state)
{
    struct bench *b = calloc(1, sizeof *b);
    struct cpu cpu;
    cadre_error e = {0};
    cpu_detect(&cpu);
    kernels_init(&b->kernels, &cpu, test_isa(&cpu));
    assert_ok(train_config_parse(&b->cfg, "t.ini", TINY_MODEL TINY_TRAIN "tokens = 100000\nlr_final = 1e-4\n", &e), e);
    b->cfg.spec.n_vocab = 5003;
    assert_ok(pool_new(&b->pool, 2, &e), e);
    assert_ok(model_new(&b->m, &b->cfg.spec, 1, (real)0.5, true, &e), e);
    b->o = optimizer_find("adamw");
    b->state = calloc((size_t)(b->m->n_params * 2), sizeof *b->state);
    for (int64_t i = 0; i < b->m->n_params * 2; i++)
        b->state[i] = calloc((size_t)tensor_count(&b->m->params[i / 2].t), sizeof(real));
    *state = b;
    return 0;
}

static int bench_close(void **state)
{
    struct bench *b = *state;
    for (int64_t i = 0; i < b->m->n_params * 2; i++)
        free(b->state[i]);
    free(b->state);
    model_free(b->m);
    pool_free(b->pool);
    free(b);
    return 0;
}

/* A gradient that is a function of parameter, place and step. */
static double gradient(int64_t param, int64_t i, int64_t step)
{
    return sin((double)(param * 7919 + i * 31 + step * 101)) * (i % 13 ? 1 : 1e-4);
}

static void adamw_follows_its_formula(void **state)
{
    enum { STEPS = 6, WATCHED = 64 };
    struct bench *b = *state;
    const struct train_config *c = &b->cfg;
    double w[64][WATCHED], m[64][WATCHED] = {{0}}, v[64][WATCHED] = {{0}};
    int64_t n_params = b->m->n_params;
    assert_true(n_params <= 64);
    assert_true(tensor_count(&b->m->params[0].t) > 2 << 16);
    for (int64_t p = 0; p < n_params; p++)
        for (int64_t i = 0; i < WATCHED; i++)
            w[p][i] = (double)b->m->params[p].t.x[i * tensor_count(&b->m->params[p].t) / WATCHED];
    for (int64_t step = 1; step <= STEPS; step++) {
        double lr = 1e-2 / (double)step, scale = step % 2 ? 1 : 0.25;
        struct optimizer_step s = {.cfg = c, .step = step, .lr = (real)lr, .grad_scale = (real)scale};
        for (int64_t p = 0; p < n_params; p++) {
            struct param *par = &b->m->params[p];
            int64_t n = tensor_count(&par->t);
            for (int64_t i = 0; par->t.g && i < n; i++)
                par->t.g[i] = (real)gradient(p, i, step);
            for (int64_t i = 0; par->t.g && i < WATCHED; i++) {
                double g = gradient(p, i * n / WATCHED, step) * scale;
                m[p][i] = c->beta1 * m[p][i] + (1 - c->beta1) * g;
                v[p][i] = c->beta2 * v[p][i] + (1 - c->beta2) * g * g;
                double mh = m[p][i] / (1 - pow(c->beta1, (double)step));
                double vh = v[p][i] / (1 - pow(c->beta2, (double)step));
                w[p][i] -= lr * (mh / (sqrt(vh) + c->eps) + (par->matrix ? c->weight_decay : 0) * w[p][i]);
            }
        }
        struct op_ctx ctx = {.k = &b->kernels, .pool = b->pool};
        optimizer_run(b->o, &ctx, &s, b->m, b->state);
    }
    int decayed = 0, kept = 0;
    for (int64_t p = 0; p < n_params; p++) {
        const struct param *par = &b->m->params[p];
        decayed += par->matrix;
        kept += !par->matrix;
        for (int64_t i = 0; i < WATCHED; i++) {
            double x = (double)par->t.x[i * tensor_count(&par->t) / WATCHED];
            if (fabs(x - w[p][i]) > 2e-6 * fmax(1, fabs(w[p][i])))
                fail_msg("%s: expected %.9g, found %.9g", par->name, w[p][i], x);
        }
    }
    assert_true(decayed > 0 && kept > 0); /* both kinds were seen: matrices decay, vectors do not */
}

/* ---- Muon */

enum { EXPERTS = 5, STEPS = 3 };

/* A parameter [EXPERTS, n, k], or [n, k]; w, gradient, momentum. */
struct matrices {
    struct param p;
    real *state[OPTIMIZER_MAX_STATES];
    int64_t n, k, count;
};

static void matrices_open(struct matrices *m, int64_t n, int64_t k, bool stack)
{
    *m = (struct matrices){.n = n, .k = k, .count = stack ? EXPERTS : 1};
    m->p = (struct param){.n_dims = stack ? 3 : 2, .matrix = true, .by_gradient = true, .layer = 0};
    m->p.dim[0] = stack ? EXPERTS : n, m->p.dim[1] = stack ? n : k, m->p.dim[2] = k;
    m->p.t = (struct tensor){.n_dims = 2, .dim = {m->count * n, k}};
    size_t all = (size_t)tensor_count(&m->p.t);
    m->p.t.x = calloc(all, sizeof(real)), m->p.t.g = calloc(all, sizeof(real)), m->state[0] = calloc(all, sizeof(real));
    assert_true(m->p.t.x && m->p.t.g && m->state[0]);
    for (size_t i = 0; i < all; i++)
        m->p.t.x[i] = (real)sin((double)i);
}

static void matrices_close(struct matrices *m)
{
    free(m->p.t.x);
    free(m->p.t.g);
    free(m->state[0]);
}

/* Some noise, and a rank one part far above it, which AdamW would follow alone. */
static void matrices_gradient(struct matrices *m, int64_t step)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)(m->n * 1000 + m->k + step));
    for (int64_t i = 0; i < tensor_count(&m->p.t); i++)
        m->p.t.g[i] = (real)(rng_normal(&rng) + 30 * cos((double)(i / m->k)) * sin((double)(i % m->k)));
}

/* C = A B, plain loops in double */
static double *times(const double *a, const double *b, int64_t m, int64_t k, int64_t n)
{
    double *c = calloc((size_t)(m * n), sizeof *c);
    for (int64_t i = 0; i < m; i++)
        for (int64_t l = 0; l < k; l++)
            for (int64_t j = 0; j < n; j++)
                c[i * n + j] += a[i * k + l] * b[l * n + j];
    return c;
}

static double *transposed(const double *a, int64_t m, int64_t n)
{
    double *t = calloc((size_t)(m * n), sizeof *t);
    for (int64_t i = 0; i < m * n; i++)
        t[i % n * m + i / n] = a[i];
    return t;
}

/* X ← 3.4445 X - 4.7750 (X Xᵀ) X + 2.0315 (X Xᵀ)² X, five times, whatever the shape: one way of writing it */
static void newton_schulz(double *x, int64_t n, int64_t k)
{
    double norm = 0;
    for (int64_t i = 0; i < n * k; i++)
        norm += x[i] * x[i];
    for (int64_t i = 0; i < n * k; i++)
        x[i] /= sqrt(norm) + 1e-7;
    for (int turn = 0; turn < 5; turn++) {
        double *t = transposed(x, n, k), *a = times(x, t, n, k, n), *ax = times(a, x, n, n, k);
        double *aax = times(a, ax, n, n, k);
        for (int64_t i = 0; i < n * k; i++)
            x[i] = 3.4445 * x[i] - 4.7750 * ax[i] + 2.0315 * aax[i];
        free(t), free(a), free(ax), free(aax);
    }
}

/* Steps of the rule on `threads` threads; the memory used is what a dry run plans. */
static void matrices_step(const struct bench *b, struct matrices *m, int threads, int64_t step, real scale)
{
    struct train_config cfg = b->cfg;
    struct arena measure, arena;
    cadre_error e = {0};
    struct op_ctx c = {.k = &b->kernels, .arena = &measure, .dry = true};
    struct optimizer_step s = {.cfg = &cfg, .step = step, .lr = (real)0.1, .grad_scale = scale};
    cfg.momentum = 0.9, cfg.weight_decay = 0.25;
    assert_ok(pool_new(&c.pool, threads, &e), e);
    arena_init_measuring(&measure);
    rule_muon.matrices(&c, &s, &m->p, m->state);
    assert_ok(arena_init(&arena, measure.peak, &e), e);
    c.dry = false, c.arena = &arena;
    rule_muon.matrices(&c, &s, &m->p, m->state);
    assert_true(arena.peak == measure.peak && arena.used == 0);
    arena_destroy(&arena);
    pool_free(c.pool);
}

static void muon_follows_its_formula(void **state)
{
    static const int64_t shapes[][2] = {{24, 40}, {40, 24}, {32, 32}, {1, 7}};
    for (int shape = 0; shape < 8; shape++) {
        struct matrices m[3];
        int64_t n = shapes[shape / 2][0], k = shapes[shape / 2][1], each = n * k;
        for (int t = 0; t < 3; t++)
            matrices_open(&m[t], n, k, shape % 2);
        int64_t all = each * m[0].count;
        double *w = calloc((size_t)all, sizeof *w), *mom = calloc((size_t)all, sizeof *w);
        double *x = calloc((size_t)each, sizeof *w);
        for (int64_t i = 0; i < all; i++)
            w[i] = (double)m[0].p.t.x[i];
        for (int step = 1; step <= STEPS; step++) {
            double scale = step == 2 ? 0.5 : 1;
            for (int t = 0; t < 3; t++) {
                matrices_gradient(&m[t], step);
                matrices_step(*state, &m[t], t + 1, step, (real)scale);
            }
            for (int64_t at = 0; at < all; at += each) {
                for (int64_t i = 0; i < each; i++) {
                    double g = (double)m[0].p.t.g[at + i] * scale;
                    mom[at + i] = 0.9 * mom[at + i] + g;
                    x[i] = g + 0.9 * mom[at + i];
                }
                newton_schulz(x, n, k);
                for (int64_t i = 0; i < each; i++)
                    w[at + i] -= 0.1 * (0.2 * sqrt((double)(n > k ? n : k)) * x[i] + 0.25 * w[at + i]);
            }
        }
        for (int64_t i = 0; i < all; i++)
            if (!(fabs(w[i] - (double)m[0].p.t.x[i]) < 2e-4))
                fail_msg("[%d, %d] element %d: expected %.9g, found %.9g", (int)n, (int)k, (int)i, w[i],
                         (double)m[0].p.t.x[i]);
        for (int t = 1; t < 3; t++) /* threads change no bit */
            assert_memory_equal(m[0].p.t.x, m[t].p.t.x, sizeof(real) * (size_t)all);
        free(w), free(mom), free(x);
        for (int t = 0; t < 3; t++)
            matrices_close(&m[t]);
    }
}

/* The first step's update U: U Uᵀ is near the identity, so U's singular values are near 1, although those of the
 * gradient differ by a factor of 30 and more; elements have the RMS of AdamW's, 0.2. */
static void muon_updates_are_orthogonal(void **state)
{
    struct matrices m;
    enum { N = 24, K = 60 };
    double u[N * K], square = 0;
    matrices_open(&m, N, K, false);
    matrices_gradient(&m, 1);
    for (int i = 0; i < N * K; i++)
        m.p.t.x[i] = 0;
    matrices_step(*state, &m, 1, 1, 1);
    for (int i = 0; i < N * K; i++) {
        u[i] = -(double)m.p.t.x[i] / (0.1 * 0.2 * sqrt(K));
        square += pow((double)m.p.t.x[i] / 0.1, 2);
    }
    double rms = sqrt(square / (N * K));
    assert_true(rms > 0.2 * 0.7 && rms < 0.2 * 1.2);
    struct rng rng;
    rng_seed(&rng, 3);
    for (int turn = 0; turn < 200; turn++) { /* ‖Uᵀ v‖ / ‖v‖ lies between the least and the largest singular value */
        double v[N], uv[K] = {0}, length = 0, image = 0;
        for (int i = 0; i < N; i++) {
            v[i] = turn < N ? turn == i : rng_normal(&rng);
            length += v[i] * v[i];
        }
        for (int i = 0; i < N * K; i++)
            uv[i % K] += u[i] * v[i / K];
        for (int j = 0; j < K; j++)
            image += uv[j] * uv[j];
        double ratio = sqrt(image / length);
        if (!(ratio > 0.6 && ratio < 1.25))
            fail_msg("a direction is stretched by %g", ratio);
    }
    matrices_close(&m);
}

/* Every hidden matrix by Muon, the rest by AdamW; each rule's states. */
static void muon_moves_hidden_matrices(void **state)
{
    struct bench *b = *state;
    const struct optimizer *o = optimizer_find("muon");
    int hidden = 0;
    for (int64_t i = 0; i < b->m->n_params; i++) {
        const struct param *p = &b->m->params[i];
        bool matrix = strstr(p->name, "attn_q.w") || strstr(p->name, "attn_k.w") || strstr(p->name, "attn_v.w") ||
                      strstr(p->name, "attn_output.w") || strstr(p->name, "_exps") || strstr(p->name, "_shexp.w");
        const struct optimizer_rule *want = !p->by_gradient                          ? NULL
                                            : matrix && !strstr(p->name, "gate_inp") ? &rule_muon
                                                                                     : &rule_adamw;
        if (optimizer_rule_of(o, p) != want)
            fail_msg("%s is moved by the wrong rule", p->name);
        hidden += want == &rule_muon;
    }
    assert_true(hidden == 2 * (4 + 3 + 3));
}

static void norm_is_over_all_gradients(void **state)
{
    struct bench *b = *state;
    double sum = 0;
    for (int64_t p = 0; p < b->m->n_params; p++) {
        struct tensor *t = &b->m->params[p].t;
        for (int64_t i = 0; t->g && i < tensor_count(t); i++) {
            t->g[i] = (real)gradient(p, i, 0);
            sum += (double)t->g[i] * (double)t->g[i];
        }
    }
    double norm = gradient_norm(&b->kernels, b->pool, b->m);
    assert_true(fabs(norm - sqrt(sum)) < 1e-6 * norm);
    assert_true(norm == gradient_norm(&b->kernels, NULL, b->m)); /* threads change no bit */
    b->m->params[0].t.g[70000] = NAN;
    assert_true(isnan(gradient_norm(&b->kernels, b->pool, b->m)));
    b->m->params[0].t.g[70000] = INFINITY;
    assert_true(isinf(gradient_norm(&b->kernels, b->pool, b->m)));
}

static void rate_warms_up_and_falls(void **state)
{
    (void)state;
    struct train_config c = {.lr = 1e-3,
                             .lr_final = 1e-4,
                             .tokens = 100000,
                             .warmup_tokens = 10000,
                             .batch_tokens = 1000,
                             .schedule = "cosine"};
    for (int64_t i = 0; i < 10; i++) /* the ten steps of the warm-up end at lr */
        assert_true(fabs(learning_rate(&c, i * 1000) - 1e-4 * (double)(i + 1)) < 1e-12);
    assert_true(fabs(learning_rate(&c, 10000) - 1e-3) < 1e-12);
    assert_true(fabs(learning_rate(&c, 55000) - 5.5e-4) < 1e-12);    /* half way: the mean of both */
    assert_true(fabs(learning_rate(&c, 32500) - 8.68198e-4) < 1e-8); /* a quarter: cos 45° */
    assert_true(fabs(learning_rate(&c, 100000) - 1e-4) < 1e-12);
    assert_true(fabs(learning_rate(&c, 200000) - 1e-4) < 1e-12);
    for (int64_t t = 10000; t < 100000; t += 1000)
        assert_true(learning_rate(&c, t + 1000) < learning_rate(&c, t));
    c.warmup_tokens = 0;
    assert_true(learning_rate(&c, 0) == 1e-3);
    c.warmup_tokens = c.tokens; /* nothing but warm-up */
    assert_true(fabs(learning_rate(&c, 99000) - 1e-3) < 1e-12);
}

static void rate_stays_then_decays(void **state)
{
    (void)state;
    struct train_config c = {.lr = 1e-3,
                             .lr_final = 1e-4,
                             .tokens = 110000,
                             .warmup_tokens = 10000,
                             .batch_tokens = 1000,
                             .decay_share = 0.25,
                             .schedule = "wsd",
                             .decay_shape = "sqrt"};
    assert_true(fabs(learning_rate(&c, 0) - 1e-4) < 1e-12); /* the warm-up is that of every schedule */
    for (int64_t t = 10000; t <= 85000; t += 1000)
        assert_true(learning_rate(&c, t) == 1e-3);
    assert_true(fabs(learning_rate(&c, 85000 + 6250) - (1e-4 + 9e-4 * 0.5)) < 1e-12); /* a quarter: 1 - √¼ */
    assert_true(fabs(learning_rate(&c, 110000) - 1e-4) < 1e-12);
    strcpy(c.decay_shape, "linear");
    assert_true(fabs(learning_rate(&c, 85000 + 6250) - (1e-4 + 9e-4 * 0.75)) < 1e-12);
    strcpy(c.schedule, "constant");
    c.lr_final = 0;
    assert_true(learning_rate(&c, 0) == 1e-4 && learning_rate(&c, 10000) == 1e-3 && learning_rate(&c, 110000) == 1e-3);
}

/* By the log: below the limit nothing changes, above it the step is that of the gradient shortened to the limit. With
 * eps far above the gradients AdamW's step is proportional to them, so the first step shows the factor. */
static void first_step(const struct scratch *s, const char *more, real *x, double *norm)
{
    char text[2048];
    struct run r = {.out = "m.gguf"};
    struct gguf *g;
    struct model *m;
    cadre_error e = {0};
    snprintf(text, sizeof text, "%s%s",
             TINY_MODEL "[train]\nsequence = 16\nbatch_tokens = 64\nmicro_tokens = 64\nlr = 1\nweight_decay = 0\n"
                        "eps = 1\nprecision = f32\nfile_type = f32\ntokens = 64\n",
             more);
    write_text(s->config, text, strlen(text));
    remove(at(s, "m.gguf", ".ckpt"));
    assert_ok(run_training(s, &r, &e), e);
    assert_ok(gguf_open(&g, at(s, "m.gguf", ""), &e), e);
    assert_ok(model_open_params(&m, g, false, &e), e);
    memcpy(x, m->params[1].t.x, 32 * sizeof *x); /* output_norm: starts at 1 */
    assert_string_equal(m->params[1].name, "output_norm.weight");
    *norm = r.first_norm;
    model_free(m);
    gguf_close(g);
}

static void clipping_shortens_the_step(void **state)
{
    struct scratch *s = *state;
    real free_x[32], high[32], low[32];
    double norm, same, largest = 0;
    first_step(s, "clip = 0\n", free_x, &norm);
    char more[64];
    snprintf(more, sizeof more, "clip = %.9f\n", norm * 1.5);
    first_step(s, more, high, &same);
    assert_memory_equal(high, free_x, sizeof high);
    snprintf(more, sizeof more, "clip = %.9f\n", norm * 0.25);
    first_step(s, more, low, &same);
    assert_true(same == norm); /* reported before clipping */
    for (int i = 0; i < 32; i++) {
        double full = (double)free_x[i] - 1, cut = (double)low[i] - 1;
        /* g / (|g| + 1) with g the gradient, or a quarter of it */
        double g = full / (1 - fabs(full));
        assert_true(fabs(cut - 0.25 * g / (fabs(0.25 * g) + 1)) < 1e-6);
        largest = fmax(largest, fabs(full));
    }
    assert_true(largest > 1e-4); /* there was something to shorten */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(adamw_follows_its_formula, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(muon_follows_its_formula, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(muon_updates_are_orthogonal, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(muon_moves_hidden_matrices, bench_open, bench_close),
        cmocka_unit_test_setup_teardown(norm_is_over_all_gradients, bench_open, bench_close),
        cmocka_unit_test(rate_warms_up_and_falls),
        cmocka_unit_test(rate_stays_then_decays),
        cmocka_unit_test_setup_teardown(clipping_shortens_the_step, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
