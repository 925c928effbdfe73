/* Rules from the names that a GGUF file gives: tokenizer.ggml.model and tokenizer.ggml.pre. */
#ifndef CADRE_TEXT_RULES_NAMES_H
#define CADRE_TEXT_RULES_NAMES_H

#include "text/pretokenizer.h"
#include "text/tokenizer.h"

struct named_rules {
    struct tokenizer_rules rules; /* points into the rest */
    struct normal_step normal[6];
    struct split_step split[PRE_MAX_SPLITS];
    int32_t before[2], after[2];
};

/* An unknown name is an error that lists the known ones. */
cadre_err rules_of_names(struct named_rules *out, const struct tokenizer_tables *t, cadre_error *err);

#endif
