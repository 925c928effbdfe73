#include "kernel/packed.h"

#include <string.h>

#include "base/checked.h"

/* One row of a matrix into lane `lane` of a strip. */
typedef void put_row_fn(char *strip, int64_t lane, const void *row, int64_t k);

static void put_f32(char *strip, int64_t lane, const void *row, int64_t k)
{
    for (int64_t j = 0; j < k; j++)
        ((real *)(void *)strip)[j * STRIP + lane] = ((const float *)row)[j];
}

static size_t f32_bytes(int64_t k)
{
    return (size_t)k * STRIP * sizeof(real);
}

#ifndef CADRE_F64
static void put_f16(char *strip, int64_t lane, const void *row, int64_t k)
{
    for (int64_t j = 0; j < k; j++)
        ((uint16_t *)(void *)strip)[j * STRIP + lane] = ((const uint16_t *)row)[j];
}

static size_t f16_bytes(int64_t k)
{
    return (size_t)k * STRIP * 2;
}

static void put_bf16(char *strip, int64_t lane, const void *row, int64_t k)
{
    for (int64_t j = 0; j < k; j++)
        ((uint16_t *)(void *)strip)[(j / 2 * STRIP + lane) * 2 + j % 2] = ((const uint16_t *)row)[j];
}

static size_t bf16_bytes(int64_t k)
{
    return (size_t)(k + k % 2) * STRIP * 2;
}

#endif

/* The layouts of formats whose numbers stand alone. Block formats have blocks.h's; what has neither keeps the bytes of
 * the file, piece by piece. */
static const struct layout {
    size_t (*strip_bytes)(int64_t k);
    put_row_fn *put_row;
} layouts[DTYPE_COUNT] = {
    [DTYPE_F32] = {f32_bytes, put_f32},
#ifndef CADRE_F64
    [DTYPE_F16] = {f16_bytes, put_f16},
    [DTYPE_BF16] = {bf16_bytes, put_bf16},
#endif
};

bool packed_is_decoded(enum dtype type)
{
    return !layouts[type].put_row;
}

static bool has_pieces(enum dtype type)
{
    return packed_is_decoded(type) && !block_layout(type);
}

/* Bytes of k numbers of one row, k whole blocks. */
static size_t row_bytes(enum dtype type, int64_t k)
{
    return (size_t)(k / dtype_info(type)->block) * dtype_info(type)->bytes;
}

size_t packed_strip_bytes(enum dtype type, int64_t k)
{
    if (!dtype_info(type)->weight || k % dtype_info(type)->block)
        return 0;
    return packed_is_decoded(type) ? STRIP * row_bytes(type, k) : layouts[type].strip_bytes(k);
}

static int64_t strips(int64_t n)
{
    return (n + STRIP - 1) / STRIP;
}

size_t packed_bytes(enum dtype type, int64_t n, int64_t k)
{
    return packed_strip_bytes(type, k) * (size_t)strips(n);
}

static void put_pieces(enum dtype type, char *strip, int64_t lane, const char *row, int64_t k)
{
    for (int64_t k0 = 0; k0 < k; k0 += PIECE_K) {
        size_t bytes = row_bytes(type, min_i64(PIECE_K, k - k0));
        memcpy(strip + (size_t)lane * bytes, row, bytes);
        row += bytes;
        strip += STRIP * bytes;
    }
}

/* n rows into the strip's first lanes; the others stay. */
static void put_strip(const struct kernels *ks, enum dtype type, char *strip, const char *rows, int64_t n, int64_t k)
{
    size_t bytes = row_bytes(type, k);
    if (block_layout(type)) {
        if (ks && n == STRIP)
            ks->put_strip[type]((unsigned char *)strip, (const unsigned char *)rows, k);
        else
            block_put_strip(type, (unsigned char *)strip, (const unsigned char *)rows, n, k);
        return;
    }
    for (int64_t i = 0; i < n; i++, rows += bytes)
        if (has_pieces(type))
            put_pieces(type, strip, i, rows, k);
        else
            layouts[type].put_row(strip, i, rows, k);
}

void packed_fill(const struct kernels *ks, void *dst, enum dtype type, const void *rows, int64_t n, int64_t k)
{
    char *strip = dst;
    const char *row = rows;
    size_t strip_bytes = packed_strip_bytes(type, k);
    for (int64_t left = n; left > 0; left -= STRIP, strip += strip_bytes, row += STRIP * row_bytes(type, k)) {
        int64_t some = min_i64(STRIP, left);
        if (some < STRIP || k % 2) /* outputs beyond n, the second half of an odd pair */
            memset(strip, 0, strip_bytes);
        put_strip(ks, type, strip, row, some, k);
    }
}

void packed_decode(const struct kernels *ks, real *dst, const struct packed *p, int64_t strip, int64_t k0, int64_t k,
                   real *rows)
{
    enum dtype type = p->type;
    int64_t n_valid = min_i64(STRIP, p->n - strip * STRIP);
    const char *at = (const char *)p->data + (size_t)strip * packed_strip_bytes(type, p->k);
    if (ks->unpack[type]) {
        ks->unpack[type](at, p->k, k0, k, dst);
        return;
    }
    const char *piece = at + STRIP * row_bytes(type, k0);
    for (int64_t i = 0; i < n_valid; i++) {
#ifdef CADRE_F64
        float row[PIECE_K];
        dtype_info(type)->decode(piece + (size_t)i * row_bytes(type, k), row, (size_t)k);
        for (int64_t j = 0; j < k; j++)
            rows[i * k + j] = row[j];
#else
        dtype_info(type)->decode(piece + (size_t)i * row_bytes(type, k), rows + i * k, (size_t)k);
#endif
    }
    ks->pack_f32(dst, rows, k, 1, n_valid, k);
}
