/* The KV cache: keys and values of past positions, per sequence and layer, in a number format; and the states of layers
 * that carry one instead: reals always, as many however long the sequence is. */
#ifndef CADRE_MODEL_KV_H
#define CADRE_MODEL_KV_H

#include "base/error.h"
#include "op/op.h"
#include "tensor/dtype.h"

struct kv_cache;

/* Numbers of one layer: per position and kv head, and per sequence. v = 0: values are not stored, they are the first
 * numbers of the keys. */
struct kv_width {
    int64_t heads, k, v;
    int64_t state;
};

struct kv_layout {
    int64_t n_layer, n_seq, n_ctx; /* room for n_seq sequences of n_ctx positions */
    const struct kv_width *width;  /* [n_layer], copied */
    int marks;                     /* that a sequence may have: room for kv_mark */
    enum dtype type;               /* F32, F16, BF16, Q8_0; a head is filled up with zeros to whole blocks */
};

cadre_err kv_new(struct kv_cache **out, const struct kv_layout *layout, cadre_error *err);
void kv_free(struct kv_cache *kv);
size_t kv_bytes(const struct kv_cache *kv);
int64_t kv_context(const struct kv_cache *kv); /* n_ctx */
bool kv_has_states(const struct kv_cache *kv);
/* Store n rows [heads, k] and [heads, v] at position … of a sequence with the context's kernels and threads; v is not
 * read where values are keys. */
void kv_put(struct kv_cache *kv, const struct op_ctx *c, int64_t layer, int64_t seq, int64_t position, const real *k,
            const real *v, int64_t n);
/* Of one layer of one sequence: what n positions take, and its state. */
size_t kv_layer_bytes(const struct kv_cache *kv, int64_t layer, int64_t n);
/* A view of one layer over the sequences slot[0 … n_seq); valid while kv and slot live. storage is the caller's. */
struct kv_layer_view {
    struct kv_cache *kv;
    int64_t layer;
    const int32_t *slot;
};
struct kv_view kv_layer_view(struct kv_layer_view *storage);

/* The state of a layer as `position` rows of a sequence left it, zeros before the first; the caller takes it n rows
 * further. With n = 0 it is not to be touched. */
real *kv_state(struct kv_cache *kv, int64_t layer, int64_t seq, int64_t position, int64_t n);
/* Keys and values can be gone back over, a state cannot: it is where its sequence is, or where it was marked. Setting
 * mark i < layout.marks again moves it. */
void kv_mark(struct kv_cache *kv, int64_t seq, int i);
/* Make a sequence ready to go on from `position` or, where states do not allow that, from the last position before it
 * that they remember: a mark, or 0. Later marks are void. Returns which. */
int64_t kv_rewind(struct kv_cache *kv, int64_t seq, int64_t position);

#endif
