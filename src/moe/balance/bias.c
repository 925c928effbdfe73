/* Balance without a loss (Wang et al. 2024; DeepSeek-V3): the selection bias of an expert below the mean load rises by
 * a fixed step, above it falls. The sign alone is used, so that one outlier batch moves no bias far. */
#include "moe/balance.h"

void balance_update_bias(real *bias, const int64_t *count, int n_expert, real rate)
{
    int64_t total = 0;
    for (int e = 0; e < n_expert; e++)
        total += count[e];
    for (int e = 0; e < n_expert; e++) {
        /* sign(total / E - count) without a division: exact, also where the mean is no whole number. */
        int64_t missing = total - count[e] * n_expert;
        bias[e] += rate * (real)((missing > 0) - (missing < 0));
    }
}
