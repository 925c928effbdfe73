/* What tiles of products share: sums of some rows × strips in registers, acc[r * most + s]. */
#ifndef CADRE_KERNEL_TILE_SIMD_H
#define CADRE_KERNEL_TILE_SIMD_H

#include "kernel/kernel.h"
#include "kernel/simd16.h"

#if defined(__GNUC__) && !defined(__clang__)
#define UNROLL _Pragma("GCC unroll 32")
#else
#define UNROLL _Pragma("unroll")
#endif

INLINE void sums_load(int rows, int strips, int most, v16 *acc, const float *c, int64_t ldc, int64_t n, bool accumulate)
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) acc[r * most + s] =
        !accumulate           ? v_set1(0)
        : n - s * STRIP >= 16 ? v_load(c + r * ldc + s * STRIP)
                              : v_load_n(c + r * ldc + s * STRIP, n - s * STRIP);
}

INLINE void sums_store(int rows, int strips, int most, v16 *acc, float *c, int64_t ldc, int64_t n)
{
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int s = 0; s < strips; s++) if (n - s * STRIP >= 16)
        v_store(c + r * ldc + s * STRIP, acc[r * most + s]);
    else v_store_n(c + r * ldc + s * STRIP, acc[r * most + s], n - s * STRIP);
}

#endif
