/* The output projection and its cross entropy in one operator, forward and backward together, HEAD_ROWS rows at a time:
 * logits, the largest tensor of a model, never exist as a whole.
 *
 *     each chunk of rows:   z = x Wᵀ            loss += Σ log Σ_j exp z_j - z[target]
 *       with a tape:        z ← softmax(z) - [j = target]         dx = z W       dW += zᵀ x
 *
 * Going back then only multiplies dx and dW by what arrives. A chunk continues each output's chain of dW where the
 * chunk before it ended, so chunks do not change a sum's order: it is that of one product over all rows. */
#include "op/op.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"
#include "op/softmax.h"

enum { HEAD_ROWS = 256 };

struct head {
    const struct kernels *k;
    struct tensor *x, *y;
    const struct weight *w;
    const int32_t *target;
    int64_t count; /* rows with a target */
    real *dx, *dw; /* of Σ loss, [rows, k] and [w.n, k]; NULL where no gradient is wanted */
};

/* One chunk: rows from … of x, logits z. */
struct head_chunk {
    const struct head *h;
    real *z, *loss; /* [rows, w.n], [rows] */
    int64_t from;
    bool back;
};

static void chunk_rows(void *arg, int64_t from, int64_t to)
{
    const struct head_chunk *c = arg;
    const struct kernels *k = c->h->k;
    int64_t n = c->h->w->n;
    for (int64_t i = from; i < to; i++) {
        real *z = c->z + i * n, sum;
        int32_t t = c->h->target[c->from + i];
        assert(t < n);
        c->loss[i] = 0;
        if (t < 0) {
            memset(z, 0, (size_t)n * sizeof *z);
            continue;
        }
        real right = z[t];
        c->loss[i] = op_row_exp(k, z, n, &sum) - right;
        if (!c->back)
            continue;
        real scale = 1 / sum;
        for (int64_t j = 0; j < n; j++)
            z[j] *= scale;
        z[t] -= 1;
    }
}

/* dx = z W of the chunk's rows; dW (+)= zᵀ x */
static void chunk_back(struct op_ctx *c, const struct head *h, const real *z, int64_t from, int64_t rows)
{
    int64_t n = h->w->n, k = h->w->k;
    struct gemm dx = {.m = rows,
                      .n = k,
                      .k = n,
                      .a = z,
                      .a_row = n,
                      .a_col = 1,
                      .b = h->w->param->x,
                      .b_row = 1,
                      .b_col = k,
                      .c = h->dx ? h->dx + from * k : NULL,
                      .c_row = k};
    struct gemm dw = {.m = n,
                      .n = k,
                      .k = rows,
                      .a = z,
                      .a_row = 1,
                      .a_col = n,
                      .b = h->x->x + from * k,
                      .b_row = 1,
                      .b_col = k,
                      .c = h->dw,
                      .c_row = k,
                      .accumulate = from > 0};
    if (h->dx)
        gemm_run(c->k, c->pool, c->arena, c->precision, &dx, 1);
    if (h->dw)
        gemm_run(c->k, c->pool, c->arena, c->precision, &dw, 1);
}

static void run_chunk(struct op_ctx *c, const struct head *h, int64_t from, int64_t rows, real *loss)
{
    struct op_ctx plain = *c;
    plain.tape = NULL;
    size_t mark = arena_mark(c->arena);
    struct tensor *x = op_wrap(c, h->x->x + from * h->w->k, rows, h->w->k);
    struct tensor *z = op_linear(&plain, x, h->w, NULL);
    struct head_chunk chunk = {h, z->x, loss + from, from, h->dx || h->dw};
    op_rows_run(c, rows, h->w->n, chunk_rows, &chunk);
    if (chunk.back)
        chunk_back(c, h, z->x, from, rows);
    arena_reset(c->arena, mark);
}

/* grad (+)= scale · kept, rows of k */
struct add_job {
    const struct kernels *k;
    real *grad, scale;
    const real *kept;
    int64_t cols;
    bool accumulate;
};

static void add_rows(void *arg, int64_t from, int64_t to)
{
    const struct add_job *j = arg;
    if (j->accumulate)
        j->k->axpy(j->grad + from * j->cols, j->scale, j->kept + from * j->cols, (to - from) * j->cols);
    else
        for (int64_t i = from * j->cols; i < to * j->cols; i++)
            j->grad[i] = j->scale * j->kept[i];
}

static void add_gradient(struct op_ctx *c, const struct head *h, struct tensor *to, const real *kept)
{
    struct add_job j = {.k = c->k, .kept = kept, .cols = h->w->k};
    j.grad = tensor_grad_write(c, to, &j.accumulate);
    if (!c->dry)
        j.scale = h->count ? h->y->g[0] / (real)h->count : 0;
    op_rows_run(c, tensor_rows(to), j.cols, add_rows, &j);
}

static void head_back(struct op_ctx *c, void *saved)
{
    const struct head *h = saved;
    if (!h->y->g)
        return;
    if (h->dx)
        add_gradient(c, h, h->x, h->dx);
    if (h->dw)
        add_gradient(c, h, h->w->param, h->dw);
}

struct tensor *op_head_loss(struct op_ctx *c, struct tensor *x, const struct weight *w, const int32_t *target)
{
    int64_t rows = tensor_rows(x);
    bool back = op_records(c, x->track || (w->param && w->param->track));
    struct head h = {.k = c->k, .x = x, .y = op_new2(c, 1, 1), .w = w, .target = target};
    assert(w->n_expert <= 1 && tensor_cols(x) == w->k && (!back || w->param));
    if (back && x->track)
        h.dx = arena_alloc(c->arena, (size_t)tensor_count(x) * sizeof(real));
    if (back && w->param->track)
        h.dw = arena_alloc(c->arena, (size_t)(w->n * w->k) * sizeof(real));
    struct head *s = back ? op_struct(c, sizeof *s) : NULL;
    size_t mark = arena_mark(c->arena);
    real *loss = arena_alloc(c->arena, (size_t)rows * sizeof *loss);
    for (int64_t from = 0; from < rows; from += HEAD_ROWS)
        run_chunk(c, &h, from, min_i64(HEAD_ROWS, rows - from), loss);
    if (!c->dry) {
        for (int64_t i = 0; i < rows; i++)
            h.count += target[i] >= 0;
        h.y->x[0] = h.count ? c->k->sum(loss, rows) / (real)h.count : 0;
    }
    arena_reset(c->arena, mark);
    if (back) {
        h.y->track = true;
        *s = h;
        tape_push(c, head_back, s);
    }
    return h.y;
}
