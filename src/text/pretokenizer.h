/* Cutting text into the words that BPE merges inside of. A pre-tokenizer is a row of a table: its name in
 * tokenizer.ggml.pre, and the regular expressions that split, one after the other. */
#ifndef CADRE_TEXT_PRETOKENIZER_H
#define CADRE_TEXT_PRETOKENIZER_H

#include <stdbool.h>

#include "base/error.h"

struct pretokenizer;

/* An unknown name is an error that lists the known ones. NULL means "default". */
cadre_err pretokenizer_new(struct pretokenizer **out, const char *name, cadre_error *err);
void pretokenizer_free(struct pretokenizer *p);

/* Words that are tokens as a whole are taken without applying merges. */
bool pretokenizer_ignores_merges(const struct pretokenizer *p);
/* Whether BOS is added when the vocabulary does not say; false for unknown names. */
bool pretokenizer_adds_bos(const char *name);

/* The names in the table's order; NULL after the last. */
const char *pretokenizer_name(int i);

/* What one thread needs to split with p. */
struct splitter;
cadre_err splitter_new(struct splitter **out, const struct pretokenizer *p, cadre_error *err);
void splitter_free(struct splitter *s);

/* Calls word() for the pieces of the text in order: joined, they are the text. Bytes that are not UTF-8 form words of
 * their own. A failure of word() ends the loop and is returned. */
typedef cadre_err word_fn(void *arg, const char *p, size_t n, cadre_error *err);
cadre_err splitter_run(struct splitter *s, const char *text, size_t n, word_fn *word, void *arg, cadre_error *err);

#endif
