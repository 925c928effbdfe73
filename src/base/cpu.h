/* What this processor can do, and how much of it we use. Kernels are chosen at run time, never at build time. */
#ifndef CADRE_BASE_CPU_H
#define CADRE_BASE_CPU_H

#include <stdbool.h>

#include "base/error.h"

/* Ascending: each level implies those before it. */
enum isa { ISA_GENERIC, ISA_AVX2, ISA_AVX512, ISA_AMX, ISA_COUNT };

struct cpu {
    enum isa best; /* highest level that processor and kernel allow */
    bool avx2_fma; /* AVX2, FMA, F16C, BMI2 */
    bool avx512;   /* F, BW, DQ, VL */
    bool avx512_vnni;
    bool avx512_vbmi;
    bool avx512_bf16;
    bool amx_bf16;
    bool amx_int8;
    int cores;      /* physical cores that this process may run on */
    int processors; /* what runs a thread at a time: as many as cores, or more where a core runs two */
    char name[64];
};

/* Detects; asks the kernel for the AMX tile state where there is AMX (Linux: ARCH_REQ_XCOMP_PERM). */
void cpu_detect(struct cpu *out);

const char *isa_name(enum isa isa);
/* "generic", "avx2", "avx512", "amx" → level; an unknown name, or a level this machine lacks, is an error. */
cadre_err isa_parse(const char *name, const struct cpu *cpu, enum isa *out, cadre_error *err);
/* The level to use: `name`, or when it is NULL the environment variable CADRE_ISA, or the best there is. */
cadre_err isa_choose(const char *name, const struct cpu *cpu, enum isa *out, cadre_error *err);

#endif
