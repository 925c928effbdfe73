/* A tokenizer.json of tables that GGUF's names describe. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "text/pretokenizer.h"
#include "text/regex_chars.h"
#include "text/text_buffer.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

static json_t *text_json(struct text_span s)
{
    return json_stringn(s.p ? s.p : "", s.n);
}

/* ---- expressions as other engines write them ---- */

/* REGEX_SPACE is \s, and \x{…} the character itself. */
static cadre_err publish(struct text_buffer *out, const char *p, cadre_error *err)
{
    static const char space[] = REGEX_SPACE;
    out->n = 0;
    while (*p) {
        char bytes[4], *end;
        if (strncmp(p, space, sizeof space - 1) == 0) {
            TRY(text_buffer_add(out, "\\s", 2, err));
            p += sizeof space - 1;
        } else if (strncmp(p, "\\x{", 3) == 0) {
            long c = strtol(p + 3, &end, 16);
            TRY(text_buffer_add(out, bytes, (size_t)unicode_write((int32_t)c, bytes), err));
            p = end + 1;
        } else {
            TRY(text_buffer_add(out, p, 1 + (*p == '\\'), err));
            p += 1 + (*p == '\\');
        }
    }
    return CADRE_OK;
}

static cadre_err pre_tokenizer(json_t **out, const char *name, cadre_error *err)
{
    const struct pre_row *row;
    struct text_buffer expression = {0};
    cadre_err rc = CADRE_OK;
    TRY(pre_row_get(&row, name, err));
    json_t *steps = json_array();
    for (int i = 0; i < PRE_MAX_SPLITS && row->split[i]; i++) {
        TRY_OUT(publish(&expression, row->split[i], err));
        json_array_append_new(steps, json_pack("{s:s, s:{s:s%}, s:s, s:b}", "type", "Split", "pattern", "Regex",
                                               expression.p, expression.n, "behavior", "Isolated", "invert", 0));
    }
    json_array_append_new(steps, json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                                           "trim_offsets", 1, "use_regex", 0));
    *out = json_pack("{s:s, s:o}", "type", "Sequence", "pretokenizers", steps);
    steps = NULL;
out:
    json_decref(steps);
    text_buffer_free(&expression);
    return rc;
}

/* ---- tokens ---- */

static int32_t kind_of(const struct tokenizer_tables *t, int64_t i)
{
    return t->kinds ? t->kinds[i] : TOKEN_NORMAL;
}

static bool is_added(int32_t kind)
{
    return kind == TOKEN_CONTROL || kind == TOKEN_USER_DEFINED || kind == TOKEN_UNKNOWN;
}

static json_t *added_tokens(const struct tokenizer_tables *t)
{
    json_t *list = json_array();
    for (int64_t i = 0; i < t->n_tokens; i++)
        if (is_added(kind_of(t, i)))
            json_array_append_new(list, json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                                                  text_json(t->tokens[i]), "single_word", 0, "lstrip", 0, "rstrip", 0,
                                                  "normalized", 0, "special", kind_of(t, i) != TOKEN_USER_DEFINED));
    return list;
}

static cadre_err vocab(json_t **out, const struct tokenizer_tables *t, cadre_error *err)
{
    json_t *o = json_object();
    for (int64_t i = 0; i < t->n_tokens; i++)
        if (json_object_setn_new(o, t->tokens[i].p, t->tokens[i].n, json_integer(i))) {
            json_decref(o);
            return error_set(err, CADRE_E_UNSUPPORTED, "token %lld is not UTF-8 and cannot be written as JSON",
                             (long long)i);
        }
    *out = o;
    return CADRE_OK;
}

/* ---- merges of a vocabulary that has scores ---- */

struct merge {
    struct text_span left, right;
    float score;
    int64_t id;
};

static int by_score(const void *a, const void *b)
{
    const struct merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return x->left.n < y->left.n ? -1 : 1;
}

static cadre_err add_merges_of(json_t *list, const struct tokenizer_tables *t, const json_t *vocab_ids,
                               cadre_error *err)
{
    size_t n = 0, capacity = 4096;
    struct merge *merges = malloc(capacity * sizeof *merges);
    CHECK(err, merges, CADRE_E_MEMORY, "no memory for merges");
    for (int64_t i = 0; i < t->n_tokens; i++) {
        struct text_span s = t->tokens[i];
        for (uint64_t k = 1; k < s.n && s.n <= 256 && kind_of(t, i) == TOKEN_NORMAL; k++) {
            if (((unsigned char)s.p[k] & 0xc0) == 0x80 || !json_object_getn(vocab_ids, s.p, k) ||
                !json_object_getn(vocab_ids, s.p + k, s.n - k))
                continue;
            if (n == capacity) {
                struct merge *more = realloc(merges, 2 * capacity * sizeof *merges);
                if (!more) {
                    free(merges);
                    return error_set(err, CADRE_E_MEMORY, "no memory for %zu merges", 2 * capacity);
                }
                merges = more, capacity *= 2;
            }
            merges[n++] = (struct merge){{s.p, k}, {s.p + k, s.n - k}, t->scores ? t->scores[i] : 0, i};
        }
    }
    qsort(merges, n, sizeof *merges, by_score);
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_pack("[o, o]", text_json(merges[i].left), text_json(merges[i].right)));
    free(merges);
    return CADRE_OK;
}

/* ---- all ---- */

static json_t *around(const struct tokenizer_tables *t)
{
    if (!t->add_bos && !t->add_eos)
        return json_null();
    json_t *single = json_array(), *specials = json_object();
    for (int side = 0; side < 2; side++) {
        int32_t id = side ? t->eos : t->bos;
        if (side ? t->add_eos : t->add_bos) {
            struct text_span s = t->tokens[id];
            json_array_append_new(single,
                                  json_pack("{s:{s:o, s:i}}", "SpecialToken", "id", text_json(s), "type_id", 0));
            json_object_setn_new(
                specials, s.p, s.n,
                json_pack("{s:o, s:[i], s:[o]}", "id", text_json(s), "ids", id, "tokens", text_json(s)));
        }
        if (side == 0)
            json_array_append_new(single, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "A", "type_id", 0));
    }
    json_t *pair = json_deep_copy(single);
    json_array_append_new(pair, json_pack("{s:{s:s, s:i}}", "Sequence", "id", "B", "type_id", 1));
    return json_pack("{s:s, s:o, s:o, s:o}", "type", "TemplateProcessing", "single", single, "pair", pair,
                     "special_tokens", specials);
}

static cadre_err fill_byte_level(json_t *root, json_t *model, const struct tokenizer_tables *t, cadre_error *err)
{
    json_t *pre = NULL, *merges = json_array();
    for (int64_t i = 0; i < t->n_merges; i++) {
        const struct text_span m = t->merges[i];
        const char *blank = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!blank)
            continue;
        struct text_span left = {m.p, (uint64_t)(blank - m.p)}, right = {blank + 1, m.n - left.n - 1};
        json_array_append_new(merges, json_pack("[o, o]", text_json(left), text_json(right)));
    }
    json_object_set_new(model, "merges", merges);
    TRY(pre_tokenizer(&pre, t->pre, err));
    const struct pre_row *row = pre_row_find(t->pre);
    json_object_set_new(model, "ignore_merges", json_boolean(row->flags & PRE_IGNORE_MERGES));
    json_object_set_new(root, "normalizer", json_null());
    json_object_set_new(root, "pre_tokenizer", pre);
    json_object_set_new(root, "decoder",
                        json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 1, "trim_offsets", 1,
                                  "use_regex", 1));
    return CADRE_OK;
}

static cadre_err fill_sentencepiece(json_t *root, json_t *model, const struct tokenizer_tables *t, cadre_error *err)
{
    json_t *merges = json_array(), *steps = json_array(), *decoders = json_array();
    json_object_set_new(model, "merges", merges);
    json_object_set_new(model, "byte_fallback", json_true());
    json_object_set_new(model, "fuse_unk", json_true());
    if (t->unk >= 0)
        json_object_set_new(model, "unk_token", text_json(t->tokens[t->unk]));
    if (t->add_space_prefix)
        json_array_append_new(steps, json_pack("{s:s, s:s}", "type", "Prepend", "prepend", "▁"));
    json_array_append_new(
        steps, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", " ", "content", "▁"));
    json_object_set_new(root, "normalizer", json_pack("{s:s, s:o}", "type", "Sequence", "normalizers", steps));
    json_object_set_new(root, "pre_tokenizer", json_null());
    json_array_append_new(
        decoders, json_pack("{s:s, s:{s:s}, s:s}", "type", "Replace", "pattern", "String", "▁", "content", " "));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "ByteFallback"));
    json_array_append_new(decoders, json_pack("{s:s}", "type", "Fuse"));
    if (t->add_space_prefix)
        json_array_append_new(
            decoders, json_pack("{s:s, s:s, s:i, s:i}", "type", "Strip", "content", " ", "start", 1, "stop", 0));
    json_object_set_new(root, "decoder", json_pack("{s:s, s:o}", "type", "Sequence", "decoders", decoders));
    return add_merges_of(merges, t, json_object_get(model, "vocab"), err);
}

static cadre_err fill(json_t *root, const struct tokenizer_tables *t, cadre_error *err)
{
    bool bytes = strcmp(t->model, "gpt2") == 0;
    json_t *ids = NULL, *model = json_pack("{s:s}", "type", "BPE");
    json_object_set_new(root, "version", json_string("1.0"));
    json_object_set_new(root, "truncation", json_null());
    json_object_set_new(root, "padding", json_null());
    json_object_set_new(root, "added_tokens", added_tokens(t));
    json_object_set_new(root, "post_processor", around(t));
    json_object_set_new(root, "model", model);
    TRY(vocab(&ids, t, err));
    json_object_set_new(model, "vocab", ids);
    return bytes ? fill_byte_level(root, model, t, err) : fill_sentencepiece(root, model, t, err);
}

cadre_err tokenizer_json_write(char **json, size_t *n, const struct tokenizer_tables *t, cadre_error *err)
{
    CHECK(err, !t->rules && (strcmp(t->model, "gpt2") == 0 || strcmp(t->model, "llama") == 0), CADRE_E_UNSUPPORTED,
          "a tokenizer of model '%.60s' cannot be written as tokenizer.json", t->model);
    json_t *root = json_object();
    CHECK(err, root, CADRE_E_MEMORY, "no memory for a tokenizer.json");
    cadre_err rc = fill(root, t, err);
    *json = rc ? NULL : json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (rc)
        return rc;
    CHECK(err, *json, CADRE_E_MEMORY, "no memory for the text of a tokenizer.json");
    *n = strlen(*json);
    return CADRE_OK;
}
