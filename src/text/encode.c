/* Text to ids.
 *
 * A word that the vocabulary cannot write is what its model says: bytes, the unknown token, nothing. Where the model is
 * byte-level with all 256 bytes, decoding gives every text back exactly. */
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/checked.h"
#include "text/tokenizer_internal.h"

/* A word that was encoded before in this call: where it is in the text and where its ids are in the output. */
struct seen {
    const char *p;
    size_t n;
    size_t ids, n_ids;
};

struct encoder {
    const struct tokenizer *t;
    struct token_ids out;
    struct model_work model;
    struct normalizer_work normal;
    struct text_keep kept; /* normalized stretches: words are remembered by their place */
    struct regex_match *match;
    struct splitter *splitter;
    struct seen *seen; /* direct-mapped by hash: a later word of the same slot replaces the earlier */
    uint64_t seen_mask;
    bool all; /* control tokens are matched too */
};

static cadre_err encode_word(struct encoder *e, const char *p, size_t n, cadre_error *err)
{
    struct seen *s = &e->seen[XXH3_64bits(p, n) & e->seen_mask];
    if (s->n == n && memcmp(s->p, p, n) == 0) {
        TRY(token_ids_reserve(&e->out, s->n_ids, err));
        memcpy(e->out.p + e->out.n, e->out.p + s->ids, s->n_ids * sizeof *e->out.p);
        e->out.n += s->n_ids;
        return CADRE_OK;
    }
    size_t before = e->out.n;
    TRY(e->t->model->encode(e->t->model_data, &e->model, p, n, &e->out, err));
    *s = (struct seen){p, n, before, e->out.n - before};
    return CADRE_OK;
}

/* A piece of the pre-tokenizer, cut further before each "▁" that no token crosses. */
static cadre_err encode_piece(void *arg, const char *p, size_t n, cadre_error *err)
{
    struct encoder *e = arg;
    const bool *joins = e->t->joins;
    if (!joins)
        return encode_word(e, p, n, err);
    const char *end = p + n, *begin = p;
    for (const char *at = p + 1; at + 3 <= end; at++) {
        at = memchr(at, 0xe2, (size_t)(end - at));
        if (!at || end - at < 3)
            break;
        if (at[1] == '\x96' && at[2] == '\x81' && !joins[(unsigned char)at[-1]]) {
            TRY(encode_word(e, begin, (size_t)(at - begin), err));
            begin = at;
        }
    }
    return encode_word(e, begin, (size_t)(end - begin), err);
}

/* Calls between(p, n) for the stretches of text without a token of s, and puts the tokens. */
typedef cadre_err stretch_fn(struct encoder *e, const char *p, size_t n, bool first, cadre_error *err);

static cadre_err around_specials(struct encoder *e, const struct special_tokens *s, const char *text, size_t n,
                                 bool first, stretch_fn *between, cadre_error *err)
{
    for (size_t at = 0; at < n;) {
        struct special_match m = special_tokens_next(s, text, n, at, e->all);
        if (m.start > at)
            TRY(between(e, text + at, m.start - at, first && at == 0, err));
        if (m.id >= 0)
            TRY(token_ids_put(&e->out, &m.id, 1, err));
        at = m.end;
    }
    return CADRE_OK;
}

static cadre_err encode_normal(struct encoder *e, const char *p, size_t n, bool first, cadre_error *err)
{
    return splitter_run(e->splitter, p, n, first, encode_piece, e, err);
}

static cadre_err encode_stretch(struct encoder *e, const char *p, size_t n, bool first, cadre_error *err)
{
    const char *normal = p;
    if (e->t->normalizer) {
        TRY(normalizer_run(e->t->normalizer, &e->normal, e->match, p, n, &normal, &n, err));
        if (normal != p)
            TRY(text_keep_copy(&e->kept, normal, n, &normal, err));
    }
    if (!special_tokens_any(&e->t->normalized))
        return encode_normal(e, normal, n, first, err);
    return around_specials(e, &e->t->normalized, normal, n, first, encode_normal, err);
}

/* Memory in proportion to the text, so that short prompts stay cheap. */
static cadre_err encoder_init(struct encoder *e, size_t n, cadre_error *err)
{
    uint64_t size = 64;
    while (size < n / 16 && size < 1 << 15)
        size *= 2;
    e->seen_mask = size - 1;
    e->seen = calloc(size, sizeof *e->seen);
    CHECK(err, e->seen, CADRE_E_MEMORY, "no memory to encode %zu bytes", n);
    TRY(splitter_new(&e->splitter, e->t->pre, err));
    TRY(regex_match_new(&e->match, err));
    return token_ids_reserve(&e->out, n / 3 + 16, err);
}

static void encoder_free(struct encoder *e)
{
    free(e->out.p);
    free(e->seen);
    splitter_free(e->splitter);
    regex_match_free(e->match);
    model_work_free(&e->model);
    normalizer_work_free(&e->normal);
    text_keep_free(&e->kept);
}

cadre_err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags, int32_t **ids,
                           size_t *n_ids, cadre_error *err)
{
    CHECK(err, text || n == 0, CADRE_E_ARG, "no text to encode, but a length of %zu", n);
    cadre_err rc = CADRE_OK;
    bool add = flags & TOKENIZE_ADD;
    struct encoder e = {.t = t, .all = flags & TOKENIZE_SPECIAL};
    TRY_OUT(encoder_init(&e, n, err));
    if (add)
        TRY_OUT(token_ids_put(&e.out, t->before, (size_t)t->n_before, err));
    TRY_OUT(around_specials(&e, &t->specials, text, n, true, encode_stretch, err));
    if (add)
        TRY_OUT(token_ids_put(&e.out, t->after, (size_t)t->n_after, err));
    *ids = e.out.p;
    *n_ids = e.out.n;
    e.out.p = NULL;
out:
    encoder_free(&e);
    return rc;
}
