/* What the experts of a layer are beyond a row of equal FFNs (moe/moe.h, moe/light.h): light experts, slices, latent
 * and multi-head experts, chains, gates with memory, and how many experts each layer uses. The numbers are struct
 * spec's; here is what follows from them: shapes, tensors, and a layer that is set up. */
#ifndef CADRE_MODEL_EXPERTS_H
#define CADRE_MODEL_EXPERTS_H

#include "model/tensors.h"

/* How many of router.k experts the layers use (DynaMoE, 2026, §3): at depth d, 0 in the first MoE layer and 1 in the
 * last, k_min + (k - k_min) · share(d), rounded. */
struct expert_schedule {
    const char *name;
    double (*share)(double d);
};
const struct expert_schedule *expert_schedule_find(const char *name); /* NULL if unknown */
const struct expert_schedule *expert_schedule_at(int i);              /* NULL past the end */

/* "1,1,2,4": slices of the experts in turn, the pattern repeated over all. False if it is no such list. */
bool slice_pattern_parse(struct slice_pattern *p, const char *text);
void slice_pattern_text(const struct slice_pattern *p, char text[SLICE_PATTERN_TEXT]);

/* All that the router chooses from: FFN experts, then light ones. */
int spec_choices(const struct spec *s);
/* FFN slices of a layer: n_expert when each expert is one. */
int64_t spec_slices(const struct spec *s);
/* Slices that choice i computes: 0 for light experts. */
int spec_slices_of(const struct spec *s, int i);
/* Slots of a token's decisions in one layer, heads and turns together: what is recorded for it. */
int64_t spec_slots(const struct spec *s);
/* Experts that a token gets in a layer. */
int spec_layer_k(const struct spec *s, int64_t layer);

/* How many times a token multiplies with a tensor of a layer: below 1 for those of all experts. */
double spec_tensor_uses(const struct spec *s, const struct tensor_def *def, int64_t layer);

cadre_err spec_check_structure(const struct spec *s, cadre_error *err);

tensor_size size_choices, size_slices, size_gate_in, size_expert_in;
extern const struct tensor_rows experts_global_rows, experts_rows;

/* router, kind, and all numbers of layer i; weights are bound by the tensor rows. */
void model_set_experts(struct model *m, int64_t i);

#endif
