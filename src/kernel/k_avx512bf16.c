/* AVX-512 with BF16: the bf16 product and its packing. VDPBF16PS adds the products of a pair of k to each sum, so a
 * pair takes the place of one number in the tile. The instruction reads denormals as zeros. */
#define TILE_ROWS 6
#define MAX_STRIPS 4

#include "kernel/gemm_simd.h"
#include "kernel/pack_simd.h"

INLINE v16 add_pairs(v16 x, v16 w, v16 sum)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)v_bits(x), (__m512bh)v_bits(w));
}

FORMAT(pair_format, {1, 64, open_none, get_f32, add_pairs})

static void gemm_bf16(int64_t m, int64_t n_valid, int64_t k, const uint16_t *a, int64_t lda, const uint16_t *b,
                      float *c, int64_t ldc, bool accumulate)
{
    int64_t pairs = (k + 1) / 2;
    struct tile t = {n_valid, pairs,     (const act *)(const void *)a, lda / 2, (const char *)b, pairs * 64, c,
                     ldc,     accumulate};
    product(m, n_valid, t, 1, 64, pair_format_tiles);
}

void kernels_init_avx512bf16(struct kernels *k)
{
    k->bf16_native = true;
    k->gemm_bf16 = gemm_bf16;
    k->pack_bf16 = pack_bf16;
    k->rows_bf16 = rows_bf16;
}
