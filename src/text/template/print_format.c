/* Python's two ways to fill values into a text: % and str.format. Both come down to a `struct field_spec`. */
#include <math.h>
#include <string.h>

#include "text/template/builtin.h"
#include "text/template/chars.h"
#include "text/template/eval.h"
#include "text/template/print.h"

struct field_spec {
    const char *fill; /* one character, n_fill bytes */
    size_t n_fill;
    char align; /* '<', '>', '^', '=' or 0 */
    char sign;  /* '+', ' ' or 0 */
    bool alternate, grouping;
    int64_t width, precision; /* -1: none */
    char type;                /* 0: none */
};

enum { MAX_WIDTH = 1 << 20 };

/* ---- one value ---- */

/* Digits of a whole part with "," between thousands. */
static cadre_err group_digits(struct ctx *c, struct text *t, const char *digits, size_t n)
{
    size_t whole = strspn(digits, "0123456789");
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0)
            TRY(text_put(c, t, ","));
        TRY(text_add(c, t, digits + i, 1));
    }
    return text_add(c, t, digits + whole, n - whole);
}

static cadre_err whole_number(struct ctx *c, struct text *t, const struct field_spec *s, int64_t i)
{
    uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
    if (s->type == 'b') {
        char bits[64];
        int n = 0;
        do
            bits[63 - n++] = (char)('0' + (u & 1));
        while (u >>= 1);
        TRY(s->alternate ? text_put(c, t, "0b") : CADRE_OK);
        return text_add(c, t, bits + 64 - n, (size_t)n);
    }
    if (s->type == 'x' || s->type == 'X' || s->type == 'o') {
        if (s->alternate)
            TRY(text_printf(c, t, "0%c", s->type));
        return s->type == 'o'   ? text_printf(c, t, "%llo", (unsigned long long)u)
               : s->type == 'x' ? text_printf(c, t, "%llx", (unsigned long long)u)
                                : text_printf(c, t, "%llX", (unsigned long long)u);
    }
    return text_printf(c, t, "%llu", (unsigned long long)u);
}

static cadre_err real_number(struct ctx *c, struct text *t, const struct field_spec *s, double f)
{
    int precision = s->precision < 0 ? 6 : (int)s->precision;
    f = fabs(f);
    if (!isfinite(f))
        return text_put(c, t, isnan(f) ? "nan" : "inf");
    switch (s->type) {
    case 'e':
    case 'E':
        return s->type == 'e' ? text_printf(c, t, "%.*e", precision, f) : text_printf(c, t, "%.*E", precision, f);
    case '%':
        return text_printf(c, t, "%.*f%%", precision, f * 100);
    case 'g':
    case 'G':
        return s->type == 'g' ? text_printf(c, t, "%.*g", precision, f) : text_printf(c, t, "%.*G", precision, f);
    case 0: {
        struct value v = value_float(f);
        return s->precision < 0 ? print_repr(c, t, &v) : text_printf(c, t, "%.*g", precision ? precision : 1, f);
    }
    default:
        return text_printf(c, t, "%.*f", precision, f);
    }
}

static cadre_err pad(struct ctx *c, struct text *t, const struct field_spec *s, int64_t n)
{
    for (; n > 0; n--)
        TRY(text_add(c, t, s->n_fill ? s->fill : " ", s->n_fill ? s->n_fill : 1));
    return CADRE_OK;
}

/* sign and body, padded. */
static cadre_err put_field(struct ctx *c, struct text *t, const struct field_spec *s, char align, const char *sign,
                           const struct text *body)
{
    struct string whole = {.p = body->n ? body->p : "", .n = body->n, .chars = -1};
    int64_t space = s->width - string_chars(&whole) - (int64_t)strlen(sign);
    int64_t before = align == '>' ? space : align == '^' ? (space > 0 ? space / 2 : 0) : 0;
    TRY(pad(c, t, s, before));
    TRY(text_put(c, t, sign));
    if (align == '=')
        TRY(pad(c, t, s, space));
    TRY(text_add(c, t, whole.p, whole.n));
    return align == '=' ? CADRE_OK : pad(c, t, s, space - before);
}

static cadre_err put_number(struct ctx *c, struct text *t, const struct field_spec *s, const struct value *v)
{
    struct text body = {0}, grouped = {0};
    bool real = v->kind == V_FLOAT || (s->type && strchr("eEfFgG%", s->type));
    bool negative = real ? value_as_float(v) < 0 : value_as_int(v) < 0;
    TRY(real ? real_number(c, &body, s, value_as_float(v)) : whole_number(c, &body, s, value_as_int(v)));
    if (s->grouping)
        TRY(group_digits(c, &grouped, body.p, body.n));
    const char sign[2] = {negative ? '-' : s->sign, 0};
    return put_field(c, t, s, s->align ? s->align : '>', sign, s->grouping ? &grouped : &body);
}

static cadre_err put_text(struct ctx *c, struct text *t, const struct field_spec *s, struct string *text)
{
    size_t n = text->n;
    if (s->precision >= 0 && s->precision < string_chars(text))
        n = string_offset(text, s->precision);
    const struct text body = {.p = (char *)(uintptr_t)text->p, .n = n};
    return put_field(c, t, s, s->align ? s->align : '<', "", &body);
}

/* ---- % ------------------------------------------------------------------------------------------------- */

struct percent {
    struct ctx *c;
    const char *p, *end;
    const struct value *values; /* a tuple, a dict, or one value */
    size_t used;
};

static cadre_err next_value(struct percent *f, struct value *out)
{
    const struct value *v = f->values;
    bool tuple = v->kind == V_TUPLE;
    if (f->used >= (tuple ? v->list->n : 1))
        return ctx_fail(f->c, CADRE_E_FORMAT, "%% on a str: expected more values, found %zu", f->used);
    *out = tuple ? v->list->v[f->used] : *v;
    f->used++;
    return CADRE_OK;
}

static cadre_err percent_number(struct percent *f, int64_t *out)
{
    if (f->p < f->end && *f->p == '*') {
        struct value v;
        f->p++;
        TRY(next_value(f, &v));
        TRY(arg_int(f->c, &v, "* in a format", out));
    } else {
        for (*out = 0; f->p < f->end && *f->p >= '0' && *f->p <= '9' && *out <= MAX_WIDTH; f->p++)
            *out = *out * 10 + (*f->p - '0');
    }
    if (*out > MAX_WIDTH || *out < -MAX_WIDTH)
        return ctx_fail(f->c, CADRE_E_MEMORY, "a format wider than %d characters", MAX_WIDTH);
    return CADRE_OK;
}

static cadre_err percent_field(struct percent *f, struct text *t)
{
    struct field_spec s = {.precision = -1};
    struct value v = VALUE_MISSING;
    bool left = false, zero = false;
    if (f->p < f->end && *f->p == '(') {
        const char *close = memchr(f->p, ')', (size_t)(f->end - f->p));
        if (!close || f->values->kind != V_DICT)
            return ctx_fail(f->c, CADRE_E_FORMAT, "%%(name): expected ')' and a dict of values");
        struct string name = {.p = f->p + 1, .n = (size_t)(close - f->p - 1), .chars = -1};
        int64_t at;
        TRY(dict_find(f->c, f->values->dict, value_string(&name), &at));
        if (at < 0)
            return ctx_fail(f->c, CADRE_E_FORMAT, "%%(%.*s): the dict has no such key", (int)name.n, name.p);
        v = f->values->dict->e[at].value;
        f->used = 1;
        f->p = close + 1;
    }
    for (; f->p < f->end && strchr("-+ 0#", *f->p) && *f->p; f->p++) {
        left = left || *f->p == '-';
        zero = zero || *f->p == '0';
        s.alternate = s.alternate || *f->p == '#';
        s.sign = *f->p == '+' ? '+' : *f->p == ' ' && !s.sign ? ' ' : s.sign;
    }
    TRY(percent_number(f, &s.width));
    if (f->p < f->end && *f->p == '.') {
        f->p++;
        TRY(percent_number(f, &s.precision));
    }
    if (s.width < 0) {
        left = true;
        s.width = -s.width;
    }
    char type = f->p < f->end ? *f->p++ : 0;
    if (type == '%')
        return text_put(f->c, t, "%");
    if (v.kind == V_MISSING)
        TRY(next_value(f, &v));
    s.align = left ? '<' : 0;
    if (type == 's' || type == 'r' || type == 'a') {
        struct text own = {0};
        TRY(type == 's' ? print_str(f->c, &own, &v) : print_repr(f->c, &own, &v));
        struct string text = {.p = own.n ? own.p : "", .n = own.n, .chars = -1};
        s.align = left ? '<' : '>';
        return put_text(f->c, t, &s, &text);
    }
    if (type == 'c' && v.kind == V_STRING)
        return put_text(f->c, t, &s, v.s);
    if (!type || !strchr("diuxXoeEfFgG", type) || !value_is_number(&v))
        return ctx_fail(f->c, CADRE_E_FORMAT, "%%%c: a %s cannot be written so", type ? type : ' ',
                        value_kind_name(&v));
    s.type = strchr("diu", type) ? 'd' : type;
    if (strchr("dxXo", s.type) && v.kind == V_FLOAT)
        TRY(float_to_int(f->c, v.f, &v));
    if (zero && !left)
        s.align = '=', s.fill = "0", s.n_fill = 1;
    return put_number(f->c, t, &s, &v);
}

cadre_err print_percent(struct ctx *c, struct text *t, const struct string *format, const struct value *values)
{
    struct percent f = {.c = c, .p = format->p, .end = format->p + format->n, .values = values};
    while (f.p < f.end) {
        const char *mark = memchr(f.p, '%', (size_t)(f.end - f.p));
        mark = mark ? mark : f.end;
        TRY(text_add(c, t, f.p, (size_t)(mark - f.p)));
        f.p = mark + (mark < f.end);
        if (mark < f.end)
            TRY(percent_field(&f, t));
    }
    if (values->kind == V_TUPLE
            ? f.used < values->list->n
            : values->kind != V_DICT && values->kind != V_LIST && values->kind != V_UNDEFINED && f.used == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "%% on a str: not all values were used");
    return CADRE_OK;
}

/* ---- str.format ---------------------------------------------------------------------------------------- */

static cadre_err read_spec(struct ctx *c, const char *p, size_t n, struct field_spec *s)
{
    const char *end = p + n;
    size_t len = n ? char_length(p, n) : 0;
    *s = (struct field_spec){.precision = -1};
    if (n > len && len && strchr("<>=^", p[len]) && p[len]) {
        s->fill = p, s->n_fill = len, s->align = p[len];
        p += len + 1;
    } else if (n && strchr("<>=^", *p) && *p) {
        s->align = *p++;
    }
    if (p < end && (*p == '+' || *p == ' ' || *p == '-'))
        s->sign = *p == '-' ? 0 : *p, p++;
    if (p < end && *p == '#')
        s->alternate = true, p++;
    if (p < end && *p == '0' && !s->align)
        s->align = '=', s->fill = "0", s->n_fill = 1, p++;
    for (; p < end && *p >= '0' && *p <= '9' && s->width <= MAX_WIDTH; p++)
        s->width = s->width * 10 + (*p - '0');
    if (p < end && (*p == ',' || *p == '_'))
        s->grouping = true, p++;
    if (p < end && *p == '.')
        for (s->precision = 0, p++; p < end && *p >= '0' && *p <= '9' && s->precision <= MAX_WIDTH; p++)
            s->precision = s->precision * 10 + (*p - '0');
    if (p < end && strchr("bcdeEfFgGnosxX%", *p) && *p)
        s->type = *p++;
    if (s->width > MAX_WIDTH || s->precision > MAX_WIDTH)
        return ctx_fail(c, CADRE_E_MEMORY, "a format wider than %d characters", MAX_WIDTH);
    if (p != end)
        return ctx_fail(c, CADRE_E_FORMAT,
                        "format: expected [fill align sign # 0 width , .precision type], found '%.*s'", (int)n,
                        end - n);
    return CADRE_OK;
}

/* The value that "0.name[1]" names; `next` counts the "{}" without a number. */
static cadre_err find_field(struct ctx *c, const struct args *args, const char *p, size_t n, size_t *next,
                            struct value *out)
{
    size_t head = 0;
    while (head < n && p[head] != '.' && p[head] != '[')
        head++;
    size_t digits = strspn(p, "0123456789");
    if (head == 0 || digits >= head) {
        size_t i = 0;
        for (size_t k = 0; k < head && i < 1000; k++)
            i = i * 10 + (size_t)(p[k] - '0');
        i = head ? i : (*next)++;
        if (i >= args->n)
            return ctx_fail(c, CADRE_E_FORMAT, "format: expected a value number %zu, found %zu values", i, args->n);
        *out = args->v[i];
    } else {
        size_t k = 0;
        while (k < args->n_named && !(args->name[k]->n == head && memcmp(args->name[k]->p, p, head) == 0))
            k++;
        if (k == args->n_named)
            return ctx_fail(c, CADRE_E_FORMAT, "format: expected a value named '%.*s', found none", (int)head, p);
        *out = args->named[k];
    }
    while (head < n) {
        bool item = p[head++] == '[';
        size_t begin = head;
        while (head < n && (item ? p[head] != ']' : p[head] != '.' && p[head] != '['))
            head++;
        struct string *name = string_new(c, p + begin, head - begin);
        NEED(c, name);
        TRY(value_path_step(c, out, name, item, out));
        head += item && head < n;
    }
    return CADRE_OK;
}

static cadre_err put_formatted(struct ctx *c, struct text *t, const struct value *v, char conversion,
                               const struct field_spec *s)
{
    struct text own = {0};
    if (!conversion && value_is_number(v) && !(v->kind == V_BOOL && !s->type))
        return put_number(c, t, s, v);
    TRY(conversion == 'r' || conversion == 'a' ? print_repr(c, &own, v) : print_str(c, &own, v));
    struct string text = {.p = own.n ? own.p : "", .n = own.n, .chars = -1};
    return put_text(c, t, s, &text);
}

/* Nested {} inside of a format are refused: templates do not need computed widths. */
cadre_err print_format(struct ctx *c, struct text *t, const struct string *format, const struct args *args)
{
    const char *p = format->p, *end = p + format->n;
    size_t next = 0;
    while (p < end) {
        if ((*p == '{' || *p == '}') && p + 1 < end && p[1] == *p) {
            TRY(text_add(c, t, p, 1));
            p += 2;
            continue;
        }
        if (*p != '{' && *p != '}') {
            TRY(text_add(c, t, p++, 1));
            continue;
        }
        const char *close = memchr(p, '}', (size_t)(end - p)), *inner = p + 1;
        if (*p == '}' || !close || memchr(inner, '{', (size_t)(close - inner)))
            return ctx_fail(c, CADRE_E_FORMAT, "format: expected '{' and '}' in pairs, not nested");
        const char *colon = memchr(inner, ':', (size_t)(close - inner));
        const char *field_end = colon ? colon : close;
        char conversion = 0;
        if (field_end - inner >= 2 && field_end[-2] == '!') {
            conversion = field_end[-1];
            field_end -= 2;
        }
        struct value v;
        struct field_spec s;
        TRY(find_field(c, args, inner, (size_t)(field_end - inner), &next, &v));
        TRY(read_spec(c, colon ? colon + 1 : close, colon ? (size_t)(close - colon - 1) : 0, &s));
        TRY(put_formatted(c, t, &v, conversion, &s));
        p = close + 1;
    }
    return CADRE_OK;
}
