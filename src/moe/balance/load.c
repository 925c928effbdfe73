/* Counting how often each expert was chosen, and how even that is. */
#include <math.h>

#include "base/checked.h"
#include "moe/balance.h"

void balance_count(const struct routing *r, int n_expert, int64_t *count)
{
    for (; r; r = r->next)
        for (int64_t i = 0, n = tensor_rows(r->score) * r->k; i < n; i++)
            if (r->wanted[i] >= 0 && r->wanted[i] < n_expert)
                count[r->wanted[i]]++;
}

double balance_max_over_mean(const int64_t *count, int n_expert)
{
    int64_t most = 0, total = 0;
    for (int e = 0; e < n_expert; e++) {
        most = max_i64(most, count[e]);
        total += count[e];
    }
    return total ? (double)most * n_expert / (double)total : 0;
}

double balance_entropy(const int64_t *count, int n_expert)
{
    int64_t total = 0;
    for (int e = 0; e < n_expert; e++)
        total += count[e];
    double h = 0;
    for (int e = 0; e < n_expert; e++) {
        if (count[e] == 0)
            continue;
        double p = (double)count[e] / (double)total;
        h -= p * log(p);
    }
    return h;
}
