/* Which row of a matrix in a directory is which row of a tensor in GGUF: one affine rule a form, used by reading and by
 * writing. */
#ifndef CADRE_MODEL_HF_MAP_H
#define CADRE_MODEL_HF_MAP_H

#include "model/hf/hf.h"

/* The numbers of a model that forms depend on, from its GGUF keys. */
struct hf_dims {
    int64_t layers, nextn, experts, heads, kv_heads, head_dim;
    int64_t nope, v; /* latent attention: per head, numbers without rope; values */
    int64_t n_rot;
    int64_t delta_k, delta_v, delta_k_rows; /* Gated DeltaNet: heads; rows of all its q, or of all its k */
};
cadre_err hf_dims_from_gguf(struct hf_dims *d, const struct gguf *keys, const char *architecture, cadre_error *err);

/* From `from` on, groups of a · b pieces of `size` each: [a, b] there, [b, a] here. a = 0: all as it is. */
struct hf_turn {
    int64_t from, a, b, size;
};

static inline int64_t hf_turned(const struct hf_turn *t, int64_t i)
{
    if (t->a == 0 || i < t->from)
        return i;
    int64_t at = i - t->from, in = at % (t->a * t->b * t->size), piece = in / t->size;
    return i - in + (piece % t->a * t->b + piece / t->a) * t->size + in % t->size;
}

/* Row r of matrix `unit` here is row first + unit * block + step * turned(r) there; its columns are turned by `inputs`.
 * There are `units` matrices of `count` rows here for one there, transposed if so. */
struct hf_map {
    int64_t count, units, first, step, block;
    struct hf_turn turn, inputs;
    bool transposed;
};
/* For a matrix of rows and cols there; false if it cannot have that many. */
bool hf_map_of(enum hf_form form, const struct hf_dims *d, int64_t rows, int64_t cols, struct hf_map *m);

static inline int64_t hf_map_row(const struct hf_map *m, int64_t unit, int64_t r)
{
    return m->first + unit * m->block + m->step * hf_turned(&m->turn, r);
}

#endif
