/* A session: one sequence being read and written by a model, with its KV cache and working memory, both planned when
 * the session is made. Feeding allocates nothing. */
#ifndef CADRE_ENGINE_SESSION_H
#define CADRE_ENGINE_SESSION_H

#include "engine/runtime.h"

enum { SESSION_CHUNK = 256 }; /* tokens of a prompt that go through the model at once */

/* Names of activations, NULL at the end; NULL is f32. */
extern const char *const act_names[ACT_COUNT + 1];
cadre_err act_parse(const char *name, enum act *act, cadre_error *err);

struct session_options {
    int64_t n_ctx;
    enum dtype kv;
    enum act act;    /* as in struct op_ctx */
    bool all_logits; /* logits of every fed position, not only of the last */
    bool routing;
    int marks;                            /* room for so many of session_mark */
    int64_t last_logits;                  /* room for the logits of so many last positions of a chunk; 0: 1 */
    const struct decision_filter *filter; /* sees the decisions; must live as long as the session. NULL: none */
};

struct session;

cadre_err session_new(struct session **out, struct cadre_model *m, const struct session_options *o, cadre_error *err);
void session_free(struct session *s);
int64_t session_position(const struct session *s); /* tokens fed so far */
int64_t session_context(const struct session *s);  /* tokens that there is room for */
bool session_has_states(const struct session *s);  /* so it goes back to marks only */
/* Bytes of keys, values and states that a token reads which `position` others came before. */
uint64_t session_kv_bytes(const struct session *s, int64_t position);
/* Back to a position already passed; what came after it is forgotten. Layers that carry a state (recurrent ones) cannot
 * undo a token: a session of a model that has some goes back to the last mark that does not lie beyond, or else to 0.
 * Returns the position it is at: what to feed from. */
int64_t session_rewind(struct session *s, int64_t position);
enum { SESSION_MARK_PROMPT, SESSION_MARK_DRAFT, SESSION_MARKS };
/* Remember this position as one to go back to, in place of the mark's last one. Beyond options.marks nothing is. */
void session_mark(struct session *s, int mark);

/* What one chunk gave: rows first … first + n of the sequence. Valid until the next feed. */
struct session_output {
    int64_t first, n;
    const real *logits;            /* [n, n_vocab] with all_logits, else of the last rows: one, or as asked for */
    const struct routing *routing; /* [n_layer] with routing, else NULL */
};
/* Feed 1 … SESSION_CHUNK tokens at the current position. */
cadre_err session_feed(struct session *s, const int32_t *token, int64_t n, struct session_output *out,
                       cadre_error *err);
/* The same with the logits of the last n_logits tokens, 1 … min(n, options.last_logits). Not with all_logits. */
cadre_err session_feed_last(struct session *s, const int32_t *token, int64_t n, int64_t n_logits,
                            struct session_output *out, cadre_error *err);
/* Bytes of its KV cache and working memory. */
uint64_t session_bytes(const struct session *s);

#endif
