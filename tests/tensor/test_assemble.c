/* Rows put together from the parts of safetensors checkpoints, against float64 decoders written from the formats'
 * definitions (tests/golden/make_assembled.py): equal bits after rounding to f32. And parts of wrong sizes. */
#include "test.h"

#include "base/checked.h"
#include "file/safetensors.h"
#include "tensor/assemble.h"

static struct safetensors *file;

static int open_file(void **state)
{
    (void)state;
    cadre_error err = {0};
    return safetensors_open(&file, GOLDEN_FOLDER "/assembled.safetensors", &err);
}

static int close_file(void **state)
{
    (void)state;
    safetensors_close(file);
    return 0;
}

static struct part part(const char *name, const char *what)
{
    char full[64];
    cadre_error err = {0};
    snprintf(full, sizeof full, "%s.%s", name, what);
    const struct st_tensor *t = safetensors_find(file, full);
    if (!t)
        return (struct part){0};
    void *data = malloc(t->bytes);
    assert_ok(safetensors_read(file, t, data, &err), err);
    return (struct part){data, t->bytes};
}

static void part_free(struct part p)
{
    free((void *)(uintptr_t)p.data);
}

/* A part that is a byte short or long; in memory of exactly that size, so that ASan sees a read beyond it. */
static struct part resized(struct part p, int64_t by)
{
    struct part q = {malloc((size_t)((int64_t)p.bytes + by)), (uint64_t)((int64_t)p.bytes + by)};
    memset((void *)(uintptr_t)q.data, 0, q.bytes);
    memcpy((void *)(uintptr_t)q.data, p.data, (size_t)min_i64((int64_t)p.bytes, (int64_t)q.bytes));
    return q;
}

static unsigned char *rows_for(enum dtype type, int64_t n, int64_t k, uint64_t *bytes)
{
    assert_true(dtype_size(type, (uint64_t)k, bytes));
    *bytes *= (uint64_t)n;
    return malloc(*bytes);
}

static void check_values(const char *name, enum dtype type, const void *rows, int64_t n, int64_t k)
{
    struct part want = part(name, "values");
    float *got = malloc((size_t)(n * k) * sizeof *got);
    assert_int_equal(want.bytes, (size_t)(n * k) * sizeof *got);
    dtype_info(type)->decode(rows, got, (size_t)(n * k));
    for (int64_t i = 0; i < n * k; i++)
        if (memcmp(&((const float *)want.data)[i], &got[i], sizeof *got) != 0)
            fail_msg("%s: number %d: expected %a, found %a", name, (int)i, (double)((const float *)want.data)[i],
                     (double)got[i]);
    free(got);
    part_free(want);
}

/* ---- FP8 */

static void fp8_values_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum dtype type;
    } cases[] = {{"fp8.grid", DTYPE_F8_E4M3_B128}, {"fp8.small", DTYPE_F8_E4M3_B32}, {"fp8.ragged", DTYPE_F32},
                 {"fp8.rows", DTYPE_F8_E4M3_B128}, {"fp8.one", DTYPE_F8_E4M3_B32},   {"fp8.fine", DTYPE_F32},
                 {"fp8.bare", DTYPE_F8_E4M3},      {"fp8.e5m2", DTYPE_F8_E5M2_B32},  {"fp8.e5m2bare", DTYPE_F8_E5M2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const char *name = cases[c].name;
        struct part facts = part(name, "facts");
        const int32_t *f = facts.data;
        struct fp8_parts p = {
            f[4] ? DTYPE_F8_E5M2 : DTYPE_F8_E4M3, f[0], f[1], f[2], f[3], part(name, "weight"), part(name, "scale")};
        cadre_error err = {0};
        uint64_t bytes;
        enum dtype type = fp8_type(&p);
        assert_int_equal(type, cases[c].type);
        unsigned char *rows = rows_for(type, p.n, p.k, &bytes);
        assert_ok(fp8_assemble(rows, bytes, &p, &err), err);
        check_values(name, type, rows, p.n, p.k);
        assert_int_equal(fp8_assemble(rows, bytes - 1, &p, &err), CADRE_E_ARG);
        for (int by = -1; by <= 1; by += 2) {
            struct fp8_parts bad = p;
            bad.weight = resized(p.weight, by);
            assert_int_equal(fp8_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
            assert_non_null(strstr(err.text, "FP8 weight: expected"));
            part_free(bad.weight);
            if (p.scale.bytes) {
                bad = p;
                bad.scale = resized(p.scale, by);
                assert_int_equal(fp8_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
                assert_non_null(strstr(err.text, "FP8 scale: expected"));
                part_free(bad.scale);
            }
        }
        struct fp8_parts huge = p;
        huge.n = huge.k = INT64_MAX;
        assert_int_equal(fp8_assemble(rows, bytes, &huge, &err), CADRE_E_FORMAT);
        huge = p;
        huge.k = 0;
        assert_int_equal(fp8_assemble(rows, bytes, &huge, &err), CADRE_E_FORMAT);
        if (p.scale.bytes) {
            huge = p;
            huge.scale_k = 0;
            assert_int_equal(fp8_assemble(rows, bytes, &huge, &err), CADRE_E_FORMAT);
        }
        free(rows);
        part_free(facts), part_free(p.weight), part_free(p.scale);
    }
}

/* Every code of both formats, against the definition written once more: sign, exponent, fraction. */
static void every_byte_is_the_float_it_says(void **state)
{
    (void)state;
    unsigned char code[256];
    float e4m3[256], e5m2[256];
    for (int i = 0; i < 256; i++)
        code[i] = (unsigned char)i;
    dtype_info(DTYPE_F8_E4M3)->decode(code, e4m3, 256);
    dtype_info(DTYPE_F8_E5M2)->decode(code, e5m2, 256);
    for (int i = 0; i < 128; i++) {
        int e = i >> 3, m = i & 7;
        double want = e ? (8 + m) * __builtin_ldexp(1, e - 10) : m * 0x1p-9;
        if (i == 127)
            assert_true(e4m3[i] != e4m3[i] && e4m3[i + 128] != e4m3[i + 128]);
        else
            assert_true((double)e4m3[i] == want && (double)e4m3[i + 128] == -want);
        e = i >> 2, m = i & 3;
        want = e == 31 ? (double)__builtin_inff() : e ? (4 + m) * __builtin_ldexp(1, e - 17) : m * 0x1p-16;
        if (e == 31 && m)
            assert_true(e5m2[i] != e5m2[i] && e5m2[i + 128] != e5m2[i + 128]);
        else
            assert_true((double)e5m2[i] == want && (double)e5m2[i + 128] == -want);
    }
    assert_true(__builtin_signbit(e4m3[128]) && __builtin_signbit(e5m2[128]));
}

/* ---- GPTQ, AWQ */

static struct int4_parts int4_case(const char *name)
{
    struct part facts = part(name, "facts");
    const int32_t *f = facts.data;
    struct int4_parts p = {
        (enum int4_kind)f[3], f[0], f[1], f[2], part(name, "qweight"), part(name, "qzeros"), part(name, "scales"),
        part(name, "g_idx")};
    part_free(facts);
    return p;
}

static void int4_free(struct int4_parts p)
{
    part_free(p.qweight), part_free(p.qzeros), part_free(p.scales), part_free(p.g_idx);
}

static void int4_values_are_exact(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum dtype type;
    } cases[] = {{"int4.gptq", DTYPE_INT4_B32},   {"int4.gptq128", DTYPE_INT4_B128}, {"int4.whole", DTYPE_INT4_B128},
                 {"int4.v2", DTYPE_INT4_B32},     {"int4.ordered", DTYPE_INT4_B32},  {"int4.shuffled", DTYPE_F32},
                 {"int4.group16", DTYPE_F32},     {"int4.cut", DTYPE_INT4_B32},      {"int4.awq", DTYPE_INT4_B32},
                 {"int4.awq128", DTYPE_INT4_B128}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct int4_parts p = int4_case(cases[c].name);
        cadre_error err = {0};
        enum dtype type;
        uint64_t bytes;
        assert_ok(int4_type(&type, &p, &err), err);
        assert_int_equal(type, cases[c].type);
        unsigned char *rows = rows_for(type, p.n, p.k, &bytes);
        assert_ok(int4_assemble(rows, bytes, &p, &err), err);
        check_values(cases[c].name, type, rows, p.n, p.k);
        assert_int_equal(int4_assemble(rows, bytes + 1, &p, &err), CADRE_E_ARG);
        free(rows);
        int4_free(p);
    }
}

static void wrong_int4_parts_are_refused(void **state)
{
    (void)state;
    struct int4_parts good = int4_case("int4.shuffled");
    cadre_error err = {0};
    enum dtype type;
    struct part *const parts[] = {&good.qweight, &good.qzeros, &good.scales, &good.g_idx};
    static const char *const names[] = {"qweight", "qzeros", "scales", "g_idx"};
    for (int i = 0; i < 4; i++)
        for (int by = -1; by <= 1; by += 2) {
            struct part kept = *parts[i];
            *parts[i] = resized(kept, by);
            assert_int_equal(int4_type(&type, &good, &err), CADRE_E_FORMAT);
            assert_non_null(strstr(err.text, names[i]));
            part_free(*parts[i]);
            *parts[i] = kept;
        }
    int32_t *g_idx = (int32_t *)(uintptr_t)good.g_idx.data;
    static const int32_t beyond[] = {3, -1, INT32_MIN, INT32_MAX};
    for (int i = 0; i < 4; i++) {
        int32_t kept = g_idx[5];
        g_idx[5] = beyond[i];
        assert_int_equal(int4_type(&type, &good, &err), CADRE_E_FORMAT);
        assert_non_null(strstr(err.text, "g_idx[5]"));
        g_idx[5] = kept;
    }
    struct {
        int64_t n, k, group;
    } shapes[] = {{0, 96, 32},
                  {16, -8, 32},
                  {16, 96, 0},
                  {16, 96, -2},
                  {12, 96, 32},
                  {16, 92, 32},
                  {INT64_MAX - 7, INT64_MAX - 7, 32}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct int4_parts bad = good;
        bad.n = shapes[i].n, bad.k = shapes[i].k, bad.group = shapes[i].group;
        assert_int_equal(int4_type(&type, &bad, &err), CADRE_E_FORMAT);
    }
    int4_free(good);
}

/* ---- MXFP4 */

static void mxfp4_values_are_exact(void **state)
{
    (void)state;
    static const char *const cases[] = {"mxfp4.plain", "mxfp4.gate", "mxfp4.up"};
    for (int c = 0; c < 3; c++) {
        struct part facts = part(cases[c], "facts");
        const int32_t *f = facts.data;
        struct mxfp4_parts p = {f[0], f[1], f[2], f[3], f[4], part(cases[c], "blocks"), part(cases[c], "scales")}, bad;
        cadre_error err = {0};
        uint64_t bytes;
        unsigned char *rows = rows_for(DTYPE_MXFP4, p.n, p.k, &bytes);
        assert_ok(mxfp4_assemble(rows, bytes, &p, &err), err);
        check_values(cases[c], DTYPE_MXFP4, rows, p.n, p.k);
        assert_int_equal(mxfp4_assemble(rows, bytes + 17, &p, &err), CADRE_E_ARG);
        bad = p, bad.first = p.first + p.step; /* one row too far */
        assert_int_equal(mxfp4_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
        bad = p, bad.k = 48;
        assert_int_equal(mxfp4_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
        bad = p, bad.step = 0;
        assert_int_equal(mxfp4_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
        bad = p, bad.first = -1;
        assert_int_equal(mxfp4_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
        bad = p, bad.scales.bytes--;
        assert_int_equal(mxfp4_assemble(rows, bytes, &bad, &err), CADRE_E_FORMAT);
        free(rows);
        part_free(facts), part_free(p.blocks), part_free(p.scales);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fp8_values_are_exact),   cmocka_unit_test(every_byte_is_the_float_it_says),
        cmocka_unit_test(int4_values_are_exact),  cmocka_unit_test(wrong_int4_parts_are_refused),
        cmocka_unit_test(mxfp4_values_are_exact),
    };
    return cmocka_run_group_tests(tests, open_file, close_file);
}
