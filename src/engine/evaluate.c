#include <math.h>
#include <stdlib.h>

#include "base/checked.h"
#include "engine/runtime.h"

enum { EVAL_TOKENS = 4096, EVAL_CONTEXT = 512 }; /* tokens of whole windows that go through the model at once */

cadre_eval_options cadre_eval_options_default(void)
{
    return (cadre_eval_options){0};
}

struct evaluation {
    struct cadre_model *m;
    struct arena arena;
    int64_t window, most; /* predicted tokens a window, windows a batch */
    int32_t *ids;
    size_t n_ids;
    int32_t *position;
    int64_t *row_start;
    int32_t *target; /* the ids from the second on, cut into windows */
    int32_t *token;
    struct routing *routing;
    int64_t *count; /* [n_layer, n_expert] */
};

/* Logits and loss of n_seq windows of `window` tokens that lie in token/target. */
static cadre_err run(struct evaluation *e, struct arena *arena, int64_t n_seq, double *nats, cadre_error *err)
{
    const struct spec *s = &e->m->model->spec;
    struct op_ctx c = {.k = &e->m->kernels, .pool = e->m->pool, .arena = arena, .dry = arena->measuring};
    struct batch b = {.n_tok = n_seq * e->window,
                      .n_seq = n_seq,
                      .token = e->token,
                      .position = e->position,
                      .row_start = e->row_start,
                      .routing = e->routing};
    struct tensor *logits = model_forward(&c, e->m->model, &b, err);
    if (!logits)
        return err->code;
    struct tensor *loss = op_cross_entropy(&c, logits, e->target);
    if (!c.dry) {
        *nats += (double)loss->x[0] * (double)b.n_tok;
        for (int64_t l = 0; l < s->n_layer; l++)
            for (int64_t i = 0; e->routing[l].id && i < b.n_tok * s->router.k; i++)
                if (e->routing[l].id[i] >= 0)
                    e->count[l * s->n_expert + e->routing[l].id[i]]++;
    }
    arena_reset(arena, 0);
    return CADRE_OK;
}

static cadre_err allocate(struct evaluation *e, cadre_error *err)
{
    const struct spec *s = &e->m->model->spec;
    size_t n = (size_t)(e->most * e->window);
    e->position = calloc(n, sizeof *e->position);
    e->token = calloc(n, sizeof *e->token);
    e->target = calloc(n, sizeof *e->target);
    e->row_start = calloc((size_t)e->most + 1, sizeof *e->row_start);
    e->routing = calloc((size_t)s->n_layer, sizeof *e->routing);
    e->count = calloc((size_t)s->n_layer * (size_t)max_i64(s->n_expert, 1), sizeof *e->count);
    CHECK(err, e->position && e->token && e->target && e->row_start && e->routing && e->count, CADRE_E_MEMORY,
          "no memory for batches of %zu tokens", n);
    for (size_t i = 0; i < n; i++)
        e->position[i] = (int32_t)((int64_t)i % e->window);
    for (int64_t i = 0; i <= e->most; i++)
        e->row_start[i] = i * e->window;
    struct arena plan;
    arena_init_measuring(&plan);
    double unused = 0;
    TRY(run(e, &plan, e->most, &unused, err));
    TRY(runtime_fits(e->m, plan.peak, "working memory", err));
    return arena_init(&e->arena, plan.peak, err);
}

static cadre_err all_windows(struct evaluation *e, const cadre_eval_options *o, cadre_eval_result *r, cadre_error *err)
{
    int64_t n_windows = ((int64_t)e->n_ids - 1) / e->window;
    for (int64_t w = 0; w < n_windows;) {
        int64_t n = min_i64(e->most, n_windows - w);
        for (int64_t i = 0; i < n * e->window; i++) {
            const char *piece;
            e->token[i] = e->ids[w * e->window + i];
            e->target[i] = e->ids[w * e->window + i + 1];
            r->bytes += (int64_t)tokenizer_piece(e->m->tokenizer, e->target[i], false, &piece);
        }
        TRY(run(e, &e->arena, n, &r->nats, err));
        w += n;
        r->tokens += n * e->window;
        CHECK(err, !o->progress || o->progress(o->user, NULL, r->tokens, n_windows * e->window), CADRE_E_CANCELLED,
              "stopped by the caller");
    }
    return CADRE_OK;
}

static cadre_err give_use(const struct evaluation *e, cadre_eval_result *r, cadre_error *err)
{
    const struct spec *s = &e->m->model->spec;
    if (!s->n_expert)
        return CADRE_OK;
    r->expert_use = calloc((size_t)s->n_layer * (size_t)s->n_expert, sizeof *r->expert_use);
    CHECK(err, r->expert_use, CADRE_E_MEMORY, "no memory for the use of %d experts", s->n_expert);
    r->n_layers = s->n_layer;
    r->n_experts = s->n_expert;
    for (int64_t l = 0; l < s->n_layer; l++) {
        int64_t sum = 0;
        for (int64_t i = 0; i < s->n_expert; i++)
            sum += e->count[l * s->n_expert + i];
        for (int64_t i = 0; i < s->n_expert && sum; i++)
            r->expert_use[l * s->n_expert + i] = (double)e->count[l * s->n_expert + i] / (double)sum;
    }
    return CADRE_OK;
}

static cadre_err open_evaluation(struct evaluation *e, const char *text, size_t n, const cadre_eval_options *o,
                                 cadre_error *err)
{
    int64_t n_ctx = e->m->model->spec.n_ctx;
    int64_t window = o->context ? o->context : min_i64(EVAL_CONTEXT, n_ctx);
    CHECK(err, window >= 2 && window <= n_ctx, CADRE_E_ARG, "context: expected 2 to %lld tokens, found %lld",
          (long long)n_ctx, (long long)window);
    TRY(tokenizer_encode(e->m->tokenizer, text, n, TOKENIZE_SPECIAL, &e->ids, &e->n_ids, err));
    CHECK(err, e->n_ids >= 3, CADRE_E_ARG, "text: expected at least 3 tokens, found %zu", e->n_ids);
    if (o->max_tokens > 0 && e->n_ids > (size_t)o->max_tokens + 1)
        e->n_ids = (size_t)o->max_tokens + 1;
    e->window = min_i64(window, (int64_t)e->n_ids - 1); /* a short text is one short window */
    e->most = max_i64(1, min_i64(EVAL_TOKENS / e->window, ((int64_t)e->n_ids - 1) / e->window));
    return allocate(e, err);
}

cadre_err cadre_eval(cadre_model *m, const char *text, size_t n, const cadre_eval_options *o, cadre_eval_result *out,
                     cadre_error *err)
{
    cadre_error own = {0};
    err = err ? err : &own;
    CHECK(err, m && m->model && text && o && out, CADRE_E_ARG,
          "cadre_eval: a model with weights, text, options and out must be given");
    struct evaluation e = {.m = m};
    *out = (cadre_eval_result){0};
    cadre_err rc = open_evaluation(&e, text, n, o, err);
    if (rc == CADRE_OK)
        rc = all_windows(&e, o, out, err);
    if (rc == CADRE_OK)
        rc = give_use(&e, out, err);
    if (rc == CADRE_OK) {
        out->perplexity = exp(out->nats / (double)out->tokens);
        out->bits_per_byte = out->bytes ? out->nats / M_LN2 / (double)out->bytes : NAN;
    }
    arena_destroy(&e.arena);
    free(e.ids);
    free(e.position);
    free(e.token);
    free(e.target);
    free(e.row_start);
    free(e.routing);
    free(e.count);
    return rc;
}

void cadre_eval_result_free(cadre_eval_result *r)
{
    if (!r)
        return;
    free(r->expert_use);
    *r = (cadre_eval_result){0};
}
