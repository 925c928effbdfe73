/* Text ↔ token ids. A tokenizer is built from plain tables (tokens, merges, kinds, pre-tokenizer name), whoever read
 * them: this room knows no files. */
#ifndef CADRE_TEXT_TOKENIZER_H
#define CADRE_TEXT_TOKENIZER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "text/rules.h"

/* As in GGUF's tokenizer.ggml.token_type. */
enum token_kind { TOKEN_NORMAL = 1, TOKEN_UNKNOWN, TOKEN_CONTROL, TOKEN_USER_DEFINED, TOKEN_UNUSED, TOKEN_BYTE };

/* How a token that is matched as text takes part in that (tokenizer.json's added_tokens). */
enum token_flag {
    TOKEN_TAKES_LEFT = 1,  /* white space before it belongs to the match */
    TOKEN_TAKES_RIGHT = 2, /* … after it */
    TOKEN_WHOLE_WORD = 4,  /* only where no letter or digit touches it */
    TOKEN_NORMALIZED = 8,  /* looked for in the normalized text */
};

struct tokenizer_tables {
    const char *model;              /* GGUF's tokenizer.ggml.model: gpt2, llama, t5, bert, gemma4 */
    const char *pre;                /* GGUF's tokenizer.ggml.pre: gpt-2, llama-bpe, qwen2, …; for gpt2 only */
    const struct text_span *tokens; /* [n_tokens], in the byte-to-unicode alphabet of GPT-2 for "gpt2" */
    const int32_t *kinds;           /* [n_tokens] or NULL: all normal */
    const float *scores;            /* [n_tokens] or NULL: all 0; for llama and t5 */
    const unsigned char *flags;     /* [n_tokens] of token_flag, or NULL */
    int64_t n_tokens;
    const struct text_span *merges; /* [n_merges] "left right", best first; for gpt2 and gemma4 */
    int64_t n_merges;
    int32_t bos, eos, eot, eom, unk, sep, pad, mask; /* -1 = none */
    bool add_bos, add_eos, add_sep;
    bool add_space_prefix, remove_extra_whitespaces; /* llama, t5 */
    bool keep_case, keep_accents;                    /* bert */
    struct text_span charsmap;                       /* t5: SentencePiece's precompiled normalizer, or empty */
    const struct tokenizer_rules *rules;             /* NULL: what model and pre say */
};

/* What a file means that does not say otherwise: every id -1 or the model's usual one, add_… as the model has them.
 * Looks at model, pre and n_tokens. */
void tokenizer_set_defaults(struct tokenizer_tables *t);

struct tokenizer;

/* Copies what it needs. An unknown model or pre-tokenizer is an error that names it. */
cadre_err tokenizer_new(struct tokenizer **out, const struct tokenizer_tables *tables, cadre_error *err);
void tokenizer_free(struct tokenizer *t);

int64_t tokenizer_size(const struct tokenizer *t);
int32_t tokenizer_bos(const struct tokenizer *t), tokenizer_eos(const struct tokenizer *t);
bool tokenizer_is_end(const struct tokenizer *t,
                      int32_t id); /* eos, eot, or a token whose name says so, as <|im_end|> */

enum {
    TOKENIZE_SPECIAL = 1, /* the text of control and user-defined tokens becomes their id (else plain text) */
    TOKENIZE_ADD = 2,     /* add BOS / EOS as the vocabulary says */
};

/* Any bytes. *ids is malloc'd (free with free()). */
cadre_err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags, int32_t **ids,
                           size_t *n_ids, cadre_error *err);

/* The bytes of one token: decoding token by token and joining gives the exact text back. Control tokens give their
 * name only if `special`. Returns the number of bytes; *p is borrowed from t. */
size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool special, const char **p);

/* Blanks that encoding put before a text and that are no part of it: as many as this are dropped from the beginning of
 * a decoded text, not of what is generated after a prompt. */
int tokenizer_leading_blanks(const struct tokenizer *t);

/* The text of ids, without those blanks. *text is malloc'd and 0-terminated. Ids that are no tokens are an error. */
cadre_err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char **text,
                           size_t *n, cadre_error *err);

/* Holds back the bytes of an unfinished UTF-8 character, so that a stream never splits one. */
struct utf8_stream {
    unsigned char held[4];
    int n;
};
enum { UTF8_STREAM_EXTRA = 4 };
/* Append bytes; out has room for n + UTF8_STREAM_EXTRA; returns how many bytes are complete now. Bytes that cannot
 * begin or continue a character are passed through as they are. `utf8_stream_flush` gives what is held at the end. */
size_t utf8_stream_push(struct utf8_stream *s, const char *p, size_t n, char *out);
size_t utf8_stream_flush(struct utf8_stream *s, char *out);

#endif
