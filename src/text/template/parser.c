/* Expressions: recursive descent over the tokens, with the precedences of Jinja2: ternary, or, and, not, comparison, +
 * -, ~,
 * * / // %, **, unary, then filters and tests, which bind tightest. */
#include "text/template/parser.h"

static cadre_err parse_unary(struct parser *p, bool with_filter, struct node **out);

/* ---- primary expressions ------------------------------------------------------------------------------- */

/* Whether a comma list ends here: what may follow a tuple without brackets. */
static bool tuple_ends(const struct parser *p)
{
    return p->t->sort == TOKEN_PRINT_END || p->t->sort == TOKEN_BLOCK_END || p->t->sort == TOKEN_EOF ||
           is_sign(p, ")") || is_word(p, "in") || is_word(p, "recursive");
}

cadre_err parse_tuple(struct parser *p, cadre_err (*one)(struct parser *, struct node **), bool empty,
                      struct node **out)
{
    struct node *first = NULL, **tail = &first;
    bool comma = false;
    struct node *tuple = node_new(p, N_TUPLE);
    NEED(p->c, tuple);
    if (!empty || !tuple_ends(p)) {
        do {
            if (first && tuple_ends(p))
                break; /* a trailing comma */
            TRY(one(p, tail));
            tail = &(*tail)->next;
        } while (take_sign(p, ",") && (comma = true));
    }
    tuple->items = first;
    *out = first && !comma ? first : tuple;
    return CADRE_OK;
}

static cadre_err parse_list(struct parser *p, struct node **out)
{
    struct node *list = node_new(p, N_LIST), **tail;
    NEED(p->c, list);
    tail = &list->items;
    TRY(expect_sign(p, "["));
    while (!take_sign(p, "]")) {
        if (list->items)
            TRY(expect_sign(p, ","));
        if (take_sign(p, "]"))
            break;
        TRY(parse_expression(p, tail));
        tail = &(*tail)->next;
    }
    *out = list;
    return CADRE_OK;
}

static cadre_err parse_dict(struct parser *p, struct node **out)
{
    struct node *dict = node_new(p, N_DICT), **tail;
    NEED(p->c, dict);
    tail = &dict->items;
    TRY(expect_sign(p, "{"));
    while (!take_sign(p, "}")) {
        if (dict->items)
            TRY(expect_sign(p, ","));
        if (take_sign(p, "}"))
            break;
        TRY(parse_expression(p, tail));
        tail = &(*tail)->next;
        TRY(expect_sign(p, ":"));
        TRY(parse_expression(p, tail));
        tail = &(*tail)->next;
    }
    *out = dict;
    return CADRE_OK;
}

/* Neighbouring strings are one. */
static cadre_err parse_literal(struct parser *p, struct node **out)
{
    struct node *n = node_new(p, N_CONST);
    NEED(p->c, n);
    n->value = p->t->value;
    advance(p);
    if (n->value.kind == V_STRING && p->t->sort == TOKEN_LITERAL && p->t->value.kind == V_STRING) {
        struct text t = {0};
        TRY(text_add(p->c, &t, n->value.s->p, n->value.s->n));
        for (; p->t->sort == TOKEN_LITERAL && p->t->value.kind == V_STRING; advance(p))
            TRY(text_add(p->c, &t, p->t->value.s->p, p->t->value.s->n));
        TRY(string_from_text(p->c, &t, &n->value));
    }
    *out = n;
    return CADRE_OK;
}

cadre_err parse_name(struct parser *p, struct node **out)
{
    static const struct {
        const char *name;
        struct value value;
    } constants[] = {{"true", {.kind = V_BOOL, .b = true}},
                     {"True", {.kind = V_BOOL, .b = true}},
                     {"false", {.kind = V_BOOL, .b = false}},
                     {"False", {.kind = V_BOOL, .b = false}},
                     {"none", {.kind = V_NONE}},
                     {"None", {.kind = V_NONE}}};
    struct node *n = node_new(p, N_NAME);
    NEED(p->c, n);
    TRY(take_name(p, &n->name));
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++)
        if (string_is(n->name, constants[i].name)) {
            n->kind = N_CONST;
            n->value = constants[i].value;
        }
    p->uses |= string_is(n->name, "varargs") ? USES_VARARGS : string_is(n->name, "kwargs") ? USES_KWARGS : 0;
    *out = n;
    return CADRE_OK;
}

static cadre_err parse_primary(struct parser *p, struct node **out)
{
    if (p->t->sort == TOKEN_WORD)
        return parse_name(p, out);
    if (p->t->sort == TOKEN_LITERAL)
        return parse_literal(p, out);
    if (is_sign(p, "["))
        return parse_list(p, out);
    if (is_sign(p, "{"))
        return parse_dict(p, out);
    if (take_sign(p, "(")) {
        TRY(parse_tuple(p, parse_expression, true, out));
        return expect_sign(p, ")");
    }
    return unexpected(p, "an expression");
}

/* ---- what follows them --------------------------------------------------------------------------------- */

/* "(" has been seen: arguments up to and with ")". */
static cadre_err parse_arguments(struct parser *p, struct node **out)
{
    struct node **tail = out;
    bool named = false;
    TRY(expect_sign(p, "("));
    while (!take_sign(p, ")")) {
        if (*out)
            TRY(expect_sign(p, ","));
        if (take_sign(p, ")"))
            break;
        struct node *n = *tail = node_new(p, N_ARGUMENT);
        NEED(p->c, n);
        tail = &n->next;
        if (take_sign(p, "*")) {
            n->op = '*';
        } else if (take_sign(p, "**")) {
            n->op = 'd';
        } else if (p->t->sort == TOKEN_WORD && p->t[1].sort == TOKEN_SIGN && p->t[1].n == 1 && *p->t[1].p == '=') {
            TRY(take_name(p, &n->name));
            advance(p);
        } else if (named) {
            return unexpected(p, "an argument with a name (those without stand before)");
        }
        named = named || n->name || n->op == 'd';
        TRY(parse_expression(p, &n->a));
    }
    return CADRE_OK;
}

/* What stands between "[" and "]" or ",". */
static cadre_err parse_subscript(struct parser *p, struct node **out)
{
    struct node *part[3] = {NULL};
    int n = 0;
    if (!is_sign(p, ":"))
        TRY(parse_expression(p, &part[0]));
    while (n < 2 && take_sign(p, ":")) {
        n++;
        if (!is_sign(p, ":") && !is_sign(p, "]") && !is_sign(p, ","))
            TRY(parse_expression(p, &part[n]));
    }
    if (n == 0) {
        *out = part[0];
        return CADRE_OK;
    }
    TRY(wrap(p, N_SLICE, 0, part[0], part[1], out));
    (*out)->d = part[2];
    return CADRE_OK;
}

static cadre_err parse_member(struct parser *p, struct node **node)
{
    struct node *index;
    if (take_sign(p, "[")) {
        TRY(parse_tuple(p, parse_subscript, false, &index));
        TRY(expect_sign(p, "]"));
        return wrap(p, N_ITEM, 0, *node, index, node);
    }
    TRY(expect_sign(p, "."));
    if (p->t->sort == TOKEN_LITERAL && p->t->value.kind == V_INT) {
        TRY(parse_literal(p, &index));
        return wrap(p, N_ITEM, 0, *node, index, node);
    }
    TRY(wrap(p, N_ATTRIBUTE, 0, *node, NULL, node));
    return take_name(p, &(*node)->name);
}

static cadre_err parse_postfix(struct parser *p, struct node **node)
{
    for (;;) {
        TRY(ctx_steps(p->c, 1));
        if (is_sign(p, ".") || is_sign(p, "[")) {
            TRY(parse_member(p, node));
        } else if (is_sign(p, "(")) {
            TRY(wrap(p, N_CALL, 0, *node, NULL, node));
            TRY(parse_arguments(p, &(*node)->items));
        } else {
            return CADRE_OK;
        }
    }
}

static cadre_err dotted_name(struct parser *p, struct string **out)
{
    struct text t = {0};
    struct value v;
    do {
        struct string *part;
        TRY(take_name(p, &part));
        if (t.n)
            TRY(text_put(p->c, &t, "."));
        TRY(text_add(p->c, &t, part->p, part->n));
    } while (take_sign(p, "."));
    TRY(string_from_text(p->c, &t, &v));
    *out = v.s;
    return CADRE_OK;
}

cadre_err parse_filter(struct parser *p, struct node **node)
{
    TRY(wrap(p, N_FILTER, 0, *node, NULL, node));
    TRY(dotted_name(p, &(*node)->name));
    return is_sign(p, "(") ? parse_arguments(p, &(*node)->items) : CADRE_OK;
}

static bool begins_test_argument(const struct parser *p)
{
    static const char *const none[] = {"else", "or", "and", "if", "in", "not", "recursive"};
    if (p->t->sort == TOKEN_WORD) {
        for (size_t i = 0; i < sizeof none / sizeof *none; i++)
            if (is_word(p, none[i]))
                return false;
        return true;
    }
    return p->t->sort == TOKEN_LITERAL || is_sign(p, "[") || is_sign(p, "{");
}

static cadre_err parse_test(struct parser *p, struct node **node)
{
    bool negated = take_word(p, "not");
    TRY(wrap(p, N_TEST, 0, *node, NULL, node));
    struct node *test = *node;
    test->flag = negated;
    TRY(dotted_name(p, &test->name));
    if (is_sign(p, "("))
        return parse_arguments(p, &test->items);
    if (!begins_test_argument(p))
        return CADRE_OK;
    if (is_word(p, "is"))
        return unexpected(p, "an operator (tests cannot be chained with 'is')");
    test->items = node_new(p, N_ARGUMENT);
    NEED(p->c, test->items);
    TRY(parse_primary(p, &test->items->a));
    return parse_postfix(p, &test->items->a);
}

static cadre_err parse_filters(struct parser *p, struct node **node)
{
    for (;;) {
        TRY(ctx_steps(p->c, 1));
        if (take_sign(p, "|")) {
            TRY(parse_filter(p, node));
        } else if (take_word(p, "is")) {
            TRY(parse_test(p, node));
        } else if (is_sign(p, "(")) {
            TRY(wrap(p, N_CALL, 0, *node, NULL, node));
            TRY(parse_arguments(p, &(*node)->items));
        } else {
            return CADRE_OK;
        }
    }
}

/* ---- operators ----------------------------------------------------------------------------------------- */

static cadre_err parse_unary(struct parser *p, bool with_filter, struct node **out)
{
    TRY(ctx_enter(p->c));
    char op = is_sign(p, "-") ? '-' : is_sign(p, "+") ? '+' : 0;
    if (op) {
        struct node *a;
        advance(p);
        TRY(parse_unary(p, false, &a));
        TRY(wrap(p, N_UNARY, op, a, NULL, out));
    } else {
        TRY(parse_primary(p, out));
    }
    TRY(parse_postfix(p, out));
    if (with_filter)
        TRY(parse_filters(p, out));
    ctx_leave(p->c);
    return CADRE_OK;
}

static cadre_err parse_factor(struct parser *p, struct node **out)
{
    return parse_unary(p, true, out);
}

/* Operators of one precedence, joined from the left. */
static cadre_err parse_left(struct parser *p, const char *const *signs, const char *ops,
                            cadre_err (*operand)(struct parser *, struct node **), struct node **out)
{
    TRY(operand(p, out));
    for (;;) {
        size_t i = 0;
        while (signs[i] && !is_sign(p, signs[i]))
            i++;
        if (!signs[i])
            return CADRE_OK;
        struct node *b;
        advance(p);
        TRY(operand(p, &b));
        TRY(wrap(p, N_BINARY, ops[i], *out, b, out));
    }
}

static cadre_err parse_power(struct parser *p, struct node **out)
{
    static const char *const signs[] = {"**", NULL};
    return parse_left(p, signs, "p", parse_factor, out);
}

static cadre_err parse_product(struct parser *p, struct node **out)
{
    static const char *const signs[] = {"*", "/", "//", "%", NULL};
    return parse_left(p, signs, "*/i%", parse_power, out);
}

static cadre_err parse_concat(struct parser *p, struct node **out)
{
    TRY(parse_product(p, out));
    if (!is_sign(p, "~"))
        return CADRE_OK;
    struct node *concat = node_new(p, N_CONCAT), **tail = &(*out)->next;
    NEED(p->c, concat);
    concat->items = *out;
    while (take_sign(p, "~")) {
        TRY(parse_product(p, tail));
        tail = &(*tail)->next;
    }
    *out = concat;
    return CADRE_OK;
}

static cadre_err parse_sum(struct parser *p, struct node **out)
{
    static const char *const signs[] = {"+", "-", NULL};
    return parse_left(p, signs, "+-", parse_concat, out);
}

static char comparison(const struct parser *p)
{
    static const struct {
        const char *sign;
        char op;
    } signs[] = {{"==", '='}, {"!=", '!'}, {"<", '<'}, {">", '>'}, {"<=", 'l'}, {">=", 'g'}};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (is_sign(p, signs[i].sign))
            return signs[i].op;
    if (is_word(p, "in"))
        return 'i';
    return is_word(p, "not") && p->t[1].sort == TOKEN_WORD && p->t[1].n == 2 && memcmp(p->t[1].p, "in", 2) == 0 ? 'n'
                                                                                                                : 0;
}

static cadre_err parse_comparison(struct parser *p, struct node **out)
{
    TRY(parse_sum(p, out));
    char op = comparison(p);
    if (!op)
        return CADRE_OK;
    TRY(wrap(p, N_COMPARE, 0, *out, NULL, out));
    for (struct node **tail = &(*out)->items; op; op = comparison(p)) {
        struct node *n = *tail = node_new(p, N_OPERAND);
        NEED(p->c, n);
        n->op = op;
        advance(p);
        if (op == 'n')
            advance(p);
        TRY(parse_sum(p, &n->a));
        tail = &n->next;
    }
    return CADRE_OK;
}

static cadre_err parse_not(struct parser *p, struct node **out)
{
    struct node *a;
    if (!is_word(p, "not"))
        return parse_comparison(p, out);
    TRY(ctx_enter(p->c));
    advance(p);
    TRY(parse_not(p, &a));
    ctx_leave(p->c);
    return wrap(p, N_NOT, 0, a, NULL, out);
}

static cadre_err parse_and(struct parser *p, struct node **out)
{
    TRY(parse_not(p, out));
    while (take_word(p, "and")) {
        struct node *b;
        TRY(parse_not(p, &b));
        TRY(wrap(p, N_AND, 0, *out, b, out));
    }
    return CADRE_OK;
}

cadre_err parse_or(struct parser *p, struct node **out)
{
    TRY(parse_and(p, out));
    while (take_word(p, "or")) {
        struct node *b;
        TRY(parse_and(p, &b));
        TRY(wrap(p, N_OR, 0, *out, b, out));
    }
    return CADRE_OK;
}

cadre_err parse_expression(struct parser *p, struct node **out)
{
    TRY(ctx_enter(p->c));
    TRY(parse_or(p, out));
    while (take_word(p, "if")) {
        struct node *condition, *other = NULL;
        TRY(parse_or(p, &condition));
        if (take_word(p, "else"))
            TRY(parse_expression(p, &other));
        TRY(wrap(p, N_TERNARY, 0, *out, condition, out));
        (*out)->d = other;
    }
    ctx_leave(p->c);
    return CADRE_OK;
}
