/* safetensors: the header as the format says, every field checked, what is written is read back to the byte. */
#include "test.h"

#include <dirent.h>
#include <unistd.h>

#include <jansson.h>

#include "base/fileio.h"
#include "walk.h"

/* A file of this header and n bytes of data: 0, 1, 2, … */
static struct safetensors *open_header(const char *header, size_t n, cadre_err expected, const char *part)
{
    unsigned char bytes[4096];
    uint64_t length = strlen(header);
    memcpy(bytes, &length, 8);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < n; i++)
        bytes[8 + length + i] = (unsigned char)i;
    cadre_error e = {0};
    struct safetensors *s;
    char path[32];
    int fd = memory_file(bytes, 8 + length + n, path);
    cadre_err rc = safetensors_open(&s, path, &e);
    if (rc != expected || (part && !strstr(e.text, part)))
        fail_msg("%s: expected code %d and \"%s\", found %d: %s", header, expected, part ? part : "", rc, e.text);
    if (rc != CADRE_OK) {
        assert_null(s);
        assert_non_null(strstr(e.text, path));
    }
    close(fd);
    return s;
}

static void tensors_and_metadata_are_read(void **state)
{
    (void)state;
    struct safetensors *s = open_header("{\"b\":{\"dtype\":\"I16\",\"shape\":[2,1,2],\"data_offsets\":[4,12]},"
                                        "\"__metadata__\":{\"format\":\"pt\",\"empty\":\"\"},"
                                        "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},"
                                        "\"z\":{\"dtype\":\"F64\",\"shape\":[3,0],\"data_offsets\":[4,4]},"
                                        "\"one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[12,16]}}  ",
                                        16, CADRE_OK, NULL);
    assert_int_equal(safetensors_count(s), 4);
    assert_string_equal(safetensors_at(s, 0)->name, "a"); /* in the order of the data */
    assert_string_equal(safetensors_at(s, 1)->name, "z");
    const struct st_tensor *t = safetensors_find(s, "b");
    assert_ptr_equal(t, safetensors_at(s, 2));
    assert_true(t->type == DTYPE_I16 && t->n_dims == 3 && t->dim[0] == 2 && t->dim[1] == 1 && t->dim[2] == 2);
    unsigned char bytes[8];
    cadre_error e = {0};
    assert_int_equal(t->bytes, 8);
    assert_ok(safetensors_read(s, t, bytes, &e), e);
    for (int i = 0; i < 8; i++)
        assert_int_equal(bytes[i], 4 + i);
    t = safetensors_find(s, "one");
    assert_true(t->n_dims == 0 && t->bytes == 4);
    assert_null(safetensors_find(s, "__metadata__"));
    assert_string_equal(safetensors_metadata(s, "format"), "pt");
    assert_string_equal(safetensors_metadata(s, "empty"), "");
    assert_null(safetensors_metadata(s, "a"));
    walk_safetensors(s);
    safetensors_close(s);
    s = open_header("{}", 0, CADRE_OK, NULL);
    assert_int_equal(safetensors_count(s), 0);
    assert_null(safetensors_find(s, ""));
    assert_null(safetensors_metadata(s, "format"));
    safetensors_close(s);
    safetensors_close(NULL);
}

#define F32(name, shape, from, to)                                                                                     \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]}"

static void wrong_headers_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t n;
        cadre_err code;
        const char *text;
    } rows[] = {
        {"", 0, CADRE_E_FORMAT, "header"},
        {"  {}", 0, CADRE_E_FORMAT, "beginning with '{'"},
        {"[]", 0, CADRE_E_FORMAT, "beginning with '{'"},
        {"{ ", 0, CADRE_E_FORMAT, "expected JSON"},
        {"{}x", 0, CADRE_E_FORMAT, "expected JSON"},
        {"{\"a\xff\":1}", 0, CADRE_E_FORMAT, "expected JSON"},
        {"{" F32("a", "[1]", "0", "4") "," F32("a", "[1]", "0", "4") "}", 4, CADRE_E_FORMAT, "duplicate"},
        {"{\"a\":1}", 0, CADRE_E_FORMAT, "tensor 'a'"},
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, CADRE_E_FORMAT, "'dtype'"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, CADRE_E_UNSUPPORTED, "tensor 'a'"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, CADRE_E_UNSUPPORTED, "dtype 'F4'"},
        {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, CADRE_E_FORMAT, "shape"},
        {"{" F32("a", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, CADRE_E_FORMAT, "at most 8"},
        {"{" F32("a", "[-1]", "0", "4") "}", 4, CADRE_E_FORMAT, "dimension 0"},
        {"{" F32("a", "[1.0]", "0", "4") "}", 4, CADRE_E_FORMAT, "dimension 0"},
        {"{" F32("a", "[2,\"1\"]", "0", "8") "}", 8, CADRE_E_FORMAT, "dimension 1"},
        {"{" F32("a", "[4294967296,4294967296]", "0", "0") "}", 0, CADRE_E_FORMAT, "product"},
        {"{" F32("a", "[4294967296,1073741824]", "0", "0") "}", 0, CADRE_E_FORMAT, "numbers of type F32"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, CADRE_E_FORMAT, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4,4]}}", 4, CADRE_E_FORMAT, "two whole numbers"},
        {"{" F32("a", "[1]", "-4", "0") "}", 4, CADRE_E_FORMAT, "two whole numbers"},
        {"{" F32("a", "[1]", "4", "0") "}", 4, CADRE_E_FORMAT, "within 4 bytes"},
        {"{" F32("a", "[2]", "0", "8") "}", 4, CADRE_E_FORMAT, "within 4 bytes"},
        {"{" F32("a", "[1]", "0", "8") "}", 8, CADRE_E_FORMAT, "expected 1 numbers"},
        {"{" F32("a", "[1]", "0", "99999999999999999999") "}", 8, CADRE_E_FORMAT, "expected JSON"},
        {"{" F32("a", "[1]", "0", "4") "," F32("b", "[1]", "0", "4") "}", 4, CADRE_E_FORMAT, "where the one before"},
        {"{" F32("a", "[1]", "0", "4") "," F32("b", "[1]", "2", "6") "}", 6, CADRE_E_FORMAT, "where the one before"},
        {"{" F32("a", "[1]", "0", "4") "," F32("b", "[1]", "8", "12") "}", 12, CADRE_E_FORMAT, "where the one before"},
        {"{" F32("a", "[1]", "4", "8") "}", 8, CADRE_E_FORMAT, "where the one before"},
        {"{" F32("a", "[1]", "0", "4") "}", 5, CADRE_E_FORMAT, "end with its last tensor"},
        {"{}", 1, CADRE_E_FORMAT, "end with its last tensor"},
        {"{\"__metadata__\":[]}", 0, CADRE_E_FORMAT, "__metadata__"},
        {"{\"__metadata__\":{\"k\":1}}", 0, CADRE_E_FORMAT, "'k'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        open_header(rows[i].header, rows[i].n, rows[i].code, rows[i].text);
}

static void temp_name(char path[64], const char *suffix)
{
    snprintf(path, 64, "/tmp/cadre-test-%ld-%s", (long)getpid(), suffix);
}

static void written_files_follow_the_format(void **state)
{
    (void)state;
    char path[64];
    temp_name(path, "a.safetensors");
    cadre_error e = {0};
    struct safetensors_writer *w;
    assert_ok(safetensors_writer_open(&w, path, &e), e);
    assert_ok(safetensors_put(w, "w \"\xc3\xa4\"", DTYPE_F32, 2, (int64_t[]){2, 3}, &e), e);
    assert_ok(safetensors_put_metadata(w, "format", "pt", &e), e);
    assert_ok(safetensors_put(w, "none", DTYPE_F32, 1, (int64_t[]){0}, &e), e);
    assert_ok(safetensors_put(w, "scalar", DTYPE_BF16, 0, NULL, &e), e);
    assert_ok(safetensors_write_begin(w, &e), e);
    assert_ok(safetensors_write(w, (float[]){1, 2}, 8, &e), e);
    assert_ok(safetensors_write(w, (float[]){3, 4, 5, 6}, 16, &e), e);
    assert_ok(safetensors_write(w, "\x80\x3f", 2, &e), e);
    assert_int_equal(access(path, F_OK), -1);
    assert_ok(safetensors_writer_commit(w, &e), e);

    /* Without our reader: length, padding, JSON, data. */
    char *bytes;
    size_t size;
    assert_ok(file_slurp(path, 1 << 20, &bytes, &size, &e), e);
    uint64_t n;
    memcpy(&n, bytes, 8);
    assert_int_equal(n % 8, 0);
    assert_int_equal(size, 8 + n + 26);
    float data[6];
    memcpy(data, bytes + 8 + n, sizeof data);
    assert_true(data[0] == 1 && data[5] == 6);
    json_t *header = json_loadb(bytes + 8, n, 0, NULL);
    json_t *want = json_pack("{s:{s:s}, s:{s:s,s:[i,i],s:[i,i]}, s:{s:s,s:[i],s:[i,i]}, s:{s:s,s:[],s:[i,i]}}",
                             "__metadata__", "format", "pt", "w \"\xc3\xa4\"", "dtype", "F32", "shape", 2, 3,
                             "data_offsets", 0, 24, "none", "dtype", "F32", "shape", 0, "data_offsets", 24, 24,
                             "scalar", "dtype", "BF16", "shape", "data_offsets", 24, 26);
    assert_non_null(want);
    assert_true(json_equal(header, want));
    json_decref(header);
    json_decref(want);
    free(bytes);

    struct safetensors *s;
    assert_ok(safetensors_open(&s, path, &e), e);
    assert_int_equal(safetensors_count(s), 3);
    const struct st_tensor *t = safetensors_find(s, "w \"\xc3\xa4\"");
    assert_true(t && t->dim[0] == 2 && t->dim[1] == 3);
    assert_ok(safetensors_read(s, t, data, &e), e);
    assert_true(data[2] == 3);
    assert_string_equal(safetensors_metadata(s, "format"), "pt");
    safetensors_close(s);
    unlink(path);
}

static void writer_refuses_what_would_not_open(void **state)
{
    (void)state;
    char path[64];
    temp_name(path, "b.safetensors");
    cadre_error e = {0};
    struct safetensors_writer *w;
    int64_t one = 1, minus = -1, big[9] = {INT64_MAX, 2};
    assert_ok(safetensors_writer_open(&w, path, &e), e);
    assert_ok(safetensors_put(w, "t", DTYPE_F32, 1, &one, &e), e);
    assert_int_equal(safetensors_put(w, "t", DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put(w, "__metadata__", DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    static const char *const not_utf8[] = {"\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82"};
    for (int i = 0; i < 6; i++)
        assert_int_equal(safetensors_put(w, not_utf8[i], DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put(w, "q", DTYPE_Q8_0, 1, &one, &e), CADRE_E_UNSUPPORTED);
    assert_int_equal(safetensors_put(w, "q", DTYPE_NONE, 1, &one, &e), CADRE_E_UNSUPPORTED);
    assert_int_equal(safetensors_put(w, "q", DTYPE_F32, 1, &minus, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put(w, "q", DTYPE_F32, 9, big, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put(w, "q", DTYPE_F32, 2, big, &e), CADRE_E_ARG);
    assert_ok(safetensors_put_metadata(w, "k", "v", &e), e);
    assert_int_equal(safetensors_put_metadata(w, "k", "v", &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put_metadata(w, "l", "\xff", &e), CADRE_E_ARG);
    assert_int_equal(safetensors_write(w, "abcd", 4, &e), CADRE_E_ARG);
    assert_ok(safetensors_write_begin(w, &e), e);
    assert_int_equal(safetensors_write_begin(w, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put(w, "late", DTYPE_F32, 1, &one, &e), CADRE_E_ARG);
    assert_int_equal(safetensors_put_metadata(w, "late", "v", &e), CADRE_E_ARG);
    assert_int_equal(safetensors_write(w, "abcde", 5, &e), CADRE_E_ARG);
    assert_ok(safetensors_write(w, "abc", 3, &e), e);
    assert_int_equal(safetensors_writer_commit(w, &e), CADRE_E_ARG);
    assert_non_null(strstr(e.text, "1 more bytes"));
    assert_int_equal(access(path, F_OK), -1);
    safetensors_writer_abort(NULL);
}

#ifdef GOLDEN
static int open_folder(const char *folder)
{
    int opened = 0;
    char path[1024];
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        size_t n = strlen(d->d_name);
        snprintf(path, sizeof path, "%s/%s", folder, d->d_name);
        if (d->d_type == DT_DIR && d->d_name[0] != '.')
            opened += open_folder(path);
        if (n < 12 || strcmp(d->d_name + n - 12, ".safetensors") != 0)
            continue;
        cadre_error e = {0};
        struct safetensors *s;
        assert_ok(safetensors_open(&s, path, &e), e);
        walk_safetensors(s);
        safetensors_close(s);
        opened++;
    }
    closedir(dir);
    return opened;
}

static void golden_files_open(void **state)
{
    (void)state;
    int opened = open_folder(GOLDEN);
    assert_true(opened > 0);
    print_message("%d safetensors files opened\n", opened);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tensors_and_metadata_are_read),
        cmocka_unit_test(wrong_headers_are_refused),
        cmocka_unit_test(written_files_follow_the_format),
        cmocka_unit_test(writer_refuses_what_would_not_open),
#ifdef GOLDEN
        cmocka_unit_test(golden_files_open),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
