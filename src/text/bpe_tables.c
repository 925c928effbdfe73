#include "text/bpe_tables.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/utf8.h"

/* ---- from a list ---- */

/* "left right" to ids. Usually there is one blank; where tokens hold blanks themselves, the first that separates two
 * tokens whose joined text is a token counts. */
static bool read_merge(const struct vocabulary *v, const struct text_span *m, char *joined, struct bpe_pair *pair)
{
    enum { TRIES = 64 }; /* of a hostile merge every blank would be hashed with all that is around it */
    const char *end = m->p + m->n, *blank = m->p + 1;
    for (int tries = 0; tries < TRIES && blank < end; tries++, blank++) {
        blank = memchr(blank, ' ', (size_t)(end - blank));
        if (!blank || blank + 1 == end)
            break;
        size_t n_left = (size_t)(blank - m->p), n_right = m->n - n_left - 1;
        memcpy(joined, m->p, n_left);
        memcpy(joined + n_left, blank + 1, n_right);
        pair->left = vocabulary_find(v, m->p, n_left);
        pair->right = vocabulary_find(v, blank + 1, n_right);
        const char *tail = joined + n_left;
        const struct text_span continues = v->rules->continues;
        if (continues.n > 0 && n_right >= continues.n && memcmp(tail, continues.p, continues.n) == 0)
            memmove(joined + n_left, tail + continues.n, n_right -= continues.n);
        pair->id = vocabulary_find(v, joined, n_left + n_right);
        if (pair->left >= 0 && pair->right >= 0 && pair->id >= 0)
            return true;
    }
    return false;
}

static cadre_err refuse_merge(const struct vocabulary *v, int64_t rank, cadre_error *err)
{
    const struct text_span *m = &v->tables->merges[rank];
    const char *blank = m->n > 1 ? memchr(m->p + 1, ' ', m->n - 1) : NULL;
    int shown = (int)min_i64((int64_t)m->n, 80);
    if (!blank || blank + 1 == m->p + m->n)
        return error_set(err, CADRE_E_FORMAT, "merge %lld is '%.*s'; expected two tokens with a blank between",
                         (long long)rank, shown, m->p ? m->p : "");
    size_t n_left = (size_t)(blank - m->p);
    const char *wrong = vocabulary_find(v, m->p, n_left) < 0                   ? "left part"
                        : vocabulary_find(v, blank + 1, m->n - n_left - 1) < 0 ? "right part"
                                                                               : "result";
    return error_set(err, CADRE_E_FORMAT, "merge %lld is '%.*s'; its %s is no token of the vocabulary", (long long)rank,
                     shown, m->p, wrong);
}

cadre_err bpe_merges_of_list(struct bpe_merges *m, const struct vocabulary *v, cadre_error *err)
{
    const struct tokenizer_tables *from = v->tables;
    uint64_t longest = 1;
    for (int64_t i = 0; i < from->n_merges; i++)
        longest = from->merges[i].n > longest ? from->merges[i].n : longest;
    char *joined = malloc(longest);
    CHECK(err, joined, CADRE_E_MEMORY, "no memory for a merge of %llu bytes", (unsigned long long)longest);
    cadre_err rc = bpe_merges_init(m, from->n_merges, err);
    for (int64_t i = 0; i < from->n_merges && rc == CADRE_OK; i++) {
        struct bpe_pair pair = {.rank = (int32_t)i};
        if (from->merges[i].n > 0 && read_merge(v, &from->merges[i], joined, &pair))
            bpe_merges_add(m, pair);
        else
            rc = refuse_merge(v, i, err);
    }
    free(joined);
    return rc;
}

/* ---- from scores ---- */

struct scored {
    double score;
    int32_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* rank[id]: how many different scores are better. */
static cadre_err rank_tokens(const struct tokenizer_tables *t, int32_t *rank, cadre_error *err)
{
    struct scored *order = malloc((size_t)t->n_tokens * sizeof *order);
    CHECK(err, order, CADRE_E_MEMORY, "no memory to order %lld tokens", (long long)t->n_tokens);
    for (int64_t i = 0; i < t->n_tokens; i++)
        order[i] = (struct scored){t->scores ? (double)t->scores[i] : 0, (int32_t)i};
    qsort(order, (size_t)t->n_tokens, sizeof *order, by_score);
    int32_t r = 0;
    for (int64_t i = 0; i < t->n_tokens; i++) {
        r += i > 0 && order[i].score != order[i - 1].score;
        rank[order[i].id] = r;
    }
    free(order);
    return CADRE_OK;
}

struct pairs {
    struct bpe_pair *p;
    int64_t n, capacity;
};

static cadre_err add_pair(struct pairs *a, struct bpe_pair pair, cadre_error *err)
{
    if (a->n == a->capacity) {
        int64_t capacity = a->capacity ? 2 * a->capacity : 4096;
        struct bpe_pair *p = realloc(a->p, (size_t)capacity * sizeof *p);
        CHECK(err, p, CADRE_E_MEMORY, "no memory for %lld merges", (long long)capacity);
        a->p = p, a->capacity = capacity;
    }
    a->p[a->n++] = pair;
    return CADRE_OK;
}

/* Cut one token in two at every character. The work is quadratic in its length, so that no token longer than 256 bytes
 * is looked at: the longest of published vocabularies have less than 100. */
static cadre_err cut_token(struct pairs *a, const struct text_span *token, int32_t id, int32_t rank,
                           symbol_fn *symbol_of, void *arg, cadre_error *err)
{
    enum { LONGEST = 256 };
    if (token->n > LONGEST)
        return CADRE_OK;
    for (size_t i = 0; i < token->n;) {
        int len = utf8_char((const unsigned char *)token->p + i, token->n - i);
        i += len > 0 ? (size_t)len : 1;
        if (i >= token->n)
            break;
        struct bpe_pair pair = {.rank = rank, .id = id};
        if ((pair.left = symbol_of(arg, token->p, i)) >= 0 &&
            (pair.right = symbol_of(arg, token->p + i, token->n - i)) >= 0)
            TRY(add_pair(a, pair, err));
    }
    return CADRE_OK;
}

cadre_err bpe_merges_of_scores(struct bpe_merges *m, const struct vocabulary *v, symbol_fn *symbol_of, void *arg,
                               cadre_error *err)
{
    const struct tokenizer_tables *t = v->tables;
    cadre_err rc = CADRE_OK;
    struct pairs pairs = {0};
    int32_t *rank = malloc((size_t)t->n_tokens * sizeof *rank);
    CHECK(err, rank, CADRE_E_MEMORY, "no memory to order %lld tokens", (long long)t->n_tokens);
    TRY_OUT(rank_tokens(t, rank, err));
    for (int64_t i = 0; i < t->n_tokens; i++)
        TRY_OUT(cut_token(&pairs, &t->tokens[i], (int32_t)i, rank[i], symbol_of, arg, err));
    TRY_OUT(bpe_merges_init(m, pairs.n, err));
    for (int64_t i = 0; i < pairs.n; i++)
        bpe_merges_add(m, pairs.p[i]);
out:
    free(pairs.p);
    free(rank);
    return rc;
}
