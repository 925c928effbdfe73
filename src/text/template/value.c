#include "text/template/value.h"

#include <math.h>
#include <string.h>

#include "text/template/builtin.h"

enum { FEW = 8 }; /* entries that are searched one after the other */

/* ---- strings ------------------------------------------------------------------------------------------- */

struct string *string_new(struct ctx *c, const char *p, size_t n)
{
    struct string *s = ctx_alloc(c, sizeof *s);
    if (s)
        *s = (struct string){.p = p, .n = n, .chars = -1};
    return s;
}

struct string *string_copy(struct ctx *c, const char *p, size_t n)
{
    char *own = ctx_alloc(c, n + 1);
    if (!own)
        return NULL;
    if (n)
        memcpy(own, p, n);
    return string_new(c, own, n);
}

cadre_err string_of(struct ctx *c, const char *p, size_t n, struct value *out)
{
    struct string *s = string_new(c, p, n);
    NEED(c, s);
    *out = value_string(s);
    return CADRE_OK;
}

cadre_err string_from_text(struct ctx *c, const struct text *t, struct value *out)
{
    return string_of(c, t->n ? t->p : "", t->n, out);
}

int64_t string_chars(struct string *s)
{
    if (s->chars < 0) {
        s->chars = 0;
        for (size_t i = 0; i < s->n; i++)
            s->chars += (s->p[i] & 0xc0) != 0x80;
    }
    return s->chars;
}

size_t string_offset(struct string *s, int64_t i)
{
    if ((size_t)string_chars(s) == s->n)
        return (size_t)i;
    size_t at = 0;
    for (; i > 0; i--)
        for (at++; at < s->n && (s->p[at] & 0xc0) == 0x80;)
            at++;
    return at;
}

bool string_equal(const struct string *a, const struct string *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->p, b->p, a->n) == 0);
}

bool string_is(const struct string *s, const char *text)
{
    return strlen(text) == s->n && memcmp(s->p, text, s->n) == 0;
}

static int string_compare(const struct string *a, const struct string *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = n ? memcmp(a->p, b->p, n) : 0; /* the order of UTF-8 bytes is that of code points */
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

/* ---- lists --------------------------------------------------------------------------------------------- */

struct list *list_new(struct ctx *c, size_t room)
{
    struct list *l = ctx_alloc(c, sizeof *l);
    if (!l)
        return NULL;
    l->v = ctx_array(c, room, sizeof *l->v);
    l->room = room;
    return l->v ? l : NULL;
}

cadre_err list_add(struct ctx *c, struct list *l, struct value v)
{
    if (l->n == l->room) {
        size_t room = 2 * l->room + 8;
        struct value *p = ctx_array(c, room, sizeof *p);
        NEED(c, p);
        if (l->n)
            memcpy(p, l->v, l->n * sizeof *p);
        l->v = p;
        l->room = room;
    }
    l->v[l->n++] = v;
    return CADRE_OK;
}

int64_t range_length(const struct range *r)
{
    uint64_t span, step;
    if (r->step > 0) {
        if (r->start >= r->stop)
            return 0;
        span = (uint64_t)r->stop - (uint64_t)r->start;
        step = (uint64_t)r->step;
    } else {
        if (r->start <= r->stop)
            return 0;
        span = (uint64_t)r->start - (uint64_t)r->stop;
        step = -(uint64_t)r->step;
    }
    return (int64_t)((span - 1) / step + 1);
}

/* ---- dictionaries -------------------------------------------------------------------------------------- */

static uint64_t mix(uint64_t h, uint64_t x)
{
    h = (h ^ x) * 0x9e3779b97f4a7c15u;
    return h ^ (h >> 29);
}

/* Equal values have equal hashes: True == 1 == 1.0. */
static cadre_err hash(struct ctx *c, const struct value *v, uint64_t *out)
{
    uint64_t h = 14695981039346656037u;
    if (value_is_number(v)) {
        double f = value_as_float(v);
        uint64_t bits = 0;
        f = f == 0 ? 0 : f; /* -0.0 == 0 */
        memcpy(&bits, &f, sizeof bits);
        *out = mix(h, bits);
        return CADRE_OK;
    }
    switch (v->kind) {
    case V_STRING:
        for (size_t i = 0; i < v->s->n; i++)
            h = (h ^ (unsigned char)v->s->p[i]) * 1099511628211u;
        break;
    case V_TUPLE:
        TRY(ctx_enter(c));
        for (size_t i = 0; i < v->list->n; i++) {
            uint64_t one;
            TRY(hash(c, &v->list->v[i], &one));
            h = mix(h, one);
        }
        ctx_leave(c);
        break;
    case V_LIST:
    case V_DICT:
        return ctx_fail(c, CADRE_E_FORMAT, "a %s cannot be the key of a dict", value_kind_name(v));
    default:
        h = mix(h, v->kind); /* told apart by value_equal */
        break;
    }
    *out = h;
    return CADRE_OK;
}

struct dict *dict_new(struct ctx *c)
{
    return ctx_alloc(c, sizeof(struct dict));
}

static bool same_key(const struct value *a, const struct value *b)
{
    return a->kind == V_STRING && b->kind == V_STRING && string_equal(a->s, b->s);
}

static cadre_err find_hashed(struct ctx *c, const struct dict *d, const struct value *key, uint64_t h, int64_t *at)
{
    *at = -1;
    size_t slot = h & d->mask;
    for (size_t i = 0; d->slots ? d->slots[slot] >= 0 : i < d->n; i++, slot = (slot + 1) & d->mask) {
        size_t entry = d->slots ? (size_t)d->slots[slot] : i;
        const struct dict_entry *e = &d->e[entry];
        if (i >= FEW)
            TRY(ctx_steps(c, 1)); /* keys chosen to collide */
        if (e->gone || e->hash != h)
            continue;
        bool equal = same_key(&e->key, key);
        if (!equal)
            TRY(value_equal(c, &e->key, key, &equal));
        if (equal) {
            *at = (int64_t)entry;
            return CADRE_OK;
        }
    }
    return CADRE_OK;
}

cadre_err dict_find(struct ctx *c, const struct dict *d, struct value key, int64_t *at)
{
    uint64_t h = 0;
    TRY(hash(c, &key, &h));
    return find_hashed(c, d, &key, h, at);
}

static void put_slot(struct dict *d, size_t entry)
{
    size_t slot = d->e[entry].hash & d->mask;
    while (d->slots[slot] >= 0)
        slot = (slot + 1) & d->mask;
    d->slots[slot] = (int32_t)entry;
}

static cadre_err grow(struct ctx *c, struct dict *d)
{
    size_t room = d->room ? 2 * d->room : 4;
    if (room > INT32_MAX / 4)
        return ctx_fail(c, CADRE_E_MEMORY, "a dict of %zu entries is too large", room);
    struct dict_entry *e = ctx_array(c, room, sizeof *e);
    NEED(c, e);
    if (d->n)
        memcpy(e, d->e, d->n * sizeof *e);
    d->e = e;
    d->room = room;
    if (room <= FEW)
        return CADRE_OK;
    d->slots = ctx_array(c, 2 * room, sizeof *d->slots);
    NEED(c, d->slots);
    d->mask = 2 * room - 1;
    memset(d->slots, 0xff, 2 * room * sizeof *d->slots);
    for (size_t i = 0; i < d->n; i++)
        put_slot(d, i);
    return CADRE_OK;
}

cadre_err dict_set(struct ctx *c, struct dict *d, struct value key, struct value v)
{
    uint64_t h = 0;
    int64_t at;
    TRY(hash(c, &key, &h));
    TRY(find_hashed(c, d, &key, h, &at));
    if (at >= 0) {
        d->e[at].value = v;
        return CADRE_OK;
    }
    if (d->n == d->room)
        TRY(grow(c, d));
    d->e[d->n] = (struct dict_entry){.key = key, .value = v, .hash = h};
    if (d->slots)
        put_slot(d, d->n);
    d->n++;
    d->live++;
    return CADRE_OK;
}

void dict_remove(struct dict *d, int64_t at)
{
    d->e[at].gone = true;
    d->live--;
}

/* ---- undefined and JSON -------------------------------------------------------------------------------- */

cadre_err value_undefined(struct ctx *c, const struct string *name, const char *of, struct value *out)
{
    struct undefined *u = ctx_alloc(c, sizeof *u);
    NEED(c, u);
    *u = (struct undefined){name, of};
    *out = (struct value){.kind = V_UNDEFINED, .undefined = u};
    return CADRE_OK;
}

cadre_err value_use_undefined(struct ctx *c, const struct value *v)
{
    const struct undefined *u = v->undefined;
    if (!u || !u->name)
        return ctx_fail(c, CADRE_E_FORMAT, "expected a value, found an undefined one");
    if (!u->of)
        return ctx_fail(c, CADRE_E_FORMAT, "'%.*s' is undefined", (int)u->name->n, u->name->p);
    return ctx_fail(c, CADRE_E_FORMAT, "a %s has no '%.*s' (it is undefined)", u->of, (int)u->name->n, u->name->p);
}

static cadre_err json_members(struct ctx *c, const json_t *j, struct value *out)
{
    const char *key;
    json_t *member, *object = (json_t *)(uintptr_t)j; /* jansson's iterators do not take const */
    struct dict *d = dict_new(c);
    NEED(c, d);
    json_object_foreach(object, key, member)
    {
        struct value v;
        struct string *s = string_copy(c, key, strlen(key));
        NEED(c, s);
        TRY(value_from_json(c, member, &v));
        TRY(dict_set(c, d, value_string(s), v));
    }
    *out = value_dict(d);
    return CADRE_OK;
}

static cadre_err json_elements(struct ctx *c, const json_t *j, struct value *out)
{
    struct list *l = list_new(c, json_array_size(j));
    NEED(c, l);
    for (size_t i = 0; i < json_array_size(j); i++) {
        struct value v;
        TRY(value_from_json(c, json_array_get(j, i), &v));
        TRY(list_add(c, l, v));
    }
    *out = value_list(V_LIST, l);
    return CADRE_OK;
}

cadre_err value_from_json(struct ctx *c, const json_t *j, struct value *out)
{
    struct string *s;
    TRY(ctx_enter(c));
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        TRY(json_members(c, j, out));
        break;
    case JSON_ARRAY:
        TRY(json_elements(c, j, out));
        break;
    case JSON_STRING:
        s = string_copy(c, json_string_value(j), json_string_length(j));
        NEED(c, s);
        *out = value_string(s);
        break;
    case JSON_INTEGER:
        *out = value_int(json_integer_value(j));
        break;
    case JSON_REAL:
        *out = value_float(json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = value_bool(json_is_true(j));
        break;
    default:
        *out = VALUE_NONE;
        break;
    }
    ctx_leave(c);
    return CADRE_OK;
}

/* ---- asking -------------------------------------------------------------------------------------------- */

const char *value_kind_name(const struct value *v)
{
    static const char *const names[V_KINDS] = {"missing",   "Undefined", "NoneType", "bool",      "int",
                                               "float",     "str",       "list",     "tuple",     "dict_view",
                                               "generator", "range",     "dict",     "Namespace", "LoopContext",
                                               "Macro",     "function",  "Cycler",   "Joiner"};
    return v->kind == V_VIEW ? v->list->view : names[v->kind];
}

bool value_is_number(const struct value *v)
{
    return v->kind == V_INT || v->kind == V_FLOAT || v->kind == V_BOOL;
}

bool value_is_integer(const struct value *v)
{
    return v->kind == V_INT || v->kind == V_BOOL;
}

int64_t value_as_int(const struct value *v)
{
    return v->kind == V_BOOL ? v->b : v->i;
}

double value_as_float(const struct value *v)
{
    return v->kind == V_FLOAT ? v->f : (double)value_as_int(v);
}

bool value_truth(const struct value *v)
{
    switch (v->kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v->b;
    case V_INT:
        return v->i != 0;
    case V_FLOAT:
        return v->f != 0;
    case V_STRING:
        return v->s->n > 0;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        return v->list->n > 0;
    case V_DICT:
        return v->dict->live > 0;
    case V_RANGE:
        return range_length(v->range) > 0;
    default:
        return true;
    }
}

static cadre_err lists_equal(struct ctx *c, const struct list *a, const struct list *b, bool *out)
{
    *out = a->n == b->n;
    for (size_t i = 0; *out && i < a->n; i++)
        TRY(value_equal(c, &a->v[i], &b->v[i], out));
    return CADRE_OK;
}

static cadre_err dicts_equal(struct ctx *c, const struct dict *a, const struct dict *b, bool *out)
{
    *out = a->live == b->live;
    for (size_t i = 0; *out && i < a->n; i++) {
        int64_t at;
        if (a->e[i].gone)
            continue;
        TRY(find_hashed(c, b, &a->e[i].key, a->e[i].hash, &at));
        *out = at >= 0;
        if (*out)
            TRY(value_equal(c, &a->e[i].value, &b->e[at].value, out));
    }
    return CADRE_OK;
}

cadre_err value_equal(struct ctx *c, const struct value *a, const struct value *b, bool *out)
{
    TRY(ctx_steps(c, 1));
    if (value_is_number(a) && value_is_number(b)) {
        *out = value_is_integer(a) && value_is_integer(b) ? value_as_int(a) == value_as_int(b)
                                                          : value_as_float(a) == value_as_float(b);
        return CADRE_OK;
    }
    *out = false;
    if (a->kind != b->kind)
        return CADRE_OK;
    switch (a->kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        *out = true;
        return CADRE_OK;
    case V_STRING:
        *out = string_equal(a->s, b->s);
        return CADRE_OK;
    case V_RANGE:
        *out = range_length(a->range) == range_length(b->range) &&
               (range_length(a->range) == 0 || (a->range->start == b->range->start &&
                                                (range_length(a->range) == 1 || a->range->step == b->range->step)));
        return CADRE_OK;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
    case V_DICT:
        TRY(ctx_enter(c));
        TRY(a->kind == V_DICT ? dicts_equal(c, a->dict, b->dict, out) : lists_equal(c, a->list, b->list, out));
        ctx_leave(c);
        return CADRE_OK;
    case V_FUNCTION:
        *out = a->function == b->function;
        return CADRE_OK;
    default:
        *out = a->list == b->list; /* the same object */
        return CADRE_OK;
    }
}

cadre_err value_compare(struct ctx *c, const struct value *a, const struct value *b, int *out)
{
    TRY(ctx_steps(c, 1));
    if (a->kind == V_UNDEFINED || b->kind == V_UNDEFINED)
        return value_use_undefined(c, a->kind == V_UNDEFINED ? a : b);
    if (value_is_integer(a) && value_is_integer(b)) {
        *out = (value_as_int(a) > value_as_int(b)) - (value_as_int(a) < value_as_int(b));
        return CADRE_OK;
    }
    if (value_is_number(a) && value_is_number(b)) {
        double x = value_as_float(a), y = value_as_float(b);
        *out = (x > y) - (x < y);
        return CADRE_OK;
    }
    if (a->kind == V_STRING && b->kind == V_STRING) {
        *out = string_compare(a->s, b->s);
        return CADRE_OK;
    }
    if (a->kind == b->kind && (a->kind == V_LIST || a->kind == V_TUPLE)) {
        TRY(ctx_enter(c));
        size_t n = a->list->n < b->list->n ? a->list->n : b->list->n;
        *out = (a->list->n > b->list->n) - (a->list->n < b->list->n);
        for (size_t i = 0; i < n; i++) {
            bool equal;
            TRY(value_equal(c, &a->list->v[i], &b->list->v[i], &equal));
            if (!equal) {
                TRY(value_compare(c, &a->list->v[i], &b->list->v[i], out));
                break;
            }
        }
        ctx_leave(c);
        return CADRE_OK;
    }
    return ctx_fail(c, CADRE_E_FORMAT, "a %s and a %s have no order", value_kind_name(a), value_kind_name(b));
}

cadre_err value_contains(struct ctx *c, const struct value *container, const struct value *item, bool *out)
{
    *out = false;
    if (container->kind == V_STRING) {
        if (item->kind == V_UNDEFINED)
            return value_use_undefined(c, item);
        if (item->kind != V_STRING)
            return ctx_fail(c, CADRE_E_FORMAT, "'in' a str: expected a str to look for, found a %s",
                            value_kind_name(item));
        TRY(ctx_steps(c, container->s->n / 64 + 1));
        *out = memmem(container->s->p, container->s->n, item->s->p, item->s->n) != NULL;
        return CADRE_OK;
    }
    if (container->kind == V_DICT) {
        int64_t at;
        TRY(dict_find(c, container->dict, *item, &at));
        *out = at >= 0;
        return CADRE_OK;
    }
    struct list *l;
    TRY(value_elements(c, container, &l));
    for (size_t i = 0; !*out && i < l->n; i++)
        TRY(value_equal(c, &l->v[i], item, out));
    return CADRE_OK;
}

cadre_err value_length(struct ctx *c, const struct value *v, int64_t *out)
{
    switch (v->kind) {
    case V_UNDEFINED:
        *out = 0;
        return CADRE_OK;
    case V_STRING:
        *out = string_chars(v->s);
        return CADRE_OK;
    case V_LIST:
    case V_TUPLE:
    case V_VIEW:
        *out = (int64_t)v->list->n;
        return CADRE_OK;
    case V_DICT:
        *out = (int64_t)v->dict->live;
        return CADRE_OK;
    case V_RANGE:
        *out = range_length(v->range);
        return CADRE_OK;
    default:
        return ctx_fail(c, CADRE_E_FORMAT, "a %s has no length", value_kind_name(v));
    }
}

/* ---- elements ------------------------------------------------------------------------------------------ */

bool value_is_iterable(const struct value *v)
{
    return v->kind == V_UNDEFINED || (v->kind >= V_STRING && v->kind <= V_DICT);
}

static cadre_err characters(struct ctx *c, const struct string *s, struct list *l)
{
    for (size_t i = 0; i < s->n;) {
        size_t len = 1;
        struct value one;
        while (i + len < s->n && (s->p[i + len] & 0xc0) == 0x80)
            len++;
        TRY(string_of(c, s->p + i, len, &one));
        TRY(list_add(c, l, one));
        i += len;
    }
    return CADRE_OK;
}

cadre_err value_elements(struct ctx *c, const struct value *v, struct list **out)
{
    if (v->kind == V_LIST || v->kind == V_TUPLE || v->kind == V_VIEW) {
        *out = v->list;
        return ctx_steps(c, v->list->n);
    }
    struct list *l = *out = list_new(c, 0);
    NEED(c, l);
    switch (v->kind) {
    case V_UNDEFINED:
        break;
    case V_STRING:
        TRY(characters(c, v->s, l));
        break;
    case V_GENERATOR:
        *l = *v->list;
        *v->list = (struct list){0};
        break;
    case V_RANGE:
        for (int64_t i = 0, n = range_length(v->range); i < n; i++)
            TRY(list_add(c, l, value_int(v->range->start + i * v->range->step)));
        break;
    case V_DICT:
        for (size_t i = 0; i < v->dict->n; i++)
            if (!v->dict->e[i].gone)
                TRY(list_add(c, l, v->dict->e[i].key));
        break;
    default:
        return ctx_fail(c, CADRE_E_FORMAT, "expected something to go through, found a %s", value_kind_name(v));
    }
    return ctx_steps(c, l->n);
}
