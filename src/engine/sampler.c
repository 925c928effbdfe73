#include "engine/sampler.h"

#include <math.h>
#include <stdlib.h>

cadre_err sampling_check(const struct sampling *s, cadre_error *err)
{
    CHECK(err, isfinite(s->temperature) && s->temperature >= 0, CADRE_E_ARG,
          "temperature: expected a number of at least 0, found %g", s->temperature);
    CHECK(err, s->top_k >= 0, CADRE_E_ARG, "top-k: expected at least 0 (off), found %d", s->top_k);
    CHECK(err, s->top_p > 0 && s->top_p <= 1, CADRE_E_ARG, "top-p: expected more than 0 and at most 1, found %g",
          s->top_p);
    CHECK(err, s->min_p >= 0 && s->min_p <= 1, CADRE_E_ARG, "min-p: expected 0 to 1, found %g", s->min_p);
    return CADRE_OK;
}

static int32_t largest(const real *logits, int64_t n)
{
    int32_t best = -1;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best]))
            best = (int32_t)i;
    return best;
}

/* Falling value, then rising id: one order for every run and library. */
static int by_value(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p) - (x->p > y->p) : (x->id > y->id) - (x->id < y->id);
}

int32_t sample(const struct sampling *s, struct rng *rng, const real *logits, int64_t n, struct candidate *c)
{
    int32_t best = largest(logits, n);
    if (s->temperature == 0 || best < 0 || !isfinite(logits[best]))
        return best;
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(logits[i]))
            c[m++] = (struct candidate){(int32_t)i, (float)logits[i]};
    qsort(c, (size_t)m, sizeof *c, by_value);
    if (s->top_k > 0 && m > s->top_k)
        m = s->top_k;
    double sum = 0, top = c[0].p;
    for (int64_t i = 0; i < m; i++) {
        c[i].p = (float)exp((c[i].p - top) / s->temperature); /* the best one is 1 */
        if (c[i].p < s->min_p) {
            m = i;
            break;
        }
        sum += c[i].p;
    }
    double kept = 0;
    for (int64_t i = 0; i < m; i++) {
        kept += c[i].p;
        if (kept >= s->top_p * sum) {
            m = i + 1;
            break;
        }
    }
    double u = rng_uniform(rng) * kept;
    for (int64_t i = 0; i < m; i++) {
        u -= c[i].p;
        if (u < 0)
            return c[i].id;
    }
    return c[m - 1].id;
}
