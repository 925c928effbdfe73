/* What keeps experts evenly used in training: losses on the routing (balance/ has one file each), which are [1, 1]
 * tensors to be weighted and added to the loss, and the auxiliary-loss-free bias update. */
#ifndef CADRE_MOE_BALANCE_H
#define CADRE_MOE_BALANCE_H

#include "moe/router.h"

/* Tokens per expert of a layer's decisions (of every turn of a chain): count[e] += 1 per slot that wanted it. */
void balance_count(const struct routing *r, int n_expert, int64_t *count);

/* Switch (Fedus et al. 2021, eq. 4): E Σ_e f_e P_e with f_e the share of the chosen slots that went to e (no gradient),
 * P_e the mean over tokens of the score normalised to sum 1. 1 when even. counts [E] replaces this batch's own counts
 * when given: counts summed over the whole global batch (Qiu et al. 2025), so that single sequences may specialise.
 * Light experts share the mean f of all light ones (AdaMoE, Zeng et al. 2024: which null a token takes is all the
 * same), and count cfg->light_weight times (MoE++, Jin et al. 2024, eq. 10: below 1 they may be used more). In a dry
 * run neither ids nor counts are read. Of the first decision of a chain only: r->next is the caller's. */
struct tensor *balance_switch(struct op_ctx *c, const struct router_config *cfg, const struct routing *r,
                              const int64_t *counts);

/* Router z-loss (Zoph et al. 2022): mean over tokens of logsumexp(logits)². */
struct tensor *balance_z(struct op_ctx *c, const struct routing *r);

/* Auxiliary-loss-free (Wang et al. 2024): bias[e] += rate · sign(mean load - load[e]), after each step. */
void balance_update_bias(real *bias, const int64_t *count, int n_expert, real rate);

/* Load statistics for progress lines: max / mean load (1 when even), and the entropy of the load in nats (ln E when
 * even). Both are 0 when nothing was counted. */
double balance_max_over_mean(const int64_t *count, int n_expert);
double balance_entropy(const int64_t *count, int n_expert);

#endif
