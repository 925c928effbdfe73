/* Any bytes as a GGUF file: it opens and everything in it can be used, or it is refused with a text. What opens can
 * also be written again. */
#include <stdio.h>

#include "file/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void rewrite(const struct gguf *g)
{
    struct gguf_writer *w;
    cadre_error err = {0};
    char path[64];
    snprintf(path, sizeof path, "/tmp/cadre-fuzz-%ld", (long)getpid());
    if (gguf_writer_open(&w, path, &err) != 0)
        abort();
    if (gguf_put_all(w, g, NULL, &err) != 0)
        abort();
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        if (gguf_put_tensor(w, t->name, t->type, t->n_dims, t->dim, &err) != 0)
            abort();
    }
    gguf_writer_abort(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct gguf *g;
    cadre_error err = {0};
    char path[32];
    int fd = memory_file(data, size, path);
    cadre_err rc = gguf_open(&g, path, &err);
    if ((rc != 0) != (g == NULL) || (rc != 0 && !err.text[0]))
        abort();
    if (g) {
        walk_gguf(g);
        rewrite(g);
    }
    gguf_close(g);
    close(fd);
    return 0;
}
