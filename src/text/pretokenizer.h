/* Cutting text into the words that a model looks at. A pre-tokenizer is a chain of steps: a GGUF file names one of a
 * table (tokenizer.ggml.pre), a tokenizer.json spells it out. */
#ifndef CADRE_TEXT_PRETOKENIZER_H
#define CADRE_TEXT_PRETOKENIZER_H

#include <stdbool.h>

#include "base/error.h"
#include "text/rules.h"

/* ---- the table ---- */

enum {
    PRE_IGNORE_MERGES = 1, /* words that are tokens are taken whole */
    PRE_ADD_BOS = 2,       /* BOS is added when the vocabulary does not say */
    PRE_CHARS = 4,         /* merges are over characters, blanks are written "▁"; else over bytes */
    PRE_ADD_SEP = 8,       /* a text is put between BOS and SEP */
    PRE_MAX_SPLITS = 6,
};

struct pre_row {
    const char *name; /* as in tokenizer.ggml.pre */
    unsigned flags;
    const char *split[PRE_MAX_SPLITS]; /* expressions: matches and what lies between them are the pieces */
};

/* The rows in the table's order; NULL after the last. */
const struct pre_row *pre_row_at(int i);
const struct pre_row *pre_row_find(const char *name); /* NULL means "default"; NULL if there is none of that name */
/* An unknown name is an error that lists the known ones. */
cadre_err pre_row_get(const struct pre_row **out, const char *name, cadre_error *err);
/* The row's expressions as steps; room for PRE_MAX_SPLITS. Returns how many. */
int pre_row_steps(const struct pre_row *row, struct split_step *steps);

/* ---- cutting ---- */

struct pretokenizer; /* read-only once made */
cadre_err pretokenizer_new(struct pretokenizer **out, const struct split_step *steps, int n, cadre_error *err);
void pretokenizer_free(struct pretokenizer *p);

/* What one thread needs to split with p. */
struct splitter;
cadre_err splitter_new(struct splitter **out, const struct pretokenizer *p, cadre_error *err);
void splitter_free(struct splitter *s);
void splitter_limit(struct splitter *s, uint32_t steps); /* as regex_match_limit */

/* Calls word() for the pieces of the text in order: joined, they are the text, unless a step rewrites or removes.
 * Pieces stay where they are until the splitter is freed, if the text does. Bytes that are not UTF-8 form words of
 * their own. A failure of word() ends the loop and is returned. `first`: nothing came before this text. */
typedef cadre_err word_fn(void *arg, const char *p, size_t n, cadre_error *err);
cadre_err splitter_run(struct splitter *s, const char *text, size_t n, bool first, word_fn *word, void *arg,
                       cadre_error *err);

#endif
