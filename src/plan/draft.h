/* How many tokens to draft before the model checks them (speculative decoding). Pure: arrays in, numbers out.
 *
 * One pass over n tokens reads every dense weight once, but the union of the experts that its tokens chose: in an MoE
 * model a longer draft costs bytes, and drafting can lose. A length is therefore weighed each time, as utility: tokens
 * expected per byte expected ("Cascade", Saxena et al. 2025, Utility-Driven Speculative Decoding for Mixture-of-
 * Experts; the union of experts as the cost that batches add: "MoESD", Huang et al. 2025). Length 0 is a choice.
 * Nothing here is timed, so a seed gives the same lengths, and the same text, on every machine. */
#ifndef CADRE_PLAN_DRAFT_H
#define CADRE_PLAN_DRAFT_H

#include <stdbool.h>
#include <stdint.h>

enum {
    DRAFT_MOST = 32,
    DRAFT_ROWS = 2 * DRAFT_MOST + 2
}; /* the longest draft; most tokens of a pass that is planned */

/* ---- how often drafts are right ---- */

/* Chance that a drafted token is accepted when all before it were: a mean whose weights fade, and a prior that counts
 * as two tests. Start as {.prior = 0 … 1}: low where a draft that is left out can be compared too and so costs nothing.
 */
struct draft_chance {
    double prior, right, tested;
};

double draft_chance(const struct draft_chance *c);
/* `accepted` tokens in a row were right; then one was wrong, or the draft was at its end. */
void draft_chance_saw(struct draft_chance *c, int accepted, bool then_wrong);

/* E[tokens of a pass] = Σ_{i=0..d} a^i = (1 - a^(d+1)) / (1 - a): accepted ones and the model's own (Leviathan et al.
 * 2023, eq. 1). */
double draft_expected_tokens(double a, int d);

/* ---- what a pass reads ---- */

/* Distinct experts of one layer that n tokens choose, k of E each, if every choice were independent and even:
 * E (1 - (1 - k/E)^n). */
double draft_even_union(int n_expert, double k, int n);

/* Bytes of experts that n tokens in a row touch, from the decisions seen: every window of 1 … rows tokens that ends at
 * the token just added counts, older ones fade. An expert's bytes are counted once a window and layer. The even union
 * stands in before there are any. */
struct draft_reads {
    int n_layer, n_expert, rows;
    const double *bytes; /* [n_layer, n_expert] of an expert */
    int64_t *last;       /* [n_layer, n_expert] the token that chose it last, counted from 1; 0: none has */
    int64_t n;           /* tokens added */
    double prior[DRAFT_ROWS + 1], mean[DRAFT_ROWS + 1], weight[DRAFT_ROWS + 1]; /* [n] of windows of n tokens */
};

/* last, zeroed, and bytes are the caller's; k [n_layer] experts that a token takes in a layer; rows at most DRAFT_ROWS.
 */
void draft_reads_init(struct draft_reads *r, int n_layer, int n_expert, int rows, const double *bytes, int64_t *last,
                      const double *k);
/* A token's decisions: id[l * stride + i], i < slots, of layer l; -1 = none. */
void draft_reads_add(struct draft_reads *r, const int32_t *id, int64_t stride, int slots);
/* Another text begins: what was added is forgotten. */
void draft_reads_begin(struct draft_reads *r);

/* ---- the length ---- */

/* What a pass costs besides the bytes it reads, as the bytes that are read meanwhile: for each layer, in which threads
 * wait for each other some ten times, and for each multiply-add of a row. Measured once (docs/PERFORMANCE.md, 100 µs
 * and 200 GFLOP/s at 20 GB/s) and constant, because lengths must not depend on the machine. */
enum { DRAFT_LAYER_BYTES = 2000000, DRAFT_FLOP_PER_BYTE = 10 };

struct draft_cost {
    double dense;         /* of a pass whatever its tokens: its layers, and bytes of attention, keys and values,
                           * shared experts, output */
    const double *expert; /* [n] bytes of experts that a pass over n tokens reads */
    double row;           /* what the arithmetic of one more token costs, as the bytes that are read meanwhile */
    double draft;         /* what the drafter costs for a token, likewise */
    int pending;          /* tokens that the pass takes anyway, at least 1 */
    bool again;           /* after a wrong token the right ones before it are computed again with the next pass */
};

/* Cost of a pass with a draft of d tokens; a: their chance. */
double draft_pass_cost(const struct draft_cost *c, double a, int d);
/* The length 0 … most with the most expected tokens for its cost; of equals the shortest. 0 unless it promises 5 % more
 * than no draft: estimates are noisy, and between two that are equal the certain one is better. */
int draft_length(const struct draft_cost *c, double a, int most);

#endif
