/* The vocabulary of a run: trained once on a sample of the data, kept as a GGUF file without tensors beside the model,
 * and reused as long as the texts and the [tokenizer] section are the same; or that of the model a run starts from. */
#ifndef CADRE_TRAIN_VOCABULARY_H
#define CADRE_TRAIN_VOCABULARY_H

#include "file/gguf.h"
#include "train/data.h"

struct vocabulary {
    struct gguf *file; /* the tables are read from it, and copied from it into the model */
    struct tokenizer *tokenizer;
    uint64_t hash;                     /* of the file's contents: stamps token files */
    int32_t fresh[TRAIN_MAX_SPECIALS]; /* tokens that the model a run starts from did not have */
    int n_fresh;
};

/* Texts with the share that each has of the sample. */
struct vocabulary_texts {
    const char *const *path;
    const double *weight;
    int n; /* at most TRAIN_MAX_TEXTS */
};
/* from: the model whose vocabulary is taken (NULL: none). resumed: a vocabulary that was taken from a model stays. */
cadre_err vocabulary_open(struct vocabulary *v, const char *path, const struct train_config *cfg,
                          const struct vocabulary_texts *texts, const struct gguf *from, bool resumed,
                          struct pool *pool, const struct data_progress *progress, cadre_error *err);
void vocabulary_close(struct vocabulary *v);

#endif
