/* Unigram: of all ways to write a word as tokens, the one with the best sum of scores (Viterbi). A character that no
 * token covers is unknown, at the worst score minus 10 (Kudo 2018, arXiv:1804.10959; SentencePiece's penalty). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/checked.h"
#include "text/token_model.h"
#include "text/utf8.h"

/* A trie as a hash table from (node, byte) to node; node 0 is the root. */
struct trie_slot {
    uint64_t key_plus; /* node << 8 | byte, + 1; 0 is an empty slot */
    int32_t node;
};

struct unigram {
    struct trie_slot *slots;
    uint64_t mask;
    int32_t n_nodes, capacity;
    int32_t *id;   /* [n_nodes] the token that ends there, or -1 */
    double *score; /* [n_tokens] */
    double unknown_score;
    int32_t unk, byte_id[256];
    bool byte_fallback;
};

static struct trie_slot *slot_of(const struct unigram *m, uint64_t key)
{
    uint64_t i = (key * 0x9e3779b97f4a7c15u >> 24) & m->mask;
    while (m->slots[i].key_plus && m->slots[i].key_plus != key + 1)
        i = (i + 1) & m->mask;
    return &m->slots[i];
}

static int32_t child(const struct unigram *m, int32_t node, char byte)
{
    const struct trie_slot *s = slot_of(m, (uint64_t)(uint32_t)node << 8 | (unsigned char)byte);
    return s->key_plus ? s->node : -1;
}

/* Twice as many nodes as before, at most half of the slots used. */
static cadre_err grow(struct unigram *m, cadre_error *err)
{
    int32_t capacity = m->capacity ? 2 * m->capacity : 4096;
    CHECK(err, capacity > 0 && capacity <= 1 << 29, CADRE_E_FORMAT, "the vocabulary is too large for a trie");
    struct unigram old = *m;
    int32_t *id = realloc(m->id, (size_t)capacity * sizeof *id);
    if (id)
        m->id = id;
    struct trie_slot *slots = calloc(2 * (size_t)capacity, sizeof *slots);
    if (!id || !slots) {
        free(slots);
        return error_set(err, CADRE_E_MEMORY, "no memory for a trie of %d nodes", capacity);
    }
    m->slots = slots;
    m->mask = 2 * (uint64_t)capacity - 1;
    m->capacity = capacity;
    for (uint64_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].key_plus)
            *slot_of(m, old.slots[i].key_plus - 1) = old.slots[i];
    free(old.slots);
    return CADRE_OK;
}

static cadre_err insert(struct unigram *m, const struct text_span *text, int32_t id, cadre_error *err)
{
    int32_t node = 0;
    for (uint64_t i = 0; i < text->n; i++) {
        if (m->n_nodes == m->capacity)
            TRY(grow(m, err));
        uint64_t key = (uint64_t)(uint32_t)node << 8 | (unsigned char)text->p[i];
        struct trie_slot *s = slot_of(m, key);
        if (!s->key_plus) {
            *s = (struct trie_slot){key + 1, m->n_nodes};
            m->id[m->n_nodes++] = -1;
        }
        node = s->node;
    }
    if (node > 0)
        m->id[node] = id;
    return CADRE_OK;
}

static bool matches(unsigned char kind)
{
    return kind == TOKEN_NORMAL || kind == TOKEN_USER_DEFINED || kind == TOKEN_UNUSED;
}

static cadre_err fill(struct unigram *m, const struct vocabulary *v, cadre_error *err)
{
    const struct tokenizer_tables *t = v->tables;
    m->score = malloc((size_t)t->n_tokens * sizeof *m->score);
    CHECK(err, m->score, CADRE_E_MEMORY, "no memory for %lld scores", (long long)t->n_tokens);
    TRY(grow(m, err));
    m->id[m->n_nodes++] = -1;
    double least = INFINITY;
    for (int64_t i = 0; i < t->n_tokens; i++) {
        m->score[i] = v->kind[i] == TOKEN_USER_DEFINED ? 0 : t->scores ? (double)t->scores[i] : 0;
        if (v->kind[i] == TOKEN_NORMAL && m->score[i] < least)
            least = m->score[i];
        if (matches(v->kind[i]))
            TRY(insert(m, &t->tokens[i], (int32_t)i, err));
    }
    m->unknown_score = (isfinite(least) ? least : 0) - 10;
    return CADRE_OK;
}

static void free_model(void *model)
{
    struct unigram *m = model;
    free(m->slots);
    free(m->id);
    free(m->score);
    free(m);
}

static cadre_err build(void **out, const struct vocabulary *v, cadre_error *err)
{
    CHECK(err, v->tables->unk >= 0, CADRE_E_FORMAT, "a unigram vocabulary needs an unknown token");
    struct unigram *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a tokenizer");
    m->unk = v->tables->unk;
    m->byte_fallback = v->rules->byte_fallback;
    for (int b = 0; b < 256; b++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", b);
        m->byte_id[b] = vocabulary_find(v, name, 6);
        m->byte_fallback &= m->byte_id[b] >= 0;
    }
    cadre_err rc = fill(m, v, err);
    if (rc) {
        free_model(m);
        return rc;
    }
    *out = m;
    return CADRE_OK;
}

/* The best way to write the bytes before a place: its last token, which begins at `start`. */
struct best_cell {
    double score;
    size_t start;
    int32_t id;
};

static cadre_err reserve_cells(struct model_work *w, size_t n, cadre_error *err)
{
    uint64_t need, bytes;
    if (n < w->n_cells)
        return CADRE_OK;
    CHECK(err, add_ok(n + n / 2, 64, &need) && mul_ok(need, sizeof *w->cells, &bytes), CADRE_E_ARG,
          "a word of %zu bytes is too long", n);
    struct best_cell *cells = realloc(w->cells, bytes);
    CHECK(err, cells, CADRE_E_MEMORY, "no memory for a word of %zu bytes", n);
    w->cells = cells;
    w->n_cells = need;
    return CADRE_OK;
}

static void improve(struct best_cell *cell, double score, size_t start, int32_t id)
{
    if (score > cell->score)
        *cell = (struct best_cell){score, start, id};
}

static void search(const struct unigram *m, struct best_cell *cell, const char *p, size_t n)
{
    for (size_t i = 0; i <= n; i++)
        cell[i] = (struct best_cell){i ? -INFINITY : 0, 0, m->unk};
    for (size_t i = 0; i < n;) {
        int len = utf8_char((const unsigned char *)p + i, n - i);
        size_t next = i + (len > 0 ? (size_t)len : 1);
        bool covered = false;
        int32_t node = 0;
        for (size_t k = i; k < n && (node = child(m, node, p[k])) >= 0; k++) {
            int32_t id = m->id[node];
            if (id < 0)
                continue;
            covered |= k + 1 == next;
            improve(&cell[k + 1], cell[i].score + m->score[id], i, id);
        }
        if (!covered)
            improve(&cell[next], cell[i].score + m->unknown_score, i, m->unk);
        i = next;
    }
}

static cadre_err encode(const void *model, struct model_work *w, const char *p, size_t n, struct token_ids *out,
                        cadre_error *err)
{
    const struct unigram *m = model;
    if (n == 0)
        return CADRE_OK;
    TRY(reserve_cells(w, n, err));
    TRY(token_ids_reserve(out, n, err)); /* a token has at least one byte */
    search(m, w->cells, p, n);
    size_t begin = out->n;
    /* Backwards; neighbouring unknown characters are one unknown token, or all their bytes. */
    for (size_t at = n, end; at > 0; at = end) {
        int32_t id = w->cells[at].id;
        end = w->cells[at].start;
        if (id == m->unk && m->byte_fallback) {
            for (size_t i = at; i > end; i--)
                out->p[out->n++] = m->byte_id[(unsigned char)p[i - 1]];
            continue;
        }
        while (id == m->unk && end > 0 && w->cells[end].id == m->unk)
            end = w->cells[end].start;
        out->p[out->n++] = id;
    }
    for (size_t i = begin, k = out->n; i + 1 < k; i++) {
        int32_t swap = out->p[i];
        out->p[i] = out->p[--k];
        out->p[k] = swap;
    }
    return CADRE_OK;
}

const struct token_model model_unigram = {build, encode, free_model, NULL};
