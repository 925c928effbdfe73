/* Causal attention with an online softmax (Milakov and Gimelshein 2018; Dao et al. 2022, 2023).
 *
 * What is computed for one (row, head) is a function of its query, its sequence's keys and values and its position
 * alone. Keys are cut into chunks of KV_CHUNK positions and these into blocks of KV_BLOCK. A chunk starts from m = -∞,
 * l = 0, o = 0; per block of it that the row sees, in ascending order, with visible keys lo … hi - 1:
 *
 *     s_j = Σ_d (scale q_d) k_jd          one fma chain over d per key
 *     m'  = max(m, max_j s_j),  c = exp(m - m'),  p_j = exp(s_j - m')
 *     l   = l c + Σ_j p_j                 the row sum of kernel.h over lo … hi - 1
 *     o_d = o_d c + Σ_j p_j v_jd          one fma chain over j = lo … hi - 1 per output
 *
 * The chunks' (m, l, o) are added up in ascending order, the first one being copied:
 *
 *     m'  = max(m₁, m₂),  c₁ = exp(m₁ - m'),  c₂ = exp(m₂ - m'),  l = l₁ c₁ + l₂ c₂,  o = o₁ c₁ + o₂ c₂
 *
 * and out = o / l. A sink z is one more score without a value: m' and c as above, then l c + exp(z - m'). Hence the
 * same bytes for a token decoded alone, in a batch, or in a chunk of a prompt, whoever computes which chunk. Masked
 * keys are left out of the chains, not multiplied by 0: they may not exist yet, or hold NaN.
 *
 * A work item is a tile of query rows of one sequence with heads that share a kv head: row r of a tile is (query
 * r / heads, head r % heads), so one reading of keys and values serves them all. Where that makes few items, as for one
 * token on few kv heads, each chunk of keys is an item of its own. */
#include "op/attention.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum {
    TILE = 128,          /* (query, head) rows of a tile: they share what a block of keys costs */
    FEW = 12,            /* rows at most that read the cache's format; more read what is unpacked once */
    FEW_HEADS = 8,       /* a group of heads is not cut finer than this */
    ITEMS = 32,          /* less items than this are few */
    PARTIAL_ROWS = 2048, /* of chunks that wait to be added up */
    COLUMNS = 64         /* of values that are turned round at a time */
};

/* What a tile's rows have got from some keys: m and l, and o as [rows, v_dim]. */
struct part {
    struct softmax_stats *stats;
    real *out;
};

struct scratch { /* of one worker */
    real *q;     /* [tile_rows, head_dim], times scale */
    struct part part;
    real *rescale;       /* [tile_rows] */
    real *score;         /* [tile_rows, KV_BLOCK] */
    real *keys, *values; /* a block as strips of f32, as rows of f32 */
    struct span *see;    /* [tile_rows] visible keys of the block */
};

struct forward {
    const struct kernels *ks;
    const struct attention *a;
    const struct kv_view *kv; /* or NULL: */
    const real *k, *v;        /* the call's own, sequence s from row row_start[s] on */
    const real *q;
    real *out;                   /* [n, n_head, v_dim]: o until a row is finished */
    struct softmax_stats *stats; /* [n, n_head] */
    int64_t heads;               /* query heads of an item: a group, or an equal part of it */
    int64_t tile_rows;           /* a full tile: a multiple of heads */
    int64_t *tile_start;         /* [n_seq + 1] tiles before each sequence */
    struct scratch *scratch;     /* [workers] */
    /* Where chunks are items: */
    struct part partial;           /* [PARTIAL_ROWS] */
    int64_t slot_rows, wave, ends; /* partial rows of an item; the items wave … ends - 1 are worked at */
    int64_t item_start[ITEMS + 1]; /* of each (tile, heads) */
};

struct tile {
    int64_t seq;
    int64_t row;           /* in q, of the first query */
    int64_t position;      /* in the sequence, of the first query */
    int64_t last;          /* position of the last query */
    int64_t n_rows;        /* (query, head) rows */
    int64_t head, kv_head; /* its first head, and whose keys it reads */
};

static int64_t sets(const struct forward *f) /* of heads that are items */
{
    return f->a->n_head / f->heads;
}

/* Item (tile, set of heads) */
static struct tile tile_find(const struct forward *f, int64_t item)
{
    const struct attention *a = f->a;
    int64_t index = item / sets(f), head = item % sets(f) * f->heads;
    int64_t seq = 0, end = a->n_seq; /* tile_start[seq] <= index < tile_start[end] */
    while (end - seq > 1) {
        int64_t mid = seq + (end - seq) / 2;
        if (f->tile_start[mid] <= index)
            seq = mid;
        else
            end = mid;
    }
    int64_t tile_queries = f->tile_rows / f->heads;
    int64_t first = (index - f->tile_start[seq]) * tile_queries;
    int64_t row = a->row_start[seq] + first, position = a->position[seq] + first;
    int64_t queries = min_i64(tile_queries, a->row_start[seq + 1] - row);
    return (struct tile){.seq = seq,
                         .row = row,
                         .position = position,
                         .last = position + queries - 1,
                         .n_rows = queries * f->heads,
                         .head = head,
                         .kv_head = head / (a->n_head / a->n_kv_head)};
}

static struct span tile_chunks(const struct forward *f, const struct tile *t)
{
    return (struct span){attention_first_key(f->a, t->position) / KV_CHUNK, t->last / KV_CHUNK + 1};
}

static int64_t row_at(const struct forward *f, const struct tile *t, int64_t r) /* in [n, n_head] */
{
    return (t->row + r / f->heads) * f->a->n_head + t->head + r % f->heads;
}

static void queries_load(const struct forward *f, const struct tile *t, const struct scratch *s)
{
    int64_t head_dim = f->a->head_dim;
    for (int64_t r = 0; r < t->n_rows; r++) {
        const real *q = f->q + row_at(f, t, r) * head_dim;
        for (int64_t d = 0; d < head_dim; d++)
            s->q[r * head_dim + d] = q[d] * f->a->scale;
    }
}

/* ---- one chunk */

/* A block as one kv head of a tile sees it: rows from … end - 1 see something of it. */
struct block {
    const void *k, *v;           /* of the cache */
    const void *next_k, *next_v; /* what comes after it; NULL: nothing */
    int64_t row;                 /* of the call's own keys */
    int64_t n_keys;
    int64_t from, end;
};

/* score → p in place, and what came before brought to the new maximum. */
static void softmax_rows(const struct forward *f, const struct scratch *s, struct part part, const struct block *b)
{
    int64_t v_dim = f->a->v_dim;
    for (int64_t r = b->from; r < b->end; r++) {
        struct span see = s->see[r];
        real old = part.stats[r].max, top = f->ks->max(s->score + r * KV_BLOCK + see.lo, see.hi - see.lo);
        part.stats[r].max = top > old ? top : old;
        s->rescale[r] = old - part.stats[r].max;
    }
    f->ks->exp(s->rescale + b->from, s->rescale + b->from, b->end - b->from);
    for (int64_t r = b->from; r < b->end; r++) {
        struct span see = s->see[r];
        real *p = s->score + r * KV_BLOCK + see.lo, c = s->rescale[r];
        real sum = f->ks->exp_sum(p, p, part.stats[r].max, see.hi - see.lo);
        part.stats[r].sum = part.stats[r].sum * c + sum;
        if (c != 1) /* × 1 changes nothing, and is the usual case */
            for (int64_t d = 0; d < v_dim; d++)
                part.out[r * v_dim + d] *= c;
    }
}

/* Rows that read the format itself; values within keys have to be turned round in any case. */
static bool few(const struct block *b)
{
    return b->v && b->end - b->from <= FEW;
}

/* The block's keys as strips of f32 */
static const real *block_strips(const struct forward *f, const struct scratch *s, const struct tile *t,
                                const struct block *b)
{
    const struct attention *a = f->a;
    if (!f->kv) {
        int64_t stride = a->n_kv_head * a->head_dim;
        attention_pack_rows(f->ks, s->keys, f->k + b->row * stride + t->kv_head * a->head_dim, stride, b->n_keys,
                            a->head_dim);
        return s->keys;
    }
    if (f->kv->type == DTYPE_F32)
        return b->k;
    f->ks->attn.cache[f->kv->type].unpack(s->keys, b->k, b->n_keys, a->head_dim);
    return s->keys;
}

/* o += p v for the values among the keys, strips of f32 */
static void turned_add(const struct forward *f, const struct scratch *s, const struct block *b, const real *strips,
                       const real *p, real *out)
{
    const struct attention *a = f->a;
    for (int64_t d = 0; d < a->v_dim; d += COLUMNS) {
        int64_t n = min_i64(COLUMNS, a->v_dim - d);
        for (int64_t j = 0; j < b->n_keys; j += STRIP)
            f->ks->rows_f32(s->values + j * COLUMNS, COLUMNS, strips + j * a->head_dim + d * STRIP, 1, STRIP,
                            min_i64(STRIP, b->n_keys - j), n);
        f->ks->attn.span_add(b->end - b->from, n, s->see + b->from, p, KV_BLOCK, s->values, COLUMNS, out + d, a->v_dim);
    }
}

static void values_add(const struct forward *f, const struct scratch *s, const struct tile *t, const struct block *b,
                       const real *p, real *out)
{
    const struct attention *a = f->a;
    int64_t stride = a->v_dim;
    const real *v = b->v;
    if (!f->kv) {
        stride *= a->n_kv_head;
        v = f->v + b->row * stride + t->kv_head * a->v_dim;
    } else if (f->kv->type != DTYPE_F32) {
        stride = (int64_t)align_up((size_t)a->v_dim, STRIP);
        f->ks->attn.cache[f->kv->type].rows(s->values, stride, b->v, b->n_keys, a->v_dim);
        v = s->values;
    }
    f->ks->attn.span_add(b->end - b->from, a->v_dim, s->see + b->from, p, KV_BLOCK, v, stride, out, a->v_dim);
}

static void block_run(const struct forward *f, const struct scratch *s, const struct tile *t, const struct block *b,
                      struct part part)
{
    const struct attention *a = f->a;
    int64_t n = b->end - b->from;
    const real *q = s->q + b->from * a->head_dim, *strips = NULL;
    real *p = s->score + b->from * KV_BLOCK, *out = part.out + b->from * a->v_dim;
    if (f->kv && few(b)) {
        const struct cache_kernels *cache = &f->ks->attn.cache[f->kv->type];
        cache->scores(n, b->n_keys, a->head_dim, q, a->head_dim, b->k, b->next_k, p, KV_BLOCK);
        softmax_rows(f, s, part, b);
        cache->add(n, a->v_dim, s->see + b->from, p, KV_BLOCK, b->v, b->next_v, out, a->v_dim);
        return;
    }
    strips = block_strips(f, s, t, b);
    attention_scores(f->ks, s->see + b->from, n, a->head_dim, q, a->head_dim, strips, p);
    softmax_rows(f, s, part, b);
    if (f->kv && !b->v)
        turned_add(f, s, b, strips, p, out);
    else
        values_add(f, s, t, b, p, out);
}

/* Which rows see which keys of block `index`: causality hides it from the first rows, the window from the last. */
static void block_see(const struct forward *f, const struct scratch *s, const struct tile *t, int64_t index,
                      struct block *b)
{
    for (int64_t r = 0; r < t->n_rows; r++)
        s->see[r] = attention_visible(f->a, t->position + r / f->heads, index);
    b->n_keys = s->see[t->n_rows - 1].hi;
    b->from = 0;
    b->end = t->n_rows;
    while (s->see[b->from].hi <= 0)
        b->from++;
    while (s->see[b->end - 1].lo >= KV_BLOCK)
        b->end--;
}

static void chunk_run(const struct forward *f, const struct scratch *s, const struct tile *t, int64_t chunk,
                      struct part part)
{
    for (int64_t r = 0; r < t->n_rows; r++)
        part.stats[r] = (struct softmax_stats){-(real)INFINITY, 0};
    memset(part.out, 0, (size_t)(t->n_rows * f->a->v_dim) * sizeof(real));
    int64_t from = max_i64(chunk * KV_CHUNK, attention_first_key(f->a, t->position)) / KV_BLOCK;
    int64_t last = min_i64((chunk + 1) * KV_CHUNK - 1, t->last) / KV_BLOCK;
    struct block b = {0};
    if (f->kv)
        f->kv->block(f->kv->self, t->seq, t->kv_head, from, &b.next_k, &b.next_v);
    for (int64_t index = from; index <= last; index++) {
        b.row = f->a->row_start[t->seq] + index * KV_BLOCK;
        b.k = b.next_k;
        b.v = b.next_v;
        b.next_k = b.next_v = NULL;
        if (f->kv && index < last)
            f->kv->block(f->kv->self, t->seq, t->kv_head, index + 1, &b.next_k, &b.next_v);
        block_see(f, s, t, index, &b);
        block_run(f, s, t, &b, part);
    }
}

/* ---- chunks together */

/* Row r of a part into what its (row, head) has so far. */
static void row_merge(const struct forward *f, const struct tile *t, int64_t r, struct part part)
{
    int64_t at = row_at(f, t, r), v_dim = f->a->v_dim;
    struct softmax_stats *to = &f->stats[at], from = part.stats[r];
    real *out = f->out + at * v_dim;
    const real *add = part.out + r * v_dim;
    if (from.sum == 0) /* the row sees nothing of the chunk */
        return;
    if (to->sum == 0) {
        *to = from;
        memcpy(out, add, (size_t)v_dim * sizeof *out);
        return;
    }
    real top = from.max > to->max ? from.max : to->max, c[2] = {to->max - top, from.max - top};
    f->ks->exp(c, c, 2);
    *to = (struct softmax_stats){top, to->sum * c[0] + from.sum * c[1]};
    for (int64_t d = 0; d < v_dim; d++)
        out[d] = out[d] * c[0] + add[d] * c[1];
}

/* out = o / l after the sink, which enters last; o may be out */
static void row_finish(const struct forward *f, const struct tile *t, int64_t r, struct softmax_stats stats,
                       const real *o)
{
    int64_t at = row_at(f, t, r), v_dim = f->a->v_dim;
    real *out = f->out + at * v_dim, c = 1;
    if (f->a->sinks) {
        real sink = f->a->sinks->x[t->head + r % f->heads];
        real top = sink > stats.max ? sink : stats.max, e[2] = {stats.max - top, sink - top};
        f->ks->exp(e, e, 2);
        stats = (struct softmax_stats){top, stats.sum * e[0] + e[1]};
        c = e[0];
    }
    real inverse = 1 / stats.sum;
    for (int64_t d = 0; d < v_dim; d++)
        out[d] = o[d] * c * inverse;
    f->stats[at] = stats;
}

/* All chunks of a tile in one item. */
static void tile_run(void *arg, int64_t item, int worker)
{
    const struct forward *f = arg;
    const struct scratch *s = &f->scratch[worker];
    struct tile t = tile_find(f, item);
    struct span chunk = tile_chunks(f, &t);
    queries_load(f, &t, s);
    for (int64_t r = 0; r < t.n_rows; r++)
        f->stats[row_at(f, &t, r)].sum = 0;
    for (int64_t i = chunk.lo; i < chunk.hi - 1; i++) {
        chunk_run(f, s, &t, i, s->part);
        for (int64_t r = 0; r < t.n_rows; r++)
            row_merge(f, &t, r, s->part);
    }
    chunk_run(f, s, &t, chunk.hi - 1, s->part);
    for (int64_t r = 0; r < t.n_rows; r++) {
        int64_t at = row_at(f, &t, r);
        if (f->stats[at].sum == 0) { /* nothing to add it to */
            row_finish(f, &t, r, s->part.stats[r], s->part.out + r * f->a->v_dim);
            continue;
        }
        row_merge(f, &t, r, s->part);
        row_finish(f, &t, r, f->stats[at], f->out + at * f->a->v_dim);
    }
}

/* ---- chunks as items */

static struct part slot_of(const struct forward *f, int64_t item)
{
    int64_t row = (item - f->wave) * f->slot_rows;
    return (struct part){f->partial.stats + row, f->partial.out + row * f->a->v_dim};
}

static int64_t pair_of(const struct forward *f, int64_t item) /* which (tile, set of heads) */
{
    int64_t pair = 0;
    while (f->item_start[pair + 1] <= item)
        pair++;
    return pair;
}

static void part_run(void *arg, int64_t item, int worker)
{
    const struct forward *f = arg;
    item += f->wave;
    int64_t pair = pair_of(f, item);
    struct tile t = tile_find(f, pair);
    queries_load(f, &t, &f->scratch[worker]);
    chunk_run(f, &f->scratch[worker], &t, tile_chunks(f, &t).lo + item - f->item_start[pair], slot_of(f, item));
}

/* One row of one pair: the wave's chunks of it. */
static void merge_run(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct forward *f = arg;
    int64_t pair = pair_of(f, f->wave) + item / f->slot_rows, r = item % f->slot_rows;
    struct tile t = tile_find(f, pair);
    if (r >= t.n_rows)
        return;
    int64_t first = f->item_start[pair], end = f->item_start[pair + 1], at = row_at(f, &t, r);
    if (first >= f->wave)
        f->stats[at].sum = 0;
    for (int64_t i = max_i64(first, f->wave); i < min_i64(end, f->ends); i++)
        row_merge(f, &t, r, slot_of(f, i));
    if (end <= f->ends)
        row_finish(f, &t, r, f->stats[at], f->out + at * f->a->v_dim);
}

/* In waves, as many chunks at a time as there is room for their parts. */
static void waves_run(struct pool *pool, struct forward *f, int64_t pairs)
{
    int64_t items = f->item_start[pairs], slots = max_i64(PARTIAL_ROWS, f->tile_rows) / f->slot_rows;
    for (f->wave = 0; f->wave < items; f->wave = f->ends) {
        f->ends = min_i64(items, f->wave + slots);
        pool_run(pool, f->ends - f->wave, part_run, f);
        pool_run(pool, (pair_of(f, f->ends - 1) - pair_of(f, f->wave) + 1) * f->slot_rows, merge_run, f);
    }
}

/* ---- the whole */

static int64_t tiles_cut(struct forward *f, int64_t heads)
{
    const struct attention *a = f->a;
    f->heads = heads;
    f->tile_rows = max_i64(1, TILE / heads) * heads;
    f->tile_start[0] = 0;
    for (int64_t s = 0; s < a->n_seq; s++) {
        int64_t rows = (a->row_start[s + 1] - a->row_start[s]) * heads;
        f->tile_start[s + 1] = f->tile_start[s] + (rows + f->tile_rows - 1) / f->tile_rows;
    }
    return f->tile_start[a->n_seq] * sets(f);
}

/* Whether the few items that `pairs` makes are better cut by chunks; then where each begins. */
static bool chunks_cut(struct forward *f, int64_t pairs)
{
    if (!f->kv || pairs >= ITEMS)
        return false;
    f->slot_rows = 1;
    for (int64_t i = 0; i < pairs; i++) {
        struct tile t = tile_find(f, i);
        struct span chunk = tile_chunks(f, &t);
        f->item_start[i + 1] = f->item_start[i] + chunk.hi - chunk.lo;
        f->slot_rows = max_i64(f->slot_rows, t.n_rows);
    }
    return f->item_start[pairs] > pairs;
}

static void run(struct pool *pool, struct forward *f)
{
    int64_t group = f->a->n_head / f->a->n_kv_head, heads = group, pairs = tiles_cut(f, heads);
    bool chunks = chunks_cut(f, pairs);
    while (!chunks && pairs < ITEMS / 4 && heads % 2 == 0 && heads > FEW_HEADS) {
        heads /= 2; /* one short sequence with many heads on few kv heads */
        pairs = tiles_cut(f, heads);
        chunks = chunks_cut(f, pairs);
    }
    if (chunks)
        waves_run(pool, f, pairs);
    else
        pool_run(pool, pairs, tile_run, f);
}

static struct part part_new(struct op_ctx *c, int64_t rows, int64_t v_dim)
{
    return (struct part){arena_alloc(c->arena, (size_t)rows * sizeof(struct softmax_stats)),
                         attention_reals(c, rows * v_dim)};
}

static struct scratch scratch_new(struct op_ctx *c, const struct attention *a, int64_t rows)
{
    return (struct scratch){
        .q = attention_reals(c, rows * a->head_dim),
        .part = part_new(c, rows, a->v_dim),
        .rescale = attention_reals(c, rows),
        .score = attention_reals(c, rows * KV_BLOCK),
        .keys = attention_reals(c, KV_BLOCK * a->head_dim),
        .values = attention_reals(c, KV_BLOCK * max_i64(COLUMNS, (int64_t)align_up((size_t)a->v_dim, STRIP))),
        .see = arena_alloc(c->arena, (size_t)rows * sizeof(struct span)),
    };
}

/* The need in the arena depends on n_seq, threads, heads and rows of q, beyond the output on nothing else. */
static void forward_run(struct op_ctx *c, struct forward *f)
{
    const struct attention *a = f->a;
    assert(a->n_head % a->n_kv_head == 0);
    size_t mark = arena_mark(c->arena);
    int64_t rows = max_i64(TILE, a->n_head / a->n_kv_head); /* of the largest tile */
    f->ks = c->k;
    f->tile_start = arena_alloc(c->arena, (size_t)(a->n_seq + 1) * sizeof *f->tile_start);
    f->scratch = arena_alloc(c->arena, (size_t)pool_threads(c->pool) * sizeof *f->scratch);
    for (int w = 0; w < pool_threads(c->pool); w++) {
        struct scratch s = scratch_new(c, a, rows);
        if (!c->dry)
            f->scratch[w] = s;
    }
    if (f->kv)
        f->partial = part_new(c, max_i64(PARTIAL_ROWS, rows), a->v_dim);
    if (!c->dry)
        run(c->pool, f);
    arena_reset(c->arena, mark);
}

static struct softmax_stats *stats_new(struct op_ctx *c, int64_t n, const struct attention *a)
{
    return arena_alloc(c->arena, (size_t)(n * a->n_head) * sizeof(struct softmax_stats));
}

struct tensor *op_attention(struct op_ctx *c, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention *a)
{
    int64_t n = tensor_rows(q);
    assert(tensor_cols(q) == a->n_head * a->head_dim && tensor_rows(k) == n && tensor_rows(v) == n);
    assert(tensor_cols(k) == a->n_kv_head * a->head_dim && tensor_cols(v) == a->n_kv_head * a->v_dim);
    struct tensor *out = op_new2(c, n, a->n_head * a->v_dim);
    out->track = op_records(c, q->track || k->track || v->track || (a->sinks && a->sinks->track));
    size_t mark = arena_mark(c->arena);
    struct softmax_stats *stats = stats_new(c, n, a);
    if (out->track) {
        struct attention_saved *saved = op_struct(c, sizeof *saved);
        *saved = (struct attention_saved){*a, q, k, v, out, stats};
        tape_push(c, attention_back, saved);
    }
    forward_run(c, &(struct forward){.a = a, .k = k->x, .v = v->x, .q = q->x, .out = out->x, .stats = stats});
    if (!out->track)
        arena_reset(c->arena, mark);
    return out;
}

struct tensor *op_attention_kv(struct op_ctx *c, struct tensor *q, const struct kv_view *kv, const struct attention *a)
{
    assert(tensor_cols(q) == a->n_head * a->head_dim);
    struct tensor *out = op_new2(c, tensor_rows(q), a->n_head * a->v_dim);
    out->track = false;
    size_t mark = arena_mark(c->arena);
    struct softmax_stats *stats = stats_new(c, tensor_rows(q), a);
    forward_run(c, &(struct forward){.a = a, .kv = kv, .q = q->x, .out = out->x, .stats = stats});
    arena_reset(c->arena, mark);
    return out;
}
