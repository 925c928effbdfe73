#include "file/safetensors_set.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/fileio.h"
#include "file/folder.h"
#include "file/names.h"

enum { MAX_SHARDS = 1000, MAX_INDEX_BYTES = 1 << 26, MAX_INDEX_VALUES = 4000000 };
static const char index_name[] = "model.safetensors.index.json", single_name[] = "model.safetensors";

struct member {
    const struct safetensors *shard;
    const struct st_tensor *t;
};

struct st_set {
    const char *dir; /* while opening */
    json_t *index;   /* NULL: one file */
    struct safetensors **shard;
    const char **shard_name; /* borrowed from the index */
    int n_shards;
    struct member *member;
    int64_t n;
    struct name_index names, shards;
};

static cadre_err open_shard(struct st_set *s, const char *name, cadre_error *err)
{
    int fd;
    uint64_t size = 0;
    char *path;
    CHECK(err, s->n_shards < MAX_SHARDS, CADRE_E_FORMAT, "%s/%s: expected at most %d files", s->dir, index_name,
          MAX_SHARDS);
    TRY(folder_open(s->dir, name, &fd, &size, NULL, err));
    if (asprintf(&path, "%s/%s", s->dir, name) < 0) {
        file_close(fd);
        return error_set(err, CADRE_E_MEMORY, "%s/%s: no memory for its name", s->dir, name);
    }
    cadre_err rc = safetensors_open_fd(&s->shard[s->n_shards], path, fd, size, err);
    free(path);
    TRY(rc);
    s->shard_name[s->n_shards++] = name;
    return CADRE_OK;
}

/* The map of the index: every value a name, each file opened once. */
static cadre_err open_shards(struct st_set *s, const json_t *map, cadre_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        const char *file = json_string_value(value);
        bool taken;
        CHECK(err, file, CADRE_E_FORMAT, "%s/%s: weight_map: tensor '%s': expected the name of a file", s->dir,
              index_name, shown(tensor, strlen(tensor)).s);
        if (name_index_get(&s->shards, file) >= 0)
            continue;
        TRY(name_index_put(&s->shards, file, s->n_shards, &taken, err));
        TRY(open_shard(s, file, err));
    }
    return CADRE_OK;
}

static cadre_err add_members(struct st_set *s, int shard, const json_t *map, cadre_error *err)
{
    const struct safetensors *st = s->shard[shard];
    for (int64_t i = 0; i < safetensors_count(st); i++) {
        const struct st_tensor *t = safetensors_at(st, i);
        struct shown name = shown(t->name, strlen(t->name));
        bool taken;
        TRY(name_index_put(&s->names, t->name, s->n, &taken, err));
        CHECK(err, !taken, CADRE_E_FORMAT, "%s/%s: tensor '%s': expected in one file, found in another one too", s->dir,
              s->shard_name[shard], name.s);
        const char *file = map ? json_string_value(json_object_get(map, t->name)) : s->shard_name[shard];
        CHECK(err, file, CADRE_E_FORMAT, "%s/%s: tensor '%s': expected every tensor in %s, not found there", s->dir,
              s->shard_name[shard], name.s, index_name);
        CHECK(err, strcmp(file, s->shard_name[shard]) == 0, CADRE_E_FORMAT,
              "%s/%s: tensor '%s': expected in file '%s' by the index, found in '%s'", s->dir, index_name, name.s,
              shown(file, strlen(file)).s, s->shard_name[shard]);
        s->member[s->n++] = (struct member){st, t};
    }
    return CADRE_OK;
}

/* With as many tensors as the map has, each of which is in the map: none is missing. Otherwise say which. */
static cadre_err check_complete(const struct st_set *s, const json_t *map, cadre_error *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
        CHECK(err, name_index_get(&s->names, tensor) >= 0, CADRE_E_FORMAT,
              "%s/%s: tensor '%s': expected in file '%s', not found there", s->dir, index_name,
              shown(tensor, strlen(tensor)).s, shown(json_string_value(value), json_string_length(value)).s);
    return CADRE_OK;
}

static cadre_err open_all(struct st_set *s, cadre_error *err)
{
    bool found;
    const json_t *map = NULL;
    TRY(folder_json(s->dir, index_name, MAX_INDEX_BYTES, MAX_INDEX_VALUES, &s->index, &found, err));
    s->shard = calloc(MAX_SHARDS, sizeof *s->shard);
    s->shard_name = calloc(MAX_SHARDS, sizeof *s->shard_name);
    CHECK(err, s->shard && s->shard_name, CADRE_E_MEMORY, "%s: no memory for its files", s->dir);
    if (s->index) {
        map = json_object_get(s->index, "weight_map");
        CHECK(err, json_is_object(map) && json_object_size(map) > 0, CADRE_E_FORMAT,
              "%s/%s: expected an object 'weight_map' of tensors and their files", s->dir, index_name);
        TRY(open_shards(s, map, err));
    } else {
        TRY(open_shard(s, single_name, err));
    }
    int64_t total = 0;
    for (int i = 0; i < s->n_shards; i++)
        total += safetensors_count(s->shard[i]);
    s->member = calloc((size_t)total + 1, sizeof *s->member);
    CHECK(err, s->member, CADRE_E_MEMORY, "%s: no memory for %lld tensors", s->dir, (long long)total);
    for (int i = 0; i < s->n_shards; i++)
        TRY(add_members(s, i, map, err));
    return map ? check_complete(s, map, err) : CADRE_OK;
}

cadre_err st_set_open(struct st_set **out, const char *dir, cadre_error *err)
{
    *out = NULL;
    struct st_set *s = calloc(1, sizeof *s);
    CHECK(err, s, CADRE_E_MEMORY, "%s: no memory to open it", dir);
    s->dir = dir;
    cadre_err rc = open_all(s, err);
    s->dir = NULL;
    if (rc == CADRE_OK)
        *out = s;
    else
        st_set_close(s);
    return rc;
}

void st_set_close(struct st_set *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n_shards; i++)
        safetensors_close(s->shard[i]);
    name_index_free(&s->names);
    name_index_free(&s->shards);
    free(s->member);
    free(s->shard_name);
    free(s->shard);
    json_decref(s->index);
    free(s);
}

int64_t st_set_count(const struct st_set *s)
{
    return s->n;
}

const struct st_tensor *st_set_at(const struct st_set *s, int64_t i)
{
    return s->member[i].t;
}

int64_t st_set_find(const struct st_set *s, const char *name)
{
    return name_index_get(&s->names, name);
}

cadre_err st_set_read(const struct st_set *s, int64_t i, uint64_t from, void *dst, size_t n, cadre_error *err)
{
    return safetensors_read_at(s->member[i].shard, s->member[i].t, from, dst, n, err);
}

uint64_t st_set_stamp(const struct st_set *s)
{
    uint64_t stamp = 0;
    for (int i = 0; i < s->n_shards; i++)
        stamp = 31 * stamp + safetensors_stamp(s->shard[i]);
    return stamp;
}
