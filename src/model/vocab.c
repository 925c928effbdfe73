/* The tokenizer's tables as keys of a model file. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "model/model.h"
#include "text/tokenizer_json.h"

static const struct {
    const char *key;
    size_t field;
} ids[] = {
    {"tokenizer.ggml.bos_token_id", offsetof(struct tokenizer_tables, bos)},
    {"tokenizer.ggml.eos_token_id", offsetof(struct tokenizer_tables, eos)},
    {"tokenizer.ggml.eot_token_id", offsetof(struct tokenizer_tables, eot)},
    {"tokenizer.ggml.eom_token_id", offsetof(struct tokenizer_tables, eom)},
    {"tokenizer.ggml.unknown_token_id", offsetof(struct tokenizer_tables, unk)},
    {"tokenizer.ggml.seperator_token_id", offsetof(struct tokenizer_tables, sep)}, /* spelt so in all files */
    {"tokenizer.ggml.padding_token_id", offsetof(struct tokenizer_tables, pad)},
    {"tokenizer.ggml.mask_token_id", offsetof(struct tokenizer_tables, mask)},
};
enum { N_IDS = sizeof ids / sizeof *ids };

static const struct {
    const char *key;
    size_t field;
    bool inverse; /* the key says the opposite of the field */
} flags[] = {
    {"tokenizer.ggml.add_bos_token", offsetof(struct tokenizer_tables, add_bos), false},
    {"tokenizer.ggml.add_eos_token", offsetof(struct tokenizer_tables, add_eos), false},
    {"tokenizer.ggml.add_sep_token", offsetof(struct tokenizer_tables, add_sep), false},
    {"tokenizer.ggml.add_space_prefix", offsetof(struct tokenizer_tables, add_space_prefix), false},
    {"tokenizer.ggml.remove_extra_whitespaces", offsetof(struct tokenizer_tables, remove_extra_whitespaces), false},
    {"tokenizer.ggml.normalizer.lowercase", offsetof(struct tokenizer_tables, keep_case), true},
    {"tokenizer.ggml.normalizer.strip_accents", offsetof(struct tokenizer_tables, keep_accents), true},
};
enum { N_FLAGS = sizeof flags / sizeof *flags };

/* Arrays whose form differs between the two rooms; freed after tokenizer_new has copied them. */
struct spans {
    struct text_span *tokens, *merges;
    int32_t *kinds;
    float *scores;
    char *charsmap;
    unsigned char *token_flags;
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

static cadre_err read_scores(const struct gguf *g, int64_t n_tokens, float **out, cadre_error *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    const double *scores;
    int64_t n = 0;
    bool found;
    TRY(gguf_get_f64s(g, key, &scores, &n, &found, err));
    if (!found)
        return CADRE_OK;
    CHECK(err, n == n_tokens, CADRE_E_FORMAT, "%s: expected one per token (%lld), found %lld", key, (long long)n_tokens,
          (long long)n);
    *out = malloc(((size_t)n + 1) * sizeof **out);
    CHECK(err, *out, CADRE_E_MEMORY, "%s: no memory for %lld numbers", key, (long long)n);
    for (int64_t i = 0; i < n; i++)
        (*out)[i] = (float)scores[i];
    return CADRE_OK;
}

static cadre_err read_charsmap(const struct gguf *g, struct text_span *map, char **out, cadre_error *err)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    const int64_t *bytes;
    int64_t n = 0;
    bool found;
    TRY(gguf_get_i64s(g, key, &bytes, &n, &found, err));
    if (!found)
        return CADRE_OK;
    *out = malloc((size_t)n + 1);
    CHECK(err, *out, CADRE_E_MEMORY, "%s: no memory for %lld bytes", key, (long long)n);
    for (int64_t i = 0; i < n; i++) {
        CHECK(err, bytes[i] >= -128 && bytes[i] <= 255, CADRE_E_FORMAT, "%s: expected bytes, found %lld", key,
              (long long)bytes[i]);
        (*out)[i] = (char)bytes[i];
    }
    *map = (struct text_span){*out, (uint64_t)n};
    return CADRE_OK;
}

static cadre_err read_ids(const struct gguf *g, struct tokenizer_tables *t, cadre_error *err)
{
    for (int i = 0; i < N_IDS; i++) {
        int32_t *field = (int32_t *)(void *)((char *)t + ids[i].field);
        int64_t id = *field;
        bool found;
        TRY(gguf_get_i64(g, ids[i].key, &id, &found, err));
        CHECK(err, id >= -1 && id < t->n_tokens, CADRE_E_FORMAT, "%s: expected a token below %lld, found %lld",
              ids[i].key, (long long)t->n_tokens, (long long)id);
        *field = (int32_t)id;
    }
    return CADRE_OK;
}

static cadre_err read_flags(const struct gguf *g, struct tokenizer_tables *t, cadre_error *err)
{
    /* What a model adds by default it can only add if it has it. */
    t->add_bos = t->add_bos && t->bos >= 0;
    t->add_eos = t->add_eos && t->eos >= 0;
    t->add_sep = t->add_sep && t->sep >= 0;
    for (int i = 0; i < N_FLAGS; i++) {
        bool *field = (bool *)(void *)((char *)t + flags[i].field), found, value = *field ^ flags[i].inverse;
        TRY(gguf_get_bool(g, flags[i].key, &value, &found, err));
        *field = value ^ flags[i].inverse;
    }
    /* Accents are kept where case is, unless the file says otherwise. */
    if (!gguf_has(g, "tokenizer.ggml.normalizer.strip_accents"))
        t->keep_accents = t->keep_case;
    return CADRE_OK;
}

/* A file has no place for how tokens take part in matching. What is known of one family by its name: the special tokens
 * of Phi-3, except those that stand at a text's ends, take the white space after them. */
static cadre_err known_flags(const struct gguf *g, struct tokenizer_tables *t, unsigned char **out, cadre_error *err)
{
    static const char *const plain[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct gguf_string name = {"", 0};
    bool found;
    TRY(gguf_get_string(g, "general.name", &name, &found, err));
    if ((!strcasestr(name.p, "phi-3") && !strcasestr(name.p, "phi3")) || !t->kinds || strcmp(t->model, "llama") != 0)
        return CADRE_OK;
    *out = calloc((size_t)t->n_tokens, 1);
    CHECK(err, *out, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)t->n_tokens);
    for (int64_t i = 0; i < t->n_tokens; i++) {
        const struct text_span *s = &t->tokens[i];
        bool takes = t->kinds[i] == TOKEN_CONTROL || t->kinds[i] == TOKEN_USER_DEFINED;
        for (size_t k = 0; k < sizeof plain / sizeof *plain; k++)
            takes &= s->n != strlen(plain[k]) || memcmp(s->p, plain[k], s->n) != 0;
        (*out)[i] = takes ? TOKEN_TAKES_RIGHT : 0;
    }
    t->flags = *out;
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
    TRY(read_scores(g, t->n_tokens, &spans->scores, err));
    TRY(read_charsmap(g, &t->charsmap, &spans->charsmap, err));
    t->tokens = spans->tokens;
    t->merges = spans->merges;
    t->kinds = spans->kinds;
    t->scores = spans->scores;
    tokenizer_set_defaults(t);
    TRY(read_ids(g, t, err));
    TRY(read_flags(g, t, err));
    return known_flags(g, t, &spans->token_flags, err);
}

static void release(struct spans *s)
{
    free(s->tokens);
    free(s->merges);
    free(s->kinds);
    free(s->scores);
    free(s->charsmap);
    free(s->token_flags);
}

cadre_err tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, cadre_error *err)
{
    struct tokenizer_tables t = {0};
    struct spans spans = {0};
    *out = NULL;
    cadre_err rc = read_tables(g, &t, &spans, err);
    if (rc == CADRE_OK)
        rc = tokenizer_new(out, &t, err);
    release(&spans);
    return rc;
}

cadre_err tokenizer_gguf_to_json(const struct gguf *g, char **json, size_t *n, cadre_error *err)
{
    struct tokenizer_tables t = {0};
    struct spans spans = {0};
    *json = NULL;
    cadre_err rc = read_tables(g, &t, &spans, err);
    if (rc == CADRE_OK)
        rc = tokenizer_json_write(json, n, &t, err);
    release(&spans);
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

/* Keys that only some models have. */
static cadre_err put_model_keys(struct gguf_writer *w, const struct tokenizer_tables *t, cadre_error *err)
{
    bool merges = strcmp(t->model, "gpt2") == 0 || strcmp(t->model, "gemma4") == 0;
    bool bert = strcmp(t->model, "bert") == 0;
    if (merges)
        TRY(put_spans(w, "tokenizer.ggml.merges", t->merges, t->n_merges, err));
    else if (t->scores)
        TRY(gguf_put_f32s(w, "tokenizer.ggml.scores", t->scores, t->n_tokens, err));
    for (int i = 0; i < N_FLAGS; i++) {
        bool value = *(const bool *)(const void *)((const char *)t + flags[i].field) ^ flags[i].inverse;
        bool of_bert = flags[i].inverse, of_scored = i >= 3 && !of_bert;
        if (of_bert ? bert : of_scored ? !merges && !bert : i < 2 || value)
            TRY(gguf_put_bool(w, flags[i].key, value, err));
    }
    return CADRE_OK;
}

cadre_err tokenizer_to_gguf(struct gguf_writer *w, const struct tokenizer_tables *t, cadre_error *err)
{
    CHECK(err, t->charsmap.n == 0, CADRE_E_UNSUPPORTED,
          "a tokenizer with a precompiled normalizer cannot be written as GGUF yet");
    TRY(gguf_put_string(w, "tokenizer.ggml.model", t->model, strlen(t->model), err));
    if (t->pre)
        TRY(gguf_put_string(w, "tokenizer.ggml.pre", t->pre, strlen(t->pre), err));
    TRY(put_spans(w, "tokenizer.ggml.tokens", t->tokens, t->n_tokens, err));
    TRY(put_kinds(w, t, err));
    for (int i = 0; i < N_IDS; i++) {
        int32_t id = *(const int32_t *)(const void *)((const char *)t + ids[i].field);
        if (id >= 0)
            TRY(gguf_put_u32(w, ids[i].key, (uint32_t)id, err));
    }
    return put_model_keys(w, t, err);
}
