/* Fills the kernel table level by level. The build defines CADRE_AVX2, CADRE_AVX512, CADRE_AMX and the like for the
 * levels that were compiled (x86-64, and a compiler that knows them). */
#include "kernel/kernel.h"

void kernels_init(struct kernels *k, const struct cpu *cpu, enum isa limit)
{
    kernels_init_generic(k);
#if defined(CADRE_AVX2) && !defined(CADRE_F64)
    if (cpu->avx2_fma && limit >= ISA_AVX2)
        kernels_init_avx2(k);
#endif
#if defined(CADRE_AVX512) && !defined(CADRE_F64)
    if (cpu->avx512 && limit >= ISA_AVX512)
        kernels_init_avx512(k);
    if (cpu->avx512_vnni && limit >= ISA_AVX512)
        kernels_init_avx512vnni(k);
    if (cpu->avx512_vnni && cpu->avx512_vbmi && limit >= ISA_AVX512)
        kernels_init_avx512vbmi(k);
    if (cpu->avx512_bf16 && limit >= ISA_AVX512)
        kernels_init_avx512bf16(k);
#endif
#if defined(CADRE_AMX) && !defined(CADRE_F64)
    if (cpu->amx_bf16 && limit >= ISA_AMX)
        kernels_init_amx(k);
    if (cpu->amx_bf16 && cpu->avx512_vnni && cpu->avx512_vbmi && limit >= ISA_AMX)
        kernels_init_amxblocks(k);
#endif
    (void)cpu, (void)limit;
}
