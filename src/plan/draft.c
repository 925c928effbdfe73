#include "plan/draft.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- how often drafts are right ---- */

/* A test's weight falls to a third after about 1 / (1 - FADE) later ones. */
static const double PRIOR_TESTS = 2, FADE = 0.97;

double draft_chance(const struct draft_chance *c)
{
    return (c->right + c->prior * PRIOR_TESTS) / (c->tested + PRIOR_TESTS);
}

void draft_chance_saw(struct draft_chance *c, int accepted, bool then_wrong)
{
    for (int i = 0; i < accepted + then_wrong; i++) {
        c->right = FADE * c->right + (i < accepted);
        c->tested = FADE * c->tested + 1;
    }
}

double draft_expected_tokens(double a, int d)
{
    double sum = 1, power = 1;
    for (int i = 0; i < d; i++)
        sum += power *= a;
    return sum;
}

/* ---- what a pass reads ---- */

/* Tokens that the even union counts as, and how fast windows fade. */
static const double PRIOR_WINDOWS = 4, WINDOW_FADE = 0.98;

double draft_even_union(int n_expert, double k, int n)
{
    return n_expert > 0 ? n_expert * (1 - pow(1 - k / n_expert, n)) : 0;
}

void draft_reads_init(struct draft_reads *r, int n_layer, int n_expert, int rows, const double *bytes, int64_t *last,
                      const double *k)
{
    assert(rows >= 1 && rows <= DRAFT_ROWS);
    *r = (struct draft_reads){.n_layer = n_layer, .n_expert = n_expert, .rows = rows, .bytes = bytes, .last = last};
    for (int l = 0; l < n_layer; l++) {
        double sum = 0;
        for (int e = 0; e < n_expert; e++)
            sum += bytes[(int64_t)l * n_expert + e];
        for (int n = 1; n <= rows; n++)
            r->prior[n] += n_expert ? sum / n_expert * draft_even_union(n_expert, k[l], n) : 0;
    }
    draft_reads_begin(r);
}

void draft_reads_begin(struct draft_reads *r)
{
    for (int n = 1; n <= r->rows; n++) {
        r->mean[n] = r->prior[n];
        r->weight[n] = PRIOR_WINDOWS;
    }
    memset(r->last, 0, (size_t)r->n_layer * (size_t)r->n_expert * sizeof *r->last);
    r->n = 0;
}

/* An expert that was last chosen `age` tokens ago is in every window longer than that: one pass over the experts gives
 * the unions of all windows. */
void draft_reads_add(struct draft_reads *r, const int32_t *id, int64_t stride, int slots)
{
    double of_age[DRAFT_ROWS] = {0}, sum = 0;
    int64_t now = ++r->n;
    for (int l = 0; l < r->n_layer; l++) {
        int64_t *last = r->last + (int64_t)l * r->n_expert;
        const double *bytes = r->bytes + (int64_t)l * r->n_expert;
        for (int i = 0; i < slots; i++) {
            int32_t e = id[l * stride + i];
            if (e >= 0)
                last[e] = now;
        }
        for (int e = 0; e < r->n_expert; e++)
            if (last[e] > 0 && now - last[e] < r->rows)
                of_age[now - last[e]] += bytes[e];
    }
    for (int n = 1; n <= r->rows && n <= now; n++) {
        sum += of_age[n - 1];
        r->weight[n] = WINDOW_FADE * r->weight[n] + 1;
        r->mean[n] += (sum - r->mean[n]) / r->weight[n];
    }
}

/* ---- the length ---- */

/* With `again`, a wrong token at place i (chance a^i (1 - a)) leaves i + 1 tokens that the next pass takes once more
 * than it had to. */
double draft_pass_cost(const struct draft_cost *c, double a, int d)
{
    int n = c->pending + d;
    double cost = c->dense + c->expert[n] + c->row * n + c->draft * d, reach = 1;
    for (int i = 0; c->again && i < d; i++, reach *= a)
        cost += reach * (1 - a) * (c->expert[c->pending + i + 1] - c->expert[1] + c->row * (c->pending + i));
    return cost;
}

static const double LEAST_GAIN = 1.05;

int draft_length(const struct draft_cost *c, double a, int most)
{
    int best = 0;
    double none = 1 / draft_pass_cost(c, a, 0), best_value = none;
    for (int d = 1; d <= most; d++) {
        double value = draft_expected_tokens(a, d) / draft_pass_cost(c, a, d);
        if (value > best_value) {
            best = d;
            best_value = value;
        }
    }
    return best_value >= LEAST_GAIN * none ? best : 0;
}
