/* Training of a byte-level BPE vocabulary (Sennrich et al. 2016, on bytes as in GPT-2). */
#ifndef CADRE_TEXT_BPE_TRAIN_H
#define CADRE_TEXT_BPE_TRAIN_H

#include "base/error.h"
#include "base/pool.h"
#include "text/tokenizer.h"

struct bpe_options {
    int64_t vocab;               /* tokens in all: specials + 256 bytes + merges */
    const char *pre;             /* pre-tokenizer name */
    const char *const *specials; /* control tokens, placed first: ids 0, 1, … */
    int n_specials;
    bool (*progress)(void *user, int64_t done, int64_t total); /* false cancels; may be NULL */
    void *user;
};

/* Owns everything that `tables` points to. */
struct bpe_result {
    struct tokenizer_tables tables;
    void *memory;
};

/* Deterministic: ties go to the pair of lower ids, whatever the number of threads. */
cadre_err bpe_train(struct bpe_result *out, const char *const *texts, const size_t *lengths, int n_texts,
                    const struct bpe_options *options, struct pool *pool, cadre_error *err);
void bpe_result_free(struct bpe_result *r);

#endif
