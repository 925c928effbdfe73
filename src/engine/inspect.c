/* What a model file says of itself, from its header alone: no weight is read. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "file/gguf.h"
#include "model/family.h"
#include "model/source.h"
#include "model/model.h"

/* A string key as 0-terminated text, cut to fit; "" if there is none. */
static cadre_err text_key(const struct gguf *g, const char *key, char *out, size_t room, cadre_error *err)
{
    struct gguf_string s;
    bool found = false;
    out[0] = 0;
    TRY(gguf_get_string(g, key, &s, &found, err));
    if (found)
        snprintf(out, room, "%.*s", (int)(s.n < room ? s.n : room - 1), s.p);
    return CADRE_OK;
}

cadre_err cadre_inspect(const char *path, cadre_model_info *out, cadre_error *err)
{
    struct gguf *g;
    struct spec s;
    CHECK(err, path && out, CADRE_E_ARG, "cadre_inspect: path and out must be given");
    *out = (cadre_model_info){0};
    TRY(model_source_open(&g, path, err));
    char kind[24], pre[32];
    cadre_err rc = spec_from_gguf(&s, g, err);
    if (rc)
        goto out;
    TRY_OUT(text_key(g, "general.name", out->name, sizeof out->name, err));
    TRY_OUT(text_key(g, "tokenizer.ggml.model", kind, sizeof kind, err));
    TRY_OUT(text_key(g, "tokenizer.ggml.pre", pre, sizeof pre, err));
    struct spec_counts n = spec_count(&s);
    snprintf(out->family, sizeof out->family, "%s", s.family);
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s%s%s", kind, *pre ? "/" : "", pre);
    snprintf(out->router, sizeof out->router, "%s", s.n_expert ? s.router.kind->name : "");
    out->parameters = (uint64_t)n.parameters;
    out->active_parameters = (uint64_t)n.active_parameters;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        out->bytes += gguf_tensor_at(g, i)->bytes;
    out->layers = s.n_layer;
    out->width = s.d_model;
    out->vocabulary = s.n_vocab;
    out->context = s.n_ctx;
    out->heads = s.n_head;
    for (int64_t i = 0; i < s.n_layer; i++) {
        struct layer_spec l = spec_layer(&s, i);
        out->kv_heads = max_i64(out->kv_heads, l.n_kv_head);
        out->recurrent_layers += l.attention == s.recurrent;
    }
    out->head_dim = s.head_dim;
    out->experts = s.n_expert;
    out->experts_used = s.n_expert ? s.router.k : 0;
    out->expert_width = s.n_expert ? s.expert_ff : 0;
    out->shared_width = s.shared_ff;
    out->packed = gguf_is_packed(g);
out:
    gguf_close(g);
    return rc ? error_wrap(err, rc, "%s", path) : CADRE_OK;
}

cadre_err cadre_inspect_tensors(const char *path, bool (*visit)(void *user, const cadre_tensor_info *t), void *user,
                                cadre_error *err)
{
    struct gguf *g;
    CHECK(err, path && visit, CADRE_E_ARG, "cadre_inspect_tensors: path and visit must be given");
    TRY(model_source_open(&g, path, err));
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        cadre_tensor_info info = {.name = t->name,
                                  .type = dtype_info(t->type)->name,
                                  .n_dims = t->n_dims,
                                  .dim = {t->dim[0], t->dim[1], t->dim[2], t->dim[3]},
                                  .bytes = t->bytes};
        if (!visit(user, &info))
            break;
    }
    gguf_close(g);
    return CADRE_OK;
}
