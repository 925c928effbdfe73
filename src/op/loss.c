/* Cross entropy. Logits are the largest tensor of a model: nothing of their size is kept, only each row's log-sum-exp.
 */
#include "op/op.h"

#include <assert.h>

#include "base/checked.h"
#include "op/softmax.h"

struct cross_entropy {
    const struct kernels *k;
    struct tensor *x, *y;
    const int32_t *target;
    real *lse;     /* [rows] log Σ_j exp(x_j) */
    real *loss;    /* [rows] lse - x[target]; forward only */
    int64_t count; /* rows with a target */
    real *dx, scale;
    bool accumulate; /* else dx is undefined before */
};

static void loss_rows(void *arg, int64_t from, int64_t to)
{
    const struct cross_entropy *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        const real *x = s->x->x + i * d;
        assert(s->target[i] < d);
        s->lse[i] = s->target[i] < 0 ? 0 : op_row_logsumexp(s->k, x, d);
        s->loss[i] = s->target[i] < 0 ? 0 : s->lse[i] - x[s->target[i]];
    }
}

/* dx (+)= scale (exp(x - lse) - [j = target]); rows without a target get nothing */
static void loss_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct cross_entropy *s = arg;
    int64_t d = tensor_cols(s->x);
    real p[EXP_CHUNK];
    for (int64_t i = from; i < to; i++) {
        real scale = s->target[i] < 0 ? 0 : s->scale;
        for (int64_t at = i * d; at < (i + 1) * d; at += EXP_CHUNK) {
            int64_t n = min_i64(EXP_CHUNK, (i + 1) * d - at);
            if (scale != 0)
                s->k->exp_sum(p, s->x->x + at, s->lse[i], n);
            for (int64_t j = 0; j < n; j++)
                s->dx[at + j] = (s->accumulate ? s->dx[at + j] : 0) + (scale != 0 ? scale * p[j] : 0);
        }
        if (scale != 0)
            s->dx[i * d + s->target[i]] -= scale;
    }
}

static void loss_back(struct op_ctx *c, void *saved)
{
    struct cross_entropy *s = saved;
    if (!s->y->g)
        return;
    s->dx = tensor_grad_write(c, s->x, &s->accumulate);
    if (c->dry)
        return;
    s->scale = s->count ? s->y->g[0] / (real)s->count : 0;
    op_rows_run(c, tensor_rows(s->x), tensor_cols(s->x), loss_back_rows, s);
}

struct tensor *op_cross_entropy(struct op_ctx *c, struct tensor *logits, const int32_t *target)
{
    int64_t rows = tensor_rows(logits);
    struct cross_entropy s = {.k = c->k, .x = logits, .y = op_new2(c, 1, 1), .target = target};
    s.lse = arena_alloc(c->arena, (size_t)rows * sizeof(real));
    size_t mark = arena_mark(c->arena);
    s.loss = arena_alloc(c->arena, (size_t)rows * sizeof(real));
    op_rows_run(c, rows, tensor_cols(logits), loss_rows, &s);
    if (!c->dry) {
        for (int64_t i = 0; i < rows; i++)
            s.count += target[i] >= 0;
        s.y->x[0] = s.count ? c->k->sum(s.loss, rows) / (real)s.count : 0;
    }
    s.loss = NULL;
    arena_reset(c->arena, mark);
    if (op_records(c, logits->track)) {
        s.y->track = true;
        struct cross_entropy *saved = op_struct(c, sizeof *saved);
        *saved = s;
        tape_push(c, loss_back, saved);
    }
    return s.y;
}
