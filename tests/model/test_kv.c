/* The KV cache by itself, in both builds. */
#include "test.h"
#include "isa.h"

#include <math.h>

#include "base/rng.h"
#include "model/kv.h"

/* Keys of a head are wider than one conversion piece, values no whole blocks of q8_0; three chunks, the last one short.
 */
enum { N_LAYER = 2, N_SEQ = 3, N_CTX = 1150, HEADS = 2, K = 320, V = 40, K_WIDTH = HEADS * K, V_WIDTH = HEADS * V };

static struct kv_cache *cache(enum dtype type)
{
    static const struct kv_width width[N_LAYER] = {{.heads = HEADS, .k = K, .v = V}, {.heads = HEADS, .k = K, .v = V}};
    struct kv_layout l = {.n_layer = N_LAYER, .n_seq = N_SEQ, .n_ctx = N_CTX, .width = width, .type = type};
    struct kv_cache *kv;
    cadre_error err = {0};
    assert_ok(kv_new(&kv, &l, &err), err);
    return kv;
}

/* Kernels of a level, or of the best one up to it; no threads */
static struct op_ctx context(struct kernels *ks, enum isa level)
{
    struct cpu cpu;
    cpu_detect(&cpu);
    enum isa best = test_isa(&cpu);
    kernels_init(ks, &cpu, level < best ? level : best);
    return (struct op_ctx){.k = ks};
}

static real *random_rows(struct rng *rng, int64_t n)
{
    real *x = malloc((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++)
        x[i] = (real)rng_normal(rng);
    return x;
}

/* A head's numbers in the format, filled up with zeros to whole blocks; returns their bytes */
static size_t encoded(enum dtype type, const real *x, int64_t n, unsigned char *bytes)
{
    const struct dtype_info *info = dtype_info(type);
    if (type == DTYPE_F32) {
        memcpy(bytes, x, (size_t)n * sizeof *x);
        return (size_t)n * sizeof *x;
    }
    float plain[K] = {0};
    size_t whole = ((size_t)n + info->block - 1) / info->block * info->block;
    for (int64_t i = 0; i < n; i++)
        plain[i] = (float)x[i];
    info->encode(plain, bytes, whole);
    return whole / info->block * info->bytes;
}

/* The bytes of a position in strips of 16: one f32 or f16 after the other, or a scale and 32 bytes. */
static void from_strip(enum dtype type, const unsigned char *keys, int64_t position, size_t row, unsigned char *bytes)
{
    const unsigned char *strip = keys + (size_t)position / 16 * 16 * row;
    size_t unit = type == DTYPE_F32 ? sizeof(real) : dtype_info(type)->bytes, lane = (size_t)position % 16;
    size_t first = type == DTYPE_F32 ? sizeof(real) : 2;
    for (size_t at = 0; at < row; at += unit) {
        memcpy(bytes + at, strip + at * 16 + lane * first, first);
        for (size_t i = first; i < unit; i++)
            bytes[at + i] = strip[(at + i) * 16 + lane];
    }
}

static void expect_row(struct kv_view view, int64_t seq, int64_t position, const real *k, const real *v)
{
    unsigned char want[K * sizeof(real)], got[K * sizeof(real)];
    int64_t at = position % KV_BLOCK;
    for (int64_t h = 0; h < HEADS; h++) {
        const void *keys, *values;
        view.block(view.self, seq, h, position / KV_BLOCK, &keys, &values);
        size_t row = encoded(view.type, k + h * K, K, want);
        from_strip(view.type, keys, at, row, got);
        assert_memory_equal(got, want, row);
        row = encoded(view.type, v + h * V, V, want);
        assert_memory_equal((const unsigned char *)values + (size_t)at * row, want, row);
    }
}

static void every_format_gives_back_what_it_keeps(void **state)
{
    (void)state;
    static const enum dtype types[] = {DTYPE_F32, DTYPE_F16, DTYPE_BF16, DTYPE_Q8_0};
    static const int32_t slot[] = {2, 1, 0}; /* the batch's order is not the cache's */
    struct rng rng;
    rng_seed(&rng, 1);
    struct kernels ks[N_LAYER];
    struct op_ctx c[N_LAYER] = {context(&ks[0], ISA_GENERIC), context(&ks[1], ISA_COUNT - 1)};
    cadre_error err = {0};
    assert_ok(pool_new(&c[1].pool, 3, &err), err);
    for (int t = 0; t < 4; t++) {
        struct kv_cache *kv = cache(types[t]);
        real *k[N_LAYER][N_SEQ], *v[N_LAYER][N_SEQ];
        for (int l = 0; l < N_LAYER; l++)
            for (int s = 0; s < N_SEQ; s++) {
                k[l][s] = random_rows(&rng, N_CTX * K_WIDTH);
                v[l][s] = random_rows(&rng, N_CTX * V_WIDTH);
                for (int64_t p = 0; p < N_CTX; p += 50) /* pieces that straddle blocks */
                    kv_put(kv, &c[l], l, s, p, k[l][s] + p * K_WIDTH, v[l][s] + p * V_WIDTH, 50);
            }
        for (int l = 0; l < N_LAYER; l++) {
            struct kv_layer_view storage = {kv, l, slot};
            struct kv_view view = kv_layer_view(&storage);
            assert_int_equal(view.type, types[t]);
            for (int s = 0; s < N_SEQ; s++)
                for (int64_t p = 0; p < N_CTX; p += 7)
                    expect_row(view, s, p, k[l][slot[s]] + p * K_WIDTH, v[l][slot[s]] + p * V_WIDTH);
        }
        for (int l = 0; l < N_LAYER; l++)
            for (int s = 0; s < N_SEQ; s++) {
                free(k[l][s]);
                free(v[l][s]);
            }
        kv_free(kv);
    }
    pool_free(c[1].pool);
}

static void storing_again_goes_back(void **state)
{
    (void)state;
    static const int32_t slot[] = {1};
    struct rng rng;
    rng_seed(&rng, 2);
    struct kernels ks;
    struct op_ctx c = context(&ks, ISA_COUNT - 1);
    struct kv_cache *kv = cache(DTYPE_F16);
    real *k = random_rows(&rng, N_CTX * K_WIDTH), *v = random_rows(&rng, N_CTX * V_WIDTH);
    kv_put(kv, &c, 0, 1, 0, k, v, 100);
    kv_put(kv, &c, 0, 1, 20, k + 100 * K_WIDTH, v + 100 * V_WIDTH, 2); /* another continuation from 20 on */
    kv_put(kv, &c, 0, 1, 22, k + 102 * K_WIDTH, v + 102 * V_WIDTH, 1);
    struct kv_layer_view storage = {kv, 0, slot};
    struct kv_view view = kv_layer_view(&storage);
    expect_row(view, 0, 19, k + 19 * K_WIDTH, v + 19 * V_WIDTH);
    expect_row(view, 0, 21, k + 101 * K_WIDTH, v + 101 * V_WIDTH);
    expect_row(view, 0, 22, k + 102 * K_WIDTH, v + 102 * V_WIDTH);
    free(k);
    free(v);
    kv_free(kv);
}

static void compressed_caches_are_smaller(void **state)
{
    (void)state;
    struct kv_cache *f32 = cache(DTYPE_F32), *f16 = cache(DTYPE_F16), *q8_0 = cache(DTYPE_Q8_0);
    size_t heads = (size_t)N_LAYER * N_SEQ * HEADS * ((N_CTX + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK);
    assert_in_range(kv_bytes(f32), heads * (K + V) * sizeof(real), heads * (K + V) * sizeof(real) + 256);
    assert_in_range(kv_bytes(f16), heads * (K + V) * 2, heads * (K + V) * 2 + 256);
    assert_in_range(kv_bytes(q8_0), heads * (K / 32 + 2) * 34,
                    heads * (K / 32 + 2) * 34 + 256); /* 40 fill two blocks */
    kv_free(f32);
    kv_free(f16);
    kv_free(q8_0);
}

static void impossible_layouts_are_refused(void **state)
{
    (void)state;
    struct kv_width width = {.heads = 1, .k = 32, .v = 32}, nothing = {.heads = 1, .v = 32}, headless = {.k = 32},
                    huge = {.heads = 1, .k = 1ll << 45}, many = {.heads = 1ll << 45, .k = 32},
                    vast = {.state = 1ll << 45};
    struct kv_layout good = {.n_layer = 1, .n_seq = 1, .n_ctx = 10, .width = &width, .type = DTYPE_Q8_0}, l;
    struct kv_cache *kv;
    cadre_error err = {0};
#define REFUSED(assignment, code, named)                                                                               \
    do {                                                                                                               \
        l = good;                                                                                                      \
        assignment;                                                                                                    \
        assert_int_equal(kv_new(&kv, &l, &err), code);                                                                 \
        assert_null(kv);                                                                                               \
        assert_non_null(strstr(err.text, named));                                                                      \
    } while (0)
    REFUSED(l.type = DTYPE_I32, CADRE_E_UNSUPPORTED, "i32");
    REFUSED(l.type = DTYPE_NONE, CADRE_E_UNSUPPORTED, "unknown");
    REFUSED(l.width = &nothing, CADRE_E_ARG, "layer 0");
    REFUSED(l.width = &headless, CADRE_E_ARG, "layer 0");
    REFUSED(l.width = &huge, CADRE_E_MEMORY, "memory");
    REFUSED(l.width = &many, CADRE_E_MEMORY, "memory");
    REFUSED(l.width = &vast, CADRE_E_MEMORY, "states");
    REFUSED(l.n_ctx = 0, CADRE_E_ARG, "at least one");
    REFUSED(l.n_seq = -1, CADRE_E_ARG, "at least one");
    REFUSED(l.n_ctx = INT64_MAX, CADRE_E_MEMORY, "memory");
    REFUSED(l.n_ctx = 1ll << 40, CADRE_E_MEMORY, "memory");
#undef REFUSED
    kv_free(NULL);
}

/* ---- states */

enum { STATE = 5 };

static struct kv_cache *stateful_cache(int marks)
{
    static const struct kv_width width[3] = {
        {.heads = 1, .k = 4, .v = 4}, {.state = STATE}, {.heads = 1, .k = 4, .v = 4, .state = 2}};
    struct kv_layout l = {.n_layer = 3, .n_seq = 2, .n_ctx = 10, .width = width, .marks = marks, .type = DTYPE_F16};
    struct kv_cache *kv;
    cadre_error err = {0};
    assert_ok(kv_new(&kv, &l, &err), err);
    return kv;
}

/* n rows of a sequence through both layers with states; what they leave is its position, or `value`. */
static void advance(struct kv_cache *kv, int64_t seq, int64_t position, int64_t n, real value)
{
    real *a = kv_state(kv, 1, seq, position, n), *b = kv_state(kv, 2, seq, position, n);
    for (int i = 0; i < STATE; i++)
        a[i] = value;
    b[0] = b[1] = -value;
}

static void expect_states(struct kv_cache *kv, int64_t seq, real value)
{
    const real *a = kv_state(kv, 1, seq, 0, 0), *b = kv_state(kv, 2, seq, 0, 0);
    for (int i = 0; i < STATE; i++)
        assert_true(a[i] == value);
    assert_true(b[0] == -value && b[1] == -value);
}

static void states_are_of_their_sequence_and_start_from_zeros(void **state)
{
    (void)state;
    struct kv_cache *kv = stateful_cache(0);
    const real *s = kv_state(kv, 1, 0, 0, 3);
    for (int i = 0; i < STATE; i++)
        assert_true(s[i] == 0);
    advance(kv, 1, 0, 4, 4);
    advance(kv, 0, 0, 2, 2);
    expect_states(kv, 0, 2);
    expect_states(kv, 1, 4);
    advance(kv, 0, 2, 1, 3);
    expect_states(kv, 1, 4);
    s = kv_state(kv, 1, 0, 0, 1); /* another sequence */
    for (int i = 0; i < STATE; i++)
        assert_true(s[i] == 0);
    expect_states(kv, 1, 4);
    kv_free(kv);
}

static void states_go_back_to_the_mark_or_to_the_start(void **state)
{
    (void)state;
    struct kv_cache *kv = stateful_cache(1);
    advance(kv, 0, 0, 3, 3);
    advance(kv, 1, 0, 9, 9);
    assert_int_equal(kv_rewind(kv, 0, 2), 0); /* nothing is marked */
    advance(kv, 0, 0, 3, 3);
    kv_mark(kv, 0, 0);
    advance(kv, 0, 3, 4, 7);
    assert_int_equal(kv_rewind(kv, 0, 7), 7); /* where it is */
    assert_int_equal(kv_rewind(kv, 0, 5), 3);
    expect_states(kv, 0, 3);
    advance(kv, 0, 3, 1, 4);
    assert_int_equal(kv_rewind(kv, 0, 3), 3); /* as often as wanted */
    expect_states(kv, 0, 3);
    assert_int_equal(kv_rewind(kv, 0, 2), 0);
    advance(kv, 0, 0, 5, 50); /* another text: the mark was of the one before */
    assert_int_equal(kv_rewind(kv, 0, 4), 0);
    expect_states(kv, 1, 9);
    kv_free(kv);
}

static void each_mark_is_a_place_to_go_back_to(void **state)
{
    (void)state;
    struct kv_cache *kv = stateful_cache(2);
    advance(kv, 0, 0, 3, 3);
    kv_mark(kv, 0, 0);
    advance(kv, 0, 3, 2, 5);
    kv_mark(kv, 0, 1);
    advance(kv, 0, 5, 4, 9);
    assert_int_equal(kv_rewind(kv, 0, 8), 5); /* the later one that fits */
    expect_states(kv, 0, 5);
    kv_mark(kv, 0, 1); /* where it is already */
    advance(kv, 0, 5, 1, 6);
    assert_int_equal(kv_rewind(kv, 0, 5), 5);
    expect_states(kv, 0, 5);
    assert_int_equal(kv_rewind(kv, 0, 4), 3);
    expect_states(kv, 0, 3);
    advance(kv, 0, 3, 5, 80); /* another text: the later mark is void */
    assert_int_equal(kv_rewind(kv, 0, 7), 3);
    expect_states(kv, 0, 3);
    kv_free(kv);
}

static void keys_alone_go_back_anywhere(void **state)
{
    (void)state;
    struct kv_cache *kv = cache(DTYPE_F32);
    kv_mark(kv, 0, 0);
    assert_int_equal(kv_rewind(kv, 0, 7), 7);
    kv_free(kv);
}

static void states_are_reals_whatever_the_format(void **state)
{
    (void)state;
    struct kv_cache *plain = stateful_cache(0), *marked = stateful_cache(1);
    size_t states = 2 * (STATE + 2) * sizeof(real),
           rows = 2 * 2 * KV_BLOCK * 8 * 2; /* layers, sequences, positions, f16 */
    assert_in_range(kv_bytes(plain), rows + states, rows + states + 256);
    assert_in_range(kv_bytes(marked), rows + 2 * states, rows + 2 * states + 384);
    kv_free(plain);
    kv_free(marked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_gives_back_what_it_keeps),
        cmocka_unit_test(storing_again_goes_back),
        cmocka_unit_test(compressed_caches_are_smaller),
        cmocka_unit_test(impossible_layouts_are_refused),
        cmocka_unit_test(states_are_of_their_sequence_and_start_from_zeros),
        cmocka_unit_test(states_go_back_to_the_mark_or_to_the_start),
        cmocka_unit_test(each_mark_is_a_place_to_go_back_to),
        cmocka_unit_test(keys_alone_go_back_anywhere),
        cmocka_unit_test(states_are_reals_whatever_the_format),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
