/* What reader and writer of packed files share. */
#ifndef CADRE_FILE_GGUF_PACKED_H
#define CADRE_FILE_GGUF_PACKED_H

#include <inttypes.h>
#include <stdio.h>

#include "file/gguf_internal.h"
#include "kernel/packed.h"

#define PACKED_LAYOUTS "cadre.packed.layouts"
#define PACKED_SIZE "cadre.packed.size"
#define PACKED_TENSORS "cadre.packed.tensors"
#define PACKED_HEAD "cadre.head"
#define PACKED_ARCHITECTURE "cadre-packed"

enum {
    PACKED_VERSION = 1,
    PACKED_PAGE = 4096, /* records begin at its multiples */
    PACKED_ALIGN = 64,  /* of strips inside a record */
    PACKED_STAMP = 17
};

/* Between and behind its tensors a file has padding and nothing else, so that its size says no lie. */
bool gguf_size_fits(const struct gguf *g);
/* The file around a packed one. */
const struct gguf *gguf_packed_outer(const struct gguf *g);

static inline void packed_stamp_text(enum dtype type, char out[PACKED_STAMP])
{
    snprintf(out, PACKED_STAMP, "%016" PRIx64, packed_stamp(type));
}

#endif
