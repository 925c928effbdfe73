/* The tile instructions of AMX in plain C, after Intel's description of them: what is checked here would fault there.
 */
#ifndef CADRE_TESTS_KERNEL_AMX_MODEL_H
#define CADRE_TESTS_KERNEL_AMX_MODEL_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "tensor/dtype.h"

/* Of a thread, as in the processor. */
static _Thread_local struct {
    int configured;
    uint8_t rows[8];
    uint16_t row_bytes[8];
    unsigned char data[8][16][64];
} amx;

/* Products of tiles that this thread made. */
static _Thread_local int64_t amx_products;

static inline void amx_require(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "AMX would fault: %s\n", what);
        abort();
    }
}

static inline void amx_loadconfig(const void *memory)
{
    const unsigned char *m = memory;
    amx_require(m[0] == 1 && m[1] == 0, "palette or start row");
    for (int i = 2; i < 16; i++)
        amx_require(m[i] == 0, "reserved bytes");
    memset(&amx, 0, sizeof amx);
    amx.configured = 1;
    for (int i = 0; i < 16; i++) {
        int bytes = m[16 + 2 * i] | m[17 + 2 * i] << 8, rows = m[48 + i];
        amx_require(bytes <= 64 && rows <= 16, "a tile is too large");
        amx_require((bytes == 0) == (rows == 0), "rows without bytes or bytes without rows");
        amx_require(i < 8 || rows == 0, "tile number");
        if (i < 8) {
            amx.rows[i] = (uint8_t)rows;
            amx.row_bytes[i] = (uint16_t)bytes;
        }
    }
}

static inline void amx_release(void)
{
    memset(&amx, 0, sizeof amx);
}

static inline void amx_use(int tile)
{
    amx_require(amx.configured && tile < 8 && amx.rows[tile], "a tile that is not configured");
}

static inline void amx_zero(int tile)
{
    amx_use(tile);
    memset(amx.data[tile], 0, sizeof amx.data[tile]);
}

static inline void amx_loadd(int tile, const void *base, size_t stride)
{
    amx_use(tile);
    memset(amx.data[tile], 0, sizeof amx.data[tile]);
    for (int i = 0; i < amx.rows[tile]; i++)
        memcpy(amx.data[tile][i], (const char *)base + (size_t)i * stride, amx.row_bytes[tile]);
}

static inline void amx_stored(int tile, void *base, size_t stride)
{
    amx_use(tile);
    for (int i = 0; i < amx.rows[tile]; i++)
        memcpy((char *)base + (size_t)i * stride, amx.data[tile][i], amx.row_bytes[tile]);
}

/* Denormals count as zeros, both when read and as results. */
static inline float amx_flush(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits &= bits & 0x7f800000 ? UINT32_MAX : 0x80000000;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float amx_get(int tile, int row, int col)
{
    float x;
    memcpy(&x, &amx.data[tile][row][4 * col], sizeof x);
    return amx_flush(x);
}

static inline float amx_bf16(int tile, int row, int col)
{
    uint16_t h;
    memcpy(&h, &amx.data[tile][row][2 * col], sizeof h);
    return amx_flush(bf16_to_f32(h));
}

static inline void amx_dpbf16ps(int c, int a, int b)
{
    amx_use(c), amx_use(a), amx_use(b);
    amx_require(amx.rows[a] == amx.rows[c] && amx.row_bytes[b] == amx.row_bytes[c] &&
                    amx.row_bytes[a] / 4 == amx.rows[b] && c != a && c != b && a != b,
                "shapes of a product");
    int columns = amx.row_bytes[c] / 4;
    float right[16][2][16] = {{{0}}};
    for (int k = 0; k < amx.rows[b]; k++)
        for (int n = 0; n < columns; n++)
            for (int p = 0; p < 2; p++)
                right[k][p][n] = amx_bf16(b, k, 2 * n + p);
    for (int m = 0; m < amx.rows[c]; m++) {
        float chain[2][16] = {{0}}; /* over even k, over odd k */
        for (int k = 0; k < amx.rows[b]; k++)
            for (int p = 0; p < 2; p++) {
                float left = amx_bf16(a, m, 2 * k + p);
                for (int n = 0; n < 16; n++)
                    chain[p][n] = amx_flush(fmaf(left, right[k][p][n], chain[p][n]));
            }
        for (int n = 0; n < columns; n++) {
            float sum = amx_flush(amx_get(c, m, n) + amx_flush(chain[0][n] + chain[1][n]));
            memcpy(&amx.data[c][m][4 * n], &sum, sizeof sum);
        }
    }
    amx_products++;
}

/* In place of the compiler's */
#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbf16ps
#define _tile_loadconfig amx_loadconfig
#define _tile_release amx_release
#define _tile_zero amx_zero
#define _tile_loadd amx_loadd
#define _tile_stored amx_stored
#define _tile_dpbf16ps amx_dpbf16ps

#endif
