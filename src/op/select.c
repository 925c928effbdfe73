/* Top-k of rows, with the groups of node-limited routing. Scores have a total order (larger first, equal ones by lower
 * id, NaN behind everything), so that the choice is the same on every machine. */
#include "op/op.h"

#include <assert.h>
#include <math.h>
#include <string.h>

struct topk {
    const real *score, *bias; /* bias: NULL or [n_expert] */
    int64_t n_expert, k;
    const struct topk_groups *groups; /* NULL: no groups */
    real *group_score;                /* [rows, groups->n] */
    int32_t *id;                      /* [rows, k] */
};

static bool before(real a, int64_t a_id, real b, int64_t b_id)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b) ? a_id < b_id : !isnan(a);
    return a > b || (a == b && a_id < b_id);
}

static real biased(const struct topk *t, const real *score, int64_t e)
{
    return t->bias ? score[e] + t->bias[e] : score[e];
}

/* Σ of the `best` largest scores of expert from … to, in falling order: each turn takes the first one that comes after
 * the one before. */
static real group_score(const struct topk *t, const real *score, int64_t from, int64_t to)
{
    real sum = 0, last_score = 0;
    int64_t last = -1;
    for (int b = 0; b < t->groups->best; b++) {
        int64_t next = -1;
        real next_score = 0;
        for (int64_t e = from; e < to; e++) {
            real s = biased(t, score, e);
            if (last >= 0 && !before(last_score, last, s, e))
                continue;
            if (next < 0 || before(s, e, next_score, next)) {
                next = e;
                next_score = s;
            }
        }
        sum += next_score;
        last = next;
        last_score = next_score;
    }
    return sum;
}

/* A group is eligible when fewer than `used` groups come before it. */
static bool eligible(const struct topk *t, const real *scores, int group)
{
    int ahead = 0;
    for (int g = 0; g < t->groups->n; g++)
        ahead += g != group && before(scores[g], g, scores[group], group);
    return ahead < t->groups->used;
}

/* An expert goes before one of a lower id only if its score is truly larger. */
static bool overtakes(real later, real earlier)
{
    return later > earlier || (isnan(earlier) && !isnan(later));
}

/* Put the experts from … to, which come after those in it, into the sorted list id[0 … n): returns its new length, at
 * most k. */
static int64_t insert_range(const struct topk *t, const real *score, int64_t from, int64_t to, int32_t *id, int64_t n)
{
    real last = n ? biased(t, score, id[n - 1]) : 0;
    for (int64_t e = from; e < to; e++) {
        real s = biased(t, score, e);
        if (n == t->k && !overtakes(s, last))
            continue;
        int64_t at = n < t->k ? n++ : n - 1;
        for (; at > 0 && overtakes(s, biased(t, score, id[at - 1])); at--)
            id[at] = id[at - 1];
        id[at] = (int32_t)e;
        last = biased(t, score, id[n - 1]);
    }
    return n;
}

static void topk_rows(void *arg, int64_t from, int64_t to)
{
    const struct topk *t = arg;
    int n_groups = t->groups ? t->groups->n : 1;
    int64_t size = t->n_expert / n_groups;
    for (int64_t i = from; i < to; i++) {
        const real *score = t->score + i * t->n_expert;
        real *group = t->group_score + i * n_groups;
        int64_t n = 0;
        for (int g = 0; t->groups && g < n_groups; g++)
            group[g] = group_score(t, score, g * size, (g + 1) * size);
        for (int g = 0; g < n_groups; g++)
            if (!t->groups || eligible(t, group, g))
                n = insert_range(t, score, g * size, (g + 1) * size, t->id + i * t->k, n);
        assert(n == t->k);
    }
}

int32_t *op_topk(struct op_ctx *c, const struct tensor *score, const real *bias, int64_t k,
                 const struct topk_groups *groups)
{
    int64_t rows = tensor_rows(score), n_expert = tensor_cols(score);
    if (groups && groups->n == 0)
        groups = NULL;
    assert(k >= 1 && k <= n_expert);
    assert(!groups || (n_expert % groups->n == 0 && groups->used <= groups->n && groups->best >= 1 &&
                       groups->best <= n_expert / groups->n && k <= n_expert / groups->n * groups->used));
    int32_t *id = op_struct(c, (size_t)(rows * k) * sizeof *id);
    size_t mark = arena_mark(c->arena);
    struct topk job = {score->x, bias, n_expert, k, groups, NULL, id};
    job.group_score = arena_alloc(c->arena, (size_t)(rows * (groups ? groups->n : 1)) * sizeof(real));
    if (c->dry)
        memset(id, 0, (size_t)(rows * k) * sizeof *id);
    op_rows_run(c, rows, n_expert * k, topk_rows, &job);
    arena_reset(c->arena, mark);
    return id;
}
