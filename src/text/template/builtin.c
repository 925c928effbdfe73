#include "text/template/builtin.h"

#include <string.h>

const struct builtin *builtin_find(const struct builtin *table, const struct string *name)
{
    for (const struct builtin *row = table; row->name; row++)
        if (string_is(name, row->name))
            return row;
    return NULL;
}

/* The next word of a list of parameters, without its "?"; 0 at the end. */
static size_t next_param(const char **at, const char **name, bool *optional)
{
    while (**at == ' ')
        ++*at;
    *name = *at;
    size_t n = strcspn(*at, " ?");
    *at += n;
    if (**at == '?') {
        *optional = true; /* and all that follow */
        ++*at;
    }
    return n;
}

static int64_t find_named(const struct args *args, const char *name, size_t n)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (args->name[i]->n == n && memcmp(args->name[i]->p, name, n) == 0)
            return (int64_t)i;
    return -1;
}

static cadre_err bind(struct ctx *c, const struct builtin *row, const char *sort, const struct args *args,
                      struct value *arg)
{
    const char *at = row->params, *name;
    bool optional = false;
    size_t n, i = 0, named = 0;
    for (; (n = next_param(&at, &name, &optional)) > 0; i++) {
        int64_t k = find_named(args, name, n);
        if (i < args->n && k >= 0)
            return ctx_fail(c, CADRE_E_FORMAT, "%s %s: argument '%.*s' is given twice", sort, row->name, (int)n, name);
        if (i >= args->n && k < 0 && !optional)
            return ctx_fail(c, CADRE_E_FORMAT, "%s %s: expected an argument '%.*s', found none", sort, row->name,
                            (int)n, name);
        arg[i] = i < args->n ? args->v[i] : k >= 0 ? args->named[k] : VALUE_MISSING;
        named += k >= 0;
    }
    if (args->n > i)
        return ctx_fail(c, CADRE_E_FORMAT, "%s %s: expected at most %zu arguments, found %zu", sort, row->name, i,
                        args->n);
    for (size_t k = 0; named < args->n_named && k < args->n_named; k++) {
        bool known = false;
        for (at = row->params; (n = next_param(&at, &name, &optional)) > 0;)
            known = known || (args->name[k]->n == n && memcmp(args->name[k]->p, name, n) == 0);
        if (!known)
            return ctx_fail(c, CADRE_E_FORMAT, "%s %s: it has no argument '%.*s'", sort, row->name,
                            (int)args->name[k]->n, args->name[k]->p);
    }
    return CADRE_OK;
}

cadre_err builtin_call(struct ctx *c, const struct builtin *row, const char *sort, const struct value *self,
                       const struct args *args, struct value *out)
{
    struct call call = {.self = self ? *self : VALUE_MISSING, .all = args};
    if (strcmp(row->params, "*") != 0)
        TRY(bind(c, row, sort, args, call.arg));
    return row->run(c, &call, out);
}

cadre_err call_filter(struct ctx *c, const struct string *name, const struct value *self, const struct args *args,
                      struct value *out)
{
    const struct builtin *row = builtin_find(builtin_filters, name);
    row = row ? row : builtin_find(builtin_list_filters, name);
    if (!row)
        return ctx_fail(c, CADRE_E_FORMAT, "there is no filter '%.*s'", (int)name->n, name->p);
    return builtin_call(c, row, "filter", self, args, out);
}

cadre_err call_test(struct ctx *c, const struct string *name, const struct value *self, const struct args *args,
                    bool *out)
{
    struct value v;
    const struct builtin *row = builtin_find(builtin_tests, name);
    if (!row)
        return ctx_fail(c, CADRE_E_FORMAT, "there is no test '%.*s'", (int)name->n, name->p);
    TRY(builtin_call(c, row, "test", self, args, &v));
    *out = value_truth(&v);
    return CADRE_OK;
}

cadre_err arg_int(struct ctx *c, const struct value *v, const char *what, int64_t *out)
{
    if (v->kind == V_MISSING)
        return CADRE_OK;
    if (!value_is_integer(v))
        return ctx_fail(c, CADRE_E_FORMAT, "%s: expected a whole number, found a %s", what, value_kind_name(v));
    *out = value_as_int(v);
    return CADRE_OK;
}

cadre_err arg_string(struct ctx *c, const struct value *v, const char *what, struct string **out)
{
    if (v->kind == V_MISSING)
        return CADRE_OK;
    if (v->kind != V_STRING)
        return ctx_fail(c, CADRE_E_FORMAT, "%s: expected a str, found a %s", what, value_kind_name(v));
    *out = v->s;
    return CADRE_OK;
}

cadre_err arg_bool(const struct value *v, bool *out)
{
    if (v->kind != V_MISSING)
        *out = value_truth(v);
    return CADRE_OK;
}
