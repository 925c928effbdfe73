/* The tokenizer: tables checked once and turned into lookups, then text to ids and back.
 *
 *     text ─special tokens─▶ stretches ─pre-tokenizer─▶ words ─merges─▶ ids
 *
 * A byte that the vocabulary has no token for (some were trained on valid text only) is encoded as U+FFFD; if that is
 * impossible too, as the unknown token. With all 256 bytes present, decoding gives every text back exactly. */
#include "text/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "base/checked.h"
#include "text/bpe.h"
#include "text/byte_alphabet.h"
#include "text/pretokenizer.h"
#include "text/special_tokens.h"
#include "text/text_index.h"

/* Names under which vocabularies keep what ends a turn or a text. Files forget to mark them, or mark them as
 * user-defined: a token of such a name is a control token, and generation stops at it. */
static const char *const end_names[] = {
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|return|>",
    "<|call|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|EOT|>",
    "<|end|>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};
enum { N_END_NAMES = sizeof end_names / sizeof *end_names };

struct tokenizer {
    int64_t n;
    char *text;              /* the bytes of all tokens, end to end */
    struct text_span *piece; /* [n], into text: what a token decodes to */
    unsigned char *kind;     /* [n] */
    int32_t bos, eos, eot;
    int32_t ends[N_END_NAMES]; /* the tokens of end_names that are there */
    int n_ends;
    bool add_bos, add_eos;
    int32_t byte_id[256];   /* -1: no token */
    int32_t replacement[3]; /* for bytes without a token */
    size_t n_replacement;
    struct bpe_merges merges;
    struct special_tokens specials;
    struct text_index words; /* normal tokens by their bytes; only where words are taken whole */
    struct pretokenizer *pre;
};

static bool in_alphabet(unsigned char kind)
{
    return kind == TOKEN_NORMAL || kind == TOKEN_BYTE || kind == TOKEN_UNUSED;
}

/* Shape of the tables: nothing is read through them before this has passed. */
static cadre_err check_tables(const struct tokenizer_tables *t, cadre_error *err)
{
    CHECK(err, t && t->model, CADRE_E_FORMAT, "the vocabulary names no tokenizer model");
    CHECK(err, strcmp(t->model, "gpt2") == 0, CADRE_E_UNSUPPORTED,
          "tokenizer model '%.60s' is not supported; expected 'gpt2' (byte-level BPE)", t->model);
    CHECK(err, t->n_tokens > 0 && t->n_tokens < INT32_MAX && t->tokens, CADRE_E_FORMAT,
          "a vocabulary of %lld tokens; expected 1 to %d", (long long)t->n_tokens, INT32_MAX - 1);
    CHECK(err, t->n_merges >= 0 && t->n_merges < INT32_MAX && (t->merges || t->n_merges == 0), CADRE_E_FORMAT,
          "%lld merges; expected 0 to %d", (long long)t->n_merges, INT32_MAX - 1);
    for (int64_t i = 0; i < t->n_tokens; i++) {
        CHECK(err, t->tokens[i].p || t->tokens[i].n == 0, CADRE_E_FORMAT, "token %lld has no text", (long long)i);
        CHECK(err, !t->kinds || (t->kinds[i] >= TOKEN_NORMAL && t->kinds[i] <= TOKEN_BYTE), CADRE_E_FORMAT,
              "token %lld is of kind %d; expected %d to %d", (long long)i, t->kinds[i], TOKEN_NORMAL, TOKEN_BYTE);
    }
    const struct {
        const char *name;
        int32_t id;
    } named[] = {{"BOS", t->bos}, {"EOS", t->eos}, {"EOT", t->eot}, {"unknown", t->unk}, {"padding", t->pad}};
    for (size_t i = 0; i < sizeof named / sizeof *named; i++)
        CHECK(err, named[i].id >= -1 && named[i].id < t->n_tokens, CADRE_E_FORMAT,
              "the %s token has id %d; expected -1 (none) to %lld", named[i].name, named[i].id,
              (long long)t->n_tokens - 1);
    CHECK(err, !t->add_bos || t->bos >= 0, CADRE_E_FORMAT, "BOS is to be added, but the vocabulary has no BOS token");
    CHECK(err, !t->add_eos || t->eos >= 0, CADRE_E_FORMAT, "EOS is to be added, but the vocabulary has no EOS token");
    return CADRE_OK;
}

/* What each token decodes to. */
static cadre_err decode_tokens(struct tokenizer *t, const struct tokenizer_tables *from, cadre_error *err)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < t->n; i++)
        CHECK(err, add_ok(bytes, from->tokens[i].n, &bytes) && bytes < SIZE_MAX / 2, CADRE_E_FORMAT,
              "the token texts are too long in all (at token %lld)", (long long)i);
    t->text = malloc(bytes + 1);
    t->piece = malloc((size_t)t->n * sizeof *t->piece);
    t->kind = malloc((uint32_t)t->n);
    CHECK(err, t->text && t->piece && t->kind, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)t->n);
    char *end = t->text;
    for (int64_t i = 0; i < t->n; i++) {
        const struct text_span *s = &from->tokens[i];
        t->kind[i] = (unsigned char)(from->kinds ? from->kinds[i] : TOKEN_NORMAL);
        t->piece[i].p = end;
        if (in_alphabet(t->kind[i]))
            t->piece[i].n = alphabet_to_bytes(s->p, s->n, end);
        else if ((t->piece[i].n = s->n) > 0)
            memcpy(end, s->p, s->n);
        end += t->piece[i].n;
    }
    return CADRE_OK;
}

/* A token for each byte, and what stands for bytes without one. */
static cadre_err find_bytes(struct tokenizer *t, const struct tokenizer_tables *from, const struct text_index *texts,
                            cadre_error *err)
{
    int missing = -1;
    for (int b = 0; b < 256; b++) {
        char letter[2];
        size_t n = byte_to_alphabet((unsigned char)b, letter);
        int32_t id = text_index_find(texts, from->tokens, letter, n);
        t->byte_id[b] = id >= 0 && in_alphabet(t->kind[id]) ? id : -1;
        if (t->byte_id[b] < 0)
            missing = b;
    }
    const unsigned char fffd[3] = {0xef, 0xbf, 0xbd};
    for (; t->n_replacement < 3 && t->byte_id[fffd[t->n_replacement]] >= 0; t->n_replacement++)
        t->replacement[t->n_replacement] = t->byte_id[fffd[t->n_replacement]];
    if (t->n_replacement < 3 && from->unk >= 0) {
        t->replacement[0] = from->unk;
        t->n_replacement = 1;
    } else {
        CHECK(err, missing < 0 || t->n_replacement == 3, CADRE_E_FORMAT,
              "the vocabulary has no token for byte 0x%02x, nor for U+FFFD, nor an unknown token to stand for it",
              missing);
    }
    return CADRE_OK;
}

static int32_t id_of(const struct text_index *texts, const struct text_span *tokens, const char *name)
{
    return text_index_find(texts, tokens, name, strlen(name));
}

static void find_ends(struct tokenizer *t, const struct tokenizer_tables *from, const struct text_index *texts)
{
    /* Where <|return|> ends a text, <|end|> only ends one of its channels. */
    bool channels = id_of(texts, from->tokens, "<|return|>") >= 0;
    for (int i = 0; i < N_END_NAMES; i++) {
        int32_t id = id_of(texts, from->tokens, end_names[i]);
        if (id < 0)
            continue;
        t->kind[id] = TOKEN_CONTROL;
        if (!channels || strcmp(end_names[i], "<|end|>") != 0)
            t->ends[t->n_ends++] = id;
    }
}

/* "left right" to ids. The texts may hold no blank: in the alphabet it is another letter. */
static cadre_err add_merge(struct tokenizer *t, const struct tokenizer_tables *from, const struct text_index *texts,
                           int64_t rank, char *joined, cadre_error *err)
{
    const struct text_span *m = &from->merges[rank];
    const char *blank = m->n > 1 ? memchr(m->p + 1, ' ', m->n - 1) : NULL;
    size_t n_left = blank ? (size_t)(blank - m->p) : 0;
    CHECK(err, blank && n_left + 1 < m->n, CADRE_E_FORMAT,
          "merge %lld is '%.*s'; expected two tokens with a blank between", (long long)rank,
          (int)min_i64((int64_t)m->n, 80), m->p ? m->p : "");
    size_t n_right = m->n - n_left - 1;
    memcpy(joined, m->p, n_left);
    memcpy(joined + n_left, blank + 1, n_right);
    struct bpe_pair pair = {.rank = (int32_t)rank,
                            .left = text_index_find(texts, from->tokens, m->p, n_left),
                            .right = text_index_find(texts, from->tokens, blank + 1, n_right),
                            .id = text_index_find(texts, from->tokens, joined, n_left + n_right)};
    CHECK(err, pair.left >= 0 && pair.right >= 0 && pair.id >= 0, CADRE_E_FORMAT,
          "merge %lld is '%.*s'; its %s is no token of the vocabulary", (long long)rank,
          (int)min_i64((int64_t)m->n, 80), m->p,
          pair.left < 0    ? "left part"
          : pair.right < 0 ? "right part"
                           : "result");
    bpe_merges_add(&t->merges, pair);
    return CADRE_OK;
}

static cadre_err add_merges(struct tokenizer *t, const struct tokenizer_tables *from, const struct text_index *texts,
                            cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    uint64_t longest = 1;
    for (int64_t i = 0; i < from->n_merges; i++)
        longest = from->merges[i].n > longest ? from->merges[i].n : longest;
    char *joined = malloc(longest);
    CHECK(err, joined, CADRE_E_MEMORY, "no memory for a merge of %llu bytes", (unsigned long long)longest);
    TRY_OUT(bpe_merges_init(&t->merges, from->n_merges, err));
    for (int64_t i = 0; i < from->n_merges; i++)
        TRY_OUT(add_merge(t, from, texts, i, joined, err));
out:
    free(joined);
    return rc;
}

static cadre_err index_words(struct tokenizer *t, cadre_error *err)
{
    TRY(text_index_init(&t->words, t->n, err));
    for (int64_t i = 0; i < t->n; i++)
        if (t->kind[i] == TOKEN_NORMAL)
            text_index_add(&t->words, t->piece, (int32_t)i);
    return CADRE_OK;
}

static cadre_err build(struct tokenizer *t, const struct tokenizer_tables *from, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    struct text_index texts = {0};
    TRY_OUT(pretokenizer_new(&t->pre, from->pre, err));
    TRY_OUT(decode_tokens(t, from, err));
    TRY_OUT(text_index_init(&texts, t->n, err));
    for (int64_t i = 0; i < t->n; i++)
        CHECK_OUT(err, text_index_add(&texts, from->tokens, (int32_t)i), CADRE_E_FORMAT,
                  "token %lld ('%.*s') is in the vocabulary twice", (long long)i,
                  (int)min_i64((int64_t)from->tokens[i].n, 80), from->tokens[i].p ? from->tokens[i].p : "");
    TRY_OUT(find_bytes(t, from, &texts, err));
    find_ends(t, from, &texts);
    TRY_OUT(add_merges(t, from, &texts, err));
    TRY_OUT(special_tokens_init(&t->specials, t->piece, t->kind, t->n, err));
    if (pretokenizer_ignores_merges(t->pre))
        TRY_OUT(index_words(t, err));
out:
    text_index_free(&texts);
    return rc;
}

cadre_err tokenizer_new(struct tokenizer **out, const struct tokenizer_tables *tables, cadre_error *err)
{
    TRY(check_tables(tables, err));
    struct tokenizer *t = calloc(1, sizeof *t);
    CHECK(err, t, CADRE_E_MEMORY, "no memory for a tokenizer");
    t->n = tables->n_tokens;
    t->bos = tables->bos, t->eos = tables->eos, t->eot = tables->eot;
    t->add_bos = tables->add_bos, t->add_eos = tables->add_eos;
    cadre_err rc = build(t, tables, err);
    if (rc) {
        tokenizer_free(t);
        return rc;
    }
    *out = t;
    return CADRE_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    free(t->text);
    free(t->piece);
    free(t->kind);
    bpe_merges_free(&t->merges);
    special_tokens_free(&t->specials);
    text_index_free(&t->words);
    pretokenizer_free(t->pre);
    free(t);
}

bool tokenizer_default_add_bos(const char *model, const char *pre)
{
    return model && strcmp(model, "gpt2") == 0 && pretokenizer_adds_bos(pre);
}

int64_t tokenizer_size(const struct tokenizer *t)
{
    return t->n;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    if (id < 0)
        return false;
    for (int i = 0; i < t->n_ends; i++)
        if (id == t->ends[i])
            return true;
    return id == t->eos || id == t->eot;
}

size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool special, const char **p)
{
    *p = "";
    if (id < 0 || id >= t->n)
        return 0;
    if (!special && (t->kind[id] == TOKEN_CONTROL || t->kind[id] == TOKEN_UNKNOWN))
        return 0;
    *p = t->piece[id].p;
    return t->piece[id].n;
}

/* A word that was encoded before in this call: where it is in the text and where its ids are in the output. */
struct seen {
    const char *p;
    size_t n;
    size_t ids, n_ids;
};

struct encoder {
    const struct tokenizer *t;
    int32_t *ids;
    size_t n, capacity;
    struct bpe_work work;
    struct splitter *splitter;
    struct seen *seen; /* direct-mapped by hash: a later word of the same slot replaces the earlier */
    uint64_t seen_mask;
};

static cadre_err reserve(struct encoder *e, size_t more, cadre_error *err)
{
    if (more <= e->capacity - e->n)
        return CADRE_OK;
    uint64_t need, bytes;
    CHECK(err, add_ok(e->capacity + e->capacity / 2, more, &need) && mul_ok(need, sizeof *e->ids, &bytes), CADRE_E_ARG,
          "the text is too long: more than %zu tokens", e->n);
    int32_t *ids = realloc(e->ids, bytes);
    CHECK(err, ids, CADRE_E_MEMORY, "no memory for %llu tokens", (unsigned long long)need);
    e->ids = ids;
    e->capacity = need;
    return CADRE_OK;
}

static cadre_err put(struct encoder *e, const int32_t *ids, size_t n, cadre_error *err)
{
    TRY(reserve(e, n, err));
    memcpy(e->ids + e->n, ids, n * sizeof *ids);
    e->n += n;
    return CADRE_OK;
}

static cadre_err merge_word(struct encoder *e, const char *p, size_t n, cadre_error *err)
{
    const struct tokenizer *t = e->t;
    uint64_t room;
    CHECK(err, mul_ok(n, 3, &room), CADRE_E_ARG, "a word of %zu bytes is too long", n);
    TRY(bpe_work_reserve(&e->work, room, err)); /* a byte becomes 3 ids at most */
    int32_t *ids = e->work.ids;
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t id = t->byte_id[(unsigned char)p[i]];
        if (id >= 0) {
            ids[k++] = id;
        } else {
            memcpy(ids + k, t->replacement, t->n_replacement * sizeof *ids);
            k += t->n_replacement;
        }
    }
    k = bpe_merge(&t->merges, &e->work, k);
    return put(e, ids, k, err);
}

static cadre_err encode_word(void *arg, const char *p, size_t n, cadre_error *err)
{
    struct encoder *e = arg;
    if (n == 1 && e->t->byte_id[(unsigned char)*p] >= 0)
        return put(e, &e->t->byte_id[(unsigned char)*p], 1, err);
    struct seen *s = &e->seen[XXH3_64bits(p, n) & e->seen_mask];
    if (s->n == n && memcmp(s->p, p, n) == 0) {
        TRY(reserve(e, s->n_ids, err));
        memcpy(e->ids + e->n, e->ids + s->ids, s->n_ids * sizeof *e->ids);
        e->n += s->n_ids;
        return CADRE_OK;
    }
    size_t before = e->n;
    int32_t whole = e->t->words.slots ? text_index_find(&e->t->words, e->t->piece, p, n) : -1;
    TRY(whole >= 0 ? put(e, &whole, 1, err) : merge_word(e, p, n, err));
    *s = (struct seen){p, n, before, e->n - before};
    return CADRE_OK;
}

static cadre_err encode_text(struct encoder *e, const char *text, size_t n, bool all, cadre_error *err)
{
    for (size_t at = 0; at < n;) {
        size_t found, len = 0;
        int32_t id = special_tokens_next(&e->t->specials, text, n, at, all, &found, &len);
        TRY(splitter_run(e->splitter, text + at, found - at, encode_word, e, err));
        if (id >= 0)
            TRY(put(e, &id, 1, err));
        at = found + len;
    }
    return CADRE_OK;
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
    return reserve(e, n / 3 + 16, err);
}

cadre_err tokenizer_encode(const struct tokenizer *t, const char *text, size_t n, unsigned flags, int32_t **ids,
                           size_t *n_ids, cadre_error *err)
{
    CHECK(err, text || n == 0, CADRE_E_ARG, "no text to encode, but a length of %zu", n);
    cadre_err rc = CADRE_OK;
    struct encoder e = {.t = t};
    TRY_OUT(encoder_init(&e, n, err));
    if (flags & TOKENIZE_ADD && t->add_bos)
        TRY_OUT(put(&e, &t->bos, 1, err));
    TRY_OUT(encode_text(&e, text, n, flags & TOKENIZE_SPECIAL, err));
    if (flags & TOKENIZE_ADD && t->add_eos)
        TRY_OUT(put(&e, &t->eos, 1, err));
    *ids = e.ids;
    *n_ids = e.n;
    e.ids = NULL;
out:
    free(e.ids);
    free(e.seen);
    splitter_free(e.splitter);
    bpe_work_free(&e.work);
    return rc;
}
