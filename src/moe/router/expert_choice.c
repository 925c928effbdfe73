/* Experts choose tokens (Zhou et al. 2022, §3.2): with S = softmax(logits) each expert takes the n k / E tokens that
 * like it best, so that every expert is exactly full and a token gets as many experts as want it. Whom an expert takes
 * depends on every token of the batch, later ones too: a rule for training only. */
#include <stdlib.h>
#include <string.h>

#include "moe/router.h"

struct candidate {
    real score;
    int32_t token;
};

/* Larger scores first, equal ones by token; NaN last. */
static int by_score(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    bool before = x->score > y->score || (x->score == x->score && y->score != y->score);
    bool after = y->score > x->score || (y->score == y->score && x->score != x->score);
    return before || after ? after - before : (x->token > y->token) - (x->token < y->token);
}

static int slots(const struct router_config *cfg, bool training)
{
    return training ? cfg->n_expert : cfg->k;
}

/* taken[t, e] = 1 for the `room` best tokens of every expert. */
static void take(const real *score, int64_t n, int64_t n_expert, int64_t room, struct candidate *list, char *taken)
{
    memset(taken, 0, (size_t)(n * n_expert));
    for (int64_t e = 0; e < n_expert; e++) {
        for (int64_t t = 0; t < n; t++)
            list[t] = (struct candidate){score[t * n_expert + e], (int32_t)t};
        qsort(list, (size_t)n, sizeof *list, by_score);
        for (int64_t i = 0; i < room && i < n; i++)
            taken[list[i].token * n_expert + e] = 1;
    }
}

static void choose(struct op_ctx *c, const struct router_config *cfg, const struct route_in *in, struct routing *out)
{
    int64_t n = tensor_rows(in->logits), n_expert = cfg->n_expert;
    out->logits = in->logits;
    out->score = op_softmax(c, in->logits);
    out->id = op_topk(c, out->score, NULL, out->k, NULL);
    size_t mark = arena_mark(c->arena);
    struct candidate *list = arena_alloc(c->arena, (size_t)n * sizeof *list);
    char *taken = arena_alloc(c->arena, (size_t)(n * n_expert));
    if (!c->dry)
        take(out->score->x, n, n_expert, (n * cfg->k + n_expert - 1) / n_expert, list, taken);
    for (int64_t t = 0; !c->dry && t < n; t++) {
        int32_t *id = out->id + t * out->k;
        int kept = 0;
        for (int j = 0; j < out->k; j++)
            if (taken[t * n_expert + id[j]])
                id[kept++] = id[j];
        for (; kept < out->k; kept++)
            id[kept] = -1;
    }
    arena_reset(c->arena, mark);
}

const struct router router_expert_choice = {.name = "expert_choice",
                                            .train_only = true,
                                            .whole_sequence = true,
                                            .slots = slots,
                                            .choose = choose,
                                            .weigh = router_weigh_scores};
