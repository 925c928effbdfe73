/* config.json: values of checked type and range, and their way into GGUF keys. */
#ifndef CADRE_MODEL_HF_CONFIG_H
#define CADRE_MODEL_HF_CONFIG_H

#include <jansson.h>

#include "model/family.h"
#include "model/hf/hf.h"

struct hf_config {
    const char *path; /* DIR/config.json, for error texts */
    const json_t *root;
    const struct family *family;
    const struct hf_family *hf;
};

/* Where keys go: "ARCHITECTURE.name" of a writer. */
struct hf_keys {
    struct gguf_writer *w;
    const char *architecture;
};

/* Values; null counts as absent. *found (may be NULL: then absence is an error) and *out are untouched when it is
 * absent. `where` is the object, c->root or one in it. */
cadre_err hf_get_int(const struct hf_config *c, const json_t *where, const char *key, int64_t min, int64_t max,
                     int64_t *out, bool *found, cadre_error *err);
cadre_err hf_get_real(const struct hf_config *c, const json_t *where, const char *key, double *out, bool *found,
                      cadre_error *err);
cadre_err hf_get_bool(const struct hf_config *c, const json_t *where, const char *key, bool *out, bool *found,
                      cadre_error *err);
/* Borrowed from the config. */
cadre_err hf_get_text(const struct hf_config *c, const json_t *where, const char *key, const char **out, bool *found,
                      cadre_error *err);
/* An array of n finite numbers. */
cadre_err hf_get_reals(const struct hf_config *c, const json_t *where, const char *key, int64_t n, float *out,
                       cadre_error *err);

cadre_err hf_put_int(struct hf_keys *k, const char *name, int64_t v, cadre_error *err);
cadre_err hf_put_real(struct hf_keys *k, const char *name, double v, cadre_error *err);
cadre_err hf_put_bool(struct hf_keys *k, const char *name, bool v, cadre_error *err);

/* The rows that all families share, ended by {0}, and whether the family has one in the place of one of them. */
extern const struct hf_key hf_common_keys[];
bool hf_key_replaced(const struct hf_family *f, const struct hf_key *common);
/* Whether a row of the family's own makes this key of GGUF. */
bool hf_key_own(const struct hf_family *f, const char *gguf);
/* A whole number of GGUF to config.json, if it is there. */
cadre_err hf_copy_int(const struct gguf *g, const char *architecture, const char *name, json_t *root, const char *hf,
                      cadre_error *err);

/* partial_rotary_factor from the sizes of a head and of its rotated part. */
cadre_err hf_copy_rotary(const struct gguf *g, const char *architecture, json_t *root, cadre_error *err);

/* The family whose model_type the config has. */
cadre_err hf_config_family(struct hf_config *c, cadre_error *err);
/* Keys of the object that hf->inside names take their places among those of the root. */
cadre_err hf_config_unfold(const struct hf_config *c, json_t *root, cadre_error *err);
/* All rows, the family's own and the common ones, rope scaling, and what the family derives. */
cadre_err hf_config_keys(const struct hf_config *c, struct hf_keys *k, cadre_error *err);
/* Whether the output matrix is the embedding. */
cadre_err hf_config_tied(const struct hf_config *c, bool *tied, cadre_error *err);

/* rope.c: the base and the scaling of positions. Divisors of frequencies that become tensors: hf_rope_factors. */
cadre_err hf_rope_keys(const struct hf_config *c, struct hf_keys *k, cadre_error *err);

/* A tensor that config.json describes by numbers. */
struct hf_made {
    const char *gguf;
    int64_t n;
    float *value; /* malloc'd */
};
enum { HF_MAX_MADE = 2 };
/* n_rot: rotated numbers a head. The values are to be freed also on failure. */
cadre_err hf_rope_factors(const struct hf_config *c, int64_t n_rot, struct hf_made made[HF_MAX_MADE], int *n,
                          cadre_error *err);

#endif
