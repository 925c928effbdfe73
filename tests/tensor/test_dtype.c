/* Number formats against formulas that share nothing with the code: halves through scalbn and nearbyint in double,
 * blocks through their error bound; and, with the golden suite, against bytes that other software made. */
#include "test.h"

#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "file/safetensors.h"
#include "tensor/dtype.h"

/* (-1)^s · 2^(e-15) · (1 + m/1024); e = 0: 2^-14 · m/1024; e = 31: infinity or NaN. */
static double half_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY)
               : e     ? scalbn(1 + m / 1024.0, e - 15)
                       : scalbn(m / 1024.0, -14);
    return h >> 15 ? -v : v;
}

/* The nearest representable number with `bits` of fraction and smallest exponent `low`, in double. */
static double rounded(double x, int bits, int low, double max)
{
    if (x == 0 || !isfinite(x))
        return x;
    int e = ilogb(x) < low ? low : ilogb(x);
    double y = scalbn(nearbyint(scalbn(x, bits - e)), e - bits);
    return fabs(y) > max ? copysign(INFINITY, x) : y;
}

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static bool same(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

static void every_half_survives(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f16_to_f32((uint16_t)h);
        assert_true(same((double)f, half_value((uint16_t)h)));
        uint16_t back = f32_to_f16(f);
        if (isnan(f))
            assert_true((back & 0x7c00) == 0x7c00 && (back & 0x3ff) && (back & 0x8000) == (h & 0x8000));
        else
            assert_int_equal(back, h);
        float wide = bf16_to_f32((uint16_t)h);
        assert_int_equal(bits_of(wide), h << 16);
        if (!isnan(wide))
            assert_int_equal(f32_to_bf16(wide), h);
    }
}

static void check_rounding(float f)
{
    assert_true(same((double)f16_to_f32(f32_to_f16(f)), rounded((double)f, 10, -14, 65504)));
    assert_true(same((double)bf16_to_f32(f32_to_bf16(f)), rounded((double)f, 7, -126, 0x1.fep127)));
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 3);
    for (int i = 0; i < 2000000; i++)
        check_rounding(float_of((uint32_t)rng_u64(&rng)));
    for (uint32_t h = 0; h < 0x7c00; h++) { /* each midpoint between two halves, and its neighbours */
        float mid = (float)((half_value((uint16_t)h) + (h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1)))) / 2);
        check_rounding(mid);
        check_rounding(nextafterf(mid, 0));
        check_rounding(nextafterf(mid, INFINITY));
        check_rounding(-mid);
    }
    for (uint32_t h = 0; h < 0x7f80; h++) { /* likewise between two bf16 */
        check_rounding(float_of(h << 16 | 0x8000));
        check_rounding(float_of(h << 16 | 0x7fff));
        check_rounding(float_of(h << 16 | 0x8001));
    }
    assert_true(isnan(bf16_to_f32(f32_to_bf16(float_of(0x7f800001))))); /* its payload is in the bits cut off */
    assert_true(isnan(f16_to_f32(f32_to_f16(float_of(0xff800001)))));
}

static void q8_0_is_within_half_a_step(void **state)
{
    (void)state;
    const struct dtype_info *q = dtype_info(DTYPE_Q8_0);
    struct rng rng;
    rng_seed(&rng, 5);
    for (int turn = 0; turn < 20000; turn++) {
        float x[64], y[64];
        unsigned char blocks[68];
        double scale = scalbn(1, (int)rng_below(&rng, 24) - 10);
        for (int i = 0; i < 64; i++)
            x[i] = (float)(rng_normal(&rng) * scale);
        q->encode(x, blocks, 64);
        q->decode(blocks, y, 64);
        for (int b = 0; b < 2; b++) {
            double max = 0;
            for (int i = 0; i < 32; i++)
                max = fmax(max, fabs((double)x[32 * b + i]));
            /* |x - q d| ≤ d/2, and 127 times what rounding the scale to f16 moved it */
            double d = max / 127, bound = d / 2 * (1 + 1e-5) + 127 * fmax(d * 0x1p-11, 0x1p-25);
            for (int i = 0; i < 32; i++)
                assert_true(fabs((double)x[32 * b + i] - (double)y[32 * b + i]) <= bound);
        }
    }
}

static void q8_0_edges(void **state)
{
    (void)state;
    const struct dtype_info *q = dtype_info(DTYPE_Q8_0);
    float x[32] = {0}, y[32];
    unsigned char block[34];
    static const unsigned char zeros[34];
    q->encode(x, block, 32);
    assert_memory_equal(block, zeros, 34);
    x[3] = -FLT_TRUE_MIN; /* the scale underflows */
    q->encode(x, block, 32);
    q->decode(block, y, 32);
    for (int i = 0; i < 32; i++)
        assert_true(y[i] == 0);
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 32; i++)
            x[i] = (float)i;
        x[7] = bad[k];
        q->encode(x, block, 32);
        q->decode(block, y, 32);
        for (int i = 0; i < 32; i++)
            assert_true(isnan(y[i])); /* seen by whoever looks at the result */
    }
    for (int i = 0; i < 32; i++)
        x[i] = (float)(i - 16) * 127 / 16; /* d = 1: the numbers are the integers nearest, halves away from zero */
    q->encode(x, block, 32);
    assert_true(block[0] == 0 && block[1] == 0x3c);
    for (int i = 0; i < 32; i++)
        assert_int_equal((int8_t)block[2 + i], (int)round((double)x[i]));
}

/* What every encoder owes, whatever the numbers are: zeros stay zeros, a number that is not finite spoils its block
 * visibly (mxfp4 cannot say so and keeps the sign of the largest number), and the largest and smallest are no accident.
 */
static void encoders_take_any_number(void **state)
{
    (void)state;
    enum { N = 256 };
    float x[N], y[N];
    unsigned char block[4 * N];
    struct rng rng;
    rng_seed(&rng, 9);
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *t = dtype_info((enum dtype)i);
        if (!t->encode)
            continue;
        memset(x, 0, sizeof x);
        t->encode(x, block, N);
        t->decode(block, y, N);
        for (int j = 0; j < N; j++)
            assert_true(y[j] == 0);
        static const float special[] = {NAN, INFINITY, -INFINITY};
        for (int k = 0; k < 3; k++) {
            for (int j = 0; j < N; j++)
                x[j] = (float)rng_normal(&rng);
            x[70] = special[k];
            t->encode(x, block, N);
            t->decode(block, y, N);
            if (i == DTYPE_MXFP4)
                assert_true(fabsf(y[70]) > 1e38f);
            else
                assert_true(t->block > 1 ? isnan(y[70]) : !isfinite(y[70]));
            assert_true(t->block > 32 || i == DTYPE_F32 || fabsf(y[63] - x[63]) < 1); /* another block */
        }
        static const float scale[] = {3.4e38f, 1e30f, 6e4f, 1e-20f, 1e-40f};
        for (int k = 0; k < 5; k++) {
            for (int j = 0; j < N; j++)
                x[j] = ((float)j / 128 - 1) * scale[k];
            t->encode(x, block, N);
            t->decode(block, y, N);
            for (int j = 0; k > 2 && j < N; j++) /* what is too small for its scale becomes zero */
                assert_true(fabsf(y[j]) <= 1.1f * scale[k]);
        }
    }
}

static void mxfp4_halves_go_to_the_smaller(void **state)
{
    (void)state;
    static const float x[8] = {5, -5, 3.5f, -2.5f, 1.75f, 0.25f, -0.25f, 7}, want[8] = {4, -4, 3, -2, 1.5f, 0, 0, 6};
    float in[32] = {0}, out[32];
    unsigned char block[17];
    memcpy(in, x, sizeof x);
    dtype_info(DTYPE_MXFP4)->encode(in, block, 32);
    dtype_info(DTYPE_MXFP4)->decode(block, out, 32);
    assert_int_equal(block[0], 127);
    for (int i = 0; i < 8; i++)
        assert_true(out[i] == want[i]);
}

static void integers_are_read(void **state)
{
    (void)state;
    static const int64_t want[] = {-128, 127, -7, 0};
    int8_t i8[4];
    int16_t i16[4];
    int32_t i32[4];
    int64_t i64[4];
    double f64[4];
    for (int i = 0; i < 4; i++) {
        i8[i] = (int8_t)want[i];
        i16[i] = (int16_t)want[i];
        i32[i] = (int32_t)want[i];
        i64[i] = want[i];
        f64[i] = (double)want[i];
    }
    const void *source[] = {i8, i16, i32, i64, f64};
    static const enum dtype types[] = {DTYPE_I8, DTYPE_I16, DTYPE_I32, DTYPE_I64, DTYPE_F64};
    float y[4];
    for (int k = 0; k < 5; k++) {
        dtype_info(types[k])->decode(source[k], y, 4);
        for (int i = 0; i < 4; i++)
            assert_true(y[i] == (float)want[i]);
    }
    dtype_info(DTYPE_U8)->decode((unsigned char[]){0, 255}, y, 2);
    assert_true(y[0] == 0 && y[1] == 255);
}

static void names_lead_to_rows(void **state)
{
    (void)state;
    uint64_t bytes;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *t = dtype_info((enum dtype)i);
        assert_int_equal(dtype_by_name(t->name), i);
        if (t->gguf >= 0)
            assert_int_equal(dtype_by_gguf((uint32_t)t->gguf), i);
        if (t->safetensors)
            assert_int_equal(dtype_by_safetensors(t->safetensors), i);
        assert_true(dtype_size((enum dtype)i, 3 * t->block, &bytes) && bytes == 3 * t->bytes);
        assert_true(t->bytes <= t->block || !dtype_size((enum dtype)i, UINT64_MAX - UINT64_MAX % t->block, &bytes));
    }
    assert_int_equal(dtype_by_name("q9"), DTYPE_NONE);
    assert_int_equal(dtype_by_gguf(UINT32_MAX), DTYPE_NONE);
    assert_int_equal(dtype_by_safetensors("q8_0"), DTYPE_NONE);
    assert_false(dtype_size(DTYPE_Q8_0, 33, &bytes));
}

#ifdef GOLDEN
static void *read_golden(const struct safetensors *s, const char *name, uint64_t *bytes)
{
    cadre_error e = {0};
    const struct st_tensor *t = safetensors_find(s, name);
    assert_non_null(t);
    void *p = malloc(t->bytes);
    assert_ok(safetensors_read(s, t, p, &e), e);
    *bytes = t->bytes;
    return p;
}

/* decode(blocks) has the bits of `expanded`. */
static void check_decode(const struct safetensors *s, const struct dtype_info *type, const char *blocks,
                         const char *expanded)
{
    uint64_t n_blocks, n_floats;
    void *in = read_golden(s, blocks, &n_blocks);
    float *want = read_golden(s, expanded, &n_floats), *got = malloc(n_floats);
    assert_int_equal(n_blocks / type->bytes * type->block, n_floats / sizeof *got);
    type->decode(in, got, n_floats / sizeof *got);
    assert_memory_equal(got, want, n_floats);
    free(in);
    free(want);
    free(got);
}

static double rms(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(sum / (double)n);
}

/* encode(source) has the bytes of `blocks` where the format has one way to be written; where it is a search, at most
 * the error of the bytes in the file. */
static void check_encode(const struct safetensors *s, const struct dtype_info *type, bool search)
{
    uint64_t n_source, n_blocks, bytes;
    float *source = read_golden(s, "source", &n_source), *theirs = read_golden(s, "dequant", &bytes);
    void *want = read_golden(s, "blocks", &n_blocks), *got = malloc(n_blocks);
    float *ours = malloc(n_source);
    size_t n = n_source / sizeof *source;
    type->encode(source, got, n);
    type->decode(got, ours, n);
    for (size_t row = 0; row < 4; row++) {
        double mine = rms(source + row * n / 4, ours + row * n / 4, n / 4);
        double other = rms(source + row * n / 4, theirs + row * n / 4, n / 4);
        print_message("%-6s row %d: rms error %.5f, in the file %.5f\n", type->name, (int)row, mine, other);
        assert_true(mine <= other * 1.02);
    }
    if (!search)
        assert_memory_equal(got, want, n_blocks);
    free(source), free(theirs), free(want), free(got), free(ours);
}

/* Every format with a number in GGUF has a file there, but f32. */
static void golden_formats_agree(void **state)
{
    (void)state;
    int seen = 0;
    for (int i = 0; i < DTYPE_COUNT; i++) {
        const struct dtype_info *type = dtype_info((enum dtype)i);
        char path[512], upper[16] = {0};
        if (!type->weight || type->gguf < 0 || i == DTYPE_F32)
            continue;
        for (int k = 0; type->name[k]; k++)
            upper[k] = type->name[k] >= 'a' && type->name[k] <= 'z' ? (char)(type->name[k] - 'a' + 'A') : type->name[k];
        snprintf(path, sizeof path, GOLDEN "/quant/%s.safetensors", upper);
        cadre_error e = {0};
        struct safetensors *s;
        assert_ok(safetensors_open(&s, path, &e), e);
        check_decode(s, type, "blocks", "dequant");
        check_decode(s, type, "random_blocks", "random_dequant");
        seen++;
        if (type->encode)
            check_encode(s, type, i == DTYPE_Q4_K || i == DTYPE_Q5_K || i == DTYPE_Q6_K);
        safetensors_close(s);
    }
    assert_int_equal(seen, 27);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_survives),        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(q8_0_is_within_half_a_step), cmocka_unit_test(q8_0_edges),
        cmocka_unit_test(encoders_take_any_number),   cmocka_unit_test(mxfp4_halves_go_to_the_smaller),
        cmocka_unit_test(integers_are_read),          cmocka_unit_test(names_lead_to_rows),
#ifdef GOLDEN
        cmocka_unit_test(golden_formats_agree),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
