/* Tensors of layers that predict tokens beyond the next one (spec.n_nextn). The model leaves them out; whoever writes
 * its file anew keeps them, because keys of the file count them and other readers use them. */
#ifndef CADRE_MODEL_EXTRAS_H
#define CADRE_MODEL_EXTRAS_H

#include "model/tensors.h"

struct extras {
    struct param *param; /* [n], in the file's order, named as there; without values */
    struct tensor_def *def;
    int64_t n;
};

/* In the file g of model m. Free *out also on failure. */
cadre_err extras_find(struct extras *out, const struct gguf *g, const struct model *m, cadre_error *err);
void extras_free(struct extras *x);

#endif
