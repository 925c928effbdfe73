/* Errors as values: every function that can fail returns `cadre_err` (0 or negative) and writes what
 * went wrong, where, what was expected and found, and what to do, into a `cadre_error` of the caller.
 * Nothing here is global, so two threads never see each other's text. */
#ifndef CADRE_BASE_ERROR_H
#define CADRE_BASE_ERROR_H

#include <stddef.h>

#include "cadre.h" /* cadre_err, cadre_error: the one list of codes */

/* Record code and text; returns code, so that `return error_set(err, …);` reads well. err may be NULL. */
cadre_err error_set(cadre_error *err, cadre_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the recorded text (the name of the file or the part that was being worked on). */
cadre_err error_wrap(cadre_error *err, cadre_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Forward a failure to the caller; for functions with nothing to release. */
#define TRY(expr)                                                                                                      \
    do {                                                                                                               \
        cadre_err try_code_ = (expr);                                                                                  \
        if (try_code_ != CADRE_OK)                                                                                     \
            return try_code_;                                                                                          \
    } while (0)

/* Forward a failure through the function's `out:` label, which releases in reverse order and returns `rc`. */
#define TRY_OUT(expr)                                                                                                  \
    do {                                                                                                               \
        rc = (expr);                                                                                                   \
        if (rc != CADRE_OK)                                                                                            \
            goto out;                                                                                                  \
    } while (0)

/* Fail with a text unless cond holds. */
#define CHECK(err, cond, code, ...)                                                                                    \
    do {                                                                                                               \
        if (!(cond))                                                                                                   \
            return error_set((err), (code), __VA_ARGS__);                                                              \
    } while (0)

#define CHECK_OUT(err, cond, code, ...)                                                                                \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            rc = error_set((err), (code), __VA_ARGS__);                                                                \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

#endif
