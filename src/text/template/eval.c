#include "text/template/eval.h"

#include <string.h>

#include "text/template/print.h"

static cadre_err eval(struct ctx *c, const struct node *n, struct value *out);
static cadre_err exec_body(struct ctx *c, const struct node *n, enum node_kind *jump);

/* ---- names --------------------------------------------------------------------------------------------- */

static struct scope *scope_new(struct ctx *c, struct scope *parent)
{
    struct scope *s = ctx_alloc(c, sizeof *s);
    if (s)
        s->parent = parent;
    return s;
}

static struct binding *find_binding(const struct scope *s, const struct string *name)
{
    for (struct binding *b = s->first; b; b = b->next)
        if (string_equal(b->name, name))
            return b;
    return NULL;
}

static cadre_err bind_name(struct ctx *c, struct scope *s, const struct string *name, struct value v)
{
    struct binding *b = find_binding(s, name);
    if (!b) {
        b = ctx_alloc(c, sizeof *b);
        NEED(c, b);
        *b = (struct binding){.name = name, .next = s->first};
        s->first = b;
    }
    b->value = v;
    return CADRE_OK;
}

static cadre_err bind_text(struct ctx *c, struct scope *s, const char *name, struct value v)
{
    struct string *text = string_new(c, name, strlen(name));
    NEED(c, text);
    return bind_name(c, s, text, v);
}

static cadre_err look_up(struct ctx *c, struct string *name, struct value *out)
{
    int64_t at;
    for (const struct scope *s = c->scope; s; s = s->parent) {
        const struct binding *b = find_binding(s, name);
        if (b) {
            *out = b->value;
            return CADRE_OK;
        }
    }
    TRY(dict_find(c, c->variables, value_string(name), &at));
    if (at >= 0) {
        *out = c->variables->e[at].value;
        return CADRE_OK;
    }
    const struct builtin *row = builtin_find(builtin_globals, name);
    if (!row)
        return value_undefined(c, name, NULL, out);
    struct function *f = ctx_alloc(c, sizeof *f);
    NEED(c, f);
    *f = (struct function){row, VALUE_MISSING};
    *out = (struct value){.kind = V_FUNCTION, .function = f};
    return CADRE_OK;
}

static cadre_err assign(struct ctx *c, const struct node *target, struct value v)
{
    if (target->kind == N_NAME)
        return bind_name(c, c->scope, target->name, v);
    if (target->kind == N_ATTRIBUTE) {
        struct value object;
        TRY(look_up(c, target->a->name, &object));
        if (object.kind != V_NAMESPACE)
            return ctx_fail(c, CADRE_E_FORMAT, "set %.*s.%.*s: expected a namespace, found a %s",
                            (int)target->a->name->n, target->a->name->p, (int)target->name->n, target->name->p,
                            value_kind_name(&object));
        return dict_set(c, object.dict, value_string(target->name), v);
    }
    struct list *l;
    size_t n = 0;
    TRY(value_elements(c, &v, &l));
    for (const struct node *t = target->items; t; t = t->next)
        n++;
    if (n != l->n)
        return ctx_fail(c, CADRE_E_FORMAT, "expected %zu values for %zu names, found %zu", n, n, l->n);
    n = 0;
    for (const struct node *t = target->items; t; t = t->next)
        TRY(assign(c, t, l->v[n++]));
    return CADRE_OK;
}

/* ---- expressions --------------------------------------------------------------------------------------- */

static cadre_err eval_const(struct ctx *c, const struct node *n, struct value *out)
{
    (void)c;
    *out = n->value;
    return CADRE_OK;
}

static cadre_err eval_name(struct ctx *c, const struct node *n, struct value *out)
{
    return look_up(c, n->name, out);
}

static cadre_err eval_list(struct ctx *c, const struct node *n, struct value *out)
{
    struct list *l = list_new(c, 0);
    NEED(c, l);
    for (const struct node *item = n->items; item; item = item->next) {
        struct value v;
        TRY(eval(c, item, &v));
        TRY(list_add(c, l, v));
    }
    *out = value_list(n->kind == N_TUPLE ? V_TUPLE : V_LIST, l);
    return CADRE_OK;
}

static cadre_err eval_dict(struct ctx *c, const struct node *n, struct value *out)
{
    struct dict *d = dict_new(c);
    NEED(c, d);
    for (const struct node *item = n->items; item; item = item->next->next) {
        struct value key, v;
        TRY(eval(c, item, &key));
        TRY(eval(c, item->next, &v));
        TRY(dict_set(c, d, key, v));
    }
    *out = value_dict(d);
    return CADRE_OK;
}

static cadre_err eval_unary(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a;
    TRY(eval(c, n->a, &a));
    return op_unary(c, n->op, &a, out);
}

static cadre_err eval_binary(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a, b;
    TRY(eval(c, n->a, &a));
    TRY(eval(c, n->b, &b));
    c->line = n->line;
    return op_binary(c, n->op, &a, &b, out);
}

static cadre_err eval_concat(struct ctx *c, const struct node *n, struct value *out)
{
    struct text t = {0};
    for (const struct node *item = n->items; item; item = item->next) {
        struct value v;
        TRY(eval(c, item, &v));
        TRY(print_str(c, &t, &v));
    }
    return string_from_text(c, &t, out);
}

static cadre_err eval_logic(struct ctx *c, const struct node *n, struct value *out)
{
    TRY(eval(c, n->a, out));
    return value_truth(out) == (n->kind == N_AND) ? eval(c, n->b, out) : CADRE_OK;
}

static cadre_err eval_not(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a;
    TRY(eval(c, n->a, &a));
    *out = value_bool(!value_truth(&a));
    return CADRE_OK;
}

static cadre_err compare(struct ctx *c, char op, const struct value *a, const struct value *b, bool *out)
{
    int order;
    if (op == '=' || op == '!') {
        TRY(value_equal(c, a, b, out));
        *out = *out == (op == '=');
        return CADRE_OK;
    }
    if (op == 'i' || op == 'n') {
        TRY(value_contains(c, b, a, out));
        *out = *out == (op == 'i');
        return CADRE_OK;
    }
    TRY(value_compare(c, a, b, &order));
    *out = op == '<' ? order < 0 : op == '>' ? order > 0 : op == 'l' ? order <= 0 : order >= 0;
    return CADRE_OK;
}

static cadre_err eval_compare(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a, b;
    bool yes = true;
    TRY(eval(c, n->a, &a));
    for (const struct node *o = n->items; o && yes; o = o->next) {
        TRY(eval(c, o->a, &b));
        c->line = n->line;
        TRY(compare(c, o->op, &a, &b, &yes));
        a = b;
    }
    *out = value_bool(yes);
    return CADRE_OK;
}

static cadre_err eval_ternary(struct ctx *c, const struct node *n, struct value *out)
{
    struct value condition;
    TRY(eval(c, n->b, &condition));
    if (value_truth(&condition))
        return eval(c, n->a, out);
    return n->d ? eval(c, n->d, out) : value_undefined(c, NULL, NULL, out);
}

static cadre_err eval_attribute(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a;
    TRY(eval(c, n->a, &a));
    c->line = n->line;
    return value_attribute(c, &a, n->name, out);
}

static cadre_err eval_item(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a, key;
    TRY(eval(c, n->a, &a));
    if (n->b->kind == N_SLICE) {
        const struct node *bound[3] = {n->b->a, n->b->b, n->b->d};
        struct value part[3];
        for (int i = 0; i < 3; i++) {
            part[i] = VALUE_MISSING;
            if (bound[i])
                TRY(eval(c, bound[i], &part[i]));
        }
        return value_slice(c, &a, part, out);
    }
    TRY(eval(c, n->b, &key));
    c->line = n->line;
    return value_item(c, &a, &key, out);
}

static cadre_err eval_slice(struct ctx *c, const struct node *n, struct value *out)
{
    (void)n, (void)out;
    return ctx_fail(c, CADRE_E_FORMAT, "a slice among several indices");
}

/* ---- calls --------------------------------------------------------------------------------------------- */

struct args_builder {
    struct list *positional, *names, *named;
};

static cadre_err add_named(struct ctx *c, struct args_builder *b, struct string *name, struct value v)
{
    for (size_t i = 0; i < b->names->n; i++)
        if (string_equal(b->names->v[i].s, name))
            return ctx_fail(c, CADRE_E_FORMAT, "argument '%.*s' is given twice", (int)name->n, name->p);
    TRY(list_add(c, b->names, value_string(name)));
    return list_add(c, b->named, v);
}

static cadre_err add_argument(struct ctx *c, struct args_builder *b, const struct node *n)
{
    struct value v;
    struct list *l;
    TRY(eval(c, n->a, &v));
    if (n->op == '*') {
        TRY(value_elements(c, &v, &l));
        for (size_t i = 0; i < l->n; i++)
            TRY(list_add(c, b->positional, l->v[i]));
        return CADRE_OK;
    }
    if (n->op == 'd') {
        if (v.kind != V_DICT)
            return ctx_fail(c, CADRE_E_FORMAT, "**: expected a dict, found a %s", value_kind_name(&v));
        for (size_t i = 0; i < v.dict->n; i++) {
            const struct dict_entry *e = &v.dict->e[i];
            if (!e->gone && e->key.kind != V_STRING)
                return ctx_fail(c, CADRE_E_FORMAT, "**: expected a str as each key, found a %s",
                                value_kind_name(&e->key));
            if (!e->gone)
                TRY(add_named(c, b, e->key.s, e->value));
        }
        return CADRE_OK;
    }
    return n->name ? add_named(c, b, n->name, v) : list_add(c, b->positional, v);
}

/* With `caller` as one more named argument unless it is NULL. */
static cadre_err eval_args(struct ctx *c, const struct node *items, const struct value *caller, struct args *out)
{
    struct args_builder b = {list_new(c, 2), list_new(c, 0), list_new(c, 0)};
    NEED(c, b.positional);
    NEED(c, b.names);
    NEED(c, b.named);
    for (const struct node *n = items; n; n = n->next)
        TRY(add_argument(c, &b, n));
    if (caller) {
        struct string *name = string_new(c, "caller", 6);
        NEED(c, name);
        TRY(add_named(c, &b, name, *caller));
    }
    *out = (struct args){.v = b.positional->v, .n = b.positional->n, .named = b.named->v, .n_named = b.named->n};
    out->name = ctx_array(c, out->n_named, sizeof *out->name);
    NEED(c, out->name);
    for (size_t i = 0; i < out->n_named; i++)
        out->name[i] = b.names->v[i].s;
    return CADRE_OK;
}

/* Run a body into a text of its own, in its own scope. */
static cadre_err capture(struct ctx *c, struct scope *scope, const struct node *body, struct value *out)
{
    struct text t = {0}, *saved_out = c->out;
    struct scope *saved_scope = c->scope;
    enum node_kind jump = N_KINDS;
    c->out = &t;
    c->scope = scope;
    TRY(exec_body(c, body, &jump));
    c->out = saved_out;
    c->scope = saved_scope;
    return string_from_text(c, &t, out);
}

static cadre_err bind_rest(struct ctx *c, const struct macro *m, struct scope *s, const struct args *args, size_t used,
                           bool *named_used)
{
    struct list *rest = list_new(c, 0);
    struct dict *kwargs = dict_new(c);
    NEED(c, rest);
    NEED(c, kwargs);
    for (size_t i = used; i < args->n; i++)
        TRY(list_add(c, rest, args->v[i]));
    for (size_t i = 0; i < args->n_named; i++) {
        if (named_used[i])
            continue;
        if (string_is(args->name[i], "caller"))
            TRY(bind_name(c, s, args->name[i], args->named[i]));
        else
            TRY(dict_set(c, kwargs, value_string(args->name[i]), args->named[i]));
    }
    const struct string *name = m->def->name;
    if (rest->n && !(m->def->op & USES_VARARGS))
        return ctx_fail(c, CADRE_E_FORMAT, "macro %.*s: expected at most %zu arguments, found %zu", (int)name->n,
                        name->p, used, args->n);
    if (kwargs->live && !(m->def->op & USES_KWARGS))
        return ctx_fail(c, CADRE_E_FORMAT, "macro %.*s: it has no argument '%.*s'", (int)name->n, name->p,
                        (int)kwargs->e[0].key.s->n, kwargs->e[0].key.s->p);
    TRY(bind_text(c, s, "varargs", value_list(V_TUPLE, rest)));
    return bind_text(c, s, "kwargs", value_dict(kwargs));
}

static cadre_err call_macro(struct ctx *c, const struct macro *m, const struct args *args, struct value *out)
{
    struct scope *s = scope_new(c, m->scope), *saved = c->scope;
    bool *named_used = ctx_array(c, args->n_named, sizeof *named_used);
    size_t i = 0;
    NEED(c, s);
    NEED(c, named_used);
    for (const struct node *p = m->def->items; p; p = p->next, i++) {
        struct value v = VALUE_MISSING;
        if (i < args->n)
            v = args->v[i];
        for (size_t k = 0; k < args->n_named; k++)
            if (string_equal(args->name[k], p->name)) {
                if (i < args->n)
                    return ctx_fail(c, CADRE_E_FORMAT, "macro %.*s: argument '%.*s' is given twice",
                                    (int)m->def->name->n, m->def->name->p, (int)p->name->n, p->name->p);
                v = args->named[k];
                named_used[k] = true;
            }
        if (v.kind == V_MISSING && p->a) {
            c->scope = s; /* a default sees the parameters before it */
            TRY(eval(c, p->a, &v));
            c->scope = saved;
        } else if (v.kind == V_MISSING) {
            TRY(value_undefined(c, p->name, NULL, &v));
        }
        TRY(bind_name(c, s, p->name, v));
    }
    TRY(bind_rest(c, m, s, args, i, named_used));
    return capture(c, s, m->def->body, out);
}

static cadre_err run_loop(struct ctx *c, const struct node *n, struct scope *around, const struct value *over,
                          int depth);

/* loop(children): the same loop over other elements, one level down. */
static cadre_err call_loop(struct ctx *c, const struct loop *l, const struct args *args, struct value *out)
{
    struct text t = {0}, *saved = c->out;
    if (!l->def->flag)
        return ctx_fail(c, CADRE_E_FORMAT, "loop(…): expected 'recursive' in the for statement");
    if (args->n != 1 || args->n_named)
        return ctx_fail(c, CADRE_E_FORMAT, "loop(…): expected one argument, found %zu", args->n + args->n_named);
    c->out = &t;
    TRY(run_loop(c, l->def, l->scope, &args->v[0], l->depth + 1));
    c->out = saved;
    return string_from_text(c, &t, out);
}

/* A joiner gives nothing the first time and its separator from then on. */
static cadre_err call_joiner(struct ctx *c, struct cycler *j, struct value *out)
{
    if (j->at++ == 0)
        return string_of(c, "", 0, out);
    *out = j->items->v[0];
    return CADRE_OK;
}

bool value_is_callable(const struct value *v)
{
    return v->kind == V_FUNCTION || v->kind == V_MACRO || v->kind == V_LOOP || v->kind == V_JOINER ||
           v->kind == V_UNDEFINED; /* Undefined has __call__, which raises */
}

cadre_err eval_call(struct ctx *c, const struct value *f, const struct args *args, struct value *out)
{
    cadre_err rc;
    TRY(ctx_enter(c));
    switch (f->kind) {
    case V_FUNCTION:
        rc = builtin_call(c, f->function->row, "function", &f->function->self, args, out);
        break;
    case V_MACRO:
        rc = call_macro(c, f->macro, args, out);
        break;
    case V_LOOP:
        rc = call_loop(c, f->loop, args, out);
        break;
    case V_JOINER:
        rc = call_joiner(c, f->cycler, out);
        break;
    case V_UNDEFINED:
        return value_use_undefined(c, f);
    default:
        return ctx_fail(c, CADRE_E_FORMAT, "a %s cannot be called", value_kind_name(f));
    }
    TRY(rc);
    ctx_leave(c);
    return CADRE_OK;
}

static cadre_err call_node(struct ctx *c, const struct node *n, const struct value *caller, struct value *out)
{
    struct value f;
    struct args args;
    TRY(eval(c, n->a, &f));
    TRY(eval_args(c, n->items, caller, &args));
    c->line = n->line;
    return eval_call(c, &f, &args, out);
}

static cadre_err eval_call_node(struct ctx *c, const struct node *n, struct value *out)
{
    return call_node(c, n, NULL, out);
}

static cadre_err eval_filter(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a;
    struct args args;
    TRY(eval(c, n->a, &a));
    TRY(eval_args(c, n->items, NULL, &args));
    c->line = n->line;
    return call_filter(c, n->name, &a, &args, out);
}

static cadre_err eval_test(struct ctx *c, const struct node *n, struct value *out)
{
    struct value a;
    struct args args;
    bool yes;
    TRY(eval(c, n->a, &a));
    TRY(eval_args(c, n->items, NULL, &args));
    c->line = n->line;
    TRY(call_test(c, n->name, &a, &args, &yes));
    *out = value_bool(yes != n->flag);
    return CADRE_OK;
}

static cadre_err eval(struct ctx *c, const struct node *n, struct value *out)
{
    static cadre_err (*const table[N_KINDS])(struct ctx *, const struct node *, struct value *) = {
        [N_CONST] = eval_const,     [N_NAME] = eval_name,
        [N_LIST] = eval_list,       [N_TUPLE] = eval_list,
        [N_DICT] = eval_dict,       [N_UNARY] = eval_unary,
        [N_BINARY] = eval_binary,   [N_CONCAT] = eval_concat,
        [N_AND] = eval_logic,       [N_OR] = eval_logic,
        [N_NOT] = eval_not,         [N_COMPARE] = eval_compare,
        [N_TERNARY] = eval_ternary, [N_ATTRIBUTE] = eval_attribute,
        [N_ITEM] = eval_item,       [N_CALL] = eval_call_node,
        [N_FILTER] = eval_filter,   [N_TEST] = eval_test,
        [N_SLICE] = eval_slice};
    TRY(ctx_steps(c, 1));
    TRY(ctx_enter(c));
    c->line = n->line;
    TRY(table[n->kind](c, n, out));
    ctx_leave(c);
    return CADRE_OK;
}

/* ---- statements ---------------------------------------------------------------------------------------- */

static cadre_err exec_text(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    (void)jump;
    return text_add(c, c->out, n->value.s->p, n->value.s->n);
}

static cadre_err exec_print(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    (void)jump;
    TRY(eval(c, n->a, &v));
    return print_str(c, c->out, &v);
}

static cadre_err exec_if(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    TRY(eval(c, n->a, &v));
    return exec_body(c, value_truth(&v) ? n->body : n->orelse, jump);
}

/* Take one more element that passes the filter; *more: whether there was one. */
static cadre_err loop_fetch(struct ctx *c, struct loop *l, bool *more)
{
    *more = false;
    while (!*more && l->taken < l->source->n) {
        struct value v = l->source->v[l->taken++];
        *more = true;
        if (l->def->d) {
            struct value keep;
            struct scope *inner = scope_new(c, l->scope), *saved = c->scope;
            NEED(c, inner);
            c->scope = inner;
            TRY(assign(c, l->def->a, v));
            TRY(eval(c, l->def->d, &keep));
            c->scope = saved;
            *more = value_truth(&keep);
        }
        if (*more)
            TRY(list_add(c, l->kept, v));
    }
    return CADRE_OK;
}

cadre_err loop_peek(struct ctx *c, struct loop *l, bool *more)
{
    *more = l->kept->n > l->at + 1;
    return *more ? CADRE_OK : loop_fetch(c, l, more);
}

cadre_err loop_length(struct ctx *c, struct loop *l, int64_t *out)
{
    bool more = true;
    while (more)
        TRY(loop_fetch(c, l, &more));
    *out = (int64_t)l->kept->n;
    return CADRE_OK;
}

static cadre_err run_loop(struct ctx *c, const struct node *n, struct scope *around, const struct value *over,
                          int depth)
{
    struct loop *l = ctx_alloc(c, sizeof *l);
    struct scope *saved = c->scope;
    bool more;
    NEED(c, l);
    *l = (struct loop){.def = n, .scope = around, .depth = depth, .changed = VALUE_MISSING, .kept = list_new(c, 0)};
    NEED(c, l->kept);
    TRY(value_elements(c, over, &l->source));
    TRY(loop_fetch(c, l, &more));
    if (!more) {
        enum node_kind jump = N_KINDS;
        c->scope = scope_new(c, around);
        NEED(c, c->scope);
        TRY(exec_body(c, n->orelse, &jump));
    }
    while (more) {
        enum node_kind jump = N_KINDS;
        c->scope = scope_new(c, around);
        NEED(c, c->scope);
        TRY(bind_text(c, c->scope, "loop", (struct value){.kind = V_LOOP, .loop = l}));
        TRY(assign(c, n->a, l->kept->v[l->at]));
        TRY(exec_body(c, n->body, &jump));
        if (jump == N_BREAK)
            break;
        TRY(loop_peek(c, l, &more));
        l->at++;
    }
    c->scope = saved;
    return CADRE_OK;
}

static cadre_err exec_for(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value over;
    (void)jump;
    TRY(eval(c, n->b, &over));
    return run_loop(c, n, c->scope, &over, 0);
}

static cadre_err exec_set(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    (void)jump;
    TRY(eval(c, n->b, &v));
    c->line = n->line;
    return assign(c, n->a, v);
}

/* A chain of filters over a block's text: the innermost takes `v`. */
static cadre_err run_chain(struct ctx *c, const struct node *chain, struct value *v)
{
    struct args args;
    const struct value in = *v;
    if (!chain)
        return CADRE_OK;
    TRY(ctx_enter(c));
    if (chain->a) {
        struct value inner = in;
        TRY(run_chain(c, chain->a, &inner));
        TRY(eval_args(c, chain->items, NULL, &args));
        TRY(call_filter(c, chain->name, &inner, &args, v));
    } else {
        TRY(eval_args(c, chain->items, NULL, &args));
        TRY(call_filter(c, chain->name, &in, &args, v));
    }
    ctx_leave(c);
    return CADRE_OK;
}

static cadre_err captured_block(struct ctx *c, const struct node *n, struct value *v)
{
    struct scope *inner = scope_new(c, c->scope);
    NEED(c, inner);
    TRY(capture(c, inner, n->body, v));
    return run_chain(c, n->b, v);
}

static cadre_err exec_set_block(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    (void)jump;
    TRY(captured_block(c, n, &v));
    return assign(c, n->a, v);
}

static cadre_err exec_filter_block(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    (void)jump;
    TRY(captured_block(c, n, &v));
    return print_str(c, c->out, &v);
}

static cadre_err new_macro(struct ctx *c, const struct node *n, struct value *out)
{
    struct macro *m = ctx_alloc(c, sizeof *m);
    NEED(c, m);
    *m = (struct macro){n, c->scope};
    *out = (struct value){.kind = V_MACRO, .macro = m};
    return CADRE_OK;
}

static cadre_err exec_macro(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value v;
    (void)jump;
    TRY(new_macro(c, n, &v));
    return bind_name(c, c->scope, n->name, v);
}

static cadre_err exec_call(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct value caller, v;
    (void)jump;
    TRY(new_macro(c, n->b, &caller));
    TRY(call_node(c, n->a, &caller, &v));
    return print_str(c, c->out, &v);
}

/* The values are read outside, all before the first name is bound. */
static cadre_err exec_with(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct scope *inner = scope_new(c, c->scope), *saved = c->scope;
    struct list *values = list_new(c, 0);
    size_t i = 0;
    NEED(c, inner);
    NEED(c, values);
    for (const struct node *s = n->items; s; s = s->next) {
        struct value v;
        TRY(eval(c, s->b, &v));
        TRY(list_add(c, values, v));
    }
    c->scope = inner;
    for (const struct node *s = n->items; s; s = s->next)
        TRY(assign(c, s->a, values->v[i++]));
    TRY(exec_body(c, n->body, jump));
    c->scope = saved;
    return CADRE_OK;
}

static cadre_err exec_scope(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    struct scope *saved = c->scope;
    c->scope = scope_new(c, saved);
    NEED(c, c->scope);
    TRY(exec_body(c, n->body, jump));
    c->scope = saved;
    return CADRE_OK;
}

static cadre_err exec_jump(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    (void)c;
    *jump = n->kind;
    return CADRE_OK;
}

/* Statements one after the other, up to a break or continue, which *jump then names. */
static cadre_err exec_body(struct ctx *c, const struct node *n, enum node_kind *jump)
{
    static cadre_err (*const table[N_KINDS])(struct ctx *, const struct node *, enum node_kind *) = {
        [N_TEXT] = exec_text,    [N_PRINT] = exec_print,     [N_IF] = exec_if,
        [N_FOR] = exec_for,      [N_SET] = exec_set,         [N_SET_BLOCK] = exec_set_block,
        [N_MACRO] = exec_macro,  [N_CALL_BLOCK] = exec_call, [N_FILTER_BLOCK] = exec_filter_block,
        [N_WITH] = exec_with,    [N_SCOPE] = exec_scope,     [N_BREAK] = exec_jump,
        [N_CONTINUE] = exec_jump};
    TRY(ctx_enter(c));
    for (; n && *jump == N_KINDS; n = n->next) {
        TRY(ctx_steps(c, 1));
        c->line = n->line;
        TRY(table[n->kind](c, n, jump));
    }
    ctx_leave(c);
    return CADRE_OK;
}

cadre_err eval_root(struct ctx *c, const struct node *root)
{
    enum node_kind jump = N_KINDS;
    c->scope = scope_new(c, NULL);
    NEED(c, c->scope);
    return exec_body(c, root, &jump);
}
