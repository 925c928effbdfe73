/* Tests: what stands behind `is`. */
#include <string.h>

#include "text/template/chars.h"
#include "text/template/eval.h"
#include "text/template/print.h"

static cadre_err answer(struct value *out, bool yes)
{
    *out = value_bool(yes);
    return CADRE_OK;
}

/* Tests of the kind alone: one bit per kind. */
#define KIND(k) (1u << (k))
#define TEST_OF_KINDS(name, kinds)                                                                                     \
    static cadre_err name(struct ctx *c, const struct call *call, struct value *out)                                   \
    {                                                                                                                  \
        (void)c;                                                                                                       \
        return answer(out, (KIND(call->self.kind) & (kinds)) != 0);                                                    \
    }

TEST_OF_KINDS(t_defined, ~KIND(V_UNDEFINED))
TEST_OF_KINDS(t_undefined, KIND(V_UNDEFINED))
TEST_OF_KINDS(t_none, KIND(V_NONE))
TEST_OF_KINDS(t_boolean, KIND(V_BOOL))
TEST_OF_KINDS(t_integer, KIND(V_INT))
TEST_OF_KINDS(t_float, KIND(V_FLOAT))
TEST_OF_KINDS(t_number, KIND(V_INT) | KIND(V_FLOAT) | KIND(V_BOOL))
TEST_OF_KINDS(t_string, KIND(V_STRING))
TEST_OF_KINDS(t_mapping, KIND(V_DICT))
/* what has a length and elements by index or key */
TEST_OF_KINDS(t_sequence,
              KIND(V_STRING) | KIND(V_LIST) | KIND(V_TUPLE) | KIND(V_DICT) | KIND(V_RANGE) | KIND(V_UNDEFINED))

static cadre_err t_iterable(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, value_is_iterable(&call->self));
}

static cadre_err t_callable(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, value_is_callable(&call->self));
}

static cadre_err t_true(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, call->self.kind == V_BOOL && call->self.b);
}

static cadre_err t_false(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, call->self.kind == V_BOOL && !call->self.b);
}

static cadre_err t_escaped(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, call->self.kind == V_STRING && call->self.s->safe);
}

static cadre_err remainder_is(struct ctx *c, const struct call *call, const struct value *by, int64_t wanted,
                              struct value *out)
{
    struct value rest;
    const struct value expected = value_int(wanted);
    bool yes;
    TRY(op_binary(c, '%', &call->self, by, &rest));
    TRY(value_equal(c, &rest, &expected, &yes));
    return answer(out, yes);
}

static cadre_err t_odd(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value two = value_int(2);
    return remainder_is(c, call, &two, 1, out);
}

static cadre_err t_even(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value two = value_int(2);
    return remainder_is(c, call, &two, 0, out);
}

static cadre_err t_divisibleby(struct ctx *c, const struct call *call, struct value *out)
{
    return remainder_is(c, call, &call->arg[0], 0, out);
}

static cadre_err t_eq(struct ctx *c, const struct call *call, struct value *out)
{
    bool yes;
    TRY(value_equal(c, &call->self, &call->arg[0], &yes));
    return answer(out, yes);
}

static cadre_err t_ne(struct ctx *c, const struct call *call, struct value *out)
{
    bool yes;
    TRY(value_equal(c, &call->self, &call->arg[0], &yes));
    return answer(out, !yes);
}

#define TEST_OF_ORDER(name, condition)                                                                                 \
    static cadre_err name(struct ctx *c, const struct call *call, struct value *out)                                   \
    {                                                                                                                  \
        int order;                                                                                                     \
        TRY(value_compare(c, &call->self, &call->arg[0], &order));                                                     \
        return answer(out, condition);                                                                                 \
    }

TEST_OF_ORDER(t_lt, order < 0)
TEST_OF_ORDER(t_le, order <= 0)
TEST_OF_ORDER(t_gt, order > 0)
TEST_OF_ORDER(t_ge, order >= 0)

static cadre_err t_in(struct ctx *c, const struct call *call, struct value *out)
{
    bool yes;
    TRY(value_contains(c, &call->arg[0], &call->self, &yes));
    return answer(out, yes);
}

static cadre_err t_sameas(struct ctx *c, const struct call *call, struct value *out)
{
    const struct value *a = &call->self, *b = &call->arg[0];
    bool yes = a->kind == b->kind;
    if (yes && (a->kind == V_LIST || a->kind == V_TUPLE || a->kind == V_DICT))
        yes = a->list == b->list;
    else if (yes)
        TRY(value_equal(c, a, b, &yes));
    return answer(out, yes);
}

/* Whether there is a letter, and all letters are of that case. */
static bool all_of_case(const struct string *s, bool (*other)(int32_t), bool (*wanted)(int32_t))
{
    bool any = false;
    for (size_t i = 0, len; i < s->n; i += len) {
        int32_t code = char_decode(s->p + i, s->n - i, &len);
        if (other(code))
            return false;
        any = any || wanted(code);
    }
    return any;
}

static cadre_err t_upper(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(print_to_string(c, &call->self, &s));
    return answer(out, all_of_case(s, char_is_lower, char_is_upper));
}

static cadre_err t_lower(struct ctx *c, const struct call *call, struct value *out)
{
    struct string *s;
    TRY(print_to_string(c, &call->self, &s));
    return answer(out, all_of_case(s, char_is_upper, char_is_lower));
}

static cadre_err t_filter(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    const struct value *v = &call->self;
    return answer(out, v->kind == V_STRING &&
                           (builtin_find(builtin_filters, v->s) || builtin_find(builtin_list_filters, v->s)));
}

static cadre_err t_test(struct ctx *c, const struct call *call, struct value *out)
{
    (void)c;
    return answer(out, call->self.kind == V_STRING && builtin_find(builtin_tests, call->self.s));
}

const struct builtin builtin_tests[] = {{"defined", t_defined, ""},    {"undefined", t_undefined, ""},
                                        {"none", t_none, ""},          {"string", t_string, ""},
                                        {"mapping", t_mapping, ""},    {"iterable", t_iterable, ""},
                                        {"sequence", t_sequence, ""},  {"number", t_number, ""},
                                        {"integer", t_integer, ""},    {"float", t_float, ""},
                                        {"boolean", t_boolean, ""},    {"true", t_true, ""},
                                        {"false", t_false, ""},        {"callable", t_callable, ""},
                                        {"escaped", t_escaped, ""},    {"odd", t_odd, ""},
                                        {"even", t_even, ""},          {"divisibleby", t_divisibleby, "num"},
                                        {"eq", t_eq, "other"},         {"equalto", t_eq, "other"},
                                        {"==", t_eq, "other"},         {"ne", t_ne, "other"},
                                        {"!=", t_ne, "other"},         {"lt", t_lt, "other"},
                                        {"lessthan", t_lt, "other"},   {"<", t_lt, "other"},
                                        {"le", t_le, "other"},         {"<=", t_le, "other"},
                                        {"gt", t_gt, "other"},         {"greaterthan", t_gt, "other"},
                                        {">", t_gt, "other"},          {"ge", t_ge, "other"},
                                        {">=", t_ge, "other"},         {"in", t_in, "seq"},
                                        {"sameas", t_sameas, "other"}, {"upper", t_upper, ""},
                                        {"lower", t_lower, ""},        {"filter", t_filter, ""},
                                        {"test", t_test, ""},          {0}};
