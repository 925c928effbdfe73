#include "model/hf/text.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fileio.h"
#include "file/folder.h"
#include "model/model.h"

enum { MAX_TEMPLATE = 1 << 22, MAX_JSON = 1 << 26, MAX_VALUES = 1000000 };

static cadre_err exists(const char *dir, const char *name, bool *found, cadre_error *err)
{
    int fd;
    uint64_t size;
    TRY(folder_open(dir, name, &fd, &size, found, err));
    file_close(fd);
    return CADRE_OK;
}

static cadre_err no_data(void *ctx, int64_t tensor, int64_t slice, void *dst, cadre_error *err)
{
    (void)ctx, (void)tensor, (void)slice, (void)dst;
    return error_set(err, CADRE_E_ARG, "no tensors");
}

/* Into a file of its own first, because a put that failed spoils the writer. */
static cadre_err put_tokenizer(struct gguf_writer *w, const char *dir, int64_t n_vocab, cadre_error *err)
{
    struct gguf_writer *own;
    struct gguf *g;
    TRY(gguf_writer_open_head(&own, err));
    cadre_err rc = tokenizer_json_to_gguf(own, dir, n_vocab, NULL, err);
    if (rc != CADRE_OK) {
        gguf_writer_abort(own);
        return rc == CADRE_E_UNSUPPORTED ? CADRE_OK : rc;
    }
    TRY(gguf_open_virtual(&g, own, dir, (struct gguf_source){.read = no_data}, err));
    rc = gguf_put_all(w, g, NULL, err);
    gguf_close(g);
    return rc;
}

cadre_err hf_text_loss(const char *dir, int64_t n_vocab, char text[HF_TEXT_LOSS], cadre_error *err)
{
    struct gguf_writer *unused;
    const char *lossy = NULL;
    cadre_error why = {0};
    bool found;
    *text = 0;
    TRY(exists(dir, "tokenizer.json", &found, err));
    if (!found)
        return CADRE_OK;
    TRY(gguf_writer_open_head(&unused, err));
    cadre_err rc = tokenizer_json_to_gguf(unused, dir, n_vocab, &lossy, &why);
    gguf_writer_abort(unused);
    if (rc == CADRE_E_UNSUPPORTED)
        snprintf(text, HF_TEXT_LOSS, "the tokenizer is left out: %s", why.text);
    else if (rc != CADRE_OK)
        return error_set(err, rc, "%s", why.text);
    else if (lossy)
        snprintf(text, HF_TEXT_LOSS, "the tokenizer is told with a loss: %s", lossy);
    return CADRE_OK;
}

static cadre_err put_template(struct gguf_writer *w, const char *name, const char *text, size_t n, cadre_error *err)
{
    char key[128];
    bool is_default = strcmp(name, "default") == 0;
    snprintf(key, sizeof key, "tokenizer.chat_template%s%s", is_default ? "" : ".", is_default ? "" : name);
    return gguf_put_string(w, key, text, n, err);
}

/* A text, or a list of {"name": …, "template": …}. */
static cadre_err put_templates(struct gguf_writer *w, const char *path, const json_t *v, cadre_error *err)
{
    if (!v || json_is_null(v))
        return CADRE_OK;
    if (json_is_string(v))
        return put_template(w, "default", json_string_value(v), json_string_length(v), err);
    CHECK(err, json_is_array(v), CADRE_E_FORMAT, "%s: key 'chat_template': expected a text or a list", path);
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *name = json_object_get(json_array_get(v, i), "name");
        const json_t *text = json_object_get(json_array_get(v, i), "template");
        CHECK(err, json_is_string(name) && json_string_length(name) < 64 && json_is_string(text), CADRE_E_FORMAT,
              "%s: key 'chat_template': expected objects with a short 'name' and a 'template'", path);
        TRY(put_template(w, json_string_value(name), json_string_value(text), json_string_length(text), err));
    }
    return CADRE_OK;
}

/* chat_template.jinja comes before the key in tokenizer_config.json. */
static cadre_err put_chat(struct gguf_writer *w, const char *dir, cadre_error *err)
{
    static const char config[] = "tokenizer_config.json";
    char *text;
    size_t n;
    bool found;
    json_t *root;
    TRY(folder_slurp(dir, "chat_template.jinja", MAX_TEMPLATE, &text, &n, &found, err));
    if (text) {
        cadre_err rc = put_template(w, "default", text, n, err);
        free(text);
        return rc;
    }
    TRY(folder_json(dir, config, MAX_JSON, MAX_VALUES, &root, &found, err));
    cadre_err rc = root ? put_templates(w, config, json_object_get(root, "chat_template"), err) : CADRE_OK;
    json_decref(root);
    return rc;
}

cadre_err hf_put_text(struct gguf_writer *w, const char *dir, int64_t n_vocab, cadre_error *err)
{
    bool found;
    TRY(exists(dir, "tokenizer.json", &found, err));
    if (found)
        TRY(put_tokenizer(w, dir, n_vocab, err));
    return put_chat(w, dir, err);
}
