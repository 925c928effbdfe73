#include "engine/windows.h"

#include <stdlib.h>

#include "base/checked.h"

/* Tokens that go through a model at once: enough rows for its experts to work on, few enough that logits of a large
 * vocabulary stay small and that a caller who cancels does not wait long. */
enum { BATCH_TOKENS = 2048, DEFAULT_WINDOW = 512 };

static int64_t most_windows(const struct windows *w)
{
    return max_i64(1, min_i64(BATCH_TOKENS, windows_total(w)) / w->window);
}

int64_t windows_total(const struct windows *w)
{
    return w->n_ids - 1;
}

int64_t windows_batch(const struct windows *w)
{
    return most_windows(w) * w->window;
}

cadre_err windows_open(struct windows *w, const struct tokenizer *t, const char *text, size_t n, int64_t context,
                       int64_t n_ctx, int64_t max_tokens, cadre_error *err)
{
    *w = (struct windows){0};
    CHECK(err, t, CADRE_E_ARG, "text: this model has no tokenizer to read it with");
    CHECK(err, context == 0 || (context >= 2 && context <= n_ctx), CADRE_E_ARG,
          "context: expected a window of 2 to %lld tokens (what the model was made for), found %lld", (long long)n_ctx,
          (long long)context);
    CHECK(err, max_tokens >= 0, CADRE_E_ARG, "tokens: expected at least 0 (all), found %lld", (long long)max_tokens);
    size_t n_ids;
    TRY(tokenizer_encode(t, text, n, TOKENIZE_SPECIAL, &w->ids, &n_ids, err));
    w->n_ids = (int64_t)n_ids;
    CHECK(err, w->n_ids >= 2, CADRE_E_ARG,
          "text: expected at least 2 tokens, one to read and one to predict, found %lld", (long long)w->n_ids);
    if (max_tokens)
        w->n_ids = min_i64(w->n_ids, max_tokens + 1);
    w->window = min_i64(context ? context : min_i64(DEFAULT_WINDOW, n_ctx), windows_total(w));
    int64_t batch = windows_batch(w);
    w->position = calloc((size_t)batch, sizeof *w->position);
    w->row_start = calloc((size_t)most_windows(w) + 1, sizeof *w->row_start);
    CHECK(err, w->position && w->row_start, CADRE_E_MEMORY, "no memory for batches of %lld tokens", (long long)batch);
    for (int64_t i = 0; i < batch; i++)
        w->position[i] = (int32_t)(i % w->window);
    return CADRE_OK;
}

void windows_close(struct windows *w)
{
    free(w->ids);
    free(w->position);
    free(w->row_start);
    *w = (struct windows){0};
}

bool windows_next(struct windows *w, struct window_batch *b)
{
    int64_t left = windows_total(w) - w->next;
    if (left <= 0)
        return false;
    int64_t window = min_i64(w->window, left), n_seq = min_i64(most_windows(w), left / window);
    for (int64_t i = 0; i <= n_seq; i++)
        w->row_start[i] = i * window;
    *b = (struct window_batch){.n_tok = n_seq * window,
                               .n_seq = n_seq,
                               .token = w->ids + w->next,
                               .target = w->ids + w->next + 1,
                               .row_start = w->row_start,
                               .position = w->position};
    w->next += b->n_tok;
    return true;
}

static struct tensor *forward(struct reader *r, struct arena *arena, const struct window_batch *w, cadre_error *err)
{
    struct op_ctx c = {.k = &r->m->kernels, .pool = r->m->pool, .arena = arena, .act = r->act};
    if (arena->measuring) {
        c.dry = true;
        c.plan = &r->arena;
    }
    struct batch b = {.n_tok = w->n_tok,
                      .n_seq = w->n_seq,
                      .token = w->token,
                      .position = w->position,
                      .row_start = w->row_start,
                      .routing = r->routing};
    return model_forward(&c, r->m->model, &b, err);
}

cadre_err reader_open(struct reader *r, struct cadre_model *m, enum act act, const struct windows *w, cadre_error *err)
{
    *r = (struct reader){.m = m, .act = act};
    struct windows first = *w;
    struct window_batch b = {0};
    struct arena measure;
    windows_next(&first, &b);
    r->routing = calloc((size_t)m->model->spec.n_layer, sizeof *r->routing);
    CHECK(err, r->routing, CADRE_E_MEMORY, "no memory for %lld layers", (long long)m->model->spec.n_layer);
    arena_init_measuring(&measure);
    TRY(arena_init(&r->arena, OP_PLAN_BYTES, err)); /* the builders' structs */
    struct tensor *planned = forward(r, &measure, &b, err);
    arena_destroy(&r->arena);
    if (!planned)
        return err->code;
    TRY(runtime_fits(m, measure.peak, "working memory", err));
    return arena_init(&r->arena, measure.peak, err);
}

void reader_close(struct reader *r)
{
    arena_destroy(&r->arena);
    free(r->routing);
    *r = (struct reader){0};
}

cadre_err reader_read(struct reader *r, const struct window_batch *b, const real **logits, cadre_error *err)
{
    arena_reset(&r->arena, 0);
    struct tensor *t = forward(r, &r->arena, b, err);
    if (!t)
        return err->code;
    *logits = t->x;
    return CADRE_OK;
}
