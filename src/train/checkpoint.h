/* Checkpoints: one safetensors file with every parameter ("w.NAME"), every optimizer state ("m.NAME", …) and the run's
 * counters and a hash of everything in its metadata, written under a temporary name, synced and renamed. */
#ifndef CADRE_TRAIN_CHECKPOINT_H
#define CADRE_TRAIN_CHECKPOINT_H

#include "model/model.h"
#include "train/data.h"
#include "train/optimizer.h"

struct run_state {
    int64_t step, tokens;
    double loss_mean, loss_best; /* running mean and its lowest value: what divergence is judged by */
};

cadre_err checkpoint_write(const char *path, const struct train_config *cfg, const struct model *m,
                           const struct optimizer *o, real *const *state, const struct sampler *s,
                           const struct run_state *run, cadre_error *err);
/* Fails if the file is damaged or belongs to another description, vocabulary or data; the run it was read for cannot
 * go on then. */
cadre_err checkpoint_read(const char *path, const struct train_config *cfg, struct model *m, const struct optimizer *o,
                          real *const *state, struct sampler *s, struct run_state *run, cadre_error *err);

#endif
