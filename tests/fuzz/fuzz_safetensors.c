/* Any bytes as a safetensors file: it opens and everything in it can be used, or it is refused with a text. */
#include <stdio.h>

#include "file/walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct safetensors *s;
    cadre_error err = {0};
    char path[32];
    int fd = memory_file(data, size, path);
    cadre_err rc = safetensors_open(&s, path, &err);
    if ((rc != 0) != (s == NULL) || (rc != 0 && !err.text[0]))
        abort();
    if (s)
        walk_safetensors(s);
    safetensors_close(s);
    close(fd);
    return 0;
}
