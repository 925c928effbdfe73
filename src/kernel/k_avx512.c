/* AVX-512 (F, BW, DQ, VL): one register holds the 16 lanes. 24 sums, 4 weights and 1 activation stay in registers. */
#define TILE_ROWS 6
#define MAX_STRIPS 4
#define GRID_ROWS 6
#define GRID_STRIPS 2

#include "kernel/attn_simd.h"
#include "kernel/blocks_simd.h"
#include "kernel/cache_simd.h"
#include "kernel/delta_simd.h"
#include "kernel/gemm_simd.h"
#include "kernel/pack_simd.h"
#include "kernel/rows_simd.h"

#define LEVEL ISA_AVX512
#define LEVEL_INIT kernels_init_avx512
#include "kernel/level_simd.h"
