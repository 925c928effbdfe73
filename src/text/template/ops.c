/* Operators and access to members, with the meaning that they have in Python. */
#include <math.h>
#include <string.h>

#include "text/template/eval.h"
#include "text/template/print.h"

/* ---- arithmetic ---------------------------------------------------------------------------------------- */

static cadre_err too_large(struct ctx *c)
{
    return ctx_fail(c, CADRE_E_FORMAT, "a whole number becomes larger than 64 bits");
}

cadre_err float_to_int(struct ctx *c, double f, struct value *out)
{
    if (!(fabs(f) < 0x1p63))
        return ctx_fail(c, CADRE_E_FORMAT, "%g is no whole number of 64 bits", f);
    *out = value_int((int64_t)f);
    return CADRE_OK;
}

static cadre_err int_power(struct ctx *c, int64_t a, int64_t b, struct value *out)
{
    if (b < 0) {
        if (a == 0)
            return ctx_fail(c, CADRE_E_FORMAT, "division by zero");
        *out = value_float(pow((double)a, (double)b));
        return CADRE_OK;
    }
    int64_t r = 1;
    for (; b > 0; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(r, a, &r))
            return too_large(c);
        if (b > 1 && __builtin_mul_overflow(a, a, &a))
            return too_large(c);
    }
    *out = value_int(r);
    return CADRE_OK;
}

static cadre_err int_binary(struct ctx *c, char op, int64_t a, int64_t b, struct value *out)
{
    int64_t r = 0;
    bool overflow = false;
    if ((op == 'i' || op == '%' || op == '/') && b == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "division by zero");
    switch (op) {
    case '+':
        overflow = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        overflow = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        overflow = __builtin_mul_overflow(a, b, &r);
        break;
    case '/':
        *out = value_float((double)a / (double)b);
        return CADRE_OK;
    case 'p':
        return int_power(c, a, b, out);
    default: /* 'i' and '%' round towards minus infinity */
        overflow = b == -1 && a == INT64_MIN && op == 'i';
        if (b != -1 && op == 'i')
            r = a / b - (a % b != 0 && (a % b < 0) != (b < 0));
        else if (b != -1)
            r = a % b + (a % b != 0 && (a % b < 0) != (b < 0) ? b : 0);
        else if (!overflow)
            r = op == 'i' ? -a : 0;
        break;
    }
    if (overflow)
        return too_large(c);
    *out = value_int(r);
    return CADRE_OK;
}

static cadre_err float_binary(struct ctx *c, char op, double a, double b, struct value *out)
{
    if ((op == 'i' || op == '%' || op == '/') && b == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "division by zero");
    double r = op == '+'   ? a + b
               : op == '-' ? a - b
               : op == '*' ? a * b
               : op == '/' ? a / b
               : op == 'p' ? pow(a, b)
                           : fmod(a, b);
    if (op == '%' || op == 'i') {
        if (r != 0 && (r < 0) != (b < 0))
            r += b;
        r = op == '%' ? (r == 0 ? copysign(0, b) : r) : floor((a - r) / b + 0.5);
    }
    if (op == 'p' && !isfinite(r) && isfinite(a) && isfinite(b))
        return ctx_fail(c, CADRE_E_FORMAT, "a power that is no number, or larger than any");
    *out = value_float(r);
    return CADRE_OK;
}

static cadre_err repeat_string(struct ctx *c, const struct string *s, int64_t n, struct value *out)
{
    struct text t = {0};
    uint64_t bytes;
    if (__builtin_mul_overflow((uint64_t)(n < 0 ? 0 : n), s->n, &bytes) || bytes > c->limits->output)
        return ctx_fail(c, CADRE_E_MEMORY, "%lld times %zu bytes are more than the limit of %zu bytes of text",
                        (long long)n, s->n, c->limits->output);
    for (int64_t i = 0; i < n && s->n; i++)
        TRY(text_add(c, &t, s->p, s->n));
    return string_from_text(c, &t, out);
}

static cadre_err repeat_list(struct ctx *c, const struct value *v, int64_t n, struct value *out)
{
    uint64_t items;
    if (__builtin_mul_overflow((uint64_t)(n < 0 ? 0 : n), v->list->n, &items) ||
        items > (uint64_t)c->limits->memory / sizeof *v->list->v)
        return ctx_fail(c, CADRE_E_MEMORY, "%lld times %zu elements do not fit into the memory limit", (long long)n,
                        v->list->n);
    struct list *l = list_new(c, items);
    NEED(c, l);
    for (uint64_t i = 0; i < items; i++)
        TRY(list_add(c, l, v->list->v[i % v->list->n]));
    *out = value_list(v->kind, l);
    return CADRE_OK;
}

static bool is_sequence(const struct value *v)
{
    return v->kind == V_STRING || v->kind == V_LIST || v->kind == V_TUPLE;
}

/* Markup + text escapes the text. */
static cadre_err join_safe(struct ctx *c, const struct string *a, const struct string *b, struct value *out)
{
    struct text t = {0};
    TRY(a->safe || !b->safe ? text_add(c, &t, a->p, a->n) : print_escaped(c, &t, a));
    TRY(b->safe || !a->safe ? text_add(c, &t, b->p, b->n) : print_escaped(c, &t, b));
    TRY(string_from_text(c, &t, out));
    out->s->safe = a->safe || b->safe;
    return CADRE_OK;
}

static cadre_err join_lists(struct ctx *c, const struct value *a, const struct value *b, struct value *out)
{
    struct list *l = list_new(c, a->list->n + b->list->n);
    NEED(c, l);
    for (size_t i = 0; i < a->list->n; i++)
        TRY(list_add(c, l, a->list->v[i]));
    for (size_t i = 0; i < b->list->n; i++)
        TRY(list_add(c, l, b->list->v[i]));
    *out = value_list(a->kind, l);
    return CADRE_OK;
}

static cadre_err sequence_binary(struct ctx *c, char op, const struct value *a, const struct value *b,
                                 struct value *out, bool *done)
{
    *done = true;
    if (op == '%' && a->kind == V_STRING) {
        struct text t = {0};
        TRY(print_percent(c, &t, a->s, b));
        return string_from_text(c, &t, out);
    }
    if (op == '+' && a->kind == b->kind && is_sequence(a))
        return a->kind == V_STRING ? join_safe(c, a->s, b->s, out) : join_lists(c, a, b, out);
    const struct value *sequence = is_sequence(a) ? a : b, *times = sequence == a ? b : a;
    if (op == '*' && is_sequence(sequence) && value_is_integer(times))
        return sequence->kind == V_STRING ? repeat_string(c, sequence->s, value_as_int(times), out)
                                          : repeat_list(c, sequence, value_as_int(times), out);
    *done = false;
    return CADRE_OK;
}

cadre_err op_binary(struct ctx *c, char op, const struct value *a, const struct value *b, struct value *out)
{
    bool done;
    if (a->kind == V_UNDEFINED || (b->kind == V_UNDEFINED && !(op == '%' && a->kind == V_STRING)))
        return value_use_undefined(c, a->kind == V_UNDEFINED ? a : b);
    if (value_is_integer(a) && value_is_integer(b))
        return int_binary(c, op, value_as_int(a), value_as_int(b), out);
    if (value_is_number(a) && value_is_number(b))
        return float_binary(c, op, value_as_float(a), value_as_float(b), out);
    TRY(sequence_binary(c, op, a, b, out, &done));
    if (done)
        return CADRE_OK;
    const char sign[3] = {op == 'p' ? '*' : op == 'i' ? '/' : op, op == 'p' ? '*' : op == 'i' ? '/' : 0, 0};
    return ctx_fail(c, CADRE_E_FORMAT, "a %s and a %s cannot be joined with '%s'", value_kind_name(a),
                    value_kind_name(b), sign);
}

cadre_err op_unary(struct ctx *c, char op, const struct value *a, struct value *out)
{
    if (a->kind == V_UNDEFINED)
        return value_use_undefined(c, a);
    if (!value_is_number(a))
        return ctx_fail(c, CADRE_E_FORMAT, "%c: expected a number, found a %s", op, value_kind_name(a));
    if (a->kind == V_FLOAT) {
        *out = value_float(op == '-' ? -a->f : a->f);
        return CADRE_OK;
    }
    return int_binary(c, op, 0, value_as_int(a), out);
}

/* ---- slices -------------------------------------------------------------------------------------------- */

/* Python's rules: negative counts from the end, and everything is clamped to the sequence. */
static cadre_err slice_range(struct ctx *c, const struct value part[3], int64_t n, struct range *r)
{
    int64_t bound[3] = {0, 0, 1};
    for (int i = 2; i >= 0; i--) {
        bool given = part[i].kind != V_MISSING && part[i].kind != V_NONE;
        if (given)
            TRY(arg_int(c, &part[i], "slice", &bound[i]));
        if (i == 2)
            continue;
        bool back = bound[2] < 0;
        int64_t low = back ? -1 : 0, high = back ? n - 1 : n;
        if (!given)
            bound[i] = (i == 0) != back ? low : high;
        else if (bound[i] < 0)
            bound[i] = bound[i] < -n ? low : bound[i] + n;
        else if (bound[i] > high)
            bound[i] = high;
    }
    if (bound[2] == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "slice: a step of 0");
    *r = (struct range){bound[0], bound[1], bound[2]};
    return CADRE_OK;
}

static cadre_err slice_string(struct ctx *c, struct string *s, const struct range *r, struct value *out)
{
    struct text t = {0};
    int64_t n = range_length(r);
    TRY(ctx_steps(c, s->n / 256 + 1));
    if (r->step == 1 && n > 0) {
        size_t from = string_offset(s, r->start);
        return string_of(c, s->p + from, string_offset(s, r->stop) - from, out);
    }
    TRY(ctx_steps(c, (size_t)n * ((size_t)string_chars(s) == s->n ? 1 : s->n / 64 + 1)));
    for (int64_t i = 0; i < n; i++) {
        size_t from = string_offset(s, r->start + i * r->step);
        TRY(text_add(c, &t, s->p + from, string_offset(s, r->start + i * r->step + 1) - from));
    }
    return string_from_text(c, &t, out);
}

static cadre_err slice_of_range(struct ctx *c, const struct range *of, const struct range *r, struct value *out)
{
    struct range *own = ctx_alloc(c, sizeof *own);
    int64_t start, stop;
    NEED(c, own);
    if (__builtin_mul_overflow(r->start, of->step, &start) || __builtin_add_overflow(start, of->start, &start) ||
        __builtin_mul_overflow(r->stop, of->step, &stop) || __builtin_add_overflow(stop, of->start, &stop) ||
        __builtin_mul_overflow(r->step, of->step, &own->step))
        return too_large(c);
    own->start = start;
    own->stop = stop;
    *out = (struct value){.kind = V_RANGE, .range = own};
    return CADRE_OK;
}

cadre_err value_slice(struct ctx *c, const struct value *v, const struct value part[3], struct value *out)
{
    struct range r;
    int64_t length;
    if (v->kind == V_UNDEFINED)
        return value_use_undefined(c, v);
    if (!is_sequence(v) && v->kind != V_RANGE)
        return value_undefined(c, NULL, value_kind_name(v), out);
    TRY(value_length(c, v, &length));
    TRY(slice_range(c, part, length, &r));
    if (v->kind == V_STRING)
        return slice_string(c, v->s, &r, out);
    if (v->kind == V_RANGE)
        return slice_of_range(c, v->range, &r, out);
    struct list *l = list_new(c, (size_t)range_length(&r));
    NEED(c, l);
    for (int64_t i = 0, n = range_length(&r); i < n; i++)
        TRY(list_add(c, l, v->list->v[r.start + i * r.step]));
    *out = value_list(v->kind, l);
    return CADRE_OK;
}

/* ---- members ------------------------------------------------------------------------------------------- */

static cadre_err loop_attribute(struct ctx *c, struct loop *l, const struct string *name, struct value *out,
                                bool *found)
{
    int64_t length = 0;
    bool more = false;
    *found = true;
    if (string_is(name, "index") || string_is(name, "index0")) {
        *out = value_int((int64_t)l->at + (name->n == 5));
    } else if (string_is(name, "first")) {
        *out = value_bool(l->at == 0);
    } else if (string_is(name, "last")) {
        TRY(loop_peek(c, l, &more));
        *out = value_bool(!more);
    } else if (string_is(name, "length")) {
        TRY(loop_length(c, l, &length));
        *out = value_int(length);
    } else if (string_is(name, "revindex") || string_is(name, "revindex0")) {
        TRY(loop_length(c, l, &length));
        *out = value_int(length - (int64_t)l->at - (name->n == 9));
    } else if (string_is(name, "depth") || string_is(name, "depth0")) {
        *out = value_int(l->depth + (name->n == 5));
    } else if (string_is(name, "previtem") && l->at > 0) {
        *out = l->kept->v[l->at - 1];
    } else if (string_is(name, "nextitem")) {
        TRY(loop_peek(c, l, &more));
        if (more)
            *out = l->kept->v[l->at + 1];
        *found = more;
    } else {
        *found = false;
    }
    return CADRE_OK;
}

static cadre_err dict_member(struct ctx *c, const struct dict *d, struct value key, struct value *out, bool *found)
{
    int64_t at;
    TRY(dict_find(c, d, key, &at));
    *found = at >= 0;
    if (*found)
        *out = d->e[at].value;
    return CADRE_OK;
}

static const struct builtin *methods_of(const struct value *v)
{
    static const struct builtin *const tables[V_KINDS] = {
        [V_STRING] = builtin_str_methods, [V_LIST] = builtin_list_methods, [V_TUPLE] = builtin_tuple_methods,
        [V_DICT] = builtin_dict_methods,  [V_LOOP] = builtin_loop_methods, [V_CYCLER] = builtin_cycler_methods,
        [V_RANGE] = builtin_tuple_methods};
    return tables[v->kind];
}

/* What Python would find with getattr(). */
static cadre_err own_attribute(struct ctx *c, const struct value *v, struct string *name, struct value *out,
                               bool *found)
{
    const struct builtin *table = methods_of(v), *row = table ? builtin_find(table, name) : NULL;
    *found = true;
    if (row) {
        struct function *f = ctx_alloc(c, sizeof *f);
        NEED(c, f);
        *f = (struct function){row, *v};
        *out = (struct value){.kind = V_FUNCTION, .function = f};
        return CADRE_OK;
    }
    if (v->kind == V_NAMESPACE)
        return dict_member(c, v->dict, value_string(name), out, found);
    if (v->kind == V_LOOP)
        return loop_attribute(c, v->loop, name, out, found);
    if (v->kind == V_TUPLE && v->list->group && (string_is(name, "grouper") || string_is(name, "list"))) {
        *out = v->list->v[name->n == 4];
    } else if (v->kind == V_MACRO && string_is(name, "name")) {
        *out = value_string(v->macro->def->name);
    } else if (v->kind == V_CYCLER && string_is(name, "current")) {
        *out = v->cycler->items->v[v->cycler->at];
    } else {
        *found = false;
    }
    return CADRE_OK;
}

/* What Python would find with v[key]; found is false where it raises. */
static cadre_err own_item(struct ctx *c, const struct value *v, const struct value *key, struct value *out, bool *found)
{
    *found = false;
    if (v->kind == V_DICT)
        return key->kind == V_LIST || key->kind == V_DICT ? CADRE_OK : dict_member(c, v->dict, *key, out, found);
    if ((!is_sequence(v) && v->kind != V_RANGE) || !value_is_integer(key))
        return CADRE_OK;
    int64_t length, i = value_as_int(key);
    TRY(value_length(c, v, &length));
    i += i < 0 ? length : 0;
    *found = i >= 0 && i < length;
    if (!*found)
        return CADRE_OK;
    if (v->kind == V_RANGE) {
        *out = value_int(v->range->start + i * v->range->step);
    } else if (v->kind == V_STRING) {
        TRY(ctx_steps(c, v->s->n / 256 + 1)); /* characters are found by counting */
        size_t from = string_offset(v->s, i);
        return string_of(c, v->s->p + from, string_offset(v->s, i + 1) - from, out);
    } else {
        *out = v->list->v[i];
    }
    return CADRE_OK;
}

cadre_err value_attribute(struct ctx *c, const struct value *v, struct string *name, struct value *out)
{
    bool found;
    if (v->kind == V_UNDEFINED)
        return value_use_undefined(c, v);
    TRY(own_attribute(c, v, name, out, &found));
    if (!found && v->kind == V_DICT)
        TRY(dict_member(c, v->dict, value_string(name), out, &found));
    return found ? CADRE_OK : value_undefined(c, name, value_kind_name(v), out);
}

cadre_err value_item(struct ctx *c, const struct value *v, const struct value *key, struct value *out)
{
    bool found;
    struct string *name;
    const struct value object = *v; /* out may be v */
    if (v->kind == V_UNDEFINED)
        return value_use_undefined(c, v);
    TRY(own_item(c, &object, key, out, &found));
    if (!found && key->kind == V_STRING)
        TRY(own_attribute(c, &object, key->s, out, &found));
    if (found)
        return CADRE_OK;
    TRY(print_to_string(c, key, &name));
    return value_undefined(c, name, value_kind_name(&object), out);
}

cadre_err value_path_step(struct ctx *c, const struct value *v, struct string *name, bool item, struct value *out)
{
    const struct value object = *v;
    if (!item)
        return value_attribute(c, &object, name, out);
    struct value key = value_string(name);
    bool digits = name->n > 0 && name->n < 10;
    int64_t i = 0;
    for (size_t k = 0; k < name->n && digits; k++) {
        digits = name->p[k] >= '0' && name->p[k] <= '9';
        i = i * 10 + (name->p[k] - '0');
    }
    if (digits)
        key = value_int(i);
    return value_item(c, &object, &key, out);
}

cadre_err value_path(struct ctx *c, const struct value *v, const struct value *path, struct value *out)
{
    const char *p, *end;
    *out = *v;
    if (path->kind == V_MISSING || path->kind == V_NONE)
        return CADRE_OK;
    if (path->kind != V_STRING)
        return value_item(c, v, path, out);
    p = path->s->p;
    end = p + path->s->n;
    while (p <= end) {
        const char *dot = p < end ? memchr(p, '.', (size_t)(end - p)) : NULL;
        dot = dot ? dot : end;
        struct string *name = string_new(c, p, (size_t)(dot - p));
        NEED(c, name);
        TRY(value_path_step(c, out, name, true, out));
        p = dot + 1;
    }
    return CADRE_OK;
}
