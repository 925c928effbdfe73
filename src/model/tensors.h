/* Every tensor a model can have, one row each: its name in files, its shape, when it exists, where it belongs in
 * struct model, how it starts. Loading, creating, counting and writing all walk this table. */
#ifndef CADRE_MODEL_TENSORS_H
#define CADRE_MODEL_TENSORS_H

#include <stddef.h>

#include "model/model.h"

enum tensor_slot {
    SLOT_WEIGHT, /* struct weight */
    SLOT_VECTOR, /* struct tensor *, [d] */
    SLOT_ROW,    /* struct tensor *, [1, d]; one dimension in files */
};

enum tensor_init { INIT_NORMAL, INIT_RESIDUAL /* normal / √(2 n_layer): adds to the residual */, INIT_ONE, INIT_ZERO };

enum tensor_size {
    SIZE_END,
    SIZE_MODEL,
    SIZE_VOCAB,
    SIZE_Q,
    SIZE_K,
    SIZE_V,
    SIZE_O,
    SIZE_Q_NORM,
    SIZE_K_NORM,
    SIZE_DENSE_FF,
    SIZE_EXPERTS,
    SIZE_EXPERT_FF,
    SIZE_SHARED_FF,
    SIZE_ROPE,
    SIZE_COUNT
};

enum {
    TENSOR_KEEP_F32 = 1,    /* in files: what it decides is worth more than its bytes */
    TENSOR_NO_GRADIENT = 2, /* not trained by gradients */
    TENSOR_LOOKUP = 4,      /* rows are looked up one by one: kept as in the file */
};

struct tensor_def {
    const char *name; /* as in GGUF; of a layer after "blk.N." */
    bool (*present)(const struct spec *s, int64_t layer);
    size_t field; /* in struct layer, for the globals in struct model */
    enum tensor_slot slot;
    enum tensor_init init;
    enum tensor_size size[4]; /* row-major */
    unsigned flags;           /* TENSOR_… */
};

/* Walk a model's tensors in file order: the globals, then layer by layer.
 *     struct tensor_walk w = tensor_walk(spec);
 *     while (tensor_next(&w)) … w.def, w.layer, w.n_dims, w.dim … */
struct tensor_walk {
    const struct spec *spec;
    const struct tensor_def *def;
    int64_t layer; /* -1: global */
    int n_dims;
    int64_t dim[4];
    int row;
};
struct tensor_walk tensor_walk(const struct spec *s);
bool tensor_next(struct tensor_walk *w);
void tensor_name(const struct tensor_walk *w, char name[64]);
/* Numbers in it; false when the count does not fit. */
bool tensor_size_ok(const struct tensor_walk *w, uint64_t *n);

/* The model without values: params listed and bound to their places, inv_freq allocated. Weights point at their params
 * with x = NULL. */
cadre_err model_new_empty(struct model **out, const struct spec *spec, cadre_error *err);
/* Memory for `plan` bytes of weights, and the arena to take them from. */
cadre_err model_reserve(struct model *m, size_t plan, cadre_error *err);
struct arena *model_arena(struct model *m);
/* f32 values, and gradients (zero), for every param. */
cadre_err model_reserve_params(struct model *m, bool with_grad, cadre_error *err);
/* Once the values are there: what is derived from them (rotary frequencies, the tied output). */
void model_finish(struct model *m);
struct weight *param_weight(struct model *m, const struct param *p); /* NULL for vectors */

#endif
