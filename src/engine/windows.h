/* Texts in windows: what evaluation and comparison share. A text's tokens t0, t1, … are cut so that every token but
 * the first is predicted exactly once, from those before it in its window:
 *
 *     window 1 reads   t0 … t(w-1)       and predicts  t1 … tw
 *     window 2 reads   tw … t(2w-1)      and predicts  t(w+1) … t2w
 *     the last one reads and predicts what is left. */
#ifndef CADRE_ENGINE_WINDOWS_H
#define CADRE_ENGINE_WINDOWS_H

#include "engine/runtime.h"

struct windows {
    int64_t window; /* tokens */
    int32_t *ids;
    int64_t n_ids;
    int64_t next; /* index of the first token not read yet */
    int32_t *position;
    int64_t *row_start;
};

/* Some whole windows, or the short last one; borrowed from the struct windows until the next. */
struct window_batch {
    int64_t n_tok, n_seq;
    const int32_t *token, *target; /* [n_tok] */
    const int64_t *row_start;      /* [n_seq + 1] */
    const int32_t *position;       /* [n_tok] */
};

/* context: tokens a window, 0: as many as there may be, at most 512; n_ctx: how many there may be; max_tokens: to
 * predict, 0: all. */
cadre_err windows_open(struct windows *w, const struct tokenizer *t, const char *text, size_t n, int64_t context,
                       int64_t n_ctx, int64_t max_tokens, cadre_error *err);
void windows_close(struct windows *w);
bool windows_next(struct windows *w, struct window_batch *b); /* false when all is predicted */
int64_t windows_total(const struct windows *w);               /* tokens to predict */
int64_t windows_batch(const struct windows *w);               /* n_tok of the largest batch, which is the first */

/* A model that reads batches of windows, with its working memory. */
struct reader {
    struct cadre_model *m;
    enum act act;
    struct arena arena;
    struct routing *routing; /* [n_layer] of the last batch */
};

/* Working memory for the largest batch of w. */
cadre_err reader_open(struct reader *r, struct cadre_model *m, enum act act, const struct windows *w, cadre_error *err);
void reader_close(struct reader *r);
/* Logits [n_tok, n_vocab], valid until the next. */
cadre_err reader_read(struct reader *r, const struct window_batch *b, const real **logits, cadre_error *err);

#endif
