/* Template source to tokens. Everything about white space around tags happens here. */
#ifndef CADRE_TEXT_TEMPLATE_LEXER_H
#define CADRE_TEXT_TEMPLATE_LEXER_H

#include "text/template/value.h"

enum token_sort {
    TOKEN_TEXT,        /* between tags: p, n */
    TOKEN_BLOCK_BEGIN, /* {% */
    TOKEN_BLOCK_END,
    TOKEN_PRINT_BEGIN, /* {{ */
    TOKEN_PRINT_END,
    TOKEN_WORD,    /* a name or keyword: p, n */
    TOKEN_LITERAL, /* a string or number: value */
    TOKEN_SIGN,    /* an operator or bracket: p, n */
    TOKEN_EOF
};

struct token {
    enum token_sort sort;
    int line;
    const char *p;
    size_t n;
    struct value value;
};

/* *tokens ends with TOKEN_EOF. The source must outlive them. */
cadre_err lex(struct ctx *c, const char *source, size_t n, struct token **tokens);

#endif
