#include "engine/record.h"

#include <stdlib.h>

#include "base/checked.h"
#include "model/experts.h"

static int64_t slots(const struct record *r)
{
    return r->spec->n_layer * r->n * spec_slots(r->spec);
}

static cadre_err open_logits(struct record *r, const int32_t *tokens, const char *path, cadre_error *err)
{
    int64_t shape[2] = {r->n, r->spec->n_vocab};
    TRY(safetensors_writer_open(&r->logits, path, err));
    TRY(safetensors_put(r->logits, "tokens", DTYPE_I32, 1, shape, err));
    TRY(safetensors_put(r->logits, "logits", DTYPE_F32, 2, shape, err));
    TRY(safetensors_write_begin(r->logits, err));
    return safetensors_write(r->logits, tokens, (uint64_t)r->n * sizeof *tokens, err);
}

static cadre_err open_routing(struct record *r, const char *path, cadre_error *err)
{
    CHECK(err, r->spec->n_expert > 0, CADRE_E_ARG,
          "routing: this model has no experts, so there is none to write to %s", path);
    int64_t shape[3] = {r->spec->n_layer, r->n, spec_slots(r->spec)};
    uint64_t n = 0;
    CHECK(err, mul_ok((uint64_t)slots(r), sizeof(float), &n), CADRE_E_MEMORY, "%s: too large", path);
    TRY(safetensors_writer_open(&r->routing, path, err));
    TRY(safetensors_put(r->routing, "router_topk", DTYPE_I32, 3, shape, err));
    TRY(safetensors_put(r->routing, "router_weights", DTYPE_F32, 3, shape, err));
    r->expert = malloc(n);
    r->weight = calloc(1, n);
    CHECK(err, r->expert && r->weight, CADRE_E_MEMORY, "no memory for the routing of %lld tokens", (long long)r->n);
    for (int64_t i = 0; i < slots(r); i++)
        r->expert[i] = -1;
    return safetensors_write_begin(r->routing, err);
}

cadre_err record_open(struct record *r, const struct spec *spec, const int32_t *tokens, int64_t n,
                      const char *logits_path, const char *routing_path, cadre_error *err)
{
    *r = (struct record){.spec = spec, .n = n};
    if (logits_path)
        TRY(open_logits(r, tokens, logits_path, err));
    if (routing_path)
        TRY(open_routing(r, routing_path, err));
    return CADRE_OK;
}

/* A token's slots: those of its sub-tokens, of each turn of a chain after the other. */
static void record_layer(struct record *r, int64_t layer, const struct session_output *out)
{
    int64_t all = spec_slots(r->spec), offset = 0;
    for (const struct routing *from = &out->routing[layer]; from && from->id; from = from->next) {
        int64_t each = tensor_count(from->weight) / out->n;
        for (int64_t t = 0; t < out->n; t++)
            for (int64_t j = 0; j < each; j++) {
                int64_t at = (layer * r->n + out->first + t) * all + offset + j;
                r->expert[at] = from->id[t * each + j];
                r->weight[at] = (float)from->weight->x[t * each + j];
            }
        offset += each;
    }
}

cadre_err record_chunk(struct record *r, const struct session_output *out, cadre_error *err)
{
    if (r->logits)
        TRY(safetensors_write(r->logits, out->logits, (uint64_t)(out->n * r->spec->n_vocab) * sizeof(float), err));
    for (int64_t l = 0; r->routing && l < r->spec->n_layer; l++)
        record_layer(r, l, out);
    return CADRE_OK;
}

cadre_err record_commit(struct record *r, cadre_error *err)
{
    struct safetensors_writer *w = r->logits;
    r->logits = NULL;
    if (w)
        TRY(safetensors_writer_commit(w, err));
    if (!r->routing)
        return CADRE_OK;
    TRY(safetensors_write(r->routing, r->expert, (uint64_t)slots(r) * sizeof *r->expert, err));
    TRY(safetensors_write(r->routing, r->weight, (uint64_t)slots(r) * sizeof *r->weight, err));
    w = r->routing;
    r->routing = NULL;
    return safetensors_writer_commit(w, err);
}

void record_close(struct record *r)
{
    safetensors_writer_abort(r->logits);
    safetensors_writer_abort(r->routing);
    free(r->expert);
    free(r->weight);
    *r = (struct record){0};
}
