/* What a MODEL may be: a GGUF file, the first file of a split one, a Hugging Face directory. */
#ifndef CADRE_MODEL_SOURCE_H
#define CADRE_MODEL_SOURCE_H

#include "file/gguf.h"
#include "text/tokenizer.h"

cadre_err model_source_open(struct gguf **out, const char *path, cadre_error *err);
/* The tokenizer that comes with what was opened from `path`, for n_vocab rows (0: any number); *out is NULL if there is
 * none. */
cadre_err model_source_tokenizer(struct tokenizer **out, const struct gguf *g, const char *path, int64_t n_vocab,
                                 cadre_error *err);
/* What a GGUF file made of it would not tell of its tokenizer is said to `warn`, as a sentence. */
cadre_err model_source_loss(const struct gguf *g, const char *path, void (*warn)(void *user, const char *text),
                            void *user, cadre_error *err);
/* Bytes of tensors. */
uint64_t model_source_bytes(const struct gguf *g);

#endif
