/* Packing over simd16.h. Four k of 16 rows make four registers, quarter q of register j holding row j + 4 q;
 * transposing the quarters puts one k of all 16 rows into each register. Included once by each level's file. */
#ifndef CADRE_KERNEL_PACK_SIMD_H
#define CADRE_KERNEL_PACK_SIMD_H

#include <string.h>

#include "kernel/kernel.h"
#include "kernel/simd16.h"

/* k = at … at + 3 of the rows p[0 … 15]; rows that are not valid read as zeros */
INLINE void gather_k4(v16 x[4], const float *const p[16], int64_t at, m16 valid)
{
    for (int j = 0; j < 4; j++)
        x[j] = v_gather4(p, j, at);
    v_transpose4(x);
    for (int j = 0; j < 4; j++)
        x[j] = v_keep(valid, x[j]);
}

/* one k of 16 rows, element by element */
INLINE v16 gather_k1(const float *const p[16], int64_t at, m16 valid)
{
    float x[16];
    for (int j = 0; j < 16; j++)
        x[j] = p[j][at];
    return v_keep(valid, v_load(x));
}

/* missing rows repeat the last one, so that their addresses can be read */
INLINE void row_pointers(const float *p[16], const float *b, int64_t row, int64_t n_valid)
{
    for (int64_t j = 0; j < 16; j++)
        p[j] = b + (j < n_valid ? j : n_valid - 1) * row;
}

#ifndef __AVX512BF16__ /* that level has its own bf16 packing only */

static void pack_f32(float *dst, const float *b, int64_t row, int64_t col, int64_t n_valid, int64_t k)
{
    if (col != 1) { /* then row is 1: a strip is a copy */
        for (int64_t kk = 0; kk < k; kk++)
            v_store(dst + kk * STRIP, v_get(b + kk * col, n_valid));
        return;
    }
    const float *p[16];
    row_pointers(p, b, row, n_valid);
    m16 valid = v_first(n_valid);
    int64_t kk = 0;
    for (; kk + 4 <= k; kk += 4) {
        v16 x[4];
        gather_k4(x, p, kk, valid);
        for (int j = 0; j < 4; j++)
            v_store(dst + (kk + j) * STRIP, x[j]);
    }
    for (; kk < k; kk++)
        v_store(dst + kk * STRIP, gather_k1(p, kk, valid));
}

/* A that lies k-major: 16 values of m at each k are one load; the quarters are transposed the other way. */
INLINE void scatter_rows4(float *dst, int64_t ld, const v16 x[4], int64_t m)
{
    for (int j = 0; j < 4; j++)
        for (int q = 0; q < 4; q++)
            if (j + 4 * q < m)
                _mm_storeu_ps(dst + (j + 4 * q) * ld, v_quarter(x[j], q));
}

static void rows_f32(float *dst, int64_t ld, const float *a, int64_t row, int64_t col, int64_t m, int64_t k)
{
    if (col == 1) {
        for (int64_t i = 0; i < m; i++)
            memcpy(dst + i * ld, a + i * row, (size_t)k * sizeof *dst);
        return;
    }
    for (int64_t i = 0; i < m; i += 16) {
        int64_t left = m - i, kk = 0;
        for (; kk + 4 <= k; kk += 4) {
            v16 x[4];
            for (int j = 0; j < 4; j++)
                x[j] = v_get(a + i + (kk + j) * col, left);
            v_transpose4(x);
            scatter_rows4(dst + i * ld + kk, ld, x, left >= 16 ? 16 : left);
        }
        for (; kk < k; kk++)
            for (int64_t j = 0; j < left && j < 16; j++)
                dst[(i + j) * ld + kk] = a[i + j + kk * col];
    }
}

#endif

static void pack_bf16(uint16_t *dst, const float *b, int64_t row, int64_t col, int64_t n_valid, int64_t k)
{
    int64_t kk = 0;
    if (col != 1) {
        for (; kk < k; kk += 2) {
            v16 odd = kk + 1 < k ? v_get(b + (kk + 1) * col, n_valid) : v_set1(0);
            i_store(dst + kk * STRIP, v_bf16_pair(v_get(b + kk * col, n_valid), odd));
        }
        return;
    }
    const float *p[16];
    row_pointers(p, b, row, n_valid);
    m16 valid = v_first(n_valid);
    for (; kk + 4 <= k; kk += 4) {
        v16 x[4];
        gather_k4(x, p, kk, valid);
        i_store(dst + kk * STRIP, v_bf16_pair(x[0], x[1]));
        i_store(dst + (kk + 2) * STRIP, v_bf16_pair(x[2], x[3]));
    }
    for (; kk < k; kk += 2) {
        v16 odd = kk + 1 < k ? gather_k1(p, kk + 1, valid) : v_set1(0);
        i_store(dst + kk * STRIP, v_bf16_pair(gather_k1(p, kk, valid), odd));
    }
}

static void rows_bf16(uint16_t *dst, int64_t ld, const float *a, int64_t row, int64_t col, int64_t m, int64_t k)
{
    int64_t even = k + k % 2;
    if (col == 1) {
        for (int64_t i = 0; i < m; i++) {
            int64_t kk = 0;
            for (; kk + 16 <= k; kk += 16)
                v_store_bf16(dst + i * ld + kk, v_load(a + i * row + kk));
            if (kk < k) {
                uint16_t tail[16];
                v_store_bf16(tail, v_load_n(a + i * row + kk, k - kk));
                memcpy(dst + i * ld + kk, tail, (size_t)(even - kk) * sizeof *dst);
            }
        }
        return;
    }
    for (int64_t i = 0; i < m; i += 16) {
        int64_t left = m - i, rows = left >= 16 ? 16 : left, kk = 0;
        for (; kk + 8 <= k; kk += 8) { /* a pair counts as one 32-bit element */
            v16 x[4];
            for (int j = 0; j < 4; j++)
                x[j] = v_from_bits(
                    v_bf16_pair(v_get(a + i + (kk + 2 * j) * col, left), v_get(a + i + (kk + 2 * j + 1) * col, left)));
            v_transpose4(x);
            for (int j = 0; j < 4; j++)
                for (int q = 0; q < 4; q++)
                    if (j + 4 * q < rows)
                        _mm_storeu_si128((__m128i *)(void *)(dst + (i + j + 4 * q) * ld + kk),
                                         _mm_castps_si128(v_quarter(x[j], q)));
        }
        for (; kk < k; kk += 2) {
            v16 odd = kk + 1 < k ? v_get(a + i + (kk + 1) * col, left) : v_set1(0);
            uint32_t pair[16];
            i_store(pair, v_bf16_pair(v_get(a + i + kk * col, left), odd));
            for (int64_t j = 0; j < rows; j++)
                memcpy(dst + (i + j) * ld + kk, &pair[j], sizeof pair[j]);
        }
    }
}

#endif
