/* Values as text: what Python's str(), repr() and json.dumps() give. */
#ifndef CADRE_TEXT_TEMPLATE_PRINT_H
#define CADRE_TEXT_TEMPLATE_PRINT_H

#include "text/template/value.h"

cadre_err print_str(struct ctx *c, struct text *t, const struct value *v);
cadre_err print_repr(struct ctx *c, struct text *t, const struct value *v);
/* str() as a string of its own, or the value itself if it is one. */
cadre_err print_to_string(struct ctx *c, const struct value *v, struct string **out);

struct json_style {
    int64_t indent;         /* -1: on one line */
    const char *item, *key; /* separators */
    size_t n_item, n_key;
    bool ensure_ascii, sort_keys;
};
cadre_err print_json(struct ctx *c, struct text *t, const struct value *v, const struct json_style *style, int level);

/* The text with & < > " ' as entities. */
cadre_err print_escaped(struct ctx *c, struct text *t, const struct string *s);

/* "%s is %5.2f" % values, and "{} is {:.2f}".format(values). */
cadre_err print_percent(struct ctx *c, struct text *t, const struct string *format, const struct value *values);
struct args;
cadre_err print_format(struct ctx *c, struct text *t, const struct string *format, const struct args *args);

#endif
