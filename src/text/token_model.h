/* A model turns one word into ids. A row is one algorithm; what it looks things up in is built once and read-only. */
#ifndef CADRE_TEXT_TOKEN_MODEL_H
#define CADRE_TEXT_TOKEN_MODEL_H

#include "text/bpe.h"
#include "text/text_index.h"
#include "text/tokenizer.h"

struct token_ids { /* begins as {0}; free(p) */
    int32_t *p;
    size_t n, capacity;
};

cadre_err token_ids_reserve(struct token_ids *ids, size_t more, cadre_error *err);
cadre_err token_ids_put(struct token_ids *ids, const int32_t *p, size_t n, cadre_error *err);

/* What a model is built from. */
struct vocabulary {
    const struct tokenizer_tables *tables;
    const struct tokenizer_rules *rules;
    const struct text_index *texts; /* tokens by their text in the tables */
    const struct text_span *piece;  /* what each decodes to */
    const unsigned char *kind;
};

/* The id of a text in the tables, or -1. */
int32_t vocabulary_find(const struct vocabulary *v, const char *p, size_t n);

/* Scratch of one thread, for every model. Begins as {0}. */
struct model_work {
    struct bpe_work bpe;
    struct best_cell *cells; /* unigram */
    size_t n_cells;
    char *word; /* word piece */
    size_t word_capacity;
};
void model_work_free(struct model_work *w);

struct token_model {
    cadre_err (*build)(void **out, const struct vocabulary *v, cadre_error *err);
    cadre_err (*encode)(const void *m, struct model_work *w, const char *p, size_t n, struct token_ids *out,
                        cadre_error *err);
    void (*free)(void *m);
    /* Whether a word may be cut before a "▁" that follows a byte c, without any change: joins[c] is false then. NULL,
     * or a NULL answer: words may not be cut. */
    const bool *(*joins)(const void *m);
};

extern const struct token_model model_bpe_bytes, model_bpe_chars, model_bpe_scores, model_unigram, model_wordpiece;

const struct token_model *token_model_of(enum model_kind kind);

#endif
