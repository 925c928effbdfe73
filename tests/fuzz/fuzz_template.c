/* Any bytes as a chat template: it renders a conversation within its limits, or is refused with a text. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/template/template.h"
#include "text/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char variables[] =
        "{\"messages\": [{\"role\": \"user\", \"content\": \"hé\"}, {\"role\": \"assistant\", \"content\": null, "
        "\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, true]}}}]}], \"n\": 3, "
        "\"tools\": [{\"type\": \"function\"}], \"add_generation_prompt\": true, \"s\": \"a, b\"}";
    static json_t *v;
    const struct template_limits limits = {.depth = 200, .steps = 100000, .output = 1 << 20, .memory = 16 << 20};
    struct template *t;
    cadre_error err = {0};
    char *text = NULL;
    size_t n = 0;
    v = v ? v : json_loads(variables, 0, NULL);
    cadre_err rc = template_parse(&t, (const char *)data, size, &limits, &err);
    if ((rc != 0) != (t == NULL) || (rc != 0 && !err.text[0]))
        abort();
    if (t) {
        rc = template_render(t, v, 0, &limits, &text, &n, &err);
        if ((rc != 0) != (text == NULL) || (rc != 0 && !err.text[0]) || n > limits.output)
            abort();
        if (text && utf8_valid_prefix(text, n) != n)
            abort();
    }
    free(text);
    template_free(t);
    return 0;
}
