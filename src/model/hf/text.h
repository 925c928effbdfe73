/* What a directory says of text: its tokenizer and chat templates as GGUF keys. */
#ifndef CADRE_MODEL_HF_TEXT_H
#define CADRE_MODEL_HF_TEXT_H

#include "file/gguf.h"

/* A tokenizer that GGUF has no name for is left out; the model then runs from the directory only. */
cadre_err hf_put_text(struct gguf_writer *w, const char *dir, int64_t n_vocab, cadre_error *err);

/* What GGUF does not tell of a directory's tokenizer, as a sentence; empty: all is told. */
enum { HF_TEXT_LOSS = 512 };
cadre_err hf_text_loss(const char *dir, int64_t n_vocab, char text[HF_TEXT_LOSS], cadre_error *err);

#endif
