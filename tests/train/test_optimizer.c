/* AdamW, its schedule and clipping, against the formulas in double. */
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
        optimizer_run(b->o, &b->kernels, b->pool, &s, b->m, b->state);
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
        cmocka_unit_test_setup_teardown(norm_is_over_all_gradients, bench_open, bench_close),
        cmocka_unit_test(rate_warms_up_and_falls),
        cmocka_unit_test(rate_stays_then_decays),
        cmocka_unit_test_setup_teardown(clipping_shortens_the_step, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
