#include "text/corpus.h"

#include <stdlib.h>

struct text_chunk {
    const char *p;
    size_t n;
};

enum { CHUNK = 1 << 18, SEARCH = 1 << 14 };

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Where to cut p[0..n) near CHUNK bytes. Between a letter and a blank with a letter after it every pre-tokenizer
 * cuts too, so that no word is changed by the cut; text without such a place is cut between two characters. */
static size_t chunk_length(const char *p, size_t n)
{
    if (n <= CHUNK + SEARCH)
        return n;
    for (size_t i = CHUNK; i < CHUNK + SEARCH; i++)
        if (p[i] == ' ' && is_letter(p[i - 1]) && is_letter(p[i + 1]))
            return i;
    size_t i = CHUNK;
    while (i < CHUNK + 3 && ((unsigned char)p[i] & 0xc0) == 0x80)
        i++;
    return i;
}

cadre_err corpus_init(struct corpus *c, const char *const *texts, const size_t *lengths, int n_texts, cadre_error *err)
{
    uint64_t most = 1; /* a chunk is shorter than CHUNK only at the end of a text */
    for (int i = 0; i < n_texts; i++)
        most += lengths[i] / CHUNK + 1;
    struct text_chunk *chunks = calloc(most, sizeof *chunks);
    CHECK(err, chunks, CADRE_E_MEMORY, "no memory to cut %d texts", n_texts);
    c->n_chunks = 0;
    for (int i = 0; i < n_texts; i++)
        for (size_t at = 0, n; at < lengths[i]; at += n) {
            n = chunk_length(texts[i] + at, lengths[i] - at);
            chunks[c->n_chunks++] = (struct text_chunk){texts[i] + at, n};
        }
    c->chunks = chunks;
    return CADRE_OK;
}

void corpus_free(struct corpus *c)
{
    free((void *)c->chunks);
    *c = (struct corpus){0};
}

struct count_job {
    const struct text_chunk *chunks;
    struct corpus_worker *workers;
};

static cadre_err count_word(void *arg, const char *p, size_t n, cadre_error *err)
{
    return word_count_add(arg, p, n, 1, err);
}

static void count_chunk(void *arg, int64_t item, int worker)
{
    struct count_job *job = arg;
    struct corpus_worker *w = &job->workers[worker];
    const struct text_chunk *chunk = &job->chunks[item];
    if (!w->rc)
        w->rc = splitter_run(w->splitter, chunk->p, chunk->n, true, count_word, &w->words, &w->err);
}

cadre_err corpus_count(const struct corpus *c, int64_t from, int64_t to, struct corpus_worker *workers,
                       struct pool *pool, cadre_error *err)
{
    struct count_job job = {c->chunks + from, workers};
    pool_run(pool, to - from, count_chunk, &job);
    int n = pool ? pool_threads(pool) : 1;
    for (int i = 0; i < n; i++)
        CHECK(err, !workers[i].rc, workers[i].rc, "%s", workers[i].err.text);
    return CADRE_OK;
}
