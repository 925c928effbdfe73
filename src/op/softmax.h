/* Shared by softmax.c, loss.c and head.c: the logarithm of a row's sum of exponentials. */
#ifndef CADRE_OP_SOFTMAX_H
#define CADRE_OP_SOFTMAX_H

#include "op/tape.h"

/* Values per call of exp_sum where results are not kept: they fit on the stack. */
enum { EXP_CHUNK = 512 };

/* log Σ_j exp(x_j), the sum in chunks of EXP_CHUNK */
real op_row_logsumexp(const struct kernels *k, const real *x, int64_t n);
/* The same, and x_j becomes exp(x_j - max), whose sum goes to *sum. */
real op_row_exp(const struct kernels *k, real *x, int64_t n, real *sum);

#endif
