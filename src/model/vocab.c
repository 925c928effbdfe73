/* The tokenizer's tables as keys of a model file. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/model.h"

static const struct {
    const char *key;
    size_t field;
} ids[] = {
    {"tokenizer.ggml.bos_token_id", offsetof(struct tokenizer_tables, bos)},
    {"tokenizer.ggml.eos_token_id", offsetof(struct tokenizer_tables, eos)},
    {"tokenizer.ggml.eot_token_id", offsetof(struct tokenizer_tables, eot)},
    {"tokenizer.ggml.unknown_token_id", offsetof(struct tokenizer_tables, unk)},
    {"tokenizer.ggml.padding_token_id", offsetof(struct tokenizer_tables, pad)},
};
enum { N_IDS = sizeof ids / sizeof *ids };

/* Arrays whose form differs between the two rooms; freed after tokenizer_new has copied them. */
struct spans {
    struct text_span *tokens, *merges;
    int32_t *kinds;
};

static cadre_err read_spans(const struct gguf *g, const char *key, struct text_span **out, int64_t *n, bool *found,
                            cadre_error *err)
{
    const struct gguf_string *s;
    TRY(gguf_get_strings(g, key, &s, n, found, err));
    if (!*found) {
        *n = 0;
        return CADRE_OK;
    }
    *out = calloc((size_t)*n + 1, sizeof **out);
    CHECK(err, *out, CADRE_E_MEMORY, "%s: no memory for %lld texts", key, (long long)*n);
    for (int64_t i = 0; i < *n; i++)
        (*out)[i] = (struct text_span){s[i].p, s[i].n};
    return CADRE_OK;
}

static cadre_err read_kinds(const struct gguf *g, int64_t n_tokens, int32_t **out, cadre_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const int64_t *kinds;
    int64_t n = 0;
    bool found;
    TRY(gguf_get_i64s(g, key, &kinds, &n, &found, err));
    if (!found)
        return CADRE_OK;
    CHECK(err, n == n_tokens, CADRE_E_FORMAT, "%s: expected one per token (%lld), found %lld", key, (long long)n_tokens,
          (long long)n);
    *out = calloc((size_t)n + 1, sizeof **out);
    CHECK(err, *out, CADRE_E_MEMORY, "%s: no memory for %lld numbers", key, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        CHECK(err, kinds[i] >= TOKEN_NORMAL && kinds[i] <= TOKEN_BYTE, CADRE_E_FORMAT,
              "%s: expected %d to %d, found %lld for token %lld", key, TOKEN_NORMAL, TOKEN_BYTE, (long long)kinds[i],
              (long long)i);
        (*out)[i] = (int32_t)kinds[i];
    }
    return CADRE_OK;
}

static cadre_err read_ids(const struct gguf *g, struct tokenizer_tables *t, cadre_error *err)
{
    for (int i = 0; i < N_IDS; i++) {
        int64_t id = -1;
        bool found;
        TRY(gguf_get_i64(g, ids[i].key, &id, &found, err));
        CHECK(err, id >= -1 && id < t->n_tokens, CADRE_E_FORMAT, "%s: expected a token below %lld, found %lld",
              ids[i].key, (long long)t->n_tokens, (long long)id);
        *(int32_t *)(void *)((char *)t + ids[i].field) = (int32_t)id;
    }
    return CADRE_OK;
}

static cadre_err read_tables(const struct gguf *g, struct tokenizer_tables *t, struct spans *spans, cadre_error *err)
{
    struct gguf_string model, pre = {"default", 7};
    bool found;
    TRY(gguf_get_string(g, "tokenizer.ggml.model", &model, &found, err));
    CHECK(err, found, CADRE_E_FORMAT, "tokenizer.ggml.model: expected a tokenizer in the file, not found");
    t->model = model.p;
    TRY(gguf_get_string(g, "tokenizer.ggml.pre", &pre, &found, err));
    t->pre = pre.p;
    TRY(read_spans(g, "tokenizer.ggml.tokens", &spans->tokens, &t->n_tokens, &found, err));
    CHECK(err, found, CADRE_E_FORMAT, "tokenizer.ggml.tokens: expected, not found");
    TRY(read_spans(g, "tokenizer.ggml.merges", &spans->merges, &t->n_merges, &found, err));
    TRY(read_kinds(g, t->n_tokens, &spans->kinds, err));
    t->tokens = spans->tokens;
    t->merges = spans->merges;
    t->kinds = spans->kinds;
    TRY(read_ids(g, t, err));
    t->add_bos = tokenizer_default_add_bos(t->model, t->pre) && t->bos >= 0;
    TRY(gguf_get_bool(g, "tokenizer.ggml.add_bos_token", &t->add_bos, &found, err));
    return gguf_get_bool(g, "tokenizer.ggml.add_eos_token", &t->add_eos, &found, err);
}

cadre_err tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, cadre_error *err)
{
    struct tokenizer_tables t = {0};
    struct spans spans = {0};
    *out = NULL;
    cadre_err rc = read_tables(g, &t, &spans, err);
    if (rc == CADRE_OK)
        rc = tokenizer_new(out, &t, err);
    free(spans.tokens);
    free(spans.merges);
    free(spans.kinds);
    return rc;
}

static cadre_err put_spans(struct gguf_writer *w, const char *key, const struct text_span *s, int64_t n,
                           cadre_error *err)
{
    struct gguf_string *strings = calloc((size_t)n + 1, sizeof *strings);
    CHECK(err, strings, CADRE_E_MEMORY, "%s: no memory for %lld texts", key, (long long)n);
    for (int64_t i = 0; i < n; i++)
        strings[i] = (struct gguf_string){s[i].p, s[i].n};
    cadre_err rc = gguf_put_strings(w, key, strings, n, err);
    free(strings);
    return rc;
}

/* Other readers require the kinds. */
static cadre_err put_kinds(struct gguf_writer *w, const struct tokenizer_tables *t, cadre_error *err)
{
    static const char key[] = "tokenizer.ggml.token_type";
    if (t->kinds)
        return gguf_put_i32s(w, key, t->kinds, t->n_tokens, err);
    int32_t *kinds = calloc((size_t)t->n_tokens + 1, sizeof *kinds);
    CHECK(err, kinds, CADRE_E_MEMORY, "%s: no memory for %lld numbers", key, (long long)t->n_tokens);
    for (int64_t i = 0; i < t->n_tokens; i++)
        kinds[i] = TOKEN_NORMAL;
    cadre_err rc = gguf_put_i32s(w, key, kinds, t->n_tokens, err);
    free(kinds);
    return rc;
}

cadre_err tokenizer_to_gguf(struct gguf_writer *w, const struct tokenizer_tables *t, cadre_error *err)
{
    TRY(gguf_put_string(w, "tokenizer.ggml.model", t->model, strlen(t->model), err));
    TRY(gguf_put_string(w, "tokenizer.ggml.pre", t->pre, strlen(t->pre), err));
    TRY(put_spans(w, "tokenizer.ggml.tokens", t->tokens, t->n_tokens, err));
    TRY(put_kinds(w, t, err));
    TRY(put_spans(w, "tokenizer.ggml.merges", t->merges, t->n_merges, err));
    for (int i = 0; i < N_IDS; i++) {
        int32_t id = *(const int32_t *)(const void *)((const char *)t + ids[i].field);
        if (id >= 0)
            TRY(gguf_put_u32(w, ids[i].key, (uint32_t)id, err));
    }
    TRY(gguf_put_bool(w, "tokenizer.ggml.add_bos_token", t->add_bos, err));
    return gguf_put_bool(w, "tokenizer.ggml.add_eos_token", t->add_eos, err);
}
