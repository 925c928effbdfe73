/* Running the tree: operators, access to members, calls, statements. */
#ifndef CADRE_TEXT_TEMPLATE_EVAL_H
#define CADRE_TEXT_TEMPLATE_EVAL_H

#include "text/template/ast.h"
#include "text/template/builtin.h"

struct binding {
    const struct string *name;
    struct value value;
    struct binding *next;
};

/* A scope ends with its block: what is set inside of a loop, macro, call, filter or set block is not seen behind it. */
struct scope {
    struct scope *parent;
    struct binding *first;
};

struct macro {
    const struct node *def; /* N_MACRO */
    struct scope *scope;    /* where it was defined */
};

/* `loop`. Elements pass the loop's filter only when they are asked for, as in Jinja2, so that a filter can look at what
 * the body has done so far. */
struct loop {
    const struct node *def; /* N_FOR */
    struct scope *scope;    /* around the loop */
    struct list *source;
    size_t taken;      /* of source */
    struct list *kept; /* those that passed the filter */
    size_t at;         /* of kept: the current one */
    int depth;
    struct value changed; /* what changed() saw last */
};

/* ---- ops.c ---- */

cadre_err op_binary(struct ctx *c, char op, const struct value *a, const struct value *b, struct value *out);
cadre_err op_unary(struct ctx *c, char op, const struct value *a, struct value *out);
cadre_err float_to_int(struct ctx *c, double f, struct value *out);
/* v[start:stop:step]; parts may be V_MISSING. */
cadre_err value_slice(struct ctx *c, const struct value *v, const struct value part[3], struct value *out);

/* v.name (a method comes before a member) and v[key] (a member comes before a method). What is not there is undefined;
 * asking an undefined value is an error. */
cadre_err value_attribute(struct ctx *c, const struct value *v, struct string *name, struct value *out);
cadre_err value_item(struct ctx *c, const struct value *v, const struct value *key, struct value *out);
/* One step of a path: v.name, or (item) v[name] where digits are a number. */
cadre_err value_path_step(struct ctx *c, const struct value *v, struct string *name, bool item, struct value *out);
/* "a.b.0", or a number: as the attribute= of filters. */
cadre_err value_path(struct ctx *c, const struct value *v, const struct value *path, struct value *out);

/* ---- eval.c ---- */

cadre_err eval_call(struct ctx *c, const struct value *f, const struct args *args, struct value *out);
bool value_is_callable(const struct value *v);
/* Whether there is an element behind the current one. */
cadre_err loop_peek(struct ctx *c, struct loop *l, bool *more);
cadre_err loop_length(struct ctx *c, struct loop *l, int64_t *out);
/* Print the tree to c->out. */
cadre_err eval_root(struct ctx *c, const struct node *root);

#endif
