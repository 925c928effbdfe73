/* Any bytes as a Hugging Face directory: config.json, a 0, the index (or nothing), a 0, a shard. It opens and all its
 * tensors can be read, or it is refused with a text. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/hf/open.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/dev/shm/cadre-fuzz-XXXXXX", path[128];

static const char *in_dir(const char *name)
{
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const uint8_t *p, size_t n)
{
    FILE *f = fopen(in_dir(name), "wb");
    if (!f || fwrite(p, 1, n, f) != n || fclose(f) != 0)
        abort();
}

static void remove_dir(void)
{
    static const char *const names[] = {"config.json", "model.safetensors.index.json", "model.safetensors"};
    for (int i = 0; i < 3; i++)
        unlink(in_dir(names[i]));
    rmdir(dir);
}

static void read_all(const struct gguf *g)
{
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        cadre_error err = {0};
        void *p = malloc(t->bytes);
        if (!p || (gguf_tensor_read(g, t, p, &err) != CADRE_OK && !err.text[0]))
            abort();
        free(p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char index[] = "model.safetensors.index.json";
    const uint8_t *end = data + size, *a = memchr(data, 0, size);
    const uint8_t *b = a ? memchr(a + 1, 0, (size_t)(end - a - 1)) : NULL;
    if (!b)
        return 0;
    static bool made;
    if (!made && (!mkdtemp(dir) || atexit(remove_dir) != 0))
        abort();
    made = true;
    write_file("config.json", data, (size_t)(a - data));
    if (b > a + 1)
        write_file(index, a + 1, (size_t)(b - a - 1));
    else
        unlink(in_dir(index));
    write_file("model.safetensors", b + 1, (size_t)(end - b - 1));
    struct gguf *g;
    cadre_error err = {0};
    cadre_err rc = hf_open(&g, dir, &err);
    if ((rc != 0) != (g == NULL) || (rc != 0 && !err.text[0]))
        abort();
    if (g)
        read_all(g);
    gguf_close(g);
    return 0;
}
