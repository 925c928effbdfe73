/* What reader, getters and writer share: the GGUF limits, the table of value types, the open file. */
#ifndef CADRE_FILE_GGUF_INTERNAL_H
#define CADRE_FILE_GGUF_INTERNAL_H

#include <string.h>

#include "file/gguf.h"
#include "file/names.h"

#define GGUF_MAGIC "GGUF"
#define GGUF_ALIGNMENT_KEY "general.alignment"

/* The writer keeps within these too, so that what it writes can be read. */
enum {
    GGUF_VERSION = 3,
    GGUF_MIN_VERSION = 2,              /* version 1 has 32-bit lengths and is extinct */
    GGUF_HEADER_BYTES = 4 + 4 + 8 + 8, /* magic, version, n_tensors, n_kv */
    GGUF_MIN_KV_BYTES = 8 + 1 + 4 + 1, /* key of one byte, type, a one-byte value */
    GGUF_MIN_INFO_BYTES = 8 + 1 + 4 + 8 + 4 + 8,
    GGUF_DEFAULT_ALIGNMENT = 32,
    GGUF_MAX_ALIGNMENT = 1 << 20,
    GGUF_MAX_KEY = 65535, /* bytes of a key or a tensor name */
    GGUF_MAX_KV = 1 << 16,
    GGUF_MAX_TENSORS = 1 << 20,
    GGUF_MAX_ARRAY = 1 << 24,    /* elements; the largest vocabularies have 2^18 tokens */
    GGUF_MAX_DEPTH = 4,          /* arrays of arrays of … */
    GGUF_MAX_METADATA = 1 << 28, /* bytes before the tensor data */
    GGUF_PRIVATE_TYPE = 1 << 16  /* in heads of virtual files: this plus an enum dtype */
};

enum gguf_kind { GGUF_KIND_INT, GGUF_KIND_BOOL, GGUF_KIND_FLOAT, GGUF_KIND_STRING, GGUF_KIND_ARRAY };

struct gguf_type_info {
    const char *name;
    enum gguf_kind kind;
    uint32_t bytes; /* 0: the length is in the file */
};

enum { GGUF_TYPE_COUNT = GGUF_F64 + 1 };
const struct gguf_type_info *gguf_type_info(uint32_t type); /* type < GGUF_TYPE_COUNT */

struct gguf_kv {
    struct gguf_string key;
    uint32_t type, elem; /* elem: of an array */
    uint64_t n;          /* elements of an array */
    uint64_t key_at, at; /* offsets in the file of the key's characters and of the value (array: of its elements) */
    uint64_t bytes;      /* of the value as stored */
    struct gguf_string string;
    const void *table; /* arrays: gguf_string[n], int64_t[n] or double[n]; NULL for arrays of arrays */
    bool beyond_i64;   /* an integer array with a value above INT64_MAX */
};

struct gguf_row {
    struct gguf_tensor t;
    uint64_t name_at, name_n;
};

struct gguf {
    char *path;
    int fd;
    uint32_t version;
    struct gguf_source source;        /* of a virtual file; read is NULL in others */
    bool own_types;                   /* a virtual file's tensors may have types that GGUF has no number for */
    const struct packed_file *packed; /* source.ctx of a packed file; NULL: of another */
    uint64_t size;                    /* of the file */
    uint64_t data;                    /* where its tensor data begin */
    unsigned char *meta;              /* the file from its first byte to the end of the tensor infos, at least */
    uint64_t alignment;
    int64_t n_kv, n_tensors;
    struct gguf_kv *kv;
    struct gguf_row *tensor;
    void *tables; /* one block for every kv's table */
    struct name_index keys, names;
};

static inline uint32_t gguf_u32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint64_t gguf_u64(const unsigned char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The integer or bool of this type at p; false if it is above INT64_MAX. */
bool gguf_load_i64(uint32_t type, const unsigned char *p, int64_t *out);
double gguf_load_f64(uint32_t type, const unsigned char *p); /* F32 and F64 */

/* One file as it is, a part of a split model too. */
cadre_err gguf_open_part(struct gguf **out, const char *path, cadre_error *err);
/* The whole that g, one of several files, begins; g is taken over, also on failure. */
cadre_err gguf_join(struct gguf **out, struct gguf *g, cadre_error *err);
/* Bytes of all tensors, each padded, once the head has been made. */
uint64_t gguf_writer_data_size(const struct gguf_writer *w);

/* The file that such a head, n bytes (taken over, also on failure), begins; without data until a source is set. */
cadre_err gguf_open_head(struct gguf **out, unsigned char *head, uint64_t n, uint64_t size, const char *name,
                         cadre_error *err);
/* The file that was packed into g; g is taken over, also on failure. */
cadre_err gguf_unwrap(struct gguf **out, struct gguf *g, cadre_error *err);

#define GGUF_PACKED_VERSION "cadre.packed.version"
#define GGUF_SPLIT_COUNT "split.count"

/* Fails unless the alignment is a power of two up to GGUF_MAX_ALIGNMENT. */
cadre_err gguf_check_alignment(int64_t alignment, cadre_error *err);

#endif
