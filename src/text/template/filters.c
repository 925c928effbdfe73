/* Filters over one value: texts, numbers, JSON. Those over sequences are in filters_list.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/chars.h"
#include "text/template/eval.h"
#include "text/template/print.h"
#include "text/template/strings.h"

/* The input as text, as most filters take it. */
static cadre_err soft(struct ctx *c, const struct call *call, struct string **s)
{
    return print_to_string(c, &call->self, s);
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static cadre_err f_upper(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    return string_map(c, s, CASE_UPPER, out);
}

static cadre_err f_lower(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    return string_map(c, s, CASE_LOWER, out);
}

static cadre_err f_capitalize(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    return string_map(c, s, CASE_CAPITALIZE, out);
}

static cadre_err f_title(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    return string_map(c, s, CASE_FILTER_TITLE, out);
}

static cadre_err f_trim(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s, *chars = NULL;
    TRY(soft(c, call, &s));
    if (call->arg[0].kind != V_NONE)
        TRY(arg_string(c, &call->arg[0], "trim: chars", &chars));
    return string_strip(c, s, chars, true, true, out);
}

static cadre_err f_replace(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s, *old, *new;
    int64_t count = -1;
    TRY(soft(c, call, &s));
    TRY(print_to_string(c, &call->arg[0], &old));
    TRY(print_to_string(c, &call->arg[1], &new));
    if (call->arg[2].kind != V_NONE)
        TRY(arg_int(c, &call->arg[2], "replace: count", &count));
    return string_replace(c, s, old, new, count, out);
}

static cadre_err f_string(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    *out = value_string(s);
    return CADRE_OK;
}

static cadre_err f_escape(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    struct text t = {0};
    TRY(soft(c, call, &s));
    if (s->safe)
        return f_string(c, call, out);
    TRY(print_escaped(c, &t, s));
    TRY(string_from_text(c, &t, out));
    out->s->safe = true;
    return CADRE_OK;
}

static cadre_err f_forceescape(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    struct text t = {0};
    TRY(soft(c, call, &s));
    TRY(print_escaped(c, &t, s));
    TRY(string_from_text(c, &t, out));
    out->s->safe = true;
    return CADRE_OK;
}

static cadre_err f_safe(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(soft(c, call, &s));
    TRY(string_of(c, s->p, s->n, out));
    out->s->safe = true;
    return CADRE_OK;
}

static cadre_err f_format(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    struct text t = {0};
    struct value values;
    TRY(soft(c, call, &s));
    if (call->all->n && call->all->n_named)
        return ctx_fail(c, CADRE_E_FORMAT, "format: expected values with or without names, not both");
    if (call->all->n_named) {
        struct dict *d = dict_new(c);
        NEED(c, d);
        for (size_t i = 0; i < call->all->n_named; i++)
            TRY(dict_set(c, d, value_string(call->all->name[i]), call->all->named[i]));
        values = value_dict(d);
    } else {
        struct list *l = list_new(c, call->all->n);
        NEED(c, l);
        for (size_t i = 0; i < call->all->n; i++)
            TRY(list_add(c, l, call->all->v[i]));
        values = value_list(V_TUPLE, l);
    }
    TRY(print_percent(c, &t, s, &values));
    return string_from_text(c, &t, out);
}

/* Every line but the first (unless asked) and but the blank ones (unless asked). */
static cadre_err f_indent(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s, *with = NULL;
    struct text t = {0};
    int64_t width = 4;
    bool first = false, blank = false;
    TRY(soft(c, call, &s));
    if (call->arg[0].kind == V_STRING)
        with = call->arg[0].s;
    else
        TRY(arg_int(c, &call->arg[0], "indent: width", &width));
    TRY(arg_bool(&call->arg[1], &first));
    TRY(arg_bool(&call->arg[2], &blank));
    const char *p = s->p, *end = p + s->n;
    for (bool at_first = true; at_first || p <= end; at_first = false) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((newline ? newline : end) - p);
        if (at_first ? first : n > 0 || blank)
            TRY(with ? text_add(c, &t, with->p, with->n) : text_fill(c, &t, ' ', (size_t)(width > 0 ? width : 0)));
        TRY(text_add(c, &t, p, n));
        if (!newline)
            break;
        TRY(text_put(c, &t, "\n"));
        p = newline + 1;
    }
    return string_from_text(c, &t, out);
}

static cadre_err f_wordcount(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    int64_t words = 0;
    bool inside = false;
    TRY(soft(c, call, &s));
    for (size_t i = 0, len; i < s->n; i += len) {
        int32_t code = char_decode(s->p + i, s->n - i, &len);
        bool word = code == '_' || char_is_alpha(code) || char_is_digit(code);
        words += word && !inside;
        inside = word;
    }
    *out = value_int(words);
    return CADRE_OK;
}

static cadre_err f_center(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    int64_t width = 80;
    TRY(soft(c, call, &s));
    TRY(arg_int(c, &call->arg[0], "center: width", &width));
    return string_justify(c, s, width, " ", 1, true, true, out);
}

static cadre_err f_truncate(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s, *end;
    struct value dots;
    int64_t length = 255, leeway = 5;
    bool kill = false;
    struct text t = {0};
    TRY(soft(c, call, &s));
    TRY(string_of(c, "...", 3, &dots));
    end = dots.s;
    TRY(arg_int(c, &call->arg[0], "truncate: length", &length));
    TRY(arg_bool(&call->arg[1], &kill));
    TRY(arg_string(c, &call->arg[2], "truncate: end", &end));
    TRY(arg_int(c, &call->arg[3], "truncate: leeway", &leeway));
    if (length < string_chars(end) || leeway < 0)
        return ctx_fail(c, CADRE_E_FORMAT, "truncate: expected a length of at least %lld and a leeway of at least 0",
                        (long long)string_chars(end));
    if (string_chars(s) <= length || string_chars(s) - length <= leeway) {
        *out = value_string(s);
        return CADRE_OK;
    }
    size_t n = string_offset(s, length - string_chars(end));
    const char *blank = kill ? NULL : n ? memrchr(s->p, ' ', n) : NULL;
    TRY(text_add(c, &t, s->p, blank ? (size_t)(blank - s->p) : n));
    TRY(text_add(c, &t, end->p, end->n));
    return string_from_text(c, &t, out);
}

/* Tags and comments away, white space to single blanks. */
static cadre_err f_striptags(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    struct text t = {0};
    bool blank = false;
    TRY(soft(c, call, &s));
    for (size_t i = 0, len; i < s->n; i += len) {
        const char *close = NULL;
        len = 1;
        if (s->p[i] == '<')
            close = s->n - i > 4 && memcmp(s->p + i, "<!--", 4) == 0 ? memmem(s->p + i, s->n - i, "-->", 3)
                                                                     : memchr(s->p + i, '>', s->n - i);
        if (close) {
            len = (size_t)(close - s->p) - i + (*close == '-' ? 3 : 1);
            continue;
        }
        if (char_is_space(char_decode(s->p + i, s->n - i, &len))) {
            blank = t.n > 0;
            continue;
        }
        if (blank)
            TRY(text_put(c, &t, " "));
        blank = false;
        TRY(text_add(c, &t, s->p + i, len));
    }
    return string_from_text(c, &t, out);
}

static cadre_err quote_url(struct ctx *c, struct text *t, const struct string *s, bool query)
{
    for (size_t i = 0; i < s->n; i++) {
        unsigned char b = (unsigned char)s->p[i];
        bool plain = (b < 0x80 && is_word_byte((char)b)) || (b && strchr("-.~", b)) || (b == '/' && !query);
        if (plain)
            TRY(text_add(c, t, s->p + i, 1));
        else
            TRY(query && b == ' ' ? text_put(c, t, "+") : text_printf(c, t, "%%%02X", b));
    }
    return CADRE_OK;
}

static cadre_err quote_pair(struct ctx *c, struct text *t, const struct value *key, const struct value *v)
{
    struct string *s;
    TRY(t->n ? text_put(c, t, "&") : CADRE_OK);
    TRY(print_to_string(c, key, &s));
    TRY(quote_url(c, t, s, true));
    TRY(text_put(c, t, "="));
    TRY(print_to_string(c, v, &s));
    return quote_url(c, t, s, true);
}

static cadre_err f_urlencode(struct ctx *c, const struct call *call, struct value *out)
{
    struct text t = {0};
    struct string *s;
    struct list *l;
    if (call->self.kind == V_DICT) {
        const struct dict *d = call->self.dict;
        for (size_t i = 0; i < d->n; i++)
            if (!d->e[i].gone)
                TRY(quote_pair(c, &t, &d->e[i].key, &d->e[i].value));
    } else if (call->self.kind == V_STRING || !value_is_iterable(&call->self)) {
        TRY(soft(c, call, &s));
        TRY(quote_url(c, &t, s, false));
    } else {
        TRY(value_elements(c, &call->self, &l));
        for (size_t i = 0; i < l->n; i++) {
            struct list *pair;
            TRY(value_elements(c, &l->v[i], &pair));
            if (pair->n != 2)
                return ctx_fail(c, CADRE_E_FORMAT, "urlencode: expected pairs, found %zu values", pair->n);
            TRY(quote_pair(c, &t, &pair->v[0], &pair->v[1]));
        }
    }
    return string_from_text(c, &t, out);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static cadre_err f_abs(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value *v = &call->self;
    if (v->kind == V_UNDEFINED)
        return value_use_undefined(c, v);
    if (!value_is_number(v))
        return ctx_fail(c, CADRE_E_FORMAT, "abs: expected a number, found a %s", value_kind_name(v));
    bool negative = value_as_float(v) < 0;
    *out = v->kind == V_FLOAT ? value_float(fabs(v->f)) : value_int(value_as_int(v));
    return negative && v->kind != V_FLOAT ? op_unary(c, '-', v, out) : CADRE_OK;
}

static cadre_err f_int(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value *v = &call->self;
    int64_t base = 10;
    bool ok = false;
    *out = call->arg[0].kind == V_MISSING ? value_int(0) : call->arg[0];
    TRY(arg_int(c, &call->arg[1], "int: base", &base));
    if (value_is_integer(v))
        *out = value_int(value_as_int(v));
    else if (v->kind == V_FLOAT && fabs(v->f) < 0x1p63)
        *out = value_int((int64_t)v->f);
    else if (v->kind == V_STRING) {
        double f;
        struct value i;
        if (parse_int(v->s, (int)base, &i.i)) {
            *out = value_int(i.i);
        } else if (parse_float(v->s, &f, &ok), ok && fabs(f) < 0x1p63) {
            *out = value_int((int64_t)f);
        }
    }
    return CADRE_OK;
}

static cadre_err f_float(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value *v = &call->self;
    (void)c;
    *out = call->arg[0].kind == V_MISSING ? value_float(0) : call->arg[0];
    if (value_is_number(v)) {
        *out = value_float(value_as_float(v));
    } else if (v->kind == V_STRING) {
        double f;
        bool ok = false;
        parse_float(v->s, &f, &ok);
        if (ok)
            *out = value_float(f);
    }
    return CADRE_OK;
}

/* To `precision` decimals, halves to even, from the exact value of the double. */
static double round_half_even(double f, int precision)
{
    char b[512];
    if (precision < 0) {
        double unit = pow(10, -precision);
        return nearbyint(f / unit) * unit;
    }
    if (precision > 100 || fabs(f) > 1e300)
        return f;
    snprintf(b, sizeof b, "%.*f", precision, f);
    return strtod(b, NULL);
}

static cadre_err f_round(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value *v = &call->self;
    struct string *method = NULL;
    int64_t precision = 0;
    TRY(arg_int(c, &call->arg[0], "round: precision", &precision));
    TRY(arg_string(c, &call->arg[1], "round: method", &method));
    if (v->kind == V_UNDEFINED)
        return value_use_undefined(c, v);
    if (!value_is_number(v))
        return ctx_fail(c, CADRE_E_FORMAT, "round: expected a number, found a %s", value_kind_name(v));
    int digits = precision < -300 ? -300 : precision > 300 ? 300 : (int)precision;
    bool common = !method || string_is(method, "common");
    if (common && value_is_integer(v) && digits >= 0) {
        *out = value_int(value_as_int(v));
    } else if (common) {
        double f = round_half_even(value_as_float(v), digits);
        *out = value_float(f);
        if (value_is_integer(v))
            return float_to_int(c, f, out);
    } else if (string_is(method, "ceil") || string_is(method, "floor")) {
        double unit = pow(10, digits), f = value_as_float(v) * unit;
        *out = value_float((string_is(method, "ceil") ? ceil(f) : floor(f)) / unit);
    } else {
        return ctx_fail(c, CADRE_E_FORMAT, "round: expected the method common, ceil or floor, found '%.*s'",
                        (int)method->n, method->p);
    }
    return CADRE_OK;
}

static cadre_err f_filesizeformat(struct ctx *c, const struct call *call, struct value *out)
{
    static const char *const units[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    struct value number;
    struct text t = {0};
    bool binary = false;
    TRY(arg_bool(&call->arg[0], &binary));
    const struct call convert = {.self = call->self};
    TRY(f_float(c, &convert, &number));
    double base = binary ? 1024 : 1000, f = number.f, unit = base;
    if (f == 1) {
        TRY(text_put(c, &t, "1 Byte"));
    } else if (f < base) {
        TRY(text_printf(c, &t, "%lld Bytes", (long long)f));
    } else {
        int u = 0;
        while (f >= unit * base && u < 7) {
            unit *= base;
            u++;
        }
        TRY(text_printf(c, &t, "%.1f %s", f / unit, units[binary][u]));
    }
    return string_from_text(c, &t, out);
}

/* ---- any value ----------------------------------------------------------------------------------------- */

static cadre_err f_default(struct ctx *c, const struct call *call, struct value *out)
{
    bool falsy = false;
    TRY(arg_bool(&call->arg[1], &falsy));
    *out = call->self;
    if (call->self.kind != V_UNDEFINED && !(falsy && !value_truth(&call->self)))
        return CADRE_OK;
    *out = call->arg[0];
    return call->arg[0].kind == V_MISSING ? string_of(c, "", 0, out) : CADRE_OK;
}

static cadre_err f_attr(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *name;
    TRY(arg_string(c, &call->arg[0], "attr: name", &name));
    if (call->self.kind == V_DICT) { /* attributes only: not the members of a dict */
        const struct builtin *row = builtin_find(builtin_dict_methods, name);
        return row ? value_attribute(c, &call->self, name, out)
                   : value_undefined(c, name, value_kind_name(&call->self), out);
    }
    return value_attribute(c, &call->self, name, out);
}

static cadre_err f_pprint(struct ctx *c, const struct call *call, struct value *out)
{
    struct text t = {0};
    TRY(print_repr(c, &t, &call->self));
    return string_from_text(c, &t, out);
}

static cadre_err read_separators(struct ctx *c, const struct value *v, struct json_style *style)
{
    if (v->kind == V_MISSING || v->kind == V_NONE)
        return CADRE_OK;
    if ((v->kind != V_LIST && v->kind != V_TUPLE) || v->list->n != 2 || v->list->v[0].kind != V_STRING ||
        v->list->v[1].kind != V_STRING)
        return ctx_fail(c, CADRE_E_FORMAT, "tojson: expected two texts as separators");
    style->item = v->list->v[0].s->p, style->n_item = v->list->v[0].s->n;
    style->key = v->list->v[1].s->p, style->n_key = v->list->v[1].s->n;
    return CADRE_OK;
}

/* json.dumps with the defaults of transformers. */
static cadre_err f_tojson(struct ctx *c, const struct call *call, struct value *out)
{
    struct json_style style = {.indent = -1, .item = ", ", .n_item = 2, .key = ": ", .n_key = 2};
    struct text t = {0};
    TRY(arg_bool(&call->arg[0], &style.ensure_ascii));
    if (call->arg[1].kind != V_NONE && call->arg[1].kind != V_MISSING) {
        TRY(arg_int(c, &call->arg[1], "tojson: indent", &style.indent));
        style.indent = style.indent < 0 ? 0 : style.indent > 1000 ? 1000 : style.indent;
        style.n_item = 1; /* no blank before the end of a line */
    }
    TRY(read_separators(c, &call->arg[2], &style));
    TRY(arg_bool(&call->arg[3], &style.sort_keys));
    TRY(print_json(c, &t, &call->self, &style, 0));
    return string_from_text(c, &t, out);
}

const struct builtin builtin_filters[] = {{"tojson", f_tojson, "ensure_ascii? indent? separators? sort_keys?"},
                                          {"trim", f_trim, "chars?"},
                                          {"default", f_default, "default_value? boolean?"},
                                          {"d", f_default, "default_value? boolean?"},
                                          {"string", f_string, ""},
                                          {"upper", f_upper, ""},
                                          {"lower", f_lower, ""},
                                          {"capitalize", f_capitalize, ""},
                                          {"title", f_title, ""},
                                          {"replace", f_replace, "old new count?"},
                                          {"indent", f_indent, "width? first? blank?"},
                                          {"int", f_int, "default? base?"},
                                          {"float", f_float, "default?"},
                                          {"round", f_round, "precision? method?"},
                                          {"abs", f_abs, ""},
                                          {"escape", f_escape, ""},
                                          {"e", f_escape, ""},
                                          {"forceescape", f_forceescape, ""},
                                          {"safe", f_safe, ""},
                                          {"format", f_format, "*"},
                                          {"wordcount", f_wordcount, ""},
                                          {"center", f_center, "width?"},
                                          {"truncate", f_truncate, "length? killwords? end? leeway?"},
                                          {"striptags", f_striptags, ""},
                                          {"urlencode", f_urlencode, ""},
                                          {"filesizeformat", f_filesizeformat, "binary?"},
                                          {"attr", f_attr, "name"},
                                          {"pprint", f_pprint, ""},
                                          {0}};
