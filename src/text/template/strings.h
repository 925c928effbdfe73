/* What filters and methods both do with texts. */
#ifndef CADRE_TEXT_TEMPLATE_STRINGS_H
#define CADRE_TEXT_TEMPLATE_STRINGS_H

#include "text/template/value.h"

enum case_rule {
    CASE_UPPER,
    CASE_LOWER,
    CASE_SWAP,
    CASE_CAPITALIZE,  /* the first character up, all others down */
    CASE_TITLE,       /* str.title(): words are runs of letters */
    CASE_FILTER_TITLE /* the filter: words begin behind white space, - ( { [ < */
};
cadre_err string_map(struct ctx *c, const struct string *s, enum case_rule rule, struct value *out);

/* chars NULL: white space. */
cadre_err string_strip(struct ctx *c, const struct string *s, const struct string *chars, bool left, bool right,
                       struct value *out);
/* At most `count` times; -1: all. */
cadre_err string_replace(struct ctx *c, const struct string *s, const struct string *old, const struct string *with,
                         int64_t count, struct value *out);
/* Padded to `width` characters, before (left) and behind (right). */
cadre_err string_justify(struct ctx *c, struct string *s, int64_t width, const char *fill, size_t n_fill, bool left,
                         bool right, struct value *out);

bool parse_int(const struct string *s, int base, int64_t *out);
void parse_float(const struct string *s, double *out, bool *ok);

#endif
