/* What stands behind `struct tokenizer_json`: filled by tokenizer_json.c, told by names in json_named.c. */
#ifndef CADRE_TEXT_TOKENIZER_JSON_INTERNAL_H
#define CADRE_TEXT_TOKENIZER_JSON_INTERNAL_H

#include "text/json_steps.h"
#include "text/pretokenizer.h"
#include "text/tokenizer_json.h"

struct tokenizer_json {
    json_t *root, *config; /* own the texts */
    struct json_steps steps;
    struct tokenizer_rules rules;
    struct tokenizer_tables tables; /* rules point to the one above */
    struct text_span *tokens, *merges;
    int32_t *kinds;
    float *scores;
    unsigned char *flags;
    const struct pre_row *row; /* the known pre-tokenizer that cuts the same, or NULL */
    struct split_step row_steps[PRE_MAX_SPLITS];
    /* told by names */
    struct tokenizer_tables named;
    struct text_span *named_tokens;
    float *named_scores;
};

#endif
