/* The vocabulary of a run: trained once on a sample of the data, kept as a GGUF file without tensors beside the model,
 * and reused as long as the texts and the [tokenizer] section are the same. */
#ifndef CADRE_TRAIN_VOCABULARY_H
#define CADRE_TRAIN_VOCABULARY_H

#include "file/gguf.h"
#include "train/data.h"

struct vocabulary {
    struct gguf *file; /* the tables are read from it, and copied from it into the model */
    struct tokenizer *tokenizer;
    uint64_t hash; /* of the file's contents: stamps token files */
};

cadre_err vocabulary_open(struct vocabulary *v, const char *path, const struct train_config *cfg,
                          const char *const *texts, const double *weights, int n_texts, struct pool *pool,
                          const struct data_progress *progress, cadre_error *err);
void vocabulary_close(struct vocabulary *v);

#endif
