/* Learning-rate schedules: one row each. All begin with a line from 0 up to lr over warmup_tokens. */
#ifndef CADRE_TRAIN_SCHEDULE_H
#define CADRE_TRAIN_SCHEDULE_H

#include "train/config.h"

struct schedule {
    const char *name;
    bool decays;      /* lr_final acts */
    bool decays_late; /* decay_share and decay_shape act */
    /* Share of lr - lr_final that is left when the share t of the run after the warm-up is over: 1 at t = 0. */
    double (*left)(const struct train_config *cfg, double t);
};

const struct schedule *schedule_find(const char *name); /* NULL if unknown */
const char *schedule_names(void);                       /* for messages */

/* For the step that follows `tokens` seen. The warm-up is counted at the step's end, so that the first step moves. */
double learning_rate(const struct train_config *cfg, int64_t tokens);

#endif
