/* Models split over several GGUF files, as gguf-split and the Hub have them: every file is one by itself, with
 * "split.no", "split.count" and "split.tensors.count"; the first holds the model's other keys. They open as one virtual
 * file, made of the first one's keys and all tensors. */
#include <stdio.h>
#include <stdlib.h>

#include "file/gguf_internal.h"

enum { NAME_END = sizeof "-00001-of-00003.gguf" - 1 };

struct place {
    int part;
    const struct gguf_tensor *tensor;
};

struct joined {
    struct gguf *part[GGUF_MAX_PARTS];
    int n;
    struct place *place; /* [tensors of all parts] */
};

static void joined_close(void *ctx)
{
    struct joined *j = ctx;
    for (int i = 0; i < j->n; i++)
        gguf_close(j->part[i]);
    free(j->place);
    free(j);
}

static cadre_err joined_read(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err)
{
    const struct joined *j = ctx;
    const struct place *p = &j->place[tensor];
    return gguf_slice_read(j->part[p->part], p->tensor, slice, dst, err);
}

static bool is_split_key(const char *key)
{
    return strncmp(key, "split.", 6) == 0;
}

static cadre_err split_number(const struct gguf *g, const char *key, int64_t expected, cadre_error *err)
{
    int64_t v = -1;
    bool found;
    TRY(gguf_get_i64(g, key, &v, &found, err));
    CHECK(err, found && v == expected, CADRE_E_FORMAT, "%s: key '%s': expected %lld, found %lld", g->path, key,
          (long long)expected, (long long)v);
    return CADRE_OK;
}

/* "…-00001-of-00003.gguf", of as many parts as its key says. */
static cadre_err check_name(const char *path, int64_t parts, cadre_error *err)
{
    char end[NAME_END + 16];
    size_t n = strlen(path);
    snprintf(end, sizeof end, "-00001-of-%05lld.gguf", (long long)parts);
    CHECK(err, n > NAME_END && strcmp(path + n - NAME_END, end) == 0, CADRE_E_FORMAT,
          "%s: one of the %lld files of a split model: expected the name of the first, which ends with '%s'", path,
          (long long)parts, end);
    return CADRE_OK;
}

static cadre_err open_parts(struct joined *j, int64_t parts, cadre_error *err)
{
    const char *first = j->part[0]->path;
    char *path = strdup(first);
    CHECK(err, path, CADRE_E_MEMORY, "%s: no memory for its name", first);
    cadre_err rc = CADRE_OK;
    for (int i = 1; i < parts; i++) {
        snprintf(path + strlen(first) - NAME_END, NAME_END + 1, "-%05d-of-%05d.gguf", i + 1, (int)parts);
        TRY_OUT(gguf_open_part(&j->part[i], path, err));
        j->n++;
        TRY_OUT(split_number(j->part[i], "split.no", i, err));
        TRY_OUT(split_number(j->part[i], GGUF_SPLIT_COUNT, parts, err));
    }
out:
    free(path);
    return rc;
}

static cadre_err collect(struct joined *j, struct gguf_writer *w, cadre_error *err)
{
    int64_t total = 0, at = 0;
    for (int i = 0; i < j->n; i++)
        total += j->part[i]->n_tensors;
    TRY(split_number(j->part[0], "split.tensors.count", total, err));
    j->place = calloc((size_t)total + 1, sizeof *j->place);
    CHECK(err, j->place, CADRE_E_MEMORY, "%s: no memory for %lld tensors", j->part[0]->path, (long long)total);
    TRY(gguf_put_all(w, j->part[0], is_split_key, err));
    for (int i = 0; i < j->n; i++)
        for (int64_t k = 0; k < j->part[i]->n_tensors; k++) {
            const struct gguf_tensor *t = &j->part[i]->tensor[k].t;
            cadre_err rc = gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, err);
            if (rc != CADRE_OK)
                return error_wrap(err, CADRE_E_FORMAT, "%s", j->part[i]->path);
            j->place[at++] = (struct place){i, t};
        }
    return CADRE_OK;
}

cadre_err gguf_join(struct gguf **out, struct gguf *g, cadre_error *err)
{
    int64_t parts = 0;
    bool found;
    struct gguf_writer *w = NULL;
    struct joined *j = calloc(1, sizeof *j);
    *out = NULL;
    if (!j) {
        gguf_close(g);
        return error_set(err, CADRE_E_MEMORY, "no memory for a split model");
    }
    j->part[j->n++] = g;
    cadre_err rc = gguf_get_i64(g, GGUF_SPLIT_COUNT, &parts, &found, err);
    TRY_OUT(rc);
    CHECK_OUT(err, parts >= 1 && parts <= GGUF_MAX_PARTS, CADRE_E_FORMAT,
              "%s: key '" GGUF_SPLIT_COUNT "': expected 1 to %d, found %lld", g->path, GGUF_MAX_PARTS,
              (long long)parts);
    TRY_OUT(check_name(g->path, parts, err));
    TRY_OUT(split_number(g, "split.no", 0, err));
    TRY_OUT(open_parts(j, parts, err));
    TRY_OUT(gguf_writer_open_head(&w, err));
    TRY_OUT(collect(j, w, err));
    uint64_t stamp = 0;
    for (int i = 0; i < j->n; i++)
        stamp = 31 * stamp + gguf_stamp(j->part[i]);
    struct gguf_source source = {j, joined_read, joined_close, stamp};
    rc = gguf_open_virtual(out, w, g->path, source, err);
    return rc;
out:
    gguf_writer_abort(w);
    joined_close(j);
    return rc;
}
