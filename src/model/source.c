#include "model/source.h"

#include "base/fileio.h"
#include "file/folder.h"
#include "model/hf/open.h"
#include "model/hf/text.h"
#include "model/model.h"

cadre_err model_source_open(struct gguf **out, const char *path, cadre_error *err)
{
    return folder_is(path) ? hf_open(out, path, err) : gguf_open(out, path, err);
}

static cadre_err folder_tokenizer(struct tokenizer **out, const char *path, int64_t n_vocab, cadre_error *err)
{
    int fd;
    uint64_t size;
    bool found;
    TRY(folder_open(path, "tokenizer.json", &fd, &size, &found, err));
    if (!found)
        return CADRE_OK;
    file_close(fd);
    return tokenizer_from_json(out, path, n_vocab, err);
}

cadre_err model_source_tokenizer(struct tokenizer **out, const struct gguf *g, const char *path, int64_t n_vocab,
                                 cadre_error *err)
{
    *out = NULL;
    if (folder_is(path))
        return folder_tokenizer(out, path, n_vocab, err);
    if (!gguf_has(g, "tokenizer.ggml.model"))
        return CADRE_OK;
    TRY(tokenizer_from_gguf(out, g, err));
    int64_t n = tokenizer_size(*out);
    if (n_vocab == 0 || n <= n_vocab)
        return CADRE_OK;
    tokenizer_free(*out);
    *out = NULL;
    return error_set(err, CADRE_E_FORMAT,
                     "tokenizer.ggml.tokens: expected at most as many as embedding rows (%lld), found %lld",
                     (long long)n_vocab, (long long)n);
}

cadre_err model_source_loss(const struct gguf *g, const char *path, void (*warn)(void *user, const char *text),
                            void *user, cadre_error *err)
{
    char text[HF_TEXT_LOSS];
    const struct gguf_tensor *embedding = gguf_tensor_find(g, "token_embd.weight");
    if (!warn || !folder_is(path))
        return CADRE_OK;
    TRY(hf_text_loss(path, embedding ? embedding->dim[1] : 0, text, err));
    if (*text)
        warn(user, text);
    return CADRE_OK;
}

uint64_t model_source_bytes(const struct gguf *g)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        bytes += gguf_tensor_at(g, i)->bytes;
    return bytes;
}
