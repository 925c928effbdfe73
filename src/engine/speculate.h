/* Speculative decoding: a drafter proposes tokens, the model reads them all in one pass, and those that it would have
 * chosen itself are kept (Leviathan et al. 2023; Chen et al. 2023). Greedy text is the same as without; sampled text
 * has the same distribution, and with drafters that draw nothing it is the same text too. How many tokens are drafted
 * is weighed before each pass (plan/draft.h). */
#ifndef CADRE_ENGINE_SPECULATE_H
#define CADRE_ENGINE_SPECULATE_H

#include "engine/drafter.h"

struct speculation;

/* For the drafter that the options name; *out is NULL for none. Completes the options of the session that it will work
 * on, which must be closed before it. */
cadre_err speculation_new(struct speculation **out, struct cadre_model *m, const cadre_generate_options *o,
                          struct session_options *so, cadre_error *err);
void speculation_free(struct speculation *sp);
/* Whether model, session and drafter fit into the model's budget together. sp may be NULL. */
cadre_err speculation_fits(const struct speculation *sp, const struct cadre_model *m, const struct session *s,
                           cadre_error *err);

/* A generation begins; nothing is known of it, so that its text does not depend on an earlier one. */
void speculation_begin(struct speculation *sp, uint64_t seed);
/* One pass over what the session has not read of the text (n tokens, its last one among it) and a draft. Gives the
 * 1 … most + 1 tokens that follow. An id of -1 is its last one where the model gives no number for any token. most: the
 * longest draft that there is room for. */
cadre_err speculation_step(struct speculation *sp, struct session *s, const int32_t *token, int64_t n, int64_t most,
                           const struct sampling *sampling, struct rng *rng, int32_t out[DRAFT_MOST + 1], int *n_out,
                           cadre_error *err);
void speculation_stats(const struct speculation *sp, cadre_draft_stats *out);
/* What the planner of lengths has been told of experts. */
const struct draft_reads *speculation_reads(const struct speculation *sp);

#endif
