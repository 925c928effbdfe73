/* The tensors of a directory as plain matrices: what a quantization keeps in several tensors is one here. */
#ifndef CADRE_MODEL_HF_STORED_H
#define CADRE_MODEL_HF_STORED_H

#include "file/safetensors_set.h"
#include "model/hf/config.h"

struct hf_stored;

struct hf_matrix {
    const char *name;
    enum dtype type; /* that hf_stored_read gives */
    int n_dims;
    int64_t dim[ST_MAX_DIMS]; /* row-major */
};

cadre_err hf_stored_open(struct hf_stored **out, const char *dir, const struct hf_config *c, cadre_error *err);
void hf_stored_close(struct hf_stored *s);
int64_t hf_stored_count(const struct hf_stored *s);
const struct hf_matrix *hf_stored_at(const struct hf_stored *s, int64_t i);
int64_t hf_stored_find(const struct hf_stored *s, const char *name); /* -1: none */
/* n numbers of it from number `from` on: whole rows. Thread-safe. */
cadre_err hf_stored_read(const struct hf_stored *s, int64_t i, int64_t from, int64_t n, void *dst, cadre_error *err);
uint64_t hf_stored_stamp(const struct hf_stored *s);

#endif
