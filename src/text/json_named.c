/* A tokenizer.json told in the names of GGUF. */
#include <stdlib.h>
#include <string.h>

#include "text/pre_guess.h"
#include "text/text_index.h"
#include "text/tokenizer_json_internal.h"

static const char mark[] = "\xe2\x96\x81";

static bool is_text(struct text_span s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* The steps without the one that writes bytes as letters: rows of the table have none. */
static cadre_err name_cuts(struct tokenizer_json *j, cadre_error *err)
{
    struct split_step steps[JSON_MAX_STEPS];
    int n = 0;
    if (j->row)
        return CADRE_OK;
    for (int i = 0; i < j->steps.n_split; i++)
        if (j->steps.split[i].kind != SPLIT_TO_ALPHABET)
            steps[n++] = j->steps.split[i];
    TRY(pre_guess(&j->row, steps, n, j->rules.ignore_merges, err));
    CHECK(err, j->row, CADRE_E_UNSUPPORTED,
          "the pre-tokenizer of tokenizer.json cuts like none that GGUF has a name for (tokenizer.ggml.pre)");
    return CADRE_OK;
}

static cadre_err name_byte_level(struct tokenizer_json *j, const char **lossy, cadre_error *err)
{
    TRY(name_cuts(j, err));
    for (int i = 0; i < j->steps.n_normal; i++) {
        CHECK(err, j->steps.normal[i].kind <= NORMAL_NFKD, CADRE_E_UNSUPPORTED,
              "GGUF has no name for the normalizer of this tokenizer.json");
        *lossy = "texts are not brought into a Unicode normal form, as tokenizer.json asks";
    }
    j->named.model = "gpt2";
    j->named.pre = j->row->name;
    return CADRE_OK;
}

/* A token with a "▁" after another character: words are not apart. */
static bool any_crosses(const struct tokenizer_json *j)
{
    for (int64_t i = 0; i < j->tables.n_tokens; i++) {
        const struct text_span *s = &j->tokens[i];
        for (uint64_t k = 1; j->kinds[i] == TOKEN_NORMAL && k + 3 <= s->n; k++)
            if (memcmp(s->p + k, mark, 3) == 0 && (k < 3 || memcmp(s->p + k - 3, mark, 3) != 0))
                return true;
    }
    return false;
}

/* Blanks written as "▁", perhaps one before a text: by normalizers or by a Metaspace. */
static bool marks_blanks(const struct tokenizer_json *j, bool *prefix, const char **lossy)
{
    const struct json_steps *s = &j->steps;
    int i = 0, k = 0;
    *prefix = i < s->n_normal && s->normal[i].kind == NORMAL_PREPEND && is_text(s->normal[i].content, mark);
    i += *prefix;
    if (i < s->n_normal && s->normal[i].kind == NORMAL_REPLACE && !s->normal[i].regex &&
        is_text(s->normal[i].pattern, " ") && is_text(s->normal[i].content, mark)) {
        /* No blank is left to split at. */
        k += s->n_split == 1 && s->split[0].kind == SPLIT_PATTERN && is_text(s->split[0].pattern, " ");
        return i + 1 == s->n_normal && k == s->n_split;
    }
    if (s->n_normal != 0 || s->n_split == 0 || s->split[0].kind != SPLIT_MARK_BLANKS ||
        !is_text(s->split[0].content, mark))
        return false;
    *prefix = s->split[0].prepend != PREPEND_NEVER;
    if (s->split[0].prepend == PREPEND_FIRST)
        *lossy =
            "a blank is put before the text after a special token, where tokenizer.json puts it before the first only";
    return s->n_split == 1 || (s->n_split == 2 && is_text(s->split[1].pattern, mark) &&
                               s->split[1].how == SPLIT_WITH_NEXT && !any_crosses(j));
}

/* The score of a token is the rank of the first merge that makes it. */
static cadre_err score_merges(struct tokenizer_json *j, const struct text_index *index, cadre_error *err)
{
    struct text_buffer joined = {0};
    cadre_err rc = CADRE_OK;
    for (int64_t i = j->tables.n_merges - 1; i >= 0 && rc == CADRE_OK; i--) {
        const struct text_span m = j->merges[i];
        const char *blank = m.n > 1 ? memchr(m.p + 1, ' ', m.n - 1) : NULL;
        if (!blank)
            continue;
        joined.n = 0;
        rc = text_buffer_add(&joined, m.p, (size_t)(blank - m.p), err);
        if (rc == CADRE_OK)
            rc = text_buffer_add(&joined, blank + 1, (size_t)(m.p + m.n - blank - 1), err);
        int32_t id = rc ? -1 : text_index_find(index, j->tokens, joined.p, joined.n);
        if (id >= 0)
            j->named_scores[id] = -(float)(i + 1);
    }
    text_buffer_free(&joined);
    return rc;
}

static cadre_err name_sentencepiece(struct tokenizer_json *j, const char **lossy, cadre_error *err)
{
    bool prefix = false;
    CHECK(err, j->rules.byte_fallback && !j->rules.ignore_merges && marks_blanks(j, &prefix, lossy),
          CADRE_E_UNSUPPORTED, "GGUF has no name for what this tokenizer.json does to texts before merging characters");
    struct text_index index = {0};
    cadre_err rc = CADRE_OK;
    j->named_scores = calloc((size_t)j->tables.n_tokens, sizeof *j->named_scores);
    CHECK(err, j->named_scores, CADRE_E_MEMORY, "no memory for %lld scores", (long long)j->tables.n_tokens);
    TRY_OUT(text_index_init(&index, j->tables.n_tokens, err));
    for (int64_t i = 0; i < j->tables.n_tokens; i++)
        text_index_add(&index, j->tokens, (int32_t)i);
    TRY_OUT(score_merges(j, &index, err));
    j->named.model = "llama";
    j->named.pre = "default";
    j->named.scores = j->named_scores;
    j->named.add_space_prefix = prefix;
out:
    text_index_free(&index);
    return rc;
}

cadre_err tokenizer_json_named(struct tokenizer_json *j, const struct tokenizer_tables **out, const char **lossy,
                               cadre_error *err)
{
    const char *lost = NULL;
    const struct json_steps *s = &j->steps;
    free(j->named_scores);
    j->named_scores = NULL;
    j->named = j->tables;
    j->named.rules = NULL;
    j->named.flags = NULL;
    bool bos = s->n_before == 1 && s->before[0] == j->tables.bos, eos = s->n_after == 1 && s->after[0] == j->tables.eos;
    CHECK(err, (bos || s->n_before == 0) && (eos || s->n_after == 0), CADRE_E_UNSUPPORTED,
          "GGUF has no name for the tokens that this tokenizer.json puts around a text");
    CHECK(err, j->rules.model == MODEL_BPE_BYTES || j->rules.model == MODEL_BPE_CHARS, CADRE_E_UNSUPPORTED,
          "unigram and WordPiece vocabularies of a tokenizer.json cannot be written as GGUF yet");
    TRY(s->bytes ? name_byte_level(j, &lost, err) : name_sentencepiece(j, &lost, err));
    for (int64_t i = 0; i < j->tables.n_tokens && !lost; i++)
        if (j->flags[i] & (TOKEN_TAKES_LEFT | TOKEN_TAKES_RIGHT | TOKEN_WHOLE_WORD))
            lost = "added tokens do not take white space beside them, as tokenizer.json asks for some";
    if (lossy)
        *lossy = lost;
    *out = &j->named;
    return CADRE_OK;
}
