/* Expert kinds: one file in expert/ and one row each. An expert is anything that a router can choose. */
#ifndef CADRE_MOE_EXPERT_H
#define CADRE_MOE_EXPERT_H

#include "op/op.h"

/* Weights of all experts of one layer, or of a dense feed-forward layer (n_expert = 0); those a kind does not use have
 * n = 0. */
struct expert_weights {
    struct weight gate, up;                         /* [n_expert][ff, d] */
    struct weight down;                             /* [n_expert][d, ff] */
    struct tensor *gate_bias, *up_bias, *down_bias; /* [n_expert, ff], [n_expert, ff], [n_expert, d] or NULL */
};

struct expert_kind {
    const char *name;
    /* rows [R, d] grouped by expert (offset as in op_linear_grouped; NULL for a dense layer) → [R, d] */
    struct tensor *(*forward)(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                              const int64_t *offset);
};

/* For kinds of the form down(activation(gate x, up x)). */
typedef struct tensor *expert_activation(struct op_ctx *c, struct tensor *gate, struct tensor *up);
struct tensor *expert_gated(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                            const int64_t *offset, expert_activation *activation);

const struct expert_kind *expert_kind_find(const char *name);
const struct expert_kind *expert_kind_at(int i);

extern const struct expert_kind expert_swiglu;         /* expert/swiglu.c: down(silu(gate x) · up x), Shazeer 2020 */
extern const struct expert_kind expert_swiglu_clamped; /* expert/swiglu_clamped.c: gpt-oss */
extern const struct expert_kind expert_reglu;          /* expert/reglu.c: down(relu(gate x) · up x) */

#endif
