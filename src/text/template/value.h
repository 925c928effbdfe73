/* Values of the template language: what Python has, as far as templates see it. */
#ifndef CADRE_TEXT_TEMPLATE_VALUE_H
#define CADRE_TEXT_TEMPLATE_VALUE_H

#include "text/template/ctx.h"

enum kind {
    V_MISSING, /* an argument that was not given; never seen by templates */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_VIEW,      /* what dict.items(), keys() and values() give */
    V_GENERATOR, /* what map, select, … give: can be gone through once */
    V_RANGE,
    V_DICT,
    V_NAMESPACE,
    V_LOOP,
    V_MACRO,
    V_FUNCTION, /* a builtin, bound to `self` if it is a method */
    V_CYCLER,
    V_JOINER,
    V_KINDS
};

struct string {
    const char *p; /* n bytes of valid UTF-8, not 0-terminated */
    size_t n;
    int64_t chars; /* code points; -1: not counted yet */
    bool safe;     /* escaped already (Markup) */
};

struct value {
    enum kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct string *s;
        struct list *list; /* LIST, TUPLE, VIEW, GENERATOR */
        struct dict *dict; /* DICT, NAMESPACE */
        struct range *range;
        struct loop *loop;
        struct macro *macro;
        struct function *function;
        struct cycler *cycler; /* CYCLER, JOINER */
        const struct undefined *undefined;
    };
};

struct list {
    struct value *v;
    size_t n, room;
    const char *view; /* VIEW: "dict_items", … */
    bool group;       /* TUPLE of groupby: .grouper and .list */
};

struct dict_entry {
    struct value key, value;
    uint64_t hash;
    bool gone;
};

/* In order of insertion; entries that are `gone` are skipped. */
struct dict {
    struct dict_entry *e;
    size_t n, room, live;
    int32_t *slots; /* [mask + 1] entry or -1; NULL while there are few */
    size_t mask;
};

struct range {
    int64_t start, stop, step;
};

struct cycler { /* also a joiner: items[0] is its separator, at > 0 once it was used */
    struct list *items;
    size_t at;
};

struct undefined {
    const struct string *name;
    const char *of; /* kind of the object that lacks it; NULL: a variable */
};

struct function {
    const struct builtin *row;
    struct value self;
};

/* ---- making ---- */

#define VALUE_NONE ((struct value){.kind = V_NONE})
#define VALUE_MISSING ((struct value){.kind = V_MISSING})
static inline struct value value_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}
static inline struct value value_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
static inline struct value value_string(struct string *s)
{
    return (struct value){.kind = V_STRING, .s = s};
}
static inline struct value value_list(enum kind kind, struct list *l)
{
    return (struct value){.kind = kind, .list = l};
}
static inline struct value value_dict(struct dict *d)
{
    return (struct value){.kind = V_DICT, .dict = d};
}

/* The bytes are borrowed (string_new) or copied (string_copy). NULL after an error. */
struct string *string_new(struct ctx *c, const char *p, size_t n);
struct string *string_copy(struct ctx *c, const char *p, size_t n);
cadre_err string_of(struct ctx *c, const char *p, size_t n, struct value *out); /* borrowed */
cadre_err string_from_text(struct ctx *c, const struct text *t, struct value *out);

struct list *list_new(struct ctx *c, size_t room);
cadre_err list_add(struct ctx *c, struct list *l, struct value v);

struct dict *dict_new(struct ctx *c);
cadre_err dict_set(struct ctx *c, struct dict *d, struct value key, struct value v);
/* *at is an index into d->e, or -1. Keys that cannot be hashed are an error. */
cadre_err dict_find(struct ctx *c, const struct dict *d, struct value key, int64_t *at);
void dict_remove(struct dict *d, int64_t at);

cadre_err value_undefined(struct ctx *c, const struct string *name, const char *of, struct value *out);
cadre_err value_from_json(struct ctx *c, const json_t *j, struct value *out);

/* ---- asking ---- */

const char *value_kind_name(const struct value *v); /* "str", "dict", as Python says */
bool value_is_number(const struct value *v);        /* int, float or bool */
bool value_is_integer(const struct value *v);       /* int or bool, which counts as 0 and 1 */
int64_t value_as_int(const struct value *v);        /* of an integer */
double value_as_float(const struct value *v);       /* of a number */

bool value_truth(const struct value *v);
cadre_err value_equal(struct ctx *c, const struct value *a, const struct value *b, bool *out);
cadre_err value_compare(struct ctx *c, const struct value *a, const struct value *b, int *out); /* <, =, > 0 */
cadre_err value_contains(struct ctx *c, const struct value *container, const struct value *item, bool *out);
cadre_err value_length(struct ctx *c, const struct value *v, int64_t *out);
bool value_is_iterable(const struct value *v);
/* The elements as a list of their own (borrowed if `v` is a list; a generator is empty afterwards). */
cadre_err value_elements(struct ctx *c, const struct value *v, struct list **out);
int64_t range_length(const struct range *r);

/* Using an undefined value where a real one is needed. */
cadre_err value_use_undefined(struct ctx *c, const struct value *v);

/* ---- strings by characters ---- */

int64_t string_chars(struct string *s);
/* Byte offset of character `i` (0 … chars). */
size_t string_offset(struct string *s, int64_t i);
bool string_equal(const struct string *a, const struct string *b);
bool string_is(const struct string *s, const char *text);

#endif
