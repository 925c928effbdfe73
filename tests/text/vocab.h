/* A small vocabulary for tests: the 256 bytes (id = byte + n of specials before), merges as given, their results as
 * tokens. Everything is static, one per test program at a time. */
#ifndef CADRE_TESTS_TEXT_VOCAB_H
#define CADRE_TESTS_TEXT_VOCAB_H

#include "test.h"

#include "text/byte_alphabet.h"
#include "text/tokenizer.h"

enum { VOCAB_MAX = 400 };

struct vocab {
    struct tokenizer_tables tables;
    struct text_span tokens[VOCAB_MAX], merges[VOCAB_MAX];
    int32_t kinds[VOCAB_MAX];
    char letters[256][2];
    char joined[VOCAB_MAX][64];
};

static inline void vocab_add(struct vocab *v, const char *text, int32_t kind)
{
    assert_true(v->tables.n_tokens < VOCAB_MAX);
    v->kinds[v->tables.n_tokens] = kind;
    v->tokens[v->tables.n_tokens++] = (struct text_span){text, strlen(text)};
}

/* "left right": also adds the token "leftright" unless it is there. */
static inline void vocab_merge(struct vocab *v, const char *merge)
{
    char *joined = v->joined[v->tables.n_merges];
    size_t left = strcspn(merge, " ");
    snprintf(joined, sizeof v->joined[0], "%.*s%s", (int)left, merge, merge + left + 1);
    v->merges[v->tables.n_merges++] = (struct text_span){merge, strlen(merge)};
    for (int64_t i = 0; i < v->tables.n_tokens; i++)
        if (v->tokens[i].n == strlen(joined) && memcmp(v->tokens[i].p, joined, v->tokens[i].n) == 0)
            return;
    vocab_add(v, joined, TOKEN_NORMAL);
}

/* Bytes are ids 0 to 255. */
static inline void vocab_init(struct vocab *v, const char *pre)
{
    memset(v, 0, sizeof *v);
    v->tables = (struct tokenizer_tables){.model = "gpt2",
                                          .pre = pre,
                                          .tokens = v->tokens,
                                          .kinds = v->kinds,
                                          .merges = v->merges,
                                          .bos = -1,
                                          .eos = -1,
                                          .eot = -1,
                                          .eom = -1,
                                          .sep = -1,
                                          .mask = -1,
                                          .unk = -1,
                                          .pad = -1};
    for (int b = 0; b < 256; b++) {
        size_t n = byte_to_alphabet((unsigned char)b, v->letters[b]);
        v->tokens[b] = (struct text_span){v->letters[b], n};
        v->kinds[b] = TOKEN_NORMAL;
    }
    v->tables.n_tokens = 256;
}

/* The tokens joined are the text. */
static inline void assert_decodes_to(const struct tokenizer *t, const int32_t *ids, size_t n, const char *text,
                                     size_t n_text)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        const char *p;
        size_t k = tokenizer_piece(t, ids[i], true, &p);
        assert_true(k <= n_text - at);
        assert_memory_equal(text + at, p, k);
        at += k;
    }
    assert_int_equal(at, n_text);
}

#endif
