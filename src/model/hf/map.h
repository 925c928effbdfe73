/* Which row of a matrix in a directory is which row of a tensor in GGUF: one affine rule a form, used by reading and by
 * writing. */
#ifndef CADRE_MODEL_HF_MAP_H
#define CADRE_MODEL_HF_MAP_H

#include "model/hf/hf.h"

/* The numbers of a model that forms depend on, from its GGUF keys. */
struct hf_dims {
    int64_t layers, experts, heads, kv_heads, head_dim;
    int64_t nope, v; /* latent attention: per head, numbers without rope; values */
    int64_t n_rot;
};
cadre_err hf_dims_from_gguf(struct hf_dims *d, const struct gguf *keys, const char *architecture, cadre_error *err);

/* Row r of matrix `unit` here is row first + unit * block + step * p(r) there, where p puts halves of `pairs` rows in
 * turn (0: p(r) = r). There are `units` matrices of `count` rows here for one there, transposed if so. */
struct hf_map {
    int64_t count, units, first, step, block, pairs;
    bool transposed;
};
/* For a matrix of `rows` there; false if it cannot have that many. */
bool hf_map_of(enum hf_form form, const struct hf_dims *d, int64_t rows, struct hf_map *m);

static inline int64_t hf_map_row(const struct hf_map *m, int64_t unit, int64_t r)
{
    int64_t p = r;
    if (m->pairs > 0) {
        int64_t i = r % m->pairs;
        p = r - i + i / 2 + i % 2 * (m->pairs / 2);
    }
    return m->first + unit * m->block + m->step * p;
}

#endif
