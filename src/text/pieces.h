/* What tokens decode to. */
#ifndef CADRE_TEXT_PIECES_H
#define CADRE_TEXT_PIECES_H

#include "text/tokenizer.h"

/* One text with the pieces of all tokens end to end, and a span into it for each. Both are malloc'd. */
cadre_err pieces_new(char **text, struct text_span **piece, const struct tokenizer_tables *from,
                     const struct decode_rules *rules, const unsigned char *kind, cadre_error *err);

#endif
