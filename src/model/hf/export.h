/* A GGUF file as the Hugging Face directory that it would have come from: the tables of its family read the other way.
 */
#ifndef CADRE_MODEL_HF_EXPORT_H
#define CADRE_MODEL_HF_EXPORT_H

#include "model/hf/config.h"

struct hf_export;

struct hf_export_tensor {
    char name[256];
    enum dtype type; /* f32, f16 or bf16 */
    int n_dims;
    int64_t dim[4]; /* row-major */
    uint64_t bytes;
};

/* g is borrowed. type: of the matrices, or DTYPE_NONE: as they are, bf16 where they are quantized. A family without
 * tables, or a tensor that no rule makes, is an error. */
cadre_err hf_export_new(struct hf_export **out, const struct gguf *g, enum dtype type, cadre_error *err);
void hf_export_free(struct hf_export *e);
int64_t hf_export_count(const struct hf_export *e);
const struct hf_export_tensor *hf_export_at(const struct hf_export *e, int64_t i);
cadre_err hf_export_read(const struct hf_export *e, int64_t i, void *dst, cadre_error *err);

/* config.json's text, malloc'd (export_config.c). */
cadre_err hf_export_config(const struct gguf *g, char **text, cadre_error *err);
/* The family that g becomes. */
cadre_err hf_export_family(const struct gguf *g, const struct family **family, const struct hf_family **hf,
                           cadre_error *err);

#endif
