/* Model families as data: one small file each in families/, one row in the table. */
#ifndef CADRE_MODEL_FAMILY_H
#define CADRE_MODEL_FAMILY_H

#include "file/gguf.h"
#include "model/spec.h"

struct family {
    const char *name; /* general.architecture */
    /* Fill in what is special (defaults are set, common keys are read before); then spec_check runs. */
    cadre_err (*from_gguf)(const struct gguf *g, struct spec *s, cadre_error *err);
    /* May a model with this spec be written under this family's name? NULL: never written. */
    cadre_err (*can_write)(const struct spec *s, cadre_error *err);
    /* Keys beyond the common ones. */
    cadre_err (*to_gguf)(struct gguf_writer *w, const struct spec *s, cadre_error *err);
};

const struct family *family_find(const char *name);
const struct family *family_at(int i);

cadre_err spec_from_gguf(struct spec *s, const struct gguf *g, cadre_error *err);
cadre_err spec_to_gguf(struct gguf_writer *w, const struct spec *s, cadre_error *err); /* architecture and all keys */

#endif
