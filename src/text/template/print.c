#include "text/template/print.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/chars.h"
#include "text/template/eval.h"

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* The shortest decimal digits that read back as the same number; an exponent below 1e-4 and from 1e16 on. */
static cadre_err print_float(struct ctx *c, struct text *t, double f)
{
    char b[40], digits[24];
    if (isnan(f) || isinf(f))
        return text_put(c, t, isnan(f) ? "nan" : f > 0 ? "inf" : "-inf");
    for (int p = 0; p < 17; p++) {
        snprintf(b, sizeof b, "%.*e", p, f);
        if (strtod(b, NULL) == f)
            break;
    }
    char *e = strchr(b, 'e');
    int exponent = atoi(e + 1), n = 0;
    for (const char *p = b; p < e; p++)
        if (*p >= '0' && *p <= '9')
            digits[n++] = *p;
    if (*b == '-')
        TRY(text_put(c, t, "-"));
    if (exponent < -4 || exponent >= 16) {
        TRY(text_add(c, t, digits, 1));
        if (n > 1) {
            TRY(text_put(c, t, "."));
            TRY(text_add(c, t, digits + 1, (size_t)n - 1));
        }
        return text_printf(c, t, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    if (exponent < 0) {
        TRY(text_put(c, t, "0."));
        TRY(text_fill(c, t, '0', (size_t)(-exponent - 1)));
        return text_add(c, t, digits, (size_t)n);
    }
    int whole = n < exponent + 1 ? n : exponent + 1;
    TRY(text_add(c, t, digits, (size_t)whole));
    TRY(text_fill(c, t, '0', (size_t)(exponent + 1 - whole)));
    TRY(text_put(c, t, "."));
    return n > whole ? text_add(c, t, digits + whole, (size_t)(n - whole)) : text_put(c, t, "0");
}

/* ---- repr() and str() ---------------------------------------------------------------------------------- */

static cadre_err repr_string(struct ctx *c, struct text *t, const struct string *s)
{
    bool single = memchr(s->p, '\'', s->n), two = memchr(s->p, '"', s->n);
    char quote = single && !two ? '"' : '\'';
    TRY(text_add(c, t, &quote, 1));
    for (size_t i = 0, len; i < s->n; i += len) {
        int32_t code = char_decode(s->p + i, s->n - i, &len);
        const char *hit = code && code < 0x80 ? strchr("\n\r\t\\", code) : NULL;
        if (hit)
            TRY(text_printf(c, t, "\\%c", "nrt\\"[hit - "\n\r\t\\"]));
        else if (code == quote)
            TRY(text_printf(c, t, "\\%c", quote));
        else if (char_is_printable(code))
            TRY(text_add(c, t, s->p + i, len));
        else
            TRY(text_printf(c, t, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", (unsigned)code));
    }
    return text_add(c, t, &quote, 1);
}

static cadre_err repr_items(struct ctx *c, struct text *t, const struct list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            TRY(text_put(c, t, ", "));
        TRY(print_repr(c, t, &l->v[i]));
    }
    return CADRE_OK;
}

static cadre_err repr_list(struct ctx *c, struct text *t, const struct value *v)
{
    bool tuple = v->kind == V_TUPLE;
    if (v->kind == V_VIEW)
        TRY(text_printf(c, t, "%s(", v->list->view));
    TRY(text_put(c, t, tuple ? "(" : "["));
    TRY(repr_items(c, t, v->list));
    TRY(text_put(c, t, tuple && v->list->n == 1 ? ",)" : tuple ? ")" : "]"));
    return v->kind == V_VIEW ? text_put(c, t, ")") : CADRE_OK;
}

static cadre_err repr_dict(struct ctx *c, struct text *t, const struct dict *d)
{
    bool first = true;
    TRY(text_put(c, t, "{"));
    for (size_t i = 0; i < d->n; i++) {
        if (d->e[i].gone)
            continue;
        if (!first)
            TRY(text_put(c, t, ", "));
        first = false;
        TRY(print_repr(c, t, &d->e[i].key));
        TRY(text_put(c, t, ": "));
        TRY(print_repr(c, t, &d->e[i].value));
    }
    return text_put(c, t, "}");
}

cadre_err print_repr(struct ctx *c, struct text *t, const struct value *v)
{
    TRY(ctx_enter(c));
    TRY(ctx_steps(c, 1));
    switch (v->kind) {
    case V_UNDEFINED:
        TRY(text_put(c, t, "Undefined"));
        break;
    case V_NONE:
        TRY(text_put(c, t, "None"));
        break;
    case V_BOOL:
        TRY(text_put(c, t, v->b ? "True" : "False"));
        break;
    case V_INT:
        TRY(text_printf(c, t, "%lld", (long long)v->i));
        break;
    case V_FLOAT:
        TRY(print_float(c, t, v->f));
        break;
    case V_STRING:
        if (v->s->safe)
            TRY(text_put(c, t, "Markup("));
        TRY(repr_string(c, t, v->s));
        if (v->s->safe)
            TRY(text_put(c, t, ")"));
        break;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        TRY(repr_list(c, t, v));
        break;
    case V_DICT:
        TRY(repr_dict(c, t, v->dict));
        break;
    case V_NAMESPACE:
        TRY(text_put(c, t, "<Namespace "));
        TRY(repr_dict(c, t, v->dict));
        TRY(text_put(c, t, ">"));
        break;
    case V_RANGE:
        TRY(text_printf(c, t, "range(%lld, %lld", (long long)v->range->start, (long long)v->range->stop));
        if (v->range->step != 1)
            TRY(text_printf(c, t, ", %lld", (long long)v->range->step));
        TRY(text_put(c, t, ")"));
        break;
    default:
        TRY(text_printf(c, t, "<%s>", value_kind_name(v)));
        break;
    }
    ctx_leave(c);
    return CADRE_OK;
}

cadre_err print_str(struct ctx *c, struct text *t, const struct value *v)
{
    if (v->kind == V_STRING)
        return text_add(c, t, v->s->p, v->s->n);
    return v->kind == V_UNDEFINED ? CADRE_OK : print_repr(c, t, v);
}

cadre_err print_to_string(struct ctx *c, const struct value *v, struct string **out)
{
    struct text t = {0};
    struct value s;
    if (v->kind == V_STRING) {
        *out = v->s;
        return CADRE_OK;
    }
    TRY(print_str(c, &t, v));
    TRY(string_from_text(c, &t, &s));
    *out = s.s;
    return CADRE_OK;
}

cadre_err print_escaped(struct ctx *c, struct text *t, const struct string *s)
{
    static const char special[] = "&<>\"'";
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&#34;", "&#39;"};
    for (size_t i = 0; i < s->n; i++) {
        const char *hit = memchr(special, s->p[i], 5);
        TRY(hit ? text_put(c, t, entities[hit - special]) : text_add(c, t, s->p + i, 1));
    }
    return CADRE_OK;
}

/* ---- JSON ---------------------------------------------------------------------------------------------- */

static cadre_err json_text(struct ctx *c, struct text *t, const struct string *s, bool ascii)
{
    static const char special[] = "\"\\\n\r\t\b\f", letters[] = "\"\\nrtbf";
    TRY(text_put(c, t, "\""));
    for (size_t i = 0, len; i < s->n; i += len) {
        int32_t code = char_decode(s->p + i, s->n - i, &len);
        const char *hit = code && code < 0x80 ? strchr(special, code) : NULL;
        if (hit)
            TRY(text_printf(c, t, "\\%c", letters[hit - special]));
        else if (code < 0x20 || (ascii && code >= 0x7f && code < 0x10000 && code != 0x7f))
            TRY(text_printf(c, t, "\\u%04x", (unsigned)code));
        else if (ascii && code >= 0x10000)
            TRY(text_printf(c, t, "\\u%04x\\u%04x", 0xd800 + (unsigned)((code - 0x10000) >> 10),
                            0xdc00 + ((unsigned)code & 0x3ff)));
        else
            TRY(text_add(c, t, s->p + i, len));
    }
    return text_put(c, t, "\"");
}

static cadre_err json_number(struct ctx *c, struct text *t, double f)
{
    if (isnan(f) || isinf(f))
        return text_put(c, t, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
    return print_float(c, t, f);
}

static cadre_err json_break(struct ctx *c, struct text *t, const struct json_style *style, int level)
{
    if (style->indent < 0)
        return CADRE_OK;
    TRY(text_put(c, t, "\n"));
    return text_fill(c, t, ' ', (size_t)(style->indent * level));
}

static cadre_err json_list(struct ctx *c, struct text *t, const struct list *l, const struct json_style *style,
                           int level)
{
    TRY(text_put(c, t, "["));
    for (size_t i = 0; i < l->n; i++) {
        if (i)
            TRY(text_add(c, t, style->item, style->n_item));
        TRY(json_break(c, t, style, level + 1));
        TRY(print_json(c, t, &l->v[i], style, level + 1));
    }
    if (l->n)
        TRY(json_break(c, t, style, level));
    return text_put(c, t, "]");
}

/* Keys that are not texts become texts, as in json.dumps: True → "true", 1 → "1". */
static cadre_err json_key(struct ctx *c, struct text *t, const struct value *key, const struct json_style *style)
{
    if (key->kind == V_STRING)
        return json_text(c, t, key->s, style->ensure_ascii);
    if (key->kind != V_NONE && !value_is_number(key))
        return ctx_fail(c, CADRE_E_FORMAT, "tojson: expected a str, a number or none as a key, found a %s",
                        value_kind_name(key));
    TRY(text_put(c, t, "\""));
    TRY(print_json(c, t, key, style, 0));
    return text_put(c, t, "\"");
}

static int compare_keys(const void *a, const void *b, void *failed)
{
    const struct dict_entry *x = *(const struct dict_entry *const *)a, *y = *(const struct dict_entry *const *)b;
    struct ctx *c = failed;
    int order = 0;
    if (c->rc == CADRE_OK)
        value_compare(c, &x->key, &y->key, &order);
    return order;
}

static cadre_err json_dict(struct ctx *c, struct text *t, const struct dict *d, const struct json_style *style,
                           int level)
{
    struct dict_entry **e = ctx_array(c, d->live, sizeof *e);
    size_t n = 0;
    NEED(c, e);
    for (size_t i = 0; i < d->n; i++)
        if (!d->e[i].gone)
            e[n++] = &d->e[i];
    c->rc = CADRE_OK;
    if (style->sort_keys && n > 1)
        qsort_r(e, n, sizeof *e, compare_keys, c);
    TRY(c->rc);
    TRY(text_put(c, t, "{"));
    for (size_t i = 0; i < n; i++) {
        if (i)
            TRY(text_add(c, t, style->item, style->n_item));
        TRY(json_break(c, t, style, level + 1));
        TRY(json_key(c, t, &e[i]->key, style));
        TRY(text_add(c, t, style->key, style->n_key));
        TRY(print_json(c, t, &e[i]->value, style, level + 1));
    }
    if (n)
        TRY(json_break(c, t, style, level));
    return text_put(c, t, "}");
}

cadre_err print_json(struct ctx *c, struct text *t, const struct value *v, const struct json_style *style, int level)
{
    TRY(ctx_enter(c));
    TRY(ctx_steps(c, 1));
    switch (v->kind) {
    case V_NONE:
        TRY(text_put(c, t, "null"));
        break;
    case V_BOOL:
        TRY(text_put(c, t, v->b ? "true" : "false"));
        break;
    case V_FLOAT:
        TRY(json_number(c, t, v->f));
        break;
    case V_INT:
        TRY(print_repr(c, t, v));
        break;
    case V_STRING:
        TRY(json_text(c, t, v->s, style->ensure_ascii));
        break;
    case V_LIST:
    case V_TUPLE:
    case V_GENERATOR: /* json.dumps refuses it, other engines have lists only */
        TRY(json_list(c, t, v->list, style, level));
        break;
    case V_DICT:
        TRY(json_dict(c, t, v->dict, style, level));
        break;
    case V_UNDEFINED:
        return value_use_undefined(c, v);
    default:
        return ctx_fail(c, CADRE_E_FORMAT, "tojson: a %s cannot be written as JSON", value_kind_name(v));
    }
    ctx_leave(c);
    return CADRE_OK;
}
