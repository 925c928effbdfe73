/* Which known pre-tokenizer does the same as given steps? */
#ifndef CADRE_TEXT_PRE_GUESS_H
#define CADRE_TEXT_PRE_GUESS_H

#include "text/pretokenizer.h"

/* Both cut a long made-up text, in which characters of every kind meet in every order. *out is the first row of the
 * table that gives the same pieces, with merges ignored or not as asked if there is such a row; NULL if none does. */
cadre_err pre_guess(const struct pre_row **out, const struct split_step *steps, int n, bool ignore_merges,
                    cadre_error *err);

#endif
