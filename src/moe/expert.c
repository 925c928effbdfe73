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

struct tensor *expert_gated(struct op_ctx *c, const struct expert_weights *w, struct tensor *rows,
                            const int64_t *offset, expert_activation *activation)
{
    const struct op_linear_part in[2] = {{&w->gate, w->gate_bias}, {&w->up, w->up_bias}};
    struct tensor *h[2], *y;
    op_linears(c, rows, offset, 2, in, h);
    op_linears(c, activation(c, h[0], h[1]), offset, 1, &(struct op_linear_part){&w->down, w->down_bias}, &y);
    return y;
}
