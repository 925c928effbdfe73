/* Attention kinds: what mixes the rows of a sequence in a layer. One file in attention/ and one row each: its tensors,
 * what it keeps of a position in the cache, its forward pass. Which layer has which kind says the spec. */
#ifndef CADRE_MODEL_ATTENTION_H
#define CADRE_MODEL_ATTENTION_H

#include "model/model.h"
#include "model/tensors.h"

/* One layer's attention in one call of the forward pass. */
struct attend {
    const struct model *m;
    int64_t layer;
    struct layer_spec l;
    const struct batch *b;
    const int64_t *first;    /* [n_seq] position of each sequence's first row; lives until the backward */
    const struct rope *rope; /* for contexts as long as this batch's */
};

struct attention_kind {
    const char *name;
    struct tensor_rows tensors;
    cadre_err (*check)(const struct spec *s, const struct layer_spec *l, cadre_error *err);
    /* What a position keeps in the cache. */
    struct kv_width (*cache)(const struct spec *s, const struct layer_spec *l, enum mla_form mla);
    /* h [n, d_model], normalised → [n, d_model] */
    struct tensor *(*forward)(struct op_ctx *c, const struct attend *a, struct tensor *h);
};

const struct attention_kind *attention_kind_find(const char *name); /* NULL if unknown */
const struct attention_kind *attention_kind_at(int i);              /* NULL past the end */

extern const struct attention_kind attention_grouped;   /* attention/grouped.c: grouped-query (Ainslie et al. 2023) */
extern const struct attention_kind attention_delta_net; /* attention/delta_net.c: gated delta rule (Yang et al. 2024) */
extern const struct attention_kind attention_short_conv; /* attention/short_conv.c: gated short convolution (LFM2) */
extern const struct attention_kind attention_mla;        /* attention/mla.c: multi-head latent (DeepSeek-V2, 2024) */

/* ---- for those who write kinds */

/* The model's norm: RMS or LayerNorm, b NULL or its bias. */
struct tensor *model_norm(struct op_ctx *c, const struct spec *s, struct tensor *x, struct tensor *w, struct tensor *b);
/* Causal attention with the batch's cache or, without one, over the batch itself. shape: head counts and sizes, scale,
 * window, sinks; where rows belong is filled in. v NULL: values are the first v_dim numbers of the keys (one kv head).
 */
struct tensor *attend_rows(struct op_ctx *c, const struct attend *a, struct tensor *q, struct tensor *k,
                           struct tensor *v, struct attention shape);
/* The sequences of the batch for n operators that carry a state. In the cache their states follow each other, the i-th
 * after size[0] + … + size[i - 1] reals. Without a cache all start from zeros. Once in a forward pass. */
void attend_states(struct op_ctx *c, const struct attend *a, int n, const int64_t *size, struct recurrence *r);
/* How many rows a convolution sees; key: the name of its key */
cadre_err attention_check_taps(int64_t taps, const char *key, cadre_error *err);

#endif
