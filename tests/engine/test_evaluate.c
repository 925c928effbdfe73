#include "engine_test.h"

#include <math.h>

#include "engine/runtime.h"
#include "engine/session.h"

static const char text[] = "The router sends each token to its experts, and the experts answer. Wörter, слова! "
                           "A token that the router sends to other experts gets another answer.\n";

/* log-probabilities [n, vocabulary] of what follows each of n tokens read from position 0, naively. */
static double *log_probabilities(cadre_model *m, const int32_t *token, int64_t n)
{
    cadre_error e = {0};
    struct session *s;
    struct session_options so = {.n_ctx = n, .kv = DTYPE_F32};
    double *lp = malloc(sizeof *lp * (size_t)n * TINY_VOCAB);
    assert_ok(session_new(&s, m, &so, &e), e);
    for (int64_t i = 0; i < n; i++) {
        struct session_output out;
        long double sum = 0;
        assert_ok(session_feed(s, token + i, 1, &out, &e), e);
        for (int j = 0; j < TINY_VOCAB; j++)
            sum += expl((long double)out.logits[j]);
        for (int j = 0; j < TINY_VOCAB; j++)
            lp[i * TINY_VOCAB + j] = (double)((long double)out.logits[j] - logl(sum));
    }
    session_free(s);
    return lp;
}

static void assert_near(double a, double b, double relative)
{
    if (!(fabs(a - b) <= relative * fmax(fabs(a), fabs(b))))
        fail_msg("expected %.12g, found %.12g", b, a);
}

static cadre_eval_result evaluated(cadre_model *m, const cadre_eval_options *o)
{
    cadre_error e = {0};
    cadre_eval_result r;
    assert_ok(cadre_eval(m, text, sizeof text - 1, o, &r, &e), e);
    return r;
}

/* Every token but the first is predicted once, whatever the window; each from its window alone. */
static void windows_predict_every_token_once(void **state)
{
    cadre_error e = {0};
    int32_t *ids;
    size_t n;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    assert_ok(cadre_tokenize(m, text, sizeof text - 1, true, &ids, &n, &e), e);
    const int64_t sizes[] = {2, 7, 16, (int64_t)n - 1, 0};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        cadre_eval_options o = cadre_eval_options_default();
        int64_t window = sizes[i] ? sizes[i] : (int64_t)n - 1, bytes = 0;
        double nats = 0;
        for (int64_t at = 0; at < (int64_t)n - 1; at += window) {
            int64_t len = window < (int64_t)n - 1 - at ? window : (int64_t)n - 1 - at;
            double *lp = log_probabilities(m, ids + at, len);
            for (int64_t j = 0; j < len; j++) {
                const char *piece;
                nats -= lp[j * TINY_VOCAB + ids[at + j + 1]];
                bytes += (int64_t)tokenizer_piece(m->tokenizer, ids[at + j + 1], false, &piece);
            }
            free(lp);
        }
        o.context = sizes[i];
        cadre_eval_result r = evaluated(m, &o);
        assert_int_equal(r.tokens, n - 1);
        assert_int_equal(r.bytes, bytes);
        assert_near(r.nats, nats, 1e-9);
        assert_near(r.perplexity, exp(nats / (double)(n - 1)), 1e-9);
        assert_near(r.bits_per_byte, nats / log(2) / (double)bytes, 1e-9);
        for (int l = 0; l < TINY_LAYERS; l++) {
            double sum = 0;
            for (int x = 0; x < TINY_EXPERTS; x++)
                sum += r.expert_use[l * TINY_EXPERTS + x];
            assert_near(sum, 1, 1e-12);
        }
        cadre_eval_result_free(&r);
    }
    cadre_free(ids);
    cadre_model_close(m);
}

static void threads_change_no_bit(void **state)
{
    const char *path = tiny_file(*state, "tiny.gguf", (struct tiny_options){0});
    double nats = 0;
    for (int threads = 1; threads <= 3; threads++) {
        cadre_eval_options o = cadre_eval_options_default();
        cadre_model *m = open_with(path, threads, 0);
        o.context = 16;
        cadre_eval_result r = evaluated(m, &o);
        assert_true(threads == 1 || memcmp(&nats, &r.nats, sizeof nats) == 0);
        nats = r.nats;
        cadre_eval_result_free(&r);
        cadre_model_close(m);
    }
}

static bool stop(void *user, int64_t done, int64_t total)
{
    assert_in_range(done, 1, total);
    *(int64_t *)user = total;
    return false;
}

static void wrong_requests_are_named(void **state)
{
    cadre_error e = {0};
    cadre_eval_result r;
    cadre_eval_options o = cadre_eval_options_default();
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    assert_fails(cadre_eval(m, NULL, 0, &o, &r, &e), CADRE_E_ARG, &e, "cadre_eval");
    assert_fails(cadre_eval(m, "", 0, &o, &r, &e), CADRE_E_ARG, &e, "at least 2 tokens");
    o.context = TINY_CTX + 1;
    assert_fails(cadre_eval(m, text, sizeof text - 1, &o, &r, &e), CADRE_E_ARG, &e, "2 to 320");
    int64_t total = 0;
    o = cadre_eval_options_default(), o.max_tokens = 9, o.progress = stop, o.user = &total;
    assert_fails(cadre_eval(m, text, sizeof text - 1, &o, &r, &e), CADRE_E_CANCELLED, &e, "of 9 tokens");
    assert_int_equal(total, 9);
    cadre_eval_result_free(&r);
    cadre_model_close(m);
}

static void comparison_is_the_divergence(void **state)
{
    cadre_error e = {0};
    cadre_eval_options o = cadre_eval_options_default();
    cadre_compare_result r;
    int32_t *ids;
    size_t n;
    cadre_model *m = tiny_open(*state, (struct tiny_options){0});
    cadre_model *q = open_with(tiny_file(*state, "q.gguf", (struct tiny_options){.type = DTYPE_Q8_0}), 2, 0);
    cadre_model *far = open_with(tiny_file(*state, "far.gguf", (struct tiny_options){.seed = 9}), 2, 0);
    assert_ok(cadre_tokenize(m, text, sizeof text - 1, true, &ids, &n, &e), e);
    cadre_model *const models[] = {q, far};
    for (int i = 0; i < 2; i++) {
        double *p = log_probabilities(m, ids, (int64_t)n - 1), *x = log_probabilities(models[i], ids, (int64_t)n - 1);
        double sum = 0, max = 0, same = 0;
        for (size_t row = 0; row < n - 1; row++) {
            double kl = 0;
            int top_p = 0, top_x = 0;
            const double *a = p + row * TINY_VOCAB, *b = x + row * TINY_VOCAB;
            for (int j = 0; j < TINY_VOCAB; j++) {
                kl += exp(a[j]) * (a[j] - b[j]);
                top_p = a[j] > a[top_p] ? j : top_p;
                top_x = b[j] > b[top_x] ? j : top_x;
            }
            sum += kl;
            max = fmax(max, kl);
            same += top_p == top_x;
        }
        assert_ok(cadre_compare(models[i], m, text, sizeof text - 1, &o, &r, &e), e);
        assert_int_equal(r.tokens, n - 1);
        assert_near(r.kl, sum / (double)(n - 1), 1e-6);
        assert_near(r.kl_max, max, 1e-6);
        assert_near(r.top1_agreement, same / (double)(n - 1), 1e-12);
        free(p);
        free(x);
    }
    assert_ok(cadre_compare(m, m, text, sizeof text - 1, &o, &r, &e), e);
    assert_true(r.kl == 0 && r.kl_max == 0 && r.top1_agreement == 1);
    cadre_model *bare = open_with(tiny_file(*state, "bare.gguf", (struct tiny_options){.no_tokenizer = true}), 1, 0);
    assert_fails(cadre_compare(m, bare, text, sizeof text - 1, &o, &r, &e), CADRE_E_ARG, &e, "tokenizer");
    cadre_model_close(bare);
    cadre_model_close(far);
    cadre_model_close(q);
    cadre_model_close(m);
    cadre_free(ids);
}

static const char prompt[] = "The router sends each";
static const char *const choices[] = {" token to its experts", " a", "言葉"};

static void choices_of(cadre_model *m)
{
    cadre_error e = {0};
    cadre_choice_score score[3];
    assert_ok(cadre_choose(m, prompt, choices, 3, score, &e), e);
    for (int i = 0; i < 3; i++) {
        int32_t *head, *tail, all[64];
        size_t n, k;
        assert_ok(cadre_tokenize(m, prompt, strlen(prompt), true, &head, &n, &e), e);
        assert_ok(cadre_tokenize(m, choices[i], strlen(choices[i]), false, &tail, &k, &e), e);
        assert_true(n + k <= 64);
        memcpy(all, head, n * sizeof *all);
        memcpy(all + n, tail, k * sizeof *all);
        double *lp = log_probabilities(m, all, (int64_t)(n + k)), sum = 0;
        for (size_t j = 0; j < k; j++)
            sum += lp[(n + j - 1) * TINY_VOCAB + (size_t)tail[j]];
        assert_near(score[i].log_probability, sum, 1e-9);
        assert_int_equal(score[i].tokens, k);
        assert_int_equal(score[i].bytes, strlen(choices[i]));
        free(lp);
        cadre_free(head);
        cadre_free(tail);
    }
}

static void choices_are_scored_after_their_prompt(void **state)
{
    cadre_error e = {0};
    cadre_choice_score score[3];
    cadre_model *m = tiny_open(*state, (struct tiny_options){.recurrent = true}); /* whose prompt is gone back to */
    choices_of(m);
    cadre_model_close(m);
    m = tiny_open(*state, (struct tiny_options){0});
    choices_of(m);
    static const char *const empty[] = {"a", ""};
    assert_fails(cadre_choose(m, prompt, empty, 2, score, &e), CADRE_E_ARG, &e, "choice 1");
    assert_fails(cadre_choose(m, "", choices, 3, score, &e), CADRE_E_ARG, &e, "empty");
    assert_fails(cadre_choose(m, prompt, choices, 0, score, &e), CADRE_E_ARG, &e, "cadre_choose");
    char endless[4 * TINY_CTX] = {0};
    memset(endless, '~', sizeof endless - 1);
    const char *const too_long[] = {"a", endless};
    assert_fails(cadre_choose(m, prompt, too_long, 2, score, &e), CADRE_E_ARG, &e, "at most 320");
    cadre_model_close(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(windows_predict_every_token_once),
        WITH_FOLDER(threads_change_no_bit),
        WITH_FOLDER(wrong_requests_are_named),
        WITH_FOLDER(comparison_is_the_divergence),
        WITH_FOLDER(choices_are_scored_after_their_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
