/* Statements: a row for each in `statements`. */
#include "text/template/parser.h"

static cadre_err parse_body(struct parser *p, const char *const *ends, struct node **out);

static cadre_err end_of_tag(struct parser *p)
{
    return expect_sort(p, TOKEN_BLOCK_END, "'%}'");
}

/* "%}" body "{% end": up to a word of `ends`, which is the current token then. */
static cadre_err block(struct parser *p, const char *const *ends, struct node **out)
{
    TRY(end_of_tag(p));
    return parse_body(p, ends, out);
}

/* … and past that one word. */
static cadre_err block_to(struct parser *p, const char *end, struct node **out)
{
    const char *const ends[] = {end, NULL};
    TRY(block(p, ends, out));
    advance(p);
    return CADRE_OK;
}

/* What can be assigned to: a name, or (in set) a member of a namespace. */
static cadre_err parse_target_item(struct parser *p, struct node **out)
{
    if (take_sign(p, "(")) {
        TRY(ctx_enter(p->c));
        TRY(parse_tuple(p, parse_target_item, false, out));
        ctx_leave(p->c);
        return expect_sign(p, ")");
    }
    TRY(parse_name(p, out));
    if ((*out)->kind != N_NAME)
        return ctx_fail(p->c, CADRE_E_FORMAT, "expected a name to assign to, found a constant");
    if (!take_sign(p, "."))
        return CADRE_OK;
    TRY(wrap(p, N_ATTRIBUTE, 0, *out, NULL, out));
    return take_name(p, &(*out)->name);
}

static cadre_err parse_target(struct parser *p, struct node **out)
{
    return parse_tuple(p, parse_target_item, false, out);
}

/* Filters over a block: a chain whose innermost has no operand. */
static cadre_err parse_chain(struct parser *p, struct node **out)
{
    *out = NULL;
    TRY(parse_filter(p, out));
    while (take_sign(p, "|"))
        TRY(parse_filter(p, out));
    return CADRE_OK;
}

static cadre_err parse_if(struct parser *p, struct node **out)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct node *n = *out = node_new(p, N_IF);
    NEED(p->c, n);
    TRY(parse_tuple(p, parse_or, false, &n->a));
    TRY(block(p, ends, &n->body));
    if (take_word(p, "elif")) {
        TRY(ctx_enter(p->c));
        TRY(parse_if(p, &n->orelse)); /* takes the endif */
        ctx_leave(p->c);
        return CADRE_OK;
    }
    if (take_word(p, "else"))
        return block_to(p, "endif", &n->orelse);
    advance(p);
    return CADRE_OK;
}

static cadre_err parse_for(struct parser *p, struct node **out)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct node *n = *out = node_new(p, N_FOR);
    NEED(p->c, n);
    TRY(parse_target(p, &n->a));
    if (!take_word(p, "in"))
        return unexpected(p, "'in'");
    TRY(parse_tuple(p, parse_or, false, &n->b));
    if (take_word(p, "if"))
        TRY(parse_expression(p, &n->d));
    n->flag = take_word(p, "recursive");
    p->loops++;
    TRY(block(p, ends, &n->body));
    p->loops--;
    if (take_word(p, "else"))
        return block_to(p, "endfor", &n->orelse);
    advance(p);
    return CADRE_OK;
}

static cadre_err parse_set(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_SET);
    NEED(p->c, n);
    TRY(parse_target(p, &n->a));
    if (take_sign(p, "="))
        return parse_tuple(p, parse_expression, false, &n->b);
    n->kind = N_SET_BLOCK;
    if (take_sign(p, "|"))
        TRY(parse_chain(p, &n->b));
    return block_to(p, "endset", &n->body);
}

/* "(a, b=1)" of a macro or call. */
static cadre_err parse_signature(struct parser *p, struct node **out)
{
    bool defaults = false;
    TRY(expect_sign(p, "("));
    while (!take_sign(p, ")")) {
        if (*out)
            TRY(expect_sign(p, ","));
        if (take_sign(p, ")"))
            break;
        struct node *n = node_new(p, N_PARAM), **tail = out;
        NEED(p->c, n);
        TRY(take_name(p, &n->name));
        if (take_sign(p, "=")) {
            defaults = true;
            TRY(parse_expression(p, &n->a));
        } else if (defaults) {
            return ctx_fail(p->c, CADRE_E_FORMAT, "parameter '%.*s': expected a default, as those before it have one",
                            (int)n->name->n, n->name->p);
        }
        while (*tail)
            tail = &(*tail)->next;
        *tail = n;
    }
    return CADRE_OK;
}

/* The rest of a macro behind its name. */
static cadre_err parse_macro_rest(struct parser *p, struct node *n, const char *end)
{
    int loops = p->loops, uses = p->uses;
    p->loops = p->uses = 0;
    TRY(block_to(p, end, &n->body));
    n->op = (char)p->uses;
    p->loops = loops;
    p->uses = uses;
    return CADRE_OK;
}

static cadre_err parse_macro(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_MACRO);
    NEED(p->c, n);
    TRY(take_name(p, &n->name));
    TRY(parse_signature(p, &n->items));
    return parse_macro_rest(p, n, "endmacro");
}

static cadre_err parse_call(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_CALL_BLOCK), *caller = node_new(p, N_MACRO);
    NEED(p->c, n);
    NEED(p->c, caller);
    caller->name = string_new(p->c, "caller", 6);
    NEED(p->c, caller->name);
    if (is_sign(p, "("))
        TRY(parse_signature(p, &caller->items));
    TRY(parse_expression(p, &n->a));
    if (n->a->kind != N_CALL)
        return ctx_fail(p->c, CADRE_E_FORMAT, "call: expected the call of a macro");
    n->b = caller;
    return parse_macro_rest(p, caller, "endcall");
}

static cadre_err parse_filter_block(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_FILTER_BLOCK);
    NEED(p->c, n);
    TRY(parse_chain(p, &n->b));
    return block_to(p, "endfilter", &n->body);
}

static cadre_err parse_with(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_WITH), **tail;
    NEED(p->c, n);
    for (tail = &n->items; p->t->sort != TOKEN_BLOCK_END; tail = &(*tail)->next) {
        if (n->items)
            TRY(expect_sign(p, ","));
        *tail = node_new(p, N_SET);
        NEED(p->c, *tail);
        TRY(parse_target_item(p, &(*tail)->a));
        TRY(expect_sign(p, "="));
        TRY(parse_expression(p, &(*tail)->b));
    }
    return block_to(p, "endwith", &n->body);
}

/* transformers marks what the assistant says; for rendering it is only a block. */
static cadre_err parse_generation(struct parser *p, struct node **out)
{
    *out = node_new(p, N_SCOPE);
    NEED(p->c, *out);
    return block_to(p, "endgeneration", &(*out)->body);
}

static cadre_err parse_jump(struct parser *p, enum node_kind kind, const char *word, struct node **out)
{
    if (p->loops == 0)
        return ctx_fail(p->c, CADRE_E_FORMAT, "%s: expected a for loop around it", word);
    *out = node_new(p, kind);
    NEED(p->c, *out);
    return CADRE_OK;
}

static cadre_err parse_break(struct parser *p, struct node **out)
{
    return parse_jump(p, N_BREAK, "break", out);
}

static cadre_err parse_continue(struct parser *p, struct node **out)
{
    return parse_jump(p, N_CONTINUE, "continue", out);
}

/* A template is one text: it cannot reach others. */
static cadre_err parse_other_template(struct parser *p, struct node **out)
{
    (void)out;
    p->t--;
    p->c->line = p->t->line;
    return ctx_fail(p->c, CADRE_E_UNSUPPORTED,
                    "'%.*s' needs other templates or named blocks, which a chat template "
                    "does not have",
                    (int)p->t->n, p->t->p);
}

static const struct {
    const char *word;
    cadre_err (*parse)(struct parser *p, struct node **out);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"generation", parse_generation},
    {"break", parse_break},
    {"continue", parse_continue},
    {"include", parse_other_template},
    {"import", parse_other_template},
    {"from", parse_other_template},
    {"extends", parse_other_template},
    {"block", parse_other_template},
};

static cadre_err parse_statement(struct parser *p, struct node **out)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (is_word(p, statements[i].word)) {
            advance(p);
            TRY(statements[i].parse(p, out));
            return end_of_tag(p);
        }
    return unexpected(p, "a statement (if, for, set, macro, …) or the end of the block that is open");
}

static cadre_err parse_print(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_PRINT);
    NEED(p->c, n);
    TRY(parse_tuple(p, parse_expression, false, &n->a));
    return expect_sort(p, TOKEN_PRINT_END, "'}}'");
}

static cadre_err parse_text(struct parser *p, struct node **out)
{
    struct node *n = *out = node_new(p, N_TEXT);
    NEED(p->c, n);
    TRY(string_of(p->c, p->t->p, p->t->n, &n->value));
    advance(p);
    return CADRE_OK;
}

static bool ends_here(const struct parser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (is_word(p, *ends))
            return true;
    return false;
}

/* Statements up to "{% END", whose word is the current token then; ends NULL: up to the end of the template. */
static cadre_err parse_body(struct parser *p, const char *const *ends, struct node **out)
{
    *out = NULL;
    TRY(ctx_enter(p->c));
    for (struct node **tail = out; p->t->sort != TOKEN_EOF; tail = *tail ? &(*tail)->next : tail) {
        TRY(ctx_steps(p->c, 1));
        if (p->t->sort == TOKEN_TEXT) {
            TRY(parse_text(p, tail));
            continue;
        }
        bool print = p->t->sort == TOKEN_PRINT_BEGIN;
        advance(p);
        if (!print && ends_here(p, ends)) {
            ctx_leave(p->c);
            return CADRE_OK;
        }
        TRY(print ? parse_print(p, tail) : parse_statement(p, tail));
    }
    if (ends) {
        char expected[64] = "'{% ";
        while (ends[1])
            ends++;
        strncat(strncat(expected, *ends, 32), " %}'", 8);
        return unexpected(p, expected);
    }
    ctx_leave(p->c);
    return CADRE_OK;
}

cadre_err parse(struct ctx *c, const char *source, size_t n, struct node **root)
{
    struct token *tokens;
    struct parser p = {.c = c};
    TRY(lex(c, source, n, &tokens));
    p.t = tokens;
    c->line = tokens->line;
    return parse_body(&p, NULL, root);
}
