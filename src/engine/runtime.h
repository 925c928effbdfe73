/* What stands behind the public `cadre_model`: a model opened for inference with its tokenizer, kernels and threads. */
#ifndef CADRE_ENGINE_RUNTIME_H
#define CADRE_ENGINE_RUNTIME_H

#include "base/cpu.h"
#include "base/pool.h"
#include "model/model.h"
#include "text/tokenizer.h"

struct chat_template;

struct cadre_model {
    struct model *model;         /* NULL: only the tokenizer was opened */
    struct tokenizer *tokenizer; /* NULL: the file has none */
    struct kernels kernels;
    struct pool *pool;
    uint64_t memory; /* budget in bytes, 0: none */
    char *path;
    struct chat_template *templates; /* those in use so far: chat_template.c */
};

/* Fails with the figures when weights and `more` bytes go over the budget. */
cadre_err runtime_fits(const struct cadre_model *m, uint64_t more, const char *what, cadre_error *err);

/* Bytes of weights that one token reads: dense parts, chosen and shared experts, the output matrix. */
uint64_t runtime_bytes_per_token(const struct model *m);
/* Of these, what every pass reads however its tokens are routed; and what each choice of a layer's router reads,
 * bytes [n_layer, spec_choices]: 0 for light experts and in dense layers. */
double runtime_dense_bytes(const struct model *m);
void runtime_expert_bytes(const struct model *m, double *bytes);

/* ---- chat_template.c ---- */

void chat_templates_free(struct chat_template *list);
/* The text of a conversation; with `add`, what the vocabulary adds to a prompt (BOS) belongs in front of its tokens. */
cadre_err chat_render(struct cadre_model *m, const char *messages, const char *tools, const cadre_chat_options *o,
                      char **text, size_t *n, bool *add, cadre_error *err);

#endif
