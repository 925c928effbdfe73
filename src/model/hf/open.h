/* A Hugging Face directory as an open GGUF file. */
#ifndef CADRE_MODEL_HF_OPEN_H
#define CADRE_MODEL_HF_OPEN_H

#include "file/gguf.h"

cadre_err hf_open(struct gguf **out, const char *dir, cadre_error *err);

#endif
