/* To a Hugging Face directory: config.json, the tokenizer where it has a form there, chat template, and the tensors in
 * one model.safetensors or in shards with an index. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include "engine/convert.h"
#include "file/safetensors.h"
#include "model/hf/export.h"
#include "model/model.h"

static const uint64_t default_shard = (uint64_t)5 << 30; /* as transformers has it */

struct shard {
    int64_t first, n; /* tensors */
    unsigned char *head;
    uint64_t head_bytes;
    char name[64];
};

/* A small file beside the tensors. */
struct beside {
    const char *name;
    char *text;
    size_t n;
};
enum { MAX_BESIDE = 5 };

struct plan {
    struct conversion *c;
    struct hf_export *e;
    struct shard *shard;
    int n_shards;
    struct beside beside[MAX_BESIDE];
    int n_beside;
    uint64_t stamp;
};

/* ---- small files ------------------------------------------------------------------------------------------------ */

static void add_text(struct plan *p, const char *name, char *text, size_t n)
{
    p->beside[p->n_beside++] = (struct beside){name, text, n};
    p->stamp = XXH3_64bits_withSeed(text, n, p->stamp);
}

static cadre_err add_json(struct plan *p, const char *name, json_t *j, cadre_error *err)
{
    char *text = j ? json_dumps(j, JSON_INDENT(2)) : NULL;
    json_decref(j);
    CHECK(err, text, CADRE_E_MEMORY, "%s/%s: no memory", p->c->out, name);
    add_text(p, name, text, strlen(text));
    return CADRE_OK;
}

/* The text of a token, for tokenizer_config.json. */
static cadre_err set_token(const struct gguf *g, json_t *j, const char *name, const char *key, cadre_error *err)
{
    const struct gguf_string *tokens;
    int64_t id = -1, n = 0;
    bool found;
    TRY(gguf_get_i64(g, key, &id, &found, err));
    if (!found)
        return CADRE_OK;
    TRY(gguf_get_strings(g, "tokenizer.ggml.tokens", &tokens, &n, &found, err));
    if (found && id >= 0 && id < n)
        json_object_set_new(j, name, json_stringn(tokens[id].p, (size_t)tokens[id].n));
    return CADRE_OK;
}

static cadre_err tokenizer_config(const struct gguf *g, json_t *j, cadre_error *err)
{
    static const char *const flags[][2] = {{"add_bos_token", "tokenizer.ggml.add_bos_token"},
                                           {"add_eos_token", "tokenizer.ggml.add_eos_token"}};
    struct gguf_string chat;
    bool found, value;
    TRY(set_token(g, j, "bos_token", "tokenizer.ggml.bos_token_id", err));
    TRY(set_token(g, j, "eos_token", "tokenizer.ggml.eos_token_id", err));
    TRY(set_token(g, j, "pad_token", "tokenizer.ggml.padding_token_id", err));
    TRY(set_token(g, j, "unk_token", "tokenizer.ggml.unknown_token_id", err));
    for (int i = 0; i < 2; i++) {
        TRY(gguf_get_bool(g, flags[i][1], &value, &found, err));
        if (found)
            json_object_set_new(j, flags[i][0], json_boolean(value));
    }
    TRY(gguf_get_string(g, "tokenizer.chat_template", &chat, &found, err));
    if (found)
        json_object_set_new(j, "chat_template", json_stringn(chat.p, (size_t)chat.n));
    return CADRE_OK;
}

static cadre_err add_tokenizer(struct plan *p, cadre_error *err)
{
    char *text;
    size_t n = 0;
    if (!gguf_has(p->c->g, "tokenizer.ggml.model"))
        return CADRE_OK;
    cadre_err rc = tokenizer_gguf_to_json(p->c->g, &text, &n, err);
    if (rc == CADRE_E_UNSUPPORTED) /* a kind that has no tokenizer.json: the directory is one without a tokenizer */
        return CADRE_OK;
    TRY(rc);
    add_text(p, "tokenizer.json", text, n);
    json_t *j = json_object();
    rc = tokenizer_config(p->c->g, j, err);
    if (rc == CADRE_OK)
        return add_json(p, "tokenizer_config.json", j, err);
    json_decref(j);
    return rc;
}

/* ---- shards ----------------------------------------------------------------------------------------------------- */

static cadre_err cut(struct plan *p, cadre_error *err)
{
    int64_t n = hf_export_count(p->e);
    uint64_t limit = p->c->options->split ? p->c->options->split : default_shard, size = 0;
    p->shard = calloc((size_t)n + 1, sizeof *p->shard);
    CHECK(err, p->shard, CADRE_E_MEMORY, "%s: no memory for its shards", p->c->out);
    p->n_shards = 1;
    for (int64_t i = 0; i < n; i++) {
        struct shard *s = &p->shard[p->n_shards - 1];
        uint64_t bytes = hf_export_at(p->e, i)->bytes;
        if (s->n > 0 && size + bytes > limit) {
            (++s)->first = i;
            p->n_shards++;
            size = 0;
        }
        s->n++;
        size += bytes;
        p->c->total += bytes;
    }
    CHECK(err, p->n_shards <= GGUF_MAX_PARTS, CADRE_E_ARG,
          "%s: expected at most %d shards, found %d; give a larger size", p->c->out, GGUF_MAX_PARTS, p->n_shards);
    for (int i = 0; i < p->n_shards; i++)
        if (p->n_shards == 1)
            snprintf(p->shard[i].name, sizeof p->shard[i].name, "model.safetensors");
        else
            snprintf(p->shard[i].name, sizeof p->shard[i].name, "model-%05d-of-%05d.safetensors", i + 1, p->n_shards);
    return CADRE_OK;
}

static cadre_err make_head(struct plan *p, struct shard *s, cadre_error *err)
{
    struct safetensors_writer *w;
    TRY(safetensors_writer_open_head(&w, err));
    cadre_err rc = safetensors_put_metadata(w, "format", "pt", err); /* transformers asks for it */
    for (int64_t i = s->first; i < s->first + s->n && rc == CADRE_OK; i++) {
        const struct hf_export_tensor *t = hf_export_at(p->e, i);
        rc = safetensors_put(w, t->name, t->type, t->n_dims, t->dim, err);
    }
    if (rc == CADRE_OK)
        rc = safetensors_writer_head(w, &s->head, &s->head_bytes, err);
    safetensors_writer_abort(w);
    if (rc == CADRE_OK)
        p->stamp = XXH3_64bits_withSeed(s->head, (size_t)s->head_bytes, p->stamp);
    return rc;
}

static cadre_err add_index(struct plan *p, cadre_error *err)
{
    if (p->n_shards == 1)
        return CADRE_OK;
    json_t *map = json_object();
    for (int i = 0; i < p->n_shards; i++)
        for (int64_t k = p->shard[i].first; k < p->shard[i].first + p->shard[i].n; k++)
            json_object_set_new(map, hf_export_at(p->e, k)->name, json_string(p->shard[i].name));
    return add_json(p, "model.safetensors.index.json",
                    json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)p->c->total, "weight_map", map),
                    err);
}

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static cadre_err write_bytes(struct plan *p, const void *data, uint64_t n, cadre_error *err)
{
    bool needed;
    TRY(staged_piece(p->c->staged, n, &needed, err));
    return needed && n > 0 ? staged_write(p->c->staged, data, n, err) : CADRE_OK;
}

static cadre_err write_tensor(struct plan *p, int64_t i, cadre_error *err)
{
    const struct hf_export_tensor *t = hf_export_at(p->e, i);
    bool needed;
    TRY(staged_piece(p->c->staged, t->bytes, &needed, err));
    if (needed) {
        void *data = malloc((size_t)t->bytes);
        CHECK(err, data, CADRE_E_MEMORY, "tensor '%s': no memory for %llu bytes", t->name,
              (unsigned long long)t->bytes);
        cadre_err rc = hf_export_read(p->e, i, data, err);
        if (rc == CADRE_OK)
            rc = staged_write(p->c->staged, data, t->bytes, err);
        free(data);
        TRY(rc);
    }
    return conversion_advance(p->c, t->bytes, err);
}

static cadre_err write_files(struct plan *p, cadre_error *err)
{
    for (int i = 0; i < p->n_shards; i++) {
        const struct shard *s = &p->shard[i];
        TRY(staged_file(p->c->staged, s->name, err));
        TRY(write_bytes(p, s->head, s->head_bytes, err));
        for (int64_t k = s->first; k < s->first + s->n; k++)
            TRY(write_tensor(p, k, err));
    }
    for (int i = 0; i < p->n_beside; i++) {
        TRY(staged_file(p->c->staged, p->beside[i].name, err));
        TRY(write_bytes(p, p->beside[i].text, p->beside[i].n, err));
    }
    return CADRE_OK;
}

static cadre_err write_all(struct plan *p, cadre_error *err)
{
    TRY(staged_open(&p->c->staged, p->c->out, true, p->stamp, err));
    cadre_err rc = write_files(p, err);
    if (rc != CADRE_OK) {
        staged_stop(p->c->staged);
        return rc;
    }
    *p->c->result = (cadre_convert_result){.files = p->n_shards,
                                           .tensors = hf_export_count(p->e),
                                           .bytes = p->c->total,
                                           .resumed = staged_resumed(p->c->staged) > 0};
    return staged_commit(p->c->staged, err);
}

cadre_err convert_to_hf(struct conversion *c, cadre_error *err)
{
    struct plan p = {.c = c, .stamp = gguf_stamp(c->g)};
    const char *type = c->options->type;
    enum dtype want = type ? dtype_by_name(type) : DTYPE_NONE;
    char *config;
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, !type || want == DTYPE_F32 || want == DTYPE_F16 || want == DTYPE_BF16, CADRE_E_ARG,
              "type: expected f32, f16 or bf16 for a directory, found '%s'", type);
    TRY_OUT(hf_export_new(&p.e, c->g, want, err));
    TRY_OUT(hf_export_config(c->g, &config, err));
    add_text(&p, "config.json", config, strlen(config));
    TRY_OUT(add_tokenizer(&p, err));
    TRY_OUT(cut(&p, err));
    for (int i = 0; i < p.n_shards; i++)
        TRY_OUT(make_head(&p, &p.shard[i], err));
    TRY_OUT(add_index(&p, err));
    rc = write_all(&p, err);
out:
    for (int i = 0; i < p.n_shards; i++)
        free(p.shard[i].head);
    for (int i = 0; i < p.n_beside; i++)
        free(p.beside[i].text);
    free(p.shard);
    hf_export_free(p.e);
    return rc;
}
