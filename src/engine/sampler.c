#include "engine/sampler.h"

#include <math.h>
#include <stdbool.h>

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

/* Falling value, then rising id: one order for every run. */
static bool before(struct candidate a, struct candidate b)
{
    return a.p != b.p ? a.p > b.p : a.id < b.id;
}

static void sift_down(struct candidate *c, int64_t n, int64_t i)
{
    struct candidate moved = c[i];
    for (int64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(c[child + 1], c[child]))
            child++;
        if (!before(c[child], moved))
            break;
        c[i] = c[child];
    }
    c[i] = moved;
}

static void heap_make(struct candidate *c, int64_t n)
{
    for (int64_t i = n / 2; i-- > 0;)
        sift_down(c, n, i);
}

/* The first one moves to c[n - 1]; the others stay a heap. */
static struct candidate heap_pop(struct candidate *c, int64_t n)
{
    struct candidate first = c[0];
    c[0] = c[n - 1];
    c[n - 1] = first;
    sift_down(c, n - 1, 0);
    return first;
}

/* Logits to odds against the best one, without those below min-p; their sum. */
static double odds(const struct sampling *s, struct candidate *c, int64_t *n, double best)
{
    double sum = 0;
    int64_t m = 0;
    for (int64_t i = 0; i < *n; i++) {
        float p = (float)exp((c[i].p - best) / s->temperature);
        if (p < s->min_p)
            continue;
        c[m++] = (struct candidate){c[i].id, p};
        sum += p;
    }
    *n = m;
    return sum;
}

/* Candidates are put in order only as far as a truncation asks: a vocabulary is long, what top-k or top-p keep is
 * short. What is kept gathers at the end of the array. */
struct distribution sampling_distribution(const struct sampling *s, const real *logits, int64_t n, struct candidate *c)
{
    int32_t best = largest(logits, n);
    if (best < 0)
        return (struct distribution){.c = c, .best = -1};
    if (s->temperature == 0 || !isfinite(logits[best])) {
        c[0] = (struct candidate){best, 1};
        return (struct distribution){.c = c, .n = 1, .sum = 1, .best = best, .certain = true};
    }
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++)
        if (!isnan(logits[i]))
            c[m++] = (struct candidate){(int32_t)i, (float)logits[i]};
    if (s->top_k > 0 && m > s->top_k) {
        heap_make(c, m);
        for (int64_t i = 0; i < s->top_k; i++)
            heap_pop(c, m - i);
        c += m - s->top_k;
        m = s->top_k;
    }
    double kept = odds(s, c, &m, (double)logits[best]);
    if (s->top_p < 1) {
        double sum = kept;
        int64_t taken = 0;
        heap_make(c, m);
        for (kept = 0; taken < m && kept < s->top_p * sum; taken++)
            kept += heap_pop(c, m - taken).p;
        c += m - taken;
        m = taken;
    }
    return (struct distribution){.c = c, .n = m, .sum = kept, .best = best};
}

int32_t distribution_draw(const struct distribution *d, struct rng *rng)
{
    if (d->certain || d->n == 0)
        return d->best;
    double u = rng_uniform(rng) * d->sum;
    for (int64_t i = 0; i < d->n; i++) {
        u -= d->c[i].p;
        if (u < 0)
            return d->c[i].id;
    }
    return d->best; /* rounding left a rest */
}

int32_t sample(const struct sampling *s, struct rng *rng, const real *logits, int64_t n, struct candidate *c)
{
    struct distribution d = sampling_distribution(s, logits, n, c);
    return distribution_draw(&d, rng);
}

static double share_of(const struct distribution *d, int32_t id)
{
    for (int64_t i = 0; i < d->n; i++)
        if (d->c[i].id == id)
            return d->c[i].p / d->sum;
    return 0;
}

int32_t distribution_check(const struct distribution *p, const struct distribution *q, int32_t drafted, struct rng *rng,
                           double *of_id)
{
    /* accept with min(1, p/q) */
    if (rng_uniform(rng) * share_of(q, drafted) < share_of(p, drafted))
        return drafted;
    /* else a token of max(0, p - q) / Σ max(0, p - q) */
    double rest = 0;
    int32_t id = p->best;
    for (int64_t i = 0; i < q->n; i++)
        of_id[q->c[i].id] = q->c[i].p / q->sum;
    for (int64_t i = 0; i < p->n; i++)
        rest += fmax(0, p->c[i].p / p->sum - of_id[p->c[i].id]);
    double u = rng_uniform(rng) * rest;
    for (int64_t i = 0; i < p->n; i++) {
        double more = fmax(0, p->c[i].p / p->sum - of_id[p->c[i].id]);
        if (more == 0)
            continue;
        id = p->c[i].id;
        u -= more;
        if (u < 0)
            break;
    }
    for (int64_t i = 0; i < q->n; i++)
        of_id[q->c[i].id] = 0;
    return id;
}
