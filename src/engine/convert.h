/* Rewriting a model as another kind of file. */
#ifndef CADRE_ENGINE_CONVERT_H
#define CADRE_ENGINE_CONVERT_H

#include "file/gguf.h"
#include "file/staged.h"

/* What one conversion shares: source, destination, how far it is. */
struct conversion {
    struct gguf *g;
    const char *out;
    const cadre_convert_options *options;
    struct staged *staged;
    uint64_t done, total; /* bytes of tensors */
    bool (*progress)(void *user, int64_t done, int64_t total);
    void *user;
    cadre_convert_result *result;
};

/* Count n bytes as done and ask the caller whether to go on. */
cadre_err conversion_advance(struct conversion *c, uint64_t n, cadre_error *err);

cadre_err convert_to_hf(struct conversion *c, cadre_error *err);
cadre_err convert_to_gguf(struct conversion *c, cadre_error *err);

#endif
