/* Shared by the operators whose backward adds rows to chosen rows (embed, gather_rows). */
#ifndef CADRE_OP_SCATTER_H
#define CADRE_OP_SCATTER_H

#include "op/tape.h"

/* dst[row[i], :] += src[i, :] for i ascending, rows of `cols` reals; row -1 is skipped. Threads take columns, so each
 * row of dst gets its terms in the order of i whatever their number. */
void op_scatter_add(struct op_ctx *c, real *dst, const real *src, const int32_t *row, int64_t n, int64_t cols);

#endif
