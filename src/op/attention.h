/* What the forward and the backward of attention share: which keys a query sees, and what is kept between them. */
#ifndef CADRE_OP_ATTENTION_H
#define CADRE_OP_ATTENTION_H

#include "base/checked.h"
#include "op/op.h"

/* The visible keys of one block are lo … hi - 1, counted from its start; none when hi <= lo. Both bounds never fall as
 * the position rises: in a tile of ascending positions the first row has the smallest bounds, the last the largest. */
struct key_range {
    int64_t lo, hi;
};

static inline int64_t attention_first_key(const struct attention *a, int64_t position)
{
    return a->window > 0 ? max_i64(0, position - a->window + 1) : 0;
}

static inline struct key_range attention_visible(const struct attention *a, int64_t position, int64_t block)
{
    int64_t start = block * KV_BLOCK;
    return (struct key_range){max_i64(0, attention_first_key(a, position) - start),
                              min_i64(KV_BLOCK, position + 1 - start)};
}

static inline real *attention_reals(struct op_ctx *c, int64_t count)
{
    return arena_alloc(c->arena, (size_t)count * sizeof(real));
}

static inline int64_t attention_strips(int64_t n) /* n rounded up to whole strips */
{
    return (n + STRIP - 1) / STRIP * STRIP;
}

/* Rows 0 … n - 1 of b, `stride` apart, as columns of a product: strips [d][16] over rows, the rows the outputs. */
static inline void attention_pack_rows(const struct kernels *ks, real *dst, const real *b, int64_t stride, int64_t n,
                                       int64_t d)
{
    for (int64_t i = 0; i < n; i += STRIP)
        ks->pack_f32(dst + i * d, b + i * stride, stride, 1, min_i64(STRIP, n - i), d);
}

/* The same rows summed over: strips [n][16] over the d values of a row, the values the outputs. */
static inline void attention_pack_values(const struct kernels *ks, real *dst, const real *b, int64_t stride, int64_t n,
                                         int64_t d)
{
    for (int64_t i = 0; i < d; i += STRIP)
        ks->pack_f32(dst + i * n, b + i, 1, stride, min_i64(STRIP, d - i), n);
}

/* Per (row, head): the largest score and 1 / Σ exp(score - max), from which the backward rebuilds the weights. */
struct softmax_stats {
    real max, inverse_sum;
};

struct attention_saved {
    struct attention a;
    struct tensor *q, *k, *v, *out;
    struct softmax_stats *stats; /* [n, n_head] */
};

op_back attention_back;

#endif
