/* Finding the tokens that are matched as text before anything is split: a trie of their bytes. Of the tokens that
 * begin at one place the longest wins; places are tried from left to right. */
#ifndef CADRE_TEXT_SPECIAL_TOKENS_H
#define CADRE_TEXT_SPECIAL_TOKENS_H

#include <stdbool.h>

#include "text/tokenizer.h"

struct special_tokens {
    struct special_node *nodes; /* node 0 is unused, so that 0 can say "none" */
    int32_t n_nodes;
    int32_t first[256]; /* the node of each first byte */
};

/* The tokens among [0, n) whose kind is control, unknown or user-defined, and whose flags (NULL: none set) say
 * TOKEN_NORMALIZED or not, as `normalized`. */
cadre_err special_tokens_init(struct special_tokens *s, const struct text_span *tokens, const unsigned char *kinds,
                              const unsigned char *flags, int64_t n, bool normalized, cadre_error *err);
void special_tokens_free(struct special_tokens *s);
bool special_tokens_any(const struct special_tokens *s);

struct special_match {
    int32_t id; /* -1: none */
    size_t start, end;
};

/* The first match in text[from, n). Unless `all`, only user-defined tokens match. */
struct special_match special_tokens_next(const struct special_tokens *s, const char *text, size_t n, size_t from,
                                         bool all);

#endif
