/* The tensors of a directory: one model.safetensors, or shards that model.safetensors.index.json names. Every tensor of
 * the index is in the shard that it says and no other one; every tensor of a shard is in the index. */
#ifndef CADRE_FILE_SAFETENSORS_SET_H
#define CADRE_FILE_SAFETENSORS_SET_H

#include "file/safetensors.h"

struct st_set;

cadre_err st_set_open(struct st_set **out, const char *dir, cadre_error *err);
void st_set_close(struct st_set *s);
int64_t st_set_count(const struct st_set *s);
const struct st_tensor *st_set_at(const struct st_set *s, int64_t i);
int64_t st_set_find(const struct st_set *s, const char *name); /* -1 if absent */
/* n bytes of tensor i, which begin at its byte `from`. Thread-safe. */
cadre_err st_set_read(const struct st_set *s, int64_t i, uint64_t from, void *dst, size_t n, cadre_error *err);
uint64_t st_set_stamp(const struct st_set *s); /* of all its files */

#endif
