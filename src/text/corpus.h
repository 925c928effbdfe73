/* The words of a corpus and how often they occur, counted by all threads. */
#ifndef CADRE_TEXT_CORPUS_H
#define CADRE_TEXT_CORPUS_H

#include <stdbool.h>

#include "base/pool.h"
#include "text/pretokenizer.h"
#include "text/word_count.h"

struct corpus {
    const struct text_chunk *chunks; /* pieces of the texts, each worked on by one thread */
    int64_t n_chunks;
};

/* Cut the texts into chunks; a cut depends on the texts alone. They are borrowed. */
cadre_err corpus_init(struct corpus *c, const char *const *texts, const size_t *lengths, int n_texts, cadre_error *err);
void corpus_free(struct corpus *c);

/* Words of chunks [from, to) are added to the counts of the workers, one table for each thread of the pool. */
struct corpus_worker {
    struct word_count words;
    struct splitter *splitter;
    cadre_err rc;
    cadre_error err;
};
cadre_err corpus_count(const struct corpus *c, int64_t from, int64_t to, struct corpus_worker *workers,
                       struct pool *pool, cadre_error *err);

#endif
