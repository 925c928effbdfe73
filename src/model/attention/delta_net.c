/* Gated DeltaNet (Yang et al. 2024, arXiv 2412.06464; Qwen3-Next, Qwen3.5): no keys and values of the past, but a
 * matrix per head that is taught by every row and fades.
 *
 *     q, k, v = silu(conv(linear(h)))          the convolution goes over the rows, each channel by itself
 *     β = σ(linear(h)),  g = a · softplus(linear(h) + dt),  a < 0
 *     o = delta rule(q / |q| / √k_dim, k / |k|, v, g, β)
 *     y = linear(norm(o) · silu(z)),  z = linear(h)
 *
 * A sequence carries the convolution's last rows and the matrices: as many numbers however long it is. */
#include "model/attention.h"

#include <math.h>

/* Bounds far beyond any model, so that products of sizes cannot overflow. */
enum { MAX_DIM = 1 << 12, MAX_HEADS = 1 << 12, MAX_WIDTH = 1 << 24 };

static int64_t k_width(const struct spec *s)
{
    return s->delta.k_heads * s->delta.k_dim;
}

static int64_t v_width(const struct spec *s)
{
    return s->delta.inner;
}

static int64_t v_dim(const struct spec *s)
{
    return s->delta.inner / s->delta.v_heads;
}

static int64_t size_channels(const struct spec *s, int64_t layer)
{
    (void)layer;
    return 2 * k_width(s) + v_width(s);
}

static int64_t size_all(const struct spec *s, int64_t layer)
{
    return size_channels(s, layer) + v_width(s);
}

static int64_t size_inner(const struct spec *s, int64_t layer)
{
    (void)layer;
    return v_width(s);
}

static int64_t size_taps(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->delta.taps;
}

static int64_t size_heads(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->delta.v_heads;
}

static int64_t size_both(const struct spec *s, int64_t layer)
{
    return 2 * size_heads(s, layer);
}

static int64_t size_v_dim(const struct spec *s, int64_t layer)
{
    (void)layer;
    return v_dim(s);
}

static bool apart(const struct spec *s, int64_t layer)
{
    (void)layer;
    return !s->delta.joined_input;
}

static bool gates_apart(const struct spec *s, int64_t layer)
{
    (void)layer;
    return !s->delta.joined_gates;
}

static bool gates_joined(const struct spec *s, int64_t layer)
{
    return !gates_apart(s, layer);
}

static const struct tensor_def tensors[] = {
    {.name = "ssm_in.weight",
     .field = LAYER(delta.qkvz),
     .size = {size_all, size_model},
     .option = OPTION(delta.joined_input)},
    {.name = "attn_qkv.weight", .field = LAYER(delta.qkv), .size = {size_channels, size_model}, .when = apart},
    {.name = "attn_gate.weight", .field = LAYER(delta.z), .size = {size_inner, size_model}, .when = apart},
    {.name = "ssm_conv1d.weight", .field = LAYER(taps), SLOT_VECTOR, INIT_UNIT, {size_channels, size_taps}},
    {.name = "ssm_dt.bias", .field = LAYER(delta.dt), SLOT_VECTOR, INIT_ONE, {size_heads}},
    {.name = "ssm_a", .field = LAYER(delta.a), SLOT_VECTOR, INIT_DECAY, {size_heads}},
    {.name = "ssm_ba.weight", .field = LAYER(delta.gates), .size = {size_both, size_model}, .when = gates_joined},
    {.name = "ssm_beta.weight", .field = LAYER(delta.beta), .size = {size_heads, size_model}, .when = gates_apart},
    {.name = "ssm_alpha.weight", .field = LAYER(delta.alpha), .size = {size_heads, size_model}, .when = gates_apart},
    {.name = "ssm_norm.weight", .field = LAYER(delta.norm), SLOT_VECTOR, INIT_ONE, {size_v_dim}},
    {.name = "ssm_out.weight", .field = LAYER(delta.out), SLOT_WEIGHT, INIT_RESIDUAL, {size_model, size_inner}},
};

static cadre_err check(const struct spec *s, const struct layer_spec *l, cadre_error *err)
{
    (void)l;
    const struct delta_spec *d = &s->delta;
    const struct {
        const char *name;
        int64_t value, max;
    } sizes[] = {{"ssm.state_size", d->k_dim, MAX_DIM},
                 {"ssm.group_count", d->k_heads, MAX_HEADS},
                 {"ssm.time_step_rank", d->v_heads, MAX_HEADS},
                 {"ssm.inner_size", d->inner, MAX_WIDTH}};
    TRY(attention_check_taps(d->taps, "ssm.conv_kernel", err));
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        CHECK(err, sizes[i].value >= 1 && sizes[i].value <= sizes[i].max, CADRE_E_FORMAT,
              "%s: expected 1 to %lld, found %lld", sizes[i].name, (long long)sizes[i].max, (long long)sizes[i].value);
    CHECK(err, d->v_heads % d->k_heads == 0, CADRE_E_FORMAT,
          "ssm.time_step_rank: expected a multiple of group_count (%lld), found %lld", (long long)d->k_heads,
          (long long)d->v_heads);
    CHECK(err, d->inner % d->v_heads == 0, CADRE_E_FORMAT,
          "ssm.inner_size: expected a multiple of time_step_rank (%lld), found %lld", (long long)d->v_heads,
          (long long)d->inner);
    return CADRE_OK;
}

static int64_t conv_state(const struct spec *s)
{
    return (s->delta.taps - 1) * (2 * k_width(s) + v_width(s));
}

static int64_t rule_state(const struct spec *s)
{
    return s->delta.k_dim * v_width(s);
}

static struct kv_width cache(const struct spec *s, const struct layer_spec *l, enum mla_form mla)
{
    (void)l, (void)mla;
    return (struct kv_width){.state = conv_state(s) + rule_state(s)};
}

static struct tensor *by_head(struct op_ctx *c, struct tensor *x, int64_t size)
{
    return op_reshape(c, x, 2, (int64_t[]){tensor_count(x) / size, size});
}

/* Columns from … of every head of x, the heads beside each other again */
static struct tensor *part(struct op_ctx *c, struct tensor *x, int64_t head, int64_t from, int64_t n)
{
    struct tensor *y = op_slice_cols(c, by_head(c, x, head), from, n);
    return op_reshape(c, y, 2, (int64_t[]){tensor_rows(x), tensor_count(y) / tensor_rows(x)});
}

struct inputs {
    struct tensor *qkv, *z, *beta, *alpha;
};

/* Joined matrices are grouped by k head: its q, k, the v of its heads, their z; the β of its heads, their α. */
static struct inputs project(struct op_ctx *c, const struct spec *s, const struct delta_weights *w, struct tensor *h)
{
    struct inputs in;
    int64_t dk = s->delta.k_dim, heads = s->delta.v_heads / s->delta.k_heads, dv = heads * v_dim(s);
    if (s->delta.joined_input) {
        struct tensor *all = op_linear(c, h, &w->qkvz, NULL);
        int64_t group = 2 * dk + 2 * dv;
        struct tensor *q = part(c, all, group, 0, dk), *k = part(c, all, group, dk, dk);
        in.qkv = op_concat_cols(c, op_concat_cols(c, q, k), part(c, all, group, 2 * dk, dv));
        in.z = part(c, all, group, 2 * dk + dv, dv);
    } else {
        in.qkv = op_linear(c, h, &w->qkv, NULL);
        in.z = op_linear(c, h, &w->z, NULL);
    }
    if (s->delta.joined_gates) {
        struct tensor *both = op_linear(c, h, &w->gates, NULL);
        in.beta = part(c, both, 2 * heads, 0, heads);
        in.alpha = part(c, both, 2 * heads, heads, heads);
    } else {
        in.beta = op_linear(c, h, &w->beta, NULL);
        in.alpha = op_linear(c, h, &w->alpha, NULL);
    }
    return in;
}

static struct tensor *forward(struct op_ctx *c, const struct attend *a, struct tensor *h)
{
    const struct spec *s = &a->m->spec;
    const struct layer *l = &a->m->layers[a->layer];
    const struct delta_weights *w = &l->delta;
    struct inputs in = project(c, s, w, h);
    struct recurrence state[2];
    attend_states(c, a, 2, (int64_t[]){conv_state(s), rule_state(s)}, state);
    struct tensor *mixed = op_silu(c, op_conv(c, in.qkv, l->taps, &state[0]));
    struct tensor *q = by_head(c, op_slice_cols(c, mixed, 0, k_width(s)), s->delta.k_dim);
    struct tensor *k = by_head(c, op_slice_cols(c, mixed, k_width(s), k_width(s)), s->delta.k_dim);
    struct tensor *v = op_slice_cols(c, mixed, 2 * k_width(s), v_width(s));
    q = op_scale(c, op_l2norm(c, q, s->norm_eps), (real)(1 / sqrt((double)s->delta.k_dim)));
    k = op_l2norm(c, k, s->norm_eps);
    struct tensor *g = op_mul(c, op_softplus(c, op_add(c, in.alpha, w->dt)), w->a);
    int64_t rows = tensor_rows(h);
    const struct delta_rule rule = {.n_k_head = s->delta.k_heads,
                                    .n_v_head = s->delta.v_heads,
                                    .k_dim = s->delta.k_dim,
                                    .v_dim = v_dim(s),
                                    .tiled = s->delta.tiled,
                                    .seq = state[1]};
    struct tensor *o =
        op_delta_rule(c, op_reshape(c, q, 2, (int64_t[]){rows, k_width(s)}),
                      op_reshape(c, k, 2, (int64_t[]){rows, k_width(s)}), v, g, op_sigmoid(c, in.beta), &rule);
    o = op_swiglu(c, by_head(c, in.z, v_dim(s)), op_rmsnorm(c, by_head(c, o, v_dim(s)), w->norm, s->norm_eps));
    return op_linear(c, op_reshape(c, o, 2, (int64_t[]){rows, v_width(s)}), &w->out, NULL);
}

const struct attention_kind attention_delta_net = {
    .name = "delta_net",
    .tensors = {tensors, sizeof tensors / sizeof *tensors},
    .check = check,
    .cache = cache,
    .forward = forward,
};
