/* How much the domain of a text tells of the expert that a token goes to. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"

struct association {
    const int64_t *count; /* [n_windows, n_layers, n_experts] */
    const int *group;     /* [n_windows] as given, or permuted */
    int64_t n_windows, n_layers, n_experts;
    int n_groups;
    double *share; /* [n_groups, n_experts] */
};

/* I = Σ_g 1/G Σ_e p(e | g) log2 (p(e | g) / p(e)),  p(e) = mean over g of p(e | g): domains weigh the same, however
 * much text each has. 0 for a layer without experts. */
static double layer_bits(const struct association *a, int64_t layer)
{
    double bits = 0;
    memset(a->share, 0, (size_t)a->n_groups * (size_t)a->n_experts * sizeof *a->share);
    for (int64_t w = 0; w < a->n_windows; w++)
        for (int64_t e = 0; e < a->n_experts; e++)
            a->share[a->group[w] * a->n_experts + e] += (double)a->count[(w * a->n_layers + layer) * a->n_experts + e];
    for (int g = 0; g < a->n_groups; g++) {
        double sum = 0;
        for (int64_t e = 0; e < a->n_experts; e++)
            sum += a->share[g * a->n_experts + e];
        for (int64_t e = 0; e < a->n_experts && sum > 0; e++)
            a->share[g * a->n_experts + e] /= sum;
    }
    for (int64_t e = 0; e < a->n_experts; e++) {
        double mean = 0;
        for (int g = 0; g < a->n_groups; g++)
            mean += a->share[g * a->n_experts + e] / a->n_groups;
        for (int g = 0; g < a->n_groups; g++) {
            double p = a->share[g * a->n_experts + e];
            bits += p > 0 ? p * log2(p / mean) / a->n_groups : 0;
        }
    }
    return bits;
}

/* Every layer's bits, and their mean over the layers that have experts. */
static void all_bits(const struct association *a, const bool *routed, double *bits)
{
    int64_t n = 0;
    bits[a->n_layers] = 0;
    for (int64_t l = 0; l < a->n_layers; l++) {
        bits[l] = routed[l] ? layer_bits(a, l) : 0;
        bits[a->n_layers] += bits[l];
        n += routed[l];
    }
    if (n)
        bits[a->n_layers] /= (double)n;
}

static void find_routed(const struct association *a, bool *routed)
{
    for (int64_t i = 0; i < a->n_windows * a->n_layers * a->n_experts; i++)
        if (a->count[i])
            routed[i / a->n_experts % a->n_layers] = true;
}

/* A permutation keeps each window whole: tokens of one text hang together, and a test that moved single tokens would
 * find every model significant. */
static void permute_groups(int *group, int64_t n, struct rng *rng)
{
    for (int64_t i = n - 1; i > 0; i--) {
        int64_t j = (int64_t)rng_below(rng, (uint64_t)i + 1);
        int swap = group[i];
        group[i] = group[j];
        group[j] = swap;
    }
}

cadre_err cadre_associate(const int64_t *count, const int *group, int64_t n_windows, int n_groups, int64_t n_layers,
                          int64_t n_experts, int permutations, double *bits, double *p, cadre_error *err)
{
    CHECK(err,
          count && group && bits && p && n_windows > 0 && n_groups > 1 && n_layers > 0 && n_experts > 0 &&
              permutations > 0,
          CADRE_E_ARG, "association: expected windows of at least two groups, layers and experts");
    for (int64_t i = 0; i < n_windows; i++)
        CHECK(err, group[i] >= 0 && group[i] < n_groups, CADRE_E_ARG,
              "association: window %lld: expected group 0 to %d, found %d", (long long)i, n_groups - 1, group[i]);
    struct association a = {count, NULL, n_windows, n_layers, n_experts, n_groups, NULL};
    struct rng rng;
    rng_seed(&rng, 1);
    int *shuffled = malloc((size_t)n_windows * sizeof *shuffled);
    bool *routed = calloc((size_t)n_layers, sizeof *routed);
    double *other = malloc((size_t)(n_layers + 1) * sizeof *other);
    a.share = malloc((size_t)n_groups * (size_t)n_experts * sizeof *a.share);
    cadre_err rc = CADRE_OK;
    CHECK_OUT(err, shuffled && routed && other && a.share, CADRE_E_MEMORY, "no memory for %lld windows",
              (long long)n_windows);
    memcpy(shuffled, group, (size_t)n_windows * sizeof *shuffled);
    a.group = group;
    find_routed(&a, routed);
    all_bits(&a, routed, bits);
    for (int64_t l = 0; l <= n_layers; l++)
        p[l] = 1;
    a.group = shuffled;
    for (int i = 0; i < permutations; i++) {
        permute_groups(shuffled, n_windows, &rng);
        all_bits(&a, routed, other);
        for (int64_t l = 0; l <= n_layers; l++)
            p[l] += other[l] >= bits[l];
    }
    for (int64_t l = 0; l <= n_layers; l++)
        p[l] /= permutations + 1;
out:
    free(shuffled);
    free(routed);
    free(other);
    free(a.share);
    return rc;
}
