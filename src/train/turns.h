/* What a vocabulary needs for conversations, as [tokenizer] describes it: special tokens that mark turns, which of them
 * ends one, and the chat template. All of it lies in the vocabulary file, and so in the model. */
#ifndef CADRE_TRAIN_TURNS_H
#define CADRE_TRAIN_TURNS_H

#include "file/gguf.h"
#include "text/tokenizer.h"
#include "train/config.h"

struct turns {
    char *source; /* of the chat template, 0-terminated; NULL: none is described */
    size_t source_bytes;
};

/* The template of a description, built-in or a file, tried with the parser. */
cadre_err turns_read(struct turns *t, const struct train_config *cfg, cadre_error *err);
void turns_free(struct turns *t);

/* The id of end_of_turn among tokens (as the vocabulary spells them), -1 if none is described. */
cadre_err turns_find_end(int32_t *id, const struct train_config *cfg, const struct text_span *tokens, int64_t n_tokens,
                         cadre_error *err);
cadre_err turns_put_template(struct gguf_writer *w, const struct turns *t, cadre_error *err);

/* The vocabulary of the model `from` with what the description adds. Described specials that it lacks take the ids of
 * its last merges: nothing else is built from those, and text that had such a token has its two parts instead. Only a
 * vocabulary of merges (gpt2) can give ids. fresh: [TRAIN_MAX_SPECIALS] the ids that changed their meaning. */
cadre_err turns_put_vocabulary(struct gguf_writer *w, const struct gguf *from, const struct train_config *cfg,
                               const struct turns *t, int32_t *fresh, int *n_fresh, cadre_error *err);

#endif
