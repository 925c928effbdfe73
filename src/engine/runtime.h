/* What stands behind the public `cadre_model`: a model opened for inference with its tokenizer, kernels and threads. */
#ifndef CADRE_ENGINE_RUNTIME_H
#define CADRE_ENGINE_RUNTIME_H

#include "base/cpu.h"
#include "base/pool.h"
#include "model/model.h"
#include "text/tokenizer.h"

struct cadre_model {
    struct model *model;         /* NULL: only the tokenizer was opened */
    struct tokenizer *tokenizer; /* NULL: the file has none */
    struct kernels kernels;
    struct pool *pool;
    uint64_t memory; /* budget in bytes, 0: none */
};

/* Fails with the figures when weights and `more` bytes go over the budget. */
cadre_err runtime_fits(const struct cadre_model *m, uint64_t more, const char *what, cadre_error *err);

/* Bytes of weights that one token reads: dense parts, chosen and shared experts, the output matrix. */
uint64_t runtime_bytes_per_token(const struct model *m);

#endif
