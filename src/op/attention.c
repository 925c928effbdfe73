/* Causal attention with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022), over blocks of KV_BLOCK keys.
 *
 * What is computed for one (row, head) is a function of its query, its sequence's keys and values and its position
 * alone. Per block that it sees, in ascending order, with visible keys lo … hi - 1:
 *
 *     s_j = Σ_d (scale q_d) k_jd          one fma chain over d per key
 *     m'  = max(m, max_j s_j),  c = exp(m - m'),  p_j = exp(s_j - m')
 *     l   = l c + Σ_j p_j                 the row sum of kernel.h over lo … hi - 1
 *     o_d = o_d c + Σ_j p_j v_jd          one fma chain over j = lo … hi - 1 per output
 *
 * and out = o / l. A sink z is one more score without a value: m' and c as above, then l c + exp(z - m'). Hence the
 * same bytes for a token decoded alone, in a batch, or in a chunk of a prompt. Masked keys are left out of the chains,
 * not multiplied by 0: they may not exist yet, or hold NaN.
 *
 * A work item is a tile of query rows of one sequence with the heads that share a kv head: row r of a tile is
 * (query r / group, head r % group), so one packed block of keys and values serves them all. Everything runs on the
 * kernel table's f32 product; this file has no instructions of its own. */
#include "op/attention.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { TILE = 128 }; /* (query, head) rows of a tile: they share the packing of a block of keys */

struct scratch {      /* of one worker; `slots` is the number of kv heads of an item */
    real *q;          /* [slots, tile_rows, head_dim], times scale */
    real *out;        /* [slots, tile_rows, v_dim] */
    real *max, *sum;  /* [slots, tile_rows] */
    real *rescale;    /* [tile_rows] */
    real *score;      /* [tile_rows, KV_BLOCK] */
    real *keys;       /* one packed block of one kv head */
    struct span *see; /* [tile_rows] visible keys of the block */
    real *decoded;    /* for the view */
};

struct forward {
    const struct kernels *ks;
    const struct attention *a;
    const struct kv_view *kv;
    const real *q;
    real *out;
    struct softmax_stats *stats; /* NULL: not wanted */
    int64_t group;               /* query heads of one kv head */
    int64_t tile_rows;           /* a full tile: a multiple of group */
    int64_t slots;
    int64_t *tile_start;     /* [n_seq + 1] tiles before each sequence */
    struct scratch *scratch; /* [workers] */
};

struct tile {
    int64_t seq;
    int64_t row;      /* in q, of the first query */
    int64_t position; /* in the sequence, of the first query */
    int64_t n_rows;   /* (query, head) rows */
};

/* One kv head of a tile: its part of the scratch. */
struct slot {
    real *q, *out, *max, *sum;
};

static struct slot slot_of(const struct forward *f, const struct scratch *s, int64_t i)
{
    int64_t row = i * f->tile_rows;
    return (struct slot){s->q + row * f->a->head_dim, s->out + row * f->a->v_dim, s->max + row, s->sum + row};
}

static struct tile tile_find(const struct forward *f, int64_t index)
{
    int64_t seq = 0, end = f->a->n_seq; /* tile_start[seq] <= index < tile_start[end] */
    while (end - seq > 1) {
        int64_t mid = seq + (end - seq) / 2;
        if (f->tile_start[mid] <= index)
            seq = mid;
        else
            end = mid;
    }
    int64_t tile_queries = f->tile_rows / f->group;
    int64_t first = (index - f->tile_start[seq]) * tile_queries;
    int64_t row = f->a->row_start[seq] + first;
    int64_t queries = min_i64(tile_queries, f->a->row_start[seq + 1] - row);
    return (struct tile){seq, row, f->a->position[seq] + first, queries * f->group};
}

static void slot_load(const struct forward *f, const struct tile *t, int64_t kv_head, struct slot s)
{
    const struct attention *a = f->a;
    for (int64_t r = 0; r < t->n_rows; r++) {
        int64_t head = kv_head * f->group + r % f->group;
        const real *q = f->q + ((t->row + r / f->group) * a->n_head + head) * a->head_dim;
        for (int64_t d = 0; d < a->head_dim; d++)
            s.q[r * a->head_dim + d] = q[d] * a->scale;
        s.max[r] = -INFINITY;
        s.sum[r] = 0;
    }
    memset(s.out, 0, (size_t)(t->n_rows * a->v_dim) * sizeof(real));
}

/* The sinks of the heads enter last. */
static void slot_sink(const struct forward *f, const struct tile *t, int64_t kv_head, struct slot s)
{
    int64_t v_dim = f->a->v_dim;
    for (int64_t r = 0; r < t->n_rows; r++) {
        real sink = f->a->sinks->x[kv_head * f->group + r % f->group];
        real top = sink > s.max[r] ? sink : s.max[r], e[2] = {s.max[r] - top, sink - top};
        f->ks->exp(e, e, 2);
        s.max[r] = top;
        s.sum[r] = s.sum[r] * e[0] + e[1];
        for (int64_t d = 0; d < v_dim; d++)
            s.out[r * v_dim + d] *= e[0];
    }
}

static void slot_store(const struct forward *f, const struct tile *t, int64_t kv_head, struct slot s)
{
    const struct attention *a = f->a;
    for (int64_t r = 0; r < t->n_rows; r++) {
        int64_t at = (t->row + r / f->group) * a->n_head + kv_head * f->group + r % f->group;
        real inverse = 1 / s.sum[r];
        for (int64_t d = 0; d < a->v_dim; d++)
            f->out[at * a->v_dim + d] = s.out[r * a->v_dim + d] * inverse;
        if (f->stats)
            f->stats[at] = (struct softmax_stats){s.max[r], inverse};
    }
}

/* A block as one kv head of a tile sees it: rows from … end - 1 see something of it. */
struct block {
    const real *k, *v;
    int64_t stride[2];
    int64_t n_keys;
    int64_t from, end;
};

/* score → p in place, and what came before brought to the new maximum. */
static void softmax_rows(const struct forward *f, const struct scratch *s, struct slot slot, const struct block *b)
{
    int64_t v_dim = f->a->v_dim;
    for (int64_t r = b->from; r < b->end; r++) {
        struct span see = s->see[r];
        real old = slot.max[r], top = f->ks->max(s->score + r * KV_BLOCK + see.lo, see.hi - see.lo);
        slot.max[r] = top > old ? top : old;
        s->rescale[r] = old - slot.max[r];
    }
    f->ks->exp(s->rescale + b->from, s->rescale + b->from, b->end - b->from);
    for (int64_t r = b->from; r < b->end; r++) {
        struct span see = s->see[r];
        real *p = s->score + r * KV_BLOCK + see.lo, c = s->rescale[r];
        real sum = f->ks->exp_sum(p, p, slot.max[r], see.hi - see.lo);
        slot.sum[r] = slot.sum[r] * c + sum;
        if (c != 1) /* × 1 changes nothing, and is the usual case */
            for (int64_t d = 0; d < v_dim; d++)
                slot.out[r * v_dim + d] *= c;
    }
}

static void slot_block(const struct forward *f, const struct scratch *s, struct slot slot, const struct block *b)
{
    const struct attention *a = f->a;
    int64_t from = b->from, n = b->end - b->from;
    attention_pack_rows(f->ks, s->keys, b->k, b->stride[0], b->n_keys, a->head_dim);
    attention_scores(f->ks, s->see + from, n, a->head_dim, slot.q + from * a->head_dim, a->head_dim, s->keys,
                     s->score + from * KV_BLOCK);
    softmax_rows(f, s, slot, b);
    f->ks->attn.span_add(n, a->v_dim, s->see + from, s->score + from * KV_BLOCK, KV_BLOCK, b->v, b->stride[1],
                         slot.out + from * a->v_dim, a->v_dim);
}

/* Which rows see which keys of block `index`: causality hides it from the first rows, the window from the last. */
static void block_see(const struct forward *f, const struct scratch *s, const struct tile *t, int64_t index,
                      struct block *b)
{
    for (int64_t r = 0; r < t->n_rows; r++)
        s->see[r] = attention_visible(f->a, t->position + r / f->group, index);
    b->n_keys = s->see[t->n_rows - 1].hi;
    b->from = 0;
    b->end = t->n_rows;
    while (s->see[b->from].hi <= 0)
        b->from++;
    while (s->see[b->end - 1].lo >= KV_BLOCK)
        b->end--;
}

static void tile_run(void *arg, int64_t item, int worker)
{
    const struct forward *f = arg;
    const struct attention *a = f->a;
    const struct scratch *s = &f->scratch[worker];
    int64_t splits = a->n_kv_head / f->slots, head = item % splits * f->slots;
    struct tile t = tile_find(f, item / splits);
    for (int64_t i = 0; i < f->slots; i++)
        slot_load(f, &t, head + i, slot_of(f, s, i));
    int64_t last = t.position + (t.n_rows - 1) / f->group; /* position of the last query */
    for (int64_t index = attention_first_key(a, t.position) / KV_BLOCK; index <= last / KV_BLOCK; index++) {
        struct block b;
        const real *k, *v;
        f->kv->block(f->kv->self, t.seq, index, s->decoded, &k, &v, b.stride);
        block_see(f, s, &t, index, &b);
        for (int64_t i = 0; i < f->slots; i++) {
            b.k = k + (head + i) * a->head_dim;
            b.v = v + (head + i) * a->v_dim;
            slot_block(f, s, slot_of(f, s, i), &b);
        }
    }
    for (int64_t i = 0; i < f->slots; i++) {
        if (a->sinks)
            slot_sink(f, &t, head + i, slot_of(f, s, i));
        slot_store(f, &t, head + i, slot_of(f, s, i));
    }
}

static struct scratch scratch_new(struct op_ctx *c, const struct forward *f, bool decodes)
{
    const struct attention *a = f->a;
    int64_t rows = f->slots * f->tile_rows, widths = a->n_kv_head * (a->head_dim + a->v_dim);
    return (struct scratch){
        .q = attention_reals(c, rows * a->head_dim),
        .out = attention_reals(c, rows * a->v_dim),
        .max = attention_reals(c, rows),
        .sum = attention_reals(c, rows),
        .rescale = attention_reals(c, f->tile_rows),
        .score = attention_reals(c, f->tile_rows * KV_BLOCK),
        .keys = attention_reals(c, KV_BLOCK * a->head_dim),
        .see = arena_alloc(c->arena, (size_t)f->tile_rows * sizeof(struct span)),
        .decoded = decodes ? attention_reals(c, KV_BLOCK * widths) : NULL,
    };
}

/* The need in the arena depends on n_seq, threads and head sizes, beyond the output on nothing else. */
static void forward_run(struct op_ctx *c, struct forward *f, bool decodes)
{
    const struct attention *a = f->a;
    assert(a->n_head % a->n_kv_head == 0);
    size_t mark = arena_mark(c->arena);
    f->ks = c->k;
    f->group = a->n_head / a->n_kv_head;
    f->tile_rows = max_i64(1, TILE / f->group) * f->group;
    f->tile_start = arena_alloc(c->arena, (size_t)(a->n_seq + 1) * sizeof *f->tile_start);
    f->scratch = arena_alloc(c->arena, (size_t)pool_threads(c->pool) * sizeof *f->scratch);
    for (int w = 0; w < pool_threads(c->pool); w++) {
        struct scratch s = scratch_new(c, f, decodes);
        if (!c->dry)
            f->scratch[w] = s;
    }
    if (!c->dry) {
        f->tile_start[0] = 0;
        for (int64_t s = 0; s < a->n_seq; s++) {
            int64_t rows = (a->row_start[s + 1] - a->row_start[s]) * f->group;
            f->tile_start[s + 1] = f->tile_start[s] + (rows + f->tile_rows - 1) / f->tile_rows;
        }
        pool_run(c->pool, f->tile_start[a->n_seq] * (a->n_kv_head / f->slots), tile_run, f);
    }
    arena_reset(c->arena, mark);
}

/* The keys and values of the call as a view: sequence s starts at row row_start[s]. */
struct call_kv {
    const struct attention *a;
    const real *k, *v;
};

static void call_kv_block(void *self, int64_t seq, int64_t b, real *scratch, const real **k, const real **v,
                          int64_t stride[2])
{
    (void)scratch;
    const struct call_kv *c = self;
    int64_t row = c->a->row_start[seq] + b * KV_BLOCK;
    stride[0] = c->a->n_kv_head * c->a->head_dim;
    stride[1] = c->a->n_kv_head * c->a->v_dim;
    *k = c->k + row * stride[0];
    *v = c->v + row * stride[1];
}

struct tensor *op_attention(struct op_ctx *c, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention *a)
{
    int64_t n = tensor_rows(q);
    assert(tensor_cols(q) == a->n_head * a->head_dim && tensor_rows(k) == n && tensor_rows(v) == n);
    assert(tensor_cols(k) == a->n_kv_head * a->head_dim && tensor_cols(v) == a->n_kv_head * a->v_dim);
    struct tensor *out = op_new2(c, n, a->n_head * a->v_dim);
    out->track = op_records(c, q->track || k->track || v->track || (a->sinks && a->sinks->track));
    struct softmax_stats *stats = NULL;
    if (out->track) {
        stats = arena_alloc(c->arena, (size_t)(n * a->n_head) * sizeof *stats);
        struct attention_saved *saved = op_struct(c, sizeof *saved);
        *saved = (struct attention_saved){*a, q, k, v, out, stats};
        tape_push(c, attention_back, saved);
    }
    struct call_kv call = {a, k->x, v->x};
    struct kv_view view = {.self = &call, .block = call_kv_block};
    forward_run(c, &(struct forward){.a = a, .kv = &view, .q = q->x, .out = out->x, .stats = stats, .slots = 1}, false);
    return out;
}

struct tensor *op_attention_kv(struct op_ctx *c, struct tensor *q, const struct kv_view *kv, const struct attention *a)
{
    assert(tensor_cols(q) == a->n_head * a->head_dim);
    struct tensor *out = op_new2(c, tensor_rows(q), a->n_head * a->v_dim);
    out->track = false;
    /* A view that decodes gives all heads of a block at once: one item then takes them all. */
    int64_t slots = kv->decodes ? a->n_kv_head : 1;
    forward_run(c, &(struct forward){.a = a, .kv = kv, .q = q->x, .out = out->x, .slots = slots}, true);
    return out;
}
