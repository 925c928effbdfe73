/* safetensors files: 8 bytes header length, a JSON header, raw little-endian row-major data. Read with every number
 * checked (no overlap, no gap beyond the data, sizes equal to shape times type), written streamed. */
#ifndef CADRE_FILE_SAFETENSORS_H
#define CADRE_FILE_SAFETENSORS_H

#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

enum { ST_MAX_DIMS = 8 };

struct st_tensor {
    const char *name;
    enum dtype type;
    int n_dims;
    int64_t dim[ST_MAX_DIMS]; /* dim[n_dims - 1] is the contiguous one */
    uint64_t offset;          /* from the start of the file */
    uint64_t bytes;
};

struct safetensors;

cadre_err safetensors_open(struct safetensors **out, const char *path, cadre_error *err);
/* An open file of `size` bytes; fd is taken over, also on failure; path is for error texts. */
cadre_err safetensors_open_fd(struct safetensors **out, const char *path, int fd, uint64_t size, cadre_error *err);
void safetensors_close(struct safetensors *s);
int64_t safetensors_count(const struct safetensors *s); /* tensors, in the order of their data */
const struct st_tensor *safetensors_at(const struct safetensors *s, int64_t i);
const struct st_tensor *safetensors_find(const struct safetensors *s, const char *name);
cadre_err safetensors_read(const struct safetensors *s, const struct st_tensor *t, void *dst, cadre_error *err);
/* n of its bytes, from its byte `from` on. */
cadre_err safetensors_read_at(const struct safetensors *s, const struct st_tensor *t, uint64_t from, void *dst,
                              size_t n, cadre_error *err);
uint64_t safetensors_stamp(const struct safetensors *s);                        /* file_stamp of its file */
const char *safetensors_metadata(const struct safetensors *s, const char *key); /* NULL if absent */

/* Declare every tensor first; then write the data of each, in that order, in pieces; then commit. */
struct safetensors_writer;
cadre_err safetensors_writer_open(struct safetensors_writer **out, const char *path, cadre_error *err);
void safetensors_writer_abort(struct safetensors_writer *w);
cadre_err safetensors_put_metadata(struct safetensors_writer *w, const char *key, const char *value, cadre_error *err);
cadre_err safetensors_put(struct safetensors_writer *w, const char *name, enum dtype type, int n_dims,
                          const int64_t *dim, cadre_error *err);
cadre_err safetensors_write_begin(struct safetensors_writer *w, cadre_error *err);
cadre_err safetensors_write(struct safetensors_writer *w, const void *data, uint64_t n, cadre_error *err);
cadre_err safetensors_writer_commit(struct safetensors_writer *w, cadre_error *err); /* frees w, also on failure */

/* A writer of no file: what is put into it becomes a head, the bytes before the data (free it). */
cadre_err safetensors_writer_open_head(struct safetensors_writer **out, cadre_error *err);
cadre_err safetensors_writer_head(struct safetensors_writer *w, unsigned char **head, uint64_t *n, cadre_error *err);

#endif
