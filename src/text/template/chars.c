#include "text/template/chars.h"

#include <utf8proc.h>

size_t char_length(const char *p, size_t n)
{
    size_t len = 1;
    while (len < n && (p[len] & 0xc0) == 0x80)
        len++;
    return len;
}

int32_t char_decode(const char *p, size_t n, size_t *len)
{
    utf8proc_int32_t code = -1;
    *len = char_length(p, n);
    utf8proc_iterate((const utf8proc_uint8_t *)p, (utf8proc_ssize_t)*len, &code);
    return code < 0 ? 0xfffd : code;
}

/* str.isspace(): bidirectional class WS, B or S, or category Zs. */
bool char_is_space(int32_t code)
{
    if (code < 0x80)
        return code == ' ' || (code >= 9 && code <= 13) || (code >= 0x1c && code <= 0x1f);
    const utf8proc_property_t *q = utf8proc_get_property(code);
    return q->category == UTF8PROC_CATEGORY_ZS || q->bidi_class == UTF8PROC_BIDI_CLASS_WS ||
           q->bidi_class == UTF8PROC_BIDI_CLASS_B || q->bidi_class == UTF8PROC_BIDI_CLASS_S;
}

bool char_is_printable(int32_t code)
{
    switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

bool char_is_alpha(int32_t code)
{
    utf8proc_category_t k = utf8proc_category(code);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}

bool char_is_digit(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_ND;
}

bool char_is_upper(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_LU;
}

bool char_is_lower(int32_t code)
{
    return utf8proc_category(code) == UTF8PROC_CATEGORY_LL;
}

/* utf8proc maps one code point to one; of those that become several only the frequent ones are here. */
static int special_upper(int32_t code, bool title, int32_t out[3])
{
    if (code == 0xdf) {
        out[0] = 'S', out[1] = title ? 's' : 'S';
        return 2;
    }
    if (code >= 0xfb00 && code <= 0xfb02) { /* ff fi fl */
        out[0] = 'F', out[1] = "FIL"[code - 0xfb00] | (title ? 0x20 : 0);
        return 2;
    }
    return 0;
}

int char_upper(int32_t code, int32_t out[3])
{
    int n = special_upper(code, false, out);
    out[0] = n ? out[0] : utf8proc_toupper(code);
    return n ? n : 1;
}

int char_lower(int32_t code, int32_t out[3])
{
    if (code == 0x130) { /* capital I with a dot */
        out[0] = 'i', out[1] = 0x307;
        return 2;
    }
    out[0] = utf8proc_tolower(code);
    return 1;
}

int char_title(int32_t code, int32_t out[3])
{
    int n = special_upper(code, true, out);
    out[0] = n ? out[0] : utf8proc_totitle(code);
    return n ? n : 1;
}

size_t space_prefix(const char *p, size_t n)
{
    size_t i = 0, len;
    while (i < n && char_is_space(char_decode(p + i, n - i, &len)))
        i += len;
    return i;
}

size_t space_suffix(const char *p, size_t n)
{
    size_t end = n, len;
    while (end > 0) {
        size_t start = end - 1;
        while (start > 0 && (p[start] & 0xc0) == 0x80)
            start--;
        if (!char_is_space(char_decode(p + start, end - start, &len)))
            break;
        end = start;
    }
    return n - end;
}
