/* GGUF v3 (and v2) files, read and written. A file is hostile until `gguf_open` has passed it: every count, length,
 * type and offset is checked against the file's size before use; afterwards the accessors cannot fail.
 *
 *     magic version n_tensors n_kv | key values … | tensor infos … | pad | tensor data (aligned) …
 */
#ifndef CADRE_FILE_GGUF_H
#define CADRE_FILE_GGUF_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "tensor/dtype.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

enum { GGUF_MAX_DIMS = 4, GGUF_MAX_PARTS = 1000 /* files of a split model */ };

struct gguf_string { /* bytes, not 0-terminated, may hold 0 */
    const char *p;
    uint64_t n;
};

struct gguf_tensor {
    const char *name; /* 0-terminated */
    enum dtype type;
    int n_dims;
    int64_t dim[GGUF_MAX_DIMS]; /* as in the file: dim[0] is the contiguous one; unused are 1 */
    uint64_t offset;            /* from the start of the file */
    uint64_t bytes;
};

struct gguf;

/* One file, or the first of a split model's ("-00001-of-00003.gguf"), which opens as the whole. */
cadre_err gguf_open(struct gguf **out, const char *path, cadre_error *err);
void gguf_close(struct gguf *g);

int64_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, int64_t i);
int64_t gguf_tensor_index(const struct gguf *g, const struct gguf_tensor *t);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name); /* NULL if absent */
/* The tensor's bytes, read into dst (t->bytes). Fails on a short read. Thread-safe. */
cadre_err gguf_tensor_read(const struct gguf *g, const struct gguf_tensor *t, void *dst, cadre_error *err);
/* A hint: it is read next. */
void gguf_will_read(const struct gguf *g, const struct gguf_tensor *t);
/* The same matrix by matrix: a slice is dim[0] x dim[1], of t->bytes / gguf_slices(t) bytes; a stack of experts has one
 * an expert. */
int64_t gguf_slices(const struct gguf_tensor *t);
/* Whether tensors can be read piece by piece, also by several threads at once; then n bytes of one from `from` on,
 * within t->bytes. */
bool gguf_has_pieces(const struct gguf *g);
cadre_err gguf_piece_read(const struct gguf *g, const struct gguf_tensor *t, uint64_t from, void *dst, size_t n,
                          cadre_error *err);
cadre_err gguf_slice_read(const struct gguf *g, const struct gguf_tensor *t, int64_t slice, void *dst,
                          cadre_error *err);

/* ---- packed files (gguf_packed.c) */

/* Whether matrices lie in strips, ready for kernels. Such a file reads like the one that was packed. */
bool gguf_is_packed(const struct gguf *g);
/* Where in the file the strips of a tensor's first slice begin, and how many bytes on those of each further one;
 * false: it has none. Where its rows lie; false: they are in strips only. */
bool gguf_strips(const struct gguf *g, const struct gguf_tensor *t, uint64_t *offset, uint64_t *stride);
bool gguf_rows(const struct gguf *g, const struct gguf_tensor *t, uint64_t *offset);
/* The file in memory: offsets count from out->p. Lives longer than g. */
struct file_map;
cadre_err gguf_map(const struct gguf *g, struct file_map *out, cadre_error *err);

/* What becomes of a tensor in a packed file. group: tensors with the same number of slices and the same name here share
 * records, slice by slice. NULL strips: rows only. */
struct gguf_pack_tensor {
    bool rows, strips;
    const char *group; /* NULL: a record of its own */
};
struct kernels;
struct pool;
struct gguf_pack_options {
    const struct gguf_pack_tensor *tensor; /* [tensors of g] */
    const struct kernels *ks;              /* as of packed_fill */
    struct pool *pool;
    bool (*progress)(void *user, int64_t done, int64_t total); /* in bytes; false cancels; or NULL */
    void *user;
};
/* Writes the file g, one that is not split, virtual or packed, as a packed one; and a packed one as the file that was
 * packed. The file appears whole or not at all. */
cadre_err gguf_pack(const char *path, const struct gguf *g, const struct gguf_pack_options *o, cadre_error *err);
cadre_err gguf_unpack(const char *path, const struct gguf *g, const struct gguf_pack_options *o, cadre_error *err);
/* Whether a matrix of this type and row length comes back from strips as it was. */
bool gguf_can_pack(enum dtype type, int64_t k);

/* Key values. The getters convert between integer widths when the value fits; `false` and an untouched *out if the
 * key is absent; a key of another kind or out of range is an error naming key, expected and found type. gguf_get_f64
 * takes integers too, gguf_get_i64s arrays of bool too. */
int64_t gguf_kv_count(const struct gguf *g);
const char *gguf_kv_key(const struct gguf *g, int64_t i);
bool gguf_has(const struct gguf *g, const char *key);
bool gguf_is_array(const struct gguf *g, const char *key); /* false when absent */
cadre_err gguf_get_i64(const struct gguf *g, const char *key, int64_t *out, bool *found, cadre_error *err);
cadre_err gguf_get_f64(const struct gguf *g, const char *key, double *out, bool *found, cadre_error *err);
cadre_err gguf_get_bool(const struct gguf *g, const char *key, bool *out, bool *found, cadre_error *err);
/* Borrowed from g and 0-terminated after its n bytes. */
cadre_err gguf_get_string(const struct gguf *g, const char *key, struct gguf_string *out, bool *found,
                          cadre_error *err);
/* Arrays of strings, integers, floats: *out is borrowed from g. */
cadre_err gguf_get_strings(const struct gguf *g, const char *key, const struct gguf_string **out, int64_t *n,
                           bool *found, cadre_error *err);
cadre_err gguf_get_i64s(const struct gguf *g, const char *key, const int64_t **out, int64_t *n, bool *found,
                        cadre_error *err);
cadre_err gguf_get_f64s(const struct gguf *g, const char *key, const double **out, int64_t *n, bool *found,
                        cadre_error *err);

/* Writing: put all key values and tensor infos, then write_begin, then every tensor's data in the order of the infos
 * (in pieces, if convenient), then commit: the file appears whole under its name or not at all. After a failed put
 * only abort is left. Tensors are aligned to 32 bytes or to what gguf_put_u32 is given for "general.alignment". */
struct gguf_writer;
cadre_err gguf_writer_open(struct gguf_writer **out, const char *path, cadre_error *err);
void gguf_writer_abort(struct gguf_writer *w); /* frees; removes what was written; NULL is fine */
cadre_err gguf_put_u32(struct gguf_writer *w, const char *key, uint32_t v, cadre_error *err);
cadre_err gguf_put_u16(struct gguf_writer *w, const char *key, uint16_t v, cadre_error *err);
cadre_err gguf_put_i32(struct gguf_writer *w, const char *key, int32_t v, cadre_error *err);
cadre_err gguf_put_u64(struct gguf_writer *w, const char *key, uint64_t v, cadre_error *err);
cadre_err gguf_put_f32(struct gguf_writer *w, const char *key, float v, cadre_error *err);
cadre_err gguf_put_bool(struct gguf_writer *w, const char *key, bool v, cadre_error *err);
cadre_err gguf_put_string(struct gguf_writer *w, const char *key, const char *s, size_t n, cadre_error *err);
cadre_err gguf_put_strings(struct gguf_writer *w, const char *key, const struct gguf_string *s, int64_t n,
                           cadre_error *err);
cadre_err gguf_put_i32s(struct gguf_writer *w, const char *key, const int32_t *v, int64_t n, cadre_error *err);
cadre_err gguf_put_f32s(struct gguf_writer *w, const char *key, const float *v, int64_t n, cadre_error *err);
/* Copy every key value of g except those for which skip(key) is true; for tools that rewrite a file. */
cadre_err gguf_put_all(struct gguf_writer *w, const struct gguf *g, bool (*skip)(const char *key), cadre_error *err);
cadre_err gguf_put_tensor(struct gguf_writer *w, const char *name, enum dtype type, int n_dims, const int64_t *dim,
                          cadre_error *err);
cadre_err gguf_write_begin(struct gguf_writer *w, cadre_error *err);
cadre_err gguf_write_data(struct gguf_writer *w, const void *data, uint64_t n, cadre_error *err);
cadre_err gguf_writer_commit(struct gguf_writer *w, cadre_error *err); /* frees w, also on failure */

/* A writer of no file: what is put into it becomes a head, the bytes before the data, padding included (free it). */
cadre_err gguf_writer_open_head(struct gguf_writer **out, cadre_error *err);
cadre_err gguf_writer_head(struct gguf_writer *w, unsigned char **head, uint64_t *n, cadre_error *err);

/* Where the data of a file comes from that exists only in parts or in another form. read: one slice of tensor i of the
 * head, from any thread; close releases ctx. */
struct gguf_source {
    void *ctx;
    cadre_err (*read)(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err);
    void (*close)(void *ctx);
    uint64_t stamp; /* as gguf_stamp */
};
/* What w holds, as an open file with that data; w (of gguf_writer_open_head) is freed, `source` is taken over, both
 * also on failure. Tensors may have types that GGUF has no number for. */
cadre_err gguf_open_virtual(struct gguf **out, struct gguf_writer *w, const char *name, struct gguf_source source,
                            cadre_error *err);
/* Changes when the file (or those of a virtual one) is another one or was written to: of sizes and times, not contents.
 */
uint64_t gguf_stamp(const struct gguf *g);
/* Bytes that a tensor of so many takes in w's file, padding included. */
uint64_t gguf_padded(const struct gguf_writer *w, uint64_t bytes);

#endif
