/* Attention backwards (Dao et al. 2022, algorithm 4): weights are rebuilt block by block from the saved maximum and
 * sum, so no [n, n] matrix is kept. Per head, with G = d out:
 *
 *     P = exp(S - max) / sum        dV = Pᵀ G
 *     dP = G Vᵀ                     dS = P ∘ (dP - D) · scale,  D_i = Σ_d G_id out_id
 *     dQ = dS K                     dK = dSᵀ Q
 *
 * and for the sink of a head d z = -Σ_i exp(z - max_i) / sum_i · D_i.
 *
 * A work item is one kv head of one sequence and owns every gradient it adds to: blocks of keys ascending, in each the
 * query heads, in each the tiles of queries ascending. So sums have one order for every number of threads. */
#include "op/attention.h"

enum { TILE = KV_BLOCK }; /* queries; tiles and blocks lie on one grid, so masks cut only tiles on the diagonal */

struct scratch {      /* of one worker */
    real *scaled;     /* [KV_BLOCK, head_dim] keys times scale */
    real *keys;       /* the same packed */
    real *values;     /* one block packed */
    real *p, *ds;     /* [TILE, KV_BLOCK] */
    real *transposed; /* [KV_BLOCK, TILE] p or ds */
    struct span *see; /* [TILE] keys that a query sees */
    struct span *by;  /* [KV_BLOCK] queries that a key is seen by */
};

struct backward {
    const struct kernels *ks;
    const struct attention *a;
    const struct attention_saved *saved;
    const real *dout;
    real *dq, *dk, *dv;      /* NULL: not wanted */
    real *delta;             /* [n, n_head] D */
    struct scratch *scratch; /* [workers] */
};

/* One block of keys of one sequence and kv head, against which tiles go. */
struct block {
    int64_t index, n_keys;
    int64_t row; /* of its first key */
    int64_t kv_head;
};

/* Queries first … first + n - 1 of a sequence that starts at row `start`. */
struct tile {
    int64_t start, first, n, head;
};

static void delta_fill(const struct backward *b, int64_t start, int64_t end, int64_t kv_head)
{
    const struct attention *a = b->a;
    int64_t group = a->n_head / a->n_kv_head;
    for (int64_t i = start; i < end; i++)
        for (int64_t g = 0; g < group; g++) {
            int64_t at = i * a->n_head + kv_head * group + g;
            b->delta[at] = b->ks->dot(b->dout + at * a->v_dim, b->saved->out->x + at * a->v_dim, a->v_dim);
        }
}

/* P and dS of a tile; what a query does not see stays undefined and is not read. */
static void tile_weights(const struct backward *b, const struct scratch *s, const struct block *k, const struct tile *t)
{
    const struct attention *a = b->a;
    int64_t at = (t->start + t->first) * a->n_head + t->head;
    for (int64_t r = 0; r < t->n; r++)
        s->see[r] = attention_visible(a, t->first + r, k->index);
    attention_scores(b->ks, s->see, t->n, a->head_dim, b->saved->q->x + at * a->head_dim, a->n_head * a->head_dim,
                     s->keys, s->p);
    attention_scores(b->ks, s->see, t->n, a->v_dim, b->dout + at * a->v_dim, a->n_head * a->v_dim, s->values, s->ds);
    for (int64_t r = 0; r < t->n; r++, at += a->n_head) {
        struct softmax_stats stats = b->saved->stats[at];
        int64_t from = r * KV_BLOCK + s->see[r].lo;
        b->ks->attn.softmax_back(s->p + from, s->ds + from, s->see[r].hi - s->see[r].lo, stats.max, 1 / stats.sum,
                                 b->delta[at], a->scale);
    }
}

/* to[j, :] += Σ_r w[r, j] x[r, :] over the queries r of a tile that see key j */
static void add_transposed(const struct backward *b, const struct scratch *s, const struct block *k,
                           const struct tile *t, const real *w, int64_t dim, const real *x, int64_t x_stride, real *to,
                           int64_t to_stride)
{
    b->ks->rows_f32(s->transposed, TILE, w, 1, KV_BLOCK, k->n_keys, t->n);
    b->ks->attn.span_add(k->n_keys, dim, s->by, s->transposed, TILE, x, x_stride, to, to_stride);
}

static void tile_back(const struct backward *b, const struct scratch *s, const struct block *k, const struct tile *t)
{
    const struct attention *a = b->a;
    int64_t q_at = (t->start + t->first) * a->n_head + t->head, q_stride = a->n_head * a->head_dim;
    int64_t k_at = k->row * a->n_kv_head + k->kv_head, k_stride = a->n_kv_head * a->head_dim;
    tile_weights(b, s, k, t);
    for (int64_t j = 0; j < k->n_keys; j++) {
        int64_t ahead = k->index * KV_BLOCK + j - t->first; /* of the first query */
        s->by[j] = (struct span){max_i64(0, ahead), a->window > 0 ? min_i64(t->n, ahead + a->window) : t->n};
    }
    if (b->dq)
        b->ks->attn.span_add(t->n, a->head_dim, s->see, s->ds, KV_BLOCK, b->saved->k->x + k_at * a->head_dim, k_stride,
                             b->dq + q_at * a->head_dim, q_stride);
    if (b->dk)
        add_transposed(b, s, k, t, s->ds, a->head_dim, b->saved->q->x + q_at * a->head_dim, q_stride,
                       b->dk + k_at * a->head_dim, k_stride);
    if (b->dv)
        add_transposed(b, s, k, t, s->p, a->v_dim, b->dout + q_at * a->v_dim, a->n_head * a->v_dim,
                       b->dv + k_at * a->v_dim, a->n_kv_head * a->v_dim);
}

/* The scale goes into the keys here, once a block: queries are many. */
static void block_pack(const struct backward *b, const struct scratch *s, const struct block *k)
{
    const struct attention *a = b->a;
    int64_t at = k->row * a->n_kv_head + k->kv_head;
    for (int64_t j = 0; j < k->n_keys; j++)
        for (int64_t d = 0; d < a->head_dim; d++)
            s->scaled[j * a->head_dim + d] = b->saved->k->x[(at + j * a->n_kv_head) * a->head_dim + d] * a->scale;
    attention_pack_rows(b->ks, s->keys, s->scaled, a->head_dim, k->n_keys, a->head_dim);
    attention_pack_rows(b->ks, s->values, b->saved->v->x + at * a->v_dim, a->n_kv_head * a->v_dim, k->n_keys, a->v_dim);
}

static void item_run(void *arg, int64_t item, int worker)
{
    const struct backward *b = arg;
    const struct attention *a = b->a;
    const struct scratch *s = &b->scratch[worker];
    int64_t seq = item / a->n_kv_head, kv_head = item % a->n_kv_head, group = a->n_head / a->n_kv_head;
    int64_t start = a->row_start[seq], rows = a->row_start[seq + 1] - start;
    delta_fill(b, start, start + rows, kv_head);
    for (int64_t i = 0; i * KV_BLOCK < rows; i++) {
        struct block k = {i, min_i64(KV_BLOCK, rows - i * KV_BLOCK), start + i * KV_BLOCK, kv_head};
        block_pack(b, s, &k);
        for (int64_t head = kv_head * group; head < (kv_head + 1) * group; head++)
            for (int64_t q = i * TILE; q < rows; q += TILE) {
                struct tile t = {start, q, min_i64(TILE, rows - q), head};
                while (t.n > 0 && attention_visible(a, q + t.n - 1, i).lo >= KV_BLOCK)
                    t.n--; /* the window has passed this block */
                if (t.n == 0)
                    break;
                tile_back(b, s, &k, &t);
            }
    }
}

static struct scratch scratch_new(struct op_ctx *c, const struct attention *a)
{
    return (struct scratch){
        .scaled = attention_reals(c, KV_BLOCK * a->head_dim),
        .keys = attention_reals(c, KV_BLOCK * a->head_dim),
        .values = attention_reals(c, KV_BLOCK * a->v_dim),
        .p = attention_reals(c, TILE * KV_BLOCK),
        .ds = attention_reals(c, TILE * KV_BLOCK),
        .transposed = attention_reals(c, KV_BLOCK * TILE),
        .see = arena_alloc(c->arena, TILE * sizeof(struct span)),
        .by = arena_alloc(c->arena, KV_BLOCK * sizeof(struct span)),
    };
}

static void sink_sum(void *arg, int64_t from, int64_t to, real *sum)
{
    const struct backward *b = arg;
    int64_t n_head = b->a->n_head;
    for (int64_t i = from; i < to; i++)
        for (int64_t h = 0; h < n_head; h++) {
            struct softmax_stats stats = b->saved->stats[i * n_head + h];
            real e = b->a->sinks->x[h] - stats.max;
            b->ks->exp(&e, &e, 1);
            sum[h] -= e * (1 / stats.sum) * b->delta[i * n_head + h];
        }
}

void attention_back(struct op_ctx *c, void *p)
{
    const struct attention_saved *saved = p;
    const struct attention *a = &saved->a;
    if (!saved->out->g)
        return;
    struct backward b = {.ks = c->k, .a = a, .saved = saved, .dout = saved->out->g};
    b.dq = saved->q->track ? tensor_grad(c, saved->q) : NULL;
    b.dk = saved->k->track ? tensor_grad(c, saved->k) : NULL;
    b.dv = saved->v->track ? tensor_grad(c, saved->v) : NULL;
    real *dsinks = a->sinks && a->sinks->track ? tensor_grad(c, a->sinks) : NULL;
    size_t mark = arena_mark(c->arena);
    b.delta = attention_reals(c, tensor_rows(saved->q) * a->n_head);
    b.scratch = arena_alloc(c->arena, (size_t)pool_threads(c->pool) * sizeof *b.scratch);
    for (int w = 0; w < pool_threads(c->pool); w++) {
        struct scratch s = scratch_new(c, a);
        if (!c->dry)
            b.scratch[w] = s;
    }
    if (!c->dry)
        pool_run(c->pool, a->n_seq * a->n_kv_head, item_run, &b);
    if (dsinks)
        op_cols_run(c, tensor_rows(saved->q), a->n_head, sink_sum, &b, dsinks);
    arena_reset(c->arena, mark);
}
