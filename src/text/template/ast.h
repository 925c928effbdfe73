/* The tree of a template: one kind of node, whose fields mean what stands beside its kind. Lists are linked by `next`.
 */
#ifndef CADRE_TEXT_TEMPLATE_AST_H
#define CADRE_TEXT_TEMPLATE_AST_H

#include "text/template/value.h"

enum node_kind {
    /* expressions */
    N_CONST,   /* value */
    N_NAME,    /* name */
    N_LIST,    /* items */
    N_TUPLE,   /* items */
    N_DICT,    /* items: key, value, key, value, … */
    N_UNARY,   /* op: '-', '+'; a */
    N_BINARY,  /* op: '+', '-', '*', '/', 'i' (//), '%', 'p' (**); a, b */
    N_CONCAT,  /* items: a ~ b ~ … */
    N_AND,     /* a, b */
    N_OR,      /* a, b */
    N_NOT,     /* a */
    N_COMPARE, /* a, items: N_OPERAND with op '=', '!', '<', '>', 'l' (<=), 'g' (>=), 'i' (in), 'n' (not in); a */
    N_OPERAND,
    N_TERNARY,   /* a if b else d (may be NULL) */
    N_ATTRIBUTE, /* a.name */
    N_ITEM,      /* a[b] */
    N_SLICE,     /* a:b:d, each may be NULL; only as b of N_ITEM */
    N_CALL,      /* a(items) */
    N_FILTER,    /* a | name(items); a is NULL at the root of a chain over a block */
    N_TEST,      /* a is name(items); flag: not */
    N_ARGUMENT,  /* a; name if given by name; op '*' and 'd' (**) for unpacking */
    /* statements */
    N_TEXT,         /* value */
    N_PRINT,        /* a */
    N_IF,           /* a; body, orelse */
    N_FOR,          /* a: target, b: what to go through, d: filter or NULL; flag: recursive; body, orelse */
    N_SET,          /* a: target, b */
    N_SET_BLOCK,    /* a: target, b: filter chain or NULL, body */
    N_MACRO,        /* name, items: N_PARAM, body, flags USES_… in op */
    N_PARAM,        /* name, a: default or NULL */
    N_CALL_BLOCK,   /* a: N_CALL, b: N_MACRO (the caller) */
    N_FILTER_BLOCK, /* b: filter chain, body */
    N_WITH,         /* items: N_SET, body */
    N_SCOPE,        /* body */
    N_BREAK,
    N_CONTINUE,
    N_KINDS
};

enum { USES_VARARGS = 1, USES_KWARGS = 2 };

struct node {
    enum node_kind kind;
    int line;
    char op;
    bool flag;
    struct string *name;
    struct value value;
    struct node *a, *b, *d, *items, *body, *orelse, *next;
};

cadre_err parse(struct ctx *c, const char *source, size_t n, struct node **root);

#endif
