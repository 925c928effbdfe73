/* WordPiece: at each place of a word the longest token that fits; a word that cannot be covered is unknown as a whole.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/token_model.h"
#include "text/utf8.h"

/* Looking for a token takes time that grows with the square of its length: longer ones are never found. */
enum { LONGEST = 256 };

struct wordpiece {
    struct text_index index;
    struct text_span *token; /* [n] into text */
    char *text, *continues;
    size_t n_continues, longest;
    int64_t max_word;
    int32_t unk;
};

static void free_model(void *model)
{
    struct wordpiece *m = model;
    text_index_free(&m->index);
    free(m->token);
    free(m->text);
    free(m->continues);
    free(m);
}

static cadre_err fill(struct wordpiece *m, const struct vocabulary *v, cadre_error *err)
{
    const struct tokenizer_tables *t = v->tables;
    uint64_t bytes = 0;
    for (int64_t i = 0; i < t->n_tokens; i++)
        bytes += t->tokens[i].n;
    m->n_continues = v->rules->continues.n;
    m->text = malloc(bytes + 1);
    m->token = malloc((size_t)t->n_tokens * sizeof *m->token);
    m->continues = malloc(m->n_continues + 1);
    CHECK(err, m->text && m->token && m->continues, CADRE_E_MEMORY, "no memory for %lld tokens",
          (long long)t->n_tokens);
    if (m->n_continues)
        memcpy(m->continues, v->rules->continues.p, m->n_continues);
    TRY(text_index_init(&m->index, t->n_tokens, err));
    char *end = m->text;
    for (int64_t i = 0; i < t->n_tokens; i++) {
        uint64_t n = t->tokens[i].n;
        m->token[i] = (struct text_span){end, n};
        if (n)
            memcpy(end, t->tokens[i].p, n);
        end += n;
        if (n > m->longest && n <= LONGEST)
            m->longest = n;
        text_index_add(&m->index, m->token, (int32_t)i);
    }
    return CADRE_OK;
}

static cadre_err build(void **out, const struct vocabulary *v, cadre_error *err)
{
    CHECK(err, v->tables->unk >= 0, CADRE_E_FORMAT, "a WordPiece vocabulary needs an unknown token");
    struct wordpiece *m = calloc(1, sizeof *m);
    CHECK(err, m, CADRE_E_MEMORY, "no memory for a tokenizer");
    m->unk = v->tables->unk;
    m->max_word = v->rules->max_word;
    cadre_err rc = fill(m, v, err);
    if (rc) {
        free_model(m);
        return rc;
    }
    *out = m;
    return CADRE_OK;
}

/* The longest token at text[0, n) that ends at the end of a character; its length without `skip` bytes into *len. */
static int32_t longest_token(const struct wordpiece *m, const char *text, size_t n, size_t skip, size_t *len)
{
    size_t k = n < m->longest ? n : m->longest;
    for (; k > skip; k--) {
        if (k < n && ((unsigned char)text[k] & 0xc0) == 0x80)
            continue;
        int32_t id = text_index_find(&m->index, m->token, text, k);
        if (id >= 0) {
            *len = k - skip;
            return id;
        }
    }
    return -1;
}

static int64_t count_chars(const char *p, size_t n)
{
    int64_t chars = 0;
    for (size_t i = 0; i < n; chars++) {
        int len = utf8_char((const unsigned char *)p + i, n - i);
        i += len > 0 ? (size_t)len : 1;
    }
    return chars;
}

static cadre_err encode(const void *model, struct model_work *w, const char *p, size_t n, struct token_ids *out,
                        cadre_error *err)
{
    const struct wordpiece *m = model;
    size_t begin = out->n;
    uint64_t need;
    CHECK(err, add_ok(n, m->n_continues, &need), CADRE_E_ARG, "a word of %zu bytes is too long", n);
    if (need > w->word_capacity) {
        char *word = realloc(w->word, need);
        CHECK(err, word, CADRE_E_MEMORY, "no memory for a word of %zu bytes", n);
        w->word = word, w->word_capacity = need;
    }
    bool whole = m->max_word == 0 || count_chars(p, n) <= m->max_word;
    for (size_t at = 0, len; whole && at < n; at += len) {
        int32_t id;
        if (at == 0 || m->n_continues == 0) {
            id = longest_token(m, p + at, n - at, 0, &len);
        } else {
            /* The prefix takes the place of what came before. */
            size_t rest = n - at;
            memcpy(w->word, m->continues, m->n_continues);
            memcpy(w->word + m->n_continues, p + at, rest < m->longest ? rest : m->longest);
            size_t seen = m->n_continues + (rest < m->longest ? rest : m->longest);
            id = longest_token(m, w->word, seen, m->n_continues, &len);
        }
        whole = id >= 0;
        if (whole)
            TRY(token_ids_put(out, &id, 1, err));
    }
    if (whole)
        return CADRE_OK;
    out->n = begin;
    return token_ids_put(out, &m->unk, 1, err);
}

const struct token_model model_wordpiece = {build, encode, free_model, NULL};
