/* Reading a tokenizer.json: its vocabulary into tables, the rest (json_steps.c) into rules. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/pre_guess.h"
#include "text/tokenizer_json_internal.h"

/* Ids need not be dense, but nothing is allocated from an absurd one. */
enum { MAX_TOKENS = 1 << 26, MAX_GAPS = 1 << 16 };

/* ---- tokens ---- */

/* Ids up to this are possible. */
static cadre_err check_id(const struct tokenizer_json *j, int64_t id, const char *text, cadre_error *err)
{
    CHECK(err, id >= 0 && id < j->tables.n_tokens, CADRE_E_FORMAT,
          "token '%.60s' has id %lld; expected 0 to %lld for a vocabulary of this size", text, (long long)id,
          (long long)j->tables.n_tokens - 1);
    return CADRE_OK;
}

static cadre_err put_token(struct tokenizer_json *j, int64_t id, struct text_span text, cadre_error *err)
{
    TRY(check_id(j, id, text.p, err));
    CHECK(err, !j->tokens[id].p, CADRE_E_FORMAT, "tokens '%.60s' and '%.60s' have the same id %lld", j->tokens[id].p,
          text.p, (long long)id);
    j->tokens[id] = text;
    j->kinds[id] = TOKEN_NORMAL;
    return CADRE_OK;
}

static int64_t highest_id(const json_t *vocab, const json_t *added)
{
    int64_t highest = json_is_array(vocab) ? (int64_t)json_array_size(vocab) - 1 : -1;
    const char *key;
    json_t *value;
    size_t i;
    json_object_foreach((json_t *)(uintptr_t)vocab, key, value) highest = max_i64(highest, json_integer_value(value));
    json_array_foreach(added, i, value) highest = max_i64(highest, json_integer_value(json_object_get(value, "id")));
    return highest;
}

static cadre_err make_tables(struct tokenizer_json *j, const json_t *vocab, const json_t *added, int64_t n_vocab,
                             cadre_error *err)
{
    int64_t count = (int64_t)(json_is_array(vocab) ? json_array_size(vocab) : json_object_size(vocab)) +
                    (int64_t)json_array_size(added);
    int64_t highest = highest_id(vocab, added);
    CHECK(err, count > 0 && highest < count + MAX_GAPS && highest < MAX_TOKENS, CADRE_E_FORMAT,
          "%lld tokens with ids up to %lld; expected ids without large gaps", (long long)count, (long long)highest);
    CHECK(err, n_vocab == 0 || (highest < n_vocab && n_vocab <= MAX_TOKENS), CADRE_E_FORMAT,
          "the model has %lld rows for tokens; the tokenizer has ids up to %lld", (long long)n_vocab,
          (long long)highest);
    int64_t n = max_i64(highest + 1, n_vocab);
    j->tables.n_tokens = n;
    j->tokens = calloc((size_t)n, sizeof *j->tokens);
    j->kinds = calloc((size_t)n, sizeof *j->kinds);
    j->flags = calloc((size_t)n, 1);
    CHECK(err, j->tokens && j->kinds && j->flags, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)n);
    return CADRE_OK;
}

/* {"text": id, …} */
static cadre_err read_vocab_object(struct tokenizer_json *j, json_t *vocab, cadre_error *err)
{
    const char *key;
    size_t key_len;
    json_t *value;
    json_object_keylen_foreach(vocab, key, key_len, value)
    {
        CHECK(err, json_is_integer(value), CADRE_E_FORMAT, "'vocab': token '%.60s' has no id", key);
        TRY(put_token(j, json_integer_value(value), (struct text_span){key, key_len}, err));
    }
    return CADRE_OK;
}

/* [["text", score], …] */
static cadre_err read_vocab_list(struct tokenizer_json *j, const json_t *vocab, cadre_error *err)
{
    size_t i;
    json_t *entry;
    j->scores = calloc((size_t)j->tables.n_tokens, sizeof *j->scores);
    CHECK(err, j->scores, CADRE_E_MEMORY, "no memory for %lld scores", (long long)j->tables.n_tokens);
    json_array_foreach(vocab, i, entry)
    {
        const json_t *text = json_array_get(entry, 0), *score = json_array_get(entry, 1);
        CHECK(err, json_is_string(text) && json_is_number(score), CADRE_E_FORMAT,
              "'vocab': entry %zu: expected [text, score]", i);
        TRY(put_token(j, (int64_t)i, (struct text_span){json_string_value(text), json_string_length(text)}, err));
        j->scores[i] = (float)json_number_value(score);
    }
    return CADRE_OK;
}

static cadre_err read_flag(const json_t *o, const char *key, bool otherwise, unsigned char flag, unsigned char *flags,
                           cadre_error *err)
{
    bool set;
    TRY(json_get_bool(o, key, otherwise, &set, err));
    *flags |= set ? flag : 0;
    return CADRE_OK;
}

static cadre_err read_added(struct tokenizer_json *j, const json_t *o, cadre_error *err)
{
    int64_t id;
    struct text_span text;
    bool special;
    unsigned char flags = 0;
    CHECK(err, json_is_object(o), CADRE_E_FORMAT, "expected an object");
    TRY(json_get_id(o, "id", &id, err));
    TRY(json_get_text(o, "content", NULL, &text, err));
    TRY(json_get_bool(o, "special", false, &special, err));
    TRY(read_flag(o, "lstrip", false, TOKEN_TAKES_LEFT, &flags, err));
    TRY(read_flag(o, "rstrip", false, TOKEN_TAKES_RIGHT, &flags, err));
    TRY(read_flag(o, "single_word", false, TOKEN_WHOLE_WORD, &flags, err));
    TRY(read_flag(o, "normalized", !special, TOKEN_NORMALIZED, &flags, err));
    TRY(check_id(j, id, text.p, err));
    struct text_span *known = &j->tokens[id];
    if (known->p)
        CHECK(err, known->n == text.n && memcmp(known->p, text.p, text.n) == 0, CADRE_E_FORMAT,
              "'%.60s' has id %lld, which is that of '%.60s'", text.p, (long long)id, known->p);
    *known = text;
    j->kinds[id] = special ? TOKEN_CONTROL : TOKEN_USER_DEFINED;
    j->flags[id] = flags;
    return CADRE_OK;
}

static bool is_byte_token(struct text_span s)
{
    return s.n == 6 && memcmp(s.p, "<0x", 3) == 0 && s.p[5] == '>';
}

/* Ids that nothing has get a name that nobody writes. */
static cadre_err finish_tokens(struct tokenizer_json *j, cadre_error *err)
{
    for (int64_t i = 0; i < j->tables.n_tokens; i++) {
        if (!j->tokens[i].p) {
            char name[32];
            int n = snprintf(name, sizeof name, "[PAD%lld]", (long long)i);
            TRY(text_keep_copy(&j->steps.keep, name, (size_t)n, &j->tokens[i].p, err));
            j->tokens[i].n = (uint64_t)n;
            j->kinds[i] = TOKEN_UNUSED;
        } else if (j->kinds[i] == TOKEN_NORMAL && j->rules.byte_fallback && is_byte_token(j->tokens[i])) {
            j->kinds[i] = TOKEN_BYTE;
        }
    }
    return CADRE_OK;
}

static cadre_err read_tokens(struct tokenizer_json *j, const json_t *model, int64_t n_vocab, cadre_error *err)
{
    json_t *vocab = json_object_get(model, "vocab"), *entry;
    const json_t *added = json_object_get(j->root, "added_tokens");
    size_t i;
    bool list = j->rules.model == MODEL_UNIGRAM;
    CHECK(err, list ? json_is_array(vocab) : json_is_object(vocab), CADRE_E_FORMAT, "'vocab': expected %s",
          list ? "a list of [text, score]" : "an object of ids");
    CHECK(err, !json_is_given(added) || json_is_array(added), CADRE_E_FORMAT, "'added_tokens': expected a list");
    TRY(make_tables(j, vocab, added, n_vocab, err));
    TRY(list ? read_vocab_list(j, vocab, err) : read_vocab_object(j, vocab, err));
    json_array_foreach(added, i, entry)
    {
        cadre_err rc = read_added(j, entry, err);
        if (rc)
            return error_wrap(err, rc, "'added_tokens': entry %zu", i);
    }
    return finish_tokens(j, err);
}

/* The id of a text, or -1. A walk, for the few that are named. */
static int32_t find_token(const struct tokenizer_json *j, const char *text, size_t n)
{
    for (int64_t i = 0; i < j->tables.n_tokens; i++)
        if (j->tokens[i].n == n && memcmp(j->tokens[i].p, text, n) == 0)
            return (int32_t)i;
    return -1;
}

/* ---- merges ---- */

/* "left right", or in newer files ["left", "right"]. */
static cadre_err read_merge(struct tokenizer_json *j, const json_t *entry, struct text_span *out,
                            struct text_buffer *joined, cadre_error *err)
{
    if (json_is_string(entry)) {
        *out = (struct text_span){json_string_value(entry), json_string_length(entry)};
        return CADRE_OK;
    }
    const json_t *left = json_array_get(entry, 0), *right = json_array_get(entry, 1);
    CHECK(err, json_is_string(left) && json_is_string(right) && json_array_size(entry) == 2, CADRE_E_FORMAT,
          "expected \"left right\" or [\"left\", \"right\"]");
    joined->n = 0;
    TRY(text_buffer_add(joined, json_string_value(left), json_string_length(left), err));
    TRY(text_buffer_add(joined, " ", 1, err));
    TRY(text_buffer_add(joined, json_string_value(right), json_string_length(right), err));
    out->n = joined->n;
    return text_keep_copy(&j->steps.keep, joined->p, joined->n, &out->p, err);
}

static cadre_err read_merges(struct tokenizer_json *j, const json_t *model, cadre_error *err)
{
    const json_t *list = json_object_get(model, "merges"), *entry;
    size_t i;
    CHECK(err, json_is_array(list), CADRE_E_FORMAT, "'merges': expected a list");
    struct text_buffer joined = {0};
    cadre_err rc = CADRE_OK;
    j->tables.n_merges = (int64_t)json_array_size(list);
    j->merges = calloc(json_array_size(list) + 1, sizeof *j->merges);
    CHECK(err, j->merges, CADRE_E_MEMORY, "no memory for %lld merges", (long long)j->tables.n_merges);
    json_array_foreach(list, i, entry)
    {
        rc = read_merge(j, entry, &j->merges[i], &joined, err);
        if (rc) {
            error_wrap(err, rc, "'merges': entry %zu", i);
            break;
        }
    }
    text_buffer_free(&joined);
    return rc;
}

/* ---- models ---- */

static cadre_err read_unknown(struct tokenizer_json *j, const json_t *model, cadre_error *err)
{
    struct text_span name;
    TRY(json_get_text(model, "unk_token", "", &name, err));
    if (name.n == 0)
        return CADRE_OK;
    j->tables.unk = find_token(j, name.p, name.n);
    CHECK(err, j->tables.unk >= 0, CADRE_E_FORMAT, "'unk_token': '%.60s' is no token", name.p);
    return CADRE_OK;
}

static cadre_err refuse_given(const json_t *model, const char *key, cadre_error *err)
{
    const json_t *v = json_object_get(model, key);
    bool nothing = !json_is_given(v) || (json_is_string(v) && json_string_length(v) == 0) ||
                   (json_is_number(v) && json_number_value(v) == 0);
    CHECK(err, nothing, CADRE_E_UNSUPPORTED, "'%s' is not supported", key);
    return CADRE_OK;
}

static cadre_err read_bpe(struct tokenizer_json *j, const json_t *model, int64_t n_vocab, cadre_error *err)
{
    j->rules.model = j->steps.bytes && !j->steps.letters ? MODEL_BPE_BYTES : MODEL_BPE_CHARS;
    TRY(refuse_given(model, "continuing_subword_prefix", err));
    TRY(refuse_given(model, "end_of_word_suffix", err));
    TRY(refuse_given(model, "dropout", err));
    TRY(json_get_bool(model, "byte_fallback", false, &j->rules.byte_fallback, err));
    TRY(json_get_bool(model, "fuse_unk", false, &j->rules.fuse_unknown, err));
    TRY(json_get_bool(model, "ignore_merges", false, &j->rules.ignore_merges, err));
    TRY(read_tokens(j, model, n_vocab, err));
    TRY(read_merges(j, model, err));
    return read_unknown(j, model, err);
}

static cadre_err read_unigram(struct tokenizer_json *j, const json_t *model, int64_t n_vocab, cadre_error *err)
{
    int64_t unk;
    j->rules.model = MODEL_UNIGRAM;
    TRY(json_get_bool(model, "byte_fallback", false, &j->rules.byte_fallback, err));
    TRY(read_tokens(j, model, n_vocab, err));
    TRY(json_get_id(model, "unk_id", &unk, err));
    j->tables.unk = (int32_t)unk;
    return unk >= 0 ? check_id(j, unk, "unk_id", err) : CADRE_OK;
}

static cadre_err read_wordpiece(struct tokenizer_json *j, const json_t *model, int64_t n_vocab, cadre_error *err)
{
    j->rules.model = MODEL_WORDPIECE;
    TRY(json_get_text(model, "continuing_subword_prefix", "##", &j->rules.continues, err));
    TRY(json_get_id(model, "max_input_chars_per_word", &j->rules.max_word, err));
    j->rules.max_word = j->rules.max_word < 0 ? 100 : j->rules.max_word;
    TRY(read_tokens(j, model, n_vocab, err));
    return read_unknown(j, model, err);
}

static cadre_err read_model(struct tokenizer_json *j, int64_t n_vocab, cadre_error *err)
{
    static const struct {
        const char *type, *sign; /* a member that only this type has: old files do not say the type */
        cadre_err (*read)(struct tokenizer_json *, const json_t *, int64_t, cadre_error *);
    } models[] = {{"BPE", "merges", read_bpe},
                  {"Unigram", "unk_id", read_unigram},
                  {"WordPiece", "max_input_chars_per_word", read_wordpiece}};
    const json_t *model = json_object_get(j->root, "model");
    struct text_span type;
    CHECK(err, json_is_object(model), CADRE_E_FORMAT, "'model': expected an object");
    TRY(json_get_text(model, "type", "", &type, err));
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        if (type.n ? strcmp(models[i].type, type.p) != 0 : !json_object_get(model, models[i].sign))
            continue;
        cadre_err rc = models[i].read(j, model, n_vocab, err);
        return rc ? error_wrap(err, rc, "model %s", models[i].type) : CADRE_OK;
    }
    return error_set(err, CADRE_E_UNSUPPORTED, "model '%.60s' is not supported; expected BPE, Unigram or WordPiece",
                     type.p);
}

/* ---- tokenizer_config.json ---- */

/* "text" or {"content": "text"}; a name that is no token counts as absent. */
static int32_t config_token(const struct tokenizer_json *j, const char *key, int32_t otherwise)
{
    const json_t *v = json_object_get(j->config, key);
    if (json_is_object(v))
        v = json_object_get(v, "content");
    int32_t id = json_is_string(v) ? find_token(j, json_string_value(v), json_string_length(v)) : -1;
    return id >= 0 ? id : otherwise;
}

static cadre_err read_config(struct tokenizer_json *j, cadre_error *err)
{
    struct tokenizer_tables *t = &j->tables;
    struct json_steps *s = &j->steps;
    t->bos = config_token(j, "bos_token", s->n_before == 1 ? s->before[0] : -1);
    t->eos = config_token(j, "eos_token", s->n_after == 1 ? s->after[0] : -1);
    t->unk = t->unk >= 0 ? t->unk : config_token(j, "unk_token", -1);
    t->pad = config_token(j, "pad_token", -1);
    t->sep = config_token(j, "sep_token", -1);
    t->mask = config_token(j, "mask_token", -1);
    bool adds_bos = s->n_before == 1 && s->before[0] == t->bos, adds_eos = s->n_after == 1 && s->after[0] == t->eos;
    /* Where the configuration says it, the template of tokenizer.json is made anew from it. */
    TRY(json_get_bool(j->config, "add_bos_token", adds_bos, &t->add_bos, err));
    TRY(json_get_bool(j->config, "add_eos_token", adds_eos, &t->add_eos, err));
    if (t->add_bos != adds_bos && t->bos >= 0) {
        s->n_before = t->add_bos;
        s->before[0] = t->bos;
    }
    if (t->add_eos != adds_eos && t->eos >= 0) {
        s->n_after = t->add_eos;
        s->after[0] = t->eos;
    }
    t->add_bos = t->add_bos && t->bos >= 0;
    t->add_eos = t->add_eos && t->eos >= 0;
    return CADRE_OK;
}

/* ---- all ---- */

static cadre_err parse(json_t **out, struct text_span text, size_t flags, const char *what, cadre_error *err)
{
    json_error_t why;
    *out = json_loadb(text.p, text.n, flags | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    CHECK(err, *out, json_error_code(&why) == json_error_out_of_memory ? CADRE_E_MEMORY : CADRE_E_FORMAT,
          "%s: line %d: %s", what, why.line, why.text);
    CHECK(err, json_is_object(*out), CADRE_E_FORMAT, "%s: expected an object", what);
    return CADRE_OK;
}

static cadre_err find_row(struct tokenizer_json *j, cadre_error *err)
{
    struct tokenizer_rules *r = &j->rules;
    if (r->model != MODEL_BPE_BYTES)
        return CADRE_OK;
    TRY(pre_guess(&j->row, r->split, r->n_split, r->ignore_merges, err));
    if (!j->row)
        return CADRE_OK;
    /* Its expressions do the same in linear time. */
    r->n_split = pre_row_steps(j->row, j->row_steps);
    r->split = j->row_steps;
    return CADRE_OK;
}

static cadre_err read_all(struct tokenizer_json *j, struct text_span json, struct text_span config, int64_t n_vocab,
                          cadre_error *err)
{
    TRY(parse(&j->root, json, 0, "tokenizer.json", err));
    if (config.n > 0) /* a model_max_length of 10^30 is usual: no integer */
        TRY(parse(&j->config, config, JSON_DECODE_INT_AS_REAL, "tokenizer_config.json", err));
    tokenizer_set_defaults(&j->tables);
    TRY(json_steps_read(&j->steps, j->root, err));
    TRY(read_model(j, n_vocab, err));
    TRY(read_config(j, err));
    const struct json_steps *s = &j->steps;
    struct tokenizer_rules *r = &j->rules;
    r->normalize = s->normal, r->n_normalize = s->n_normal;
    r->split = s->split, r->n_split = s->n_split;
    r->decode = s->decode;
    r->before = s->before, r->n_before = s->n_before;
    r->after = s->after, r->n_after = s->n_after;
    j->tables.model = "tokenizer.json";
    j->tables.tokens = j->tokens;
    j->tables.kinds = j->kinds;
    j->tables.flags = j->flags;
    j->tables.scores = j->scores;
    j->tables.merges = j->merges;
    j->tables.rules = r;
    return find_row(j, err);
}

cadre_err tokenizer_json_read(struct tokenizer_json **out, struct text_span json, struct text_span config,
                              int64_t n_vocab, cadre_error *err)
{
    struct tokenizer_json *j = calloc(1, sizeof *j);
    CHECK(err, j, CADRE_E_MEMORY, "no memory for a tokenizer");
    cadre_err rc = read_all(j, json, config, n_vocab, err);
    if (rc) {
        tokenizer_json_free(j);
        return rc;
    }
    *out = j;
    return CADRE_OK;
}

void tokenizer_json_free(struct tokenizer_json *j)
{
    if (!j)
        return;
    json_decref(j->root);
    json_decref(j->config);
    text_keep_free(&j->steps.keep);
    free(j->tokens);
    free(j->merges);
    free(j->kinds);
    free(j->scores);
    free(j->flags);
    free(j->named_tokens);
    free(j->named_scores);
    free(j);
}

const struct tokenizer_tables *tokenizer_json_tables(const struct tokenizer_json *j)
{
    return &j->tables;
}
