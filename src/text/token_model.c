#include "text/token_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

const struct token_model *token_model_of(enum model_kind kind)
{
    static const struct token_model *const rows[] = {
        [MODEL_BPE_BYTES] = &model_bpe_bytes,   [MODEL_BPE_CHARS] = &model_bpe_chars,
        [MODEL_BPE_SCORES] = &model_bpe_scores, [MODEL_UNIGRAM] = &model_unigram,
        [MODEL_WORDPIECE] = &model_wordpiece,
    };
    return rows[kind];
}

cadre_err token_ids_reserve(struct token_ids *ids, size_t more, cadre_error *err)
{
    if (more <= ids->capacity - ids->n)
        return CADRE_OK;
    uint64_t need, bytes;
    CHECK(err, add_ok(ids->capacity + ids->capacity / 2, more, &need) && mul_ok(need, sizeof *ids->p, &bytes),
          CADRE_E_ARG, "the text is too long: more than %zu tokens", ids->n);
    int32_t *p = realloc(ids->p, bytes);
    CHECK(err, p, CADRE_E_MEMORY, "no memory for %llu tokens", (unsigned long long)need);
    ids->p = p;
    ids->capacity = need;
    return CADRE_OK;
}

cadre_err token_ids_put(struct token_ids *ids, const int32_t *p, size_t n, cadre_error *err)
{
    TRY(token_ids_reserve(ids, n, err));
    if (n > 0)
        memcpy(ids->p + ids->n, p, n * sizeof *p);
    ids->n += n;
    return CADRE_OK;
}

int32_t vocabulary_find(const struct vocabulary *v, const char *p, size_t n)
{
    return text_index_find(v->texts, v->tables->tokens, p, n);
}

void model_work_free(struct model_work *w)
{
    bpe_work_free(&w->bpe);
    free(w->cells);
    free(w->word);
}
