/* Starting from a model: its vocabulary and weights, with a fresh optimizer. */
#ifndef CADRE_TRAIN_START_H
#define CADRE_TRAIN_START_H

#include "model/model.h"

/* Every weight of m from the file, whose model must be the one that m's description describes; an error names the first
 * difference. */
cadre_err start_from(struct model *m, const struct gguf *file, const char *path, cadre_error *err);

#endif
