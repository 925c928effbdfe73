/* Weight matrices repacked once into strips of 16 outputs, for inference. f32, f16, bf16 (kernel.h) and the block
 * formats (blocks.h) have layouts made for their kernels. Eight-bit floats without scales and int4 keep their file
 * bytes: a strip is cut into pieces of PIECE_K numbers of k, and a piece holds the blocks of its first row, of its
 * second, … of its 16th. For many rows of f32 activations the latter two are decoded a piece at a time into an f32
 * strip in cache, which all rows share. */
#ifndef CADRE_KERNEL_PACKED_H
#define CADRE_KERNEL_PACKED_H

#include "kernel/kernel.h"

enum { PIECE_K = 256 }; /* a multiple of every format's block */

/* A weight matrix [n, k] in strips. */
struct packed {
    enum dtype type; /* one with dtype_info(type)->weight */
    int64_t n, k;
    const void *data;
};

/* Bytes of the packed form and of one of its strips; 0 if the type is no weight format or k is not a multiple of its
 * block. */
size_t packed_bytes(enum dtype type, int64_t n, int64_t k);
size_t packed_strip_bytes(enum dtype type, int64_t k);
/* rows: n rows of k numbers of that type, as in a file (row-major). dst is 64-byte aligned. Without ks (NULL) plain C
 * does it; the bytes are the same. */
void packed_fill(const struct kernels *ks, void *dst, enum dtype type, const void *rows, int64_t n, int64_t k);

/* Of the layout: changes with it. Files that hold strips carry it (file/gguf_packed.c). */
uint64_t packed_stamp(enum dtype type);

/* The way back, for strips of rows of k numbers: which bit of a strip each bit of its 16 rows became. NULL without
 * memory, or when the layout is no mere order of the rows' bits and so has no way back; free() releases it. */
struct strip_map;
struct strip_map *strip_map_new(enum dtype type, int64_t k);
/* The strip's first n rows. Both need STRIP_SLACK bytes behind the 16 rows and the strip. */
enum { STRIP_SLACK = 8 };
void strip_map_rows(const struct strip_map *m, unsigned char *rows, const unsigned char *strip, int64_t n);

/* Whether strips of the type are decoded before they are multiplied. */
bool packed_is_decoded(enum dtype type);
/* Numbers k0 … k0 + k - 1 (one piece: k0 a multiple of PIECE_K, k at most PIECE_K) of a strip into an f32 strip
 * [k][16]; outputs beyond n are zeros. rows is scratch for STRIP * PIECE_K numbers. */
void packed_decode(const struct kernels *ks, real *dst, const struct packed *p, int64_t strip, int64_t k0, int64_t k,
                   real *rows);

#endif
