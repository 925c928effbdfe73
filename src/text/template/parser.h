/* What the two files of the parser share: reading tokens, and the expressions that statements are made of. */
#ifndef CADRE_TEXT_TEMPLATE_PARSER_H
#define CADRE_TEXT_TEMPLATE_PARSER_H

#include <string.h>

#include "text/template/ast.h"
#include "text/template/lexer.h"

struct parser {
    struct ctx *c;
    const struct token *t; /* the current one */
    int loops;             /* for loops around this place, within the same macro */
    int uses;              /* USES_… of the macro around it */
};

/* ---- parser.c ---- */

cadre_err parse_expression(struct parser *p, struct node **out);
/* An expression without a ternary. */
cadre_err parse_or(struct parser *p, struct node **out);
/* One, or several with commas as a tuple; empty: none at all is a tuple too. */
cadre_err parse_tuple(struct parser *p, cadre_err (*one)(struct parser *, struct node **), bool empty,
                      struct node **out);
cadre_err parse_name(struct parser *p, struct node **out);
/* "name(arguments)" behind a "|"; *node becomes the filter over it. */
cadre_err parse_filter(struct parser *p, struct node **node);

/* ---- tokens -------------------------------------------------------------------------------------------- */

static inline bool is(const struct parser *p, enum token_sort sort, const char *text)
{
    return p->t->sort == sort && p->t->n == strlen(text) && memcmp(p->t->p, text, p->t->n) == 0;
}

static inline bool is_sign(const struct parser *p, const char *text)
{
    return is(p, TOKEN_SIGN, text);
}

static inline bool is_word(const struct parser *p, const char *text)
{
    return is(p, TOKEN_WORD, text);
}

static inline void advance(struct parser *p)
{
    if (p->t->sort != TOKEN_EOF)
        p->t++;
    p->c->line = p->t->line;
}

static inline bool take_sign(struct parser *p, const char *text)
{
    bool yes = is_sign(p, text);
    if (yes)
        advance(p);
    return yes;
}

static inline bool take_word(struct parser *p, const char *text)
{
    bool yes = is_word(p, text);
    if (yes)
        advance(p);
    return yes;
}

static inline cadre_err unexpected(struct parser *p, const char *expected)
{
    static const char *const sorts[] = {"text", "'{%'", "'%}'", "'{{'", "'}}'", "", "a literal", "", "the end"};
    const struct token *t = p->t;
    p->c->line = t->line;
    if (t->sort == TOKEN_WORD || t->sort == TOKEN_SIGN)
        return ctx_fail(p->c, CADRE_E_FORMAT, "expected %s, found '%.*s'", expected, (int)(t->n < 60 ? t->n : 60),
                        t->p);
    return ctx_fail(p->c, CADRE_E_FORMAT, "expected %s, found %s", expected, sorts[t->sort]);
}

static inline cadre_err expect_sign(struct parser *p, const char *text)
{
    char quoted[8] = "'";
    strcat(strcat(quoted, text), "'");
    return take_sign(p, text) ? CADRE_OK : unexpected(p, quoted);
}

static inline cadre_err expect_sort(struct parser *p, enum token_sort sort, const char *expected)
{
    if (p->t->sort != sort)
        return unexpected(p, expected);
    advance(p);
    return CADRE_OK;
}

static inline cadre_err take_name(struct parser *p, struct string **out)
{
    if (p->t->sort != TOKEN_WORD)
        return unexpected(p, "a name");
    *out = string_new(p->c, p->t->p, p->t->n);
    NEED(p->c, *out);
    advance(p);
    return CADRE_OK;
}

static inline struct node *node_new(struct parser *p, enum node_kind kind)
{
    struct node *n = ctx_alloc(p->c, sizeof *n);
    if (n)
        *n = (struct node){.kind = kind, .line = p->t->line};
    return n;
}

/* Chain `a` and `b` below a new node in *out. */
static inline cadre_err wrap(struct parser *p, enum node_kind kind, char op, struct node *a, struct node *b,
                             struct node **out)
{
    struct node *n = node_new(p, kind);
    NEED(p->c, n);
    n->op = op;
    n->a = a;
    n->b = b;
    n->line = a ? a->line : n->line;
    *out = n;
    return CADRE_OK;
}

#endif
