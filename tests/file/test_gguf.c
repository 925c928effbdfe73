/* GGUF: what is written is what the format says, to the byte; what is read is what was written; what is wrong is
 * refused with a text that names it. The bytes of reference come from raw.h. */
#include "test.h"

#include <dirent.h>
#include <unistd.h>

#include "base/fileio.h"
#include "raw.h"
#include "walk.h"

static struct gguf *open_raw(const struct raw *r, cadre_err expected, const char *part)
{
    cadre_error e = {0};
    struct gguf *g;
    char path[32];
    int fd = memory_file(r->b, r->n, path);
    cadre_err rc = gguf_open(&g, path, &e);
    if (rc != expected || (part && !strstr(e.text, part)))
        fail_msg("expected code %d and \"%s\", found %d: %s", expected, part ? part : "", rc, e.text);
    if (rc != CADRE_OK) {
        assert_null(g);
        assert_non_null(strstr(e.text, path)); /* every text names the file */
    }
    close(fd);
    return g;
}

static void temp_name(char path[64], const char *suffix)
{
    snprintf(path, 64, "/tmp/cadre-test-%ld-%s", (long)getpid(), suffix);
}

static void assert_file_is(const char *path, const void *p, size_t n)
{
    cadre_error e = {0};
    char *bytes;
    size_t size;
    assert_ok(file_slurp(path, 1 << 20, &bytes, &size, &e), e);
    assert_int_equal(size, n);
    assert_memory_equal(bytes, p, n);
    free(bytes);
}

static void assert_i64(const struct gguf *g, const char *key, int64_t want)
{
    cadre_error e = {0};
    int64_t v = 77;
    bool found;
    assert_ok(gguf_get_i64(g, key, &v, &found, &e), e);
    assert_true(found);
    assert_true(v == want);
}

static void assert_i64s(const struct gguf *g, const char *key, int64_t n, const int64_t *want)
{
    cadre_error e = {0};
    const int64_t *v;
    int64_t count;
    bool found;
    assert_ok(gguf_get_i64s(g, key, &v, &count, &found, &e), e);
    assert_true(found);
    assert_int_equal(count, n);
    for (int64_t i = 0; i < n; i++)
        assert_true(v[i] == want[i]);
}
#define ASSERT_I64S(g, key, n, ...) assert_i64s(g, key, n, (int64_t[]){__VA_ARGS__})

static void assert_f64(const struct gguf *g, const char *key, double want)
{
    cadre_error e = {0};
    double v = 77;
    bool found;
    assert_ok(gguf_get_f64(g, key, &v, &found, &e), e);
    assert_true(found && v == want);
}

static void every_value_type_is_read(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct raw r;
        cadre_error e = {0};
        raw_sample(&r, version);
        struct gguf *g = open_raw(&r, CADRE_OK, NULL);
        assert_int_equal(gguf_kv_count(g), RAW_KVS);
        assert_string_equal(gguf_kv_key(g, 1), "s.u8");
        assert_i64(g, "s.u8", 200);
        assert_i64(g, "s.i8", -100);
        assert_i64(g, "s.u16", 60000);
        assert_i64(g, "s.i16", -30000);
        assert_i64(g, "s.u32", 4000000000);
        assert_i64(g, "s.i32", -2000000000);
        assert_i64(g, "s.i64", INT64_MIN);
        assert_f64(g, "s.f32", 1.5);
        assert_f64(g, "s.f64", 0.1);
        assert_f64(g, "s.i16", -30000);
        ASSERT_I64S(g, "a.u8", 3, 0, 1, 255);
        ASSERT_I64S(g, "a.i8", 2, -128, 127);
        ASSERT_I64S(g, "a.u16", 1, 65535);
        ASSERT_I64S(g, "a.i16", 2, -1, 2);
        ASSERT_I64S(g, "a.u32", 2, 0, UINT32_MAX);
        ASSERT_I64S(g, "a.i32", 2, INT32_MIN, 7);
        ASSERT_I64S(g, "a.i64", 2, INT64_MIN, INT64_MAX);
        ASSERT_I64S(g, "a.bool", 3, 1, 0, 1);
        ASSERT_I64S(g, "a.none", 0, 0);
        bool found, b = false;
        assert_ok(gguf_get_bool(g, "s.bool", &b, &found, &e), e);
        assert_true(found && b);
        struct gguf_string s;
        assert_ok(gguf_get_string(g, "s.string", &s, &found, &e), e);
        assert_int_equal(s.n, 5);
        assert_memory_equal(s.p, "a\0b\xff\n\0", 6); /* the last 0 ends it */
        assert_ok(gguf_get_string(g, "s.empty", &s, &found, &e), e);
        assert_true(s.n == 0 && s.p[0] == 0);
        const struct gguf_string *strings;
        const double *floats;
        int64_t n;
        assert_ok(gguf_get_strings(g, "a.string", &strings, &n, &found, &e), e);
        assert_int_equal(n, 3);
        assert_string_equal(strings[0].p, "first");
        assert_string_equal(strings[1].p, "");
        assert_string_equal(strings[2].p, "th\xc3\xafrd");
        assert_int_equal(strings[2].n, 6);
        assert_ok(gguf_get_f64s(g, "a.f32", &floats, &n, &found, &e), e);
        assert_true(n == 3 && floats[0] == 1.25 && floats[1] == -0.5 && floats[2] == (double)3e38f);
        assert_ok(gguf_get_f64s(g, "a.f64", &floats, &n, &found, &e), e);
        assert_true(n == 1 && floats[0] == 1e300);
        walk_gguf(g);
        gguf_close(g);
    }
}

static void tensors_are_found_and_read(void **state)
{
    (void)state;
    struct raw r;
    cadre_error e = {0};
    raw_sample(&r, 3);
    size_t data = r.n - 64 - 192 - 64; /* three tensors, each padded */
    char path[32];
    int fd = memory_file(r.b, r.n, path);
    struct gguf *g;
    assert_ok(gguf_open(&g, path, &e), e);
    assert_int_equal(gguf_tensor_count(g), RAW_TENSORS);
    const struct gguf_tensor *t = gguf_tensor_find(g, "quant.weight");
    assert_ptr_equal(t, gguf_tensor_at(g, 1));
    assert_int_equal(t->type, DTYPE_Q8_0);
    assert_int_equal(t->n_dims, 3);
    assert_true(t->dim[0] == 64 && t->dim[1] == 1 && t->dim[2] == 2 && t->dim[3] == 1);
    assert_int_equal(t->bytes, 4 * 34);
    assert_int_equal(t->offset, data + 64);
    unsigned char bytes[136];
    assert_ok(gguf_tensor_read(g, t, bytes, &e), e);
    assert_memory_equal(bytes, r.b + data + 64, sizeof bytes);
    assert_null(gguf_tensor_find(g, "quant"));
    assert_int_equal(ftruncate(fd, (off_t)(data + 70)), 0); /* the file shrinks behind our back */
    assert_int_equal(gguf_tensor_read(g, t, bytes, &e), CADRE_E_IO);
    assert_non_null(strstr(e.text, "quant.weight"));
    close(fd);
    gguf_close(g);
}

static void getters_refuse_other_kinds(void **state)
{
    (void)state;
    struct raw r;
    cadre_error e = {0};
    raw_sample(&r, 3);
    struct gguf *g = open_raw(&r, CADRE_OK, NULL);
    int64_t i = 42, n = 42;
    double f = 42;
    bool b = true, found = true;
    struct gguf_string s = {0};
    const struct gguf_string *strings = NULL;
    const int64_t *is = NULL;
    const double *fs = NULL;
    assert_ok(gguf_get_i64(g, "absent", &i, &found, &e), e);
    assert_true(!found && i == 42 && !gguf_has(g, "absent") && gguf_has(g, "s.u8"));
    static const char *const not_integers[] = {"s.f32", "s.bool", "s.string", "a.i32"};
    for (int k = 0; k < 4; k++) {
        assert_int_equal(gguf_get_i64(g, not_integers[k], &i, &found, &e), CADRE_E_FORMAT);
        assert_non_null(strstr(e.text, not_integers[k]));
        assert_non_null(strstr(e.text, "expected an integer"));
    }
    assert_int_equal(gguf_get_i64(g, "s.u64", &i, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_f64(g, "s.string", &f, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_bool(g, "s.u8", &b, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_string(g, "a.string", &s, &found, &e), CADRE_E_FORMAT);
    assert_non_null(strstr(e.text, "array of 3 string"));
    assert_int_equal(gguf_get_strings(g, "s.string", &strings, &n, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_strings(g, "a.nested", &strings, &n, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_i64s(g, "a.f32", &is, &n, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_i64s(g, "a.u64", &is, &n, &found, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_get_f64s(g, "a.i32", &fs, &n, &found, &e), CADRE_E_FORMAT);
    assert_true(i == 42 && n == 42 && f == 42 && b && !s.p && !strings && !is && !fs);
    gguf_close(g);
}

/* One wrong thing each, in a file that is right otherwise. */
static void wrong_files_are_refused(void **state)
{
    (void)state;
    struct raw r;
    raw_head(&r, 1, 0, 0);
    open_raw(&r, CADRE_E_UNSUPPORTED, "version");
    raw_head(&r, 4, 0, 0);
    open_raw(&r, CADRE_E_UNSUPPORTED, "version");
    raw_head(&r, 3u << 24, 0, 0);
    open_raw(&r, CADRE_E_UNSUPPORTED, "big-endian");
    raw_head(&r, 3, 0, 0);
    r.b[0] = 'X';
    open_raw(&r, CADRE_E_FORMAT, "XGUF");
    r.n = 0;
    open_raw(&r, CADRE_E_FORMAT, "header");
    raw_head(&r, 3, 1u << 30, 0);
    open_raw(&r, CADRE_E_FORMAT, "tensors");
    raw_head(&r, 3, 0, UINT64_MAX);
    open_raw(&r, CADRE_E_FORMAT, "key values");

    raw_head(&r, 3, 0, 2);
    raw_scalar(&r, "twice", GGUF_U8, RAW_VALUE(uint8_t, 1));
    raw_scalar(&r, "twice", GGUF_U8, RAW_VALUE(uint8_t, 1));
    open_raw(&r, CADRE_E_FORMAT, "'twice'");
    raw_head(&r, 3, 0, 1);
    raw_scalar(&r, "", GGUF_U32, RAW_VALUE(uint32_t, 1));
    open_raw(&r, CADRE_E_FORMAT, "1 to 65535");
    raw_head(&r, 3, 0, 1);
    raw_scalar(&r, "odd\x1b", 13, RAW_VALUE(uint32_t, 1));
    open_raw(&r, CADRE_E_FORMAT, "key 'odd?'"); /* no control characters in an error text */
    raw_head(&r, 3, 0, 1);
    raw_scalar(&r, "flag", GGUF_BOOL, RAW_VALUE(uint8_t, 2));
    open_raw(&r, CADRE_E_FORMAT, "0 or 1");

    static const uint32_t alignments[] = {0, 3, 48, 1u << 21, UINT32_MAX};
    for (int i = 0; i < 5; i++) {
        raw_head(&r, 3, 0, 1);
        raw_scalar(&r, "general.alignment", GGUF_U32, &alignments[i], 4);
        open_raw(&r, CADRE_E_FORMAT, "power of two");
    }
    raw_head(&r, 3, 0, 1);
    raw_scalar(&r, "general.alignment", GGUF_F32, RAW_VALUE(float, 32));
    open_raw(&r, CADRE_E_FORMAT, "general.alignment");

    for (int depth = 3; depth <= 4; depth++) { /* arrays inside the first; 4 levels are the limit */
        raw_head(&r, 3, 0, 1);
        raw_array(&r, "deep", GGUF_ARRAY, 1, "", 0);
        for (int i = 1; i < depth; i++) {
            raw_u32(&r, GGUF_ARRAY);
            raw_u64(&r, 1);
        }
        raw_u32(&r, GGUF_U8);
        raw_u64(&r, 0);
        gguf_close(open_raw(&r, depth == 3 ? CADRE_OK : CADRE_E_FORMAT, depth == 3 ? NULL : "nested"));
    }
}

/* One tensor of 8 f32, or two; data follows. */
static void wrong_tensors_are_refused(void **state)
{
    (void)state;
    static const struct {
        int n_dims;
        uint64_t dim[5];
        uint32_t type;
        uint64_t offset;
        cadre_err code;
        const char *text;
    } one[] = {
        {1, {8}, 0, 0, CADRE_OK, NULL},
        {4, {2, 2, 2, 1}, 0, 0, CADRE_OK, NULL},
        {0, {0}, 0, 0, CADRE_E_FORMAT, "1 to 4 dimensions"},
        {5, {2, 2, 2, 1, 1}, 0, 0, CADRE_E_FORMAT, "1 to 4 dimensions"},
        {1, {0}, 0, 0, CADRE_E_FORMAT, "at least 1"},
        {2, {8, 0}, 0, 0, CADRE_E_FORMAT, "at least 1"},
        {1, {UINT64_MAX}, 0, 0, CADRE_E_FORMAT, "product below"},
        {2, {1ull << 32, 1ull << 31}, 0, 0, CADRE_E_FORMAT, "product below"},
        {2, {1ull << 31, 1ull << 31}, 0, 0, CADRE_E_FORMAT, "overflow"},
        {1, {8}, 9, 0, CADRE_E_UNSUPPORTED, "tensor 'one'"},
        {1, {8}, 99, 0, CADRE_E_UNSUPPORTED, "unsupported type: tensor type number 99"},
        {1, {8}, UINT32_MAX, 0, CADRE_E_UNSUPPORTED, "4294967295"},
        {2, {16, 2}, 8, 0, CADRE_E_FORMAT, "multiple of 32"}, /* 32 numbers, but rows of 16 */
        {1, {8}, 0, 16, CADRE_E_FORMAT, "multiple of 32"},
        {1, {9}, 0, 0, CADRE_E_FORMAT, "cut short"},
        {1, {8}, 0, 32, CADRE_E_FORMAT, "cut short"},
        {1, {8}, 0, UINT64_MAX - 31, CADRE_E_FORMAT, "cut short"},
    };
    struct raw r;
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        raw_head(&r, 3, 1, 0);
        raw_tensor(&r, "one", one[i].n_dims, one[i].dim, one[i].type, one[i].offset);
        raw_align(&r, 32);
        r.n += 32;
        gguf_close(open_raw(&r, one[i].code, one[i].text));
    }
    static const struct {
        const char *name;
        uint64_t offset[2];
        cadre_err code;
        const char *text;
    } two[] = {
        {"b", {0, 32}, CADRE_OK, NULL},
        {"b", {64, 0}, CADRE_OK, NULL}, /* any order, gaps */
        {"a", {0, 32}, CADRE_E_FORMAT, "'a'"},
        {"b", {32, 32}, CADRE_E_FORMAT, "inside"},
    };
    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++) {
        raw_head(&r, 3, 2, 0);
        raw_tensor(&r, "a", 1, (uint64_t[]){8}, 0, two[i].offset[0]);
        raw_tensor(&r, two[i].name, 1, (uint64_t[]){8}, 0, two[i].offset[1]);
        raw_align(&r, 32);
        r.n += 96;
        gguf_close(open_raw(&r, two[i].code, two[i].text));
    }
    raw_head(&r, 3, 2, 0);
    raw_tensor(&r, "long", 1, (uint64_t[]){9}, 0, 0);
    raw_tensor(&r, "next", 1, (uint64_t[]){8}, 0, 32);
    raw_align(&r, 32);
    r.n += 96;
    open_raw(&r, CADRE_E_FORMAT, "'next' inside the 36 bytes of 'long'");
}

static void writer_makes_the_format_s_bytes(void **state)
{
    (void)state;
    struct raw r;
    raw_head(&r, 3, 2, 9);
    raw_scalar(&r, "u32", GGUF_U32, RAW_VALUE(uint32_t, 7));
    raw_scalar(&r, "u64", GGUF_U64, RAW_VALUE(uint64_t, 1ull << 40));
    raw_scalar(&r, "f32", GGUF_F32, RAW_VALUE(float, -2.5f));
    raw_scalar(&r, "bool", GGUF_BOOL, RAW_VALUE(uint8_t, 1));
    raw_string(&r, "string");
    raw_u32(&r, GGUF_STRING);
    raw_string(&r, "hello");
    raw_array(&r, "strings", GGUF_STRING, 2, "", 0);
    raw_string(&r, "a");
    raw_string(&r, "bc");
    raw_array(&r, "i32s", GGUF_I32, 2, RAW_VALUES(int32_t, -1, 5));
    raw_array(&r, "f32s", GGUF_F32, 1, RAW_VALUES(float, 0.5f));
    raw_array(&r, "none", GGUF_I32, 0, "", 0);
    raw_tensor(&r, "t0", 1, (uint64_t[]){3}, 0, 0);
    raw_tensor(&r, "t1", 2, (uint64_t[]){2, 2}, 1, 32);
    raw_align(&r, 32);
    raw_put(&r, RAW_VALUES(float, 1, 2, 3));
    raw_align(&r, 32);
    raw_put(&r, RAW_VALUES(uint16_t, 1, 2, 3, 4));
    raw_align(&r, 32);

    char path[64];
    temp_name(path, "bytes.gguf");
    cadre_error e = {0};
    struct gguf_writer *w;
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_ok(gguf_put_u32(w, "u32", 7, &e), e);
    assert_ok(gguf_put_u64(w, "u64", 1ull << 40, &e), e);
    assert_ok(gguf_put_f32(w, "f32", -2.5f, &e), e);
    assert_ok(gguf_put_bool(w, "bool", true, &e), e);
    assert_ok(gguf_put_string(w, "string", "hello", 5, &e), e);
    assert_ok(gguf_put_strings(w, "strings", (struct gguf_string[]){{"a", 1}, {"bc", 2}}, 2, &e), e);
    assert_ok(gguf_put_i32s(w, "i32s", (int32_t[]){-1, 5}, 2, &e), e);
    assert_ok(gguf_put_f32s(w, "f32s", (float[]){0.5f}, 1, &e), e);
    assert_ok(gguf_put_i32s(w, "none", NULL, 0, &e), e);
    assert_ok(gguf_put_tensor(w, "t0", DTYPE_F32, 1, (int64_t[]){3}, &e), e);
    assert_ok(gguf_put_tensor(w, "t1", DTYPE_F16, 2, (int64_t[]){2, 2}, &e), e);
    assert_ok(gguf_write_begin(w, &e), e);
    assert_ok(gguf_write_data(w, (float[]){1}, 4, &e), e); /* in pieces */
    assert_ok(gguf_write_data(w, (float[]){2, 3}, 8, &e), e);
    assert_ok(gguf_write_data(w, (uint16_t[]){1, 2, 3, 4}, 8, &e), e);
    assert_int_equal(access(path, F_OK), -1); /* not before the commit */
    assert_ok(gguf_writer_commit(w, &e), e);
    assert_file_is(path, r.b, r.n);
    unlink(path);
}

static bool is_u8(const char *key)
{
    return strcmp(key, "s.u8") == 0;
}

static void a_copied_file_has_the_same_bytes(void **state)
{
    (void)state;
    struct raw r;
    raw_sample(&r, 3);
    struct gguf *g;
    struct gguf_writer *w;
    cadre_error e = {0};
    char in[32], path[64];
    int fd = memory_file(r.b, r.n, in);
    temp_name(path, "copy.gguf");
    assert_ok(gguf_open(&g, in, &e), e);
    for (int skipping = 0; skipping < 2; skipping++) {
        assert_ok(gguf_writer_open(&w, path, &e), e);
        assert_ok(gguf_put_all(w, g, skipping ? is_u8 : NULL, &e), e);
        for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
            const struct gguf_tensor *t = gguf_tensor_at(g, i);
            assert_ok(gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, &e), e);
        }
        assert_ok(gguf_write_begin(w, &e), e);
        for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
            unsigned char bytes[256];
            assert_ok(gguf_tensor_read(g, gguf_tensor_at(g, i), bytes, &e), e);
            assert_ok(gguf_write_data(w, bytes, gguf_tensor_at(g, i)->bytes, &e), e);
        }
        assert_ok(gguf_writer_commit(w, &e), e);
        if (!skipping) {
            assert_file_is(path, r.b, r.n);
            continue;
        }
        struct gguf *copy;
        assert_ok(gguf_open(&copy, path, &e), e);
        assert_int_equal(gguf_kv_count(copy), RAW_KVS - 1);
        assert_false(gguf_has(copy, "s.u8"));
        gguf_close(copy);
    }
    gguf_close(g);
    close(fd);
    unlink(path);
}

static void writer_refuses_what_would_not_open(void **state)
{
    (void)state;
    char path[64], name[70000];
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = 0;
    temp_name(path, "refused.gguf");
    cadre_error e = {0};
    struct gguf_writer *w;
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_ok(gguf_put_u32(w, "k", 1, &e), e);
    assert_int_equal(gguf_put_bool(w, "k", true, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_bool(w, "", true, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_bool(w, name, true, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_u32(w, "general.alignment", 33, &e), CADRE_E_FORMAT);
    assert_int_equal(gguf_put_f32(w, "general.alignment", 32, &e), CADRE_E_ARG);
    int64_t one = 1, zero = 0, odd = 33, big[] = {INT64_MAX, 2};
    assert_ok(gguf_put_tensor(w, "t", DTYPE_F32, 1, &one, &e), e);
    assert_int_equal(gguf_put_tensor(w, "t", DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_F32, 1, &zero, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_F32, 5, big, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_F32, 2, big, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_F32, 1, big, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_Q8_0, 1, &odd, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_U8, 1, &one, &e), CADRE_E_UNSUPPORTED);
    assert_int_equal(gguf_put_tensor(w, "u", DTYPE_NONE, 1, &one, &e), CADRE_E_UNSUPPORTED);
    assert_int_equal(gguf_write_data(w, "abcd", 4, &e), CADRE_E_ARG);
    assert_ok(gguf_write_begin(w, &e), e);
    assert_int_equal(gguf_write_begin(w, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_u32(w, "late", 1, &e), CADRE_E_ARG);
    assert_int_equal(gguf_put_tensor(w, "late", DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    assert_int_equal(gguf_write_data(w, "abcdefgh", 8, &e), CADRE_E_ARG);
    assert_ok(gguf_write_data(w, "abc", 3, &e), e);
    assert_int_equal(gguf_writer_commit(w, &e), CADRE_E_ARG); /* one byte is missing */
    assert_non_null(strstr(e.text, "'t'"));
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_int_equal(gguf_writer_commit(w, &e), CADRE_E_ARG);
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_int_equal(gguf_put_string(w, "half", "", SIZE_MAX, &e), CADRE_E_ARG); /* its key is in already */
    assert_int_equal(gguf_write_begin(w, &e), CADRE_E_ARG);
    gguf_writer_abort(w);
    assert_int_equal(access(path, F_OK), -1);
    gguf_writer_abort(NULL);
    gguf_close(NULL);
}

static void large_files_are_indexed(void **state)
{
    (void)state;
    enum { TOKENS = 150000, TENSORS = 10000 };
    char path[64], *text = malloc(16 * TOKENS), name[32];
    struct gguf_string *tokens = malloc(TOKENS * sizeof *tokens);
    for (int i = 0; i < TOKENS; i++) {
        tokens[i].p = text + 16 * i;
        tokens[i].n = (uint64_t)snprintf(text + 16 * i, 16, "token %d", i);
    }
    temp_name(path, "large.gguf");
    cadre_error e = {0};
    struct gguf_writer *w;
    assert_ok(gguf_writer_open(&w, path, &e), e);
    assert_ok(gguf_put_strings(w, "tokens", tokens, TOKENS, &e), e);
    int64_t dim = 8;
    for (int i = 0; i < TENSORS; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        assert_ok(gguf_put_tensor(w, name, DTYPE_F32, 1, &dim, &e), e);
    }
    assert_ok(gguf_write_begin(w, &e), e);
    for (int i = 0; i < TENSORS; i++) {
        float row[8] = {(float)i};
        assert_ok(gguf_write_data(w, row, sizeof row, &e), e);
    }
    assert_ok(gguf_writer_commit(w, &e), e);
    struct gguf *g;
    assert_ok(gguf_open(&g, path, &e), e);
    const struct gguf_string *got;
    int64_t n;
    bool found;
    assert_ok(gguf_get_strings(g, "tokens", &got, &n, &found, &e), e);
    assert_int_equal(n, TOKENS);
    for (int i = 0; i < TOKENS; i++)
        assert_true(got[i].n == tokens[i].n && strcmp(got[i].p, tokens[i].p) == 0);
    for (int i = 0; i < TENSORS; i++) {
        float row[8];
        snprintf(name, sizeof name, "blk.%d.weight", i);
        const struct gguf_tensor *t = gguf_tensor_find(g, name);
        assert_ptr_equal(t, gguf_tensor_at(g, i));
        assert_ok(gguf_tensor_read(g, t, row, &e), e);
        assert_true(row[0] == (float)i);
    }
    gguf_close(g);
    unlink(path);
    free(tokens);
    free(text);
}

static void a_missing_file_is_named(void **state)
{
    (void)state;
    cadre_error e = {0};
    struct gguf *g;
    assert_int_equal(gguf_open(&g, "/nowhere/x.gguf", &e), CADRE_E_IO);
    assert_non_null(strstr(e.text, "/nowhere/x.gguf"));
    assert_int_equal(gguf_open(&g, "/tmp", &e), CADRE_E_IO);
    assert_int_equal(gguf_open(&g, "/nowhere", NULL), CADRE_E_IO); /* err may be NULL */
    struct gguf_writer *w;
    assert_int_equal(gguf_writer_open(&w, "/nowhere/x.gguf", &e), CADRE_E_IO);
    assert_null(w);
}

#ifdef GOLDEN
static int open_golden(const char *folder, int *opened, int *unsupported)
{
    char path[1024];
    int seen = 0;
    snprintf(path, sizeof path, GOLDEN "/%s", folder);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        size_t n = strlen(d->d_name);
        if (n < 5 || strcmp(d->d_name + n - 5, ".gguf") != 0)
            continue;
        cadre_error e = {0};
        struct gguf *g;
        seen++;
        snprintf(path, sizeof path, GOLDEN "/%s/%s", folder, d->d_name);
        cadre_err rc = gguf_open(&g, path, &e);
        if (rc == CADRE_OK) {
            ++*opened;
            assert_true(gguf_has(g, "general.architecture"));
            walk_gguf(g);
            gguf_close(g);
        } else {
            ++*unsupported;
            assert_int_equal(rc, CADRE_E_UNSUPPORTED);
            assert_non_null(strstr(e.text, "unsupported type"));
            assert_non_null(strstr(e.text, d->d_name));
        }
    }
    closedir(dir);
    return seen;
}

static void golden_files_open(void **state)
{
    (void)state;
    int opened = 0, unsupported = 0;
    int seen = open_golden("models", &opened, &unsupported) + open_golden("tokenizers", &opened, &unsupported);
    assert_true(seen > 0 && opened > 0);
    assert_int_equal(unsupported, 0);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_type_is_read),
        cmocka_unit_test(tensors_are_found_and_read),
        cmocka_unit_test(getters_refuse_other_kinds),
        cmocka_unit_test(wrong_files_are_refused),
        cmocka_unit_test(wrong_tensors_are_refused),
        cmocka_unit_test(writer_makes_the_format_s_bytes),
        cmocka_unit_test(a_copied_file_has_the_same_bytes),
        cmocka_unit_test(writer_refuses_what_would_not_open),
        cmocka_unit_test(large_files_are_indexed),
        cmocka_unit_test(a_missing_file_is_named),
#ifdef GOLDEN
        cmocka_unit_test(golden_files_open),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
