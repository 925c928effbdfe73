/* What stands behind `struct tokenizer`: built by tokenizer.c, read by encode.c. */
#ifndef CADRE_TEXT_TOKENIZER_INTERNAL_H
#define CADRE_TEXT_TOKENIZER_INTERNAL_H

#include "text/normalizer.h"
#include "text/pretokenizer.h"
#include "text/special_tokens.h"
#include "text/token_model.h"

enum { MAX_ENDS = 32, MAX_AROUND = 16 };

struct tokenizer {
    int64_t n;
    char *text;              /* the bytes of all tokens, end to end */
    struct text_span *piece; /* [n], into text: what a token decodes to */
    unsigned char *kind;     /* [n] */
    int32_t bos, eos, eot, eom;
    int32_t ends[MAX_ENDS]; /* tokens that are an end by their name */
    int n_ends;
    int32_t before[MAX_AROUND], after[MAX_AROUND];
    int n_before, n_after;
    int strip_left;
    struct special_tokens specials;   /* found in the text as it is */
    struct special_tokens normalized; /* found after normalizing */
    struct normalizer *normalizer;    /* NULL: none */
    struct pretokenizer *pre;
    const struct token_model *model;
    void *model_data;
    const bool *joins; /* NULL: words may not be cut before a "▁" */
};

#endif
