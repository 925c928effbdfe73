/* Bytes of weights that a token reads, three times over: what `cadre bench` reports, what the tensors of the file and
 * the routing say, and what the products are given while a token passes. */
#include "engine_test.h"

#include "engine/session.h"
#include "model/tensors.h"

enum { MAX_MATRICES = 256, PROMPT = 40 };

/* ---- products that count ------------------------------------------------------------------------------- */

struct matrix {
    const struct packed *w;
    uint64_t size, read;
    int64_t layer;
    int expert; /* -1: read by every token */
};

static struct {
    struct kernels real; /* the table as it was */
    struct matrix matrix[MAX_MATRICES];
    int n;
} counter;

/* The packed matrix that p lies in; NULL for scratch, keys and values. */
static struct matrix *matrix_at(const void *p)
{
    for (int i = 0; i < counter.n; i++) {
        const char *data = counter.matrix[i].w->data;
        if ((const char *)p >= data && (const char *)p < data + counter.matrix[i].size)
            return &counter.matrix[i];
    }
    return NULL;
}

static struct matrix *count_strips(const void *b, int64_t n, int64_t k)
{
    struct matrix *m = matrix_at(b);
    if (m)
        m->read += (uint64_t)((n + STRIP - 1) / STRIP) * packed_strip_bytes(m->w->type, k);
    return m;
}

static void counting_gemm_w(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                            int64_t ldc, bool accumulate)
{
    struct matrix *w = count_strips(b, n, k);
    assert_non_null(w);
    counter.real.gemm_w[w->w->type](m, n, k, a, lda, b, c, ldc, accumulate);
}

static void counting_gemm_f32(int64_t m, int64_t n, int64_t k, const real *a, int64_t lda, const real *b, real *c,
                              int64_t ldc, bool accumulate)
{
    count_strips(b, n, k);
    counter.real.gemm_f32(m, n, k, a, lda, b, c, ldc, accumulate);
}

static void counting_gemm_few(int64_t m, int64_t n, int64_t k, const float *a, int64_t lda, const void *b, float *c,
                              int64_t ldc, bool accumulate)
{
    struct matrix *w = count_strips(b, n, k);
    assert_non_null(w);
    counter.real.gemm_few[w->w->type](m, n, k, a, lda, b, c, ldc, accumulate);
}

static void counting_gemm_grid(int64_t m, int64_t n, int64_t k, const struct grid_rows *a, const void *b, float *c,
                               int64_t ldc)
{
    struct matrix *w = count_strips(b, n, k);
    assert_non_null(w);
    counter.real.gemm_grid[w->w->type](m, n, k, a, b, c, ldc);
}

static void counting_unpack(const void *strip, int64_t k, int64_t k0, int64_t n, real *dst)
{
    struct matrix *m = matrix_at(strip);
    assert_non_null(m);
    m->read += packed_strip_bytes(m->w->type, k) * (uint64_t)n / (uint64_t)k;
    counter.real.unpack[m->w->type](strip, k, k0, n, dst);
}

static void count_from_now_on(cadre_model *m)
{
    counter.n = 0;
    for (int64_t i = 0; i < m->model->n_params; i++) {
        const struct param *p = &m->model->params[i];
        const struct weight *w = param_weight(m->model, p);
        for (int64_t e = 0; w && w->packed && e < (w->n_expert ? w->n_expert : 1); e++) {
            assert_true(counter.n < MAX_MATRICES);
            counter.matrix[counter.n++] =
                (struct matrix){.w = &w->packed[e],
                                .size = packed_bytes(w->packed[e].type, w->packed[e].n, w->packed[e].k),
                                .layer = p->layer,
                                .expert = p->def->flags & TENSOR_BY_EXPERT ? (int)e : -1};
        }
    }
    counter.real = m->kernels;
    struct kernels *k = &m->kernels;
    for (int t = 0; t < DTYPE_COUNT; t++) {
        k->gemm_w[t] = k->gemm_w[t] ? counting_gemm_w : NULL;
        k->gemm_few[t] = k->gemm_few[t] ? counting_gemm_few : NULL;
        k->gemm_grid[t] = k->gemm_grid[t] ? counting_gemm_grid : NULL;
        k->unpack[t] = k->unpack[t] ? counting_unpack : NULL;
    }
    k->gemm_f32 = counting_gemm_f32;
}

static bool chosen(const struct session_output *out, int64_t layer, int expert)
{
    const struct routing *r = &out->routing[layer];
    for (int64_t i = 0; i < out->n * r->k; i++)
        if (r->id[i] == expert)
            return true;
    return false;
}

/* Every matrix was read once, but for the experts that no token of the batch chose. Gives the sum and starts anew. */
static uint64_t bytes_read(const struct session_output *out)
{
    uint64_t sum = 0;
    for (int i = 0; i < counter.n; i++) {
        struct matrix *m = &counter.matrix[i];
        bool wanted = m->expert < 0 || chosen(out, m->layer, m->expert);
        if (m->read != (wanted ? m->size : 0))
            fail_msg("matrix %d (layer %lld, expert %d): expected %llu bytes read, found %llu; has the kernel table a "
                     "product that this test does not count?",
                     i, (long long)m->layer, m->expert, (unsigned long long)(wanted ? m->size : 0),
                     (unsigned long long)m->read);
        sum += m->read;
        m->read = 0;
    }
    return sum;
}

/* ---- the count from the file --------------------------------------------------------------------------- */

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

/* Matrices by their names; rows in full strips. */
static uint64_t bytes_of_file(const char *path)
{
    cadre_error e = {0};
    struct gguf *g;
    uint64_t sum = 0;
    assert_ok(gguf_open(&g, path, &e), e);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        bool by_table = strcmp(t->name, "token_embd.weight") == 0 || ends_with(t->name, "conv1d.weight");
        if (t->n_dims < 2 || by_table)
            continue;
        uint64_t rows = (uint64_t)t->dim[1], row = t->bytes / rows / (uint64_t)t->dim[2];
        uint64_t matrices = ends_with(t->name, "_exps.weight") ? TINY_USED : 1;
        sum += matrices * ((rows + 15) / 16 * 16) * row;
    }
    gguf_close(g);
    return sum;
}

static void check(const char *path, enum act act)
{
    cadre_error e = {0};
    struct session *s;
    struct session_output out;
    int32_t token[PROMPT];
    for (int i = 0; i < PROMPT; i++)
        token[i] = (i * 37 + 5) % TINY_VOCAB;
    cadre_model *m = open_with(path, 1, 0);
    uint64_t want = bytes_of_file(path);
    assert_int_equal(runtime_bytes_per_token(m->model), want);
    struct session_options o = {.n_ctx = TINY_CTX, .kv = DTYPE_F32, .routing = true, .act = act};
    assert_ok(session_new(&s, m, &o, &e), e);
    count_from_now_on(m);
    assert_ok(session_feed(s, token, PROMPT, &out, &e), e);
    assert_true(bytes_read(&out) >= want);
    for (int i = 0; i < 8; i++) {
        assert_ok(session_feed(s, token + i, 1, &out, &e), e);
        assert_int_equal(bytes_read(&out), want);
    }
    session_free(s);
    cadre_model_close(m);
}

static void a_token_reads_what_is_reported(void **state)
{
    check(tiny_file(*state, "f32.gguf", (struct tiny_options){.type = DTYPE_F32}), ACT_F32);
    check(tiny_file(*state, "f16.gguf", (struct tiny_options){.type = DTYPE_F16}), ACT_F32);
    check(tiny_file(*state, "bf16.gguf", (struct tiny_options){.type = DTYPE_BF16}), ACT_F32);
    check(tiny_file(*state, "dense.gguf", (struct tiny_options){.type = DTYPE_Q8_0, .dense = true}), ACT_F32);
    check(tiny_file(*state, "recurrent.gguf", (struct tiny_options){.type = DTYPE_Q8_0, .recurrent = true}), ACT_F32);
}

static void block_formats_are_read_once_too(void **state)
{
    static const char *const types[] = {"q8_0", "q4_0", "q5_1"};
    cadre_error e = {0};
    const char *f32 = tiny_file(*state, "tiny.gguf", (struct tiny_options){0});
    for (int i = 0; i < 3; i++) {
        const char *path = in(*state, types[i]);
        assert_ok(cadre_quantize(f32, path, &(cadre_quantize_options){.type = types[i]}, NULL, &e), e);
        for (enum act act = 0; act < ACT_COUNT; act++)
            check(path, act);
    }
}

/* A share of a light expert's slots reads nothing, a chain reads its experts in each turn. */
static void structures_count_what_they_use(void **state)
{
    (void)state;
    cadre_error e = {0};
    struct spec s = tiny_spec(&(struct tiny_options){0});
    struct model *m;
    uint64_t bytes[3];
    for (int i = 0; i < 3; i++) {
        s.n_zero = i == 1 ? TINY_EXPERTS : 0;
        s.chain = i == 2 ? 3 : 0;
        spec_defaults(&s);
        assert_ok(model_new(&m, &s, 1, 1, false, &e), e);
        struct packed packed[TINY_EXPERTS] = {0};
        for (int64_t j = 0; j < m->n_params; j++) { /* only the experts have bytes */
            struct weight *w = param_weight(m, &m->params[j]);
            if (w && m->params[j].def->flags & TENSOR_BY_EXPERT) {
                packed[0] = (struct packed){.type = DTYPE_F32, .n = w->n, .k = w->k};
                w->packed = packed;
            }
        }
        bytes[i] = runtime_bytes_per_token(m);
        for (int64_t j = 0; j < m->n_params; j++) {
            struct weight *w = param_weight(m, &m->params[j]);
            if (w)
                w->packed = NULL;
        }
        model_free(m);
    }
    assert_int_equal(bytes[0], TINY_LAYERS * TINY_USED * 3 * 64 * 32 * sizeof(float));
    assert_int_equal(bytes[1], bytes[0] / 2);
    assert_int_equal(bytes[2], bytes[0] * 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FOLDER(a_token_reads_what_is_reported),
        WITH_FOLDER(block_formats_are_read_once_too),
        WITH_FOLDER(structures_count_what_they_use),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
