#include "text/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "text/template/eval.h"
#include "text/utf8.h"

struct template
{
    struct ctx c; /* owns the source and the tree */
    struct node *root;
};

/* Line ends become "\n", and the last one goes (keep_trailing_newline is off). */
static size_t normalize(char *to, const char *from, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (from[i] == '\r' && i + 1 < n && from[i + 1] == '\n')
            continue;
        to[k++] = from[i] == '\r' ? '\n' : from[i];
    }
    return k - (k > 0 && to[k - 1] == '\n');
}

static cadre_err parse_into(struct template *t, const char *source, size_t n)
{
    size_t valid = utf8_valid_prefix(source, n);
    t->c.line = 1;
    if (valid != n)
        return ctx_fail(&t->c, CADRE_E_FORMAT, "byte %zu is not UTF-8", valid);
    if (n > t->c.limits->output)
        return ctx_fail(&t->c, CADRE_E_MEMORY, "a template of %zu bytes is over the limit of %zu", n,
                        t->c.limits->output);
    char *own = ctx_alloc(&t->c, n + 1);
    NEED(&t->c, own);
    return parse(&t->c, own, normalize(own, source, n), &t->root);
}

cadre_err template_parse(struct template **out, const char *source, size_t n, const struct template_limits *limits,
                         cadre_error *err)
{
    *out = NULL;
    struct template *t = calloc(1, sizeof *t);
    CHECK(err, t, CADRE_E_MEMORY, "no memory for a chat template");
    t->c = (struct ctx){.limits = limits, .err = err};
    cadre_err rc = parse_into(t, source, n);
    t->c.err = NULL;
    t->c.limits = NULL;
    if (rc) {
        template_free(t);
        return error_wrap(err, rc, "chat template");
    }
    *out = t;
    return CADRE_OK;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    ctx_release(&t->c);
    free(t);
}

static cadre_err render(struct ctx *c, const struct node *root, const json_t *variables)
{
    struct value v;
    if (!json_is_object(variables))
        return ctx_fail(c, CADRE_E_ARG, "expected the variables as a JSON object");
    TRY(value_from_json(c, variables, &v));
    c->variables = v.dict;
    return eval_root(c, root);
}

cadre_err template_render(const struct template *t, const json_t *variables, int64_t now,
                          const struct template_limits *limits, char **text, size_t *n, cadre_error *err)
{
    struct text out = {0};
    struct ctx c = {.limits = limits, .err = err, .line = 1, .now = now, .out = &out};
    *text = NULL;
    *n = 0;
    cadre_err rc = render(&c, t->root, variables);
    if (rc == CADRE_OK) {
        *text = malloc(out.n + 1);
        if (!*text)
            rc = ctx_fail(&c, CADRE_E_MEMORY, "no memory for %zu bytes of text", out.n);
    }
    if (rc == CADRE_OK) {
        if (out.n)
            memcpy(*text, out.p, out.n);
        (*text)[out.n] = 0;
        *n = out.n;
    }
    ctx_release(&c);
    return rc ? error_wrap(err, rc, "chat template") : CADRE_OK;
}
