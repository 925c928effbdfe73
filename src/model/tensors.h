/* Every tensor a model can have, one row each: its name in files, its shape, when it exists, where it belongs in
 * struct model, how it starts. Loading, creating, counting and writing all walk these rows: the globals, then layer by
 * layer what every layer has, what its attention kind brings along, and its feed-forward part. */
#ifndef CADRE_MODEL_TENSORS_H
#define CADRE_MODEL_TENSORS_H

#include <stddef.h>

#include "model/model.h"

enum tensor_slot {
    SLOT_WEIGHT, /* struct weight */
    SLOT_VECTOR, /* struct tensor *, [d]; [n_expert, d] for biases of experts */
    SLOT_ROW,    /* struct tensor *, [1, d]; one dimension in files */
};

enum tensor_init {
    INIT_NORMAL,
    INIT_RESIDUAL, /* normal / √(2 n_layer): adds to the residual */
    INIT_ONE,
    INIT_ZERO,
    INIT_UNIT,  /* normal, of variance 1 / inputs: what comes out has the size of what goes in, at every width */
    INIT_DECAY, /* even in -16 … -1: from heads that forget at once to heads that remember */
};

enum {
    TENSOR_KEEP_F32 = 1,    /* in files: what it decides is worth more than its bytes */
    TENSOR_NO_GRADIENT = 2, /* not trained by gradients */
    TENSOR_LOOKUP = 4,      /* rows are looked up one by one: kept as in the file */
    TENSOR_BY_EXPERT = 8,   /* a token uses k of its n_expert parts */
    TENSOR_TURNS = 16,      /* with MLA_PLAIN each matrix multiplies the other way round than files have it */
    TENSOR_GATE = 32,       /* routers with a fixed gate do not train it */
    TENSOR_BY_TURN = 64,    /* used in each turn of a chain of experts */
    TENSOR_BY_HEAD = 128,   /* used for each sub-token of multi-head experts */
};

typedef int64_t tensor_size(const struct spec *s, int64_t layer);
typedef bool tensor_when(const struct spec *s, int64_t layer);

struct tensor_def {
    const char *name; /* as in GGUF; of a layer after "blk.N." */
    size_t field;     /* in struct layer, for the globals in struct model */
    enum tensor_slot slot;
    enum tensor_init init;
    tensor_size *size[3]; /* row-major; NULL ends them */
    unsigned flags;       /* TENSOR_… */
    tensor_when *when;    /* NULL: always */
    /* A bool of the spec without which it does not exist. A file that has the tensor sets it: what a family may have or
     * not needs no key. 0: none. */
    size_t option;
};
#define GLOBAL(f) offsetof(struct model, f)
#define LAYER(f) offsetof(struct layer, f)
#define OPTION(f) offsetof(struct spec, f)

/* Sizes that rows in several files use. */
tensor_size size_model, size_n_expert;

/* Rows that a kind of layer part brings along. */
struct tensor_rows {
    const struct tensor_def *def;
    int n;
};

/* Walk a model's tensors in file order.
 *     struct tensor_walk w = tensor_walk(spec);
 *     while (tensor_next(&w)) … w.def, w.layer, w.n_dims, w.dim … */
struct tensor_walk {
    const struct spec *spec;
    const struct tensor_def *def;
    int64_t layer; /* -1: global */
    int n_dims;
    int64_t dim[4];
    bool all; /* rows whose option is not set, too */
    int part, row;
};
struct tensor_walk tensor_walk(const struct spec *s);
bool tensor_next(struct tensor_walk *w);
void tensor_name(const struct tensor_walk *w, char name[64]);
/* Numbers in it; false when the count does not fit. */
bool tensor_size_ok(const struct tensor_walk *w, uint64_t *n);

/* The model without values: params listed and bound to their places, inv_freq allocated. Weights point at their params
 * with x = NULL. */
cadre_err model_new_empty(struct model **out, const struct spec *spec, enum mla_form mla, cadre_error *err);
/* Memory for `plan` bytes of weights, and the arena to take them from. */
cadre_err model_reserve(struct model *m, size_t plan, cadre_error *err);
struct arena *model_arena(struct model *m);
/* f32 values, and gradients (zero), for every param. */
cadre_err model_reserve_params(struct model *m, bool with_grad, cadre_error *err);
/* Once the values are there: what is derived from them (rotary frequencies, the tied output). */
void model_finish(struct model *m);
struct weight *param_weight(const struct model *m, const struct param *p); /* NULL for vectors */

#endif
