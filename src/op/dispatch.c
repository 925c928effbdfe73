/* Tokens to experts and back. The plan is a counting sort of the chosen (token, slot) pairs by expert; it keeps the
 * order of tokens, so the rows of one expert do not depend on what other experts got. */
#include "op/op.h"

#include <assert.h>
#include <string.h>

static void count_and_place(struct dispatch *p, const int32_t *id)
{
    int64_t pairs = p->n_tok * p->k, *offset = p->offset;
    memset(offset, 0, (size_t)(p->n_expert + 1) * sizeof *offset);
    for (int64_t i = 0; i < pairs; i++) {
        assert(id[i] >= -1 && id[i] < p->n_expert);
        if (id[i] >= 0)
            offset[id[i] + 1]++;
    }
    for (int64_t e = 0; e < p->n_expert; e++)
        offset[e + 1] += offset[e];
    p->n_rows = offset[p->n_expert];
    /* offset[e] runs from the start of e to its end, which is the start of e + 1: then everything moves up by one. */
    for (int64_t i = 0; i < pairs; i++) {
        p->slot_row[i] = id[i] < 0 ? -1 : (int32_t)offset[id[i]]++;
        if (id[i] >= 0)
            p->row_token[p->slot_row[i]] = (int32_t)(i / p->k);
    }
    for (int64_t e = p->n_expert; e > 0; e--)
        offset[e] = offset[e - 1];
    offset[0] = 0;
}

struct dispatch *op_dispatch_plan(struct op_ctx *c, const int32_t *id, int64_t n_tok, int64_t k, int64_t n_expert)
{
    assert(n_tok * k <= INT32_MAX);
    struct dispatch *p = op_struct(c, sizeof *p);
    *p = (struct dispatch){.n_tok = n_tok, .k = k, .n_expert = n_expert, .n_rows = n_tok * k};
    p->offset = arena_alloc(c->arena, (size_t)(n_expert + 1) * sizeof *p->offset);
    p->row_token = arena_alloc(c->arena, (size_t)(n_tok * k) * sizeof *p->row_token);
    p->slot_row = arena_alloc(c->arena, (size_t)(n_tok * k) * sizeof *p->slot_row);
    if (!c->dry)
        count_and_place(p, id);
    return p;
}

struct move {
    const struct kernels *k;
    const struct dispatch *p;
    struct tensor *x, *weight, *y; /* weight: combine only */
    real *dx, *dweight;
};

static void dispatch_rows(void *arg, int64_t from, int64_t to)
{
    const struct move *m = arg;
    int64_t d = tensor_cols(m->x);
    for (int64_t r = from; r < to; r++)
        memcpy(m->y->x + r * d, m->x->x + m->p->row_token[r] * d, (size_t)d * sizeof(real));
}

/* dx[t] += Σ_j dy[slot_row[t, j]], j ascending */
static void dispatch_back_tokens(void *arg, int64_t from, int64_t to)
{
    const struct move *m = arg;
    int64_t d = tensor_cols(m->x), k = m->p->k;
    for (int64_t t = from; t < to; t++)
        for (int64_t s = t * k; s < (t + 1) * k; s++)
            if (m->p->slot_row[s] >= 0)
                m->k->axpy(m->dx + t * d, 1, m->y->g + m->p->slot_row[s] * d, d);
}

static void dispatch_back(struct op_ctx *c, void *saved)
{
    struct move *m = saved;
    if (!m->y->g)
        return;
    m->dx = tensor_grad(c, m->x);
    op_rows_run(c, m->p->n_tok, m->p->k * tensor_cols(m->x), dispatch_back_tokens, m);
}

static struct tensor *record(struct op_ctx *c, struct move m, bool track, op_back *back)
{
    if (op_records(c, track)) {
        m.y->track = true;
        struct move *saved = op_struct(c, sizeof *saved);
        *saved = m;
        tape_push(c, back, saved);
    }
    return m.y;
}

struct tensor *op_dispatch(struct op_ctx *c, struct tensor *x, const struct dispatch *p)
{
    assert(tensor_rows(x) == p->n_tok);
    struct move m = {.k = c->k, .p = p, .x = x, .y = op_new2(c, p->n_rows, tensor_cols(x))};
    op_rows_run(c, p->n_rows, tensor_cols(x), dispatch_rows, &m);
    return record(c, m, x->track, dispatch_back);
}

/* y[t] = Σ_j weight[t, j] · rows[slot_row[t, j]] */
static void combine_tokens(void *arg, int64_t from, int64_t to)
{
    const struct move *m = arg;
    int64_t d = tensor_cols(m->x), k = m->p->k;
    memset(m->y->x + from * d, 0, (size_t)((to - from) * d) * sizeof(real));
    for (int64_t t = from; t < to; t++)
        for (int64_t s = t * k; s < (t + 1) * k; s++)
            if (m->p->slot_row[s] >= 0)
                m->k->axpy(m->y->x + t * d, m->weight->x[s], m->x->x + m->p->slot_row[s] * d, d);
}

/* Every row belongs to one slot of one token, so tokens are independent. */
static void combine_back_tokens(void *arg, int64_t from, int64_t to)
{
    const struct move *m = arg;
    int64_t d = tensor_cols(m->x), k = m->p->k;
    for (int64_t t = from; t < to; t++)
        for (int64_t s = t * k; s < (t + 1) * k; s++) {
            int64_t r = m->p->slot_row[s];
            if (r < 0)
                continue;
            if (m->dx)
                m->k->axpy(m->dx + r * d, m->weight->x[s], m->y->g + t * d, d);
            if (m->dweight)
                m->dweight[s] += m->k->dot(m->y->g + t * d, m->x->x + r * d, d);
        }
}

static void combine_back(struct op_ctx *c, void *saved)
{
    struct move *m = saved;
    if (!m->y->g)
        return;
    m->dx = m->x->track ? tensor_grad(c, m->x) : NULL;
    m->dweight = m->weight->track ? tensor_grad(c, m->weight) : NULL;
    op_rows_run(c, m->p->n_tok, m->p->k * tensor_cols(m->x), combine_back_tokens, m);
}

struct tensor *op_combine(struct op_ctx *c, struct tensor *rows, struct tensor *weight, const struct dispatch *p)
{
    assert(tensor_rows(rows) == p->n_rows && tensor_count(weight) == p->n_tok * p->k);
    struct move m = {.k = c->k, .p = p, .x = rows, .weight = weight, .y = op_new2(c, p->n_tok, tensor_cols(rows))};
    op_rows_run(c, p->n_tok, p->k * tensor_cols(rows), combine_tokens, &m);
    return record(c, m, rows->track || weight->track, combine_back);
}
