#include "moe/light.h"

/* [n, 1] the weight that each token gives to the experts from … to, slots ascending. */
static struct tensor *weight_of(struct op_ctx *c, const struct routing *r, int from, int to)
{
    struct tensor *in_range = op_new2(c, tensor_rows(r->weight), r->k);
    for (int64_t i = 0; !c->dry && i < tensor_count(in_range); i++)
        in_range->x[i] = r->id[i] >= from && r->id[i] < to;
    return op_row_sum(c, op_mul(c, r->weight, in_range));
}

/* α₁ x + α₂ v with α from this expert's two columns of `mix` */
static struct tensor *constant_forward(struct op_ctx *c, const struct light_experts *l, int e, struct tensor *x,
                                       struct tensor *mix)
{
    int64_t n = tensor_rows(x);
    int32_t *row = arena_alloc(c->arena, (size_t)n * sizeof *row);
    for (int64_t t = 0; !c->dry && t < n; t++)
        row[t] = e;
    struct tensor *alpha = op_softmax(c, op_slice_cols(c, mix, 2 * e, 2));
    struct tensor *v = op_embed(c, &l->constant, row, n);
    return op_add(c, op_mul(c, x, op_slice_cols(c, alpha, 0, 1)), op_mul(c, v, op_slice_cols(c, alpha, 1, 1)));
}

struct tensor *light_forward(struct op_ctx *c, const struct light_experts *l, int first, struct tensor *x,
                             const struct routing *r, struct tensor *y)
{
    int copy = first + l->n_zero, constant = copy + l->n_copy;
    if (l->n_copy)
        y = op_add(c, y, op_mul(c, x, weight_of(c, r, copy, constant)));
    if (l->n_constant == 0)
        return y;
    struct tensor *mix = op_linear(c, x, &l->mix, NULL);
    for (int e = 0; e < l->n_constant; e++)
        y = op_add(c, y, op_mul(c, constant_forward(c, l, e, x, mix), weight_of(c, r, constant + e, constant + e + 1)));
    return y;
}
