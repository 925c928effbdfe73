/* Writes logits and routing of a prompt to safetensors files while it is fed. */
#ifndef CADRE_ENGINE_RECORD_H
#define CADRE_ENGINE_RECORD_H

#include "engine/session.h"
#include "file/safetensors.h"

struct record {
    const struct spec *spec;
    int64_t n; /* prompt tokens */
    struct safetensors_writer *logits, *routing;
    int32_t *expert; /* [n_layer, n, k], written when the prompt is done */
    float *weight;
};

/* Either path may be NULL. */
cadre_err record_open(struct record *r, const struct spec *spec, const int32_t *tokens, int64_t n,
                      const char *logits_path, const char *routing_path, cadre_error *err);
cadre_err record_chunk(struct record *r, const struct session_output *out, cadre_error *err);
cadre_err record_commit(struct record *r, cadre_error *err); /* after the last chunk; the files appear */
void record_close(struct record *r);                         /* drops what was not committed */

#endif
