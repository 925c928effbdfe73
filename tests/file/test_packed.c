/* Packed files: what was packed comes back byte for byte, strips are where they are said to be, and a file that lies is
 * refused. */
#include <fcntl.h>
#include <unistd.h>

#include "test.h"

#include "base/checked.h"
#include "base/fileio.h"
#include "base/rng.h"
#include "file/gguf_internal.h"
#include "file/gguf_packed.h"
#include "file/walk.h"

enum { ROWS = 20, SLICES = 3, K = 512 };

static char plain[64], packed[64], again[64];

static bool is_packed_type(enum dtype t)
{
    return dtype_info(t)->weight && dtype_info(t)->gguf >= 0 && gguf_can_pack(t, K);
}

static unsigned char *slurp(const char *path, size_t *n)
{
    char *p;
    assert_int_equal(file_slurp(path, 1 << 26, &p, n, NULL), CADRE_OK);
    return (unsigned char *)p;
}

static void spit(const char *path, const void *p, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

/* Of every format a stack and a matrix whose rows fill no strip, and a vector. */
static void write_plain(struct gguf_pack_tensor *how)
{
    struct gguf_writer *w;
    struct rng r;
    int n = 0;
    rng_seed(&r, 7);
    assert_int_equal(gguf_writer_open(&w, plain, NULL), CADRE_OK);
    assert_int_equal(gguf_put_string(w, "general.architecture", "llama", 5, NULL), CADRE_OK);
    assert_int_equal(gguf_put_string(w, "general.name", "Name", 4, NULL), CADRE_OK);
    for (enum dtype t = 0; t < DTYPE_COUNT; t++)
        for (int stack = 0; is_packed_type(t) && stack < 2; stack++) {
            char name[64];
            snprintf(name, sizeof name, "%s.%d", dtype_info(t)->name, stack);
            const int64_t dim[3] = {K, ROWS, SLICES};
            assert_int_equal(gguf_put_tensor(w, name, t, 2 + stack, dim, NULL), CADRE_OK);
            how[n] = (struct gguf_pack_tensor){n % 5 == 0, true, stack ? "stacks" : NULL};
            n++;
        }
    assert_int_equal(gguf_put_tensor(w, "vector", DTYPE_F32, 1, (const int64_t[]){5}, NULL), CADRE_OK);
    how[n++] = (struct gguf_pack_tensor){true, false, NULL};
    assert_int_equal(gguf_write_begin(w, NULL), CADRE_OK);
    for (int i = 0, at = 0; i < n; i++) {
        uint64_t bytes = 20;
        if (i < n - 1) {
            while (!is_packed_type((enum dtype)at))
                at++;
            dtype_size((enum dtype)at, (uint64_t)K * ROWS * (i % 2 ? SLICES : 1), &bytes);
            at += i % 2;
        }
        for (uint64_t j = 0; j < bytes; j++) {
            unsigned char byte = (unsigned char)rng_u64(&r);
            assert_int_equal(gguf_write_data(w, &byte, 1, NULL), CADRE_OK);
        }
    }
    assert_int_equal(gguf_writer_commit(w, NULL), CADRE_OK);
}

static int make(void **state)
{
    static struct gguf_pack_tensor how[4 * DTYPE_COUNT];
    struct gguf *g;
    cadre_error err = {0};
    (void)state;
    snprintf(plain, sizeof plain, "/tmp/cadre-plain-%ld", (long)getpid());
    snprintf(packed, sizeof packed, "/tmp/cadre-packed-%ld", (long)getpid());
    snprintf(again, sizeof again, "/tmp/cadre-again-%ld", (long)getpid());
    write_plain(how);
    assert_int_equal(gguf_open(&g, plain, &err), CADRE_OK);
    struct gguf_pack_options o = {.tensor = how};
    assert_int_equal(gguf_pack(packed, g, &o, &err), CADRE_OK);
    gguf_close(g);
    return 0;
}

static int sweep(void **state)
{
    (void)state;
    return unlink(plain) + unlink(packed) + unlink(again);
}

/* All but tq1_0, whose digits share bytes in a file: it stays in rows. */
static void formats_have_a_way_back(void **state)
{
    (void)state;
    for (enum dtype t = 0; t < DTYPE_COUNT; t++)
        if (dtype_info(t)->weight && dtype_info(t)->gguf >= 0)
            assert_int_equal(gguf_can_pack(t, K), t != DTYPE_TQ1_0);
}

static void it_reads_like_the_original(void **state)
{
    struct gguf *a, *b;
    cadre_error err = {0};
    (void)state;
    assert_int_equal(gguf_open(&a, plain, &err), CADRE_OK);
    assert_int_equal(gguf_open(&b, packed, &err), CADRE_OK);
    assert_true(gguf_is_packed(b) && !gguf_is_packed(a));
    assert_int_equal(gguf_kv_count(b), gguf_kv_count(a));
    assert_int_equal(gguf_tensor_count(b), gguf_tensor_count(a));
    for (int64_t i = 0; i < gguf_tensor_count(a); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(a, i);
        unsigned char *x = malloc(t->bytes), *y = malloc(t->bytes);
        assert_int_equal(gguf_tensor_read(a, t, x, &err), CADRE_OK);
        assert_int_equal(gguf_tensor_read(b, gguf_tensor_find(b, t->name), y, &err), CADRE_OK);
        assert_memory_equal(x, y, t->bytes);
        free(x);
        free(y);
    }
    gguf_close(a);
    gguf_close(b);
}

static void strips_lie_where_it_says(void **state)
{
    struct gguf *g;
    struct file_map map;
    uint64_t at, stride;
    (void)state;
    assert_int_equal(gguf_open(&g, packed, NULL), CADRE_OK);
    assert_int_equal(gguf_map(g, &map, NULL), CADRE_OK);
    for (int64_t i = 0; i < gguf_tensor_count(g) - 1; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        size_t bytes = t->bytes / (uint64_t)gguf_slices(t), n = packed_bytes(t->type, ROWS, K);
        unsigned char *rows = malloc(bytes), *strips = aligned_alloc(64, align_up(n, 64));
        assert_true(gguf_strips(g, t, &at, &stride));
        assert_int_equal(at % PACKED_ALIGN, 0);
        assert_int_equal(stride % PACKED_PAGE, 0);
        for (int64_t s = 0; s < gguf_slices(t); s++) {
            assert_int_equal(gguf_slice_read(g, t, s, rows, NULL), CADRE_OK);
            packed_fill(NULL, strips, t->type, rows, ROWS, K);
            assert_memory_equal(map.p + at + (uint64_t)s * stride, strips, n);
        }
        free(rows);
        free(strips);
    }
    assert_false(gguf_strips(g, gguf_tensor_find(g, "vector"), &at, &stride));
    gguf_close(g);
    file_map_close(&map);
}

static void undo_gives_the_file_back(void **state)
{
    struct gguf *g;
    size_t n, m;
    struct gguf_pack_options o = {0};
    cadre_error err = {0};
    (void)state;
    assert_int_equal(gguf_open(&g, packed, NULL), CADRE_OK);
    assert_int_equal(gguf_unpack(again, g, &o, NULL), CADRE_OK);
    assert_int_equal(gguf_pack(again, g, &o, &err), CADRE_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "not packed yet"));
    gguf_close(g);
    unsigned char *a = slurp(plain, &n), *b = slurp(again, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
    assert_int_equal(gguf_open(&g, plain, NULL), CADRE_OK);
    assert_int_equal(gguf_unpack(again, g, &o, NULL), CADRE_E_ARG);
    gguf_close(g);
}

static bool stop(void *user, int64_t done, int64_t total)
{
    assert_true(done <= total);
    return --*(int *)user > 0;
}

static void stopping_leaves_nothing(void **state)
{
    struct gguf *g;
    cadre_error err = {0};
    int calls = 3;
    char other[80], tmp[90];
    struct gguf_pack_options o = {.progress = stop, .user = &calls};
    (void)state;
    snprintf(other, sizeof other, "%s.stopped", plain);
    snprintf(tmp, sizeof tmp, "%s.tmp", other);
    assert_int_equal(gguf_open(&g, packed, NULL), CADRE_OK);
    assert_int_equal(gguf_unpack(other, g, &o, &err), CADRE_E_CANCELLED);
    assert_int_not_equal(access(other, F_OK), 0);
    assert_int_not_equal(access(tmp, F_OK), 0);
    gguf_close(g);
}

static void refuse(const unsigned char *p, size_t n, const char *text)
{
    struct gguf *g;
    cadre_error err = {0};
    spit(again, p, n);
    assert_int_not_equal(gguf_open(&g, again, &err), CADRE_OK);
    assert_null(g);
    assert_true(err.text[0] != 0);
    if (text && !strstr(err.text, text))
        fail_msg("expected '%s' in '%s'", text, err.text);
}

/* Where the bytes of `text` are. */
static size_t find(const unsigned char *p, size_t n, const char *text)
{
    const unsigned char *at = memmem(p, n, text, strlen(text));
    assert_non_null(at);
    return (size_t)(at - p);
}

static void lies_are_refused(void **state)
{
    size_t n, at;
    unsigned char *p = slurp(packed, &n);
    (void)state;
    refuse(p, n - 1, "cut short");
    refuse(p, n / 2, "cut short");
    at = find(p, n, GGUF_PACKED_VERSION) + strlen(GGUF_PACKED_VERSION) + 4;
    p[at]++;
    refuse(p, n, "expected version 1, found 2");
    p[at]--;
    at = find(p, n, "q4_0 ") + 5;
    p[at] ^= 1; /* another hexadecimal digit */
    refuse(p, n, "of q4_0, found");
    p[at] ^= 1;
    at = find(p, n, PACKED_SIZE) + strlen(PACKED_SIZE) + 4;
    p[at + 3]++;
    refuse(p, n, "what head and tensors take");
    p[at + 3]--;
    at = find(p, n, PACKED_TENSORS) + strlen(PACKED_TENSORS) + 4 + 4 + 8;
    p[at]++;
    refuse(p, n, "packed file");
    p[at]--;
    at = find(p, n, PACKED_HEAD);
    p[at]++;
    refuse(p, n, "expected a tensor 'cadre.head'");
    free(p);
}

/* Any byte of the head, and of the head inside, changed: refused with a text, or everything can be read. */
static void every_byte_of_the_heads_is_checked(void **state)
{
    struct gguf *g;
    size_t n, heads;
    unsigned char *p = slurp(packed, &n);
    (void)state;
    assert_int_equal(gguf_open_part(&g, packed, NULL), CADRE_OK);
    const struct gguf_tensor *head = gguf_tensor_find(g, PACKED_HEAD);
    heads = head->offset + head->bytes;
    gguf_close(g);
    spit(again, p, n);
    int fd = open(again, O_RDWR);
    for (size_t i = 0; i < heads; i += i < 4096 ? 1 : 3) {
        cadre_error err = {0};
        unsigned char byte = p[i] ^ 0x81;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)i), 1);
        cadre_err rc = gguf_open(&g, again, &err);
        assert_true((rc == CADRE_OK) == (g != NULL) && (rc == CADRE_OK || err.text[0]));
        for (int64_t t = 0; g && i % 64 == 0 && t < gguf_tensor_count(g); t++) {
            const struct gguf_tensor *x = gguf_tensor_at(g, t);
            void *rows = malloc(x->bytes + 1);
            gguf_tensor_read(g, x, rows, &err);
            free(rows);
        }
        gguf_close(g);
        assert_int_equal(pwrite(fd, &p[i], 1, (off_t)i), 1);
    }
    close(fd);
    free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_have_a_way_back),
        cmocka_unit_test(it_reads_like_the_original),
        cmocka_unit_test(strips_lie_where_it_says),
        cmocka_unit_test(undo_gives_the_file_back),
        cmocka_unit_test(stopping_leaves_nothing),
        cmocka_unit_test(lies_are_refused),
        cmocka_unit_test(every_byte_of_the_heads_is_checked),
    };
    return cmocka_run_group_tests(tests, make, sweep);
}
