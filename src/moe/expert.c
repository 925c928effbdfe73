/* The table of expert kinds, and what those with three matrices share. */
#include "moe/expert.h"

#include <string.h>

static const struct expert_kind *const kinds[] = {&expert_swiglu, &expert_swiglu_clamped, &expert_reglu};

const struct expert_kind *expert_kind_at(int i)
{
    return i >= 0 && (size_t)i < sizeof kinds / sizeof *kinds ? kinds[i] : NULL;
}

const struct expert_kind *expert_kind_find(const char *name)
{
    const struct expert_kind *k;
    for (int i = 0; (k = expert_kind_at(i)); i++)
        if (strcmp(k->name, name) == 0)
            return k;
    return NULL;
}

static struct tensor *multiply(struct op_ctx *c, struct tensor *x, const struct weight *w, const int64_t *offset,
                               struct tensor *bias)
{
    return w->n_expert > 0 ? op_linear_grouped(c, x, w, offset, bias) : op_linear(c, x, w, bias);
}

struct tensor *expert_gated(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                            const int64_t *offset, expert_activation *activation)
{
    struct tensor *gate = multiply(c, rows, &w->gate, offset, w->gate_bias);
    struct tensor *up = multiply(c, rows, &w->up, offset, w->up_bias);
    return multiply(c, activation(c, gate, up), &w->down, offset, w->down_bias);
}
