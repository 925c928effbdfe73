/* The operators, forward and backward side by side in one file per family. All return a new tensor; shapes are in
 * the comments, [n, d] meaning n rows. Integer arguments (ids, positions) are not differentiated and must stay
 * valid until the backward has run. Every backward is checked by central differences in the float64 build. */
#ifndef CADRE_OP_OP_H
#define CADRE_OP_OP_H

#include "op/tape.h"

/* ---- embed.c: rows of a table; id -1 gives zeros. Each row's gradient adds its tokens in order: same bytes always. */
struct tensor *op_embed(struct op_ctx *c, const struct weight *table, const int32_t *ids, int64_t n); /* [n, k] */

/* ---- linear.c */
/* y[m, n] = x[m, k] Wᵀ (+ bias[n], NULL for none) */
struct tensor *op_linear(struct op_ctx *c, struct tensor *x, const struct weight *w, struct tensor *bias);
/* Rows grouped by expert: rows offset[e] … offset[e+1] of x go through expert e. offset has n_expert + 1 entries and
 * lives until the backward. bias [n_expert, n] or NULL. In a dry run offset is not read. */
struct tensor *op_linear_grouped(struct op_ctx *c, struct tensor *x, const struct weight *w, const int64_t *offset,
                                 struct tensor *bias);

/* y[i] = op_linear(c, x, part[i].w, part[i].bias), or op_linear_grouped where offset is given, for up to OP_LINEARS
 * parts: the same bytes, as one list of work for the threads. */
enum { OP_LINEARS = 3 };
struct op_linear_part {
    const struct weight *w;
    struct tensor *bias;
};
void op_linears(struct op_ctx *c, struct tensor *x, const int64_t *offset, int n, const struct op_linear_part *part,
                struct tensor **y);
/* Each matrix of the stack on its own columns: x [m, n_expert * k] → [m, n_expert * n]. */
struct tensor *op_linear_heads(struct op_ctx *c, struct tensor *x, const struct weight *w);

/* ---- norm.c: over the last dimension; w, b are [d]; for per-head norms reshape to [n * heads, head_dim] first */
struct tensor *op_rmsnorm(struct op_ctx *c, struct tensor *x, struct tensor *w, real eps);
/* b may be NULL */
struct tensor *op_layernorm(struct op_ctx *c, struct tensor *x, struct tensor *w, struct tensor *b, real eps);
struct tensor *op_l2norm(struct op_ctx *c, struct tensor *x, real eps); /* x / max(|x|, eps) */

/* ---- activation.c */
struct tensor *op_swiglu(struct op_ctx *c, struct tensor *gate, struct tensor *up); /* silu(gate) * up */
/* min(gate, 7) · σ(1.702 min(gate, 7)) · (clamp(up, -7, 7) + 1) (gpt-oss, 2025) */
struct tensor *op_swiglu_clamped(struct op_ctx *c, struct tensor *gate, struct tensor *up);
struct tensor *op_silu(struct op_ctx *c, struct tensor *x);
struct tensor *op_gelu(struct op_ctx *c, struct tensor *x); /* tanh form: 0.5 x (1 + tanh(√(2/π)(x + 0.044715 x³))) */
struct tensor *op_relu(struct op_ctx *c, struct tensor *x);
struct tensor *op_relu2(struct op_ctx *c, struct tensor *x);
struct tensor *op_sigmoid(struct op_ctx *c, struct tensor *x);
struct tensor *op_tanh(struct op_ctx *c, struct tensor *x);
struct tensor *op_softplus(struct op_ctx *c, struct tensor *x);   /* log(1 + exp(x)) */
struct tensor *op_reciprocal(struct op_ctx *c, struct tensor *x); /* 1 / x */
struct tensor *op_normal_cdf(struct op_ctx *c, struct tensor *x); /* Φ(x), the standard normal distribution's */

/* ---- softmax.c: rows */
struct tensor *op_softmax(struct op_ctx *c, struct tensor *x);
struct tensor *op_logsumexp(struct op_ctx *c, struct tensor *x); /* [n, 1] */

/* ---- elementwise.c: a and b of equal shape, or b a row [1, d] / [d], or a column [n, 1] */
struct tensor *op_add(struct op_ctx *c, struct tensor *a, struct tensor *b);
struct tensor *op_sub(struct op_ctx *c, struct tensor *a, struct tensor *b);
struct tensor *op_mul(struct op_ctx *c, struct tensor *a, struct tensor *b);
struct tensor *op_scale(struct op_ctx *c, struct tensor *a, real s);
/* Between -limit and limit; no gradient flows where the limit acts. */
struct tensor *op_clamp(struct op_ctx *c, struct tensor *a, real limit);
/* a / max(b, floor) with b a column [n, 1]; where the floor acts no gradient flows to b. */
struct tensor *op_div_col(struct op_ctx *c, struct tensor *a, struct tensor *b, real floor);

/* ---- reduce.c */
struct tensor *op_row_sum(struct op_ctx *c, struct tensor *x);  /* [n, 1] */
struct tensor *op_col_mean(struct op_ctx *c, struct tensor *x); /* [1, d] */
struct tensor *op_sum(struct op_ctx *c, struct tensor *x);      /* [1, 1] */
struct tensor *op_mean(struct op_ctx *c, struct tensor *x);     /* [1, 1] */

/* ---- gather.c */
struct tensor *op_reshape(struct op_ctx *c, struct tensor *x, int n_dims, const int64_t *dim); /* a view: same memory */
struct tensor *op_slice_cols(struct op_ctx *c, struct tensor *x, int64_t from, int64_t n);     /* [rows, n], a copy */
struct tensor *op_concat_cols(struct op_ctx *c, struct tensor *a, struct tensor *b);
/* y[i, :] = x[row[i], :], zeros for row -1; the gradient adds in order of i. */
struct tensor *op_gather_rows(struct op_ctx *c, struct tensor *x, const int32_t *row, int64_t n);
/* y[i, j] = x[i, id[i * k + j]], 0 for id -1 */
struct tensor *op_gather_cols(struct op_ctx *c, struct tensor *x, const int32_t *id, int64_t k);

/* ---- select.c: choosing is not differentiated */
struct topk_groups { /* node-limited routing (DeepSeek-V3 §2.1.2); n = 0: no groups */
    int n, used;     /* experts fall into n equal groups, only the best `used` are eligible */
    int best;        /* a group's score is the sum of its `best` largest scores: 2 in V3, 1 (the maximum) in V2 */
};
/* ids of the k largest score[i, :] + bias[:] of each row in falling order (ties: lower id first). bias [E] or NULL.
 * Returns [n * k] in the arena, zeros in a dry run. NaN scores lose against everything. */
int32_t *op_topk(struct op_ctx *c, const struct tensor *score, const real *bias, int64_t k,
                 const struct topk_groups *groups);

/* ---- dispatch.c: tokens sorted by expert */
struct dispatch {
    int64_t n_tok, k, n_expert;
    int64_t n_rows;     /* chosen (token, slot) pairs: n_tok * k less the ids -1. Dry: n_tok * k */
    int64_t *offset;    /* [n_expert + 1] rows of expert e are offset[e] … offset[e+1] */
    int32_t *row_token; /* [n_rows]: ascending token within one expert */
    int32_t *slot_row;  /* [n_tok * k]: the row of a slot, -1 for id -1 */
};
/* The plan of a decision; in the arena. Buffers are sized for n_tok * k rows. */
struct dispatch *op_dispatch_plan(struct op_ctx *c, const int32_t *id, int64_t n_tok, int64_t k, int64_t n_expert);
/* x[n_tok, d] → [n_rows, d] */
struct tensor *op_dispatch(struct op_ctx *c, struct tensor *x, const struct dispatch *p);
/* y[t] = Σ_j weight[t, j] · rows[slot_row[t, j]], j ascending; weight [n_tok, k] */
struct tensor *op_combine(struct op_ctx *c, struct tensor *rows, struct tensor *weight, const struct dispatch *p);

/* ---- loss.c: mean over rows with target >= 0 of -log softmax(logits)[target]; fused backward */
struct tensor *op_cross_entropy(struct op_ctx *c, struct tensor *logits, const int32_t *target); /* [1, 1] */

/* ---- head.c: op_cross_entropy(op_linear(x, w, NULL), target) that never holds the logits of all rows; with a tape the
 * gradients are made in the forward pass, chunk by chunk */
struct tensor *op_head_loss(struct op_ctx *c, struct tensor *x, const struct weight *w, const int32_t *target);

/* ---- gru.c: one step of a GRU cell (Cho et al. 2014, PyTorch's gate order r, z, n); x [n, i], h [n, d] */
struct tensor *op_gru_cell(struct op_ctx *c, struct tensor *x, struct tensor *h, const struct weight *w_input,
                           const struct weight *w_hidden, struct tensor *b_input, struct tensor *b_hidden);

/* ---- rope.c */
struct rope {
    int64_t n_rot;        /* how many values of each head turn; even */
    int64_t first;        /* of them: the leading ones when 0 */
    bool pairs;           /* neighbours (0,1), (2,3), …; else halves (i, i + n_rot/2) */
    const real *inv_freq; /* [n_rot / 2] radians per position */
    real scale;           /* cos and sin are multiplied by it (YaRN); 1 */
};
/* x [n, heads * head_dim], positions [n] */
struct tensor *op_rope(struct op_ctx *c, struct tensor *x, int64_t head_dim, const int32_t *position,
                       const struct rope *rope);

/* ---- attention.c: causal, over several sequences of different length (ragged), through a KV view */
enum { /* positions, counted from 0 of the sequence, so that results do not depend on batches */
       KV_BLOCK = 64,
       KV_CHUNK = 8 * KV_BLOCK
};

/* Where keys and values of one layer are: block(self, seq, head, b) gives those of kv head `head` at positions
 * b * KV_BLOCK … of sequence seq, whole strips and rows of `type` as kernel/attn.h lays them out. Values are the first
 * numbers of the keys where *v is NULL. Positions that do not exist yet may hold anything. */
struct kv_view {
    void *self;
    enum dtype type; /* F32, F16, BF16, Q8_0 */
    void (*block)(void *self, int64_t seq, int64_t head, int64_t b, const void **k, const void **v);
};

struct attention {
    int64_t n_head, n_kv_head, head_dim, v_dim; /* head h reads kv head h / (n_head / n_kv_head) */
    real scale;                                 /* 1 / √head_dim usually */
    int64_t window;                             /* 0: all; else a key is visible when q - k < window */
    struct tensor *sinks; /* [n_head] or NULL: a further score that takes its share of the softmax and gives nothing */
    int64_t n_seq;
    const int64_t *row_start; /* [n_seq + 1] rows of q that belong to each sequence */
    const int64_t *position; /* [n_seq] position of each sequence's first row; its row i sees keys 0 … position + i */
};
/* Over keys and values of the same call (training; position must be 0): q [n, n_head * head_dim],
 * k [n, n_kv_head * head_dim], v [n, n_kv_head * v_dim] → [n, n_head * v_dim]. Differentiable. */
struct tensor *op_attention(struct op_ctx *c, struct tensor *q, struct tensor *k, struct tensor *v,
                            const struct attention *a);
/* Over a cache that already holds the new positions. Inference only. Same bytes as op_attention on equal inputs. */
struct tensor *op_attention_kv(struct op_ctx *c, struct tensor *q, const struct kv_view *kv, const struct attention *a);

/* ---- conv.c, delta.c: operators along a sequence that carry a state instead of keys and values. Every row is computed
 * by the same arithmetic, from its inputs and the state that its predecessor left: one token at a time, a whole prompt
 * or several sequences at once give the same bytes. */
struct recurrence {
    int64_t n_seq;
    const int64_t *row_start; /* [n_seq + 1] rows that belong to each sequence */
    /* [n_seq] each sequence's state, read and overwritten (inference only); NULL: all start from zeros and nothing is
     * left behind (training, evaluation). Not read in a dry run. */
    real *const *state;
};

/* Causal convolution of each channel by itself: y[t, c] = Σ_j w[c, j] x[t - K + 1 + j, c]; x [n, C], w [C, K], K >= 2.
 * State: the last K - 1 rows of x, oldest first, [K - 1, C]. Differentiable. */
struct tensor *op_conv(struct op_ctx *c, struct tensor *x, struct tensor *w, const struct recurrence *r);

/* Gated delta rule (Yang et al. 2024, arXiv 2412.06464), per head with a state S [k_dim, v_dim]:
 *     S ← exp(g) S;  S ← S + k (β (v - Sᵀk))ᵀ;  o = Sᵀq
 * q, k [n, n_k_head * k_dim], v [n, n_v_head * v_dim], g, β [n, n_v_head] → o [n, n_v_head * v_dim].
 * State: [n_v_head, k_dim, v_dim]. Differentiable. */
struct delta_rule {
    int64_t n_k_head, n_v_head, k_dim, v_dim; /* n_v_head a multiple of n_k_head */
    bool tiled; /* v head h goes with k head h mod n_k_head; else with h / (n_v_head / n_k_head) */
    struct recurrence seq;
};
struct tensor *op_delta_rule(struct op_ctx *c, struct tensor *q, struct tensor *k, struct tensor *v, struct tensor *g,
                             struct tensor *beta, const struct delta_rule *d);

#endif
