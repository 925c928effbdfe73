/* AVX2 with FMA and F16C: two registers hold the 16 lanes. 12 sums, 2 weights and 1 activation stay in registers. */
#define TILE_ROWS 6
#define MAX_STRIPS 1
#define GRID_ROWS 4
#define GRID_STRIPS 1

#include "kernel/attn_simd.h"
#include "kernel/blocks_simd.h"
#include "kernel/cache_simd.h"
#include "kernel/delta_simd.h"
#include "kernel/gemm_simd.h"
#include "kernel/pack_simd.h"
#include "kernel/rows_simd.h"

#define LEVEL ISA_AVX2
#define LEVEL_INIT kernels_init_avx2
#include "kernel/level_simd.h"
