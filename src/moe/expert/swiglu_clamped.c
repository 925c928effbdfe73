/* The expert of gpt-oss (2025): SwiGLU with a bounded gate and a bounded linear part that rests at 1, biases on all
 * three products. */
#include "moe/expert.h"

static struct tensor *forward(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                              const int64_t *offset)
{
    return expert_gated(c, w, rows, offset, op_swiglu_clamped);
}

const struct expert_kind expert_swiglu_clamped = {.name = "swiglu_clamped", .forward = forward};
