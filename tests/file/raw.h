/* GGUF bytes put together by hand, without the library's writer: the reference for what it writes, and the start of
 * every damaged file. The places of counts, lengths, types and offsets are remembered, to be damaged one by one. */
#ifndef CADRE_TESTS_FILE_RAW_H
#define CADRE_TESTS_FILE_RAW_H

#include <stdint.h>
#include <string.h>

#include "file/gguf.h"

struct raw {
    unsigned char b[8192];
    size_t n;
    struct {
        size_t at;
        int bytes;
    } field[512];
    int n_fields;
};

static inline void raw_put(struct raw *r, const void *p, size_t n)
{
    memcpy(r->b + r->n, p, n);
    r->n += n;
}

static inline void raw_field(struct raw *r, uint64_t v, int bytes)
{
    r->field[r->n_fields].at = r->n;
    r->field[r->n_fields++].bytes = bytes;
    raw_put(r, &v, (size_t)bytes);
}

static inline void raw_u32(struct raw *r, uint32_t v)
{
    raw_field(r, v, 4);
}

static inline void raw_u64(struct raw *r, uint64_t v)
{
    raw_field(r, v, 8);
}

static inline void raw_string(struct raw *r, const char *s)
{
    raw_u64(r, strlen(s));
    raw_put(r, s, strlen(s));
}

static inline void raw_head(struct raw *r, uint32_t version, uint64_t n_tensors, uint64_t n_kv)
{
    *r = (struct raw){0};
    raw_put(r, "GGUF", 4);
    raw_u32(r, version);
    raw_u64(r, n_tensors);
    raw_u64(r, n_kv);
}

static inline void raw_scalar(struct raw *r, const char *key, enum gguf_type type, const void *v, size_t bytes)
{
    raw_string(r, key);
    raw_u32(r, type);
    raw_put(r, v, bytes);
}

static inline void raw_array(struct raw *r, const char *key, enum gguf_type elem, uint64_t n, const void *v,
                             size_t bytes)
{
    raw_string(r, key);
    raw_u32(r, GGUF_ARRAY);
    raw_u32(r, elem);
    raw_u64(r, n);
    raw_put(r, v, bytes);
}

static inline void raw_tensor(struct raw *r, const char *name, int n_dims, const uint64_t *dim, uint32_t type,
                              uint64_t offset)
{
    raw_string(r, name);
    raw_u32(r, (uint32_t)n_dims);
    for (int i = 0; i < n_dims; i++)
        raw_u64(r, dim[i]);
    raw_u32(r, type);
    raw_u64(r, offset);
}

static inline void raw_align(struct raw *r, size_t alignment)
{
    while (r->n % alignment != 0)
        r->b[r->n++] = 0;
}

enum { RAW_ALIGNMENT = 64, RAW_KVS = 28, RAW_TENSORS = 3 };

#define RAW_VALUE(T, v) &(T){v}, sizeof(T)
#define RAW_VALUES(T, ...) (T[]){__VA_ARGS__}, sizeof((T[]){__VA_ARGS__})

/* Every value type, alone and in arrays, arrays of arrays, and three tensors. */
static inline void raw_sample(struct raw *r, uint32_t version)
{
    raw_head(r, version, RAW_TENSORS, RAW_KVS);
    raw_scalar(r, "general.alignment", GGUF_U32, RAW_VALUE(uint32_t, RAW_ALIGNMENT));
    raw_scalar(r, "s.u8", GGUF_U8, RAW_VALUE(uint8_t, 200));
    raw_scalar(r, "s.i8", GGUF_I8, RAW_VALUE(int8_t, -100));
    raw_scalar(r, "s.u16", GGUF_U16, RAW_VALUE(uint16_t, 60000));
    raw_scalar(r, "s.i16", GGUF_I16, RAW_VALUE(int16_t, -30000));
    raw_scalar(r, "s.u32", GGUF_U32, RAW_VALUE(uint32_t, 4000000000u));
    raw_scalar(r, "s.i32", GGUF_I32, RAW_VALUE(int32_t, -2000000000));
    raw_scalar(r, "s.u64", GGUF_U64, RAW_VALUE(uint64_t, UINT64_MAX));
    raw_scalar(r, "s.i64", GGUF_I64, RAW_VALUE(int64_t, INT64_MIN));
    raw_scalar(r, "s.f32", GGUF_F32, RAW_VALUE(float, 1.5f));
    raw_scalar(r, "s.f64", GGUF_F64, RAW_VALUE(double, 0.1));
    raw_scalar(r, "s.bool", GGUF_BOOL, RAW_VALUE(uint8_t, 1));
    raw_string(r, "s.string");
    raw_u32(r, GGUF_STRING);
    raw_u64(r, 5);
    raw_put(r, "a\0b\xff\n", 5);
    raw_string(r, "s.empty");
    raw_u32(r, GGUF_STRING);
    raw_string(r, "");
    raw_array(r, "a.u8", GGUF_U8, 3, RAW_VALUES(uint8_t, 0, 1, 255));
    raw_array(r, "a.i8", GGUF_I8, 2, RAW_VALUES(int8_t, -128, 127));
    raw_array(r, "a.u16", GGUF_U16, 1, RAW_VALUES(uint16_t, 65535));
    raw_array(r, "a.i16", GGUF_I16, 2, RAW_VALUES(int16_t, -1, 2));
    raw_array(r, "a.u32", GGUF_U32, 2, RAW_VALUES(uint32_t, 0, UINT32_MAX));
    raw_array(r, "a.i32", GGUF_I32, 2, RAW_VALUES(int32_t, INT32_MIN, 7));
    raw_array(r, "a.u64", GGUF_U64, 2, RAW_VALUES(uint64_t, 1, UINT64_MAX));
    raw_array(r, "a.i64", GGUF_I64, 2, RAW_VALUES(int64_t, INT64_MIN, INT64_MAX));
    raw_array(r, "a.f32", GGUF_F32, 3, RAW_VALUES(float, 1.25f, -0.5f, 3e38f));
    raw_array(r, "a.f64", GGUF_F64, 1, RAW_VALUES(double, 1e300));
    raw_array(r, "a.bool", GGUF_BOOL, 3, RAW_VALUES(uint8_t, 1, 0, 1));
    raw_array(r, "a.string", GGUF_STRING, 3, "", 0);
    raw_string(r, "first");
    raw_string(r, "");
    raw_string(r, "th\xc3\xafrd");
    raw_array(r, "a.none", GGUF_I32, 0, "", 0);
    raw_array(r, "a.nested", GGUF_ARRAY, 2, "", 0);
    raw_u32(r, GGUF_STRING);
    raw_u64(r, 2);
    raw_string(r, "x");
    raw_string(r, "yy");
    raw_u32(r, GGUF_ARRAY);
    raw_u64(r, 1);
    raw_u32(r, GGUF_I16);
    raw_u64(r, 2);
    raw_put(r, RAW_VALUES(int16_t, 5, 6));
    raw_tensor(r, "dense.weight", 2, (uint64_t[]){3, 2}, 0, 0);
    raw_tensor(r, "quant.weight", 3, (uint64_t[]){64, 1, 2}, 8, 64);
    raw_tensor(r, "half.bias", 1, (uint64_t[]){5}, 1, 64 + 192);
    raw_align(r, RAW_ALIGNMENT);
    static const size_t bytes[RAW_TENSORS] = {24, 136, 10};
    for (int t = 0; t < RAW_TENSORS; t++) {
        for (size_t i = 0; i < bytes[t]; i++)
            r->b[r->n++] = (unsigned char)(i * 7 + (size_t)t * 31 + 1);
        raw_align(r, RAW_ALIGNMENT);
    }
}

#endif
