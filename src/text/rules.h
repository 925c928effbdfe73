/* How a vocabulary is applied: what happens to text before the tokens are looked for, how it is cut, how tokens are
 * joined again. A GGUF file says it by names (tokenizer.ggml.model and .pre), a tokenizer.json spells it out; both
 * become a `struct tokenizer_rules`, which is all that the tokenizer is built from besides its tables. */
#ifndef CADRE_TEXT_RULES_H
#define CADRE_TEXT_RULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct text_span { /* bytes, not 0-terminated */
    const char *p;
    uint64_t n;
};

/* ---- normalizers: text to text, one after the other ---- */

enum normal_kind {
    NORMAL_NFC,
    NORMAL_NFD,
    NORMAL_NFKC,
    NORMAL_NFKD,
    NORMAL_LOWERCASE,
    NORMAL_STRIP,            /* white space at the ends: `left`, `right` */
    NORMAL_DROP_MARKS,       /* all combining marks; `nonspacing`: those of category Mn only */
    NORMAL_PREPEND,          /* `content` before a text that is not empty */
    NORMAL_APPEND,           /* `content` after a text that is not empty */
    NORMAL_REPLACE,          /* every `pattern` by `content` */
    NORMAL_CLEAN,            /* BERT: control characters go, white space becomes a blank */
    NORMAL_SPACE_IDEOGRAPHS, /* BERT: blanks around CJK ideographs */
    NORMAL_CHARSMAP,         /* SentencePiece's precompiled map in `content`; `graphemes`: whole graphemes, as the
                                tokenizers of Hugging Face apply it, else the longest match */
    NORMAL_COLLAPSE,         /* runs of blanks become one, none at the ends (SentencePiece) */
};

struct normal_step {
    enum normal_kind kind;
    struct text_span pattern; /* a literal, or a regular expression if `regex` */
    struct text_span content;
    bool regex, left, right, nonspacing, graphemes;
};

/* ---- pre-tokenizers: a text to pieces, each piece to smaller ones ---- */

enum split_how {
    SPLIT_ISOLATED, /* matches and what lies between them are pieces */
    SPLIT_REMOVED,  /* matches are dropped */
    SPLIT_WITH_PREVIOUS,
    SPLIT_WITH_NEXT,
    SPLIT_CONTIGUOUS, /* as isolated, but neighbouring matches are one piece */
};

enum split_kind {
    SPLIT_PATTERN,      /* at matches of `pattern` */
    SPLIT_PREFIX_BLANK, /* no cut: a blank before a piece that does not begin with one */
    SPLIT_MARK_BLANKS,  /* no cut: blanks become `content`, which is also put before a piece without it, if `prepend` */
    SPLIT_TO_ALPHABET,  /* no cut: bytes become letters of GPT-2's alphabet */
};

enum split_prepend { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS };

struct split_step {
    enum split_kind kind;
    enum split_how how;
    struct text_span pattern; /* a literal, or a regular expression if `regex` */
    struct text_span content;
    bool regex;
    bool own;    /* the expression is one of ours: linear in time, written for PCRE2 */
    bool invert; /* what matches and what does not change places */
    enum split_prepend prepend;
};

/* ---- models and decoding ---- */

enum model_kind {
    MODEL_BPE_BYTES,  /* merges over bytes, written in GPT-2's alphabet */
    MODEL_BPE_CHARS,  /* merges over characters */
    MODEL_BPE_SCORES, /* SentencePiece: the best-scored token that two neighbours make */
    MODEL_UNIGRAM,
    MODEL_WORDPIECE,
};

/* What a token decodes to; the pieces of a text, joined, are the text. */
struct decode_rules {
    bool byte_alphabet;           /* tokens are written in GPT-2's alphabet */
    bool byte_tokens;             /* <0xXX> is a byte, also where the file does not say so */
    struct text_span blank;       /* becomes ' ' wherever it stands ("▁") */
    struct text_span word_suffix; /* becomes ' ' at a token's end ("</w>") */
    struct text_span continues;   /* dropped at a token's beginning ("##"); tokens without it begin with ' ' */
    int strip_left;               /* blanks dropped at the beginning of a text */
};

struct tokenizer_rules {
    enum model_kind model;
    const struct normal_step *normalize;
    int n_normalize;
    const struct split_step *split;
    int n_split;
    bool ignore_merges;            /* words that are tokens are taken whole */
    bool byte_fallback;            /* characters without a token become <0xXX> tokens */
    bool fuse_unknown;             /* neighbouring unknown characters are one unknown token */
    struct text_span continues;    /* WordPiece: before the pieces of a word that do not begin it */
    int64_t max_word;              /* WordPiece: characters; longer words are unknown */
    const int32_t *before, *after; /* ids that TOKENIZE_ADD puts around a text */
    int n_before, n_after;
    struct decode_rules decode;
};

#endif
