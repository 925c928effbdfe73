/* Where a table of merges comes from: the list that a vocabulary brings, or the scores of its tokens. */
#ifndef CADRE_TEXT_BPE_TABLES_H
#define CADRE_TEXT_BPE_TABLES_H

#include "text/token_model.h"

/* "left right", best first. */
cadre_err bpe_merges_of_list(struct bpe_merges *m, const struct vocabulary *v, cadre_error *err);

/* Every pair of symbols that together are a token; of two pairs the one that makes the better-scored token is merged
 * first. A symbol is a token or a single character: symbol_of gives its number, or -1. */
typedef int32_t symbol_fn(void *arg, const char *p, size_t n);
cadre_err bpe_merges_of_scores(struct bpe_merges *m, const struct vocabulary *v, symbol_fn *symbol_of, void *arg,
                               cadre_error *err);

#endif
