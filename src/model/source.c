#include "model/source.h"

#include "file/folder.h"
#include "model/hf/open.h"

cadre_err model_source_open(struct gguf **out, const char *path, cadre_error *err)
{
    return folder_is(path) ? hf_open(out, path, err) : gguf_open(out, path, err);
}

uint64_t model_source_bytes(const struct gguf *g)
{
    uint64_t bytes = 0;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        bytes += gguf_tensor_at(g, i)->bytes;
    return bytes;
}
