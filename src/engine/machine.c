/* What this library and this machine are. */
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/error.h"

const char *cadre_version(void)
{
    return CADRE_VERSION;
}

int cadre_abi_version(void)
{
    return CADRE_ABI_VERSION;
}

static uint64_t meminfo(const char *key)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    unsigned long long kib = 0;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), ": %llu", &kib) == 1)
            break;
    if (f)
        fclose(f);
    return kib * 1024;
}

/* Ask the kernel itself: the call may be compiled in and still be refused by a sandbox. */
static bool io_uring_works(void)
{
    unsigned char params[120] = {0}; /* struct io_uring_params, all zero: a plain ring */
    long fd = syscall(SYS_io_uring_setup, 1, params);
    if (fd >= 0)
        close((int)fd);
    return fd >= 0;
}

cadre_err cadre_machine_get(cadre_machine *out, cadre_error *err)
{
    CHECK(err, out, CADRE_E_ARG, "cadre_machine_get: out must be given");
    struct cpu cpu;
    cpu_detect(&cpu);
    *out = (cadre_machine){.cores = cpu.cores,
                           .memory_bytes = meminfo("MemTotal"),
                           .memory_available_bytes = meminfo("MemAvailable"),
                           .io_uring = io_uring_works()};
    snprintf(out->processor, sizeof out->processor, "%s", cpu.name);
    snprintf(out->isa, sizeof out->isa, "%s", isa_name(cpu.best));
    const struct {
        bool has;
        const char *name;
    } features[] = {{cpu.avx2_fma, "avx2"},           {cpu.avx512, "avx512"},     {cpu.avx512_vnni, "avx512_vnni"},
                    {cpu.avx512_bf16, "avx512_bf16"}, {cpu.amx_bf16, "amx_bf16"}, {cpu.amx_int8, "amx_int8"}};
    size_t at = 0;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (features[i].has)
            at += (size_t)snprintf(out->features + at, sizeof out->features - at, "%s%s", at ? " " : "",
                                   features[i].name);
    return CADRE_OK;
}
