/* Prompt lookup (Saxena 2023): the last tokens are looked up in the text, and what followed them there is the draft.
 * The longest match of 4, 3, 2 or 1 tokens wins, and of equals the latest. A table for each length says where a hash of
 * so many tokens was followed last; the tokens themselves are compared, so a collision costs a match and nothing else.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/drafter.h"

enum { LONGEST = 4 };

struct ngram {
    size_t slots;      /* a power of two */
    int32_t *follows;  /* [LONGEST][slots] position of what followed; 0: nothing has this hash */
    int64_t n_indexed; /* tokens whose predecessors are in the tables */
};

static cadre_err open(void **self, const struct draft_setup *s, cadre_error *err)
{
    struct ngram *g = calloc(1, sizeof *g);
    CHECK(err, g, CADRE_E_MEMORY, "no memory for a drafter");
    for (g->slots = 64; (int64_t)g->slots < 2 * s->so.n_ctx && g->slots < (size_t)1 << 20;)
        g->slots *= 2;
    g->follows = calloc(LONGEST * g->slots, sizeof *g->follows);
    if (!g->follows) {
        free(g);
        return error_set(err, CADRE_E_MEMORY, "no memory for a drafter");
    }
    *self = g;
    return CADRE_OK;
}

static void close(void *self)
{
    struct ngram *g = self;
    if (g)
        free(g->follows);
    free(g);
}

static void begin(void *self, uint64_t seed)
{
    struct ngram *g = self;
    (void)seed;
    memset(g->follows, 0, LONGEST * g->slots * sizeof *g->follows);
    g->n_indexed = 0;
}

static double cost(const void *self)
{
    (void)self;
    return 0;
}

static int32_t *slot(const struct ngram *g, const int32_t *token, int n)
{
    uint64_t h = 0;
    for (int i = 0; i < n; i++)
        h = (h ^ (uint32_t)token[i]) * 0x9e3779b97f4a7c15u;
    return &g->follows[(size_t)(n - 1) * g->slots + (h >> 32 & (g->slots - 1))];
}

static cadre_err propose(void *self, const struct draft_text *text, int max, struct draft *out, cadre_error *err)
{
    struct ngram *g = self;
    const int32_t *token = text->token;
    (void)err;
    for (; g->n_indexed < text->n; g->n_indexed++)
        for (int n = 1; n <= LONGEST && n <= g->n_indexed; n++)
            *slot(g, token + g->n_indexed - n, n) = (int32_t)g->n_indexed;
    out->n = 0;
    out->drawn = false;
    for (int n = LONGEST; n >= 1 && !out->n; n--) {
        if (n >= text->n)
            continue;
        int64_t at = *slot(g, token + text->n - n, n);
        if (at < n || memcmp(token + at - n, token + text->n - n, (size_t)n * sizeof *token) != 0)
            continue;
        out->n = max;
        out->kind = n - 1;
        for (int i = 0; i < max; i++) /* past the end of the text the draft repeats itself */
            out->token[i] = at + i < text->n ? token[at + i] : out->token[at + i - text->n];
    }
    return CADRE_OK;
}

static void accept(void *self, int n)
{
    (void)self, (void)n;
}

static uint64_t bytes(const void *self)
{
    const struct ngram *g = self;
    return LONGEST * g->slots * sizeof *g->follows;
}

const struct drafter drafter_ngram = {
    .name = "ngram",
    .open = open,
    .close = close,
    .begin = begin,
    .cost = cost,
    .propose = propose,
    .accept = accept,
    .bytes = bytes,
};
