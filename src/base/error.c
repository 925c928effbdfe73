#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

cadre_err error_set(cadre_error *err, cadre_err code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        err->code = code;
    }
    return code;
}

cadre_err error_wrap(cadre_error *err, cadre_err code, const char *fmt, ...)
{
    if (err) {
        char old[sizeof err->text];
        memcpy(old, err->text, sizeof old);
        va_list ap;
        va_start(ap, fmt);
        int n = vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        if (n >= 0 && (size_t)n < sizeof err->text)
            snprintf(err->text + n, sizeof err->text - (size_t)n, ": %s", old);
        err->code = code;
    }
    return code;
}

const char *cadre_err_text(cadre_err code)
{
    switch (code) {
#define X(name, value, meaning)                                                                                        \
    case CADRE_##name:                                                                                                 \
        return meaning;
        CADRE_ERRORS(X)
#undef X
    }
    return "unknown error code";
}
