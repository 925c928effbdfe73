/* A Hugging Face directory as an open GGUF file. */
#ifndef CADRE_MODEL_HF_OPEN_H
#define CADRE_MODEL_HF_OPEN_H

#include "file/gguf.h"
#include "model/hf/config.h"

cadre_err hf_open(struct gguf **out, const char *dir, cadre_error *err);
/* What config.json says, as the keys of a file: without tensors, or with those of `like`, but not their data. What
 * depends on keys is then asked as of any file. dir: gives the name. */
cadre_err hf_open_keys(struct gguf **out, const struct hf_config *c, const char *dir, const struct gguf *like,
                       cadre_error *err);

#endif
