#include "base/cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const isa_names[ISA_COUNT] = {"generic", "avx2", "avx512", "amx"};

const char *isa_name(enum isa isa)
{
    return isa_names[isa];
}

static int count_processors(void)
{
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (int)n : 1;
}

/* Distinct (package, core) pairs among the processors that this process may run on. */
static int count_cores(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return count_processors();
    int seen[CPU_SETSIZE], n = 0;
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &set))
            continue;
        int id[2] = {0, i};
        const char *const what[2] = {"physical_package_id", "core_id"};
        for (int j = 0; j < 2; j++) {
            char path[128];
            snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/%s", i, what[j]);
            FILE *f = fopen(path, "r");
            if (f) {
                if (fscanf(f, "%d", &id[j]) != 1)
                    id[j] = j ? i : 0;
                fclose(f);
            }
        }
        int key = id[0] * 65536 + id[1], j = 0;
        while (j < n && seen[j] != key)
            j++;
        if (j == n)
            seen[n++] = key;
    }
    return n > 0 ? n : 1;
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>

static unsigned long long xcr0(void)
{
    unsigned lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return ((unsigned long long)hi << 32) | lo;
}

static bool bit(unsigned reg, int i)
{
    return (reg >> i) & 1;
}

/* The kernel gives a process the 8 KiB of tile state only when asked; every later thread inherits the right. */
static bool request_amx(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

static void detect_x86(struct cpu *c)
{
    unsigned a, b, cx, d;
    if (!__get_cpuid(1, &a, &b, &cx, &d))
        return;
    bool osxsave = bit(cx, 27), avx = bit(cx, 28), fma = bit(cx, 12), f16c = bit(cx, 29);
    if (!osxsave)
        return;
    unsigned long long os = xcr0();
    bool os_avx = (os & 0x6) == 0x6, os_avx512 = (os & 0xe6) == 0xe6, os_amx = (os & 0x60000) == 0x60000;
    unsigned b7, c7, d7, a71, b71, c71, d71;
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7))
        return;
    unsigned max_sub = a;
    a71 = 0;
    if (max_sub >= 1)
        __get_cpuid_count(7, 1, &a71, &b71, &c71, &d71);
    c->avx2_fma = avx && os_avx && fma && f16c && bit(b7, 5) && bit(b7, 8);
    c->avx512 = c->avx2_fma && os_avx512 && bit(b7, 16) && bit(b7, 17) && bit(b7, 30) && bit(b7, 31);
    c->avx512_vnni = c->avx512 && bit(c7, 11);
    c->avx512_vbmi = c->avx512 && bit(c7, 1);
    c->avx512_bf16 = c->avx512 && bit(a71, 5);
    if (c->avx512 && os_amx && bit(d7, 24) && bit(d7, 22) && request_amx()) {
        c->amx_bf16 = bit(d7, 22);
        c->amx_int8 = bit(d7, 25);
    }
    c->best = c->amx_bf16 ? ISA_AMX : c->avx512 ? ISA_AVX512 : c->avx2_fma ? ISA_AVX2 : ISA_GENERIC;
    unsigned brand[12] = {0};
    if ((unsigned)__get_cpuid_max(0x80000000u, NULL) >= 0x80000004u) {
        for (unsigned i = 0; i < 3; i++)
            __get_cpuid(0x80000002u + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3]);
        char text[49] = {0};
        memcpy(text, brand, 48);
        char *start = text;
        while (*start == ' ')
            start++;
        snprintf(c->name, sizeof c->name, "%s", start);
    }
}
#endif

void cpu_detect(struct cpu *out)
{
    *out = (struct cpu){
        .best = ISA_GENERIC, .cores = count_cores(), .processors = count_processors(), .name = "unknown processor"};
#if defined(__x86_64__)
    detect_x86(out);
#endif
}

cadre_err isa_parse(const char *name, const struct cpu *cpu, enum isa *out, cadre_error *err)
{
    for (int i = 0; i < ISA_COUNT; i++) {
        if (strcmp(name, isa_names[i]) != 0)
            continue;
        CHECK(err, i <= (int)cpu->best, CADRE_E_UNSUPPORTED, "isa %s: this processor (%s) offers at most %s", name,
              cpu->name, isa_names[cpu->best]);
        *out = (enum isa)i;
        return CADRE_OK;
    }
    return error_set(err, CADRE_E_ARG, "isa: expected generic, avx2, avx512 or amx, found '%s'", name);
}

cadre_err isa_choose(const char *name, const struct cpu *cpu, enum isa *out, cadre_error *err)
{
    *out = cpu->best;
    if (!name)
        name = getenv("CADRE_ISA");
    return name && *name ? isa_parse(name, cpu, out, err) : CADRE_OK;
}
