/* One JSON object a line on standard input, {"template": text, "variables": {…}}; one a line on standard output:
 * {"text": …}, or {"error": …}. What compare.py holds against other engines. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "text/template/template.h"

enum { NOW = 1738324800 }; /* 2025-01-31 12:00 UTC */

static json_t *render(const json_t *line)
{
    const struct template_limits limits = template_limits_default();
    const json_t *source = json_object_get(line, "template");
    struct template *t;
    cadre_error err = {0};
    char *text = NULL;
    size_t n;
    cadre_err rc = template_parse(&t, json_string_value(source), json_string_length(source), &limits, &err);
    if (rc == CADRE_OK) {
        rc = template_render(t, json_object_get(line, "variables"), NOW, &limits, &text, &n, &err);
        template_free(t);
    }
    json_t *out = rc ? json_pack("{s:s}", "error", err.text) : json_pack("{s:s%}", "text", text, n);
    free(text);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_t *j = json_loads(line, 0, NULL), *out = j ? render(j) : NULL;
        if (!out)
            return 1;
        json_dumpf(out, stdout, JSON_COMPACT);
        putchar('\n');
        json_decref(out);
        json_decref(j);
    }
    free(line);
    return 0;
}
