/* What templates can call by name. A builtin is one function and one row in the table of its sort: filters, tests,
 * globals, or the methods of a type. */
#ifndef CADRE_TEXT_TEMPLATE_BUILTIN_H
#define CADRE_TEXT_TEMPLATE_BUILTIN_H

#include "text/template/value.h"

enum { MAX_PARAMS = 6 };

/* Arguments as a template wrote them. */
struct args {
    struct value *v; /* [n] */
    size_t n;
    struct string **name; /* [n_named] */
    struct value *named;  /* [n_named] */
    size_t n_named;
};

/* Arguments as a builtin sees them. */
struct call {
    struct value self;            /* input of a filter, value of a test, object of a method */
    struct value arg[MAX_PARAMS]; /* in the order of the row's params; V_MISSING if not given */
    const struct args *all;       /* of a row with "*" */
};

/* params: names in order, "d attribute?"; those after "?" may be left out; "*" alone: any, read from call->all. */
struct builtin {
    const char *name;
    cadre_err (*run)(struct ctx *c, const struct call *call, struct value *out);
    const char *params;
};

/* A table ends with a row without a name. NULL if there is no such row. */
const struct builtin *builtin_find(const struct builtin *table, const struct string *name);
/* Bind arguments to parameters and run. sort: "filter", "test", … for messages. */
cadre_err builtin_call(struct ctx *c, const struct builtin *row, const char *sort, const struct value *self,
                       const struct args *args, struct value *out);

extern const struct builtin builtin_filters[], builtin_list_filters[], builtin_tests[], builtin_globals[],
    builtin_str_methods[], builtin_list_methods[], builtin_tuple_methods[], builtin_dict_methods[],
    builtin_loop_methods[], builtin_cycler_methods[];

/* A filter or test by name, with its arguments (map, select, …). */
cadre_err call_filter(struct ctx *c, const struct string *name, const struct value *self, const struct args *args,
                      struct value *out);
cadre_err call_test(struct ctx *c, const struct string *name, const struct value *self, const struct args *args,
                    bool *out);

/* Arguments of particular kinds; `what` names the parameter in messages. Missing ones leave *out as it is. */
cadre_err arg_int(struct ctx *c, const struct value *v, const char *what, int64_t *out);
cadre_err arg_string(struct ctx *c, const struct value *v, const char *what, struct string **out);
cadre_err arg_bool(const struct value *v, bool *out);

#endif
