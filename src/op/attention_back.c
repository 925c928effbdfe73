/* Attention backwards (Dao et al. 2022, algorithm 4): weights are rebuilt block by block from the saved maximum and
 * sum, so no [n, n] matrix is kept. Per head, with G = d out:
 *
 *     P = exp(S - max) / sum        dV = Pᵀ G
 *     dP = G Vᵀ                     dS = P ∘ (dP - D) · scale,  D_i = Σ_d G_id out_id
 *     dQ = dS K                     dK = dSᵀ Q
 *
 * A work item is one kv head of one sequence and owns every gradient it adds to: blocks of keys ascending, in each the
 * query heads, in each the tiles of queries ascending. So sums have one order for every number of threads. */
#include "op/attention.h"

enum { TILE = KV_BLOCK }; /* queries; tiles and blocks lie on one grid, so masks cut only tiles on the diagonal */

struct scratch {      /* of one worker */
    real *q;          /* [TILE, head_dim], times scale */
    real *key_rows;   /* one block packed: keys as outputs */
    real *key_values; /* the same summed over keys */
    real *value_rows; /* likewise values as outputs */
    real *q_values;   /* one tile packed: summed over queries */
    real *dout_values;
    real *p, *ds;     /* [TILE, KV_BLOCK] */
    real *transposed; /* [KV_BLOCK, TILE] */
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

/* Scores and dP of one row → P and dS, zero where masked. */
static void row_weights(const struct backward *b, real *p, real *ds, struct key_range see, int64_t n_keys, int64_t at)
{
    struct softmax_stats stats = b->saved->stats[at];
    real delta = b->delta[at], scale = b->a->scale;
    b->ks->exp_sum(p + see.lo, p + see.lo, stats.max, see.hi - see.lo);
    for (int64_t j = see.lo; j < see.hi; j++) {
        p[j] *= stats.inverse_sum;
        ds[j] = p[j] * (ds[j] - delta) * scale;
    }
    for (int64_t j = 0; j < see.lo; j++)
        p[j] = ds[j] = 0;
    for (int64_t j = see.hi; j < n_keys; j++)
        p[j] = ds[j] = 0;
}

static void tile_weights(const struct backward *b, const struct scratch *s, const struct block *k, const struct tile *t)
{
    const struct attention *a = b->a;
    int64_t row = t->start + t->first;
    const real *q = b->saved->q->x + (row * a->n_head + t->head) * a->head_dim;
    const real *dout = b->dout + (row * a->n_head + t->head) * a->v_dim;
    for (int64_t r = 0; r < t->n; r++)
        for (int64_t d = 0; d < a->head_dim; d++)
            s->q[r * a->head_dim + d] = q[r * a->n_head * a->head_dim + d] * a->scale;
    b->ks->gemm_f32(t->n, k->n_keys, a->head_dim, s->q, a->head_dim, s->key_rows, s->p, KV_BLOCK, false);
    b->ks->gemm_f32(t->n, k->n_keys, a->v_dim, dout, a->n_head * a->v_dim, s->value_rows, s->ds, KV_BLOCK, false);
    for (int64_t r = 0; r < t->n; r++)
        row_weights(b, s->p + r * KV_BLOCK, s->ds + r * KV_BLOCK, attention_visible(a, t->first + r, k->index),
                    k->n_keys, (row + r) * a->n_head + t->head);
}

/* to[j, d] += Σ_r w[r, j] x[r, d] over the rows of a tile */
static void add_transposed(const struct backward *b, const struct scratch *s, const real *w, real *packed,
                           const real *x, int64_t x_stride, int64_t dim, real *to, int64_t to_stride, int64_t n_keys,
                           int64_t n)
{
    b->ks->rows_f32(s->transposed, TILE, w, 1, KV_BLOCK, n_keys, n);
    attention_pack_values(b->ks, packed, x, x_stride, n, dim);
    b->ks->gemm_f32(n_keys, dim, n, s->transposed, TILE, packed, to, to_stride, true);
}

static void tile_back(const struct backward *b, const struct scratch *s, const struct block *k, const struct tile *t)
{
    const struct attention *a = b->a;
    tile_weights(b, s, k, t);
    int64_t q_at = ((t->start + t->first) * a->n_head + t->head) * a->head_dim, q_stride = a->n_head * a->head_dim;
    int64_t out_at = ((t->start + t->first) * a->n_head + t->head) * a->v_dim, out_stride = a->n_head * a->v_dim;
    int64_t k_at = (k->row * a->n_kv_head + k->kv_head) * a->head_dim, k_stride = a->n_kv_head * a->head_dim;
    int64_t v_at = (k->row * a->n_kv_head + k->kv_head) * a->v_dim, v_stride = a->n_kv_head * a->v_dim;
    if (b->dq)
        b->ks->gemm_f32(t->n, a->head_dim, k->n_keys, s->ds, KV_BLOCK, s->key_values, b->dq + q_at, q_stride, true);
    if (b->dk)
        add_transposed(b, s, s->ds, s->q_values, b->saved->q->x + q_at, q_stride, a->head_dim, b->dk + k_at, k_stride,
                       k->n_keys, t->n);
    if (b->dv)
        add_transposed(b, s, s->p, s->dout_values, b->dout + out_at, out_stride, a->v_dim, b->dv + v_at, v_stride,
                       k->n_keys, t->n);
}

static void block_pack(const struct backward *b, const struct scratch *s, const struct block *k)
{
    const struct attention *a = b->a;
    int64_t k_stride = a->n_kv_head * a->head_dim, v_stride = a->n_kv_head * a->v_dim;
    const real *keys = b->saved->k->x + k->row * k_stride + k->kv_head * a->head_dim;
    const real *values = b->saved->v->x + k->row * v_stride + k->kv_head * a->v_dim;
    attention_pack_rows(b->ks, s->key_rows, keys, k_stride, k->n_keys, a->head_dim);
    attention_pack_values(b->ks, s->key_values, keys, k_stride, k->n_keys, a->head_dim);
    attention_pack_rows(b->ks, s->value_rows, values, v_stride, k->n_keys, a->v_dim);
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
    int64_t k_strips = attention_strips(a->head_dim), v_strips = attention_strips(a->v_dim);
    return (struct scratch){
        .q = attention_reals(c, TILE * a->head_dim),
        .key_rows = attention_reals(c, KV_BLOCK * a->head_dim),
        .key_values = attention_reals(c, KV_BLOCK * k_strips),
        .value_rows = attention_reals(c, KV_BLOCK * a->v_dim),
        .q_values = attention_reals(c, TILE * k_strips),
        .dout_values = attention_reals(c, TILE * v_strips),
        .p = attention_reals(c, TILE * KV_BLOCK),
        .ds = attention_reals(c, TILE * KV_BLOCK),
        .transposed = attention_reals(c, KV_BLOCK * TILE),
    };
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
    arena_reset(c->arena, mark);
}
