/* E(x) = W_down (relu(W_gate x) · W_up x) (Shazeer 2020): a gate that is exactly 0 leaves its column of W_down unread,
 * which is what SmallThinker (Song et al. 2025) trains for. */
#include "moe/expert.h"

static struct tensor *reglu(struct op_ctx *c, struct tensor *gate, struct tensor *up)
{
    return op_mul(c, op_relu(c, gate), up);
}

static struct tensor *forward(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                              const int64_t *offset)
{
    return expert_gated(c, w, rows, offset, reglu);
}

const struct expert_kind expert_reglu = {.name = "reglu", .forward = forward};
