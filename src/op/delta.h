/* What the forward and the backward of the gated delta rule share. */
#ifndef CADRE_OP_DELTA_H
#define CADRE_OP_DELTA_H

#include "op/recurrence.h"

enum {
    DELTA_COLUMNS = 64, /* of a head's state, and work item: columns do not depend on each other */
    DELTA_CHUNK = 64,   /* rows between two states that are kept for the backward; counted from the sequence's start */
};

struct delta {
    const struct kernels *ks;
    struct delta_rule rule;
    struct tensor *q, *k, *v, *g, *beta, *o;
    real *decay; /* [n, n_v_head] exp(g) */
    real *kept;  /* with a tape: states before every DELTA_CHUNK-th row, [delta_kept_count][n_v_head, k_dim, v_dim] */
    real **scratch; /* [threads] */
};

static inline int64_t delta_k_head(const struct delta_rule *d, int64_t v_head)
{
    return d->tiled ? v_head % d->n_k_head : v_head / (d->n_v_head / d->n_k_head);
}

/* Index of the first kept state of a sequence: those before it have at most this many, for ⌊a/C⌋ + ⌈b/C⌉ is at most
 * ⌊(a + b)/C⌋ + 1. */
static inline int64_t delta_kept_first(const struct delta_rule *d, int64_t seq)
{
    return d->seq.row_start[seq] / DELTA_CHUNK + seq;
}

static inline int64_t delta_kept_count(int64_t rows, int64_t n_seq) /* by shape alone */
{
    return rows / DELTA_CHUNK + n_seq;
}

void delta_back(struct op_ctx *c, void *saved); /* delta_back.c */

#endif
