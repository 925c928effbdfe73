/* The keys of a model file that describe its shape: one table for reading, writing, and for telling whether a family
 * can express a spec. */
#ifndef CADRE_MODEL_KEYS_H
#define CADRE_MODEL_KEYS_H

#include "model/family.h"

/* Every "family.…" key of the file is one that is read, or one known to change nothing. */
cadre_err keys_all_known(const struct family *f, const struct gguf *g, cadre_error *err);
cadre_err keys_read(const struct family *f, struct spec *s, const struct gguf *g, cadre_error *err);
/* Keys of the table that are not the family's are found in files of others all the same: they may repeat what the name
 * implies, nothing else. s is complete. */
cadre_err keys_implied(const struct family *f, const struct spec *s, const struct gguf *g, cadre_error *err);
cadre_err keys_write(const struct family *f, const struct spec *s, struct gguf_writer *w, cadre_error *err);
/* Every field that the family has no key for holds what the family's facts say. */
cadre_err keys_express(const struct family *f, const struct spec *s, cadre_error *err);
/* The first thing that two specs of a family say differently (reals: by more than 1e-6 of their size), by its key's
 * name or in words; NULL: none. */
const char *keys_other(const struct spec *a, const struct spec *b);

#endif
