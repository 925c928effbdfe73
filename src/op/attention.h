/* What the forward and the backward of attention share: which keys a query sees, and what is kept between them. */
#ifndef CADRE_OP_ATTENTION_H
#define CADRE_OP_ATTENTION_H

#include "base/checked.h"
#include "op/op.h"

static inline int64_t attention_first_key(const struct attention *a, int64_t position)
{
    return a->window > 0 ? max_i64(0, position - a->window + 1) : 0;
}

/* The visible keys of one block, counted from its start. Both bounds never fall as the position rises. */
static inline struct span attention_visible(const struct attention *a, int64_t position, int64_t block)
{
    int64_t start = block * KV_BLOCK;
    return (struct span){max_i64(0, attention_first_key(a, position) - start), min_i64(KV_BLOCK, position + 1 - start)};
}

static inline real *attention_reals(struct op_ctx *c, int64_t count)
{
    return arena_alloc(c->arena, (size_t)count * sizeof(real));
}

/* Rows 0 … n - 1 of b, `stride` apart, as columns of a product: strips [d][16] over rows, the rows the outputs. */
static inline void attention_pack_rows(const struct kernels *ks, real *dst, const real *b, int64_t stride, int64_t n,
                                       int64_t d)
{
    for (int64_t i = 0; i < n; i += STRIP)
        ks->pack_f32(dst + i * d, b + i * stride, stride, 1, min_i64(STRIP, n - i), d);
}

/* score[i, j] = a row i · packed row j for all j that row i of ascending spans sees, and maybe more. Where the spans
 * differ (on the diagonal) a few rows at a time, each up to their last key. */
static inline void attention_scores(const struct kernels *ks, const struct span *see, int64_t n_rows, int64_t dim,
                                    const real *a, int64_t lda, const real *packed, real *score)
{
    enum { FEW = 24 }; /* rows: whole tiles of every level's product */
    int64_t step = see[0].hi == see[n_rows - 1].hi ? n_rows : FEW;
    for (int64_t i = 0; i < n_rows; i += step) {
        int64_t n = min_i64(step, n_rows - i);
        ks->gemm_f32(n, see[i + n - 1].hi, dim, a + i * lda, lda, packed, score + i * KV_BLOCK, KV_BLOCK, false);
    }
}

/* Per (row, head): the largest score and Σ exp(score - max), from which the backward rebuilds the weights. */
struct softmax_stats {
    real max, sum;
};

struct attention_saved {
    struct attention a;
    struct tensor *q, *k, *v, *out;
    struct softmax_stats *stats; /* [n, n_head] */
};

op_back attention_back;

#endif
