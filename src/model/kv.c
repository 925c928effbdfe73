/* One piece of memory, reserved at once and touched as sequences grow:
 *
 *     [layer][sequence] { keys | values }, each [chunk][kv head][position], positions filled up to whole blocks
 *
 * Attention reads one head's positions one after the other, KV_CHUNK of them in a work item: here they lie together.
 * Within that, keys are strips and values rows of the cache's format, as kernel/attn.h lays them out; F32 means reals.
 * Storing at a position makes it the last one of its layer and sequence: going back is storing again.
 * States are a block of their own, [sequence][layer], and marks another of that size each. */
#include "model/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"

struct kv_layer {
    struct kv_width width;
    size_t k_row, v_row; /* bytes of one position of one head */
    size_t at;           /* of its first sequence in data */
    int64_t state_at;    /* of its state among those of a sequence */
};

struct kv_cache {
    struct kv_layout layout;
    int64_t n_blocks;       /* of a sequence */
    struct kv_layer *layer; /* [n_layer] */
    unsigned char *data;
    int64_t *length;    /* [n_layer, n_seq] positions stored, or that a state has seen */
    int64_t state_size; /* reals a sequence */
    int64_t stateful;   /* a layer with a state; -1: none has */
    real *states;       /* [n_seq, state_size] or NULL */
    real *marked;       /* [n_seq, marks, state_size] or NULL */
    int64_t *mark;      /* [n_seq, marks] position of what `marked` holds; -1: nothing */
    struct arena arena;
};

static cadre_err check_layout(const struct kv_layout *l, cadre_error *err)
{
    const struct dtype_info *info = l->type >= 0 && l->type < DTYPE_COUNT ? dtype_info(l->type) : NULL;
    bool offered = l->type == DTYPE_F32 || l->type == DTYPE_F16 || l->type == DTYPE_BF16 || l->type == DTYPE_Q8_0;
    CHECK(err, offered, CADRE_E_UNSUPPORTED, "KV cache type: expected f32, f16, bf16 or q8_0, found %s",
          info ? info->name : "an unknown one");
    CHECK(err, l->n_layer > 0 && l->n_seq > 0 && l->n_ctx > 0, CADRE_E_ARG,
          "KV cache: expected at least one layer, sequence and position, found %lld, %lld, %lld", (long long)l->n_layer,
          (long long)l->n_seq, (long long)l->n_ctx);
    return CADRE_OK;
}

/* Where each layer begins; *bytes is the sum of what positions take, *state_size that of what a sequence carries. */
static cadre_err place_layers(const struct kv_layout *l, struct kv_layer *layer, uint64_t *bytes, int64_t *state_size,
                              cadre_error *err)
{
    uint64_t positions;
    *bytes = 0;
    *state_size = 0;
    CHECK(err, l->n_ctx < (int64_t)1 << 46, CADRE_E_MEMORY, "KV cache: %lld positions do not fit any memory",
          (long long)l->n_ctx);
    positions = align_up((size_t)l->n_ctx, KV_BLOCK);
    for (int64_t i = 0; i < l->n_layer; i++) {
        struct kv_width width = l->width[i];
        uint64_t position, sequence, all;
        CHECK(err,
              width.k >= 0 && width.v >= 0 && width.state >= 0 &&
                  (width.k > 0 ? width.heads > 0 : width.v == 0 && width.state > 0),
              CADRE_E_ARG,
              "KV cache, layer %lld: expected at least one number per position or sequence, found %lld heads of %lld + "
              "%lld, %lld",
              (long long)i, (long long)width.heads, (long long)width.k, (long long)width.v, (long long)width.state);
        layer[i] = (struct kv_layer){.width = width, .at = *bytes, .state_at = *state_size};
        bool narrow = width.k < (int64_t)1 << 46 && width.v < (int64_t)1 << 46;
        layer[i].k_row = narrow ? cache_row_bytes(l->type, width.k) : 0;
        layer[i].v_row = narrow ? cache_row_bytes(l->type, width.v) : 0;
        CHECK(err,
              narrow && mul_ok(layer[i].k_row + layer[i].v_row, (uint64_t)width.heads, &position) &&
                  mul_ok(position, positions, &sequence) && mul_ok(sequence, (uint64_t)l->n_seq, &all) &&
                  add_ok(*bytes, all, bytes) && *bytes < (uint64_t)1 << 46,
              CADRE_E_MEMORY, "KV cache: %lld sequences of %lld positions do not fit any memory", (long long)l->n_seq,
              (long long)l->n_ctx);
        CHECK(err, width.state < (int64_t)1 << 46 && (*state_size += width.state) < (int64_t)1 << 46, CADRE_E_MEMORY,
              "KV cache, layer %lld: a state of %lld numbers does not fit any memory", (long long)i,
              (long long)width.state);
    }
    return CADRE_OK;
}

/* Memory for all rows and states. Sizes are known to be small now, but not their product. */
static cadre_err reserve(struct kv_cache *kv, uint64_t bytes, cadre_error *err)
{
    const struct kv_layout *l = &kv->layout;
    uint64_t states, all;
    CHECK(err,
          mul_ok((uint64_t)kv->state_size * sizeof(real), (uint64_t)l->n_seq, &states) && states < (uint64_t)1 << 46 &&
              add_ok(bytes, (uint64_t)(1 + l->marks) * states, &all) && all < (uint64_t)1 << 46,
          CADRE_E_MEMORY, "KV cache: the states of %lld sequences do not fit any memory", (long long)l->n_seq);
    kv->length = calloc((size_t)(l->n_layer * l->n_seq), sizeof *kv->length);
    kv->mark = calloc((size_t)(l->n_seq * (l->marks + 1)), sizeof *kv->mark);
    CHECK(err, kv->length && kv->mark, CADRE_E_MEMORY, "no memory for a KV cache");
    /* room for alignment and the sanitizer's red zones */
    TRY(arena_init(&kv->arena, all + CACHE_SLACK + 3 * 128, err));
    kv->data = arena_alloc(&kv->arena, bytes + CACHE_SLACK);
    if (states > 0)
        kv->states = arena_alloc(&kv->arena, states);
    if (states > 0 && l->marks)
        kv->marked = arena_alloc(&kv->arena, (uint64_t)l->marks * states);
    for (int64_t s = 0; s < l->n_seq * l->marks; s++)
        kv->mark[s] = -1;
    return CADRE_OK;
}

cadre_err kv_new(struct kv_cache **out, const struct kv_layout *layout, cadre_error *err)
{
    *out = NULL;
    TRY(check_layout(layout, err));
    uint64_t bytes = 0;
    struct kv_cache *kv = calloc(1, sizeof *kv);
    CHECK(err, kv, CADRE_E_MEMORY, "no memory for a KV cache");
    kv->layout = *layout;
    kv->layout.width = NULL;
    kv->n_blocks = (layout->n_ctx - 1) / KV_BLOCK + 1;
    kv->layer = calloc((size_t)layout->n_layer, sizeof *kv->layer);
    cadre_err rc = kv->layer ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a KV cache");
    if (rc == CADRE_OK)
        rc = place_layers(layout, kv->layer, &bytes, &kv->state_size, err);
    if (rc == CADRE_OK)
        rc = reserve(kv, bytes, err);
    if (rc != CADRE_OK) {
        kv_free(kv);
        return rc;
    }
    kv->stateful = -1;
    for (int64_t i = 0; i < layout->n_layer; i++)
        if (kv->layer[i].width.state > 0)
            kv->stateful = i;
    *out = kv;
    return CADRE_OK;
}

void kv_free(struct kv_cache *kv)
{
    if (!kv)
        return;
    arena_destroy(&kv->arena);
    free(kv->layer);
    free(kv->length);
    free(kv->mark);
    free(kv);
}

size_t kv_bytes(const struct kv_cache *kv)
{
    return kv->arena.used;
}

size_t kv_layer_bytes(const struct kv_cache *kv, int64_t layer, int64_t n)
{
    const struct kv_layer *l = &kv->layer[layer];
    return (size_t)(n * l->width.heads) * (l->k_row + l->v_row) + (size_t)l->width.state * sizeof(real);
}

int64_t kv_context(const struct kv_cache *kv)
{
    return kv->layout.n_ctx;
}

bool kv_has_states(const struct kv_cache *kv)
{
    return kv->stateful >= 0;
}

struct rows {
    const struct kv_layer *layer;
    unsigned char *k, *v; /* of the sequence */
    int64_t *length;
};

static struct rows find_rows(const struct kv_cache *kv, int64_t layer, int64_t seq)
{
    assert(layer >= 0 && layer < kv->layout.n_layer && seq >= 0 && seq < kv->layout.n_seq);
    const struct kv_layer *l = &kv->layer[layer];
    size_t rows = (size_t)(kv->n_blocks * KV_BLOCK * l->width.heads);
    unsigned char *k = kv->data + l->at + (size_t)seq * rows * (l->k_row + l->v_row);
    return (struct rows){l, k, k + rows * l->k_row, &kv->length[layer * kv->layout.n_seq + seq]};
}

/* Row number of the first position of block b among those of all heads */
static size_t block_row(const struct kv_cache *kv, int64_t heads, int64_t head, int64_t b)
{
    enum { BLOCKS = KV_CHUNK / KV_BLOCK };
    int64_t chunk = b / BLOCKS * BLOCKS, blocks = min_i64(BLOCKS, kv->n_blocks - chunk);
    return (size_t)((chunk * heads + head * blocks + b - chunk) * KV_BLOCK);
}

/* One position's numbers into its lane of a strip: those of a block of the format, 2 bytes each or (q8_0) 2 of scale
 * and 1 each, lie 16 apart. */
static void put_lane(enum dtype type, unsigned char *strip, int64_t lane, const unsigned char *numbers, int64_t n)
{
    const struct dtype_info *info = dtype_info(type);
    size_t blocks = ((size_t)n + info->block - 1) / info->block;
    for (size_t b = 0; b < blocks; b++, numbers += info->bytes, strip += CACHE_STRIP * info->bytes) {
        memcpy(strip + 2 * lane, numbers, 2);
        for (uint32_t i = 2; i < info->bytes; i++)
            strip[i * CACHE_STRIP + lane] = numbers[i];
    }
}

static void put_key(const struct cache_kernels *ks, enum dtype type, unsigned char *strip, int64_t lane, const real *x,
                    int64_t n)
{
    enum { PIECE = 256 }; /* numbers; whole blocks of every format */
    if (type == DTYPE_F32) {
        real *dst = (real *)(void *)strip + lane;
        for (int64_t d = 0; d < n; d++)
            dst[d * CACHE_STRIP] = x[d];
        return;
    }
    unsigned char numbers[PIECE * sizeof(float)];
    for (int64_t at = 0; at < n; at += PIECE) {
        int64_t m = min_i64(PIECE, n - at);
        ks->encode(numbers, x + at, m);
        put_lane(type, strip + cache_row_bytes(type, at) * CACHE_STRIP, lane, numbers, m);
    }
}

struct put {
    const struct cache_kernels *ks;
    const struct kv_cache *kv;
    struct rows rows;
    int64_t position, n;
    const real *k, *v;
};

/* What of the new rows falls into one block, for one head */
static void put_block(void *arg, int64_t item, int worker)
{
    (void)worker;
    const struct put *p = arg;
    const struct kv_layer *l = p->rows.layer;
    const struct kv_width *w = &l->width;
    enum dtype type = p->kv->layout.type;
    int64_t head = item % w->heads, b = p->position / KV_BLOCK + item / w->heads;
    size_t row = block_row(p->kv, w->heads, head, b);
    unsigned char *k = p->rows.k + row * l->k_row, *v = p->rows.v + row * l->v_row;
    int64_t from = max_i64(0, p->position - b * KV_BLOCK), to = min_i64(KV_BLOCK, p->position + p->n - b * KV_BLOCK);
    for (int64_t i = from; i < to; i++) {
        int64_t at = (b * KV_BLOCK + i - p->position) * w->heads + head;
        put_key(p->ks, type, k + (size_t)(i / CACHE_STRIP * CACHE_STRIP) * l->k_row, i % CACHE_STRIP, p->k + at * w->k,
                w->k);
        if (w->v > 0)
            p->ks->encode(v + (size_t)i * l->v_row, p->v + at * w->v, w->v);
    }
}

void kv_put(struct kv_cache *kv, const struct op_ctx *c, int64_t layer, int64_t seq, int64_t position, const real *k,
            const real *v, int64_t n)
{
    struct put p = {&c->k->attn.cache[kv->layout.type], kv, find_rows(kv, layer, seq), position, n, k, v};
    assert(position >= 0 && position <= *p.rows.length && n > 0 && position + n <= kv->layout.n_ctx);
    int64_t blocks = (position + n - 1) / KV_BLOCK - position / KV_BLOCK + 1;
    enum { FEW = 8 }; /* rows that are not worth waking threads for */
    pool_run(n > FEW ? c->pool : NULL, blocks * p.rows.layer->width.heads, put_block, &p);
    *p.rows.length = position + n;
}

static void view_block(void *self, int64_t seq, int64_t head, int64_t b, const void **k, const void **v)
{
    const struct kv_layer_view *view = self;
    struct rows rows = find_rows(view->kv, view->layer, view->slot[seq]);
    const struct kv_layer *l = rows.layer;
    size_t row = block_row(view->kv, l->width.heads, head, b);
    *k = rows.k + row * l->k_row;
    *v = l->width.v > 0 ? rows.v + row * l->v_row : NULL;
}

struct kv_view kv_layer_view(struct kv_layer_view *storage)
{
    return (struct kv_view){.self = storage, .type = storage->kv->layout.type, .block = view_block};
}

static void forget_marks(struct kv_cache *kv, int64_t seq, int64_t beyond)
{
    for (int64_t i = seq * kv->layout.marks; i < (seq + 1) * kv->layout.marks; i++)
        if (kv->mark[i] > beyond)
            kv->mark[i] = -1;
}

real *kv_state(struct kv_cache *kv, int64_t layer, int64_t seq, int64_t position, int64_t n)
{
    int64_t *length = find_rows(kv, layer, seq).length;
    const struct kv_layer *l = &kv->layer[layer];
    real *state = kv->states + seq * kv->state_size + l->state_at;
    if (n == 0)
        return state;
    assert(position == 0 || position == *length);
    if (position == 0) { /* another sequence begins */
        memset(state, 0, (size_t)l->width.state * sizeof *state);
        forget_marks(kv, seq, -1);
    }
    *length = position + n;
    return state;
}

void kv_mark(struct kv_cache *kv, int64_t seq, int i)
{
    if (kv->stateful < 0)
        return;
    assert(i >= 0 && i < kv->layout.marks && seq >= 0 && seq < kv->layout.n_seq);
    int64_t at = seq * kv->layout.marks + i, position = kv->length[kv->stateful * kv->layout.n_seq + seq];
    if (kv->mark[at] == position)
        return; /* a mark is never of another text than what its sequence holds */
    memcpy(kv->marked + at * kv->state_size, kv->states + seq * kv->state_size,
           (size_t)kv->state_size * sizeof *kv->marked);
    kv->mark[at] = position;
}

int64_t kv_rewind(struct kv_cache *kv, int64_t seq, int64_t position)
{
    assert(position >= 0 && seq >= 0 && seq < kv->layout.n_seq);
    if (kv->stateful < 0 || position >= kv->length[kv->stateful * kv->layout.n_seq + seq])
        return position;
    forget_marks(kv, seq, position);
    int64_t mark = -1, from = 0;
    for (int64_t i = seq * kv->layout.marks; i < (seq + 1) * kv->layout.marks; i++)
        if (kv->mark[i] > mark) {
            mark = kv->mark[i];
            from = i;
        }
    if (mark < 0)
        return 0; /* states become zeros when the first row arrives */
    memcpy(kv->states + seq * kv->state_size, kv->marked + from * kv->state_size,
           (size_t)kv->state_size * sizeof *kv->states);
    for (int64_t i = 0; i < kv->layout.n_layer; i++)
        if (kv->layer[i].width.state > 0)
            kv->length[i * kv->layout.n_seq + seq] = mark;
    return mark;
}
