/* Training data: text files are turned once into memory-mapped token files, one a domain, and mixed by weight. The
 * order is a function of the seed alone, and what has been read is a handful of counters, so that a resumed run goes on
 * with the very next window.
 *
 *     a domain's tokens:  | window 0 | window 1 | … | window n-1 |  held out  |
 *
 * Windows of sequence + 1 tokens are visited in an order that is a keyed permutation of 0 … n-1, another one each
 * time the domain has been read through. Conversations are not cut where that can be helped: a window of theirs begins
 * with one, holds as many whole ones as fit, and only then what follows in the file, which is read and not learnt.
 *
 *     | A A A B B B B c c | C C C C C D D e e | …         capitals: learnt, except what the file marks as read only */
#ifndef CADRE_TRAIN_DATA_H
#define CADRE_TRAIN_DATA_H

#include "base/pool.h"
#include "base/rng.h"
#include "text/tokenizer.h"
#include "train/config.h"
#include "train/conversations.h"

struct token_file {
    void *map;
    size_t map_bytes;
    const void *ids; /* uint16_t or uint32_t */
    int width;       /* bytes per id */
    int64_t n;
    bool marked;    /* ids carry the flags of conversations.h */
    uint64_t stamp; /* of the text and the vocabulary that it was made from */
};

/* Which text belongs to which domain: the stem of the file name, or, for files named train.*, the name of their folder.
 */
cadre_err domain_name(char out[TRAIN_NAME], const char *path, cadre_error *err);
/* "name=path" names the domain itself; *path is then what follows. */
cadre_err domain_of(char out[TRAIN_NAME], const char *text, const char **path, cadre_error *err);

/* Tokenize texts, one after the other, into token_path, unless it is there already and was made from the same texts by
 * the same vocabulary (both are stamped with hashes). With a text of conversations the whole file is marked; chat may
 * be NULL if there is none. progress may return false to cancel. */
struct data_progress {
    bool (*tell)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
};
struct token_maker {
    const struct tokenizer *tokenizer;
    const struct conversations *chat;
    uint64_t vocab_hash;
};
cadre_err token_file_make(const char *token_path, const char *const *texts, int n_texts, const struct token_maker *by,
                          struct pool *pool, const struct data_progress *progress, cadre_error *err);
cadre_err token_file_open(struct token_file *f, const char *path, int64_t n_vocab, cadre_error *err);
void token_file_close(struct token_file *f);
static inline int32_t token_at(const struct token_file *f, int64_t i)
{
    return f->width == 2 ? ((const uint16_t *)f->ids)[i]
                         : (int32_t)(((const uint32_t *)f->ids)[i] & (f->marked ? ID_BITS : UINT32_MAX));
}
static inline uint32_t token_flags(const struct token_file *f, int64_t i)
{
    return f->marked ? ((const uint32_t *)f->ids)[i] & ~ID_BITS : 0;
}

struct domain {
    char name[TRAIN_NAME];
    double weight; /* share of windows; all sum to 1 */
    struct token_file file;
    int64_t n_train;   /* tokens before the held-out part */
    int64_t n_windows; /* to train on */
    int64_t n_heldout; /* windows behind them */
    int64_t *start;    /* [n_windows + n_heldout] first tokens, of marked files; NULL: every `sequence` tokens */
};

struct sampler {
    struct domain *domains;
    int n_domains;
    int64_t sequence;
    uint64_t seed;
    /* what a checkpoint holds */
    struct rng rng;
    int64_t taken[TRAIN_MAX_DOMAINS]; /* windows read so far */
};

/* Cut domains into windows; every domain with weight > 0 must hold at least one. */
cadre_err sampler_init(struct sampler *s, struct domain *domains, int n_domains, int64_t sequence, double heldout,
                       uint64_t seed, cadre_error *err);
void sampler_close(struct sampler *s);
/* The next n windows: token[n * sequence] and target: the token after each, -1 if that is not to be learnt. */
void sampler_next(struct sampler *s, int64_t n, int32_t *token, int32_t *target);
/* Held-out window i of n_heldout of a domain. */
void sampler_heldout(const struct sampler *s, int domain, int64_t i, int32_t *token, int32_t *target);

/* A keyed permutation of 0 … n-1 (a four-round Feistel network over the next power of four, walking until inside). */
uint64_t permute(uint64_t i, uint64_t n, uint64_t key);

#endif
