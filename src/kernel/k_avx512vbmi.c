/* AVX-512 with VNNI and VBMI: codebook formats, whose books VPERMI2B looks up 64 ranks at a time. */
#define MAX_STRIPS 4
#define GRID_ROWS 6
#define GRID_STRIPS 2
#define CODEBOOKS_ONLY

#include "kernel/blocks_simd.h"

void kernels_init_avx512vbmi(struct kernels *k)
{
    set_codebooks(k);
}
