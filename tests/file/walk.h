/* Use everything that an opened file offers, so that a sanitizer sees every byte that an accessor hands out. */
#ifndef CADRE_TESTS_FILE_WALK_H
#define CADRE_TESTS_FILE_WALK_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file/gguf.h"
#include "file/safetensors.h"

enum { WALK_TENSOR_BYTES = 1 << 16 }; /* larger ones are not read */

static inline uint64_t walk_bytes(const void *p, uint64_t n)
{
    uint64_t sum = n;
    for (uint64_t i = 0; i < n; i++)
        sum = sum * 31 + ((const unsigned char *)p)[i];
    return sum;
}

static inline uint64_t walk_key(const struct gguf *g, const char *key)
{
    cadre_error err;
    struct gguf_string string = {0};
    const struct gguf_string *strings = NULL;
    const int64_t *integers = NULL;
    const double *floats = NULL;
    int64_t i64 = 0, n;
    double f64 = 0;
    bool b = false, found;
    uint64_t sum = strlen(key) + gguf_has(g, key);
    if (gguf_get_i64(g, key, &i64, &found, &err) == 0 && gguf_get_f64(g, key, &f64, &found, &err) == 0 &&
        gguf_get_bool(g, key, &b, &found, &err) == 0)
        abort(); /* no value is an integer, a float and a bool */
    if (gguf_get_string(g, key, &string, &found, &err) == 0)
        sum += walk_bytes(string.p, string.n + 1);
    if (gguf_get_strings(g, key, &strings, &n, &found, &err) == 0)
        for (int64_t i = 0; i < n; i++)
            sum += walk_bytes(strings[i].p, strings[i].n + 1);
    if (gguf_get_i64s(g, key, &integers, &n, &found, &err) == 0)
        sum += walk_bytes(integers, (uint64_t)n * sizeof *integers);
    if (gguf_get_f64s(g, key, &floats, &n, &found, &err) == 0)
        sum += walk_bytes(floats, (uint64_t)n * sizeof *floats);
    return sum + (uint64_t)i64 + (f64 > 0);
}

static inline uint64_t walk_gguf(const struct gguf *g)
{
    uint64_t sum = 0;
    cadre_error err;
    unsigned char buffer[WALK_TENSOR_BYTES];
    for (int64_t i = 0; i < gguf_kv_count(g); i++)
        sum += walk_key(g, gguf_kv_key(g, i));
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (gguf_tensor_find(g, t->name) != t)
            abort();
        if (t->bytes <= sizeof buffer && gguf_tensor_read(g, t, buffer, &err) == 0)
            sum += walk_bytes(buffer, t->bytes);
    }
    return sum;
}

static inline uint64_t walk_safetensors(const struct safetensors *s)
{
    uint64_t sum = 0;
    cadre_error err;
    unsigned char buffer[WALK_TENSOR_BYTES];
    const char *note = safetensors_metadata(s, "note");
    sum += note ? strlen(note) : 0;
    for (int64_t i = 0; i < safetensors_count(s); i++) {
        const struct st_tensor *t = safetensors_at(s, i);
        if (safetensors_find(s, t->name) != t)
            abort();
        if (t->bytes <= sizeof buffer && safetensors_read(s, t, buffer, &err) == 0)
            sum += walk_bytes(buffer, t->bytes);
    }
    return sum;
}

/* A file of these bytes without a name; path receives the way to open it. Close the result. */
static inline int memory_file(const void *p, size_t n, char path[32])
{
    int fd = memfd_create("input", MFD_CLOEXEC);
    if (fd < 0 || write(fd, p, n) != (ssize_t)n)
        abort();
    snprintf(path, 32, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
