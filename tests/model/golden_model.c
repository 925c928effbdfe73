/* Conformance with the golden suite: logits, routing, hidden states and greedy continuations of every file whose family
 * and types are supported. A program of its own, because it is given a folder. */
#include "model_test.h"

#include <jansson.h>
#include <math.h>

#include "file/safetensors.h"
#include "model/attention.h"

static const char *folder;

struct expectation {
    struct safetensors *st;
};

static struct expectation expect(const char *name)
{
    char path[4096];
    struct expectation e;
    cadre_error err = {0};
    snprintf(path, sizeof path, "%s/logits/%s.safetensors", folder, name);
    assert_ok(safetensors_open(&e.st, path, &err), err);
    return e;
}

/* Values of a tensor, malloc'd (f32 and i32 are both four bytes); NULL if there is none. */
static void *values(const struct expectation *e, const char *name, int64_t dim[3])
{
    const struct st_tensor *t = safetensors_find(e->st, name);
    cadre_error err = {0};
    if (!t)
        return NULL;
    for (int i = 0; i < 3; i++)
        dim[i] = i < t->n_dims ? t->dim[i] : 1;
    void *p = malloc(t->bytes);
    assert_ok(safetensors_read(e->st, t, p, &err), err);
    return p;
}

/* The weights expanded to f32 where the file has both: that is what f32 activations compute. */
static void *values_f32(const struct expectation *e, const char *name, int64_t dim[3])
{
    char dequant[64];
    snprintf(dequant, sizeof dequant, "%s_dequant", name);
    void *p = values(e, dequant, dim);
    return p ? p : values(e, name, dim);
}

static double max_difference(const float *a, const float *b, int64_t n)
{
    double max = 0;
    for (int64_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - (double)b[i]);
        max = d > max || d != d ? d : max;
    }
    return max;
}

static struct model *open_path(const char *format, const char *name, enum mla_form mla)
{
    char path[4096];
    struct model *m;
    cadre_error err = {0};
    snprintf(path, sizeof path, format, folder, name);
    assert_ok(model_open(&m, path, mla, NULL, NULL, NULL, &err), err);
    return m;
}

static struct model *open_golden(const char *name)
{
    return open_path("%s/models/%s.gguf", name, MLA_ABSORBED);
}

static void check_hidden(const struct expectation *e, struct tensor *const *hidden, int64_t n_layer)
{
    for (int64_t l = 0; l < n_layer; l++) {
        char name[32];
        int64_t dim[3];
        snprintf(name, sizeof name, "hidden_%d", (int)l);
        float *want = values(e, name, dim);
        assert_non_null(want);
        int64_t n = dim[0] * dim[1];
        assert_int_equal(n, tensor_count(hidden[l]));
        double square = 0;
        for (int64_t i = 0; i < n; i++)
            square += (double)want[i] * (double)want[i];
        double d = max_difference(want, hidden[l]->x, n);
        if (!(d < 1e-4 * sqrt(square / (double)n)))
            fail_msg("hidden states of layer %d differ by %g", (int)l, d);
        free(want);
    }
}

static int64_t slot_of_expert(const int32_t *id, int64_t k, int32_t want)
{
    for (int64_t j = 0; j < k; j++)
        if (id[j] == want)
            return j;
    return -1;
}

/* Chosen experts as sets, and the weight of each. */
static void check_routing(const struct expectation *e, const struct model *m, const struct routing *routing)
{
    int64_t dim[3] = {0}, unused[3], n_layer = m->spec.n_layer;
    int32_t *id = values_f32(e, "router_topk", dim);
    float *weight = values_f32(e, "router_weights", unused);
    int64_t n = dim[1], k = dim[2];
    assert_true((id && weight) == (m->spec.n_expert > 0));
    for (int64_t l = 0; id && l < n_layer; l++)
        for (int64_t t = 0; t < n; t++)
            for (int64_t j = 0; j < k; j++) {
                int64_t at = (l * n + t) * k + j;
                if (id[at] < 0) {
                    assert_null(routing[l].id);
                    continue;
                }
                int64_t found = slot_of_expert(routing[l].id + t * k, k, id[at]);
                if (found < 0)
                    fail_msg("layer %d, token %d: expert %d was not chosen", (int)l, (int)t, id[at]);
                assert_float_equal(routing[l].weight->x[t * k + found], weight[at], 1e-4);
            }
    free(id);
    free(weight);
}

/* All rows at once, without a cache, with everything looked at. */
static void check_batch(const char *name, const struct expectation *e, struct model *m, const int32_t *token, int64_t n)
{
    int64_t dim[3], row_start[2] = {0, n};
    int32_t *position = malloc((size_t)n * sizeof *position);
    for (int64_t i = 0; i < n; i++)
        position[i] = (int32_t)i;
    struct routing *routing = calloc((size_t)m->spec.n_layer, sizeof *routing);
    struct tensor **hidden = calloc((size_t)m->spec.n_layer, sizeof *hidden);
    struct batch b = {.n_tok = n,
                      .n_seq = 1,
                      .token = token,
                      .position = position,
                      .row_start = row_start,
                      .routing = routing,
                      .hidden = hidden};
    struct pass p;
    pass_run(&p, m, &b, NULL);
    float *want = values_f32(e, "logits", dim);
    double d = max_difference(want, p.logits->x, dim[0] * dim[1]);
    print_message("%-24s logits differ by %.1e\n", name, d);
    assert_true(d < 2e-4);
    check_routing(e, m, routing);
    if (!safetensors_find(e->st, "logits_dequant")) /* else hidden states are those of 8-bit activations */
        check_hidden(e, hidden, m->spec.n_layer);
    pass_end(&p);
    free(want);
    free(position);
    free(routing);
    free(hidden);
}

static int32_t argmax(const float *x, int64_t n)
{
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best])
            best = i;
    return (int32_t)best;
}

/* The prompt and the greedy continuation one token at a time through an f32 cache: rows of the prompt have the same
 * bytes as in one batch. */
static void check_decoding(const struct expectation *e, struct model *m, const int32_t *token, int64_t n)
{
    int64_t dim[3], n_vocab = m->spec.n_vocab;
    int32_t *greedy = values_f32(e, "greedy", dim);
    struct kv_cache *kv = test_kv(m, 1, n + dim[0], DTYPE_F32);
    float *batch = logits_of(m, token, n, 0, NULL, NULL), *row = NULL;
    for (int64_t i = 0; i < n; i++) {
        free(row);
        row = logits_of(m, token + i, 1, (int32_t)i, kv, NULL);
        assert_memory_equal(row, batch + i * n_vocab, (size_t)n_vocab * sizeof *row);
    }
    for (int64_t i = 0; i < dim[0]; i++) {
        int32_t best = argmax(row, n_vocab);
        assert_int_equal(best, greedy[i]);
        free(row);
        row = logits_of(m, &best, 1, (int32_t)(n + i), kv, NULL);
    }
    free(row);
    free(batch);
    free(greedy);
    kv_free(kv);
}

static void conforms(const char *name, struct model *m, const char *logits)
{
    struct expectation e = expect(logits);
    int64_t dim[3];
    int32_t *token = values(&e, "tokens", dim);
    check_batch(name, &e, m, token, dim[0]);
    check_decoding(&e, m, token, dim[0]);
    free(token);
    model_free(m);
    safetensors_close(e.st);
}

static void golden(void **state)
{
    struct model *m = open_golden(*state);
    bool latent = m->spec.attention == &attention_mla;
    conforms(*state, m, *state);
    if (latent) /* the other form */
        conforms(*state, open_path("%s/models/%s.gguf", *state, MLA_PLAIN), *state);
}

/* Hugging Face directories with the weights of a GGUF file. */
struct twin {
    const char *folder, *logits;
};

static void golden_directory(void **state)
{
    const struct twin *t = *state;
    conforms(t->folder, open_path("%s/hf/%s", t->folder, MLA_ABSORBED), t->logits);
}

/* A number of the suite's manifest. */
static double manifest_number(const char *name, const char *key)
{
    char path[4096];
    json_error_t error;
    snprintf(path, sizeof path, "%s/logits/manifest.json", folder);
    json_t *all = json_load_file(path, 0, &error);
    assert_non_null(all);
    const json_t *x = json_object_get(json_object_get(all, name), key);
    assert_true(json_is_number(x));
    double value = json_number_value(x);
    json_decref(all);
    return value;
}

/* Σ p log(p / q) of two rows of logits. */
static double divergence(const float *p, const float *q, int64_t n)
{
    double kl = 0, log_p, log_q, sum_p = 0, sum_q = 0;
    float max_p = p[argmax(p, n)], max_q = q[argmax(q, n)];
    for (int64_t i = 0; i < n; i++) {
        sum_p += exp((double)(p[i] - max_p));
        sum_q += exp((double)(q[i] - max_q));
    }
    for (int64_t i = 0; i < n; i++) {
        log_p = (double)(p[i] - max_p) - log(sum_p);
        log_q = (double)(q[i] - max_q) - log(sum_q);
        kl += exp(log_p) * (log_p - log_q);
    }
    return kl;
}

/* Activations rounded to 8-bit blocks: not much further from exact activations than another engine's rounding is. */
static void golden_auto(void **state)
{
    const char *name = *state;
    struct expectation e = expect(name);
    struct model *m = open_golden(name);
    int64_t dim[3], n_tok[3];
    int32_t *token = values(&e, "tokens", n_tok), position[256];
    float *want = values(&e, "logits_dequant", dim);
    assert_true(want && n_tok[0] == dim[0] && dim[0] <= 256);
    for (int i = 0; i < dim[0]; i++)
        position[i] = i;
    struct batch b = {
        .n_tok = dim[0], .n_seq = 1, .token = token, .position = position, .row_start = (int64_t[]){0, dim[0]}};
    struct pass p;
    pass_run_with(&p, m, &b, NULL, true);
    double kl = 0, same = 0;
    for (int64_t i = 0; i < dim[0]; i++) {
        const float *theirs = want + i * dim[1], *ours = p.logits->x + i * dim[1];
        kl += divergence(theirs, ours, dim[1]) / (double)dim[0];
        same += argmax(theirs, dim[1]) == argmax(ours, dim[1]) ? 1 / (double)dim[0] : 0;
    }
    double limit = 2 * manifest_number(name, "kl_dequant_vs_native");
    print_message("%-24s rounded activations: KL %.1e, at most %.1e; top-1 %.3f\n", name, kl, limit, same);
    assert_true(kl > 0 && kl <= limit && same >= 0.85);
    pass_end(&p);
    free(token);
    free(want);
    model_free(m);
    safetensors_close(e.st);
}

/* Prompts of more than 200 tokens: several blocks of keys, YaRN beyond its original context. */
static void golden_long(void **state)
{
    const char *name = *state;
    char with_suffix[64];
    snprintf(with_suffix, sizeof with_suffix, "%s-long", name);
    struct expectation e = expect(with_suffix);
    struct model *m = open_golden(name);
    int64_t dim[3], rows[3];
    int32_t *token = values(&e, "tokens", dim), *position = values(&e, "positions", rows);
    float *want = values(&e, "logits", rows), *got = logits_of(m, token, dim[0], 0, NULL, NULL);
    double d = 0;
    for (int64_t i = 0; i < rows[0]; i++)
        d = fmax(d, max_difference(want + i * rows[1], got + position[i] * rows[1], rows[1]));
    print_message("%-24s logits differ by %.1e\n", with_suffix, d);
    assert_true(d < 6e-4);
    check_decoding(&e, m, token, dim[0]);
    free(token);
    free(position);
    free(want);
    free(got);
    model_free(m);
    safetensors_close(e.st);
}

int main(int argc, char **argv)
{
#define GOLDEN(name)                                                                                                   \
    {                                                                                                                  \
        name, golden, NULL, NULL, (char[])                                                                             \
        {                                                                                                              \
            name                                                                                                       \
        }                                                                                                              \
    }
#define LONG(name)                                                                                                     \
    {                                                                                                                  \
        name "-long", golden_long, NULL, NULL, (char[])                                                                \
        {                                                                                                              \
            name                                                                                                       \
        }                                                                                                              \
    }
#define AUTO(name)                                                                                                     \
    {                                                                                                                  \
        name " auto", golden_auto, NULL, NULL, (char[])                                                                \
        {                                                                                                              \
            name                                                                                                       \
        }                                                                                                              \
    }
#define QUANTS(name)                                                                                                   \
    GOLDEN(name "-q4_0"), GOLDEN(name "-q4_K_M"), GOLDEN(name "-q6_K"), GOLDEN(name "-q2_K"), GOLDEN(name "-iq4_xs"),  \
        AUTO(name "-q8_0"), AUTO(name "-q4_0"), AUTO(name "-q4_K_M"), AUTO(name "-q6_K"), AUTO(name "-q2_K"),          \
        AUTO(name "-iq4_xs")
#define TWIN(name, logits)                                                                                             \
    {                                                                                                                  \
        "hf/" name, golden_directory, NULL, NULL, &(struct twin)                                                       \
        {                                                                                                              \
            name, logits                                                                                               \
        }                                                                                                              \
    }
    const struct CMUnitTest tests[] = {
        GOLDEN("mixtral"),
        GOLDEN("llama-dense"),
        GOLDEN("qwen3-dense"),
        GOLDEN("qwen2moe"),
        GOLDEN("qwen3moe"),
        GOLDEN("olmoe"),
        GOLDEN("deepseek"),
        GOLDEN("mixtral-f16"),
        GOLDEN("mixtral-bf16"),
        GOLDEN("mixtral-q8_0"),
        GOLDEN("qwen3moe-q8_0"),
        GOLDEN("olmoe-q8_0"),
        QUANTS("mixtral"),
        QUANTS("qwen3moe"),
        QUANTS("olmoe"),
        TWIN("mixtral", "mixtral"),
        TWIN("mixtral-f32", "mixtral"),
        TWIN("qwen2_moe", "qwen2moe"),
        TWIN("qwen2_moe-f32", "qwen2moe"),
        TWIN("qwen3_moe", "qwen3moe"),
        TWIN("qwen3_moe-f32", "qwen3moe"),
        TWIN("olmoe", "olmoe"),
        TWIN("olmoe-f32", "olmoe"),
        TWIN("deepseek_v2_lite", "deepseek2-lite"),
        TWIN("deepseek_v2_lite-f32", "deepseek2-lite"),
        GOLDEN("deepseek2-lite"),
        GOLDEN("deepseek2-lite-legacy"),
        GOLDEN("deepseek2-v3"),
        GOLDEN("gpt-oss-f32"),
        GOLDEN("gpt-oss-bf16"),
        GOLDEN("gpt-oss-mxfp4"),
        AUTO("gpt-oss-mxfp4"),
        GOLDEN("glm4moe"),
        GOLDEN("phimoe"),
        GOLDEN("granitemoe"),
        GOLDEN("bailingmoe2"),
        GOLDEN("ernie4_5-moe"),
        GOLDEN("hunyuan-moe"),
        GOLDEN("minimax-m2"),
        LONG("deepseek2-lite"),
        LONG("deepseek2-v3"),
        LONG("gpt-oss-f32"),
        LONG("phimoe"),
        LONG("mixtral"),
        LONG("llama-dense"),
        LONG("qwen3moe"),
    };
    if (argc != 2) {
        fprintf(stderr, "usage: golden_model FOLDER\n");
        return 2;
    }
    folder = argv[1];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
