/* Byte-pair encoding over bytes: GPT-2's alphabet. */
#include <stdlib.h>
#include <string.h>

#include "text/bpe_tables.h"
#include "text/byte_alphabet.h"
#include "text/token_model.h"

struct byte_model {
    struct bpe_merges merges;
    int32_t byte_id[256];    /* -1: no token */
    struct text_index words; /* where words are taken whole: tokens by the bytes they decode to */
    struct text_span *word;
    char *text;
};

static bool in_alphabet(unsigned char kind)
{
    return kind == TOKEN_NORMAL || kind == TOKEN_BYTE || kind == TOKEN_UNUSED;
}

static void find_bytes(struct byte_model *m, const struct vocabulary *v)
{
    for (int b = 0; b < 256; b++) {
        char letter[2];
        size_t n = byte_to_alphabet((unsigned char)b, letter);
        int32_t id = vocabulary_find(v, letter, n);
        m->byte_id[b] = id >= 0 && in_alphabet(v->kind[id]) ? id : -1;
    }
}

static cadre_err index_words(struct byte_model *m, const struct vocabulary *v, cadre_error *err)
{
    int64_t n = v->tables->n_tokens;
    uint64_t bytes = 0;
    for (int64_t i = 0; i < n; i++)
        bytes += v->piece[i].n;
    m->text = malloc(bytes + 1);
    m->word = malloc((size_t)n * sizeof *m->word);
    CHECK(err, m->text && m->word, CADRE_E_MEMORY, "no memory for %lld words", (long long)n);
    TRY(text_index_init(&m->words, n, err));
    char *end = m->text;
    for (int64_t i = 0; i < n; i++) {
        m->word[i] = (struct text_span){end, v->piece[i].n};
        memcpy(end, v->piece[i].p, v->piece[i].n);
        end += v->piece[i].n;
        if (v->kind[i] == TOKEN_NORMAL)
            text_index_add(&m->words, m->word, (int32_t)i);
    }
    return CADRE_OK;
}

static void free_model(void *model)
{
    struct byte_model *m = model;
    bpe_merges_free(&m->merges);
    text_index_free(&m->words);
    free(m->word);
    free(m->text);
    free(m);
}

static cadre_err build(void **out, const struct vocabulary *v, cadre_error *err)
{
    struct byte_model *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a tokenizer");
    cadre_err rc = CADRE_OK;
    find_bytes(m, v);
    TRY_OUT(bpe_merges_of_list(&m->merges, v, err));
    if (v->rules->ignore_merges)
        TRY_OUT(index_words(m, v, err));
    *out = m;
    return CADRE_OK;
out:
    free_model(m);
    return rc;
}

/* Bytes without a token (Falcon and StarCoder lack those that no character of their training data begins with) give
 * none, as in other tokenizers, and nothing merges across them. */
static cadre_err encode(const void *model, struct model_work *w, const char *p, size_t n, struct token_ids *out,
                        cadre_error *err)
{
    const struct byte_model *m = model;
    if (n == 1 && m->byte_id[(unsigned char)*p] >= 0)
        return token_ids_put(out, &m->byte_id[(unsigned char)*p], 1, err);
    int32_t whole = m->words.slots ? text_index_find(&m->words, m->word, p, n) : -1;
    if (whole >= 0)
        return token_ids_put(out, &whole, 1, err);
    TRY(bpe_work_reserve(&w->bpe, n, err));
    for (size_t i = 0; i < n; i++) {
        int32_t id;
        size_t k = 0;
        for (; i < n && (id = m->byte_id[(unsigned char)p[i]]) >= 0; i++)
            w->bpe.ids[k++] = id;
        if (k > 0)
            TRY(token_ids_put(out, w->bpe.ids, bpe_merge(&m->merges, &w->bpe, k), err));
    }
    return CADRE_OK;
}

const struct token_model model_bpe_bytes = {build, encode, free_model, NULL};
