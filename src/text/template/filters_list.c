/* Filters over sequences. */
#include <stdlib.h>
#include <string.h>

#include "text/template/eval.h"
#include "text/template/print.h"
#include "text/template/strings.h"

static cadre_err elements(struct ctx *c, const struct call *call, struct list **l)
{
    return value_elements(c, &call->self, l);
}

/* What several filters go by: an attribute of each element, texts without case. */
struct key_rule {
    const struct value *attribute; /* V_MISSING: the element itself */
    const struct value *fallback;  /* for what is undefined, or NULL */
    bool fold;
};

static cadre_err key_of(struct ctx *c, const struct key_rule *rule, const struct value *v, struct value *out)
{
    TRY(value_path(c, v, rule->attribute, out));
    if (out->kind == V_UNDEFINED && rule->fallback && rule->fallback->kind != V_MISSING)
        *out = *rule->fallback;
    return rule->fold && out->kind == V_STRING ? string_map(c, out->s, CASE_LOWER, out) : CADRE_OK;
}

static cadre_err f_length(struct ctx *c, const struct call *call, struct value *out)
{
    int64_t n;
    TRY(value_length(c, &call->self, &n));
    *out = value_int(n);
    return CADRE_OK;
}

static cadre_err f_list(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *own;
    TRY(elements(c, call, &l));
    own = list_new(c, l->n);
    NEED(c, own);
    for (size_t i = 0; i < l->n; i++)
        TRY(list_add(c, own, l->v[i]));
    *out = value_list(V_LIST, own);
    return CADRE_OK;
}

static cadre_err f_first(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    TRY(elements(c, call, &l));
    if (l->n == 0)
        return value_undefined(c, NULL, NULL, out);
    *out = l->v[0];
    return CADRE_OK;
}

static cadre_err f_last(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    if (call->self.kind == V_GENERATOR)
        return ctx_fail(c, CADRE_E_FORMAT, "last: a generator cannot be read backwards (put |list before it)");
    TRY(elements(c, call, &l));
    if (l->n == 0)
        return value_undefined(c, NULL, NULL, out);
    *out = l->v[l->n - 1];
    return CADRE_OK;
}

static cadre_err f_join(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    struct string *separator = NULL, *s;
    struct text t = {0};
    TRY(elements(c, call, &l));
    if (call->arg[0].kind != V_MISSING)
        TRY(print_to_string(c, &call->arg[0], &separator));
    for (size_t i = 0; i < l->n; i++) {
        struct value v;
        TRY(value_path(c, &l->v[i], &call->arg[1], &v));
        TRY(print_to_string(c, &v, &s));
        if (i && separator)
            TRY(text_add(c, &t, separator->p, separator->n));
        TRY(text_add(c, &t, s->p, s->n));
    }
    return string_from_text(c, &t, out);
}

static cadre_err f_reverse(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *r;
    TRY(elements(c, call, &l));
    r = list_new(c, l->n);
    NEED(c, r);
    for (size_t i = l->n; i > 0; i--)
        TRY(list_add(c, r, l->v[i - 1]));
    *out = value_list(V_GENERATOR, r);
    if (call->self.kind != V_STRING)
        return CADRE_OK;
    struct text t = {0};
    for (size_t i = 0; i < r->n; i++)
        TRY(text_add(c, &t, r->v[i].s->p, r->v[i].s->n));
    return string_from_text(c, &t, out);
}

/* ---- order --------------------------------------------------------------------------------------------- */

struct keyed {
    struct value v, *keys; /* [n_keys] */
    size_t n_keys, place;
    struct ctx *c;
    bool reverse;
};

static int by_keys(const void *a, const void *b)
{
    const struct keyed *x = a, *y = b;
    int order = 0;
    for (size_t i = 0; i < x->n_keys && order == 0 && x->c->rc == CADRE_OK; i++)
        value_compare(x->c, &x->keys[i], &y->keys[i], &order);
    order = x->reverse ? -order : order;
    return order ? order : (x->place > y->place) - (x->place < y->place); /* stable */
}

/* Sort l's elements by keys [n * n_keys] into a new list. */
static cadre_err sort_by(struct ctx *c, const struct list *l, struct value *keys, size_t n_keys, bool reverse,
                         struct list **out)
{
    struct keyed *k = ctx_array(c, l->n, sizeof *k);
    NEED(c, k);
    for (size_t i = 0; i < l->n; i++)
        k[i] = (struct keyed){l->v[i], keys + i * n_keys, n_keys, i, c, reverse};
    c->rc = CADRE_OK;
    qsort(k, l->n, sizeof *k, by_keys);
    TRY(c->rc);
    *out = list_new(c, l->n);
    NEED(c, *out);
    for (size_t i = 0; i < l->n; i++)
        TRY(list_add(c, *out, k[i].v));
    return CADRE_OK;
}

/* attribute= may be several, "a,b". */
static cadre_err split_attributes(struct ctx *c, const struct value *attribute, struct list **out)
{
    struct list *l = *out = list_new(c, 1);
    NEED(c, l);
    if (attribute->kind != V_STRING)
        return list_add(c, l, *attribute);
    const char *p = attribute->s->p, *end = p + attribute->s->n;
    while (p <= end) {
        const char *comma = p < end ? memchr(p, ',', (size_t)(end - p)) : NULL;
        struct value one;
        comma = comma ? comma : end;
        TRY(string_of(c, p, (size_t)(comma - p), &one));
        TRY(list_add(c, l, one));
        p = comma + 1;
    }
    return CADRE_OK;
}

static cadre_err f_sort(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *attributes, *sorted;
    bool reverse = false, exact = false;
    TRY(elements(c, call, &l));
    TRY(arg_bool(&call->arg[0], &reverse));
    TRY(arg_bool(&call->arg[1], &exact));
    TRY(split_attributes(c, &call->arg[2], &attributes));
    size_t n = attributes->n;
    struct value *keys = ctx_array(c, l->n, n * sizeof *keys);
    NEED(c, keys);
    for (size_t i = 0; i < l->n * n; i++) {
        const struct key_rule rule = {&attributes->v[i % n], NULL, !exact};
        TRY(key_of(c, &rule, &l->v[i / n], &keys[i]));
    }
    TRY(sort_by(c, l, keys, n, reverse, &sorted));
    *out = value_list(V_LIST, sorted);
    return CADRE_OK;
}

static cadre_err pair(struct ctx *c, struct value a, struct value b, struct value *out)
{
    struct list *l = list_new(c, 2);
    NEED(c, l);
    l->v[0] = a;
    l->v[1] = b;
    l->n = 2;
    *out = value_list(V_TUPLE, l);
    return CADRE_OK;
}

static cadre_err dict_pairs(struct ctx *c, const struct value *v, struct list **out)
{
    *out = list_new(c, 0);
    NEED(c, *out);
    if (v->kind == V_UNDEFINED)
        return CADRE_OK;
    if (v->kind != V_DICT)
        return ctx_fail(c, CADRE_E_FORMAT, "expected a dict, found a %s", value_kind_name(v));
    for (size_t i = 0; i < v->dict->n; i++) {
        struct value p;
        if (v->dict->e[i].gone)
            continue;
        TRY(pair(c, v->dict->e[i].key, v->dict->e[i].value, &p));
        TRY(list_add(c, *out, p));
    }
    return CADRE_OK;
}

static cadre_err f_items(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    TRY(dict_pairs(c, &call->self, &l));
    *out = value_list(V_GENERATOR, l);
    return CADRE_OK;
}

static cadre_err f_dictsort(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *sorted;
    struct string *by = NULL;
    bool exact = false, reverse = false;
    TRY(dict_pairs(c, &call->self, &l));
    TRY(arg_bool(&call->arg[0], &exact));
    TRY(arg_string(c, &call->arg[1], "dictsort: by", &by));
    TRY(arg_bool(&call->arg[2], &reverse));
    if (by && !string_is(by, "key") && !string_is(by, "value"))
        return ctx_fail(c, CADRE_E_FORMAT, "dictsort: expected by='key' or 'value', found '%.*s'", (int)by->n, by->p);
    struct value *keys = ctx_array(c, l->n, sizeof *keys);
    NEED(c, keys);
    for (size_t i = 0; i < l->n; i++) {
        const struct value itself = VALUE_MISSING;
        const struct key_rule rule = {&itself, NULL, !exact};
        TRY(key_of(c, &rule, &l->v[i].list->v[by && string_is(by, "value")], &keys[i]));
    }
    TRY(sort_by(c, l, keys, 1, reverse, &sorted));
    *out = value_list(V_LIST, sorted);
    return CADRE_OK;
}

static cadre_err best(struct ctx *c, const struct call *call, int sign, struct value *out)
{
    struct list *l;
    bool exact = false;
    struct value key, first;
    TRY(elements(c, call, &l));
    TRY(arg_bool(&call->arg[0], &exact));
    if (l->n == 0)
        return value_undefined(c, NULL, NULL, out);
    const struct key_rule rule = {&call->arg[1], NULL, !exact};
    *out = l->v[0];
    TRY(key_of(c, &rule, out, &first));
    for (size_t i = 1; i < l->n; i++) {
        int order;
        TRY(key_of(c, &rule, &l->v[i], &key));
        TRY(value_compare(c, &key, &first, &order));
        if (order * sign > 0) {
            *out = l->v[i];
            first = key;
        }
    }
    return CADRE_OK;
}

static cadre_err f_max(struct ctx *c, const struct call *call, struct value *out)
{
    return best(c, call, 1, out);
}

static cadre_err f_min(struct ctx *c, const struct call *call, struct value *out)
{
    return best(c, call, -1, out);
}

static cadre_err f_sum(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    TRY(elements(c, call, &l));
    *out = call->arg[1].kind == V_MISSING ? value_int(0) : call->arg[1];
    for (size_t i = 0; i < l->n; i++) {
        struct value v;
        const struct value so_far = *out;
        TRY(value_path(c, &l->v[i], &call->arg[0], &v));
        TRY(op_binary(c, '+', &so_far, &v, out));
    }
    return CADRE_OK;
}

static cadre_err f_unique(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *kept = list_new(c, 0);
    struct dict *seen = dict_new(c);
    bool exact = false;
    NEED(c, kept);
    NEED(c, seen);
    TRY(elements(c, call, &l));
    TRY(arg_bool(&call->arg[0], &exact));
    const struct key_rule rule = {&call->arg[1], NULL, !exact};
    for (size_t i = 0; i < l->n; i++) {
        struct value key;
        int64_t at;
        TRY(key_of(c, &rule, &l->v[i], &key));
        TRY(dict_find(c, seen, key, &at));
        if (at < 0) {
            TRY(dict_set(c, seen, key, VALUE_NONE));
            TRY(list_add(c, kept, l->v[i]));
        }
    }
    *out = value_list(V_GENERATOR, kept);
    return CADRE_OK;
}

/* Groups in the order of their keys; a key is shown as its first element has it. */
static cadre_err f_groupby(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *sorted, *groups = list_new(c, 0), *members = NULL;
    bool exact = false;
    struct value last = VALUE_MISSING;
    NEED(c, groups);
    TRY(elements(c, call, &l));
    TRY(arg_bool(&call->arg[2], &exact));
    const struct key_rule rule = {&call->arg[0], &call->arg[1], !exact}, shown = {&call->arg[0], &call->arg[1], false};
    struct value *keys = ctx_array(c, l->n, sizeof *keys);
    NEED(c, keys);
    for (size_t i = 0; i < l->n; i++)
        TRY(key_of(c, &rule, &l->v[i], &keys[i]));
    TRY(sort_by(c, l, keys, 1, false, &sorted));
    for (size_t i = 0; i < sorted->n; i++) {
        struct value key, name, group;
        bool same = false;
        TRY(key_of(c, &rule, &sorted->v[i], &key));
        if (members)
            TRY(value_equal(c, &key, &last, &same));
        if (!same) {
            members = list_new(c, 0);
            NEED(c, members);
            TRY(key_of(c, &shown, &sorted->v[i], &name));
            TRY(pair(c, name, value_list(V_LIST, members), &group));
            group.list->group = true;
            TRY(list_add(c, groups, group));
        }
        TRY(list_add(c, members, sorted->v[i]));
        last = key;
    }
    *out = value_list(V_LIST, groups);
    return CADRE_OK;
}

/* ---- cutting ------------------------------------------------------------------------------------------- */

static cadre_err f_batch(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *rows = list_new(c, 0), *row = NULL;
    int64_t width = 0;
    NEED(c, rows);
    TRY(elements(c, call, &l));
    TRY(arg_int(c, &call->arg[0], "batch: linecount", &width));
    for (size_t i = 0; i < l->n; i++) {
        if (!row || (int64_t)row->n == width) {
            row = list_new(c, 0);
            NEED(c, row);
            TRY(list_add(c, rows, value_list(V_LIST, row)));
        }
        TRY(list_add(c, row, l->v[i]));
    }
    if (row && call->arg[1].kind != V_MISSING && call->arg[1].kind != V_NONE)
        while ((int64_t)row->n < width)
            TRY(list_add(c, row, call->arg[1]));
    *out = value_list(V_GENERATOR, rows);
    return CADRE_OK;
}

static cadre_err f_slice(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *rows = list_new(c, 0);
    int64_t slices = 1;
    size_t at = 0;
    NEED(c, rows);
    TRY(elements(c, call, &l));
    TRY(arg_int(c, &call->arg[0], "slice: slices", &slices));
    if (slices < 1)
        return ctx_fail(c, CADRE_E_FORMAT, "slice: expected at least 1 slice, found %lld", (long long)slices);
    size_t each = l->n / (size_t)slices, more = l->n % (size_t)slices;
    for (size_t i = 0; i < (size_t)slices; i++) {
        struct list *row = list_new(c, each + 1);
        NEED(c, row);
        for (size_t k = 0; k < each + (i < more); k++)
            TRY(list_add(c, row, l->v[at++]));
        if (i >= more && call->arg[1].kind != V_MISSING && call->arg[1].kind != V_NONE)
            TRY(list_add(c, row, call->arg[1]));
        TRY(list_add(c, rows, value_list(V_LIST, row)));
    }
    *out = value_list(V_GENERATOR, rows);
    return CADRE_OK;
}

/* ---- map and select ------------------------------------------------------------------------------------ */

/* The arguments behind the first `n`: those of the filter or test that is named before them. */
static struct args rest(const struct args *a, size_t n)
{
    struct args r = *a;
    r.v += n < a->n ? n : a->n;
    r.n -= n < a->n ? n : a->n;
    return r;
}

/* Nothing at all is gone through as if it were empty, whatever it is. */
static cadre_err elements_if_any(struct ctx *c, const struct call *call, struct list **l)
{
    if (value_truth(&call->self))
        return elements(c, call, l);
    *l = list_new(c, 0);
    NEED(c, *l);
    return CADRE_OK;
}

static cadre_err map_attribute(struct ctx *c, const struct args *args, const struct value *v, struct value *out)
{
    const struct value *attribute = NULL, *fallback = NULL;
    for (size_t i = 0; i < args->n_named; i++) {
        if (string_is(args->name[i], "attribute"))
            attribute = &args->named[i];
        else if (string_is(args->name[i], "default"))
            fallback = &args->named[i];
        else
            return ctx_fail(c, CADRE_E_FORMAT, "map: it has no argument '%.*s'", (int)args->name[i]->n,
                            args->name[i]->p);
    }
    if (!attribute)
        return ctx_fail(c, CADRE_E_FORMAT, "map: expected a filter's name or attribute=");
    TRY(value_path(c, v, attribute, out));
    if (out->kind == V_UNDEFINED && fallback)
        *out = *fallback;
    return CADRE_OK;
}

static cadre_err f_map(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l, *mapped;
    struct string *name = NULL;
    const struct args others = rest(call->all, 1);
    TRY(elements_if_any(c, call, &l));
    mapped = list_new(c, l->n);
    NEED(c, mapped);
    if (call->all->n)
        TRY(arg_string(c, &call->all->v[0], "map: filter", &name));
    for (size_t i = 0; i < l->n; i++) {
        struct value v;
        TRY(name ? call_filter(c, name, &l->v[i], &others, &v) : map_attribute(c, call->all, &l->v[i], &v));
        TRY(list_add(c, mapped, v));
    }
    *out = value_list(V_GENERATOR, mapped);
    return CADRE_OK;
}

/* select, reject: a test on each element; with an attribute, on that. No test: whether it is true. */
static cadre_err filter_by(struct ctx *c, const struct call *call, bool by_attribute, bool keep, struct value *out)
{
    struct list *l, *kept = list_new(c, 0);
    struct string *name = NULL;
    const struct args *all = call->all;
    const struct args others = rest(all, by_attribute ? 2 : 1);
    NEED(c, kept);
    TRY(elements_if_any(c, call, &l));
    if (by_attribute && all->n == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "selectattr: expected the name of an attribute");
    if (all->n > by_attribute)
        TRY(arg_string(c, &all->v[by_attribute], "select: test", &name));
    for (size_t i = 0; i < l->n; i++) {
        struct value v = l->v[i];
        if (by_attribute)
            TRY(value_path(c, &l->v[i], &all->v[0], &v));
        bool yes = value_truth(&v);
        if (name)
            TRY(call_test(c, name, &v, &others, &yes));
        if (yes == keep)
            TRY(list_add(c, kept, l->v[i]));
    }
    *out = value_list(V_GENERATOR, kept);
    return CADRE_OK;
}

static cadre_err f_select(struct ctx *c, const struct call *call, struct value *out)
{
    return filter_by(c, call, false, true, out);
}

static cadre_err f_reject(struct ctx *c, const struct call *call, struct value *out)
{
    return filter_by(c, call, false, false, out);
}

static cadre_err f_selectattr(struct ctx *c, const struct call *call, struct value *out)
{
    return filter_by(c, call, true, true, out);
}

static cadre_err f_rejectattr(struct ctx *c, const struct call *call, struct value *out)
{
    return filter_by(c, call, true, false, out);
}

const struct builtin builtin_list_filters[] = {{"length", f_length, ""},
                                               {"count", f_length, ""},
                                               {"list", f_list, ""},
                                               {"first", f_first, ""},
                                               {"last", f_last, ""},
                                               {"join", f_join, "d? attribute?"},
                                               {"map", f_map, "*"},
                                               {"select", f_select, "*"},
                                               {"reject", f_reject, "*"},
                                               {"selectattr", f_selectattr, "*"},
                                               {"rejectattr", f_rejectattr, "*"},
                                               {"items", f_items, ""},
                                               {"dictsort", f_dictsort, "case_sensitive? by? reverse?"},
                                               {"sort", f_sort, "reverse? case_sensitive? attribute?"},
                                               {"unique", f_unique, "case_sensitive? attribute?"},
                                               {"reverse", f_reverse, ""},
                                               {"groupby", f_groupby, "attribute default? case_sensitive?"},
                                               {"sum", f_sum, "attribute? start?"},
                                               {"min", f_min, "case_sensitive? attribute?"},
                                               {"max", f_max, "case_sensitive? attribute?"},
                                               {"batch", f_batch, "linecount fill_with?"},
                                               {"slice", f_slice, "slices fill_with?"},
                                               {0}};
