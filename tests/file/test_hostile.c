/* Damaged files, failing allocations, full disks: each opens or is refused with a text; none crashes, leaks, or makes
 * the library ask for much memory. Sanitizer builds run the same corpus and see more. */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <jansson.h>

#include "alloc.h"
#include "base/rng.h"
#include "raw.h"
#include "walk.h"

enum { RANDOM_VARIANTS = 4000, MAX_BYTES_ASKED = 64 << 20 };

struct tally {
    int opened, refused;
};

enum format { FORMAT_GGUF, FORMAT_SAFETENSORS };

static cadre_err open_and_walk(enum format format, const char *path, cadre_error *e)
{
    cadre_err rc;
    if (format == FORMAT_GGUF) {
        struct gguf *g;
        rc = gguf_open(&g, path, e);
        if (rc == CADRE_OK)
            walk_gguf(g);
        else
            assert_null(g);
        gguf_close(g);
    } else {
        struct safetensors *s;
        rc = safetensors_open(&s, path, e);
        if (rc == CADRE_OK)
            walk_safetensors(s);
        else
            assert_null(s);
        safetensors_close(s);
    }
    return rc;
}

static void try_bytes(enum format format, const void *p, size_t n, struct tally *tally)
{
    cadre_error e = {0};
    char path[32];
    int fd = memory_file(p, n, path);
    size_t live = alloc_live();
    alloc_state = (struct alloc_state){0};
    cadre_err rc = open_and_walk(format, path, &e);
    assert_true(alloc_state.bytes < MAX_BYTES_ASKED);
    assert_int_equal(alloc_live(), live);
    if (rc != CADRE_OK) {
        assert_true(rc == CADRE_E_FORMAT || rc == CADRE_E_UNSUPPORTED);
        assert_int_equal(e.code, rc);
        assert_non_null(strstr(e.text, path));
        tally->refused++;
    } else {
        tally->opened++;
    }
    close(fd);
}

static void flip_and_try(enum format format, const unsigned char *bytes, size_t n, struct tally *tally)
{
    struct rng rng;
    rng_seed(&rng, 7);
    unsigned char *damaged = malloc(n);
    for (int i = 0; i < RANDOM_VARIANTS; i++) {
        memcpy(damaged, bytes, n);
        int flips = 1 + (int)rng_below(&rng, 8);
        for (int k = 0; k < flips; k++)
            damaged[rng_below(&rng, n)] = (unsigned char)rng_u64(&rng);
        try_bytes(format, damaged, n, tally);
    }
    free(damaged);
}

static void damaged_gguf(void **state)
{
    (void)state;
    static const uint64_t absurd[] = {0,
                                      1,
                                      2,
                                      3,
                                      255,
                                      256,
                                      1u << 16,
                                      1u << 24,
                                      (1u << 24) + 1,
                                      1u << 28,
                                      (1u << 28) + 1,
                                      INT32_MAX,
                                      1u << 31,
                                      UINT32_MAX,
                                      1ull << 32,
                                      1ull << 40,
                                      INT64_MAX,
                                      1ull << 63,
                                      UINT64_MAX - 7,
                                      UINT64_MAX - 1,
                                      UINT64_MAX};
    struct raw r, damaged;
    struct tally cut = {0}, absurdities = {0}, random = {0};
    raw_sample(&r, 3);
    for (size_t n = 0; n < r.n; n++)
        try_bytes(FORMAT_GGUF, r.b, n, &cut);
    assert_true(cut.opened <= 54 && cut.refused > 1000); /* only the padding of the last tensor may be missing */
    for (int f = 0; f < r.n_fields; f++)
        for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
            damaged = r;
            memcpy(damaged.b + r.field[f].at, &absurd[i], (size_t)r.field[f].bytes);
            try_bytes(FORMAT_GGUF, damaged.b, damaged.n, &absurdities);
        }
    flip_and_try(FORMAT_GGUF, r.b, r.n, &random);
    assert_true(absurdities.refused > 1000 && random.refused > 1000 && random.opened > 10);
    print_message("opened / refused: cut %d / %d, absurd %d / %d, random %d / %d\n", cut.opened, cut.refused,
                  absurdities.opened, absurdities.refused, random.opened, random.refused);
}

static size_t safetensors_sample(unsigned char *out)
{
    static const char header[] = "{\"__metadata__\":{\"note\":\"a\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],"
                                 "\"data_offsets\":[0,24]},\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":"
                                 "[24,32]},\"e\":{\"dtype\":\"I8\",\"shape\":[0],\"data_offsets\":[24,24]}}";
    uint64_t n = sizeof header - 1;
    memcpy(out, &n, 8);
    memcpy(out + 8, header, n);
    memset(out + 8 + n, 0x3c, 32);
    return 8 + n + 32;
}

static void damaged_safetensors(void **state)
{
    (void)state;
    unsigned char bytes[1024];
    size_t n = safetensors_sample(bytes);
    struct tally whole = {0}, cut = {0}, absurd = {0}, random = {0};
    try_bytes(FORMAT_SAFETENSORS, bytes, n, &whole);
    assert_int_equal(whole.opened, 1);
    for (size_t i = 0; i < n; i++)
        try_bytes(FORMAT_SAFETENSORS, bytes, i, &cut);
    assert_int_equal(cut.opened, 0);
    flip_and_try(FORMAT_SAFETENSORS, bytes, n, &random);
    static const uint64_t lengths[] = {0, 1, 100000000, 100000001, UINT32_MAX, INT64_MAX, UINT64_MAX - 7, UINT64_MAX};
    for (int i = 0; i < 8; i++) {
        memcpy(bytes, &lengths[i], 8);
        try_bytes(FORMAT_SAFETENSORS, bytes, n, &absurd);
    }
    assert_int_equal(absurd.opened, 0);
    assert_true(random.refused > 1000 && random.opened > 10);
    print_message("opened / refused: random %d / %d\n", random.opened, random.refused);
}

static cadre_err write_gguf(const char *path, uint64_t n, cadre_error *e)
{
    struct gguf_writer *w;
    int64_t dim = (int64_t)n;
    cadre_err rc = gguf_writer_open(&w, path, e);
    if (rc != CADRE_OK)
        return rc;
    rc = gguf_put_string(w, "key", "value", 5, e);
    rc = rc ? rc : gguf_put_strings(w, "strings", (struct gguf_string[]){{"a", 1}}, 1, e);
    rc = rc ? rc : gguf_put_tensor(w, "tensor", DTYPE_I8, 1, &dim, e);
    rc = rc ? rc : gguf_write_begin(w, e);
    static const char zeros[4096];
    for (uint64_t done = 0; rc == CADRE_OK && done < n; done += sizeof zeros)
        rc = gguf_write_data(w, zeros, n - done < sizeof zeros ? n - done : sizeof zeros, e);
    if (rc == CADRE_OK)
        return gguf_writer_commit(w, e);
    gguf_writer_abort(w);
    return rc;
}

static cadre_err write_safetensors(const char *path, uint64_t n, cadre_error *e)
{
    struct safetensors_writer *w;
    int64_t dim = (int64_t)n;
    cadre_err rc = safetensors_writer_open(&w, path, e);
    if (rc != CADRE_OK)
        return rc;
    rc = safetensors_put_metadata(w, "note", "value", e);
    rc = rc ? rc : safetensors_put(w, "tensor", DTYPE_I8, 1, &dim, e);
    rc = rc ? rc : safetensors_write_begin(w, e);
    static const char zeros[4096];
    for (uint64_t done = 0; rc == CADRE_OK && done < n; done += sizeof zeros)
        rc = safetensors_write(w, zeros, n - done < sizeof zeros ? n - done : sizeof zeros, e);
    if (rc == CADRE_OK)
        return safetensors_writer_commit(w, e);
    safetensors_writer_abort(w);
    return rc;
}

static cadre_err read_as_gguf(const char *path, uint64_t n, cadre_error *e)
{
    (void)n;
    return open_and_walk(FORMAT_GGUF, path, e);
}

static cadre_err read_as_safetensors(const char *path, uint64_t n, cadre_error *e)
{
    (void)n;
    return open_and_walk(FORMAT_SAFETENSORS, path, e);
}

static void temp_name(char path[64], const char *suffix)
{
    snprintf(path, 64, "/tmp/cadre-test-%ld-%s", (long)getpid(), suffix);
}

/* Neither the file nor the temporary one beside it. */
static void assert_nothing_left(const char *path)
{
    char tmp[128];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(access(tmp, F_OK), -1);
}

/* Fail the first, second, third … allocation until the call succeeds. `other` is a second code that is allowed: the
 * JSON parser takes some strings that it has no memory for as wrong JSON. */
static void every_allocation_fails_once(cadre_err (*call)(const char *, uint64_t, cadre_error *), const char *path,
                                        cadre_err other, bool writes, int least)
{
    int failed = 0, for_memory = 0;
    for (;; failed++) {
        cadre_error e = {0};
        size_t live = alloc_live();
        alloc_state = (struct alloc_state){.countdown = failed + 1};
        cadre_err rc = call(path, 100, &e);
        alloc_state = (struct alloc_state){0};
        if (rc == CADRE_OK)
            break;
        if ((rc != CADRE_E_MEMORY && rc != other) || e.code != rc || e.text[0] == 0)
            fail_msg("allocation %d: expected a clean error, found %d: %s", failed + 1, rc, e.text);
        for_memory += rc == CADRE_E_MEMORY;
        assert_int_equal(alloc_live(), live);
        if (writes)
            assert_nothing_left(path);
        assert_true(failed < 10000);
    }
    assert_true(for_memory >= least); /* the allocator was really in the way */
}

static void failing_allocations(void **state)
{
    (void)state;
    struct raw r;
    unsigned char st[1024];
    char in_gguf[32], in_st[32], path[64];
    raw_sample(&r, 3);
    int a = memory_file(r.b, r.n, in_gguf), b = memory_file(st, safetensors_sample(st), in_st);
    every_allocation_fails_once(read_as_gguf, in_gguf, CADRE_E_MEMORY, false, 8);
    every_allocation_fails_once(read_as_safetensors, in_st, CADRE_E_FORMAT, false, 20);
    close(a);
    close(b);
    temp_name(path, "alloc");
    every_allocation_fails_once(write_gguf, path, CADRE_E_MEMORY, true, 8);
    unlink(path);
    every_allocation_fails_once(write_safetensors, path, CADRE_E_MEMORY, true, 8);
    unlink(path);
}

/* The kernel refuses to let files grow beyond 64 KiB, as a full disk would. */
static void full_disk(void **state)
{
    (void)state;
    struct rlimit old, small;
    char path[64];
    temp_name(path, "full");
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 65536;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    cadre_error e[4] = {0};
    cadre_err rc[4];
    static const uint64_t sizes[2] = {1 << 20, 65500}; /* fails while writing; only when the buffer is flushed */
    for (int i = 0; i < 2; i++) {
        rc[2 * i] = write_gguf(path, sizes[i], &e[2 * i]);
        rc[2 * i + 1] = write_safetensors(path, sizes[i], &e[2 * i + 1]);
    }
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(rc[i], CADRE_E_IO);
        assert_non_null(strstr(e[i].text, strerror(EFBIG)));
        assert_non_null(strstr(e[i].text, path));
    }
    assert_nothing_left(path);
}

int main(void)
{
    json_set_alloc_funcs(malloc, free); /* jansson's allocations pass through alloc.c too */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_gguf),
        cmocka_unit_test(damaged_safetensors),
        cmocka_unit_test(failing_allocations),
        cmocka_unit_test(full_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
