/* One block of memory, reserved at once and touched as sequences grow:
 *
 *     [layer][sequence] { keys [n_ctx] rows | values [n_ctx] rows }
 *
 * A row is as many numbers as its layer's width says in the cache's format, filled up to whole blocks of it. F32 rows
 * (reals in the float64 build) are handed out in place; others are decoded block by block into the reader's scratch, so
 * a compressed cache is never expanded whole. Storing at a position makes it the last one of its layer and sequence:
 * going back is storing again.
 * States are a block of their own, [sequence][layer], and marks another of that size each. */
#include "model/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"

struct kv_layer {
    struct kv_width width;
    size_t k_row, v_row; /* bytes */
    size_t at;           /* of its first sequence in data */
    int64_t state_at;    /* of its state among those of a sequence */
};

struct kv_cache {
    struct kv_layout layout;
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

static bool row_bytes(enum dtype type, int64_t width, size_t *bytes)
{
    uint64_t n = 0, block = type == DTYPE_F32 ? 1 : dtype_info(type)->block, blocks;
    if (width < 0 || !add_ok((uint64_t)width, block - 1, &blocks) ||
        !mul_ok(blocks / block, type == DTYPE_F32 ? sizeof(real) : dtype_info(type)->bytes, &n))
        return false;
    *bytes = n;
    return true;
}

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
    *bytes = 0;
    *state_size = 0;
    for (int64_t i = 0; i < l->n_layer; i++) {
        struct kv_width width = l->width[i];
        uint64_t position, sequence, all;
        CHECK(err,
              width.k >= 0 && width.v >= 0 && width.state >= 0 && (width.k > 0 || (width.v == 0 && width.state > 0)),
              CADRE_E_ARG,
              "KV cache, layer %lld: expected at least one number per position or sequence, found %lld + %lld, %lld",
              (long long)i, (long long)width.k, (long long)width.v, (long long)width.state);
        layer[i] = (struct kv_layer){.width = width, .at = *bytes, .state_at = *state_size};
        CHECK(err,
              row_bytes(l->type, width.k, &layer[i].k_row) && row_bytes(l->type, width.v, &layer[i].v_row) &&
                  add_ok(layer[i].k_row, layer[i].v_row, &position) &&
                  mul_ok(position, (uint64_t)l->n_ctx, &sequence) && mul_ok(sequence, (uint64_t)l->n_seq, &all) &&
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
    TRY(arena_init(&kv->arena, all + 3 * 128, err)); /* room for alignment and the sanitizer's red zones */
    kv->data = arena_alloc(&kv->arena, bytes);
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
    return (size_t)n * (l->k_row + l->v_row) + (size_t)l->width.state * sizeof(real);
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
    unsigned char *k, *v; /* row 0 of the sequence */
    int64_t *length;
};

static struct rows find_rows(const struct kv_cache *kv, int64_t layer, int64_t seq)
{
    assert(layer >= 0 && layer < kv->layout.n_layer && seq >= 0 && seq < kv->layout.n_seq);
    const struct kv_layer *l = &kv->layer[layer];
    size_t n_ctx = (size_t)kv->layout.n_ctx;
    unsigned char *k = kv->data + l->at + (size_t)seq * n_ctx * (l->k_row + l->v_row);
    return (struct rows){l, k, k + n_ctx * l->k_row, &kv->length[layer * kv->layout.n_seq + seq]};
}

enum { CHUNK = 256 }; /* numbers converted at a time; a multiple of every block */

static void encode_row(enum dtype type, unsigned char *dst, const real *x, int64_t n)
{
    if (type == DTYPE_F32) {
        memcpy(dst, x, (size_t)n * sizeof *x);
        return;
    }
    const struct dtype_info *info = dtype_info(type);
    float chunk[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = min_i64(CHUNK, n - at), whole = (m + info->block - 1) / info->block * info->block;
        for (int64_t i = 0; i < m; i++)
            chunk[i] = (float)x[at + i];
        for (int64_t i = m; i < whole; i++)
            chunk[i] = 0;
        info->encode(chunk, dst + (size_t)at / info->block * info->bytes, (size_t)whole);
    }
}

static void decode_row(enum dtype type, real *x, const unsigned char *src, int64_t n)
{
    const struct dtype_info *info = dtype_info(type);
    float chunk[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = min_i64(CHUNK, n - at), whole = (m + info->block - 1) / info->block * info->block;
        info->decode(src + (size_t)at / info->block * info->bytes, chunk, (size_t)whole);
        for (int64_t i = 0; i < m; i++)
            x[at + i] = (real)chunk[i];
    }
}

void kv_put(struct kv_cache *kv, int64_t layer, int64_t seq, int64_t position, const real *k, const real *v, int64_t n)
{
    enum dtype type = kv->layout.type;
    struct rows rows = find_rows(kv, layer, seq);
    const struct kv_layer *l = rows.layer;
    assert(position >= 0 && position <= *rows.length && position + n <= kv->layout.n_ctx);
    for (int64_t i = 0; i < n; i++) {
        encode_row(type, rows.k + (size_t)(position + i) * l->k_row, k + i * l->width.k, l->width.k);
        if (l->width.v > 0)
            encode_row(type, rows.v + (size_t)(position + i) * l->v_row, v + i * l->width.v, l->width.v);
    }
    *rows.length = position + n;
}

static void view_block(void *self, int64_t seq, int64_t b, real *scratch, const real **k, const real **v,
                       int64_t stride[2])
{
    const struct kv_layer_view *view = self;
    const struct kv_cache *kv = view->kv;
    enum dtype type = kv->layout.type;
    struct rows rows = find_rows(kv, view->layer, view->slot[seq]);
    const struct kv_layer *l = rows.layer;
    const unsigned char *k_src = rows.k + (size_t)(b * KV_BLOCK) * l->k_row;
    const unsigned char *v_src = rows.v + (size_t)(b * KV_BLOCK) * l->v_row;
    stride[0] = l->width.k;
    stride[1] = l->width.v > 0 ? l->width.v : l->width.k;
    if (type == DTYPE_F32) {
        *k = (const real *)(const void *)k_src;
        *v = l->width.v > 0 ? (const real *)(const void *)v_src : *k;
        return;
    }
    real *k_dst = scratch, *v_dst = scratch + KV_BLOCK * l->width.k;
    int64_t n = min_i64(KV_BLOCK, *rows.length - b * KV_BLOCK);
    for (int64_t i = 0; i < n; i++) {
        decode_row(type, k_dst + i * l->width.k, k_src + (size_t)i * l->k_row, l->width.k);
        if (l->width.v > 0)
            decode_row(type, v_dst + i * l->width.v, v_src + (size_t)i * l->v_row, l->width.v);
    }
    *k = k_dst;
    *v = l->width.v > 0 ? v_dst : k_dst;
}

struct kv_view kv_layer_view(struct kv_layer_view *storage)
{
    return (struct kv_view){.self = storage, .block = view_block, .decodes = storage->kv->layout.type != DTYPE_F32};
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
