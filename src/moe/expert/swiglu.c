/* E(x) = W_down (silu(W_gate x) · W_up x) (Shazeer 2020), all experts of a layer in three grouped products. */
#include "moe/expert.h"

static struct tensor *forward(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                              const int64_t *offset)
{
    return expert_gated(c, w, rows, offset, op_swiglu);
}

const struct expert_kind expert_swiglu = {.name = "swiglu", .forward = forward};
