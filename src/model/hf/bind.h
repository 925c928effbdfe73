/* Tensors of a directory bound to those of a GGUF file by the rules of a family. */
#ifndef CADRE_MODEL_HF_BIND_H
#define CADRE_MODEL_HF_BIND_H

#include "model/hf/map.h"
#include "model/hf/stored.h"

struct hf_binding;

/* Takes `stored` over, also on failure. Every tensor of it takes part, or is one that does not count; otherwise an
 * error names it. made: as many tensors more, taken over likewise. */
cadre_err hf_bind(struct hf_binding **out, struct hf_stored *stored, const struct hf_config *c, const struct hf_dims *d,
                  struct hf_made *made, int n_made, cadre_error *err);
void hf_binding_close(void *b);
/* Infos of all tensors, in the order in which hf_binding_read counts them. */
cadre_err hf_binding_put(const struct hf_binding *b, struct gguf_writer *w, cadre_error *err);
cadre_err hf_binding_read(void *b, int64_t tensor, int64_t slice, void *dst, cadre_error *err); /* a gguf_source's */

/* The name there of a tensor here, for error texts; false if no rule makes it. layer -1: none. */
bool hf_name_of(const struct hf_family *f, const char *gguf, char out[256]);

/* Every rule that holds for the family: its own, then the common ones that it does not replace. NULL past the end. */
const struct hf_tensor *hf_rule_at(const struct hf_family *f, int i);
/* Whether the rule is one of block `layer` here; -1: of no layer. */
bool hf_rule_is_of(const struct hf_family *f, const struct hf_tensor *r, int64_t layer);
/* The names of a rule's tensors for block `layer` here, in the directory (of that expert) and here; false if one does
 * not fit. */
bool hf_name_there(char out[256], const struct hf_family *f, const struct hf_tensor *r, int64_t layer, int64_t expert);
bool hf_name_here(char out[256], const struct hf_tensor *r, int64_t layer);

#endif
