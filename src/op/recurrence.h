/* What the operators along a sequence share. */
#ifndef CADRE_OP_RECURRENCE_H
#define CADRE_OP_RECURRENCE_H

#include "op/op.h"

/* The sequence that a row belongs to. */
static inline int64_t recurrence_sequence(const struct recurrence *r, int64_t row)
{
    int64_t s = 0;
    while (row >= r->row_start[s + 1])
        s++;
    return s;
}

#endif
