/* The tokenizer: tables checked once and turned into lookups.
 *
 *     text ─special tokens─▶ stretches ─normalizer─▶ text ─pre-tokenizer─▶ words ─model─▶ ids        encode.c
 *     ids ─▶ pieces ─▶ text
 *
 * What the steps are, `struct tokenizer_rules` says, by names or spelt out. */
#include "text/tokenizer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "text/pieces.h"
#include "text/rules_names.h"
#include "text/tokenizer_internal.h"

/* Names under which vocabularies keep what ends a turn or a text. Files forget to mark them, or mark them as
 * user-defined: a token of such a name is a control token, and generation stops at it. Where rules come with the tables
 * nothing was forgotten: a normal token of such a name is text. */
static const char *const end_names[] = {
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|return|>",
    "<|call|>",
    "<|calls|>",
    "<|flush|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|EOT|>",
    "<|end|>",
    "<eos>",
    "<turn|>",
    "[e~[",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
};
enum { N_END_NAMES = sizeof end_names / sizeof *end_names };
_Static_assert(sizeof end_names / sizeof *end_names <= (size_t)MAX_ENDS, "all ends must have room");

/* Shape of the tables: nothing is read through them before this has passed. */
static cadre_err check_tables(const struct tokenizer_tables *t, cadre_error *err)
{
    CHECK(err, t && t->model, CADRE_E_FORMAT, "the vocabulary names no tokenizer model");
    CHECK(err, t->n_tokens > 0 && t->n_tokens < INT32_MAX && t->tokens, CADRE_E_FORMAT,
          "a vocabulary of %lld tokens; expected 1 to %d", (long long)t->n_tokens, INT32_MAX - 1);
    CHECK(err, t->n_merges >= 0 && t->n_merges < INT32_MAX && (t->merges || t->n_merges == 0), CADRE_E_FORMAT,
          "%lld merges; expected 0 to %d", (long long)t->n_merges, INT32_MAX - 1);
    uint64_t bytes = 0;
    for (int64_t i = 0; i < t->n_tokens; i++) {
        CHECK(err, add_ok(bytes, t->tokens[i].n, &bytes) && bytes < SIZE_MAX / 2, CADRE_E_FORMAT,
              "the token texts are too long in all (at token %lld)", (long long)i);
        CHECK(err, t->tokens[i].p || t->tokens[i].n == 0, CADRE_E_FORMAT, "token %lld has no text", (long long)i);
        CHECK(err, !t->kinds || (t->kinds[i] >= TOKEN_NORMAL && t->kinds[i] <= TOKEN_BYTE), CADRE_E_FORMAT,
              "token %lld is of kind %d; expected %d to %d", (long long)i, t->kinds[i], TOKEN_NORMAL, TOKEN_BYTE);
        CHECK(err, !t->scores || isfinite(t->scores[i]), CADRE_E_FORMAT, "token %lld has a score that is no number",
              (long long)i);
    }
    const struct {
        const char *name;
        int32_t id;
        bool added;
    } named[] = {
        {"BOS", t->bos, t->add_bos}, {"EOS", t->eos, t->add_eos}, {"EOT", t->eot, false},     {"EOM", t->eom, false},
        {"unknown", t->unk, false},  {"SEP", t->sep, t->add_sep}, {"padding", t->pad, false}, {"mask", t->mask, false},
    };
    for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
        CHECK(err, named[i].id >= -1 && named[i].id < t->n_tokens, CADRE_E_FORMAT,
              "the %s token has id %d; expected -1 (none) to %lld", named[i].name, named[i].id,
              (long long)t->n_tokens - 1);
        CHECK(err, !named[i].added || named[i].id >= 0, CADRE_E_FORMAT,
              "%s is to be added, but the vocabulary has no %s token", named[i].name, named[i].name);
    }
    return CADRE_OK;
}

static cadre_err check_rules(const struct tokenizer_rules *r, int64_t n_tokens, cadre_error *err)
{
    CHECK(err, r->n_before <= MAX_AROUND && r->n_after <= MAX_AROUND, CADRE_E_UNSUPPORTED,
          "%d and %d tokens around a text; expected at most %d", r->n_before, r->n_after, MAX_AROUND);
    for (int i = 0; i < r->n_before + r->n_after; i++) {
        int32_t id = i < r->n_before ? r->before[i] : r->after[i - r->n_before];
        CHECK(err, id >= 0 && id < n_tokens, CADRE_E_FORMAT, "a token that is put around texts has id %d", id);
    }
    return CADRE_OK;
}

static int32_t id_of(const struct text_index *texts, const struct text_span *tokens, const char *name)
{
    return text_index_find(texts, tokens, name, strlen(name));
}

static void find_ends(struct tokenizer *t, const struct tokenizer_tables *from, const struct text_index *texts)
{
    /* Where <|return|> ends a text, <|end|> only ends one of its channels. */
    bool channels = id_of(texts, from->tokens, "<|return|>") >= 0 || id_of(texts, from->tokens, "<|flush|>") >= 0;
    for (int i = 0; i < N_END_NAMES; i++) {
        int32_t id = id_of(texts, from->tokens, end_names[i]);
        if (id < 0 || (from->rules && t->kind[id] == TOKEN_NORMAL))
            continue;
        t->kind[id] = TOKEN_CONTROL;
        if (!channels || strcmp(end_names[i], "<|end|>") != 0)
            t->ends[t->n_ends++] = id;
    }
}

/* The tokens that are looked for in normalized text are normalized themselves. */
static cadre_err normalized_specials(struct tokenizer *t, const unsigned char *flags, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    struct text_keep keep = {0};
    struct normalizer_work work = {0};
    struct regex_match *match = NULL;
    struct text_span *texts = calloc((size_t)t->n, sizeof *texts);
    CHECK(err, texts, CADRE_E_MEMORY, "no memory for added tokens");
    TRY_OUT(regex_match_new(&match, err));
    for (int64_t i = 0; i < t->n; i++) {
        if (!(flags[i] & TOKEN_NORMALIZED))
            continue;
        const char *p = t->piece[i].p;
        size_t n = t->piece[i].n;
        if (t->normalizer)
            TRY_OUT(normalizer_run(t->normalizer, &work, match, p, n, &p, &n, err));
        TRY_OUT(text_keep_copy(&keep, p, n, &texts[i].p, err));
        texts[i].n = n;
    }
    TRY_OUT(special_tokens_init(&t->normalized, texts, t->kind, flags, t->n, true, err));
out:
    free(texts);
    normalizer_work_free(&work);
    regex_match_free(match);
    text_keep_free(&keep);
    return rc;
}

static cadre_err build_parts(struct tokenizer *t, const struct tokenizer_tables *from,
                             const struct tokenizer_rules *rules, struct text_index *texts, cadre_error *err)
{
    if (rules->n_normalize > 0)
        TRY(normalizer_new(&t->normalizer, rules->normalize, rules->n_normalize, err));
    TRY(pretokenizer_new(&t->pre, rules->split, rules->n_split, err));
    TRY(text_index_init(texts, t->n, err));
    for (int64_t i = 0; i < t->n; i++)
        CHECK(err, text_index_add(texts, from->tokens, (int32_t)i), CADRE_E_FORMAT,
              "token %lld ('%.*s') is in the vocabulary twice", (long long)i,
              (int)min_i64((int64_t)from->tokens[i].n, 80), from->tokens[i].p ? from->tokens[i].p : "");
    t->kind = malloc((uint32_t)t->n);
    CHECK(err, t->kind, CADRE_E_MEMORY, "no memory for %lld tokens", (long long)t->n);
    for (int64_t i = 0; i < t->n; i++)
        t->kind[i] = (unsigned char)(from->kinds ? from->kinds[i] : TOKEN_NORMAL);
    TRY(pieces_new(&t->text, &t->piece, from, &rules->decode, t->kind, err));
    find_ends(t, from, texts);
    TRY(special_tokens_init(&t->specials, t->piece, t->kind, from->flags, t->n, false, err));
    if (from->flags)
        TRY(normalized_specials(t, from->flags, err));
    struct vocabulary v = {from, rules, texts, t->piece, t->kind};
    t->model = token_model_of(rules->model);
    TRY(t->model->build(&t->model_data, &v, err));
    t->joins = t->model->joins ? t->model->joins(t->model_data) : NULL;
    return CADRE_OK;
}

static cadre_err build(struct tokenizer *t, const struct tokenizer_tables *from, cadre_error *err)
{
    struct named_rules named;
    const struct tokenizer_rules *rules = from->rules;
    if (!rules) {
        TRY(rules_of_names(&named, from, err));
        rules = &named.rules;
    }
    TRY(check_rules(rules, from->n_tokens, err));
    t->n = from->n_tokens;
    t->bos = from->bos, t->eos = from->eos, t->eot = from->eot, t->eom = from->eom;
    t->n_before = rules->n_before, t->n_after = rules->n_after;
    for (int i = 0; i < t->n_before; i++)
        t->before[i] = rules->before[i];
    for (int i = 0; i < t->n_after; i++)
        t->after[i] = rules->after[i];
    t->strip_left = rules->decode.strip_left;
    struct text_index texts = {0};
    cadre_err rc = build_parts(t, from, rules, &texts, err);
    text_index_free(&texts);
    return rc;
}

cadre_err tokenizer_new(struct tokenizer **out, const struct tokenizer_tables *tables, cadre_error *err)
{
    TRY(check_tables(tables, err));
    struct tokenizer *t = calloc(1, sizeof *t);
    CHECK(err, t, CADRE_E_MEMORY, "no memory for a tokenizer");
    cadre_err rc = build(t, tables, err);
    if (rc) {
        tokenizer_free(t);
        return rc;
    }
    *out = t;
    return CADRE_OK;
}

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    if (t->model_data)
        t->model->free(t->model_data);
    pretokenizer_free(t->pre);
    normalizer_free(t->normalizer);
    special_tokens_free(&t->specials);
    special_tokens_free(&t->normalized);
    free(t->text);
    free(t->piece);
    free(t->kind);
    free(t);
}

int64_t tokenizer_size(const struct tokenizer *t)
{
    return t->n;
}

int32_t tokenizer_bos(const struct tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const struct tokenizer *t)
{
    return t->eos;
}

bool tokenizer_is_end(const struct tokenizer *t, int32_t id)
{
    if (id < 0)
        return false;
    for (int i = 0; i < t->n_ends; i++)
        if (id == t->ends[i])
            return true;
    return id == t->eos || id == t->eot || id == t->eom;
}

size_t tokenizer_piece(const struct tokenizer *t, int32_t id, bool special, const char **p)
{
    *p = "";
    if (id < 0 || id >= t->n)
        return 0;
    if (!special && (t->kind[id] == TOKEN_CONTROL || t->kind[id] == TOKEN_UNKNOWN))
        return 0;
    *p = t->piece[id].p;
    return t->piece[id].n;
}

int tokenizer_leading_blanks(const struct tokenizer *t)
{
    return t->strip_left;
}

cadre_err tokenizer_decode(const struct tokenizer *t, const int32_t *ids, size_t n_ids, bool special, char **text,
                           size_t *n, cadre_error *err)
{
    cadre_err rc = CADRE_OK;
    struct text_buffer b = {0};
    int strip = t->strip_left;
    for (size_t i = 0; i < n_ids; i++) {
        const char *p;
        CHECK_OUT(err, ids[i] >= 0 && ids[i] < t->n, CADRE_E_ARG, "token %zu: expected an id from 0 to %lld, found %d",
                  i, (long long)t->n - 1, ids[i]);
        size_t len = tokenizer_piece(t, ids[i], special, &p);
        for (; strip > 0 && len > 0 && *p == ' '; strip--)
            p++, len--;
        strip = len > 0 ? 0 : strip;
        TRY_OUT(text_buffer_add(&b, p, len, err));
    }
    TRY_OUT(text_buffer_add(&b, "", 1, err));
    *text = b.p;
    *n = b.n - 1;
    return CADRE_OK;
out:
    text_buffer_free(&b);
    return rc;
}
