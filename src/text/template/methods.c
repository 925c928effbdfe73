/* Methods of lists, tuples, dicts, loops and cyclers. What changes a list or dict changes the template's own copy of
 * it: transformers forbids that (ImmutableSandboxedEnvironment), other engines allow it, and templates were written for
 * both. */
#include <string.h>
#include <time.h>

#include "text/template/eval.h"
#include "text/template/print.h"

/* ---- lists --------------------------------------------------------------------------------------------- */

static cadre_err l_index(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    TRY(value_elements(c, &call->self, &l));
    for (size_t i = 0; i < l->n; i++) {
        bool equal;
        TRY(value_equal(c, &l->v[i], &call->arg[0], &equal));
        if (equal) {
            *out = value_int((int64_t)i);
            return CADRE_OK;
        }
    }
    return ctx_fail(c, CADRE_E_FORMAT, "index: no element is equal to that");
}

static cadre_err l_count(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    int64_t n = 0;
    TRY(value_elements(c, &call->self, &l));
    for (size_t i = 0; i < l->n; i++) {
        bool equal;
        TRY(value_equal(c, &l->v[i], &call->arg[0], &equal));
        n += equal;
    }
    *out = value_int(n);
    return CADRE_OK;
}

static cadre_err l_append(struct ctx *c, const struct call *call, struct value *out)
{
    *out = VALUE_NONE;
    return list_add(c, call->self.list, call->arg[0]);
}

static cadre_err l_extend(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l;
    *out = VALUE_NONE;
    TRY(value_elements(c, &call->arg[0], &l));
    for (size_t i = 0, n = l->n; i < n; i++)
        TRY(list_add(c, call->self.list, l->v[i]));
    return CADRE_OK;
}

static cadre_err l_insert(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l = call->self.list;
    int64_t at = 0, n = (int64_t)l->n;
    *out = VALUE_NONE;
    TRY(arg_int(c, &call->arg[0], "insert: index", &at));
    at += at < 0 ? n : 0;
    at = at < 0 ? 0 : at > n ? n : at;
    TRY(list_add(c, l, VALUE_NONE));
    TRY(ctx_steps(c, (size_t)(n - at)));
    memmove(l->v + at + 1, l->v + at, (size_t)(n - at) * sizeof *l->v);
    l->v[at] = call->arg[1];
    return CADRE_OK;
}

static cadre_err remove_at(struct ctx *c, struct list *l, int64_t at, struct value *out)
{
    int64_t n = (int64_t)l->n;
    at += at < 0 ? n : 0;
    if (at < 0 || at >= n)
        return ctx_fail(c, CADRE_E_FORMAT, "pop: expected an index of %lld elements", (long long)n);
    *out = l->v[at];
    TRY(ctx_steps(c, (size_t)(n - at)));
    memmove(l->v + at, l->v + at + 1, (size_t)(n - at - 1) * sizeof *l->v);
    l->n--;
    return CADRE_OK;
}

static cadre_err l_pop(struct ctx *c, const struct call *call, struct value *out)
{
    int64_t at = -1;
    TRY(arg_int(c, &call->arg[0], "pop: index", &at));
    return remove_at(c, call->self.list, at, out);
}

static cadre_err l_remove(struct ctx *c, const struct call *call, struct value *out)
{
    struct value at = VALUE_NONE, gone;
    TRY(l_index(c, call, &at));
    *out = VALUE_NONE;
    return remove_at(c, call->self.list, at.i, &gone);
}

static cadre_err l_clear(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    call->self.list->n = 0;
    *out = VALUE_NONE;
    return CADRE_OK;
}

static cadre_err run_filter(struct ctx *c, const char *name, const struct call *call, struct value *out)
{
    struct string s = {.p = name, .n = strlen(name), .chars = -1};
    const struct args none = {0};
    return call_filter(c, &s, &call->self, &none, out);
}

static cadre_err l_copy(struct ctx *c, const struct call *call, struct value *out)
{
    return run_filter(c, "list", call, out);
}

static cadre_err l_reverse(struct ctx *c, const struct call *call, struct value *out)
{
    struct value reversed;
    TRY(run_filter(c, "reverse", call, &reversed));
    *call->self.list = *reversed.list;
    *out = VALUE_NONE;
    return CADRE_OK;
}

const struct builtin builtin_list_methods[] = {{"index", l_index, "value"},
                                               {"count", l_count, "value"},
                                               {"append", l_append, "object"},
                                               {"extend", l_extend, "iterable"},
                                               {"insert", l_insert, "index object"},
                                               {"pop", l_pop, "index?"},
                                               {"remove", l_remove, "value"},
                                               {"clear", l_clear, ""},
                                               {"copy", l_copy, ""},
                                               {"reverse", l_reverse, ""},
                                               {0}};

const struct builtin builtin_tuple_methods[] = {{"index", l_index, "value"}, {"count", l_count, "value"}, {0}};

/* ---- dicts --------------------------------------------------------------------------------------------- */

static cadre_err d_get(struct ctx *c, const struct call *call, struct value *out)
{
    int64_t at;
    TRY(dict_find(c, call->self.dict, call->arg[0], &at));
    *out = at >= 0 ? call->self.dict->e[at].value : call->arg[1].kind == V_MISSING ? VALUE_NONE : call->arg[1];
    return CADRE_OK;
}

enum part { KEYS = 1, VALUES = 2 };

static cadre_err view(struct ctx *c, const struct dict *d, int parts, const char *name, struct value *out)
{
    struct list *l = list_new(c, d->live);
    NEED(c, l);
    l->view = name;
    for (size_t i = 0; i < d->n; i++) {
        struct value one = parts == KEYS ? d->e[i].key : d->e[i].value;
        if (d->e[i].gone)
            continue;
        if (parts == (KEYS | VALUES)) {
            struct list *pair = list_new(c, 2);
            NEED(c, pair);
            TRY(list_add(c, pair, d->e[i].key));
            TRY(list_add(c, pair, d->e[i].value));
            one = value_list(V_TUPLE, pair);
        }
        TRY(list_add(c, l, one));
    }
    *out = value_list(V_VIEW, l);
    return CADRE_OK;
}

static cadre_err d_items(struct ctx *c, const struct call *call, struct value *out)
{
    return view(c, call->self.dict, KEYS | VALUES, "dict_items", out);
}

static cadre_err d_keys(struct ctx *c, const struct call *call, struct value *out)
{
    return view(c, call->self.dict, KEYS, "dict_keys", out);
}

static cadre_err d_values(struct ctx *c, const struct call *call, struct value *out)
{
    return view(c, call->self.dict, VALUES, "dict_values", out);
}

/* dict(…) and update(…): a dict or pairs, then names. */
static cadre_err merge(struct ctx *c, struct dict *d, const struct args *args)
{
    if (args->n > 1)
        return ctx_fail(c, CADRE_E_FORMAT, "dict: expected at most one argument without a name, found %zu", args->n);
    if (args->n && args->v[0].kind == V_DICT) {
        const struct dict *from = args->v[0].dict;
        for (size_t i = 0, n = from->n; i < n; i++)
            if (!from->e[i].gone)
                TRY(dict_set(c, d, from->e[i].key, from->e[i].value));
    } else if (args->n) {
        struct list *l, *pair;
        TRY(value_elements(c, &args->v[0], &l));
        for (size_t i = 0; i < l->n; i++) {
            TRY(value_elements(c, &l->v[i], &pair));
            if (pair->n != 2)
                return ctx_fail(c, CADRE_E_FORMAT, "dict: expected pairs, found %zu values", pair->n);
            TRY(dict_set(c, d, pair->v[0], pair->v[1]));
        }
    }
    for (size_t i = 0; i < args->n_named; i++)
        TRY(dict_set(c, d, value_string(args->name[i]), args->named[i]));
    return CADRE_OK;
}

static cadre_err d_update(struct ctx *c, const struct call *call, struct value *out)
{
    *out = VALUE_NONE;
    return merge(c, call->self.dict, call->all);
}

static cadre_err d_copy(struct ctx *c, const struct call *call, struct value *out)
{
    struct value self = call->self;
    const struct args args = {.v = &self, .n = 1};
    struct dict *d = dict_new(c);
    NEED(c, d);
    *out = value_dict(d);
    return merge(c, d, &args);
}

static cadre_err d_setdefault(struct ctx *c, const struct call *call, struct value *out)
{
    int64_t at;
    *out = call->arg[1].kind == V_MISSING ? VALUE_NONE : call->arg[1];
    TRY(dict_find(c, call->self.dict, call->arg[0], &at));
    if (at < 0)
        return dict_set(c, call->self.dict, call->arg[0], *out);
    *out = call->self.dict->e[at].value;
    return CADRE_OK;
}

static cadre_err d_pop(struct ctx *c, const struct call *call, struct value *out)
{
    int64_t at;
    TRY(dict_find(c, call->self.dict, call->arg[0], &at));
    if (at < 0 && call->arg[1].kind == V_MISSING)
        return ctx_fail(c, CADRE_E_FORMAT, "pop: the dict has no such key");
    *out = at >= 0 ? call->self.dict->e[at].value : call->arg[1];
    if (at >= 0)
        dict_remove(call->self.dict, at);
    return CADRE_OK;
}

static cadre_err d_clear(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    *call->self.dict = (struct dict){0};
    *out = VALUE_NONE;
    return CADRE_OK;
}

const struct builtin builtin_dict_methods[] = {{"get", d_get, "key default?"},
                                               {"items", d_items, ""},
                                               {"keys", d_keys, ""},
                                               {"values", d_values, ""},
                                               {"copy", d_copy, ""},
                                               {"update", d_update, "*"},
                                               {"setdefault", d_setdefault, "key default?"},
                                               {"pop", d_pop, "key default?"},
                                               {"clear", d_clear, ""},
                                               {0}};

/* ---- loops and cyclers --------------------------------------------------------------------------------- */

static cadre_err loop_cycle(struct ctx *c, const struct call *call, struct value *out)
{
    if (call->all->n == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "cycle: expected values, found none");
    *out = call->all->v[call->self.loop->at % call->all->n];
    return CADRE_OK;
}

static cadre_err loop_changed(struct ctx *c, const struct call *call, struct value *out)
{
    struct list *l = list_new(c, call->all->n);
    bool equal;
    NEED(c, l);
    for (size_t i = 0; i < call->all->n; i++)
        TRY(list_add(c, l, call->all->v[i]));
    struct value now = value_list(V_TUPLE, l);
    TRY(value_equal(c, &now, &call->self.loop->changed, &equal));
    call->self.loop->changed = now;
    *out = value_bool(!equal);
    return CADRE_OK;
}

const struct builtin builtin_loop_methods[] = {{"cycle", loop_cycle, "*"}, {"changed", loop_changed, "*"}, {0}};

static cadre_err cycler_next(struct ctx *c, const struct call *call, struct value *out)
{
    struct cycler *k = call->self.cycler;
    (void)c;
    *out = k->items->v[k->at];
    k->at = (k->at + 1) % k->items->n;
    return CADRE_OK;
}

static cadre_err cycler_reset(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    call->self.cycler->at = 0;
    *out = VALUE_NONE;
    return CADRE_OK;
}

const struct builtin builtin_cycler_methods[] = {{"next", cycler_next, ""}, {"reset", cycler_reset, ""}, {0}};

/* ---- globals ------------------------------------------------------------------------------------------- */

static cadre_err g_range(struct ctx *c, const struct call *call, struct value *out)
{
    enum { MAX_RANGE = 100000 }; /* as in Jinja2's sandbox */
    struct range *r = ctx_alloc(c, sizeof *r);
    NEED(c, r);
    *r = (struct range){.step = 1};
    TRY(arg_int(c, &call->arg[0], "range", call->arg[1].kind == V_MISSING ? &r->stop : &r->start));
    TRY(arg_int(c, &call->arg[1], "range", &r->stop));
    TRY(arg_int(c, &call->arg[2], "range", &r->step));
    if (r->step == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "range: a step of 0");
    if (range_length(r) > MAX_RANGE || range_length(r) < 0)
        return ctx_fail(c, CADRE_E_MEMORY, "range: more than %d numbers", MAX_RANGE);
    *out = (struct value){.kind = V_RANGE, .range = r};
    return CADRE_OK;
}

static cadre_err g_dict(struct ctx *c, const struct call *call, struct value *out)
{
    struct dict *d = dict_new(c);
    NEED(c, d);
    *out = value_dict(d);
    return merge(c, d, call->all);
}

static cadre_err g_namespace(struct ctx *c, const struct call *call, struct value *out)
{
    TRY(g_dict(c, call, out));
    out->kind = V_NAMESPACE;
    return CADRE_OK;
}

static cadre_err g_raise(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    (void)out;
    TRY(print_to_string(c, &call->arg[0], &s));
    return ctx_fail(c, CADRE_E_ARG, "the template refuses: %.*s", (int)(s->n < 600 ? s->n : 600), s->p);
}

static cadre_err g_strftime(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    struct tm tm;
    time_t now = c->now < 0 ? time(NULL) : (time_t)c->now;
    char format[256], text[1024];
    TRY(arg_string(c, &call->arg[0], "strftime_now: format", &s));
    if (!(c->now < 0 ? localtime_r(&now, &tm) : gmtime_r(&now, &tm)))
        return ctx_fail(c, CADRE_E_FORMAT, "strftime_now: no date for this time");
    if (s->n >= sizeof format)
        return ctx_fail(c, CADRE_E_FORMAT, "strftime_now: a format of more than %zu bytes", sizeof format - 1);
    memcpy(format, s->p, s->n);
    format[s->n] = 0;
    size_t n = *format ? strftime(text, sizeof text, format, &tm) : 0;
    struct string *copy = string_copy(c, text, n);
    NEED(c, copy);
    *out = value_string(copy);
    return CADRE_OK;
}

static cadre_err new_cycler(struct ctx *c, enum kind kind, const struct args *args, struct value *out)
{
    struct cycler *k = ctx_alloc(c, sizeof *k);
    NEED(c, k);
    k->items = list_new(c, args->n);
    NEED(c, k->items);
    for (size_t i = 0; i < args->n; i++)
        TRY(list_add(c, k->items, args->v[i]));
    *out = (struct value){.kind = kind, .cycler = k};
    return CADRE_OK;
}

static cadre_err g_cycler(struct ctx *c, const struct call *call, struct value *out)
{
    if (call->all->n == 0)
        return ctx_fail(c, CADRE_E_FORMAT, "cycler: expected values, found none");
    return new_cycler(c, V_CYCLER, call->all, out);
}

static cadre_err g_joiner(struct ctx *c, const struct call *call, struct value *out)
{
    struct value separator = call->arg[0];
    if (separator.kind == V_MISSING)
        TRY(string_of(c, ", ", 2, &separator));
    const struct args args = {.v = &separator, .n = 1};
    return new_cycler(c, V_JOINER, &args, out);
}

const struct builtin builtin_globals[] = {{"range", g_range, "start stop? step?"},
                                          {"dict", g_dict, "*"},
                                          {"namespace", g_namespace, "*"},
                                          {"raise_exception", g_raise, "message"},
                                          {"strftime_now", g_strftime, "format"},
                                          {"cycler", g_cycler, "*"},
                                          {"joiner", g_joiner, "sep?"},
                                          {0}};
