/* Hugging Face directories as data. A family says, in its own file in families/, which config.json it comes from, which
 * key of it is which key of GGUF, and which tensors there make which tensor here. Opening a directory applies these
 * tables and gives a virtual GGUF file: keys, tensor infos, and a reader that assembles a tensor's bytes when they are
 * asked for. Writing a directory reads the same tables the other way round. */
#ifndef CADRE_MODEL_HF_HF_H
#define CADRE_MODEL_HF_HF_H

#include <jansson.h>

#include "file/gguf.h"

enum hf_kind {
    HF_INT,    /* 0 … 2^31 - 1 */
    HF_LAYERS, /* a number of layers: here of blocks, see hf_family */
    HF_REAL,   /* finite, as f32 */
    HF_BOOL,
    HF_FIXED,   /* a whole number, `def`, whatever the config says */
    HF_MUST_BE, /* not a key here: must be absent, null, or equal to `is` (JSON text); else unsupported */
    HF_NO_KEY   /* no key, or `derive` puts it: only takes the place of a common row */
};

enum {
    HF_REQUIRED = 1, /* an error when it is not there */
    HF_DEFAULT = 2,  /* `def` when it is not there, as its class in transformers has it; without: no key */
    HF_READ_ONLY = 4 /* not written back */
};

/* A row with gguf of one that is common to all families replaces that one. */
struct hf_key {
    const char *hf;   /* in config.json; "a.b": b of the object a */
    const char *gguf; /* after "ARCHITECTURE." */
    enum hf_kind kind;
    unsigned flags; /* HF_… */
    double def;
    const char *is;
};

/* How the rows of a matrix of the directory (outputs, as [out, in]) become those of a tensor here. */
enum hf_form {
    HF_COPY,
    HF_PAIRS_Q, /* rope on halves (i, i + n/2) there, on neighbours (2 i, 2 i + 1) here: rows of each head change places
                 */
    HF_PAIRS_K,
    HF_FUSED_Q, /* rows of q, k, v below each other */
    HF_FUSED_K,
    HF_FUSED_V,
    HF_FIRST_HALF, /* gate and up below each other */
    HF_SECOND_HALF,
    HF_EVEN, /* gate and up in turn */
    HF_ODD,
    HF_K_B, /* kv_b_proj: per head the rows of k without rope, then those of v; k transposed */
    HF_V_B,
    HF_DELTA_V,   /* v heads of Gated DeltaNet: by k head there; here all k heads' first, then their second … */
    HF_DELTA_QKV, /* likewise the rows behind those of q and k */
    HF_DELTA_OUT, /* likewise the inputs (columns) */
    HF_STACKED,   /* the experts' matrices below each other */
    HF_STACKED_T, /* likewise, each transposed here */
    HF_FORM_COUNT
};

enum {
    HF_F32 = 1,         /* f32 here, whatever it is there (vectors always are) */
    HF_STORED_T = 2,    /* stored as [in, out] */
    HF_PLUS_ONE = 4,    /* a norm that stores w - 1 */
    HF_VECTORS = 8,     /* [experts, n]: a vector an expert; likewise with '#' */
    HF_OUTPUT = 16,     /* not looked at when the config ties it to the embedding */
    HF_ONLY_READ = 64,  /* another form of a tensor: not written */
    HF_MINUS_EXP = 128, /* stores log(-w) */
    HF_FLAT = 32,       /* dimensions of 1 are left out */
};

/* Names with '*' for the layer; in the directory's, '#' stands for the expert: those tensors are stacked. Where a layer
 * there is several blocks here, '%' stands for which of them; a name without it is of the first. A row replaces rows
 * common to all families that have one of its names. */
struct hf_tensor {
    const char *hf, *gguf;
    enum hf_form form;
    unsigned flags; /* HF_… */
};

struct hf_config;
struct hf_keys;

/* How much of each head turns in models where that is a part: partial_rotary_factor (also of rope_parameters; else
 * `factor`) of its size. hf_put_rotary: as rope.dimension_count. */
cadre_err hf_rotary(const struct hf_config *c, double factor, int64_t *n_rot, cadre_error *err);
cadre_err hf_put_rotary(const struct hf_config *c, struct hf_keys *k, double factor, cadre_error *err);

/* A `derive` that refuses a sliding window that would act. */
cadre_err hf_no_window(const struct hf_config *c, struct hf_keys *k, cadre_error *err);

struct hf_family {
    const char *model_type, *architecture; /* in config.json: "mixtral", "MixtralForCausalLM" */
    const struct hf_key *keys;             /* end with {0}; NULL: the common ones */
    const struct hf_tensor *tensors;       /* likewise */
    double rope_base;                      /* rope_theta of the class when the config does not say; 0: 10000 */
    int64_t head_dim; /* of the class when the config does not say; 0: hidden_size / num_attention_heads */
    bool tied;        /* tie_word_embeddings of the class when the config does not say */
    bool own_heads;   /* head_dim is no key: its own keys say the sizes of heads, or they are width / heads */
    int blocks;       /* blocks here that one layer there is; 0: 1 */
    /* What no row can say: more keys, refusals; or NULL. */
    cadre_err (*derive)(const struct hf_config *c, struct hf_keys *k, cadre_error *err);
    /* Writing a directory: this model if the key `when` (of GGUF, without the architecture) is at least so much, or
     * there is no `when`; what derive made of several keys, as they were. */
    const char *when;
    int64_t at_least;
    cadre_err (*restore)(const struct gguf *g, json_t *root, cadre_error *err);
    /* The language model of one that sees: its keys lie in this object of config.json (those beside it hold, too), and
     * its tensors' names begin so instead of with "model."; or NULL. */
    const char *inside, *prefix;
    const char *const *ignored; /* beginnings of names of tensors that do not count, NULL-terminated; or NULL */
};

static inline int64_t hf_blocks(const struct hf_family *f)
{
    return f->blocks > 0 ? f->blocks : 1;
}

/* Tables that lie beside their family, ended by NULL. */
// clang-format off
extern const struct hf_family *const hf_arctic[], *const hf_bailing[], *const hf_dbrx[], *const hf_deepseek2[],
    *const hf_dots1[], *const hf_ernie[], *const hf_glm4moe[], *const hf_gpt_oss[], *const hf_granitemoe[],
    *const hf_hunyuan[], *const hf_lfm2[], *const hf_lfm2moe[], *const hf_minimax[], *const hf_phimoe[],
    *const hf_qwen3next[], *const hf_qwen35[], *const hf_qwen35moe[], *const hf_smallthinker[];
// clang-format on

#endif
