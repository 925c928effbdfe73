#include "model/hf/open.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "file/folder.h"
#include "file/names.h"
#include "model/hf/bind.h"
#include "model/hf/text.h"
#include "model/kept.h"
#include "model/tensors.h"

enum { MAX_CONFIG_BYTES = 1 << 22, MAX_CONFIG_VALUES = 1 << 18 };

/* The last part of the directory's path. */
static void name_of(const char *dir, char out[128])
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    size_t from = n;
    while (from > 0 && dir[from - 1] != '/')
        from--;
    struct shown name = shown(dir + from, n - from);
    snprintf(out, 128, "%s", name.s);
}

static cadre_err put_general(struct gguf_writer *w, const struct hf_config *c, const char *dir, cadre_error *err)
{
    char name[128];
    name_of(dir, name);
    const char *architecture = c->family->name;
    TRY(gguf_put_string(w, "general.architecture", architecture, strlen(architecture), err));
    return gguf_put_string(w, "general.name", name, strlen(name), err);
}

static cadre_err nothing(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err)
{
    (void)ctx, (void)tensor, (void)slice, (void)dst;
    return error_set(err, CADRE_E_ARG, "no tensors");
}

cadre_err hf_open_keys(struct gguf **out, const struct hf_config *c, const char *dir, const struct gguf *like,
                       cadre_error *err)
{
    struct gguf_writer *w;
    TRY(gguf_writer_open_head(&w, err));
    struct hf_keys k = {w, c->family->name};
    cadre_err rc = put_general(w, c, dir, err);
    if (rc == CADRE_OK)
        rc = hf_config_keys(c, &k, err);
    for (int64_t i = 0; rc == CADRE_OK && like && i < gguf_tensor_count(like); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(like, i);
        rc = gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, err);
    }
    if (rc != CADRE_OK) {
        gguf_writer_abort(w);
        return rc;
    }
    return gguf_open_virtual(out, w, c->path, (struct gguf_source){.read = nothing}, err);
}

/* A tensor that the spec wants and the directory has not, by the name that it should have there. */
static cadre_err check_complete(const struct gguf *g, const struct hf_config *c, const char *dir, cadre_error *err)
{
    struct spec s;
    bool tied, found;
    int64_t vocab = 0;
    TRY(spec_from_gguf(&s, g, err));
    TRY(hf_get_int(c, c->root, "vocab_size", 1, INT_MAX, &vocab, &found, err));
    CHECK(err, !found || vocab == s.n_vocab, CADRE_E_FORMAT,
          "%s: key 'vocab_size': expected as many as the embedding has rows (%lld), found %lld", c->path,
          (long long)s.n_vocab, (long long)vocab);
    TRY(hf_config_tied(c, &tied, err));
    CHECK(err, tied == s.tied, CADRE_E_FORMAT,
          "%s: tensor 'lm_head.weight': expected unless tie_word_embeddings is true, not found", dir);
    for (struct tensor_walk w = tensor_walk(&s); tensor_next(&w);) {
        char name[128], there[256];
        const char *own = family_tensor_name(c->family, w.def->name);
        if (w.layer < 0)
            snprintf(name, sizeof name, "%s", own);
        else
            snprintf(name, sizeof name, "blk.%lld.%s", (long long)w.layer, own);
        CHECK(err, kept_exists(g, c->family, &w) || !hf_name_of(c->hf, name, there), CADRE_E_FORMAT,
              "%s: tensor '%s': expected by config.json, not found", dir, there);
    }
    return CADRE_OK;
}

static cadre_err put_text(struct gguf_writer *w, const struct hf_config *c, const char *dir, cadre_error *err)
{
    int64_t vocab = 0;
    bool found;
    TRY(hf_get_int(c, c->root, "vocab_size", 1, INT_MAX, &vocab, &found, err));
    return hf_put_text(w, dir, vocab, err);
}

static cadre_err open_tensors(struct gguf **out, const struct gguf *keys, const struct hf_config *c, const char *dir,
                              cadre_error *err)
{
    struct hf_dims d;
    struct hf_stored *stored;
    struct hf_binding *b;
    struct hf_made made[HF_MAX_MADE] = {{0}};
    struct gguf_writer *w = NULL;
    int n_made = 0;
    TRY(hf_dims_from_gguf(&d, keys, c->family->name, err));
    TRY(hf_stored_open(&stored, dir, c, err));
    cadre_err rc = hf_rope_factors(c, d.n_rot, made, &n_made, err);
    if (rc != CADRE_OK) {
        hf_stored_close(stored);
        for (int i = 0; i < n_made; i++)
            free(made[i].value);
        return rc;
    }
    uint64_t stamp = hf_stored_stamp(stored);
    TRY(hf_bind(&b, stored, c, &d, made, n_made, err));
    rc = gguf_writer_open_head(&w, err);
    if (rc == CADRE_OK)
        rc = gguf_put_all(w, keys, NULL, err);
    if (rc == CADRE_OK)
        rc = put_text(w, c, dir, err);
    if (rc == CADRE_OK)
        rc = hf_binding_put(b, w, err);
    if (rc != CADRE_OK) {
        gguf_writer_abort(w);
        hf_binding_close(b);
        return rc;
    }
    struct gguf_source source = {b, hf_binding_read, hf_binding_close, stamp};
    TRY(gguf_open_virtual(out, w, dir, source, err));
    rc = check_complete(*out, c, dir, err);
    if (rc != CADRE_OK) {
        gguf_close(*out);
        *out = NULL;
    }
    return rc;
}

cadre_err hf_open(struct gguf **out, const char *dir, cadre_error *err)
{
    struct gguf *keys = NULL;
    json_t *root = NULL;
    char *path = NULL;
    cadre_err rc = CADRE_OK;
    *out = NULL;
    CHECK_OUT(err, asprintf(&path, "%s/config.json", dir) >= 0, CADRE_E_MEMORY, "%s: no memory for its name", dir);
    TRY_OUT(folder_json(dir, "config.json", MAX_CONFIG_BYTES, MAX_CONFIG_VALUES, &root, NULL, err));
    struct hf_config c = {.path = path, .root = root};
    TRY_OUT(hf_config_family(&c, err));
    TRY_OUT(hf_config_unfold(&c, root, err));
    TRY_OUT(hf_open_keys(&keys, &c, dir, NULL, err));
    rc = open_tensors(out, keys, &c, dir, err);
out:
    if (rc != CADRE_OK && err && strncmp(err->text, dir, strlen(dir)) != 0)
        error_wrap(err, rc, "%s", dir);
    gguf_close(keys);
    json_decref(root);
    free(path);
    return rc;
}
