/* A model file in another number format: keys are copied, tensors decoded to f32 and encoded again. */
#include <string.h>

#include "file/gguf.h"
#include "model/model.h"
#include "model/source.h"

/* Keys that model_write sets anew. */
static bool is_rewritten(const char *key)
{
    return strcmp(key, "general.file_type") == 0 || strcmp(key, "general.quantization_version") == 0 ||
           strcmp(key, "general.alignment") == 0;
}

cadre_err cadre_quantize(const char *in, const char *out, const char *type,
                         bool (*progress)(void *user, int64_t done, int64_t total), void *user, cadre_error *err)
{
    CHECK(err, in && out && type, CADRE_E_ARG, "cadre_quantize: in, out and type must be given");
    enum dtype t = dtype_by_name(type);
    CHECK(err, t == DTYPE_F32 || t == DTYPE_F16 || t == DTYPE_BF16 || t == DTYPE_Q8_0, CADRE_E_ARG,
          "type: expected f32, f16, bf16 or q8_0, found '%s'", type);
    struct gguf *g = NULL;
    struct gguf_writer *w = NULL;
    struct model *m = NULL;
    cadre_err rc = model_source_open(&g, in, err);
    if (rc)
        goto out;
    rc = model_open_params(&m, g, false, err);
    if (rc) {
        error_wrap(err, rc, "%s", in);
        goto out;
    }
    CHECK_OUT(err, !progress || progress(user, 1, 2), CADRE_E_CANCELLED, "stopped by the caller before %s was written",
              out);
    TRY_OUT(gguf_writer_open(&w, out, err));
    TRY_OUT(gguf_put_all(w, g, is_rewritten, err));
    TRY_OUT(model_write(w, m, t, err));
    rc = gguf_writer_commit(w, err);
    w = NULL;
    if (rc == CADRE_OK && progress)
        progress(user, 2, 2);
out:
    gguf_writer_abort(w);
    model_free(m);
    gguf_close(g);
    return rc;
}
