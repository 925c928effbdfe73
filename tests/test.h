/* What every test program includes: cmocka in the order it wants. */
#ifndef CADRE_TESTS_TEST_H
#define CADRE_TESTS_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Fails with the library's own text. */
#define assert_ok(call, err)                                                                                           \
    do {                                                                                                               \
        if ((call) != 0)                                                                                               \
            fail_msg("%s: %s", #call, (err).text);                                                                     \
    } while (0)

#endif
