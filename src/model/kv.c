/* One block of memory, reserved at once and touched as sequences grow:
 *
 *     [layer][sequence] { keys [n_ctx] rows | values [n_ctx] rows }
 *
 * A row is k_width or v_width numbers in the cache's format. F32 rows (reals in the float64 build) are handed out in
 * place; others are decoded block by block into the reader's scratch, so a compressed cache is never expanded whole.
 * Storing at a position makes it the last one of its layer and sequence: going back is storing again. */
#include "model/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"

struct kv_cache {
    struct kv_layout layout;
    size_t k_row, v_row; /* bytes */
    unsigned char *data;
    int64_t *length; /* [n_layer, n_seq] positions stored */
    struct arena arena;
};

static bool row_bytes(enum dtype type, int64_t width, uint64_t *bytes)
{
    if (type != DTYPE_F32)
        return dtype_size(type, (uint64_t)width, bytes);
    return mul_ok((uint64_t)width, sizeof(real), bytes);
}

static cadre_err check_layout(const struct kv_layout *l, uint64_t *k_row, uint64_t *v_row, uint64_t *bytes,
                              cadre_error *err)
{
    const struct dtype_info *info = l->type >= 0 && l->type < DTYPE_COUNT ? dtype_info(l->type) : NULL;
    bool offered = l->type == DTYPE_F32 || l->type == DTYPE_F16 || l->type == DTYPE_BF16 || l->type == DTYPE_Q8_0;
    CHECK(err, offered, CADRE_E_UNSUPPORTED, "KV cache type: expected f32, f16, bf16 or q8_0, found %s",
          info ? info->name : "an unknown one");
    CHECK(err, l->n_layer > 0 && l->n_seq > 0 && l->n_ctx > 0 && l->k_width > 0 && l->v_width > 0, CADRE_E_ARG,
          "KV cache: expected at least one layer, sequence, position and number, found %lld, %lld, %lld, %lld + %lld",
          (long long)l->n_layer, (long long)l->n_seq, (long long)l->n_ctx, (long long)l->k_width,
          (long long)l->v_width);
    CHECK(err, row_bytes(l->type, l->k_width, k_row) && row_bytes(l->type, l->v_width, v_row), CADRE_E_ARG,
          "KV cache type %s: expected key and value widths that are multiples of %u, found %lld and %lld; use another "
          "type",
          info->name, info->block, (long long)l->k_width, (long long)l->v_width);
    uint64_t position, sequence, layer;
    CHECK(err,
          add_ok(*k_row, *v_row, &position) && mul_ok(position, (uint64_t)l->n_ctx, &sequence) &&
              mul_ok(sequence, (uint64_t)l->n_seq, &layer) && mul_ok(layer, (uint64_t)l->n_layer, bytes) &&
              *bytes < (uint64_t)1 << 46,
          CADRE_E_MEMORY, "KV cache: %lld sequences of %lld positions do not fit any memory", (long long)l->n_seq,
          (long long)l->n_ctx);
    return CADRE_OK;
}

cadre_err kv_new(struct kv_cache **out, const struct kv_layout *layout, cadre_error *err)
{
    *out = NULL;
    uint64_t k_row = 0, v_row = 0, bytes = 0;
    TRY(check_layout(layout, &k_row, &v_row, &bytes, err));
    struct kv_cache *kv = calloc(1, sizeof *kv);
    int64_t *length = calloc((size_t)(layout->n_layer * layout->n_seq), sizeof *length);
    cadre_err rc = kv && length ? CADRE_OK : error_set(err, CADRE_E_MEMORY, "no memory for a KV cache");
    if (rc == CADRE_OK)
        rc = arena_init(&kv->arena, bytes + 128, err); /* room for the sanitizer's red zone */
    if (rc != CADRE_OK) {
        free(length);
        free(kv);
        return rc;
    }
    kv->layout = *layout;
    kv->k_row = k_row;
    kv->v_row = v_row;
    kv->length = length;
    kv->data = arena_alloc(&kv->arena, bytes);
    *out = kv;
    return CADRE_OK;
}

void kv_free(struct kv_cache *kv)
{
    if (!kv)
        return;
    arena_destroy(&kv->arena);
    free(kv->length);
    free(kv);
}

size_t kv_bytes(const struct kv_cache *kv)
{
    return kv->arena.used;
}

struct rows {
    unsigned char *k, *v; /* row 0 of the sequence */
    int64_t *length;
};

static struct rows find_rows(const struct kv_cache *kv, int64_t layer, int64_t seq)
{
    assert(layer >= 0 && layer < kv->layout.n_layer && seq >= 0 && seq < kv->layout.n_seq);
    int64_t i = layer * kv->layout.n_seq + seq;
    size_t n_ctx = (size_t)kv->layout.n_ctx;
    unsigned char *k = kv->data + (size_t)i * n_ctx * (kv->k_row + kv->v_row);
    return (struct rows){k, k + n_ctx * kv->k_row, &kv->length[i]};
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
        int64_t m = min_i64(CHUNK, n - at);
        for (int64_t i = 0; i < m; i++)
            chunk[i] = (float)x[at + i];
        info->encode(chunk, dst + (size_t)at / info->block * info->bytes, (size_t)m);
    }
}

static void decode_row(enum dtype type, real *x, const unsigned char *src, int64_t n)
{
    const struct dtype_info *info = dtype_info(type);
    float chunk[CHUNK];
    for (int64_t at = 0; at < n; at += CHUNK) {
        int64_t m = min_i64(CHUNK, n - at);
        info->decode(src + (size_t)at / info->block * info->bytes, chunk, (size_t)m);
        for (int64_t i = 0; i < m; i++)
            x[at + i] = (real)chunk[i];
    }
}

void kv_put(struct kv_cache *kv, int64_t layer, int64_t seq, int64_t position, const real *k, const real *v, int64_t n)
{
    const struct kv_layout *l = &kv->layout;
    struct rows rows = find_rows(kv, layer, seq);
    assert(position >= 0 && position <= *rows.length && position + n <= l->n_ctx);
    for (int64_t i = 0; i < n; i++) {
        encode_row(l->type, rows.k + (size_t)(position + i) * kv->k_row, k + i * l->k_width, l->k_width);
        encode_row(l->type, rows.v + (size_t)(position + i) * kv->v_row, v + i * l->v_width, l->v_width);
    }
    *rows.length = position + n;
}

static void view_block(void *self, int64_t seq, int64_t b, real *scratch, const real **k, const real **v,
                       int64_t stride[2])
{
    const struct kv_layer_view *view = self;
    const struct kv_cache *kv = view->kv;
    const struct kv_layout *l = &kv->layout;
    struct rows rows = find_rows(kv, view->layer, view->slot[seq]);
    const unsigned char *k_src = rows.k + (size_t)(b * KV_BLOCK) * kv->k_row;
    const unsigned char *v_src = rows.v + (size_t)(b * KV_BLOCK) * kv->v_row;
    stride[0] = l->k_width;
    stride[1] = l->v_width;
    if (l->type == DTYPE_F32) {
        *k = (const real *)(const void *)k_src;
        *v = (const real *)(const void *)v_src;
        return;
    }
    real *k_dst = scratch, *v_dst = scratch + KV_BLOCK * l->k_width;
    int64_t n = min_i64(KV_BLOCK, *rows.length - b * KV_BLOCK);
    for (int64_t i = 0; i < n; i++) {
        decode_row(l->type, k_dst + i * l->k_width, k_src + (size_t)i * kv->k_row, l->k_width);
        decode_row(l->type, v_dst + i * l->v_width, v_src + (size_t)i * kv->v_row, l->v_width);
    }
    *k = k_dst;
    *v = v_dst;
}

struct kv_view kv_layer_view(struct kv_layer_view *storage)
{
    return (struct kv_view){.self = storage, .block = view_block, .decodes = storage->kv->layout.type != DTYPE_F32};
}
