/* Experiments: one base description, variants that override keys of it, several seeds, all trained under the same
 * conditions and summed up in one table. */
#ifndef CADRE_TRAIN_EXPERIMENT_H
#define CADRE_TRAIN_EXPERIMENT_H

#include "train/config.h"

enum { EXPERIMENT_MAX = 64 }; /* variants, and seeds */

/* What one token costs. */
struct variant_cost {
    int64_t parameters, active_parameters;
    double flops; /* of training: forward, and twice that backward; products and attention over a full window */
    /* The same of the forward pass by its decisions: what every token costs, and one slice of an expert that it chose.
     * Light experts cost nothing but their mix, which every token pays. */
    double fixed_flops, slice_flops;
};
struct variant_cost variant_cost(const struct train_config *cfg);

struct variant {
    char name[TRAIN_NAME];
    char fit[TRAIN_NAME]; /* the [model] key that was fitted; "" for none */
    int64_t fitted;
    char *text; /* the whole description, without a seed */
    struct train_config cfg;
};

enum experiment_equal { EQUAL_NONE, EQUAL_FLOPS, EQUAL_PARAMETERS };

struct experiment {
    char name[TRAIN_NAME];
    enum experiment_equal equal;
    int64_t seeds[EXPERIMENT_MAX];
    int n_seeds;
    struct variant variants[EXPERIMENT_MAX];
    int n_variants;
};

/* Reads the description, makes and checks every variant's, fits widths. Free it also after an error. */
cadre_err experiment_read(struct experiment *x, const char *path, cadre_error *err);
void experiment_free(struct experiment *x);

/* The description of one run: the variant's with its seed. NULL without memory; free it. */
char *experiment_run_text(const struct variant *v, int64_t seed);

#endif
