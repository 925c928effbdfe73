/* Gated short convolution (LFM2, Liquid AI 2025): a few rows of memory, between two gates that the row itself sets.
 *
 *     b, c, x = linear(h);  y = linear(c · conv(b · x))
 *
 * A sequence carries the last rows of b · x. */
#include "model/attention.h"

static int64_t size_all(const struct spec *s, int64_t layer)
{
    (void)layer;
    return 3 * s->d_model;
}

static int64_t size_taps(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->conv_taps;
}

static const struct tensor_def tensors[] = {
    {.name = "shortconv.in_proj.weight", .field = LAYER(conv.in), .size = {size_all, size_model}},
    {.name = "shortconv.conv.weight", .field = LAYER(taps), SLOT_VECTOR, INIT_UNIT, {size_model, size_taps}},
    {.name = "shortconv.out_proj.weight",
     .field = LAYER(conv.out),
     SLOT_WEIGHT,
     INIT_RESIDUAL,
     {size_model, size_model}},
};

static cadre_err check(const struct spec *s, const struct layer_spec *l, cadre_error *err)
{
    (void)l;
    return attention_check_taps(s->conv_taps, "shortconv.l_cache", err);
}

static struct kv_width cache(const struct spec *s, const struct layer_spec *l, enum mla_form mla)
{
    (void)l, (void)mla;
    return (struct kv_width){.state = (s->conv_taps - 1) * s->d_model};
}

static struct tensor *forward(struct op_ctx *c, const struct attend *a, struct tensor *h)
{
    const struct layer *l = &a->m->layers[a->layer];
    int64_t d = a->m->spec.d_model;
    struct recurrence state;
    attend_states(c, a, 1, (int64_t[]){(a->m->spec.conv_taps - 1) * d}, &state);
    struct tensor *all = op_linear(c, h, &l->conv.in, NULL);
    struct tensor *inner = op_mul(c, op_slice_cols(c, all, 0, d), op_slice_cols(c, all, 2 * d, d));
    struct tensor *y = op_mul(c, op_slice_cols(c, all, d, d), op_conv(c, inner, l->taps, &state));
    return op_linear(c, y, &l->conv.out, NULL);
}

const struct attention_kind attention_short_conv = {
    .name = "short_conv",
    .tensors = {tensors, sizeof tensors / sizeof *tensors},
    .check = check,
    .cache = cache,
    .forward = forward,
};
