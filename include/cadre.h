/* cadre: run, train and look into Mixture-of-Experts (MoE) language models.
 *
 * A complete program (cc hello.c $(pkg-config --cflags --libs cadre)):
 *
 *     #include <cadre.h>
 *     #include <stdio.h>
 *     static bool print(void *u, const char *text, size_t n) { fwrite(text, 1, n, (FILE *)u); return true; }
 *     int main(void) {
 *         cadre_model *model = NULL;
 *         cadre_error err = {0};
 *         cadre_model_options mo = cadre_model_options_default();
 *         cadre_generate_options go = cadre_generate_options_default();
 *         go.on_text = print, go.user = stdout;
 *         if (cadre_model_open(&model, "model.gguf", &mo, &err) || cadre_generate(model, "Once", &go, NULL, &err))
 *             fprintf(stderr, "%s\n", err.text);
 *         cadre_model_close(model);
 *     }
 *
 * Rules that hold everywhere:
 *   - A function that can fail returns `cadre_err`: 0 is success. What went wrong, where, what was expected and
 *     found, and what to do, is put into the caller's `cadre_error` (which may be NULL). The library never prints
 *     and never exits.
 *   - Option structs are filled by their `_default` function and then changed. Pointers in them are borrowed for
 *     the length of the call.
 *   - What `_open` or `_new` gives belongs to the caller until `_close` or `_free`; these accept NULL. A pointer
 *     from a `_get` function is borrowed and lives as long as its owner.
 *   - Different handles may be used from different threads at once; one handle by one thread at a time.
 *   - For one choice of precision results are the same bytes for every number of threads and every batch.
 */
#ifndef CADRE_H
#define CADRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- errors -------------------------------------------------------------------------------------------- */

/* The one list of error codes: X(name, value, meaning). */
#define CADRE_ERRORS(X)                                                                                                \
    X(OK, 0, "success")                                                                                                \
    X(E_ARG, -1, "an argument or option is wrong")                                                                     \
    X(E_IO, -2, "a file cannot be read or written")                                                                    \
    X(E_FORMAT, -3, "a file or text is malformed")                                                                     \
    X(E_UNSUPPORTED, -4, "well-formed, but not offered here")                                                          \
    X(E_MEMORY, -5, "not enough memory, or over the budget")                                                           \
    X(E_CANCELLED, -6, "stopped by the caller")                                                                        \
    X(E_DIVERGED, -7, "training diverged; the last good checkpoint is kept")

typedef enum cadre_err {
#define X(name, value, meaning) CADRE_##name = value,
    CADRE_ERRORS(X)
#undef X
} cadre_err;

typedef struct cadre_error {
    cadre_err code;
    char text[1024];
} cadre_error;

#if defined(__GNUC__)
#define CADRE_API __attribute__((visibility("default")))
#else
#define CADRE_API
#endif

/* "success", "a file is malformed", … for a code. */
CADRE_API const char *cadre_err_text(cadre_err code);

#ifdef __cplusplus
}
#endif
#endif
