/* Cross entropy. Logits are the largest tensor of a model: nothing of their size is kept, only each row's log-sum-exp.
 */
#include "op/op.h"

#include <assert.h>
#include <string.h>

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

/* dx (+)= scale (exp(x - lse) - [j = target]) */
static void loss_back_row(const struct cross_entropy *s, int64_t i)
{
    int64_t d = tensor_cols(s->x);
    const real *x = s->x->x + i * d;
    real *dx = s->dx + i * d, p[EXP_CHUNK];
    if (s->accumulate) {
        for (int64_t at = 0; at < d; at += EXP_CHUNK) {
            int64_t n = min_i64(EXP_CHUNK, d - at);
            s->k->exp_sum(p, x + at, s->lse[i], n);
            s->k->axpy(dx + at, s->scale, p, n);
        }
    } else {
        s->k->exp_sum(dx, x, s->lse[i], d);
        for (int64_t j = 0; j < d; j++)
            dx[j] *= s->scale;
    }
    dx[s->target[i]] -= s->scale;
}

static void loss_back_rows(void *arg, int64_t from, int64_t to)
{
    const struct cross_entropy *s = arg;
    int64_t d = tensor_cols(s->x);
    for (int64_t i = from; i < to; i++) {
        if (s->target[i] >= 0)
            loss_back_row(s, i);
        else if (!s->accumulate)
            memset(s->dx + i * d, 0, (size_t)d * sizeof(real));
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
