/* Byte-pair encoding over characters, with <0xXX> tokens for those that the vocabulary lacks: merges from a list
 * (Hugging Face's form of SentencePiece vocabularies) or by the scores of tokens (SentencePiece's own). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/bpe_tables.h"
#include "text/token_model.h"
#include "text/unicode.h"
#include "text/utf8.h"

struct char_slot {
    int32_t c_plus; /* the character + 1; 0 is an empty slot */
    int32_t id;
};

struct char_model {
    int64_t n; /* tokens; a symbol from n on is a character that only stands inside of tokens */
    struct bpe_merges merges;
    struct char_slot *slots; /* open addressing, linear probing */
    uint64_t mask;
    int32_t *inner, n_inner; /* the characters of symbols n, n + 1, … */
    int32_t byte_id[256];
    int32_t unk;
    bool byte_fallback, fuse_unknown;
    bool cuts, joins[256];
    const struct vocabulary *v; /* while building */
    struct text_index words;    /* where words are taken whole */
    struct text_span *word;
    char *text;
};

static struct char_slot *slot_of(const struct char_model *m, int32_t c)
{
    uint64_t i = (uint64_t)c * 0x9e3779b97f4a7c15u >> 32 & m->mask;
    while (m->slots[i].c_plus && m->slots[i].c_plus != c + 1)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

/* The symbol of a character, or -1. */
static int32_t char_symbol(const struct char_model *m, int32_t c)
{
    const struct char_slot *s = slot_of(m, c);
    return s->c_plus ? s->id : -1;
}

/* Room for all characters of the vocabulary; those that are tokens get their ids. */
static cadre_err index_chars(struct char_model *m, const struct vocabulary *v, bool inner, cadre_error *err)
{
    uint64_t n = 0, size = 256;
    for (int64_t i = 0; i < m->n; i++)
        n += inner ? v->tables->tokens[i].n : v->tables->tokens[i].n <= 4;
    n = n < 0x110000 ? n : 0x110000;
    while (size < 2 * n)
        size *= 2;
    m->mask = size - 1;
    m->slots = calloc(size, sizeof *m->slots);
    m->inner = inner ? malloc((n + 1) * sizeof *m->inner) : NULL;
    CHECK(err, m->slots && (m->inner || !inner), CADRE_E_MEMORY, "no memory for %llu characters",
          (unsigned long long)n);
    for (int64_t i = 0; i < m->n; i++) {
        const struct text_span *t = &v->tables->tokens[i];
        int len;
        int32_t c = t->n ? unicode_read(t->p, t->n, &len) : -1;
        if (c >= 0 && (uint64_t)len == t->n)
            *slot_of(m, c) = (struct char_slot){c + 1, (int32_t)i};
    }
    for (int64_t i = 0; inner && i < m->n; i++) {
        const struct text_span *t = &v->tables->tokens[i];
        int len;
        for (uint64_t at = 0; at < t->n; at += (uint64_t)len) {
            int32_t c = unicode_read(t->p + at, t->n - at, &len);
            struct char_slot *s = c >= 0 ? slot_of(m, c) : NULL;
            if (!s || s->c_plus)
                continue;
            *s = (struct char_slot){c + 1, (int32_t)(m->n + m->n_inner)};
            m->inner[m->n_inner++] = c;
        }
    }
    return CADRE_OK;
}

static void find_bytes(struct char_model *m, const struct vocabulary *v)
{
    for (int b = 0; b < 256; b++) {
        char name[8], raw = (char)b;
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte_id[b] = vocabulary_find(v, name, 6);
        if (m->byte_id[b] < 0 && v->rules->model == MODEL_BPE_SCORES)
            m->byte_id[b] = vocabulary_find(v, &raw, 1);
    }
}

static cadre_err check_bytes(const struct char_model *m, cadre_error *err)
{
    for (int b = 0; b < 256; b++)
        CHECK(err, m->byte_id[b] >= 0 || m->unk >= 0, CADRE_E_FORMAT,
              "the vocabulary has no token <0x%02X>, nor an unknown token to stand for it", b);
    return CADRE_OK;
}

/* A merge never makes a token that is not there: where no result of a merge has a byte c before a "▁", none crosses
 * such a place, and words may be cut there. */
static void find_joins(struct char_model *m, const struct vocabulary *v)
{
    m->cuts = char_symbol(m, 0x2581) >= 0 && char_symbol(m, 0x2581) < m->n && !v->rules->ignore_merges;
    for (uint64_t i = 0; m->cuts && i <= m->merges.mask; i++) {
        const struct bpe_pair *pair = &m->merges.slots[i];
        if (pair->left < 0)
            continue;
        const struct text_span *t = &v->tables->tokens[pair->id];
        for (uint64_t k = 1; k + 3 <= t->n; k++)
            if (memcmp(t->p + k, "\xe2\x96\x81", 3) == 0)
                m->joins[(unsigned char)t->p[k - 1]] = true;
    }
}

static cadre_err index_words(struct char_model *m, const struct vocabulary *v, cadre_error *err)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < m->n; i++)
        bytes += v->tables->tokens[i].n;
    m->text = malloc(bytes + 1);
    m->word = malloc((size_t)m->n * sizeof *m->word);
    CHECK(err, m->text && m->word, CADRE_E_MEMORY, "no memory for %lld words", (long long)m->n);
    TRY(text_index_init(&m->words, m->n, err));
    char *end = m->text;
    for (int64_t i = 0; i < m->n; i++) {
        m->word[i] = (struct text_span){end, v->tables->tokens[i].n};
        if (m->word[i].n)
            memcpy(end, v->tables->tokens[i].p, m->word[i].n);
        end += m->word[i].n;
        text_index_add(&m->words, m->word, (int32_t)i);
    }
    return CADRE_OK;
}

static void free_model(void *model)
{
    struct char_model *m = model;
    bpe_merges_free(&m->merges);
    text_index_free(&m->words);
    free(m->slots);
    free(m->inner);
    free(m->word);
    free(m->text);
    free(m);
}

static int32_t symbol_of(void *model, const char *p, size_t n)
{
    const struct char_model *m = model;
    int len;
    int32_t c = unicode_read(p, n, &len);
    if (c >= 0 && (size_t)len == n)
        return char_symbol(m, c);
    return vocabulary_find(m->v, p, n);
}

static cadre_err build(void **out, const struct vocabulary *v, bool scores, cadre_error *err)
{
    struct char_model *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a tokenizer");
    m->n = v->tables->n_tokens;
    m->unk = v->tables->unk;
    m->byte_fallback = v->rules->byte_fallback;
    m->fuse_unknown = v->rules->fuse_unknown;
    m->v = v;
    cadre_err rc = CADRE_OK;
    find_bytes(m, v);
    if (scores)
        TRY_OUT(check_bytes(m, err));
    TRY_OUT(index_chars(m, v, scores, err));
    TRY_OUT(scores ? bpe_merges_of_scores(&m->merges, v, symbol_of, m, err) : bpe_merges_of_list(&m->merges, v, err));
    find_joins(m, v);
    if (v->rules->ignore_merges)
        TRY_OUT(index_words(m, v, err));
    m->v = NULL;
    *out = m;
    return CADRE_OK;
out:
    free_model(m);
    return rc;
}

static cadre_err build_list(void **out, const struct vocabulary *v, cadre_error *err)
{
    return build(out, v, false, err);
}

static cadre_err build_scores(void **out, const struct vocabulary *v, cadre_error *err)
{
    return build(out, v, true, err);
}

/* What stands for the bytes of a character that has no symbol; at most n ids. */
static size_t unknown(const struct char_model *m, const char *p, size_t n, bool after_unknown, int32_t *ids, bool *unk)
{
    *unk = false;
    bool bytes = m->byte_fallback;
    for (size_t i = 0; i < n; i++)
        bytes &= m->byte_id[(unsigned char)p[i]] >= 0;
    for (size_t i = 0; bytes && i < n; i++)
        ids[i] = m->byte_id[(unsigned char)p[i]];
    if (bytes)
        return n;
    *unk = m->unk >= 0;
    ids[0] = m->unk;
    return *unk && !(m->fuse_unknown && after_unknown) ? 1 : 0;
}

static cadre_err put_symbols(const struct char_model *m, const int32_t *symbols, size_t n, struct token_ids *out,
                             cadre_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (symbols[i] < m->n) {
            TRY(token_ids_put(out, &symbols[i], 1, err));
            continue;
        }
        char bytes[4];
        int32_t ids[4];
        bool unk;
        int len = unicode_write(m->inner[symbols[i] - m->n], bytes);
        TRY(token_ids_put(out, ids, unknown(m, bytes, (size_t)len, false, ids, &unk), err));
    }
    return CADRE_OK;
}

static cadre_err encode(const void *model, struct model_work *w, const char *p, size_t n, struct token_ids *out,
                        cadre_error *err)
{
    const struct char_model *m = model;
    int32_t whole = m->words.slots ? text_index_find(&m->words, m->word, p, n) : -1;
    if (whole >= 0)
        return token_ids_put(out, &whole, 1, err);
    TRY(bpe_work_reserve(&w->bpe, n, err));
    int32_t *ids = w->bpe.ids;
    size_t k = 0;
    bool after_unknown = false;
    int len;
    for (size_t i = 0; i < n; i += (size_t)len) {
        int32_t c = unicode_read(p + i, n - i, &len);
        int32_t id = c >= 0 ? char_symbol(m, c) : -1;
        if (id >= 0) {
            ids[k++] = id;
            after_unknown = false;
        } else {
            k += unknown(m, p + i, (size_t)len, after_unknown, ids + k, &after_unknown);
        }
    }
    k = bpe_merge(&m->merges, &w->bpe, k);
    return m->n_inner ? put_symbols(m, ids, k, out, err) : token_ids_put(out, ids, k, err);
}

static const bool *joins(const void *model)
{
    const struct char_model *m = model;
    return m->cuts ? m->joins : NULL;
}

const struct token_model model_bpe_chars = {build_list, encode, free_model, joins};
const struct token_model model_bpe_scores = {build_scores, encode, free_model, joins};
