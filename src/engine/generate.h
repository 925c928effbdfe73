/* Generation over a session that lives longer than one prompt. */
#ifndef CADRE_ENGINE_GENERATE_H
#define CADRE_ENGINE_GENERATE_H

#include "engine/speculate.h"

/* cadre_generate over a session that already holds the first `reused` tokens of the prompt (fewer than all); what it
 * holds beyond them is forgotten. A model with states may keep fewer (session_rewind): g->n_reused says how many.
 * speculation: that the session was made for, or NULL; draft options are not looked at then. session NULL: both of its
 * own, for this call. err must be given. */
cadre_err generate_over(struct session *session, struct speculation *speculation, size_t reused, struct cadre_model *m,
                        const char *prompt, const cadre_generate_options *o, cadre_generation *g, cadre_error *err);

/* The options that make a session: number format of the KV cache, activations. */
cadre_err generate_session_options(const cadre_generate_options *o, struct session_options *so, cadre_error *err);

#endif
