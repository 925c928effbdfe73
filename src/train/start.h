/* Starting from a model: its vocabulary and weights, with a fresh optimizer. */
#ifndef CADRE_TRAIN_START_H
#define CADRE_TRAIN_START_H

#include "model/model.h"

/* Every weight of m from the file, whose model must be the one that m's description describes; an error names the first
 * difference. */
cadre_err start_from(struct model *m, const struct gguf *file, const char *path, cadre_error *err);

/* Tokens whose id meant another one in that model, [n], begin as the mean of all tokens, so that they are neither
 * likely nor unlikely at first (Hewitt 2021). */
void start_tokens(struct model *m, const int32_t *ids, int n);

#endif
