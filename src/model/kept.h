/* Where the numbers of a tensor of ours are in a file. Files of the same model differ: names, what is kept in one
 * matrix with others (q, k and v; gate and up; keys and values of latent attention), what is split up (an expert each).
 * Which it is changes no result, so it ends here. */
#ifndef CADRE_MODEL_KEPT_H
#define CADRE_MODEL_KEPT_H

#include "model/extras.h"
#include "model/family.h"
#include "model/tensors.h"

struct kept {
    const struct gguf_tensor *t; /* the tensor, or the first expert's */
    const struct form *form;     /* NULL: as it is */
    enum dtype type;             /* of what kept_read gives */
};

/* Whether the file has this row of the walk, in any form. */
bool kept_exists(const struct gguf *g, const struct family *f, const struct tensor_walk *w);
/* Finds and checks it: there, with its shape and a type that has kernels. */
cadre_err kept_find(struct kept *out, const struct gguf *g, const struct spec *s, const struct param *p,
                    cadre_error *err);
/* Every tensor of the file belongs to one of the n params (or to layers that are left out: see spec.n_nextn). */
cadre_err kept_all(const struct gguf *g, const struct model *m, const struct kept *kept, cadre_error *err);
/* A tensor of the n_nextn layers from n_layer on. */
bool kept_left_out(int64_t n_layer, int64_t n_nextn, const char *name);
/* Whether the param's rows lie in the file as kept_read gives them, and can be read in pieces (gguf_piece_read). */
bool kept_as_is(const struct kept *src, const struct gguf *g);
/* The tensor that holds the param's e-th matrix; whether matrices lie the other way round there. */
const struct gguf_tensor *kept_tensor(const struct kept *src, const struct gguf *g, const struct param *p, int64_t e);
bool kept_turned(const struct kept *src);
/* Where in a packed file the strips of the param's e-th matrix begin; false: they are not there as the param has them.
 */
bool kept_strips(const struct kept *src, const struct gguf *g, const struct spec *s, const struct param *p, int64_t e,
                 uint64_t *offset);
/* The param's rows one after the other, in src->type; dst holds dtype_size(src->type, tensor_count(&p->t)) bytes. */
cadre_err kept_read(const struct kept *src, const struct gguf *g, const struct spec *s, const struct param *p,
                    void *dst, cadre_error *err);

/* A model without values, and where in the file each of its params is ([n_params], malloc'd; the caller frees both). */
cadre_err model_open_empty(struct model **out, struct kept **kept, const struct gguf *g, enum mla_form mla,
                           cadre_error *err);

/* How a model is rewritten. type: the format of a tensor in the new file, one with an encode or the tensor's own (its
 * bytes are copied then); progress counts numbers, false cancels. */
struct write_options {
    enum dtype file_type; /* what most matrices are: general.file_type */
    enum dtype (*type)(void *user, const struct param *p);
    bool (*progress)(void *user, int64_t done, int64_t total); /* or NULL */
    void *user;
    struct pool *pool;
};

/* Every tensor of such a model, and the extra ones, from its file g to another; keys are the caller's. */
cadre_err model_rewrite(struct gguf_writer *w, const struct model *m, const struct kept *kept, const struct extras *x,
                        const struct gguf *g, const struct write_options *o, cadre_error *err);

#endif
