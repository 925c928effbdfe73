#include "engine/convert.h"

#include <string.h>

#include <xxhash.h>

#include "model/source.h"

cadre_convert_options cadre_convert_options_default(void)
{
    return (cadre_convert_options){0};
}

cadre_err conversion_advance(struct conversion *c, uint64_t n, cadre_error *err)
{
    c->done += n;
    CHECK(err, !c->progress || c->progress(c->user, (int64_t)c->done, (int64_t)c->total), CADRE_E_CANCELLED,
          "stopped before %s was complete; the same command goes on from there", c->out);
    return CADRE_OK;
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), k = strlen(end);
    return n >= k && strcmp(s + n - k, end) == 0;
}

cadre_err cadre_convert(const char *in, const char *out, const cadre_convert_options *options,
                        bool (*progress)(void *user, int64_t done, int64_t total), void *user,
                        cadre_convert_result *result, cadre_error *err)
{
    cadre_convert_result unused = {0};
    CHECK(err, in && out && options, CADRE_E_ARG, "cadre_convert: in, out and options must be given");
    struct conversion c = {
        .out = out, .options = options, .progress = progress, .user = user, .result = result ? result : &unused};
    *c.result = (cadre_convert_result){0};
    TRY(model_source_open(&c.g, in, err));
    cadre_err rc = model_source_loss(c.g, in, options->on_warning, user, err);
    if (rc == CADRE_OK)
        rc = ends_with(out, ".gguf") ? convert_to_gguf(&c, err) : convert_to_hf(&c, err);
    gguf_close(c.g);
    return rc;
}
