/* The kernel level that tests run on: the best there is, or what CADRE_ISA says, so that one suite serves every level.
 */
#ifndef CADRE_TESTS_ISA_H
#define CADRE_TESTS_ISA_H

#include "test.h"

#include "base/cpu.h"

static inline enum isa test_isa(const struct cpu *cpu)
{
    enum isa isa;
    cadre_error e = {0};
    assert_ok(isa_choose(NULL, cpu, &isa, &e), e);
    return isa;
}

#endif
