/* The tokenizer of a Hugging Face folder: tokenizer.json with the tokenizer_config.json beside it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fileio.h"
#include "file/folder.h"
#include "model/model.h"
#include "text/tokenizer_json.h"

enum { MAX_JSON = 128 << 20 };

bool tokenizer_json_is(const char *path)
{
    size_t n = strlen(path);
    return n >= 5 && strcmp(path + n - 5, ".json") == 0;
}

/* Both files; config is NULL where there is none. */
static cadre_err slurp_folder(const char *dir, char **text, size_t *n, char **config, size_t *n_config,
                              cadre_error *err)
{
    bool found;
    TRY(folder_slurp(dir, "tokenizer.json", MAX_JSON, text, n, NULL, err));
    return folder_slurp(dir, "tokenizer_config.json", MAX_JSON, config, n_config, &found, err);
}

static cadre_err slurp_file(const char *path, char **text, size_t *n, char **config, size_t *n_config, cadre_error *err)
{
    const char *slash = strrchr(path, '/');
    bool found;
    char dir[4096];
    int len = snprintf(dir, sizeof dir, "%.*s", slash ? (int)(slash + 1 - path) : 1, slash ? path : ".");
    CHECK(err, len < (int)sizeof dir, CADRE_E_ARG, "expected a path of at most 4095 bytes");
    TRY(file_slurp(path, MAX_JSON, text, n, err));
    return folder_slurp(dir, "tokenizer_config.json", MAX_JSON, config, n_config, &found, err);
}

static cadre_err read_json(struct tokenizer_json **out, const char *path, int64_t n_vocab, cadre_error *err)
{
    char *text = NULL, *config = NULL;
    size_t n, n_config = 0;
    cadre_err rc = folder_is(path) ? slurp_folder(path, &text, &n, &config, &n_config, err)
                                   : slurp_file(path, &text, &n, &config, &n_config, err);
    if (rc == CADRE_OK)
        rc = tokenizer_json_read(out, (struct text_span){text, n}, (struct text_span){config, config ? n_config : 0},
                                 n_vocab, err);
    free(text);
    free(config);
    return rc;
}

cadre_err tokenizer_from_json(struct tokenizer **out, const char *path, int64_t n_vocab, cadre_error *err)
{
    struct tokenizer_json *j;
    TRY(read_json(&j, path, n_vocab, err));
    cadre_err rc = tokenizer_new(out, tokenizer_json_tables(j), err);
    tokenizer_json_free(j);
    return rc;
}

cadre_err tokenizer_json_to_gguf(struct gguf_writer *w, const char *path, int64_t n_vocab, const char **lossy,
                                 cadre_error *err)
{
    struct tokenizer_json *j;
    const struct tokenizer_tables *named;
    TRY(read_json(&j, path, n_vocab, err));
    cadre_err rc = tokenizer_json_named(j, &named, lossy, err);
    if (rc == CADRE_OK)
        rc = tokenizer_to_gguf(w, named, err);
    tokenizer_json_free(j);
    return rc;
}
