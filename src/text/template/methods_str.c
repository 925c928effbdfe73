/* Methods of texts. */
#include <stdlib.h>
#include <string.h>

#include "text/template/chars.h"
#include "text/template/eval.h"
#include "text/template/print.h"
#include "text/template/strings.h"

static cadre_err answer(struct value *out, bool yes)
{
    *out = value_bool(yes);
    return CADRE_OK;
}

/* ---- case and white space ------------------------------------------------------------------------------ */

#define METHOD_OF_CASE(name, rule)                                                                                     \
    static cadre_err name(struct ctx *c, const struct call *call, struct value *out)                                   \
    {                                                                                                                  \
        return string_map(c, call->self.s, rule, out);                                                                 \
    }

METHOD_OF_CASE(s_upper, CASE_UPPER)
METHOD_OF_CASE(s_lower, CASE_LOWER)
METHOD_OF_CASE(s_swapcase, CASE_SWAP)
METHOD_OF_CASE(s_capitalize, CASE_CAPITALIZE)
METHOD_OF_CASE(s_title, CASE_TITLE)

static cadre_err strip(struct ctx *c, const struct call *call, bool left, bool right, struct value *out)
{
    struct string *chars = NULL;
    if (call->arg[0].kind != V_NONE)
        TRY(arg_string(c, &call->arg[0], "strip: chars", &chars));
    return string_strip(c, call->self.s, chars, left, right, out);
}

static cadre_err s_strip(struct ctx *c, const struct call *call, struct value *out)
{
    return strip(c, call, true, true, out);
}

static cadre_err s_lstrip(struct ctx *c, const struct call *call, struct value *out)
{
    return strip(c, call, true, false, out);
}

static cadre_err s_rstrip(struct ctx *c, const struct call *call, struct value *out)
{
    return strip(c, call, false, true, out);
}

static cadre_err justify(struct ctx *c, const struct call *call, bool left, bool right, struct value *out)
{
    int64_t width = 0;
    struct value blank;
    TRY(string_of(c, " ", 1, &blank));
    struct string *fill = blank.s;
    TRY(arg_int(c, &call->arg[0], "width", &width));
    TRY(arg_string(c, &call->arg[1], "fillchar", &fill));
    if (string_chars(fill) != 1)
        return ctx_fail(c, CADRE_E_FORMAT, "fillchar: expected one character, found %lld",
                        (long long)string_chars(fill));
    return string_justify(c, call->self.s, width, fill->p, fill->n, left, right, out);
}

static cadre_err s_ljust(struct ctx *c, const struct call *call, struct value *out)
{
    return justify(c, call, false, true, out);
}

static cadre_err s_rjust(struct ctx *c, const struct call *call, struct value *out)
{
    return justify(c, call, true, false, out);
}

static cadre_err s_center(struct ctx *c, const struct call *call, struct value *out)
{
    return justify(c, call, true, true, out);
}

static cadre_err s_zfill(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s = call->self.s;
    struct text t = {0};
    int64_t width = 0;
    TRY(arg_int(c, &call->arg[0], "zfill: width", &width));
    bool sign = s->n && (*s->p == '-' || *s->p == '+');
    TRY(text_add(c, &t, s->p, sign));
    if (width > string_chars(s))
        TRY(text_fill(c, &t, '0', (size_t)(width - string_chars(s))));
    TRY(text_add(c, &t, s->p + sign, s->n - sign));
    return string_from_text(c, &t, out);
}

/* ---- search -------------------------------------------------------------------------------------------- */

/* The part of a text that start and end arguments leave, as bytes; false if the start lies behind the end. */
static cadre_err window(struct ctx *c, const struct call *call, int first, size_t *from, size_t *to, bool *valid)
{
    struct string *s = call->self.s;
    int64_t n = string_chars(s), bound[2] = {0, n};
    for (int i = 0; i < 2; i++)
        if (call->arg[first + i].kind != V_NONE)
            TRY(arg_int(c, &call->arg[first + i], "position", &bound[i]));
    for (int i = 0; i < 2; i++) {
        bound[i] += bound[i] < 0 ? n : 0;
        bound[i] = bound[i] < 0 ? 0 : bound[i];
    }
    *valid = bound[0] <= n && bound[0] <= bound[1];
    *from = *valid ? string_offset(s, bound[0]) : 0;
    *to = *valid ? string_offset(s, bound[1] < n ? bound[1] : n) : 0;
    *valid = *valid && *from <= *to;
    return CADRE_OK;
}

/* The last place of `what`, or NULL. Comparing from the end can take n times m; that work is counted. */
static cadre_err find_last(struct ctx *c, const char *p, size_t n, const struct string *what, const char **hit)
{
    size_t work = 0;
    *hit = NULL;
    for (size_t i = n < what->n ? 0 : n - what->n + 1; i-- > 0;) {
        bool begins = what->n == 0 || p[i] == *what->p;
        if (begins && memcmp(p + i, what->p, what->n) == 0) {
            *hit = p + i;
            break;
        }
        work += 1 + (begins ? what->n / 32 : 0);
        if (work >= 4096) {
            TRY(ctx_steps(c, work / 16));
            work = 0;
        }
    }
    return CADRE_OK;
}

/* Index of the character where `what` is, or -1. */
static cadre_err search(struct ctx *c, const struct call *call, bool last, bool must, struct value *out)
{
    struct string *what, *s = call->self.s;
    size_t from, to;
    bool valid;
    TRY(arg_string(c, &call->arg[0], "find", &what));
    TRY(window(c, call, 1, &from, &to, &valid));
    TRY(ctx_steps(c, (to - from) / 64 + 1));
    const char *hit = NULL;
    if (valid && last)
        TRY(find_last(c, s->p + from, to - from, what, &hit));
    else if (valid)
        hit = what->n ? memmem(s->p + from, to - from, what->p, what->n) : s->p + from;
    if (!hit && must)
        return ctx_fail(c, CADRE_E_FORMAT, "index: the text does not hold '%.*s'", (int)(what->n < 80 ? what->n : 80),
                        what->p);
    struct string before = {.p = s->p, .n = hit ? (size_t)(hit - s->p) : 0, .chars = -1};
    *out = value_int(hit ? string_chars(&before) : -1);
    return CADRE_OK;
}

static cadre_err s_find(struct ctx *c, const struct call *call, struct value *out)
{
    return search(c, call, false, false, out);
}

static cadre_err s_rfind(struct ctx *c, const struct call *call, struct value *out)
{
    return search(c, call, true, false, out);
}

static cadre_err s_index(struct ctx *c, const struct call *call, struct value *out)
{
    return search(c, call, false, true, out);
}

static cadre_err s_rindex(struct ctx *c, const struct call *call, struct value *out)
{
    return search(c, call, true, true, out);
}

static cadre_err s_count(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *what, *s = call->self.s;
    size_t from, to;
    bool valid;
    int64_t n = 0;
    TRY(arg_string(c, &call->arg[0], "count", &what));
    TRY(window(c, call, 1, &from, &to, &valid));
    TRY(ctx_steps(c, (to - from) / 64 + 1));
    if (valid && what->n == 0) {
        struct string part = {.p = s->p + from, .n = to - from, .chars = -1};
        n = string_chars(&part) + 1;
    }
    while (valid && what->n) {
        const char *hit = memmem(s->p + from, to - from, what->p, what->n);
        if (!hit)
            break;
        n++;
        from = (size_t)(hit - s->p) + what->n;
    }
    *out = value_int(n);
    return CADRE_OK;
}

static bool affix(const struct string *s, size_t from, size_t to, const struct string *what, bool end)
{
    return to - from >= what->n && memcmp(s->p + (end ? to - what->n : from), what->p, what->n) == 0;
}

static cadre_err has_affix(struct ctx *c, const struct call *call, bool end, struct value *out)
{
    const struct value *what = &call->arg[0];
    size_t from, to;
    bool valid, yes = false;
    struct string *one;
    TRY(window(c, call, 1, &from, &to, &valid));
    if (what->kind == V_TUPLE) {
        for (size_t i = 0; i < what->list->n && !yes; i++) {
            TRY(arg_string(c, &what->list->v[i], "startswith", &one));
            yes = valid && affix(call->self.s, from, to, one, end);
        }
        return answer(out, yes);
    }
    TRY(arg_string(c, what, end ? "endswith" : "startswith", &one));
    return answer(out, valid && affix(call->self.s, from, to, one, end));
}

static cadre_err s_startswith(struct ctx *c, const struct call *call, struct value *out)
{
    return has_affix(c, call, false, out);
}

static cadre_err s_endswith(struct ctx *c, const struct call *call, struct value *out)
{
    return has_affix(c, call, true, out);
}

static cadre_err s_removeprefix(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *what, *s = call->self.s;
    TRY(arg_string(c, &call->arg[0], "removeprefix", &what));
    size_t cut = affix(s, 0, s->n, what, false) ? what->n : 0;
    return string_of(c, s->p + cut, s->n - cut, out);
}

static cadre_err s_removesuffix(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *what, *s = call->self.s;
    TRY(arg_string(c, &call->arg[0], "removesuffix", &what));
    size_t cut = affix(s, 0, s->n, what, true) ? what->n : 0;
    return string_of(c, s->p, s->n - cut, out);
}

static cadre_err s_replace(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *old, *new;
    int64_t count = -1;
    TRY(arg_string(c, &call->arg[0], "replace: old", &old));
    TRY(arg_string(c, &call->arg[1], "replace: new", &new));
    TRY(arg_int(c, &call->arg[2], "replace: count", &count));
    return string_replace(c, call->self.s, old, new, count, out);
}

/* ---- cutting and joining ------------------------------------------------------------------------------- */

static cadre_err add_part(struct ctx *c, struct list *l, const char *p, size_t n)
{
    struct value v;
    TRY(string_of(c, p, n, &v));
    return list_add(c, l, v);
}

static cadre_err split_space(struct ctx *c, const struct string *s, int64_t max, struct list *l)
{
    size_t i = space_prefix(s->p, s->n);
    while (i < s->n) {
        size_t end = i, len;
        if (max-- == 0)
            return add_part(c, l, s->p + i, s->n - i);
        while (end < s->n && !char_is_space(char_decode(s->p + end, s->n - end, &len)))
            end += len;
        TRY(add_part(c, l, s->p + i, end - i));
        i = end + space_prefix(s->p + end, s->n - end);
    }
    return CADRE_OK;
}

static cadre_err split_at(struct ctx *c, const struct string *s, const struct string *by, int64_t max, struct list *l)
{
    size_t i = 0;
    const char *hit;
    while (max-- != 0 && (hit = memmem(s->p + i, s->n - i, by->p, by->n))) {
        TRY(add_part(c, l, s->p + i, (size_t)(hit - s->p) - i));
        i = (size_t)(hit - s->p) + by->n;
    }
    return add_part(c, l, s->p + i, s->n - i);
}

static void reverse(struct list *l)
{
    for (size_t i = 0; i < l->n / 2; i++) {
        struct value v = l->v[i];
        l->v[i] = l->v[l->n - 1 - i];
        l->v[l->n - 1 - i] = v;
    }
}

static cadre_err rsplit_at(struct ctx *c, const struct string *s, const struct string *by, int64_t max, struct list *l)
{
    size_t end = s->n;
    const char *hit;
    while (max-- != 0) {
        TRY(find_last(c, s->p, end, by, &hit));
        if (!hit)
            break;
        TRY(add_part(c, l, hit + by->n, end - (size_t)(hit - s->p) - by->n));
        end = (size_t)(hit - s->p);
    }
    TRY(add_part(c, l, s->p, end));
    reverse(l);
    return CADRE_OK;
}

static cadre_err rsplit_space(struct ctx *c, const struct string *s, int64_t max, struct list *l)
{
    size_t end = s->n - space_suffix(s->p, s->n), lead = space_prefix(s->p, s->n);
    while (end > lead) {
        size_t from = end, len;
        if (max-- == 0) {
            TRY(add_part(c, l, s->p + lead, end - lead));
            break;
        }
        while (from > lead) {
            size_t k = from - 1;
            while (k > lead && (s->p[k] & 0xc0) == 0x80)
                k--;
            if (char_is_space(char_decode(s->p + k, from - k, &len)))
                break;
            from = k;
        }
        TRY(add_part(c, l, s->p + from, end - from));
        end = from - space_suffix(s->p + lead, from - lead);
    }
    reverse(l);
    return CADRE_OK;
}

static cadre_err split(struct ctx *c, const struct call *call, bool right, struct value *out)
{
    struct string *by = NULL;
    struct list *l = list_new(c, 0);
    int64_t max = -1;
    NEED(c, l);
    if (call->arg[0].kind != V_NONE)
        TRY(arg_string(c, &call->arg[0], "split: sep", &by));
    TRY(arg_int(c, &call->arg[1], "split: maxsplit", &max));
    if (by && by->n == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "split: expected a separator, found an empty text");
    if (by)
        TRY(right ? rsplit_at(c, call->self.s, by, max, l) : split_at(c, call->self.s, by, max, l));
    else
        TRY(right ? rsplit_space(c, call->self.s, max, l) : split_space(c, call->self.s, max, l));
    *out = value_list(V_LIST, l);
    return CADRE_OK;
}

static cadre_err s_split(struct ctx *c, const struct call *call, struct value *out)
{
    return split(c, call, false, out);
}

static cadre_err s_rsplit(struct ctx *c, const struct call *call, struct value *out)
{
    return split(c, call, true, out);
}

static cadre_err s_splitlines(struct ctx *c, const struct call *call, struct value *out)
{
    const struct string *s = call->self.s;
    struct list *l = list_new(c, 0);
    bool keep = false;
    size_t i = 0;
    NEED(c, l);
    TRY(arg_bool(&call->arg[0], &keep));
    while (i < s->n) {
        size_t end = i, after;
        while (end < s->n && s->p[end] != '\n' && s->p[end] != '\r')
            end++;
        after = end + (end < s->n);
        after += end + 1 < s->n && s->p[end] == '\r' && s->p[end + 1] == '\n';
        TRY(add_part(c, l, s->p + i, (keep ? after : end) - i));
        i = after;
    }
    *out = value_list(V_LIST, l);
    return CADRE_OK;
}

static cadre_err partition(struct ctx *c, const struct call *call, bool right, struct value *out)
{
    struct string *by, *s = call->self.s;
    struct list *l = list_new(c, 3);
    NEED(c, l);
    TRY(arg_string(c, &call->arg[0], "partition: sep", &by));
    if (by->n == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "partition: expected a separator, found an empty text");
    const char *hit = NULL;
    if (right)
        TRY(find_last(c, s->p, s->n, by, &hit));
    else
        hit = memmem(s->p, s->n, by->p, by->n);
    size_t before = hit ? (size_t)(hit - s->p) : right ? 0 : s->n;
    size_t after = hit ? before + by->n : before;
    TRY(add_part(c, l, s->p, before));
    TRY(add_part(c, l, hit ? hit : "", hit ? by->n : 0));
    TRY(add_part(c, l, s->p + after, s->n - after));
    *out = value_list(V_TUPLE, l);
    return CADRE_OK;
}

static cadre_err s_partition(struct ctx *c, const struct call *call, struct value *out)
{
    return partition(c, call, false, out);
}

static cadre_err s_rpartition(struct ctx *c, const struct call *call, struct value *out)
{
    return partition(c, call, true, out);
}

static cadre_err s_join(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    struct text t = {0};
    TRY(value_elements(c, &call->arg[0], &l));
    for (size_t i = 0; i < l->n; i++) {
        struct string *s;
        TRY(arg_string(c, &l->v[i], "join: element", &s));
        if (i)
            TRY(text_add(c, &t, call->self.s->p, call->self.s->n));
        TRY(text_add(c, &t, s->p, s->n));
    }
    return string_from_text(c, &t, out);
}

static cadre_err s_format(struct ctx *c, const struct call *call, struct value *out)
{
    struct text t = {0};
    TRY(print_format(c, &t, call->self.s, call->all));
    return string_from_text(c, &t, out);
}

/* ---- what a text consists of --------------------------------------------------------------------------- */

static bool is_alnum(int32_t code)
{
    return char_is_alpha(code) || char_is_digit(code);
}

static bool is_ascii(int32_t code)
{
    return code < 0x80;
}

static bool all_are(const struct string *s, bool (*is)(int32_t))
{
    for (size_t i = 0, len; i < s->n; i += len)
        if (!is(char_decode(s->p + i, s->n - i, &len)))
            return false;
    return true;
}

#define METHOD_OF_CLASS(name, is)                                                                                      \
    static cadre_err name(struct ctx *c, const struct call *call, struct value *out)                                   \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        return answer(out, call->self.s->n > 0 && all_are(call->self.s, is));                                          \
    }

METHOD_OF_CLASS(s_isdigit, char_is_digit)
METHOD_OF_CLASS(s_isalpha, char_is_alpha)
METHOD_OF_CLASS(s_isalnum, is_alnum)
METHOD_OF_CLASS(s_isspace, char_is_space)

static cadre_err s_isascii(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, all_are(call->self.s, is_ascii));
}

static cadre_err case_test(struct ctx *c, const struct call *call, const char *test, struct value *out)
{
    struct string name = {.p = test, .n = strlen(test), .chars = -1};
    const struct args none = {0};
    bool yes;
    TRY(call_test(c, &name, &call->self, &none, &yes));
    return answer(out, yes);
}

static cadre_err s_isupper(struct ctx *c, const struct call *call, struct value *out)
{
    return case_test(c, call, "upper", out);
}

static cadre_err s_islower(struct ctx *c, const struct call *call, struct value *out)
{
    return case_test(c, call, "lower", out);
}

const struct builtin builtin_str_methods[] = {{"upper", s_upper, ""},
                                              {"lower", s_lower, ""},
                                              {"casefold", s_lower, ""},
                                              {"swapcase", s_swapcase, ""},
                                              {"capitalize", s_capitalize, ""},
                                              {"title", s_title, ""},
                                              {"strip", s_strip, "chars?"},
                                              {"lstrip", s_lstrip, "chars?"},
                                              {"rstrip", s_rstrip, "chars?"},
                                              {"ljust", s_ljust, "width fillchar?"},
                                              {"rjust", s_rjust, "width fillchar?"},
                                              {"center", s_center, "width fillchar?"},
                                              {"zfill", s_zfill, "width"},
                                              {"find", s_find, "sub start? end?"},
                                              {"rfind", s_rfind, "sub start? end?"},
                                              {"index", s_index, "sub start? end?"},
                                              {"rindex", s_rindex, "sub start? end?"},
                                              {"count", s_count, "sub start? end?"},
                                              {"startswith", s_startswith, "prefix start? end?"},
                                              {"endswith", s_endswith, "suffix start? end?"},
                                              {"removeprefix", s_removeprefix, "prefix"},
                                              {"removesuffix", s_removesuffix, "suffix"},
                                              {"replace", s_replace, "old new count?"},
                                              {"split", s_split, "sep? maxsplit?"},
                                              {"rsplit", s_rsplit, "sep? maxsplit?"},
                                              {"splitlines", s_splitlines, "keepends?"},
                                              {"partition", s_partition, "sep"},
                                              {"rpartition", s_rpartition, "sep"},
                                              {"join", s_join, "iterable"},
                                              {"format", s_format, "*"},
                                              {"isdigit", s_isdigit, ""},
                                              {"isdecimal", s_isdigit, ""},
                                              {"isnumeric", s_isdigit, ""},
                                              {"isalpha", s_isalpha, ""},
                                              {"isalnum", s_isalnum, ""},
                                              {"isspace", s_isspace, ""},
                                              {"isascii", s_isascii, ""},
                                              {"isupper", s_isupper, ""},
                                              {"islower", s_islower, ""},
                                              {0}};
