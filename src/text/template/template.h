/* Chat templates: a Jinja2 interpreter for what the templates of language models use, with the settings and extensions
 * that transformers gives it (trim_blocks, lstrip_blocks, loop controls, its own tojson, `generation`). A template is
 * hostile text: it reaches nothing but the values it is given, and runs within the limits below.
 *
 *     source ─lexer─▶ tokens ─parser─▶ struct node tree ─eval─▶ text
 *                                        ▲ filters, tests, methods, globals: tables of struct builtin
 *
 * This folder knows neither models nor messages: values come in as JSON, text goes out. */
#ifndef CADRE_TEXT_TEMPLATE_TEMPLATE_H
#define CADRE_TEXT_TEMPLATE_TEMPLATE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct template_limits {
    int depth;     /* nesting of expressions, blocks, calls and values */
    int64_t steps; /* nodes evaluated and elements touched */
    size_t output; /* bytes of any one text under construction */
    size_t memory; /* bytes allocated over one rendering, or for one parsed template */
};
/* 400 levels, 50 million steps, 64 MiB of text, 512 MiB. */
struct template_limits template_limits_default(void);

struct template;

/* The source is copied. Syntax errors name the line, what was expected and what was found. */
cadre_err template_parse(struct template **out, const char *source, size_t n, const struct template_limits *limits,
                         cadre_error *err);
void template_free(struct template *t);

/* The variables are the members of the object `variables`; strftime_now reads `now`, seconds since 1970 in UTC, or the
 * local clock if it is negative. *text (n bytes, 0-terminated) is freed with free(). A template that calls
 * raise_exception fails with CADRE_E_ARG and its text. May be called from many threads at once. */
cadre_err template_render(const struct template *t, const json_t *variables, int64_t now,
                          const struct template_limits *limits, char **text, size_t *n, cadre_error *err);

/* Templates for models that bring none, by name: source text, or NULL. template_builtin_names lists them "a, b, c". */
const char *template_builtin(const char *name);
const char *template_builtin_names(void);

#endif
