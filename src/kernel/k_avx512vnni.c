/* AVX-512 with VNNI: the block products, where VPDPWSSD multiplies pairs of words and adds both to a sum. */
#define MAX_STRIPS 4
#define GRID_ROWS 6
#define GRID_STRIPS 2
#define GRID_ONLY

#include "kernel/blocks_simd.h"

void kernels_init_avx512vnni(struct kernels *k)
{
    set_grid(k);
}
