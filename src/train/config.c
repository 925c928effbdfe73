#include "train/config.h"

#include <errno.h>
#include <ini.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/fileio.h"
#include "model/experts.h"
#include "tensor/dtype.h"
#include "train/optimizer.h"
#include "train/schedule.h"

enum kind { K_INT, K_REAL, K_BOOL, K_NAME, K_TEXT };

/* What [model] says before it becomes a spec. */
struct model_keys {
    char family[TRAIN_NAME], router[TRAIN_NAME], expert[TRAIN_NAME], qk_norm[TRAIN_NAME], slices[TRAIN_NAME],
        schedule[TRAIN_NAME];
    int64_t layers, width, heads, kv_heads, head_dim, context, dense_leading, dense_ff;
    int64_t experts, experts_used, expert_ff, shared_ff, groups, groups_used;
    bool shared_gated, normalize, router_bias, tied, qkv_bias, rope_pairs;
    int64_t zero, copy, constant, latent, heads_moe, chain, state, used_min, used_start;
    bool residual;
    double threshold, capacity, temperature, light_weight;
    double router_scale, norm_eps, rope_base;
};

struct key {
    const char *section, *name;
    enum kind kind;
    bool in_model;
    size_t offset;
    double min, max;   /* numbers */
    const char *value; /* default; NULL: required; "": none */
};

#define M(name, field, kind, min, max, value)                                                                          \
    {                                                                                                                  \
        "model", name, kind, true, offsetof(struct model_keys, field), min, max, value                                 \
    }
#define C(section, name, field, kind, min, max, value)                                                                 \
    {                                                                                                                  \
        section, name, kind, false, offsetof(struct train_config, field), min, max, value                              \
    }

static const struct key keys[] = {
    C("model", "name", name, K_NAME, 0, 0, "cadre"),
    M("family", family, K_NAME, 0, 0, "cadre"),
    M("layers", layers, K_INT, 1, MODEL_MAX_LAYERS, NULL),
    M("width", width, K_INT, 1, 1 << 20, NULL),
    M("heads", heads, K_INT, 1, 4096, NULL),
    M("kv_heads", kv_heads, K_INT, 0, 4096, "0"), /* 0: as many as heads */
    M("head_dim", head_dim, K_INT, 0, 4096, "0"), /* 0: width / heads */
    M("context", context, K_INT, 1, 1 << 24, NULL),
    M("dense_leading", dense_leading, K_INT, 0, MODEL_MAX_LAYERS, "0"),
    M("dense_ff", dense_ff, K_INT, 0, 1 << 24, "0"),
    M("experts", experts, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("experts_used", experts_used, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("expert_ff", expert_ff, K_INT, 0, 1 << 24, "0"),
    M("expert_kind", expert, K_NAME, 0, 0, "swiglu"),
    M("expert_slices", slices, K_NAME, 0, 0, "1"),
    M("experts_zero", zero, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("experts_copy", copy, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("experts_constant", constant, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("experts_used_schedule", schedule, K_NAME, 0, 0, "uniform"),
    M("experts_used_min", used_min, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("experts_used_start", used_start, K_INT, 0, MODEL_MAX_EXPERTS, "0"), /* training only */
    M("expert_latent", latent, K_INT, 0, 1 << 24, "0"),
    M("expert_heads", heads_moe, K_INT, 0, 4096, "0"),
    M("expert_chain", chain, K_INT, 0, 64, "0"),
    M("shared_ff", shared_ff, K_INT, 0, 1 << 24, "0"),
    M("shared_gated", shared_gated, K_BOOL, 0, 0, "false"),
    M("router", router, K_NAME, 0, 0, "softmax"),
    M("router_threshold", threshold, K_REAL, 0, 1, "0"),
    M("router_state", state, K_INT, 0, 1 << 20, "0"),
    M("router_residual", residual, K_BOOL, 0, 0, "false"),
    M("router_capacity", capacity, K_REAL, 0, 4096, "0"),        /* training only; 0: no dropping */
    M("router_temperature", temperature, K_REAL, 0, 1e3, "2"),   /* likewise */
    M("router_light_weight", light_weight, K_REAL, 0, 100, "1"), /* likewise */
    M("router_normalize", normalize, K_BOOL, 0, 0, "false"),
    M("router_scale", router_scale, K_REAL, 1e-6, 1e6, "1"),
    M("router_bias", router_bias, K_BOOL, 0, 0, "false"),
    M("router_groups", groups, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("router_groups_used", groups_used, K_INT, 0, MODEL_MAX_EXPERTS, "0"),
    M("tied", tied, K_BOOL, 0, 0, "true"),
    M("qkv_bias", qkv_bias, K_BOOL, 0, 0, "false"),
    M("qk_norm", qk_norm, K_NAME, 0, 0, "none"),
    M("rope_pairs", rope_pairs, K_BOOL, 0, 0, "false"),
    M("rope_base", rope_base, K_REAL, 1, 1e9, "10000"),
    M("norm_eps", norm_eps, K_REAL, 0, 1, "1e-6"),
    C("tokenizer", "vocab", vocab, K_INT, 257, 1 << 20, "8192"),
    C("tokenizer", "pre", pre, K_NAME, 0, 0, "gpt-2"),
    C("tokenizer", "train_bytes", tokenizer_bytes, K_INT, 1, (double)(1ll << 40), "50000000"),
    C("tokenizer", "specials", specials, K_TEXT, 0, 0, ""),
    C("tokenizer", "end_of_turn", end_of_turn, K_NAME, 0, 0, ""),
    C("tokenizer", "chat_template", chat_template, K_TEXT, 0, 0, ""),
    C("data", "heldout", heldout, K_REAL, 0, 0.5, "0.005"),
    C("train", "tokens", tokens, K_INT, 1, 1e15, NULL),
    C("train", "sequence", sequence, K_INT, 2, 1 << 20, "512"),
    C("train", "batch_tokens", batch_tokens, K_INT, 2, 1 << 28, "32768"),
    C("train", "micro_tokens", micro_tokens, K_INT, 2, 1 << 24, "4096"),
    C("train", "warmup_tokens", warmup_tokens, K_INT, 0, 1e15, "0"),
    C("train", "lr", lr, K_REAL, 0, 10, NULL),
    C("train", "lr_final", lr_final, K_REAL, 0, 10, "0"),
    C("train", "schedule", schedule, K_NAME, 0, 0, "cosine"),
    C("train", "decay_share", decay_share, K_REAL, 1e-6, 1, "0.2"),
    C("train", "decay_shape", decay_shape, K_NAME, 0, 0, "sqrt"),
    C("train", "optimizer", optimizer, K_NAME, 0, 0, "adamw"),
    C("train", "momentum", momentum, K_REAL, 0, 0.999999, "0.95"),
    C("train", "beta1", beta1, K_REAL, 0, 0.999999, "0.9"),
    C("train", "beta2", beta2, K_REAL, 0, 0.999999, "0.95"),
    C("train", "eps", eps, K_REAL, 1e-30, 1, "1e-8"),
    C("train", "weight_decay", weight_decay, K_REAL, 0, 10, "0.1"),
    C("train", "clip", clip, K_REAL, 0, 1e9, "1"), /* 0: no clipping */
    C("train", "init_std", init_std, K_REAL, 0, 10, "0.02"),
    C("train", "precision", precision, K_NAME, 0, 0, "bf16"),
    C("train", "recompute", recompute, K_BOOL, 0, 0, "false"),
    C("train", "balance", balance, K_NAME, 0, 0, "global"),
    C("train", "balance_weight", balance_weight, K_REAL, 0, 1e3, "0.01"),
    C("train", "router_loss_weight", router_loss_weight, K_REAL, 0, 1e3, "0.01"), /* of a router's own loss */
    C("train", "z_weight", z_weight, K_REAL, 0, 1e3, "0.001"),
    C("train", "bias_rate", bias_rate, K_REAL, 0, 1, "0.001"),
    C("train", "diversify_share", diversify_share, K_REAL, 0, 0.9, "0"), /* of the run with a single expert */
    C("train", "diversify_mask", diversify_mask, K_REAL, 0, 0.99, "0.1"),
    C("train", "seed", seed, K_INT, 0, 9e15, "1"),
    C("train", "log_steps", log_steps, K_INT, 1, 1e9, "1"),
    C("train", "eval_steps", eval_steps, K_INT, 0, 1e9, "0"), /* 0: at the end only */
    C("train", "eval_tokens", eval_tokens, K_INT, 2, 1e12, "65536"),
    C("train", "checkpoint_minutes", checkpoint_minutes, K_REAL, 0, 1e6, "10"),
    C("train", "file_type", file_type, K_NAME, 0, 0, "q8_0"),
};
enum { N_KEYS = sizeof keys / sizeof *keys };

struct parse {
    struct train_config *cfg;
    struct model_keys model;
    bool given[N_KEYS];
    const char *file;
    cadre_error *err;
    cadre_err rc; /* of the first line that was wrong */
};

static char *field(struct parse *p, const struct key *k)
{
    return (k->in_model ? (char *)&p->model : (char *)p->cfg) + k->offset;
}

static cadre_err set_value(struct parse *p, const struct key *k, const char *value)
{
    char *at = field(p, k);
    char *end;
    errno = 0;
    switch (k->kind) {
    case K_INT: {
        long long v = strtoll(value, &end, 10);
        CHECK(p->err, end != value && !*end && !errno && (double)v >= k->min && (double)v <= k->max, CADRE_E_ARG,
              "[%s] %s: expected a whole number from %.0f to %.0f, found '%s'", k->section, k->name, k->min, k->max,
              value);
        int64_t n = v;
        memcpy(at, &n, sizeof n);
        return CADRE_OK;
    }
    case K_REAL: {
        double v = strtod(value, &end);
        CHECK(p->err, end != value && !*end && isfinite(v) && v >= k->min && v <= k->max, CADRE_E_ARG,
              "[%s] %s: expected a number from %g to %g, found '%s'", k->section, k->name, k->min, k->max, value);
        memcpy(at, &v, sizeof v);
        return CADRE_OK;
    }
    case K_BOOL: {
        bool yes = strcmp(value, "true") == 0;
        CHECK(p->err, yes || strcmp(value, "false") == 0, CADRE_E_ARG, "[%s] %s: expected true or false, found '%s'",
              k->section, k->name, value);
        memcpy(at, &yes, sizeof yes);
        return CADRE_OK;
    }
    case K_NAME:
        CHECK(p->err, *value && strlen(value) < TRAIN_NAME, CADRE_E_ARG,
              "[%s] %s: expected a name of 1 to %d characters, found '%s'", k->section, k->name, TRAIN_NAME - 1, value);
        strcpy(at, value);
        return CADRE_OK;
    case K_TEXT:
        CHECK(p->err, *value && strlen(value) < TRAIN_TEXT, CADRE_E_ARG,
              "[%s] %s: expected a text of 1 to %d characters, found '%s'", k->section, k->name, TRAIN_TEXT - 1, value);
        strcpy(at, value);
        return CADRE_OK;
    }
    return CADRE_OK;
}

static cadre_err set_domain(struct parse *p, const char *name, const char *value)
{
    struct train_config *c = p->cfg;
    char *end;
    double w = strtod(value, &end);
    CHECK(p->err, end != value && !*end && isfinite(w) && w >= 0, CADRE_E_ARG,
          "[data] %s: expected a weight of at least 0, found '%s'", name, value);
    CHECK(p->err, c->n_domains < TRAIN_MAX_DOMAINS && strlen(name) < TRAIN_NAME, CADRE_E_ARG,
          "[data] %s: at most %d domains with names below %d characters", name, TRAIN_MAX_DOMAINS, TRAIN_NAME);
    for (int i = 0; i < c->n_domains; i++)
        CHECK(p->err, strcmp(c->domains[i].name, name) != 0, CADRE_E_ARG, "[data] %s: given twice", name);
    struct domain_weight *d = &c->domains[c->n_domains++];
    strcpy(d->name, name);
    d->weight = w;
    return CADRE_OK;
}

static cadre_err set_pair(struct parse *p, const char *section, const char *name, const char *value)
{
    for (int i = 0; i < N_KEYS; i++) {
        if (strcmp(keys[i].section, section) != 0 || strcmp(keys[i].name, name) != 0)
            continue;
        CHECK(p->err, !p->given[i], CADRE_E_ARG, "[%s] %s: given twice", section, name);
        p->given[i] = true;
        return set_value(p, &keys[i], value);
    }
    if (strcmp(section, "data") == 0)
        return set_domain(p, name, value);
    return error_set(p->err, CADRE_E_ARG, "[%s] %s: unknown key (sections are model, tokenizer, data, train)", section,
                     name);
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
    struct parse *p = user;
    if (p->rc == CADRE_OK) /* inih goes on after an error; the first one counts */
        p->rc = set_pair(p, section, name, value);
    return p->rc == CADRE_OK;
}

static cadre_err fill_spec(struct parse *p)
{
    const struct model_keys *m = &p->model;
    struct spec *s = &p->cfg->spec;
    *s = (struct spec){
        .n_layer = m->layers,
        .d_model = m->width,
        .n_vocab = p->cfg->vocab,
        .n_ctx = m->context,
        .norm_eps = (real)m->norm_eps,
        .tied = m->tied,
        .n_head = m->heads,
        .n_kv_head = m->kv_heads,
        .head_dim = m->head_dim,
        .qkv_bias = m->qkv_bias,
        .rope_pairs = m->rope_pairs,
        .rope_base = (real)m->rope_base,
        .n_dense_leading = m->dense_leading,
        .dense_ff = m->dense_ff,
        .n_expert = (int)m->experts,
        .expert_ff = m->expert_ff,
        .shared_ff = m->shared_ff,
        .shared_gated = m->shared_gated,
        .router_bias = m->router_bias,
        .expert_kind = expert_kind_find(m->expert),
        .router = {.kind = router_find(m->router),
                   .n_expert = (int)m->experts,
                   .k = (int)m->experts_used,
                   .groups = {(int)m->groups, (int)m->groups_used, 2},
                   .normalize = m->normalize,
                   .scale = (real)m->router_scale,
                   .threshold = (real)m->threshold,
                   .start_k = (int)m->used_start,
                   .capacity = (real)m->capacity,
                   .light_weight = (real)m->light_weight,
                   .temperature = (real)m->temperature},
        .n_zero = (int)m->zero,
        .n_copy = (int)m->copy,
        .n_constant = (int)m->constant,
        .latent = m->latent,
        .moe_heads = (int)m->heads_moe,
        .chain = (int)m->chain,
        .router_state = m->state,
        .gate_residual = m->residual,
        .schedule = expert_schedule_find(m->schedule),
        .k_min = (int)m->used_min,
    };
    CHECK(p->err, s->schedule, CADRE_E_ARG, "%s: [model] experts_used_schedule: there is no '%s'", p->file,
          m->schedule);
    CHECK(p->err, slice_pattern_parse(&s->slices, m->slices), CADRE_E_ARG,
          "%s: [model] expert_slices: expected numbers of slices such as 1,1,2, found '%s'", p->file, m->slices);
    if (s->slices.n == 1 && s->slices.of[0] == 1)
        s->slices = (struct slice_pattern){0};
    s->v_dim = s->head_dim;
    static const char *const norms[] = {"none", "head", "full"};
    int norm = 0;
    while (norm < 3 && strcmp(norms[norm], m->qk_norm) != 0)
        norm++;
    CHECK(p->err, norm < 3, CADRE_E_ARG, "%s: [model] qk_norm: expected none, head or full, found '%s'", p->file,
          m->qk_norm);
    s->qk_norm = (enum qk_norm)norm;
    snprintf(s->family, sizeof s->family, "%.*s", (int)sizeof s->family - 1, m->family);
    CHECK(p->err, s->router.kind, CADRE_E_ARG, "%s: [model] router: there is no router '%s'", p->file, m->router);
    CHECK(p->err, s->expert_kind, CADRE_E_ARG, "%s: [model] expert_kind: there is no kind '%s'", p->file, m->expert);
    spec_defaults(s);
    cadre_err rc = spec_check(s, p->err);
    return rc ? error_wrap(p->err, rc, "%s: [model]", p->file) : CADRE_OK;
}

/* Keys that act with one choice of another key only. */
static cadre_err check_acting(const struct parse *p, const char *name, bool acts, const char *with)
{
    for (int i = 0; i < N_KEYS; i++)
        CHECK(p->err, acts || !p->given[i] || strcmp(keys[i].name, name) != 0, CADRE_E_ARG,
              "%s: [%s] %s acts with %s only; leave it out", p->file, keys[i].section, name, with);
    return CADRE_OK;
}

static cadre_err check_schedule(const struct parse *p)
{
    const struct train_config *c = p->cfg;
    const struct schedule *s = schedule_find(c->schedule);
    CHECK(p->err, s, CADRE_E_ARG, "%s: [train] schedule: expected %s, found '%s'", p->file, schedule_names(),
          c->schedule);
    CHECK(p->err, strcmp(c->decay_shape, "sqrt") == 0 || strcmp(c->decay_shape, "linear") == 0, CADRE_E_ARG,
          "%s: [train] decay_shape: expected sqrt or linear, found '%s'", p->file, c->decay_shape);
    TRY(check_acting(p, "decay_share", s->decays_late, "schedule = wsd"));
    TRY(check_acting(p, "decay_shape", s->decays_late, "schedule = wsd"));
    return check_acting(p, "lr_final", s->decays, "a schedule that decays");
}

static cadre_err check_optimizer(const struct parse *p)
{
    const struct optimizer *o = optimizer_find(p->cfg->optimizer);
    CHECK(p->err, o, CADRE_E_ARG, "%s: [train] optimizer: expected %s, found '%s'", p->file, optimizer_names(),
          p->cfg->optimizer);
    return check_acting(p, "momentum", o->momentum, "optimizer = muon");
}

static cadre_err check_routing(const struct parse *p)
{
    const struct train_config *c = p->cfg;
    const struct spec *s = &c->spec;
    const struct router *r = s->router.kind;
    TRY(check_acting(p, "router_threshold", r->takes & ROUTER_THRESHOLD, "a router that has a threshold"));
    TRY(check_acting(p, "router_capacity", r->takes & ROUTER_CAPACITY, "router = switch or gshard"));
    TRY(check_acting(p, "router_temperature", r->takes & ROUTER_TEMPERATURE, "router = dense_to_sparse"));
    TRY(check_acting(p, "router_loss_weight", r->loss, "a router that has a loss of its own"));
    TRY(check_acting(p, "router_light_weight", s->router.n_light > 0, "light experts"));
    TRY(check_acting(p, "experts_used_schedule", s->k_min > 0, "experts_used_min"));
    TRY(check_acting(p, "diversify_mask", c->diversify_share > 0, "diversify_share"));
    CHECK(p->err, c->diversify_share == 0 || s->n_expert > 1, CADRE_E_ARG,
          "%s: [train] diversify_share: expected a model with experts", p->file);
    /* What is computed again must not depend on other layers, and leaves one decision a token. */
    bool alone = s->router_state == 0 && !s->gate_residual && s->chain <= 1 && s->moe_heads <= 1 && !r->noise_gate;
    CHECK(p->err, alone || !c->recompute, CADRE_E_ARG,
          "%s: [train] recompute: not offered with router_state, router_residual, expert_chain, expert_heads or "
          "router = noisy",
          p->file);
    return CADRE_OK;
}

/* specials: names between blanks. */
static cadre_err split_specials(const struct parse *p)
{
    struct train_config *c = p->cfg;
    for (const char *at = c->specials; *(at += strspn(at, " \t"));) {
        size_t n = strcspn(at, " \t");
        CHECK(p->err, c->n_specials < TRAIN_MAX_SPECIALS && n < TRAIN_NAME, CADRE_E_ARG,
              "%s: [tokenizer] specials: expected at most %d tokens of 1 to %d characters", p->file, TRAIN_MAX_SPECIALS,
              TRAIN_NAME - 1);
        char *name = c->special[c->n_specials++];
        memcpy(name, at, n);
        name[n] = 0;
        CHECK(p->err, strcmp(name, TRAIN_END_OF_TEXT) != 0, CADRE_E_ARG,
              "%s: [tokenizer] specials: %s is in every vocabulary; leave it out", p->file, name);
        for (int i = 0; i + 1 < c->n_specials; i++)
            CHECK(p->err, strcmp(c->special[i], name) != 0, CADRE_E_ARG, "%s: [tokenizer] specials: %s is given twice",
                  p->file, name);
        at += n;
    }
    return CADRE_OK;
}

/* A template's file lies beside the description. */
static cadre_err place_template(struct train_config *c, const char *path, cadre_error *err)
{
    const char *slash = strrchr(path, '/'), *name = c->chat_template;
    size_t dir = slash ? (size_t)(slash - path) + 1 : 0;
    if (!strpbrk(name, "/.") || *name == '/' || dir == 0)
        return CADRE_OK;
    CHECK(err, dir + strlen(name) < TRAIN_TEXT, CADRE_E_ARG,
          "%s: [tokenizer] chat_template: expected a path of at most %d characters", path, TRAIN_TEXT - 1);
    memmove(c->chat_template + dir, name, strlen(name) + 1);
    memcpy(c->chat_template, path, dir);
    return CADRE_OK;
}

static cadre_err check_run(const struct parse *p)
{
    const struct train_config *c = p->cfg;
    CHECK(p->err, c->sequence <= c->spec.n_ctx, CADRE_E_ARG,
          "%s: [train] sequence %lld is longer than [model] context %lld", p->file, (long long)c->sequence,
          (long long)c->spec.n_ctx);
    CHECK(p->err, c->micro_tokens % c->sequence == 0 && c->batch_tokens % c->micro_tokens == 0, CADRE_E_ARG,
          "%s: [train] micro_tokens (%lld) must be a multiple of sequence (%lld), batch_tokens (%lld) one of "
          "micro_tokens",
          p->file, (long long)c->micro_tokens, (long long)c->sequence, (long long)c->batch_tokens);
    CHECK(p->err, strcmp(c->precision, "bf16") == 0 || strcmp(c->precision, "f32") == 0, CADRE_E_ARG,
          "%s: [train] precision: expected bf16 or f32, found '%s'", p->file, c->precision);
    enum dtype t = dtype_by_name(c->file_type);
    CHECK(p->err, t != DTYPE_NONE && dtype_info(t)->encode, CADRE_E_ARG,
          "%s: [train] file_type: expected a format that can be written (f32, bf16, q8_0, q4_k, …), found '%s'",
          p->file, c->file_type);
    CHECK(p->err, strcmp(c->balance, "bias") != 0 || c->spec.router_bias, CADRE_E_ARG,
          "%s: [train] balance = bias moves the selection bias; set [model] router_bias = true", p->file);
    TRY(check_optimizer(p));
    if (c->spec.n_expert > 0)
        TRY(check_routing(p));
    return check_schedule(p);
}

cadre_err train_config_parse(struct train_config *cfg, const char *name, const char *text, cadre_error *err)
{
    memset(cfg, 0, sizeof *cfg);
    struct parse p = {.cfg = cfg, .file = name, .err = err};
    for (int i = 0; i < N_KEYS; i++)
        if (keys[i].value && *keys[i].value)
            TRY(set_value(&p, &keys[i], keys[i].value));
    int line = ini_parse_string(text, on_pair, &p);
    if (p.rc)
        return line > 0 ? error_wrap(err, p.rc, "%s: line %d", name, line) : p.rc;
    CHECK(err, line == 0, CADRE_E_FORMAT, "%s: line %d: expected [section] or key = value", name, line);
    for (int i = 0; i < N_KEYS; i++)
        CHECK(err, keys[i].value || p.given[i], CADRE_E_ARG, "%s: [%s] %s is missing", name, keys[i].section,
              keys[i].name);
    TRY(split_specials(&p));
    TRY(fill_spec(&p));
    cfg->hash = XXH3_64bits(text, strlen(text));
    return check_run(&p);
}

cadre_err train_config_read(struct train_config *cfg, const char *path, cadre_error *err)
{
    char *text;
    size_t n;
    TRY(file_slurp(path, 1 << 20, &text, &n, err));
    cadre_err rc = strlen(text) == n ? train_config_parse(cfg, path, text, err)
                                     : error_set(err, CADRE_E_FORMAT, "%s: expected text, found a 0 byte", path);
    free(text);
    return rc ? rc : place_template(cfg, path, err);
}
