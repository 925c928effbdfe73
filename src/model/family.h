/* Model families as data: one small file each in families/, one row in the table. A family is what its name alone says
 * (facts) and which keys say the rest. */
#ifndef CADRE_MODEL_FAMILY_H
#define CADRE_MODEL_FAMILY_H

#include "file/gguf.h"
#include "model/attention.h"
#include "model/hf/hf.h"
#include "model/spec.h"

/* The keys that not every family has; those every family has are in the same table (keys.c). */
enum spec_key {
    KEY_COMMON,  /* every family */
    KEY_RMS_EPS, /* by the kind of its norms */
    KEY_LAYER_EPS,
    KEY_EXPERT_FF,
    KEY_SHARED_FF,
    KEY_SHARED_COUNT, /* expert_shared_count: shared experts of the width of a routed one, or of KEY_SHARED_FF's */
    KEY_LEADING_DENSE,
    KEY_MOE_PERIOD,
    KEY_GATING,
    KEY_WEIGHTS_NORM,
    KEY_WEIGHTS_SCALE,
    KEY_ATTENTION_SCALE,
    KEY_WINDOW,
    KEY_LATENT, /* multi-head latent attention */
    KEY_LATENT_SCALES,
    KEY_DELTA, /* layers of several kinds, Gated DeltaNet */
    KEY_SHORT_CONV,
    KEY_SECTIONS,    /* of rope */
    KEY_SCALES,      /* on embeddings, residual stream, logits */
    KEY_SOFTCAP,     /* of logits */
    KEY_CLAMP,       /* of queries, keys and values */
    KEY_LIGHT,       /* light experts */
    KEY_GROUP_BEST,  /* scores that rank a group of experts */
    KEY_THRESHOLD,   /* of routers that have one */
    KEY_LONG_FACTOR, /* of cos and sin in long contexts, where it differs */
    KEY_OWN,         /* keys that only this project's own architecture has */
};
#define KEYS(k) (1u << (k))

/* A tensor that has another name in files of a family. */
struct tensor_alias {
    const char *name, *file; /* as in tensors.c; without "blk.N." */
};

struct family {
    const char *name;    /* general.architecture */
    struct spec facts;   /* what the name says; keys come on top, then spec_defaults */
    unsigned keys;       /* KEYS(KEY_…) | … it reads and writes besides the common ones */
    bool experts_in_ff;  /* feed_forward_length is the width of an expert */
    bool widths_from_ff; /* it gives the widths of experts that a file leaves out */
    bool needs_output;   /* readers of this family want output.weight in the file even when it equals the embedding */
    const struct tensor_alias *aliases; /* NULL, or ended by a row without names */
    /* Keys of its own, also in place of those of the table, with functions to read them into a spec (defaults not yet
     * filled in), to tell whether they can express one, and to write them; or NULL. */
    const char *const *own_keys; /* NULL-terminated, without "name." */
    cadre_err (*read)(const struct gguf *g, struct spec *s, cadre_error *err);
    cadre_err (*can_write)(const struct spec *s, cadre_error *err);
    cadre_err (*write)(struct gguf_writer *w, const struct spec *s, cadre_error *err);
    const struct hf_family *const *hf; /* Hugging Face models that are of this family, NULL-terminated; or NULL */
};

const struct family *family_find(const char *name);
/* The name in files of `family` of the tensor that tensors.c calls `name`. */
const char *family_tensor_name(const struct family *f, const char *name);
const struct family *family_at(int i); /* NULL past the end */

/* An unknown family, a missing key, a key that would change the result and is not understood: errors that name it. */
cadre_err spec_from_gguf(struct spec *s, const struct gguf *g, cadre_error *err);
/* Whether a file of s->family can say all that s says; "cadre" always can. */
cadre_err spec_can_write(const struct spec *s, cadre_error *err);
/* general.architecture and all keys. */
cadre_err spec_to_gguf(struct gguf_writer *w, const struct spec *s, cadre_error *err);

extern const struct family family_arctic, family_bailingmoe, family_bailingmoe2, family_cadre, family_dbrx,
    family_deepseek, family_deepseek2, family_dots1, family_ernie4_5_moe, family_glm4moe, family_gpt_oss,
    family_granite, family_granitemoe, family_hunyuan_moe, family_lfm2, family_lfm2moe, family_llama,
    family_longcat_flash, family_minimax_m2, family_olmoe, family_pangu_moe, family_phimoe, family_phimoe_mixer,
    family_qwen2moe, family_qwen3, family_qwen3moe, family_qwen3next, family_qwen35, family_qwen35moe,
    family_smallthinker;

#endif
