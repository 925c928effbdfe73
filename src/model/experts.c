#include "model/experts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- schedules */

static double uniform(double d)
{
    (void)d;
    return 1;
}

static double descending(double d)
{
    return 1 - d;
}

static double ascending(double d)
{
    return d;
}

static double pyramid_up(double d) /* most in the middle */
{
    return 1 - fabs(2 * d - 1);
}

static double pyramid_down(double d)
{
    return fabs(2 * d - 1);
}

static double wave(double d)
{
    return 0.5 + 0.5 * cos(4 * M_PI * d);
}

static const struct expert_schedule schedules[] = {
    {"uniform", uniform},       {"descending", descending},     {"ascending", ascending},
    {"pyramid_up", pyramid_up}, {"pyramid_down", pyramid_down}, {"wave", wave},
};

const struct expert_schedule *expert_schedule_at(int i)
{
    return i >= 0 && (size_t)i < sizeof schedules / sizeof *schedules ? &schedules[i] : NULL;
}

const struct expert_schedule *expert_schedule_find(const char *name)
{
    const struct expert_schedule *s;
    for (int i = 0; (s = expert_schedule_at(i)); i++)
        if (strcmp(s->name, name) == 0)
            return s;
    return NULL;
}

int spec_layer_k(const struct spec *s, int64_t layer)
{
    int64_t before = 0, all = 0;
    if (!s->schedule || s->k_min == 0)
        return s->router.k;
    for (int64_t i = 0; i < s->n_layer; i++)
        if (spec_layer_is_moe(s, i)) {
            before += i < layer;
            all++;
        }
    double d = all > 1 ? (double)before / (double)(all - 1) : 0;
    return s->k_min + (int)lround((s->router.k - s->k_min) * s->schedule->share(d));
}

/* ---- slices */

bool slice_pattern_parse(struct slice_pattern *p, const char *text)
{
    *p = (struct slice_pattern){0};
    for (const char *at = text; *at;) {
        char *end;
        long n = strtol(at, &end, 10);
        if (end == at || n < 1 || n > MAX_SLICES || p->n == SLICE_PATTERN || (*end && *end != ','))
            return false;
        p->of[p->n++] = (uint8_t)n;
        at = *end ? end + 1 : end;
        if (*end && !*at)
            return false;
    }
    return true;
}

void slice_pattern_text(const struct slice_pattern *p, char text[SLICE_PATTERN_TEXT])
{
    int n = 0;
    *text = 0;
    for (int i = 0; i < p->n; i++)
        n += snprintf(text + n, SLICE_PATTERN_TEXT - (size_t)n, "%s%d", i ? "," : "", p->of[i]);
}

static int slices_of(const struct spec *s, int expert)
{
    return s->slices.n ? s->slices.of[expert % s->slices.n] : 1;
}

int64_t spec_slices(const struct spec *s)
{
    if (s->slices.n == 0)
        return s->n_expert;
    int64_t cycle = 0, n = 0;
    for (int e = 0; e < s->slices.n; e++)
        cycle += s->slices.of[e];
    for (int e = 0; e < s->n_expert % s->slices.n; e++)
        n += s->slices.of[e];
    return n + cycle * (s->n_expert / s->slices.n);
}

/* ---- numbers that follow */

int spec_choices(const struct spec *s)
{
    return s->n_expert + s->n_zero + s->n_copy + s->n_constant;
}

static int64_t heads(const struct spec *s)
{
    return s->moe_heads > 1 ? s->moe_heads : 1;
}

int spec_slices_of(const struct spec *s, int i)
{
    return i < s->n_expert ? slices_of(s, i) : 0;
}

int64_t spec_slots(const struct spec *s)
{
    return s->router.k * heads(s) * (s->chain > 1 ? s->chain : 1);
}

double spec_tensor_uses(const struct spec *s, const struct tensor_def *def, int64_t layer)
{
    double uses = 1;
    if (def->flags & TENSOR_BY_EXPERT)
        uses *= (double)spec_layer_k(s, layer) / spec_choices(s);
    if (def->flags & TENSOR_BY_TURN)
        uses *= s->chain > 1 ? s->chain : 1;
    if (def->flags & TENSOR_BY_HEAD)
        uses *= (double)heads(s);
    return uses;
}

static cadre_err check_one(const char *name, int64_t value, int64_t max, cadre_error *err)
{
    CHECK(err, value >= 0 && value <= max, CADRE_E_FORMAT, "%s: expected 0 to %lld, found %lld", name, (long long)max,
          (long long)value);
    return CADRE_OK;
}

cadre_err spec_check_structure(const struct spec *s, cadre_error *err)
{
    TRY(check_one("expert_zero_count", s->n_zero, MODEL_MAX_EXPERTS, err));
    TRY(check_one("expert_copy_count", s->n_copy, MODEL_MAX_EXPERTS, err));
    TRY(check_one("expert_constant_count", s->n_constant, MODEL_MAX_EXPERTS, err));
    TRY(check_one("expert_latent_length", s->latent, 1 << 24, err));
    TRY(check_one("expert_head_count", s->moe_heads, 1 << 12, err));
    TRY(check_one("expert_chain_count", s->chain, 64, err));
    TRY(check_one("expert_router_state_length", s->router_state, 1 << 20, err));
    TRY(check_one("expert_used_min_count", s->k_min, s->router.k, err));
    CHECK(err, spec_choices(s) <= MODEL_MAX_EXPERTS, CADRE_E_FORMAT,
          "experts and light experts: expected at most %d in all, found %d", MODEL_MAX_EXPERTS, spec_choices(s));
    CHECK(err, s->d_model % heads(s) == 0, CADRE_E_FORMAT,
          "expert_head_count: expected a divisor of the width %lld, found %d", (long long)s->d_model, s->moe_heads);
    CHECK(err, !s->schedule || s->k_min > 0, CADRE_E_FORMAT,
          "expert_used_schedule '%s': expected expert_used_min_count, the fewest experts of a layer, found none",
          s->schedule ? s->schedule->name : "");
    CHECK(err, s->slices.n <= s->n_expert, CADRE_E_FORMAT,
          "expert_slices: expected at most one number for each of the %d experts, found %d", s->n_expert, s->slices.n);
    CHECK(
        err, !s->gate_early || (heads(s) == 1 && s->chain <= 1), CADRE_E_UNSUPPORTED,
        "expert_gate_early: expected neither heads nor turns of experts, whose gates read what those take; found %lld "
        "and %d",
        (long long)heads(s), s->chain > 1 ? s->chain : 1);
    CHECK(err, s->slices.n == 0 || s->n_expert == 0 || !s->expert_bias, CADRE_E_UNSUPPORTED,
          "expert_slices: experts with biases cannot be cut into slices");
    return CADRE_OK;
}

/* ---- tensors */

static bool is_moe(const struct spec *s, int64_t layer)
{
    return spec_layer_is_moe(s, layer);
}

int64_t size_choices(const struct spec *s, int64_t layer)
{
    (void)layer;
    return spec_choices(s);
}

int64_t size_slices(const struct spec *s, int64_t layer)
{
    (void)layer;
    return spec_slices(s);
}

static int64_t size_token(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->d_model / heads(s);
}

static int64_t size_state(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->router_state;
}

static int64_t size_state3(const struct spec *s, int64_t layer)
{
    (void)layer;
    return 3 * s->router_state;
}

static int64_t size_latent(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->latent;
}

static int64_t size_constants(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->n_constant;
}

static int64_t size_mix(const struct spec *s, int64_t layer)
{
    (void)layer;
    return 2 * s->n_constant;
}

static int64_t size_later_turns(const struct spec *s, int64_t layer)
{
    (void)layer;
    return s->chain - 1;
}

int64_t size_gate_in(const struct spec *s, int64_t layer)
{
    return s->router_state ? s->router_state : size_token(s, layer);
}

int64_t size_expert_in(const struct spec *s, int64_t layer)
{
    return s->latent ? s->latent : size_token(s, layer);
}

static bool with_noise(const struct spec *s, int64_t layer)
{
    return is_moe(s, layer) && s->router.kind && s->router.kind->noise_gate;
}

static bool with_state(const struct spec *s, int64_t layer)
{
    return s->router_state > 0 && (layer < 0 ? s->n_expert > 0 : is_moe(s, layer));
}

/* The first decision of a pass has none before it. */
static bool with_residual(const struct spec *s, int64_t layer)
{
    bool before = s->chain > 1;
    for (int64_t i = 0; i < layer && !before; i++)
        before = is_moe(s, i);
    return s->gate_residual && is_moe(s, layer) && before;
}

static bool with_constants(const struct spec *s, int64_t layer)
{
    return s->n_constant > 0 && is_moe(s, layer);
}

static bool with_latent(const struct spec *s, int64_t layer)
{
    return s->latent > 0 && is_moe(s, layer);
}

static bool with_heads(const struct spec *s, int64_t layer)
{
    return s->moe_heads > 1 && is_moe(s, layer);
}

static bool with_chain(const struct spec *s, int64_t layer)
{
    return s->chain > 1 && is_moe(s, layer);
}

static const struct tensor_def global_defs[] = {
    {.name = "router_gru_input.weight",
     .field = GLOBAL(router_gru.input),
     .init = INIT_UNIT,
     .size = {size_state3, size_state},
     .flags = TENSOR_KEEP_F32,
     .when = with_state},
    {.name = "router_gru_hidden.weight",
     .field = GLOBAL(router_gru.hidden),
     .init = INIT_UNIT,
     .size = {size_state3, size_state},
     .flags = TENSOR_KEEP_F32,
     .when = with_state},
    {.name = "router_gru_input.bias",
     .field = GLOBAL(router_gru.b_input),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_state3},
     .when = with_state},
    {.name = "router_gru_hidden.bias",
     .field = GLOBAL(router_gru.b_hidden),
     SLOT_VECTOR,
     INIT_ZERO,
     {size_state3},
     .when = with_state},
};

static const struct tensor_def layer_defs[] = {
    {.name = "ffn_gate_inp_noise.weight",
     .field = LAYER(moe.noise_gate),
     SLOT_WEIGHT,
     INIT_ZERO,
     {size_choices, size_token},
     TENSOR_KEEP_F32 | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_noise},
    {.name = "ffn_gate_inp_project.weight",
     .field = LAYER(moe.gate_project),
     .init = INIT_UNIT,
     .size = {size_state, size_token},
     .flags = TENSOR_KEEP_F32 | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_state},
    {.name = "ffn_gate_inp_residual.weight",
     .field = LAYER(moe.gate_residual),
     SLOT_WEIGHT,
     INIT_ZERO,
     {size_choices, size_choices},
     TENSOR_KEEP_F32 | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_residual},
    {.name = "ffn_gate_inp_chain.weight",
     .field = LAYER(moe.chain_gate),
     .init = INIT_UNIT,
     .size = {size_later_turns, size_choices, size_gate_in},
     .flags = TENSOR_KEEP_F32,
     .when = with_chain},
    {.name = "ffn_constant_exps.weight",
     .field = LAYER(moe.light.constant),
     .size = {size_constants, size_token},
     .flags = TENSOR_KEEP_F32 | TENSOR_LOOKUP,
     .when = with_constants},
    {.name = "ffn_constant_mix.weight",
     .field = LAYER(moe.light.mix),
     .size = {size_mix, size_token},
     .flags = TENSOR_KEEP_F32 | TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_constants},
    {.name = "ffn_latent_in.weight",
     .field = LAYER(moe.latent_in),
     .size = {size_latent, size_token},
     .flags = TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_latent},
    {.name = "ffn_latent_out.weight",
     .field = LAYER(moe.latent_out),
     .size = {size_token, size_latent},
     .flags = TENSOR_BY_TURN | TENSOR_BY_HEAD,
     .when = with_latent},
    {.name = "ffn_head_in.weight",
     .field = LAYER(moe.head_in),
     .size = {size_model, size_model},
     .flags = TENSOR_BY_TURN,
     .when = with_heads},
    {.name = "ffn_head_out.weight",
     .field = LAYER(moe.head_out),
     .size = {size_model, size_model},
     .flags = TENSOR_BY_TURN,
     .when = with_heads},
};

const struct tensor_rows experts_global_rows = {global_defs, sizeof global_defs / sizeof *global_defs};
const struct tensor_rows experts_rows = {layer_defs, sizeof layer_defs / sizeof *layer_defs};

/* ---- a layer */

void model_set_experts(struct model *m, int64_t i)
{
    const struct spec *s = &m->spec;
    struct moe_layer *l = &m->layers[i].moe;
    int k = spec_layer_k(s, i);
    l->layer = (int)i;
    l->router = s->router;
    l->router.active = k < s->router.k ? k : 0;
    l->kind = s->expert_kind;
    l->gru = &m->router_gru;
    l->light.n_zero = s->n_zero;
    l->light.n_copy = s->n_copy;
    l->light.n_constant = s->n_constant;
    l->heads = s->moe_heads;
    l->chain = s->chain;
    if (s->slices.n == 0)
        return;
    l->slice_start = m->slice_start;
    for (int e = 0; e < s->n_expert; e++) {
        int n = slices_of(s, e);
        m->slice_start[e + 1] = m->slice_start[e] + n;
        l->max_slices = n > l->max_slices ? n : l->max_slices;
    }
}
