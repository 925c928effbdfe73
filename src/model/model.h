/* A model: spec, weights, and the one forward pass that training and inference share. */
#ifndef CADRE_MODEL_MODEL_H
#define CADRE_MODEL_MODEL_H

#include "base/fileio.h"
#include "file/gguf.h"
#include "model/kv.h"
#include "model/spec.h"
#include "text/tokenizer.h"

/* Multi-head latent attention: keys and values of every head multiplied out of the latent row that a position has, or
 * the matrices that would do it absorbed into query and output, with only the latent row in the cache. */
enum mla_form { MLA_ABSORBED, MLA_PLAIN };

struct delta_weights {
    struct weight qkvz, qkv, z;       /* the first or the others */
    struct weight gates, beta, alpha; /* likewise */
    struct weight out;
    struct tensor *dt, *a, *norm; /* [v_heads], [v_heads], [v_dim] */
};

struct short_conv_weights {
    struct weight in, out;
};

/* Tensors that a layer does not have are NULL, or have n = 0. */
struct layer {
    struct tensor *attn_norm, *ffn_norm, *moe_norm; /* moe_norm: of experts beside a dense part */
    struct tensor *attn_norm_bias, *ffn_norm_bias;
    struct weight q, k, v, o;
    struct tensor *q_bias, *k_bias, *v_bias, *o_bias;
    struct tensor *q_norm, *k_norm;
    struct tensor *sinks;         /* [n_head] */
    struct weight q_a, q_b, kv_a; /* latent attention: [q_rank, d], [heads, q_rank], [kv_rank + n_rot, d] */
    struct weight k_b, v_b;       /* a matrix per head: [kv_rank, head_dim - n_rot], [v_dim, kv_rank] */
    struct tensor *q_a_norm, *kv_a_norm;
    struct tensor *taps; /* [channels, taps] of a convolution */
    struct delta_weights delta;
    struct short_conv_weights conv;
    struct expert_weights ffn; /* dense layers */
    struct moe_layer moe;      /* MoE layers */
};

struct model {
    struct spec spec;
    enum mla_form mla;
    struct weight embedding, output; /* output is the embedding's twin when tied */
    struct router_gru router_gru;    /* of the recurrent router, shared by all layers */
    int32_t slice_start[MODEL_MAX_EXPERTS + 1];
    struct tensor *output_norm, *output_norm_bias, *output_bias;
    struct layer *layers;
    struct param *params; /* every tensor of the model, in file order */
    int64_t n_params;
    struct tensor *rope_divisors[2]; /* NULL: none */
    real *inv_freq;                  /* [2, n_rot / 2] */
    struct rope rope[2];             /* for contexts up to spec.yarn_ctx, and longer; the same unless rope_factors */
    void *memory;                    /* owns the values of everything above */
    struct file_map file;            /* of a packed file: what is not in memory */
    size_t bytes;                    /* resident bytes of weights, mapped ones included */
};

/* One tensor of a model as files and optimizers see it. */
struct param {
    char name[64]; /* GGUF name, "blk.0.ffn_gate_exps.weight" */
    int n_dims;
    int64_t dim[4];   /* row-major: the last is contiguous (GGUF lists them the other way round) */
    struct tensor t;  /* training: values and gradient, f32; x is NULL in models opened for inference except vectors */
    bool matrix;      /* a struct weight: weight decay applies, may be quantized */
    bool by_gradient; /* false for the routers' selection bias and the divisors of rope */
    bool no_quantize; /* gates and norms stay f32 in files */
    enum dtype type;  /* as in the file it came from; F32 for a new one */
    uint64_t file_bytes;
    int64_t layer; /* -1: none */
    const struct tensor_def *def;
};

/* What every sequence of a cache needs per position, by layer; width is [n_layer] and the caller's. */
struct kv_layout model_kv_layout(const struct model *m, struct kv_width *width, int64_t n_seq, int64_t n_ctx,
                                 enum dtype type);

/* From a file, for inference: weights repacked into strips and held in own memory. An unknown family, a missing or
 * extra tensor, a wrong shape or type is an error that names it. tokenizer may be NULL when not wanted; *tokenizer is
 * NULL when the file has none. ks and pool speed up packing; either may be NULL. mla: how latent attention is computed,
 * for good; the two agree up to rounding, and a model without it does not care. */
cadre_err model_open(struct model **out, const char *path, enum mla_form mla, struct tokenizer **tokenizer,
                     const struct kernels *ks, struct pool *pool, cadre_error *err);
/* From a file, for training or rewriting: every tensor decoded to f32 in params[].t.x; with_grad adds gradients. */
cadre_err model_open_params(struct model **out, const struct gguf *g, bool with_grad, cadre_error *err);
/* A new one with random weights: normal with deviation init_std, output projections (o, down) scaled by
 * 1/√(2 n_layer), routers' gates with deviation 1/√inputs, norms 1, biases 0. */
cadre_err model_new(struct model **out, const struct spec *spec, uint64_t seed, real init_std, bool with_grad,
                    cadre_error *err);
void model_free(struct model *m);

/* The tokenizer tables of a GGUF file (borrowed from g), and the keys that hold them. */
cadre_err tokenizer_from_gguf(struct tokenizer **out, const struct gguf *g, cadre_error *err);
/* The same as a tokenizer.json's text, malloc'd. */
cadre_err tokenizer_gguf_to_json(const struct gguf *g, char **json, size_t *n, cadre_error *err);
cadre_err tokenizer_to_gguf(struct gguf_writer *w, const struct tokenizer_tables *t, cadre_error *err);

/* general.file_type of a file most of whose matrices have that type. */
bool model_has_file_type(enum dtype type);
cadre_err model_put_file_type(struct gguf_writer *w, enum dtype type, cadre_error *err);

/* A tokenizer.json, or the one of a Hugging Face folder, with the tokenizer_config.json beside it. n_vocab: rows of the
 * model's embedding, 0: not known. `lossy` as of tokenizer_json_named. */
bool tokenizer_json_is(const char *path); /* by its name */
cadre_err tokenizer_from_json(struct tokenizer **out, const char *path, int64_t n_vocab, cadre_error *err);
cadre_err tokenizer_json_to_gguf(struct gguf_writer *w, const char *path, int64_t n_vocab, const char **lossy,
                                 cadre_error *err);

/* general.file_type, tensor infos and data of every param; `type` for matrices that may be quantized and whose rows fit
 * its block (others F16 if a row does not fit, vectors and gates F32). Call after all keys are put; then commit. */
cadre_err model_write(struct gguf_writer *w, const struct model *m, enum dtype type, cadre_error *err);

/* One batch through the model. Rows of sequence s are row_start[s] … row_start[s + 1], at consecutive positions. */
struct batch {
    int64_t n_tok, n_seq;
    const int32_t *token;     /* [n_tok] */
    const int32_t *position;  /* [n_tok] */
    const int64_t *row_start; /* [n_seq + 1] */
    struct kv_cache *kv;      /* NULL (training, evaluation): keys and values of the batch itself, positions from 0 */
    const int32_t *slot;      /* [n_seq] cache sequence of each; with kv */
    const int32_t *want;      /* rows whose logits are wanted; NULL: all */
    int64_t n_want;
    const struct moe_hooks *hooks;         /* NULL: none */
    const struct route_training *training; /* NULL: generation, evaluation */
    struct routing *routing;               /* [n_layer] out, or NULL; entries of dense layers have id = NULL */
    struct tensor **hidden;                /* [n_layer] out: residual stream after each layer, or NULL */
    bool recompute; /* with a tape: keep only each layer's output and routing; its backward computes the rest again */
};
/* What the output matrix is applied to: the normed residual stream of the wanted rows, [n_want, d_model], in c->arena.
 * NULL and err on a failing hook. */
struct tensor *model_hidden(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err);
/* Logits of rows that model_hidden gave. */
struct tensor *model_logits(struct op_ctx *c, struct model *m, struct tensor *x);
/* Their op_cross_entropy, in chunks of rows where the logits are nothing but a product. */
struct tensor *model_loss(struct op_ctx *c, struct model *m, struct tensor *x, const int32_t *target);
/* Logits [n_want, n_vocab], in c->arena. NULL and err on a failing hook. */
struct tensor *model_forward(struct op_ctx *c, struct model *m, const struct batch *b, cadre_error *err);

#endif
